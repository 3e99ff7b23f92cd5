# SPDX-License-Identifier: BSD-2-Clause
"""Under a stock kernel, the test function's BARs are sized, moved and disabled, and its registers answer accordingly."""

import program

ALSO = {"arm64": ("",)}
SECONDS = 10
PROGRAM = {}


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t):
    guest = t.boot(program.RUN % "", files=PROGRAM.items(), options=("--pci-test",), append="iomem=relaxed")
    program.judge(t, guest)
    guest.ends(0)
