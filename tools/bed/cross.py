# SPDX-License-Identifier: BSD-2-Clause
"""Building for another architecture with Debian's cross compiler: its libraries, unpacked and put together in one folder,
and the file that tells meson about them. Nothing of it is installed.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile

from . import initramfs, packages
from .ui import Failure

# What trapline and its tests are linked with, or load.
LIBRARIES = ("liburcu-dev", "liburcu8", "libjansson-dev", "libjansson4", "libcmocka-dev", "libcmocka0", "zlib1g-dev", "zlib1g",
             "liblzma-dev", "liblzma5", "libzstd-dev", "libzstd1", "liblz4-dev", "liblz4-1", "libbz2-dev", "libbz2-1.0",
             "libfdt-dev", "libfdt1")

CROSS_FILE = """\
[binaries]
c = '{prefix}gcc'
ar = '{prefix}ar'
strip = '{prefix}strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['{emulator}', '-L', '/usr/{triplet}', '-E', 'LD_LIBRARY_PATH={libraries}']

[properties]
sys_root = '{sysroot}'
pkg_config_libdir = '{libraries}/pkgconfig'
library_dirs = ['{libraries}']

[built-in options]
c_args = ['-isystem', '{sysroot}/usr/include', '-isystem', '{sysroot}/usr/include/{triplet}']
c_link_args = ['-L{libraries}', '-Wl,-rpath-link,{libraries}']

[host_machine]
system = 'linux'
cpu_family = '{family}'
cpu = '{family}'
endian = 'little'
"""


def libraries(arch, cache, program):
    """The shared libraries that a program of an architecture needs: (path in a guest, path here) of each."""
    if arch.family == platform.machine():
        return initramfs.libraries(program)
    return Cross(arch, cache).libraries_of(program)


class Cross:
    """An architecture's libraries, downloaded and put together when they are first asked for."""

    def __init__(self, arch, cache=None):
        self.arch = arch
        self.cache = cache or packages.Cache(arch)
        self.sysroot = os.path.join(self.cache.folder, "sysroot")
        self.libraries = os.path.join(self.sysroot, "usr", "lib", arch.triplet)
        self.more = []  # folders with libraries of programs that are no builds of ours

    def prepare(self):
        folders = self.cache.packages(list(LIBRARIES))
        with packages.locked(self.sysroot + ".lock"):
            if os.path.isdir(self.sysroot):
                return
            temporary = tempfile.mkdtemp(prefix=".sysroot-", dir=self.cache.folder)
            for folder in folders:
                shutil.copytree(folder, temporary, symlinks=True, dirs_exist_ok=True)
            # Some packages have theirs in /lib, which is the same place.
            if os.path.isdir(os.path.join(temporary, "lib")):
                shutil.copytree(os.path.join(temporary, "lib"), os.path.join(temporary, "usr", "lib"), symlinks=True,
                                dirs_exist_ok=True)
            os.rename(temporary, self.sysroot)

    def write_file(self, path):
        """Meson's cross file."""
        self.prepare()
        text = CROSS_FILE.format(prefix=self.arch.triplet + "-", emulator=self.arch.emulator, triplet=self.arch.triplet,
                                 sysroot=self.sysroot, libraries=self.libraries, family=self.arch.family)
        with open(path, "w") as file:
            file.write(text)

    def program(self, path):
        """A program that this host has at `path`, of that architecture: from the same package, unpacked; its path here."""
        run = subprocess.run(["dpkg", "-S", path], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env=packages.ENVIRONMENT)
        if run.returncode != 0:
            raise Failure("%s is of no package that is installed here" % path)
        found = os.path.join(self.cache.package(run.stdout.partition(":")[0]), path.lstrip("/"))
        if not os.path.exists(found):
            raise Failure("%s: that package of %s has no such file" % (found, self.arch.name))
        return found

    def _packaged(self, program):
        """Looks also where the libraries of a program are that came out of a package."""
        package = os.path.relpath(program, self.cache.folder).split(os.sep)[0]
        if package in ("..", "sysroot"):
            return
        for folder in self.cache.libraries(package):
            self.more += [os.path.join(folder, lib, self.arch.triplet) for lib in ("usr/lib", "lib")]

    def find_library(self, name):
        """Where a shared library of this name is: a path here, or None."""
        for folder in [self.libraries, "/usr/%s/lib" % self.arch.triplet] + self.more:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return os.path.realpath(path)
        return None

    def libraries_of(self, program):
        """The shared libraries that a program needs, and those that it loads on demand: (path in a guest, path here)."""
        self._packaged(program)
        with open(program, "rb") as file:
            wanted = self._needed(program) + [name.decode() for name in sorted(set(
                re.findall(rb"lib[\w+-]+\.so(?:\.[0-9]+)+(?=\0)", file.read())))]
        found = {}
        while wanted:
            name = wanted.pop(0)
            path = self.find_library(name)
            if name in found or not path:
                continue
            found[name] = path
            wanted += self._needed(path)
        return [("/lib/%s" % name if name.startswith("ld-") else "/lib/%s/%s" % (self.arch.triplet, name), path)
                for name, path in found.items()]

    def _needed(self, program):
        """Names of the shared libraries that a program is linked with, its loader's among them."""
        run = subprocess.run([self.arch.triplet + "-readelf", "-Wdl", program], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=packages.ENVIRONMENT)
        if run.returncode != 0:
            raise Failure("%s: not a program of %s" % (program, self.arch.name))
        names = []
        for line in run.stdout.splitlines():
            if "(NEEDED)" in line or "program interpreter:" in line:
                names.append(os.path.basename(line.rpartition("[")[2].rstrip("]").rpartition(" ")[2]))
        return names
