# SPDX-License-Identifier: BSD-2-Clause
"""Devices that --place moved: stock kernels find them through ACPI, the console UART in memory space for one."""

import re

UART = r"ttyS0 at %s 0x%x \(irq = %d, base_baud = 115200\) is a 16550A"

CASES = {
    "uart-mmio": {"place": ["serial0=mmio:0xd0000000,irq=10"], "log": [UART % ("MMIO", 0xd0000000, 10)]},
    "uart-mmio-full": {"place": ["serial0=mmio:0xd0000000,irq=10"], "kernel": "full",
                       "log": [UART % ("MMIO", 0xd0000000, 10)]},
    # Before there is a driver: the SPCR tells where the console is.
    "uart-mmio-early": {"place": ["serial0=mmio:0xd0000000,irq=10"], "append": "earlycon",
                        "log": [r"ACPI: SPCR: console: uart,mmio,0xd0000000,115200",
                                r"earlycon: uart\S* at MMIO 0x0*d0000000",
                                r"bootconsole \[uart\S*\] enabled", UART % ("MMIO", 0xd0000000, 10)]},
    "uart-ports": {"place": ["serial0=pio:0x200,irq=5"], "log": [UART % ("I/O", 0x200, 5)]},
    # The fixed hardware of ACPI in memory, on another interrupt; ECAM elsewhere.
    "acpi": {"place": ["acpi-pm=mmio:0xd0001000,irq=11", "pci.PCI ECAM=mmio:0xb0000000"],
             "log": [r"MMCONFIG .* at \[mem 0xb0000000-0xb0[0f]fffff\]", r"ACPI: Using IOAPIC|ACPI: Interpreter enabled"],
             "irqs": {"acpi": 11}},
    "keyboard": {"place": ["i8042=pio:0x160,irq=5,6"], "kernel": "full", "irqs": {"i8042": 5},
                 "log": [r"i8042: PNP: PS/2 Controller .* at 0x160,0x164 irq 5,6"]},
    # Linux reads the time at port 0x70 or not at all; it has to come up without.
    "clock": {"place": ["rtc=pio:0x370"], "log": []},
}

GUEST = """
facts log <<EOF
$(dmesg)
EOF
facts irqs </proc/interrupts
facts iomem </proc/iomem
read answer
fact heard $answer
facts after </proc/interrupts
"""


def line_of(lines, name):
    """(number, how often) of the interrupt that a driver has."""
    for text in lines:
        match = re.match(r"\s*(\d+):\s+(\d+) .*\b%s\b" % name, text)
        if match:
            return int(match.group(1)), int(match.group(2))
    return None, 0


def test(t, place, log, kernel="cloud", append="", irqs=None):
    options = [word for move in place for word in ("--place", move)]
    guest = t.boot(GUEST, kernel=kernel, append=append, options=options)
    t.note("init after %s s" % guest.fact("init", 90))
    lines = "\n".join(guest.facts("log"))
    for pattern in log:
        t.check(re.search(pattern, lines), "the guest's log has no '%s'" % pattern)
    before = guest.facts("irqs")
    for name, number in (irqs or {}).items():
        t.equal("the interrupt of " + name, line_of(before, name)[0], number)
    # In both directions, and by interrupts: the wire goes where ACPI says.
    guest.send("hello\n")
    t.equal("what the guest heard", guest.fact("heard"), "hello")
    number, count = line_of(guest.facts("after"), "ttyS0")
    t.check(count > line_of(before, "ttyS0")[1], "no interrupt of ttyS0's arrived (line %s)" % number)
    for move in place:
        match = re.match(r"serial0=(?:mmio|pio):\S+,irq=(\d+)", move)
        if match:
            t.equal("the interrupt of ttyS0", number, int(match.group(1)))
    if place[0].startswith("serial0=mmio"):
        t.check(any("d0000000-d0000007 : serial" in text for text in guest.facts("iomem")), "nobody claims the UART")
    guest.ends(0)
