# SPDX-License-Identifier: BSD-2-Clause
"""A folder of the host's by virtiofsd: trees go in and out, files do what files do, a reboot, and the death of virtiofsd."""

import os
import re

import program

ALSO = {"arm64": ()}
KERNELS = [("cloud", "vmlinux")]
TIMEOUT = 1200
SECONDS = 200
CASES = {
    "pci": {"transport": "pci"},
    "mmio": {"transport": "mmio"},
}
PROGRAM = {}
# What p9.c finds of 9P: its magic number, and that there are no device files; trusted attributes, for which virtiofsd gives the
# capability up; locks of the host's, which virtiofsd does not look at.
OF_9P = ("statfs", "no device", "setxattr", "getxattr", "setxattr of one there", "listxattr", "removexattr",
         "what the host has locked", "who has")

# "held" is the file that somebody on the host has locked; virtiofsd keeps locks to the guest.
SCRIPT = '''
modprobe %(driver)s
modprobe virtiofs
mkdir -p /mnt /local /fixed
mount -t virtiofs share /mnt || fact step wrong mount
if ! [ -e /mnt/booted ]; then
	cp -a /mnt/tree /local/in
	fact in $(/prog sum /local/in)
	/prog make /mnt/made
	cp -a /local/in /mnt/out
	mkdir /mnt/many
	for i in $(seq 300); do echo $i >/mnt/many/$i; done
	fact many $(ls /mnt/many | wc -l) $(cat /mnt/many/* | md5sum | cut -c -32)
	dd if=/dev/urandom of=/mnt/large bs=64k count=256 2>/dev/null
	fact large $(md5sum </mnt/large | cut -c -32)
	mkdir /mnt/steps
	/prog steps /mnt/steps mmap | while read -r line; do fact step $line; done
	mount -t virtiofs fixed /fixed || fact step wrong mount
	touch /fixed/new 2>&1 | facts refused
	rm -f /fixed/tree/names/d/leaf 2>&1 | facts refused
	fact fixed $(/prog sum /fixed/tree)
	touch /mnt/booted
	sync
	reboot -f
fi
fact sum $(/prog sum /mnt/tree) $(/prog sum /mnt/made) $(/prog sum /mnt/out) $(cat /mnt/many/* | md5sum | cut -c -32) $(md5sum </mnt/large | cut -c -32)
read answer
ls /mnt >/dev/null 2>/error && fact dead no || fact dead yes
facts error </error
fact alive $(uname)
'''


def build(folder):
    PROGRAM["prog"] = program.build(folder, os.path.join(os.path.dirname(__file__), "p9.py"))
    return []


def test(t, transport):
    if t.inner.sh("[ -x /usr/lib/qemu/virtiofsd ]", 10)[0]:
        t.sh("mkdir -p /usr/lib/qemu")
        t.inner.install(program.packaged("/usr/lib/qemu/virtiofsd"), "/usr/lib/qemu/virtiofsd")
    t.inner.put("/tmp/prog", PROGRAM["prog"])
    t.sh("chmod 755 /tmp/prog; mkdir /tmp/share; /tmp/prog make /tmp/share/tree; mkdir -p /var/run; ulimit -n 4096")
    wanted = t.sh("/tmp/prog sum /tmp/share/tree").strip()
    driver = "virtio_pci" if transport == "pci" else "virtio_mmio"
    # The inner machine's root is an initramfs, which cannot be left by pivot_root().
    options = ["--fs", "/tmp/share,share,sandbox=chroot,transport=" + transport,
               "--fs", "/tmp/share,fixed,ro,sandbox=chroot,transport=" + transport]
    guest = t.boot(SCRIPT % {"driver": driver}, modules="drivers", files=PROGRAM.items(), memory="512", options=options)
    t.equal("what was copied in", guest.fact("in", 600), wanted)
    many = guest.fact("many", 600)
    t.check(many.startswith("300 "), "files in a folder: " + many)
    large = guest.fact("large", 600)
    t.equal("the folder that is only read", guest.fact("fixed", 600), wanted)
    t.equal("sums after a reboot", guest.fact("sum", 600), " ".join([wanted] * 3 + [many.split()[1], large]))
    steps = [line[6:] for line in guest.lines() if line.startswith("@step ")]
    bad = [step for step in steps if not step.startswith("ok ") and step[6:].partition(" (")[0] not in OF_9P]
    t.check(not bad, "\n".join(bad))
    t.check(steps and steps[-1].startswith("ok end"), "the program ended early: %s" % steps[-1:])
    refused = re.findall(r"^@\+refused (.*)$", guest.log(), re.M)
    t.check(len(refused) == 2 and all("Read-only file system" in line for line in refused), "refused: %s" % refused)
    for name in ("made", "out"):
        t.equal("what was copied out, " + name, t.sh("/tmp/prog sum /tmp/share/" + name).strip(), wanted)
    t.equal("the large file", t.sh("md5sum </tmp/share/large | cut -c -32").strip(), large)
    begin = len(guest.program.output())
    t.sh("kill -9 $(pidof virtiofsd)")
    # Of each of the two.
    guest.expect(r"virtiofsd killed by signal 9[^@]*virtiofsd killed by signal 9", 30, begin)
    guest.send("on\n")
    t.equal("whether there are errors", guest.fact("dead", 120), "yes")
    error = guest.facts("error")
    t.check(error and "not connected" in error[0], "the error: %s" % error)
    t.equal("whether the guest lives", guest.fact("alive"), "Linux")
    guest.ends(0)
    t.equal("virtiofsds that are left", t.sh("pidof virtiofsd; true").strip(), "")
    t.note("%d steps" % len(steps))
