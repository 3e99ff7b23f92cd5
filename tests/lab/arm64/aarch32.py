# SPDX-License-Identifier: BSD-2-Clause
"""A stock 32-bit kernel to init, through a reboot, and to power-off; with LPAE it has the RAM that is beyond 4 GiB."""

import json

CASES = {"1cpu": {"kernel": "armmp", "image": "packaged", "cpus": 1},
         "2cpu": {"kernel": "armmp", "image": "packaged", "cpus": 2},
         # The processors have one, and the tree tells of it; Debian's 32-bit kernels, 13's too, are built without its driver.
         "pmu": {"kernel": "armmp", "image": "packaged", "cpus": 2, "options": ("--pmu",)},
         # Which kernel, where none is named.
         "unnamed": {"kernel": "armmp", "image": "packaged", "cpus": 0},
         "gicv2": {"kernel": "armmp", "image": "packaged", "cpus": 2, "bed": "gicv2"},
         "lpae": {"kernel": "armmp-lpae", "image": "packaged", "cpus": 1, "memory": 3072}}
KERNELS = [("cloud", "packaged"), ("armmp", "packaged"), ("armmp-lpae", "packaged")]
ON_REQUEST = ("1cpu", "pmu", "gicv2", "lpae")
TIMEOUT = 400
SECONDS = 60
# With one, the emulator does not get a second 32-bit vCPU past its start.
INNER_CPUS = 2

SCRIPT = """
fact cpus $(nproc)
fact machine $(uname -m)
fact total $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
fact gic $(awk '/arch_timer/ { print $(NF - 3) }' /proc/interrupts | head -1)
fact clock $(cat /sys/class/rtc/rtc0/name)
modprobe virtio_pci
modprobe virtio_blk
fact read $(md5sum </dev/vda)
fact pmu $(tr '\\0' ' ' </proc/device-tree/pmu/compatible)
fact irqs $(grep virtio /proc/interrupts)
read answer
[ $answer = again ] && reboot -f
"""


def unnamed(t, kernel):
    """The host's own is no kernel for --aarch32; that of the build tree it stands in is."""
    t.sh("mkdir -p /boot /tmp/tree/arch/arm/boot; ln -sf %s /boot/vmlinuz-$(uname -r)" % t.kernel("cloud", "packaged"))
    said = t.sh("cd /tmp/tree && trapline run --aarch32", status=3).strip()
    t.check("no kernel was named, and none found: looked at ./zImage, ./arch/arm/boot/zImage, " in said and "-k" in said, said)
    t.sh("cd /tmp/tree && trapline run --dry-run")
    t.sh("ln -sf %s /tmp/tree/arch/arm/boot/zImage" % kernel)
    for folder in ("", "/arch/arm/boot", "/arch/arm"):
        machine = json.loads(t.sh("cd /tmp/tree%s && trapline run --aarch32 --dry-run --json" % folder))
        t.equal("how it is started", machine["kernel"]["boot"], "zimage")
    t.sh("rm -r /boot/vmlinuz-$(uname -r) /tmp/tree")
    t.note(said)


def test(t, kernel, image, cpus, bed="", memory=256, options=()):
    if not cpus:
        unnamed(t, t.kernel(kernel, image))
        return
    t.sh("seq -w 1 999999 | head -c 1048576 >/tmp/disk.img")
    guest = t.boot(SCRIPT, kernel=kernel, image=image, cpus=cpus, memory=memory, modules="drivers",
                   options=("--aarch32", "-d", "/tmp/disk.img", *options))
    for start in range(2):
        up = guest.fact("init", 180, again=True)
        if start == 0:
            t.note("init after %s s" % up)
        t.equal("processors that the guest sees", guest.fact("cpus", again=True), str(cpus))
        t.equal("what they are", guest.fact("machine", again=True), "armv7l")
        mib = int(guest.fact("total", again=True)) / 1024
        t.check(memory * 0.8 < mib < memory, "the guest sees %.0f of %d MiB" % (mib, memory))
        t.equal("the interrupt controller", guest.fact("gic", again=True), "GIC-0" if bed == "gicv2" else "GICv3")
        t.equal("the clock", guest.fact("clock", again=True).split()[0], "rtc-pl031")
        t.equal("the disk", guest.fact("read", 120, again=True).split()[0], t.sh("md5sum </tmp/disk.img").split()[0])
        t.equal("the tree's PMU", guest.fact("pmu", again=True), "arm,armv8-pmuv3" if "--pmu" in options else "")
        irqs = guest.fact("irqs", again=True)
        guest.send("off\n" if start else "again\n")
    guest.ends(0)
    t.note("%.0f MiB; %s" % (mib, " ".join(irqs.split())))
