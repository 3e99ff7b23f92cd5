# SPDX-License-Identifier: BSD-2-Clause
"""Images that are not raw: QCOW2 is written over a reboot and whole afterwards, others are read, and what dies is an error."""

import program

ALSO = {"arm64": ()}
CASES = {
    "qcow2-pci": {"way": "qcow2", "transport": "pci", "cpus": 2},
    "qcow2-mmio": {"way": "qcow2", "transport": "mmio"},
    "formats": {"way": "formats"},
    "dies": {"way": "dies"},
}
TIMEOUT = 600
SECONDS = 60

MIB = 8
DRIVERS = """
for module in virtio_pci virtio_mmio virtio_blk; do modprobe $module; done
whole() {
	echo 3 >/proc/sys/vm/drop_caches
	md5sum </dev/$1 | cut -c -32
}
"""

# The first boot finds the disk as it was made.
WRITE = DRIVERS + """
if [ "$(whole vda)" = WAS ]; then
	fact size $(cat /sys/block/vda/size) $(ls /sys/block/vda/mq | wc -l)
	seq -w 1 299999 | head -c 1048576 >/data
	dd if=/data of=/dev/vda bs=64k seek=16 conv=fsync 2>/dev/null && fact wrote yes || fact wrote no
	dd if=/data of=/dev/vda bs=4k seek=1024 count=77 conv=fsync 2>/dev/null
	fact sum $(whole vda)
	read answer
	( while :; do dd if=/data of=/dev/vda bs=64k seek=80; done ) 2>/dev/null &
	sleep 2
	reboot -f
fi
seq -w 1 299999 | head -c 1048576 | dd of=/dev/vda bs=64k seek=80 conv=fsync 2>/dev/null
fact again $(whole vda)
"""

READ = DRIVERS + """
for disk in vda vdb vdc vdd vde; do fact $disk $(cat /sys/block/$disk/size) $(cat /sys/block/$disk/ro) $(whole $disk); done
"""

# Several at a time, so that some are under way when it dies.
DIES = DRIVERS + """
fact begins $(whole vda)
for i in 1 2 3 4 5 6; do
	( while dd if=/dev/zero of=/dev/vda bs=64k seek=$((i * 16)) count=8 oflag=direct 2>/dev/null; do :; done ) &
done
sleep 1
fact writes
wait
fact failed
dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && fact read yes || fact read no
fact state $(cat /sys/block/vda/size)
"""


def prepare(t):
    for name in ("qemu-storage-daemon", "qemu-img"):
        if t.inner.sh("[ -x /bin/%s ]" % name, 10)[0]:
            t.inner.install(program.packaged("/usr/bin/" + name), "/bin/" + name)
    t.sh("mkdir -p /tmp/i; dd if=/dev/urandom of=/tmp/i/raw bs=64k count=%d" % (MIB * 16))
    return t.sh("md5sum </tmp/i/raw | cut -c -32").strip()


def qcow2(t, was, transport, cpus=1):
    t.sh("qemu-img convert -f raw -O qcow2 /tmp/i/raw /tmp/i/disk.qcow2", 300)
    guest = t.boot(WRITE.replace("WAS", was), modules="drivers", cpus=cpus,
                   options=["-d", "/tmp/i/disk.qcow2,transport=" + transport])
    t.equal("size and queues", guest.fact("size", 300), "%d %d" % (MIB << 11, cpus))
    t.equal("whether it could write", guest.fact("wrote", 300), "yes")
    t.sh("seq -w 1 299999 | head -c 1048576 >/tmp/i/data\n"
         "dd if=/tmp/i/data of=/tmp/i/raw bs=64k seek=16 conv=notrunc\n"
         "dd if=/tmp/i/data of=/tmp/i/raw bs=4k seek=1024 count=77 conv=notrunc")
    t.equal("what the guest reads", guest.fact("sum", 300), t.sh("md5sum </tmp/i/raw | cut -c -32").strip())
    guest.send("\n")
    t.sh("dd if=/tmp/i/data of=/tmp/i/raw bs=64k seek=80 conv=notrunc")
    t.equal("what it reads after a reboot in mid-write", guest.fact("again", 300),
            t.sh("md5sum </tmp/i/raw | cut -c -32").strip())
    guest.ends(0)
    t.check(not t.sh("pidof qemu-storage-daemon; true").strip(), "qemu-storage-daemon is left behind")
    t.sh("qemu-img check /tmp/i/disk.qcow2 && qemu-img compare -f raw -F qcow2 /tmp/i/raw /tmp/i/disk.qcow2", 300)


def formats(t, was):
    options = []
    for kind, name in (("vdi", "a.vdi"), ("vmdk", "b.vmdk"), ("vhdx", "c.vhdx"), ("qed", "d.qed"), ("vpc -o force_size=on", "e.vhd")):
        t.sh("qemu-img convert -f raw -O %s /tmp/i/raw /tmp/i/%s" % (kind, name), 300)
        options += ["-d", "/tmp/i/%s,ro" % name]
    guest = t.boot(READ, modules="drivers", options=options)
    for disk in ("vda", "vdb", "vdc", "vdd", "vde"):
        t.equal(disk, guest.fact(disk, 300), "%d 1 %s" % (MIB << 11, was))
    guest.ends(0)


def dies(t, was):
    t.sh("qemu-img convert -f raw -O qcow2 /tmp/i/raw /tmp/i/disk.qcow2", 300)
    guest = t.boot(DIES, modules="drivers", options=["-d", "/tmp/i/disk.qcow2"])
    t.equal("what it reads", guest.fact("begins", 300), was)
    guest.fact("writes", 300)
    t.sh("kill -9 $(pidof qemu-storage-daemon)")
    guest.expect(r"disk0: qemu-storage-daemon killed by signal 9 \(Killed\); the guest gets I/O errors", 60)
    guest.fact("failed", 300)
    t.equal("whether the disk can be read", guest.fact("read", 60), "no")
    t.equal("the disk's size", guest.fact("state", 60), str(MIB << 11))
    guest.ends(0)
    t.check(not t.sh("pidof qemu-storage-daemon; true").strip(), "qemu-storage-daemon is left behind")


def test(t, way, **how):
    was = prepare(t)
    {"qcow2": qcow2, "formats": formats, "dies": dies}[way](t, was, **how)
