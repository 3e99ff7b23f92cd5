# SPDX-License-Identifier: BSD-2-Clause
"""--flash by the kernel's own drivers: what they read is the file, and what they erase and program is in it.

Debian's kernels are built without them, so they are made of its source package, as modules for its kernel.
"""

import os
import shutil
import subprocess
import tarfile

from bed import arch as arches
from bed import packages, ui

ON_REQUEST = True
KERNELS = [("full", "packaged")]
TIMEOUT = 300
SECONDS = 25
SIZE = 1 << 20
# Of the kernel's source, under drivers/mtd: all that knows of such chips, and of a place in memory.
SOURCES = ("chips/gen_probe.c", "chips/cfi_probe.c", "chips/cfi_util.c", "chips/cfi_cmdset_0001.c", "chips/fwh_lock.h",
           "maps/physmap-core.c", "maps/physmap-bt1-rom.h", "maps/physmap-gemini.h", "maps/physmap-ixp4xx.h",
           "maps/physmap-versatile.h")
SWITCHES = ("MTD_CFI", "MTD_CFI_UTIL", "MTD_CFI_INTELEXT", "MTD_GEN_PROBE", "MTD_PHYSMAP", "MTD_PHYSMAP_OF")
KBUILD = """
ccflags-y := %s
obj-m := gen_probe.o cfi_probe.o cfi_util.o cfi_cmdset_0001.o physmap.o
physmap-y := physmap-core.o
""" % " ".join("-DCONFIG_%s=1" % switch for switch in SWITCHES)
# In the order in which they load: first those that the kernel has.
SHIPPED = ("mtd.ko", "chips/chipreg.ko", "mtd_blkdevs.ko", "mtdblock.ko")
MADE = ("cfi_util.ko", "cfi_cmdset_0001.ko", "gen_probe.ko", "cfi_probe.ko", "physmap.ko")
MODULES = {}

SCRIPT = """
for module in ORDER; do insmod /mtd/$module || fact refused $module; done
until [ -b /dev/mtdblock0 ]; do sleep 0.1; done
fact chips $(dmesg | sed -n 's/.*: Found //p')
fact before $(md5sum </dev/mtdblock0)
yes trapline | head -c 300000 | dd of=/dev/mtdblock0 bs=65536 seek=2 conv=notrunc 2>/dev/null
sync
fact after $(md5sum </dev/mtdblock0)
"""


def build(folder):
    cache = packages.Cache(arches.find("arm64"))
    kernel = cache.kernel("full")
    version = ".".join(kernel.release.split(".")[:2])
    parts = cache.packages(["linux-headers-" + kernel.release, "linux-headers-%s-common" % kernel.release.rsplit("-", 1)[0]])
    kbuild, source = packages.Cache(arches.host()).packages(["linux-kbuild-" + version, "linux-source-" + version])
    root = os.path.join(os.path.abspath(folder), "flash-driver")
    drivers = os.path.join(root, "drivers")
    shutil.rmtree(root, ignore_errors=True)
    for part in parts + [kbuild]:
        shutil.copytree(part, root, symlinks=True, dirs_exist_ok=True)
    os.makedirs(drivers)
    wanted = {"linux-source-%s/drivers/mtd/%s" % (version, name) for name in SOURCES}
    with tarfile.open(os.path.join(source, "usr/src/linux-source-%s.tar.xz" % version)) as tar:
        for member in tar:
            if member.name in wanted:
                with open(os.path.join(drivers, os.path.basename(member.name)), "wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
                wanted.remove(member.name)
                if not wanted:
                    break
    with open(os.path.join(drivers, "Kbuild"), "w") as file:
        file.write(KBUILD)
    # The package's Makefile names the place where it would be installed.
    headers = os.path.join(root, "usr", "src", "linux-headers-" + kernel.release)
    with open(os.path.join(headers, "Makefile"), "w") as file:
        file.write("include %s/usr/src/linux-headers-%s-common/Makefile\n" % (root, kernel.release.rsplit("-", 1)[0]))
    run = subprocess.run(["make", "-C", headers, "M=" + drivers, "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "modules"],
                         text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        raise ui.Failure("the kernel's flash drivers are not built: %s" % " | ".join(run.stdout.strip().splitlines()[-3:]))
    for name in SHIPPED:
        MODULES[os.path.basename(name)] = os.path.join(kernel.modules, "kernel", "drivers", "mtd", name)
    for name in MADE:
        MODULES[name] = os.path.join(drivers, name)
    return []


def test(t):
    t.sh("yes abcdefg | head -c %d >/tmp/flash; cp /tmp/flash /tmp/was" % SIZE)
    files = [("mtd/" + name, open(path, "rb").read()) for name, path in MODULES.items()]
    guest = t.boot(SCRIPT.replace("ORDER", " ".join(MODULES)), kernel="full", image="packaged", files=files,
                   options=("--flash", "/tmp/flash"))
    chips = guest.fact("chips", 120)
    t.check(chips.startswith("2 x16 devices at 0x0 in 32-bit bank. Manufacturer ID 0x000089"), "the driver found %s" % chips)
    t.equal("what the driver reads", guest.fact("before").split()[0], t.sh("md5sum </tmp/was").split()[0])
    after = guest.fact("after", 60).split()[0]
    guest.ends(0)
    t.check("@refused" not in guest.log(), "a module did not load")
    t.equal("what is in the file", t.sh("md5sum </tmp/flash").split()[0], after)
    t.sh("yes trapline | head -c 300000 | dd of=/tmp/was bs=65536 seek=2 conv=notrunc 2>/dev/null")
    t.equal("what was to be in it", t.sh("md5sum </tmp/was").split()[0], after)
    t.note(chips)
