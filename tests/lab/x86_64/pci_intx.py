# SPDX-License-Identifier: BSD-2-Clause
"""INTx of a device of eight functions arrives where ACPI's _PRT says, on shared lines for each who is up."""

import program

KERNELS = (("full", "vmlinux"),)
SECONDS = 25
PROGRAM = {}


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


GUEST = """
modprobe uio_pci_generic
echo 1234 7e57 >/sys/bus/pci/drivers/uio_pci_generic/new_id
for path in /sys/bus/pci/devices/0000:00:01.*; do echo "${path##*.} $(cat $path/irq)"; done >/tmp/irqs
facts irqs </tmp/irqs
facts interrupts </proc/interrupts
"""


def test(t):
    guest = t.boot(GUEST + program.RUN % "", files=PROGRAM.items(), options=("--pci-test-functions", "8"),
                   append="iomem=relaxed", kernel="full", modules="full")
    # Slot 1: pin A is input 17, and so on in turn.
    t.equal("interrupts of the functions", guest.facts("irqs", 90),
            ["%d %d" % (i, 16 + (1 + i) % 4) for i in range(8)])
    lines = "\n".join(guest.facts("interrupts"))
    t.check("17-fasteoi   uio_pci_generic, uio_pci_generic" in lines, "input 17 is not shared: " + lines)
    program.judge(t, guest)
    guest.ends(0)
