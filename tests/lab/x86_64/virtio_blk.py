# SPDX-License-Identifier: BSD-2-Clause
"""Disks: ext4 made, filled, trimmed, checked, there after a reboot in mid-write; read-only; full hosts; growth."""

import program

ALSO = {"arm64": ("pci",)}
CASES = {
    "pci": {"way": "ext4", "transport": "pci"},
    "pci-2cpu": {"way": "ext4", "transport": "pci", "cpus": 2},
    "pci-legacy": {"way": "ext4", "transport": "pci-legacy", "driver": "virtio_pci force_legacy=1"},
    "mmio": {"way": "ext4", "transport": "mmio", "driver": "virtio_mmio"},
    "mmio-legacy": {"way": "ext4", "transport": "mmio-legacy", "driver": "virtio_mmio"},
    "full": {"way": "full", "transport": "pci"},
}
TIMEOUT = 600
SECONDS = 60

FOLDER = "/tmp/disks"

# An image that has no file system yet is the first boot's.
EXT4 = '''
modprobe DRIVER
modprobe virtio_blk
mkdir /mnt
if ! mount -t ext4 -o ro /dev/vda /mnt 2>/dev/null; then
	fact sizes $(cat /sys/block/vda/size) $(cat /sys/block/vdb/size)
	fact serial $(cat /sys/block/vda/serial)
	fact ro $(cat /sys/block/vda/ro) $(cat /sys/block/vdb/ro)
	fact queues $(ls /sys/block/vda/mq | wc -l)
	fact cache $(cat /sys/block/vda/queue/write_cache)
	fact physical $(cat /sys/block/vda/queue/physical_block_size)
	fact second $(md5sum </dev/vdb)
	dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>/dev/null && fact rowrite yes || fact rowrite no
	/e2/mke2fs -q -t ext4 -E nodiscard /dev/vda && fact made yes || fact made no
	mount -t ext4 /dev/vda /mnt
	for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/f$i bs=64k count=32 2>/dev/null; done
	md5sum /mnt/f* >/mnt/sums
	umount /mnt
	/e2/e2fsck -f -n /dev/vda >/fsck 2>&1 && fact clean yes || fact clean no
	facts fsck </fsck
	echo 3 >/proc/sys/vm/drop_caches
	fact whole $(md5sum </dev/vda)
	read answer
	mount -t ext4 /dev/vda /mnt
	md5sum -c /mnt/sums >/checked 2>&1 && fact same yes || fact same no
	rm /mnt/f7 /mnt/f8
	sync
	fact remove
	read answer
	fstrim /mnt && fact trimmed yes || fact trimmed no
	read answer
	sync
	( while :; do dd if=/dev/urandom of=/mnt/busy bs=64k count=64; done ) 2>/dev/null &
	sleep 2
	reboot -f
fi
umount /mnt
mount -t ext4 /dev/vda /mnt
md5sum /mnt/f[1-6] >/again
head -n 6 /mnt/sums | cmp -s - /again && fact kept yes || fact kept no
umount /mnt
/e2/e2fsck -f -n /dev/vda >/fsck 2>&1 && fact sound yes || fact sound no
facts fsck2 </fsck
fact grow
read answer
n=0
while [ $(cat /sys/block/vda/size) = SECTORS ] && [ $n -lt 100 ]; do sleep 0.2; n=$((n + 1)); done
fact grown $(cat /sys/block/vda/size)
echo the end | dd of=/dev/vda bs=512 seek=$(($(cat /sys/block/vda/size) - 1)) conv=sync,fsync 2>/dev/null
fact written $?
'''

FULL = '''
modprobe DRIVER
modprobe virtio_blk
dd if=/dev/urandom of=/dev/vda bs=64k count=512 conv=fsync 2>/dev/null && fact first good || fact first bad
fact lives $(dd if=/dev/vda bs=64k count=16 2>/dev/null | wc -c)
read answer
dd if=/dev/urandom of=/data bs=64k count=512 2>/dev/null
dd if=/data of=/dev/vda bs=64k conv=fsync 2>/dev/null && fact second good || fact second bad
echo 3 >/proc/sys/vm/drop_caches
fact wrote $(md5sum </data)
fact whole $(md5sum </dev/vda)
'''


def kib(t, name):
    """What an image takes up on the host."""
    return int(t.sh("du -k %s/%s" % (FOLDER, name)).split()[0])


