# SPDX-License-Identifier: BSD-2-Clause
"""
The kernel's own driver reports free pages, which leave the host's memory, also where that is a file's; keys blow the balloon
up to half the guest's memory and back; a guest that runs out of memory takes pages out of it.
"""

import time

ALSO = {"arm64": ()}
CASES = {
    "pci": {"transport": "pci", "driver": "virtio_pci"},
    "mmio": {"transport": "mmio", "driver": "virtio_mmio"},
    "mmio-legacy": {"transport": "mmio-legacy", "driver": "virtio_mmio"},
    "shared": {"transport": "pci", "driver": "virtio_pci", "file": "/tmp/balloon-ram"},
}
TIMEOUT = 600

MIB = 384
FILE = 120  # what the guest writes and removes
HALF = MIB // 2 * 256  # in pages
LARGE = 150  # does not fit beside half a balloon

SCRIPT = '''
free() { sed -n 's/^MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo; }
count() { sed -n "s/^$1 //p" /proc/vmstat; }
write() { n=0; while [ $n -lt $1 ]; do cat /piece; n=$((n + 1)); done; }
# $1: of which counter, $2: until it is so high.
wait_for() { n=0; until [ $(count $1) -ge $2 ] || [ $n -ge 300 ]; do n=$((n + 1)); sleep 0.1; done; }
modprobe %(driver)s
modprobe virtio_balloon
fact features $(cat /sys/bus/virtio/devices/virtio0/features)
mkdir -p /t
mount -t tmpfs -o size=%(mib)dm none /t
head -c 1048576 </dev/urandom >/piece
write %(file)d >/t/a
fact filled $(wc -c </t/a)
read answer
rm /t/a
fact removed yes
read answer
fact before $(free)
read answer
wait_for balloon_inflate %(half)d
fact inflated $(count balloon_inflate) $(free)
read answer
wait_for balloon_deflate %(half)d
fact deflated $(count balloon_deflate) $(free)
# All of it is memory again.
write %(large)d >/t/b
fact sum $(md5sum </t/b)
rm /t/b
read answer
wait_for balloon_inflate $((2 * %(half)d))
fact again $(count balloon_inflate)
out=$(count balloon_deflate)
write %(large)d >/t/b
fact starved $(md5sum </t/b)
fact rescued $(($(count balloon_deflate) - out))
'''


def until(limit, true):
    end = time.monotonic() + limit
    while not true() and time.monotonic() < end:
        time.sleep(0.5)
    return true()


def test(t, transport, driver, file=None):
    guest = t.boot(SCRIPT % {"driver": driver, "mib": MIB, "file": FILE, "half": HALF, "large": LARGE},
                   options=["--balloon=transport=%s" % transport] + (["--mem-file", file] if file else []),
                   modules="cloud", memory=str(MIB))

    def holds():
        """MiB of the host's memory that are the guest's."""
        return int(t.sh("du -k " + file).split()[0]) / 1024 if file else guest.memory()

    features = guest.fact("features", 90)
    t.equal("STATS_VQ, DEFLATE_ON_OOM, REPORTING taken", features[1] + features[2] + features[5], "111")
    t.equal("what it wrote", guest.fact("filled", 60), str(FILE << 20))
    full = holds()
    guest.send("on\n")
    guest.fact("removed")
    t.check(until(40, lambda: holds() < full - 0.6 * FILE),
            "the host holds %.0f MiB, %.0f before the guest freed %d" % (holds(), full, FILE))
    empty = holds()
    guest.send("on\n")
    before = int(guest.fact("before"))
    guest.send(b"\x01+" * 8)
    guest.expect("is to have %d" % (MIB // 2), 20)
    guest.send("on\n")
    pages, free = map(int, guest.fact("inflated", 60).split())
    t.check(pages >= HALF, "%d pages went into the balloon" % pages)
    t.check(free < before - 4 * HALF + (40 << 10), "%d KiB are free, %d were" % (free, before))
    guest.send(b"\x01s")
    guest.expect("the balloon has %d of %d MiB, and is to have %d" % (MIB // 2, MIB, MIB // 2), 20)
    guest.expect(r"the guest had \d+ MiB free", 20)
    t.check(holds() < MIB / 2 + 20, "the host holds %.0f MiB with half in the balloon" % holds())
    guest.send(b"\x01-" * 8)
    guest.send("on\n")
    pages, free = map(int, guest.fact("deflated", 60).split())
    t.check(pages >= HALF and free > before - (40 << 10), "%d pages came out, %d KiB are free" % (pages, free))
    large = guest.fact("sum", 60)
    guest.send(b"\x01+" * 8)
    guest.send("on\n")
    t.check(int(guest.fact("again", 60)) >= 2 * HALF, "it does not fill a second time")
    t.equal("what a guest that ran out of memory wrote", guest.fact("starved", 120), large)
    rescued = int(guest.fact("rescued"))
    t.check(rescued > 0, "nothing came out of the balloon")
    t.note("%.0f MiB full, %.0f reported free; %d MiB out on OOM" % (full, empty, rescued >> 8))
    guest.ends(0)
    if file:
        t.sh("rm " + file)
