# SPDX-License-Identifier: BSD-2-Clause
"""A stock 32-bit kernel, Debian's for i686, as packaged, by its 32-bit entry to init and power-off."""

import dataclasses
import json
import os
import shlex

from bed import arch, initramfs, packages

KERNELS = ()
SECONDS = 15
# The package of another architecture, unpacked beside the others; the guest's busybox is of that one too.
I386 = dataclasses.replace(arch.find("x86_64"), name="i386", debian="i386", kernels={"686": "linux-image-686"})

GUEST = """
fact machine $(uname -m)
fact cpus $(nproc)
fact memory $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
"""


def build(folder):
    cache = packages.Cache(I386)
    base = os.path.join(folder, "base.i386")
    with open(base, "wb") as file:
        file.write(initramfs.base(cache.busybox()))
    return [("/lab/686", cache.kernel("686").image), ("/lab/base.i386", base)]


def test(t):
    initrd = t.initrd(GUEST)
    t.sh("cat /lab/base.i386 %s.test >%s" % (initrd, initrd))
    options = ("-k", "/lab/686", "-i", initrd, "-p", "cryptomgr.notests quiet", "-m", "300", "-c", "2")
    told = json.loads(t.sh("trapline run %s --dry-run --json" % " ".join(shlex.quote(word) for word in options)))["kernel"]
    t.equal("the way", told["boot"], "bzimage32")
    t.equal("the kernel", told["kind"], "32-bit bzImage")
    guest = t.start(["trapline", "run", *options])
    t.note("init after %s s" % guest.fact("init", 90))
    t.equal("the guest's CPU", guest.fact("machine"), "i686")
    t.equal("processors that the guest sees", guest.fact("cpus"), "2")
    mib = int(guest.fact("memory")) / 1024
    t.check(240 < mib < 300, "the guest sees %.0f MiB" % mib)
    guest.ends(0)
