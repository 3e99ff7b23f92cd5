# SPDX-License-Identifier: BSD-2-Clause
"""The host loses its power while a guest writes: whatever the guest had flushed is there afterwards, and its journal is sound."""

import re
import subprocess

import program

CASES = {
    "file": {"cuts": 1},
    "device": {"cuts": 1, "device": True},
    "many": {"cuts": 8},
}
ON_REQUEST = ("device", "many")
TIMEOUT = 900
SECONDS = 45
PROGRAM = {}

RECORDS = 40  # at least, between two cuts

# What is renamed and removed without being flushed keeps the journal busy.
SCRIPT = '''
modprobe virtio_pci
modprobe virtio_blk
mkdir /mnt
mount -t ext4 /dev/vda /mnt 2>/dev/null || { /e2/mke2fs -q -t ext4 -E nodiscard /dev/vda; mount -t ext4 /dev/vda /mnt; }
( while :; do
	for i in 1 2 3 4 5; do dd if=/prog of=/mnt/new$i bs=16k count=$((i * 4)); mv /mnt/new$i /mnt/old$i; done
	rm /mnt/old[24]
done ) 2>/dev/null &
/prog WAY /mnt/log /dev/vdb
kill $!
wait
umount /mnt && fact unmounted
/e2/e2fsck -f -n /dev/vda >/fsck 2>&1 && fact sound yes || fact sound no
facts fsck </fsck
'''


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def mounted(t):
    """The host's disk, which is this inner machine's. It writes nothing back that it was not told to flush."""
    t.sh("echo 0 >/proc/sys/vm/dirty_writeback_centisecs; mkdir -p /power && mount -t ext4 /dev/vda /power")


def boot(t, way, disks):
    return t.boot(SCRIPT.replace("WAY", way), files=list(PROGRAM.items()) + program.e2fsprogs(), modules="drivers",
                  options=["-d", disks[0], "-d", disks[1]])


def whole(t, guest, kept):
    """What a guest finds after a cut."""
    found = [int(word) for word in guest.fact("whole", 120).split()]
    t.check(min(found) >= kept, "%d records were flushed; whole are %d in the file, %d on the disk" % (kept, *found))


def cut(t, guest, images, number):
    """Waits for records, lets the host write what it does not flush, and cuts the power. How many were flushed."""
    first = int(guest.fact("kept", 120))
    guest.expect(r"^@kept %d\r*$" % (first + RECORDS), 300)
    # A name of its own each time: ext4 writes out what takes an older file's place.
    name = "/power/lost%d" % number
    lost = t.sh("dd if=/dev/urandom of=%s bs=64k count=16 2>/dev/null; md5sum <%s" % (name, name))
    t.restart(images)
    mounted(t)
    t.check(t.sh("cat %s 2>/dev/null | md5sum" % name) != lost, "the host kept what it never flushed: no power was cut")
    return [int(n) for n in re.findall(r"^@kept (\d+)$", guest.log(), re.M)][-1]


def test(t, cuts, device=False):
    images = [t.image("disk", 256 << 20)]
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", images[0]], check=True, stdout=subprocess.DEVNULL)
    images += [t.image("a", 64 << 20), t.image("b", 16 << 20)] if device else []
    disks = ["/dev/vdb", "/dev/vdc"] if device else ["/power/a", "/power/b"]
    kept = 0
    t.restart(images)
    mounted(t)
    if not device:
        t.sh("truncate -s 64M /power/a; truncate -s 16M /power/b; sync")
    for number in range(cuts):
        guest = boot(t, "write", disks)
        whole(t, guest, kept)
        kept = cut(t, guest, images, number)
    guest = boot(t, "check", disks)
    whole(t, guest, kept)
    t.equal("whether the guest finds it sound", guest.fact("sound", 120), "yes")
    guest.ends(0)
    t.inner.install(program.packaged("/sbin/e2fsck"), "/bin/e2fsck")
    t.sh("e2fsck -f -n " + disks[0])
    t.note("%d records flushed before the last cut" % kept)
