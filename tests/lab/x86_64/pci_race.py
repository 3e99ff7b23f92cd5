# SPDX-License-Identifier: BSD-2-Clause
"""One vCPU moves BARs while another, on a processor of its own, reads them: it sees the device or all ones."""

import program

INNER_CPUS = 2
ALSO = {"arm64": ()}
SECONDS = 20
PROGRAM = {}


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t):
    guest = t.boot(program.RUN % "", files=PROGRAM.items(), options=("--pci-test",), append="iomem=relaxed", cpus=2)
    for line in program.judge(t, guest):
        if "the device" in line:
            t.note(line.split(":")[0][3:] + line.split(":")[1].replace(" times", ""))
    guest.ends(0)
