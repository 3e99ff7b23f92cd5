# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's own driver reads random numbers from the entropy device, is unbound and bound again, and the guest reboots."""

CASES = {
    "pci": {"transport": "pci", "driver": "virtio_pci"},
    "pci-legacy": {"transport": "pci-legacy", "driver": "virtio_pci force_legacy=1"},
    "mmio": {"transport": "mmio", "driver": "virtio_mmio"},
    "mmio-legacy": {"transport": "mmio-legacy", "driver": "virtio_mmio"},
}

SCRIPT = '''
modprobe %s
modprobe virtio_rng
fact current $(cat /sys/class/misc/hw_random/rng_current)
fact features $(cat /sys/bus/virtio/devices/virtio0/features)
fact status $(cat /sys/bus/virtio/devices/virtio0/status)
dd if=/dev/hwrng of=/a bs=4096 count=16 2>/dev/null
dd if=/dev/hwrng of=/b bs=4096 count=16 2>/dev/null
fact sizes $(wc -c </a) $(wc -c </b)
cmp -s /a /b && fact same yes || fact same no
fact packed $(gzip </a | wc -c)
for i in 1 2 3; do
	echo virtio0 >/sys/bus/virtio/drivers/virtio_rng/unbind
	fact unbound $(cat /sys/class/misc/hw_random/rng_available)
	echo virtio0 >/sys/bus/virtio/drivers/virtio_rng/bind
done
dd if=/dev/hwrng of=/c bs=4096 count=1 2>/dev/null
fact again $(wc -c </c)
fact interrupts $(awk '/virtio0/ { n = 0; for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n }' /proc/interrupts)
'''


def test(t, transport, driver):
    guest = t.boot(SCRIPT % driver, options=["--rng=transport=%s" % transport], modules="cloud")
    t.equal("the generator", guest.fact("current"), "virtio_rng.0")
    features = guest.fact("features")
    # VERSION_1, and events by index.
    t.equal("VERSION_1 taken", features[32], "0" if transport.endswith("legacy") else "1")
    t.equal("EVENT_IDX taken", features[29], "1")
    t.equal("what it read", guest.fact("sizes"), "65536 65536")
    t.equal("whether it read the same twice", guest.fact("same"), "no")
    t.check(int(guest.fact("packed")) > 65000, "what it read is not random")
    t.equal("what it read after it was unbound", guest.fact("again"), "4096")
    t.check(int(guest.fact("interrupts")) > 0, "no interrupts")
    t.note("%s interrupts" % guest.fact("interrupts"))
    guest.ends(0)
