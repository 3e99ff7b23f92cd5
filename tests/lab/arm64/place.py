# SPDX-License-Identifier: BSD-2-Clause
"""Devices that --place moved are found through the device tree, the console by stdout-path, before its driver as after it."""

import re

UART = r"ttyS0 at MMIO 0x%x \(irq = \d+, base_baud = 115200\) is a 16550A"

# `lines`: the GIC's numbers of interrupts, which are 32 more than --place's.
CASES = {
    "uart": {"place": ["serial0=mmio:0x04000000,irq=80"], "log": [UART % 0x04000000], "lines": {"ttyS0": 112}},
    "early": {"place": ["serial0=mmio:0x04000000,irq=80"], "append": "earlycon",
              "log": [r"earlycon: ns16550a0 at MMIO 0x0*4000000", r"bootconsole \[ns16550a0\] enabled", UART % 0x04000000],
              "lines": {"ttyS0": 112}},
    # Where everything is by default, too.
    "stdout-path": {"place": [], "append": "earlycon", "log": [r"bootconsole \[ns16550a0\] enabled", UART % 0x01000000],
                   "lines": {"ttyS0": 32}},
    "rest": {"place": ["rtc=mmio:0x05000000,irq=81", "pci.PCI ECAM=mmio:0x10000000"],
             "log": [r"ECAM at \[mem 0x10000000-0x1fffffff\] for \[bus 00-ff\]", r"rtc-pl031 5000000\.\S+: registered as rtc0"],
             "lines": {"rtc-pl031": 113}},
}
ON_REQUEST = ("uart", "early")

GUEST = """
facts log <<EOF
$(dmesg)
EOF
read answer
fact heard $answer
facts irqs </proc/interrupts
"""


def test(t, place, log, lines, append=""):
    options = [word for move in place for word in ("--place", move)]
    guest = t.boot(GUEST, append=append, quiet=not append, options=options)
    t.note("init after %s s" % guest.fact("init", 90))
    said = "\n".join(guest.facts("log"))
    for pattern in log:
        t.check(re.search(pattern, said), "the guest's log has no '%s'" % pattern)
    if append:
        # By the first console, which needs no driver: what the kernel says is seen while it says it, and once only.
        console = guest.log()
        first = re.search(r"\] Linux version ", console)
        enabled = re.search(r"bootconsole \[\S+\] enabled", console)
        driver = re.search(UART.partition(" at ")[0] + " at ", console)
        t.check(first and enabled and driver, "the console does not show the kernel's begin, or not its consoles")
        t.check(first.start() < driver.start() and enabled.start() < driver.start(), "nothing came before the driver")
    # In both directions, and by interrupts.
    guest.send("hello\n")
    t.equal("what the guest heard", guest.fact("heard"), "hello")
    irqs = guest.facts("irqs")
    for name, number in lines.items():
        found = [line.split() for line in irqs if re.search(r"\b%s$" % name, line)]
        t.check(found and re.fullmatch(r"GICv3", found[0][2]) and int(found[0][3]) == number, "the interrupt of %s is %s" % (name, found))
        t.check(name != "ttyS0" or int(found[0][1]) > 0, "no interrupt of ttyS0's arrived")
    guest.ends(0)
