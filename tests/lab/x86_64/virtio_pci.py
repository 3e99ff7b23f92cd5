# SPDX-License-Identifier: BSD-2-Clause
"""Virtio over PCI with the kernel's own drivers: vectors or wires, modern and legacy, shared lines, and kicks that do not exit."""

import json

CASES = {
    "modern": {"transport": "pci", "legacy": False},
    "legacy": {"transport": "pci-legacy", "legacy": True, "module": "force_legacy=1"},
    "transitional": {"transport": "pci-legacy", "legacy": False},
    "wires": {"transport": "pci", "legacy": False, "append": "pci=nomsi"},
    "legacy-wires": {"transport": "pci-legacy", "legacy": True, "module": "force_legacy=1", "append": "pci=nomsi"},
}
TIMEOUT = 300

READS = 200  # of the device's 64 bytes each, by the kernel's driver

SCRIPT = '''
modprobe virtio_pci %s
modprobe virtio_rng
fact names $(cat /sys/class/misc/hw_random/rng_available)
for i in 0 4; do
	echo virtio_rng.$i >/sys/class/misc/hw_random/rng_current
	fact current$i $(cat /sys/class/misc/hw_random/rng_current)
	dd if=/dev/hwrng of=/bytes bs=64 count=%d 2>/dev/null
	fact bytes$i $(wc -c </bytes)
done
fact features $(cat /sys/bus/virtio/devices/virtio0/features)
facts irqs </proc/interrupts
facts io </proc/ioports
'''


def interrupts(lines, name):
    """(how many, which kind) of the lines that have this name."""
    found = []
    for line in lines:
        words = line.split()
        if any(word.rstrip(",").split("-")[0] == name for word in words[2:]):
            found.append((int(words[1]), " ".join(words[2:])))
    return found


def test(t, transport, legacy, module="", append=""):
    # Slots 1 and 5, the first and the last of them, have one wire.
    guest = t.boot(SCRIPT % (module, READS), options=["--rng"] * 5 + ["--virtio-transport", transport, "--stats",
                                                                    "/tmp/stats"],
                   append=append, modules="cloud", cpus=1)
    t.equal("generators", len(guest.fact("names").split()), 5)
    for i in (0, 4):
        t.equal("the generator", guest.fact("current%d" % i), "virtio_rng.%d" % i)
        t.equal("what it read", guest.fact("bytes%d" % i), str(64 * READS))
    t.equal("VERSION_1 taken", guest.fact("features")[32], "0" if legacy else "1")
    irqs = guest.facts("irqs")
    for i in (0, 4):
        found = interrupts(irqs, "virtio%d" % i)
        t.check(found, "no interrupts of virtio%d: %s" % (i, "\n".join(irqs)))
        kind = "IO-APIC" if append else "PCI-MSI"
        t.check(all(kind in text for _, text in found), "virtio%d has not %s: %s" % (i, kind, found))
        t.check(sum(n for n, _ in found) >= READS, "%d interrupts for %d reads" % (sum(n for n, _ in found), READS))
    t.equal("the ports of a legacy driver", any("virtio-pci-legacy" in line for line in guest.facts("io")), legacy)
    guest.ends(0)
    regions = [r for r in json.loads(t.sh("cat /tmp/stats"))["regions"] if r["device"] in ("rng0", "rng4")]
    writes = sum(r["writes"] for r in regions)
    # Set-up is some dozens of writes a device; a kick a read would be hundreds.
    t.check(0 < writes < READS, "%d writes exited: kicks are not served in the kernel" % writes)
    t.note("%d writes, %d reads exited for %d kicks" % (writes, sum(r["reads"] for r in regions), 2 * READS))
