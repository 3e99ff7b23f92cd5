# SPDX-License-Identifier: BSD-2-Clause
"""
A guest that is at work on a disk and on random numbers is paused and goes on, again and again: while it is paused nothing
in it moves, and afterwards nothing is missing, nor has any watchdog of its kernel barked.
"""
# Watchdogs and the RCU bark at 20 and 21 seconds.
ALSO = {"arm64": ("short",)}
CASES = {"short": {"times": 6, "seconds": 2}, "long": {"times": 2, "seconds": 30}}
ON_REQUEST = ("long",)
TIMEOUT = 600
SECONDS = 40
DISK = "/tmp/pause.img"

SCRIPT = '''
modprobe virtio_pci
modprobe virtio_blk
modprobe virtio_rng
cat /dev/hwrng >/dev/null &
(while [ ! -e /over ]; do
	dd if=/dev/urandom of=/data bs=64k count=16 2>/dev/null
	dd if=/data of=/dev/vda bs=16k oflag=direct 2>/dev/null
	dd if=/dev/vda of=/back bs=16k count=64 iflag=direct 2>/dev/null
	cmp /data /back >/dev/null 2>&1 || fact differs
	echo x >>/rounds
done) &
work=$!
fact busy
read line
touch /over
wait $work
fact rounds $(wc -l </rounds)
fact sum $(md5sum </data)
fact barks $(dmesg | grep -ciE "lockup|stall|hung|blocked for more|clocksource.*unstable")
'''


def exits(t, guest, begin):
    """As Ctrl-A s tells."""
    guest.send(b"\x01s")
    return int(guest.expect(r"trapline: (\d+) exits to user space", 60, begin).group(1))


def test(t, times, seconds):
    t.sh("truncate -s 1M %s" % DISK)
    guest = t.boot(SCRIPT, cpus=2, options=["--disk", DISK, "--rng"], modules="cloud")
    guest.fact("busy", 120)
    for _ in range(times):
        t.sh("sleep 1")
        begin = len(guest.program.output())
        guest.send(b"\x01z")
        guest.expect("the guest is paused", 60, begin)
        sum_before = t.sh("md5sum <%s" % DISK)
        begin = len(guest.program.output())
        first = exits(t, guest, begin)
        guest.expect("trapline: paused, up for", 1, begin)
        cpu = guest.cpu_seconds()
        t.sh("sleep %d" % seconds, 60 + seconds)
        second = exits(t, guest, len(guest.program.output()))
        t.equal("exits while it was paused", second, first)
        t.equal("the disk while it was paused", t.sh("md5sum <%s" % DISK), sum_before)
        t.check(guest.cpu_seconds() - cpu < 0.5, "it was at work while it was paused")
        begin = len(guest.program.output())
        guest.send(b"\x01z")
        guest.expect("the guest goes on", 60, begin)
    guest.send("over\n")
    rounds = int(guest.fact("rounds", 120))
    t.check("@differs" not in guest.log(), "the disk did not give back what was written")
    t.check(rounds >= times // 2, "%d rounds" % rounds)
    wanted = guest.fact("sum")
    t.equal("barks", guest.fact("barks"), "0")
    guest.ends(0)
    t.equal("the disk", t.sh("md5sum <%s" % DISK).split()[0], wanted.split()[0])
    t.note("%d pauses of %d s, %d rounds" % (times, seconds, rounds))
