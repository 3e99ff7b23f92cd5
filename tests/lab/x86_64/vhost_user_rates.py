# SPDX-License-Identifier: BSD-2-Clause
"""What a request costs: small reads of a disk of ours, of one that another program serves, and of that with reconnect."""

import re

import program

CASES = {"": {}}
ON_REQUEST = True
TIMEOUT = 900
SECONDS = 120

COUNT = 500

# One at a time, past the guest's cache; the host's cache has it all.
SCRIPT = '''
modprobe virtio_pci
modprobe virtio_blk
for pass in 1 2 3; do
	for disk in %(disks)s; do
		begin=$(cut -d " " -f 1 /proc/uptime)
		dd if=/dev/$disk of=/dev/null bs=4k count=%(count)d iflag=direct 2>/dev/null || fact bad $disk
		fact time $disk $begin $(cut -d " " -f 1 /proc/uptime)
	done
done
fact done
'''

STORAGE = '''
qemu-storage-daemon --blockdev driver=file,node-name=f,filename=/tmp/disk \\
	--export type=vhost-user-blk,id=a,addr.type=unix,addr.path=/tmp/a,node-name=f \\
	--export type=vhost-user-blk,id=b,addr.type=unix,addr.path=/tmp/b,node-name=f >/dev/null 2>&1 &
echo $! >/tmp/storage.pid
'''


def test(t):
    if t.inner.sh("[ -x /bin/qemu-storage-daemon ]", 10)[0]:
        t.inner.install(program.packaged("/usr/bin/qemu-storage-daemon"), "/bin/qemu-storage-daemon")
    t.sh("dd if=/dev/urandom of=/tmp/disk bs=64k count=256; cp /tmp/disk /tmp/ours")
    t.sh(STORAGE)
    guest = t.boot(SCRIPT % {"disks": "vda vdb vdc", "count": COUNT}, modules="drivers",
                   options=["-d", "/tmp/ours,queues=1", "--vhost-user", "blk,socket=/tmp/a,wait=60",
                            "--vhost-user", "blk,socket=/tmp/b,wait=60,reconnect"])
    guest.fact("done", 800)
    t.check("@bad" not in guest.log(), "a disk cannot be read")
    best = {}
    for disk, begin, end in re.findall(r"^@time (\w+) ([\d.]+) ([\d.]+)", guest.log(), re.M):
        best[disk] = min(best.get(disk, 1e9), (float(end) - float(begin)) / COUNT * 1e6)
    for disk, what in (("vda", "ours"), ("vdb", "vhost-user"), ("vdc", "reconnect")):
        t.note("%s %.0f us" % (what, best[disk]))
        t.figures[what] = round(best[disk])
    guest.ends(0)
    t.sh("kill -9 $(cat /tmp/storage.pid)")
