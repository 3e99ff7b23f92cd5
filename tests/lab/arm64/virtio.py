# SPDX-License-Identifier: BSD-2-Clause
"""A disk and random numbers on every transport: PCI with messages by the ITS or with wires, PCI's ports by memory accesses, MMIO."""
import json

CASES = {
    "pci": {"transport": "pci", "driver": "virtio_pci"},
    "wires": {"transport": "pci", "driver": "virtio_pci", "irqchip": "gicv3"},
    "pci-legacy": {"transport": "pci-legacy", "driver": "virtio_pci force_legacy=1"},
    "mmio": {"transport": "mmio", "driver": "virtio_mmio"},
    "mmio-legacy": {"transport": "mmio-legacy", "driver": "virtio_mmio"},
}
TIMEOUT = 300
SECONDS = 30
MIB = 4
READS = 200  # of the generator's 64 bytes each, by the kernel's driver

SCRIPT = """
modprobe DRIVER
modprobe virtio_blk
modprobe virtio_rng
fact features $(cat /sys/bus/virtio/devices/virtio0/features)
fact current $(cat /sys/class/misc/hw_random/rng_current)
fact random $(head -c 4096 /dev/hwrng | gzip | wc -c)
fact bytes $(dd if=/dev/hwrng bs=64 count=READS 2>/dev/null | wc -c)
fact size $(cat /sys/block/vda/size)
fact read $(md5sum </dev/vda)
dd if=/dev/urandom of=/data bs=1M count=MIB 2>/dev/null
dd if=/data of=/dev/vda bs=64k conv=fsync 2>/dev/null
fact wrote $(md5sum </data)
facts interrupts </proc/interrupts
"""


def test(t, transport, driver, irqchip="auto"):
    t.sh("seq -w 1 9999999 | head -c %d >/tmp/disk.img" % (MIB << 20))
    wanted = t.sh("md5sum </tmp/disk.img").split()[0]
    guest = t.boot(SCRIPT.replace("DRIVER", driver).replace("MIB", str(MIB)).replace("READS", str(READS)), modules="cloud",
                   options=["-d", "/tmp/disk.img,transport=" + transport, "--rng=transport=" + transport,
                            "--irqchip", irqchip, "--stats", "/tmp/stats"])
    features = guest.fact("features", 120)
    t.equal("VERSION_1 taken", features[32], "0" if transport.endswith("legacy") else "1")
    t.equal("the generator", guest.fact("current"), "virtio_rng.0")
    t.check(int(guest.fact("random")) > 4090, "what it read is not random")
    t.equal("what it read", guest.fact("bytes"), str(64 * READS))
    t.equal("sectors", guest.fact("size"), str(MIB * 2048))
    t.equal("the sum of what the guest read", guest.fact("read").split()[0], wanted)
    wrote = guest.fact("wrote", 120).split()[0]
    lines = [line for line in guest.facts("interrupts") if "virtio" in line]
    guest.ends(0)
    t.equal("the sum of what the guest wrote", t.sh("md5sum </tmp/disk.img").split()[0], wrote)
    by_message = [line for line in lines if "ITS-MSI" in line]
    t.equal("interrupts by the ITS", bool(by_message), transport.startswith("pci") and irqchip == "auto")
    stats = json.loads(t.sh("cat /tmp/stats"))
    regions = {region["name"]: region["reads"] + region["writes"] for region in stats["regions"]
               if region["device"] == "disk0"}
    t.check(sum(regions.values()) > 0, "nobody asked the disk's registers")
    # Set-up is some dozens of writes; a kick a read would be hundreds. That holds for ports too, which are memory here. On MMIO
    # each interrupt is acknowledged by a write, which says nothing of kicks.
    writes = sum(region["writes"] for region in stats["regions"] if region["device"] == "rng0")
    if transport.startswith("pci"):
        t.check(0 < writes < READS, "%d writes exited: kicks are not served in the kernel" % writes)
    t.note("%d of the generator's writes exited for %d kicks" % (writes, READS))
    t.note("%d exits, %s" % (stats["exits"], ", ".join("%s %d" % pair for pair in regions.items())))
