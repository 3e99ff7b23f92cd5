# SPDX-License-Identifier: BSD-2-Clause
"""A disk that qemu-storage-daemon serves: written, read back, killed and restarted in mid-write, there after a reboot."""

import program

ALSO = {"arm64": ()}
CASES = {
    "pci": {"transport": "pci"},
    "pci-reconnect": {"transport": "pci", "reconnect": True},
    "mmio": {"transport": "mmio"},
    "mmio-reconnect": {"transport": "mmio", "reconnect": True},
    "pci-2cpu-reconnect": {"transport": "pci", "reconnect": True, "cpus": 2},
}
TIMEOUT = 600
SECONDS = 60

MIB = 48
PART = 8  # MiB that are written at a time
PARTS = 4

# A disk that does not say "done" at its end is the first boot's.
SCRIPT = '''
modprobe DRIVER
modprobe virtio_blk
last=$(($(cat /sys/block/vda/size) - 1))
sums() {
	echo 3 >/proc/sys/vm/drop_caches
	for i in $(seq 0 PARTS1); do dd if=/dev/vda bs=64k skip=$((i * BLOCKS)) count=BLOCKS 2>/dev/null | md5sum | cut -c -32; done
}
if [ "$(dd if=/dev/vda bs=512 skip=$last count=1 2>/dev/null | head -c 4)" != done ]; then
	fact size $(($last + 1)) $(ls /sys/block/vda/mq | wc -l)
	fact first $(dd if=/dev/vda bs=64k count=BLOCKS 2>/dev/null | md5sum | cut -c -32)
	for i in $(seq 0 PARTS1); do
		dd if=/dev/urandom of=/data bs=64k count=BLOCKS 2>/dev/null
		md5sum </data | cut -c -32 >>/wanted
		fact begins $i
		dd if=/data of=/dev/vda bs=64k seek=$((i * BLOCKS)) conv=fsync 2>/dev/null && fact wrote $i || fact wrote bad
	done
	sums >/got
	cmp -s /wanted /got && fact same yes || fact same no
	fact sums $(cat /got)
	echo done | dd of=/dev/vda bs=512 seek=$last conv=sync,fsync 2>/dev/null
	reboot -f
fi
fact again $(sums)
'''

STORAGE = '''
qemu-storage-daemon --blockdev driver=file,node-name=f,filename=/tmp/disk,cache.direct=off \\
	--export type=vhost-user-blk,id=e,addr.type=unix,addr.path=/tmp/blk,node-name=f,writable=on,num-queues=%d \\
	>/tmp/storage.log 2>&1 &
echo $! >/tmp/storage.pid
'''


def test(t, transport, reconnect=False, cpus=1):
    if t.inner.sh("[ -x /bin/qemu-storage-daemon ]", 10)[0]:
        t.inner.install(program.packaged("/usr/bin/qemu-storage-daemon"), "/bin/qemu-storage-daemon")
    t.sh("dd if=/dev/urandom of=/tmp/disk bs=64k count=%d" % (MIB * 16))
    blocks = PART * 16
    first = t.sh("dd if=/tmp/disk bs=64k count=%d 2>/dev/null | md5sum | cut -c -32" % blocks).strip()
    script = SCRIPT.replace("PARTS1", str(PARTS - 1)).replace("BLOCKS", str(blocks))
    option = "blk,socket=/tmp/blk,wait=60,transport=" + transport + (",reconnect" if reconnect else "")
    # It comes later than trapline, which waits.
    t.sh("( sleep 3; %s ) >/dev/null 2>&1 &" % (STORAGE % cpus))
    guest = t.boot(script.replace("DRIVER", "virtio_pci" if transport == "pci" else "virtio_mmio"), modules="drivers",
                   cpus=cpus, options=["--vhost-user", option])
    t.equal("size and queues", guest.fact("size", 120), "%d %d" % (MIB << 11, cpus))
    t.equal("what it reads", guest.fact("first", 60), first)
    for part in range(PARTS):
        t.equal("what it begins", guest.fact("begins", 120, again=True), str(part))
        if reconnect:
            # In the middle of it, and away for longer each time.
            t.sh("sleep 0.%d; kill -9 $(cat /tmp/storage.pid); sleep %d; %s" % (part + 1, part, STORAGE % cpus))
        t.equal("what it wrote", guest.fact("wrote", 120, again=True), str(part))
    t.equal("whether it reads what it wrote", guest.fact("same", 120), "yes")
    sums = guest.fact("sums")
    t.equal("what it reads after the reboot", guest.fact("again", 240), sums)
    guest.ends(0)
    host = t.sh("for i in $(seq 0 %d); do dd if=/tmp/disk bs=64k skip=$((i * %d)) count=%d 2>/dev/null | md5sum | cut -c -32; done"
                % (PARTS - 1, blocks, blocks))
    t.equal("what the host has", host.split(), sums.split())
    if reconnect:
        t.check("it is back" in guest.log(), "trapline does not say that the program is back")
    t.sh("kill -9 $(cat /tmp/storage.pid)")
