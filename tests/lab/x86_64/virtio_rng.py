# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's driver reads random numbers, is unbound and bound again; the guest reboots in the middle of it, twice."""
import json

ALSO = {"arm64": ()}
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
dd if=/dev/hwrng of=/a bs=4096 count=4 2>/dev/null
dd if=/dev/hwrng of=/b bs=4096 count=4 2>/dev/null
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
dd if=/dev/hwrng of=/dev/null bs=4096 2>/dev/null &
fact busy
read answer
[ $answer = again ] && reboot -f
'''
BOOTS = 3
TIMEOUT = 400
SECONDS = 60


def test(t, transport, driver):
    guest = t.boot(SCRIPT % driver, options=["--rng=transport=%s" % transport, "--stats", "/tmp/stats"], modules="cloud")
    for boot in range(BOOTS):
        t.equal("the generator", guest.fact("current", 90, again=True), "virtio_rng.0")
        features = guest.fact("features", again=True)
        # VERSION_1, and events by index.
        t.equal("VERSION_1 taken", features[32], "0" if transport.endswith("legacy") else "1")
        t.equal("EVENT_IDX taken", features[29], "1")
        t.equal("what it read", guest.fact("sizes", again=True), "16384 16384")
        t.equal("whether it read the same twice", guest.fact("same", again=True), "no")
        t.check(int(guest.fact("packed", again=True)) > 16300, "what it read is not random")
        t.equal("what it read after it was unbound", guest.fact("again", again=True), "4096")
        interrupts = int(guest.fact("interrupts", again=True))
        t.check(interrupts > 0, "no interrupts")
        guest.fact("busy", again=True)
        guest.send("again\n" if boot + 1 < BOOTS else "off\n")
    guest.ends(0)
    stats = json.loads(t.sh("cat /tmp/stats"))
    queue, = stats["virtio"]
    t.check(BOOTS * 580 < queue["interrupts"] < 1000000, "interrupts in --stats: %d" % queue["interrupts"])
    # The kernel takes the doorbells: no kick of the driver's is an exit.
    exits = sum(region["writes"] for region in stats["regions"] if region["device"] == "rng0")
    t.check(exits < (queue["interrupts"] * 2 if driver == "virtio_mmio" else 400 * BOOTS), "%d writes trapped" % exits)
    t.note("%d boots, the queue was woken %d times, %d interrupts, %d writes to registers trapped" % (
        BOOTS, queue["kicks"], queue["interrupts"], exits))
