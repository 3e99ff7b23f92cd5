# SPDX-License-Identifier: BSD-2-Clause
"""qemu-storage-daemon is killed with many requests in its hands: each gets an error, once, and the disk's next life is served."""

import re

import program

CASES = {
    "pci": {"transport": "pci"},
    "mmio": {"transport": "mmio"},
}
INNER_CPUS = 2
TIMEOUT = 600
SECONDS = 60
PROGRAM = {}

DEATHS = 4
CPUS = 2

# A program that takes too long to start, as on a busy host, is ended, and a disk that fails as well: then the life after that.
SCRIPT = '''
for module in virtio_pci virtio_mmio virtio_blk; do modprobe $module; done
device=$(basename $(readlink -f /sys/block/vda/device))
fact queues $(ls /sys/block/vda/mq | wc -l)
readable() { dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; }
next_life() {
	for try in $(seq 20); do
		echo $device >/sys/bus/virtio/drivers/virtio_blk/unbind
		echo $device >/sys/bus/virtio/drivers/virtio_blk/bind
		readable && return
	done
}
for i in $(seq DEATHS); do
	/prog /dev/vda CPUS | while read -r line; do fact step $line; done
	next_life
done
readable && fact served yes || fact served no
dmesg >/dmesg
facts dmesg </dmesg
'''


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t, transport):
    for name in ("qemu-storage-daemon", "qemu-img"):
        if t.inner.sh("[ -x /bin/%s ]" % name, 10)[0]:
            t.inner.install(program.packaged("/usr/bin/" + name), "/bin/" + name)
    t.sh("qemu-img create -q -f qcow2 /tmp/dies.qcow2 64M")
    guest = t.boot(SCRIPT.replace("DEATHS", str(DEATHS)).replace("CPUS", str(CPUS)), files=list(PROGRAM.items()),
                   modules="drivers", cpus=CPUS, options=["-d", "/tmp/dies.qcow2,transport=" + transport])
    t.equal("queues", guest.fact("queues", 120), str(CPUS))
    failed = []
    for death in range(DEATHS):
        t.equal("what it does", guest.fact("step", 300, again=True), "ok load")
        t.sh("usleep %d; kill -9 $(pidof qemu-storage-daemon)" % (death * 130000))
        ended = guest.fact("step", 300, again=True)
        t.check(ended.startswith("ok end"), ended)
        failed.append(int(re.search(r"(\d+) failed", ended).group(1)))
    t.equal("whether the disk's next life is served", guest.fact("served", 120), "yes")
    words = guest.facts("dmesg", 60)
    t.check(any("I/O error" in line for line in words), "the guest's kernel tells of no error")
    for line in words:
        t.check(not re.search("is not a head|blocked for more than", line), line)
    said = re.findall(r"disk0: qemu-storage-daemon killed by signal 9 \(Killed\); the guest gets I/O errors", guest.log())
    t.check(len(said) >= DEATHS, "trapline tells of %d deaths, not of %d" % (len(said), DEATHS))
    t.check(min(failed) >= 1 and max(failed) > CPUS, "nothing was under way: %s failed" % failed)
    guest.ends(0)
    t.check(not t.sh("pidof qemu-storage-daemon; true").strip(), "qemu-storage-daemon is left behind")
    t.note("failed: " + ", ".join(map(str, failed)))
