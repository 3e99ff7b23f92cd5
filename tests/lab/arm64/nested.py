# SPDX-License-Identifier: BSD-2-Clause
"""A guest with EL2 has KVM of its own, and boots a guest in it by this same program; a reset leaves it there."""

import os

from bed import arch as arches
from bed import cross, initramfs, packages

CASES = {"kvm": {"bed": "nested", "options": ()}, "user": {"bed": "nested", "options": ("--psci", "user")}}
ON_REQUEST = ("user",)
# The guest's and the innermost one's.
KERNELS = [("newer", "packaged")]
TIMEOUT = 400
SECONDS = 100

# The guest's own guest.
INNERMOST = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox dmesg -n 1
/bin/busybox printf '\\n@innermost %s\\n' "$(/bin/busybox dmesg | /bin/busybox sed -n 's/.*started at //p')"
/bin/busybox printf '\\n@innermost-init %s\\n' "$(/bin/busybox sed 's/ .*//' /proc/uptime)"
/bin/busybox poweroff -f
"""

# At the first start it is enough that there is KVM: what a reset leaves is seen at the second.
SCRIPT = """
fact level $(dmesg | sed -n 's/.*All CPU(s) started at //p')
fact cpus $(nproc)
fact conduit $(cat /proc/device-tree/psci/method)
facts kvm <<END
$(dmesg | grep 'kvm \\[')
END
read answer
[ $answer = again ] && reboot -f
modprobe virtio_pci
modprobe virtio_blk
head -c SIZE /dev/vda >/Image
trapline run -k /Image -i /inner.cpio -m 128 -p quiet </dev/null
fact status $?
fact maintenance $(awk '/ vgic$/ { for (i = 2; i <= 3; i++) n += $i } END { print n + 0 }' /proc/interrupts)
"""


def files(t):
    """This program, what it needs, and an initrd for the innermost guest."""
    machine = arches.find("arm64")
    archive = initramfs.Archive()
    archive.file("init", INNERMOST, 0o755)
    path = os.path.join(t.build, "trapline")
    found = [("bin/trapline", path)] + [(name.lstrip("/"), place) for name, place in cross.libraries(machine, None, path)]
    inner = initramfs.base(packages.Cache(machine).busybox()) + archive.bytes()
    return [(name, open(place, "rb").read()) for name, place in found] + [("inner.cpio", inner)]


def test(t, bed, options):
    image = t.kernel("newer", "packaged")
    size = t.sh("stat -c %%s %s" % image).strip()
    t.sh("{ cat %s; head -c 511 /dev/zero; } | head -c %d >/tmp/disk" % (image, (int(size) + 511) // 512 * 512))
    guest = t.boot(SCRIPT.replace("SIZE", size), files=files(t), modules="drivers", kernel="newer", image="packaged", cpus=2,
                   memory=512, options=("--nested", "-d", "/tmp/disk,ro", *options))
    for start in range(2):
        t.equal("where the guest's kernel starts", guest.fact("level", 120, again=True), "EL2")
        t.equal("processors", guest.fact("cpus", again=True), "2")
        t.equal("how it calls its firmware", guest.fact("conduit", again=True).strip("\0"), "smc")
        guest.fact("kvm", again=True)
        guest.send("on\n" if start else "again\n")
    t.equal("starts that have KVM", len([line for line in guest.facts("kvm") if "VHE mode initialized successfully" in line]), 2)
    t.equal("where the innermost kernel starts", guest.fact("innermost", 200), "EL1")
    t.equal("how the innermost guest ends", guest.fact("status", 90), "0")
    t.check(int(guest.fact("maintenance")) > 0, "no maintenance interrupt came to the guest's KVM")
    # To take a guest with EL2 apart takes KVM ten seconds here.
    guest.ends(0, 120)
    t.note("init after %s s, the innermost guest's after %s s" % (guest.fact("init"), guest.fact("innermost-init")))
