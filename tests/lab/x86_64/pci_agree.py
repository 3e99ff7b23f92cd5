# SPDX-License-Identifier: BSD-2-Clause
"""CF8/CFC and ECAM show a stock kernel's user the same config space, and take the same writes."""

import program

SECONDS = 20
PROGRAM = {}


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t):
    ecam = next(r for r in t.machine()["bus"]["mmio"] if r["name"] == "PCI ECAM")["base"]
    guest = t.boot(program.RUN % hex(ecam), files=PROGRAM.items(), options=("--pci-test-functions", "8"),
                   append="iomem=relaxed")
    program.judge(t, guest)
    guest.ends(0)