def ext4(t, transport, driver="virtio_pci", cpus=1):
    t.sh("truncate -s 48M %s/a; dd if=/dev/urandom of=%s/b bs=64k count=16; cp %s/b %s/b.was" % ((FOLDER,) * 4))
    options = ["--virtio-transport", transport, "--disk", FOLDER + "/a,serial=a-disk", "-d", FOLDER + "/b,ro"]
    guest = t.boot(EXT4.replace("DRIVER", driver).replace("SECTORS", str(48 << 11)), files=program.e2fsprogs(), modules="drivers",
                   cpus=cpus, options=options)
    t.equal("the disks' sizes", guest.fact("sizes"), "%d %d" % (48 << 11, 1 << 11))
    t.equal("the serial", guest.fact("serial"), "a-disk")
    t.equal("which disk is read-only", guest.fact("ro"), "0 1")
    t.equal("queues", guest.fact("queues"), str(cpus))
    t.equal("the cache", guest.fact("cache"), "write back")
    t.equal("the physical block", guest.fact("physical"), "4096")
    t.equal("the second disk", guest.fact("second").split()[0], t.sh("md5sum <%s/b.was" % FOLDER).split()[0])
    t.equal("whether a read-only disk was written", guest.fact("rowrite"), "no")
    t.equal("whether it was made", guest.fact("made", 90), "yes")
    t.equal("whether e2fsck finds it clean", guest.fact("clean", 90), "yes")
    whole = guest.fact("whole", 90).split()[0]
    t.equal("what the host has", t.sh("md5sum <%s/a" % FOLDER).split()[0], whole)
    guest.send("same\n")
    t.equal("whether the files are the same", guest.fact("same", 90), "yes")
    guest.fact("remove")
    before = kib(t, "a")
    guest.send("trim\n")
    t.equal("whether it was trimmed", guest.fact("trimmed"), "yes")
    after = kib(t, "a")
    t.check(before - after >= 4000, "%d KiB before the trim, %d after it" % (before, after))
    guest.send("reboot\n")
    t.equal("whether the files are there after the reboot", guest.fact("kept", 120), "yes")
    t.equal("whether e2fsck finds it sound", guest.fact("sound", 90), "yes")
    guest.fact("grow")
    t.sh("truncate -s 64M %s/a" % FOLDER)
    guest.send("grown\n")
    t.equal("the size after it grew", guest.fact("grown"), str(64 << 11))
    t.equal("writing to the new end", guest.fact("written"), "0")
    guest.ends(0)
    # The host's own look at the file system.
    t.inner.install(program.packaged("/sbin/e2fsck"), "/bin/e2fsck")
    t.sh("e2fsck -f -n %s/a" % FOLDER)
    t.equal("the host's last sector", t.sh("tail -c 512 %s/a | head -n 1" % FOLDER).strip(), "the end")
    t.sh("cmp %s/b %s/b.was" % (FOLDER, FOLDER))
    t.note("%d KiB trimmed" % (before - after))


def full(t, transport, driver="virtio_pci"):
    """40 MiB on the host, of which 24 are taken, for a disk of 32."""
    t.sh("truncate -s 32M %s/a; dd if=/dev/zero of=%s/filler bs=64k count=384" % (FOLDER, FOLDER))
    guest = t.boot(FULL.replace("DRIVER", driver), modules="drivers",
                   options=["--virtio-transport", transport, "-d", FOLDER + "/a"])
    t.equal("the first write", guest.fact("first", 90), "bad")
    t.equal("what can be read then", guest.fact("lives"), str(1 << 20))
    t.sh("rm %s/filler" % FOLDER)
    guest.send("on\n")
    t.equal("the second write", guest.fact("second", 90), "good")
    wrote = guest.fact("wrote", 90).split()[0]
    t.equal("what the guest reads", guest.fact("whole", 90).split()[0], wrote)
    guest.ends(0)
    t.equal("what the host has", t.sh("md5sum <%s/a" % FOLDER).split()[0], wrote)


def test(t, way, **how):
    t.sh("umount %s 2>/dev/null; mkdir -p %s && mount -t tmpfs -o size=%dm disks %s" % (
        FOLDER, FOLDER, 40 if way == "full" else 160, FOLDER))
    {"ext4": ext4, "full": full}[way](t, **how)
    t.sh("umount " + FOLDER)
