# SPDX-License-Identifier: BSD-2-Clause
"""The PCI functions that the guest lists are the machine's, and each is what the machine says it is."""

import re

# Where it is the device tree that leads to the bus, there is no function but what is asked for.
ALSO = {"arm64": ("default", "pci-test")}
CASES = {"default": {"options": ()}, "pci-test": {"options": ("--pci-test",)}}

GUEST = """
for path in /sys/bus/pci/devices/*; do
	[ -e $path ] && echo "${path##*/} $(cat $path/vendor) $(cat $path/device) $(cat $path/class)"
done >/tmp/list
facts pci </tmp/list
"""


def test(t, options):
    table = {entry["address"]: (entry["vendor"], entry["device"], entry["class"])
             for entry in t.machine(options=options)["pci"]}
    least = (t.arch == "x86_64") + len(options)
    t.check(len(table) >= least, "the machine's table has %d PCI functions, and not %d" % (len(table), least))
    guest = t.boot(GUEST, options=options)
    seen = {}
    for line in guest.facts("pci", 90):
        address, vendor, device, code = re.match(r"(\S+) (\S+) (\S+) (\S+)", line).groups()
        seen[address] = (int(vendor, 16), int(device, 16), int(code, 16) >> 8)
    t.equal("PCI functions in the guest", seen, table)
    t.note("%d functions" % len(seen))
    guest.ends(0)
