# SPDX-License-Identifier: BSD-2-Clause
"""A folder of the host's is mounted by the kernel's 9p: trees go in and out, and files do what files do, cached and not."""

import re

import program

ALSO = {"arm64": ()}
KERNELS = [("full", "vmlinux")]
TIMEOUT = 1200
SECONDS = 90
CASES = {
    "pci": {"transport": "pci", "caches": ("loose", "none")},
    "large": {"transport": "pci", "caches": ("none",), "files": 790},
    "pci-legacy": {"transport": "pci-legacy", "caches": ("none",)},
    "mmio": {"transport": "mmio", "caches": ("mmap",), "files": 36},
    "mmio-legacy": {"transport": "mmio-legacy", "caches": ("none",)},
}
ON_REQUEST = ("large",)  # 200 MB
PROGRAM = {}

SCRIPT = '''
modprobe %(driver)s
modprobe 9pnet_virtio
modprobe 9p
mkdir -p /mnt /local
options=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o $options,cache=none share /mnt || fact step wrong mount
cp -a /mnt/tree /local/in
fact in $(/prog sum /local/in)
/prog make /mnt/made %(files)d
fact made $(cut -d " " -f 1 /proc/uptime)
cp -a /local/in /mnt/out
fact df $(df /mnt | tail -n 1)
umount /mnt
for cache in %(caches)s; do
	mount -t 9p -o $options,cache=$cache share /mnt || fact step wrong mount
	fact sum-$cache $(/prog sum /mnt/tree) $(/prog sum /mnt/made) $(/prog sum /mnt/out)
	mkdir /mnt/$cache
	mv /mnt/held /mnt/$cache
	mapped=mmap
	[ $cache = none ] && mapped=-
	/prog steps /mnt/$cache $mapped | while read -r line; do fact step $line; done
	mv /mnt/$cache/held /mnt
	umount /mnt
done
mount -t 9p -o $options fixed /mnt
touch /mnt/new 2>&1 | facts refused
rm -f /mnt/tree/names/d/leaf 2>&1 | facts refused
fact fixed $(/prog sum /mnt/tree)
umount /mnt
fact done
'''


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t, transport, caches, files=0):
    t.inner.put("/tmp/prog", PROGRAM["prog"])
    t.sh("chmod 755 /tmp/prog; mkdir /tmp/share; /tmp/prog make /tmp/share/tree %d" % files, 300)
    t.sh("/tmp/prog hold /tmp/share/held >/dev/null 2>&1 & echo $! >/tmp/holder; sleep 1; kill -0 $!")
    wanted = t.sh("/tmp/prog sum /tmp/share/tree", 300).strip()
    mib = int(t.sh("du -s -k /tmp/share/tree").split()[0]) // 1024
    driver = "virtio_pci" if "pci" in transport else "virtio_mmio"
    guest = t.boot(SCRIPT % {"driver": driver, "caches": " ".join(caches), "files": files}, kernel="full", modules="full",
                   files=PROGRAM.items(), memory="768",
                   options=["--9p", "/tmp/share,share,transport=%s" % transport,
                            "--9p", "/tmp/share,fixed,ro,transport=%s" % transport])
    t.equal("what was copied in", guest.fact("in", 500), wanted)
    t.check(re.match(r"share \d+ \d+ \d+ ", guest.fact("df", 500)), "df shows '%s'" % guest.log())
    for cache in caches:
        t.equal("sums with cache=" + cache, guest.fact("sum-" + cache, 200), " ".join([wanted] * 3))
    guest.fact("done", 200)
    steps = [line[6:] for line in guest.lines() if line.startswith("@step ")]
    bad = [step for step in steps if not step.startswith("ok ")]
    t.check(not bad, "\n".join(bad))
    t.equal("programs that reached their end", len([s for s in steps if s.startswith("ok end")]), len(caches))
    refused = re.findall(r"^@\+refused (.*)$", guest.log(), re.M)
    t.check(len(refused) == 2 and all("Read-only file system" in line for line in refused), "refused: %s" % refused)
    t.equal("the folder that is only read", guest.fact("fixed"), wanted)
    guest.ends(0)
    for name in ("made", "out"):
        t.equal("what was copied out, " + name, t.sh("/tmp/prog sum /tmp/share/" + name, 300).strip(), wanted)
    t.sh("kill $(cat /tmp/holder)")
    t.note("%d steps, trees of %d MiB" % (len(steps), mib))
