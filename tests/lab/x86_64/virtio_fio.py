# SPDX-License-Identifier: BSD-2-Clause
"""Debian's fio: random I/O by libaio, io_uring and psync at once, one at a time and 32, all of it read back and verified."""

import os
import shutil
import subprocess

from bed import arch, initramfs, packages, ui

CASES = {
    "pci": {"transport": "pci", "driver": "virtio_pci"},
    "mmio": {"transport": "mmio", "driver": "virtio_mmio"},
    "direct": {"transport": "pci", "driver": "virtio_pci", "direct": True},
    "long": {"transport": "pci", "driver": "virtio_pci", "mib": 64},
}
ON_REQUEST = ("mmio", "direct", "long")
INNER_CPUS = 2
TIMEOUT = 600
SECONDS = 40

# What Debian's fio is linked with, as far as a host may not have it.
PACKAGES = """
    fio libaio1 libargon2-1 libboost-iostreams1.74.0 libboost-thread1.74.0 libcryptsetup12 libdaxctl1 libdevmapper1.02.1 libfmt9
    libgfapi0 libgfrpc0 libgfxdr0 libglusterfs0 libibverbs1 libicu72 libjson-c5 libkmod2 libnbd0 libndctl6 libnl-3-200
    libnl-route-3-200 libnuma1 libpmem1 libpmemblk1 librados2 librbd1 librdmacm1 libtirpc3 libxml2""".split()

MIB = 2  # of each job
# Engine, depth, bytes a request.
JOBS = (("libaio", 1, "16k"), ("libaio", 32, "4k"), ("io_uring", 1, "64k"), ("io_uring", 32, "4k"), ("psync", 1, "8k"))

# Each request is written once, in random order, then all are read. Their heads tell offsets and a number of this run, so that
# what is old, or another's, is wrong too.
GLOBAL = """
[global]
filename=/dev/vda
direct=1
rw=randwrite
verify=crc32c
verify_interval=4k
verify_fatal=1
randrepeat=0
size=%dm
group_reporting=0
"""

SCRIPT = '''
modprobe DRIVER
modprobe virtio_blk
mkdir /fio /dev/shm
mount -t tmpfs shm /dev/shm
mount -t ext4 -o ro /dev/vdb /fio
fact queues $(ls /sys/block/vda/mq | wc -l)
/fio/lib/ld-linux-x86-64.so.2 --library-path /fio/lib /fio/fio --output-format=terse --output=/out /jobs >/words 2>&1
fact status $?
facts words </words
facts out </out
sync
echo 3 >/proc/sys/vm/drop_caches
fact whole $(md5sum </dev/vda)
'''


def build(folder):
    """An image with fio and all its libraries, made once."""
    global IMAGE
    IMAGE = os.path.join(folder, "lab", "fio.img")
    if os.path.exists(IMAGE):
        return []
    folders = packages.Cache(arch.find("x86_64")).packages(PACKAGES)
    places = sorted({path for top in folders for path, _, names in os.walk(top) if any(".so." in name for name in names)})
    program = os.path.join(folders[0], "usr", "bin", "fio")
    tree = os.path.join(folder, "lab", "fio.tree")
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "lib"))
    shutil.copy(program, tree)
    for name, path in initramfs.libraries(program, places):
        shutil.copy(path, os.path.join(tree, "lib", os.path.basename(name)))
    run = subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, IMAGE + ".new", "128m"],
                         text=True, stderr=subprocess.PIPE)
    shutil.rmtree(tree)
    if run.returncode != 0:
        raise ui.Failure("%s: %s" % (IMAGE, run.stderr.strip()))
    os.chmod(IMAGE + ".new", 0o444)
    os.rename(IMAGE + ".new", IMAGE)
    return []


def jobs(mib):
    text = GLOBAL % mib
    for number, (engine, depth, bs) in enumerate(JOBS):
        text += "[%s-%d]\nioengine=%s\niodepth=%d\nbs=%s\noffset=%dm\n" % (
            engine, depth, engine, depth, bs, number * mib)
    return text


def test(t, transport, driver, direct=False, mib=MIB):
    size = mib * len(JOBS) << 20
    # Past the cache goes what lies on a disk.
    t.restart([IMAGE, t.image("disk", size)] if direct else [IMAGE])
    disk = "/dev/vdb" if direct else "/tmp/a"
    t.sh("truncate -s %d /tmp/a" % size)
    guest = t.boot(SCRIPT.replace("DRIVER", driver), files=[("jobs", jobs(mib).encode())], modules="drivers", cpus=2,
                   memory="384", options=["--virtio-transport", transport, "-d", disk + ",direct" * direct,
                                     "-d", "/dev/vda,ro"])
    t.equal("queues", guest.fact("queues", 90), "2")
    status = guest.fact("status", 500)
    t.equal("fio's status (it said %s)" % guest.facts("words"), status, "0")
    results = [line.split(";") for line in guest.facts("out") if line.count(";") > 50]
    # Of the fields the fifth is the error, then come KiB read and, after the 46th, KiB written.
    t.equal("jobs, errors, KiB read and written",
            sorted((words[2], words[4], words[5], words[46]) for words in results),
            sorted(("%s-%d" % job[:2], "0", str(mib << 10), str(mib << 10)) for job in JOBS))
    whole = guest.fact("whole", 90).split()[0]
    guest.ends(0)
    t.equal("what the host has", t.sh("md5sum <" + disk).split()[0], whole)
    t.note("%d MiB each way" % (mib * len(JOBS)))
