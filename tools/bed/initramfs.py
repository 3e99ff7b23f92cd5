# SPDX-License-Identifier: BSD-2-Clause
"""Makes initial RAM file systems: uncompressed newc archives in pieces, which the kernel takes concatenated.

So the big pieces (busybox, modules) are made once and kept, and a test adds a small one of its own.
"""

import lzma
import os
import re
import stat
import subprocess

from . import packages
from .ui import Failure


class Archive:
    """One newc cpio archive, in memory."""

    def __init__(self):
        self._chunks = []
        self._known = set()
        self._ino = 0

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        self._ino += 1
        path = name.encode() + b"\0"
        fields = (self._ino, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._chunks += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        """A folder and those above it."""
        name = name.strip("/")
        if not name or name in self._known:
            return
        self.folder(os.path.dirname(name))
        self._known.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        name = name.strip("/")
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def link(self, name, target):
        name = name.strip("/")
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def node(self, name, major, minor, mode=0o600):
        name = name.strip("/")
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def copy(self, name, path, mode=0o755):
        """A file of the host."""
        with open(path, "rb") as file:
            self.file(name, file.read(), mode)

    def bytes(self):
        """The whole archive; a multiple of 512 bytes, so that pieces concatenate."""
        trailer = Archive()
        trailer._entry("TRAILER!!!", 0)
        data = b"".join(self._chunks + trailer._chunks)
        return data + b"\0" * (-len(data) % 512)


def base(busybox):
    """The piece that every initramfs begins with: busybox, its links, empty mount points, a console."""
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "root", "etc", "run", "lib/modules"):
        archive.folder(name)
    archive.node("dev/console", 5, 1)
    archive.node("dev/null", 1, 3, 0o666)
    archive.copy("bin/busybox", busybox)
    archive.link("bin/sh", "busybox")  # the rest is made by `busybox --install -s` where it is wanted
    archive.link("sbin", "bin")
    archive.link("usr/bin", "../bin")
    return archive.bytes()


class Modules:
    """The modules of an unpacked kernel package, which carries no index of them: read from the files themselves."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.paths = {}
        for folder, _, files in os.walk(kernel.modules):
            for file in files:
                match = re.match(r"(.+)\.ko(\.xz)?$", file)
                if match:
                    self.paths[match.group(1).replace("-", "_")] = os.path.join(folder, file)
        self.builtin = set()
        try:
            with open(os.path.join(kernel.modules, "modules.builtin")) as file:
                self.builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in file}
        except FileNotFoundError:
            pass
        self._data = {}

    def data(self, name):
        if name not in self._data:
            path = self.paths[name]
            with (lzma.open if path.endswith(".xz") else open)(path, "rb") as file:
                self._data[name] = file.read()
        return self._data[name]

    def _info(self, name, key):
        return [value.decode() for value in re.findall(rb"\0%s=([^\0]*)\0" % key.encode(), b"\0" + self.data(name))]

    def closure(self, names):
        """`names` and all that they need, in an order in which they can be loaded; what is built in is left out."""
        order = []

        def visit(name):
            name = name.replace("-", "_")
            if name in order or name in self.builtin:
                return
            if name not in self.paths:
                raise Failure("%s: no kernel module '%s'" % (self.kernel.package, name))
            for need in ",".join(self._info(name, "depends")).split(","):
                if need:
                    visit(need)
            order.append(name)

        for name in names:
            visit(name)
        return order

    def known(self, names):
        """Those of `names` that this kernel has as modules."""
        return [name for name in names if name.replace("-", "_") in self.paths]

    def files(self, names):
        """The modules, and an index with which busybox's modprobe finds them by name or alias: (path, bytes) of each."""
        folder = "lib/modules/%s" % self.kernel.release
        dep, alias = [], []
        for name in self.closure(names):
            yield "%s/%s.ko" % (folder, name), self.data(name)
            needs = [need for need in self.closure([name]) if need != name]
            dep.append("%s.ko:%s\n" % (name, "".join(" %s.ko" % need for need in reversed(needs))))
            alias += ["alias %s %s\n" % (text, name) for text in self._info(name, "alias")]
        yield folder + "/modules.dep", "".join(dep).encode()
        yield folder + "/modules.alias", "".join(alias).encode()
        yield folder + "/modules.symbols", b""

    def piece(self, names):
        """An archive of these files."""
        archive = Archive()
        for path, data in self.files(names):
            archive.file(path, data)
        return archive.bytes()


def libraries(program, folders=()):
    """The shared libraries that a program of this host needs: (path in the guest, path here) of each.

    The loader is among them, and those that it loads on demand, known by their names in it. Libraries in `folders` go
    before this host's, and count as being where they are.
    """
    found = _linked(program, folders)
    with open(program, "rb") as file:
        names = set(re.findall(rb"lib[\w+-]+\.so(?:\.[0-9]+)+(?=\0)", file.read()))
    for name in sorted(names - {os.path.basename(path).encode() for path, _ in found}):
        path = _library_path(name.decode())
        if path:
            found += [(path, os.path.realpath(path))] + _linked(path)
    return list(dict(found).items())


def _library_path(name):
    """Where this host has a library that is asked for by name, or None: the program gets on without it here too."""
    run = subprocess.run(["/sbin/ldconfig", "-p"], text=True, stdout=subprocess.PIPE, env=packages.ENVIRONMENT)
    match = re.search(r"^\s*%s \(.*\) => (\S+)$" % re.escape(name), run.stdout, re.M)
    return match and match.group(1)


def _linked(program, folders=()):
    run = subprocess.run(["ldd", program], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env=dict(packages.ENVIRONMENT, LD_LIBRARY_PATH=":".join(folders)))
    if run.returncode != 0:
        if "not a dynamic executable" in run.stdout or "statically linked" in run.stdout:
            return []
        raise Failure("ldd %s: %s" % (program, run.stdout.strip()))
    found = []
    for line in run.stdout.splitlines():
        match = re.match(r"\s*(?:\S+ => )?(/\S+) \(0x", line)
        if match:
            found.append((match.group(1), os.path.realpath(match.group(1))))
        elif "not found" in line:
            raise Failure("%s needs %s" % (program, line.strip()))
    return found
