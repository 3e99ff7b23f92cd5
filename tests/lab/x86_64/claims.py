# SPDX-License-Identifier: BSD-2-Clause
"""Ports and memory that the guest's drivers claim are regions of that device, and each region with a driver is claimed.

So the machine's table, what ACPI tells of it and what drivers make of that agree.
"""

import re

CASES = {"cloud": {"kernel": "cloud"}, "full": {"kernel": "full"}}

# What x86 Linux claims whether or not there is such a chip: standard_io_resources in arch/x86/kernel/setup.c, and
# what goes by the PC's history. Nothing in the machine needs to answer there.
LEGACY_PORTS = {
    "dma1": "8237, claimed always", "dma2": "8237, claimed always", "dma page reg": "8237, claimed always",
    "pic1": "8259, claimed always", "pic2": "8259, claimed always",
    "timer0": "8254, claimed always", "timer1": "8254, claimed always",
    "keyboard": "8042, claimed always", "fpu": "387, claimed always",
    "PCI conf1": "claimed wherever CF8/CFC answers", "vga+": "claimed by the text console where a VGA may be",
}

# Not devices: containers, RAM and what the kernel keeps for itself.
NOT_DEVICES = re.compile(r"PCI Bus .*|System RAM|Kernel (code|data|rodata|bss)|[Rr]eserved|RAM buffer|System ROM|"
                         r"Video ROM|Adapter ROM|ACPI (Tables|Non-volatile Storage)|Crash kernel")

# Claims by another name than the device's own: of KVM's chips, and of the system driver for what ACPI calls
# motherboard resources (PNP0C02). A region has to lie there, whosever it is.
OTHER_NAMES = re.compile(r"IOAPIC \d+|Local APIC|pnp [0-9a-f]{2}:[0-9a-f]{2}")

# Regions of a device with a driver that nevertheless nobody claims.
UNCLAIMED = {"ACPI reset": "the FADT's reset register: Linux writes it at a reboot and never claims it"}

GUEST = """
facts ioports </proc/ioports
facts iomem </proc/iomem
"""


def parse(lines):
    """[(first, last, name)] of a /proc/io* listing, containers included."""
    found = []
    for line in lines:
        match = re.match(r" *([0-9a-f]+)-([0-9a-f]+) : (.*)", line)
        if match:
            found.append((int(match.group(1), 16), int(match.group(2), 16), match.group(3)))
    return found


def claims_it(name, region):
    drivers = region.get("drivers")
    return bool(drivers) and any(re.fullmatch(re.escape(driver) + r"([-_ :0-9].*)?", name)
                                 for driver in drivers.split("|"))


def test(t, kernel):
    bus = t.machine(kernel=kernel)["bus"]
    guest = t.boot(GUEST, kernel=kernel)
    guest.fact("init", 90)
    wrong = []
    count = 0
    for space, listing in (("pio", "ioports"), ("mmio", "iomem")):
        claims = parse(guest.facts(listing))
        t.check(claims, "/proc/%s is empty" % listing)
        regions = [region for region in bus[space] if region["kind"] not in ("ram", "rom")]
        for first, last, name in claims:
            if NOT_DEVICES.fullmatch(name) or name in LEGACY_PORTS:
                continue
            count += 1
            over = [region for region in regions
                    if region["base"] <= last and first < region["base"] + region["size"]]
            if OTHER_NAMES.fullmatch(name) and over:
                continue
            if not any(claims_it(name, region) for region in over):
                wrong.append("the guest's '%s' at %s %#x-%#x is no region of such a device (there: %s)" % (
                    name, space, first, last, ", ".join(region["name"] for region in over) or "nothing"))
        for region in regions:
            last = region["base"] + region["size"] - 1
            if region.get("drivers") and region["name"] not in UNCLAIMED and not any(
                    claims_it(name, region) and first <= last and region["base"] <= end for first, end, name in claims):
                wrong.append("%s %#x-%#x '%s' is claimed by no driver %s" % (
                    space, region["base"], last, region["name"], region["drivers"]))
    guest.ends(0)
    t.check(not wrong, "\n".join(wrong))
    t.note("%d claims" % count)
