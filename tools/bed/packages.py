# SPDX-License-Identifier: BSD-2-Clause
"""A cache of Debian packages, downloaded and unpacked under build/cache, never installed.

build/cache/ARCH/PACKAGE/           the unpacked package
build/cache/ARCH/META.kernel        names the package that the meta package META asked for when it was fetched
build/cache/ARCH/PACKAGE.libraries  names the packages with the libraries that this one needs
build/cache/ARCH/.apt/              private apt state, only where the host's own knows no such package

Everything is made under a temporary name and renamed when whole, so an interrupted run leaves nothing half made.
"""

import contextlib
import dataclasses
import fcntl
import glob
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile

from . import arch as arches
from .ui import Failure, Stage

ENVIRONMENT = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")


def top():
    """The project's top folder."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cache_folder():
    return os.environ.get("TRAPLINE_CACHE") or os.path.join(top(), "build", "cache")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel package, unpacked."""

    flavour: str
    package: str
    folder: str
    release: str  # as in `uname -r`
    image: str    # the file to boot, as packaged

    @property
    def modules(self):
        # Newer packages have theirs in /usr/lib.
        found = os.path.join(self.folder, "usr", "lib", "modules", self.release)
        return found if os.path.isdir(found) else os.path.join(self.folder, "lib", "modules", self.release)

    @property
    def vmlinux(self):
        """The ELF kernel inside a bzImage, unpacked once and kept beside it; a flat Image is not packed."""
        with open(self.image, "rb") as file:
            if file.read(64)[56:60] == b"ARM\x64":
                return self.image
        path = os.path.join(self.folder, "vmlinux")
        if not os.path.exists(path):
            with locked(self.folder + ".lock"):
                if not os.path.exists(path):
                    unpack_bzimage(self.image, path)
        return path


class Cache:
    def __init__(self, arch, show=True):
        self.arch = arch
        self.show = show
        # What the host's own apt has.
        self.own = arch.debian == _host_debian_arch() and arch.suite == arches.host().suite
        self.folder = os.path.join(cache_folder(), arch.name)
        os.makedirs(self.folder, exist_ok=True)

    def of(self, flavour):
        """The cache with a flavour's packages: this one, or that of another architecture or release."""
        if flavour not in self.arch.guests:
            return self
        debian, suite, meta = self.arch.guests[flavour]
        name = debian if suite == self.arch.suite else "%s-%s" % (debian, suite)
        return Cache(dataclasses.replace(self.arch, name=name, debian=debian, suite=suite, kernels={flavour: meta},
                                         guests={}), self.show)

    def kernel(self, flavour, update=False):
        """The kernel of a flavour ("cloud", "full"); downloaded when it is not there, or on request when it is old."""
        if flavour in self.arch.guests:
            return self.of(flavour).kernel(flavour, update)
        if flavour not in self.arch.kernels:
            raise Failure("no kernel flavour '%s' for %s; there is %s"
                          % (flavour, self.arch.name, ", ".join(sorted(self.arch.kernels))))
        meta = self.arch.kernels[flavour]
        note = os.path.join(self.folder, meta + ".kernel")
        with locked(os.path.join(self.folder, ".lock")):
            package = "" if update else _first_line(note)
            if not package or not os.path.isdir(os.path.join(self.folder, package)):
                package = self._depends(meta, "linux-image-[0-9][^ ,]*")[0]
                # Newer ones have nothing but the names of those that hold the kernel and its modules.
                parts = self._depends(package, "linux-(?:base|binary|modules)-[0-9][^ ,]*",
                                      needed=False)
                self._fetch(parts or [package], into=package)
                write_whole(note, package + "\n")
        folder = os.path.join(self.folder, package)
        images = sorted(glob.glob(os.path.join(folder, "boot", "vmlinu[xz]-*")))
        if images:
            return Kernel(flavour, package, folder, re.sub(r"^vmlinu[xz]-", "", os.path.basename(images[-1])), images[-1])
        images = sorted(glob.glob(os.path.join(folder, "usr", "lib", "modules", "*", "vmlinuz")))
        if not images:
            raise Failure("%s: package %s holds no boot/vmlinuz-*, nor usr/lib/modules/*/vmlinuz" % (folder, package))
        return Kernel(flavour, package, folder, os.path.basename(os.path.dirname(images[-1])), images[-1])

    def package(self, name):
        """The folder of any package, unpacked."""
        return self.packages([name])[0]

    def packages(self, names):
        """The folders of several."""
        folders = [os.path.join(self.folder, name) for name in names]
        with locked(os.path.join(self.folder, ".lock")):
            missing = [name for name, folder in zip(names, folders) if not os.path.isdir(folder)]
            if missing:
                self._fetch(missing)
        return folders

    def libraries(self, name):
        """The folders of the packages with libraries that a package needs, all the way down; the C library's is left out."""
        note = os.path.join(self.folder, name + ".libraries")
        if not os.path.exists(note):
            with locked(os.path.join(self.folder, ".lock")):
                write_whole(note, " ".join(self._needs(name)) + "\n")
        return self.packages(_first_line(note).split())

    def command(self, package, program):
        """Words that run a package's program with its own release's libraries, the C library among them."""
        folder, libc = self.packages([package, "libc6"])
        places = [place for place in (os.path.join(folder, "usr", "lib", self.arch.triplet)
                                      for folder in [libc] + self.libraries(package)) if os.path.isdir(place)]
        loaders = glob.glob(os.path.join(libc, "usr", "lib*", "ld-linux-*.so.*"))
        if not loaders:
            raise Failure("%s: package libc6 has no usr/lib*/ld-linux-*.so.*" % libc)
        return [loaders[0], "--library-path", ":".join(places), os.path.join(folder, "usr", "bin", program)]

    def busybox(self):
        """A static busybox of this architecture."""
        folder = self.package("busybox-static")
        # Newer releases have it in /usr alone.
        for sub in ("bin", "usr/bin"):
            path = os.path.join(folder, sub, "busybox")
            if os.path.exists(path):
                return path
        raise Failure("%s: package busybox-static has no bin/busybox" % folder)

    # apt

    def _private(self):
        """Options that give apt lists of its own: no root needed, and any architecture."""
        state = os.path.join(self.folder, ".apt")
        for sub in ("lists/partial", "cache/archives/partial", "etc"):
            os.makedirs(os.path.join(state, sub), exist_ok=True)
        options = ["Dir::State::Lists=%s/lists" % state, "Dir::Cache=%s/cache" % state,
                   "APT::Architecture=%s" % self.arch.debian, "APT::Architectures::=%s" % self.arch.debian]
        if not self.own:
            # What the host has installed, and prefers, is of another release.
            options += ["Dir::State::status=/dev/null", "Dir::Etc::Preferences=/dev/null",
                        "Dir::Etc::PreferencesParts=/dev/null"]
            sources = os.path.join(state, "etc", "sources.list")
            write_whole(sources, self._foreign_sources())
            options += ["Dir::Etc::SourceList=%s" % sources, "Dir::Etc::SourceParts=/dev/null"]
        return options

    def _foreign_sources(self):
        """The host's own Debian mirror, for the suite that this architecture's row names."""
        out = _output(["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(ORIGIN)|$(REPO_URI)|$(CODENAME)"])
        for line in out.splitlines():
            kind, origin, uri, codename = line.split("|")
            if kind == "Packages" and origin == "Debian" and "-" not in codename:
                keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
                return "deb [signed-by=%s] %s %s main\n" % (keyring, uri, self.arch.suite)
        raise Failure("packages of %s: apt on this host names no Debian mirror; add one and run 'apt-get update'"
                      % self.arch.debian)

    def _attempts(self):
        """Option lists to try in turn: the host's lists, private lists, private lists brought up to date."""
        if self.own:
            yield []
        private = self._private()
        if os.listdir(os.path.join(self.folder, ".apt", "lists")) != ["partial"]:
            yield private
        with Stage("package lists (apt-get update, kept under %s)" % _short(self.folder), self.show):
            run = subprocess.run(["apt-get", "update", "-qq"] + _dash_o(private), env=ENVIRONMENT, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if run.returncode != 0:
            raise Failure("apt-get update failed: %s" % _last_line(run.stdout))
        yield private

    def _depends(self, package, pattern, needed=True):
        """What a package depends on by names of this pattern, of the newest version."""
        for options in self._attempts():
            out = _output(["apt-cache"] + _dash_o(options) + ["show", "--no-all-versions", package])
            match = re.search(r"^Depends:.*", out, re.M)
            found = re.findall(r"\b" + pattern, match.group()) if match else []
            if found or (match and not needed):
                return found
        raise Failure("package %s: apt knows no such package, or none that it depends on" % package)

    def _needs(self, name):
        """Names of the packages that a package needs for their libraries."""
        for options in self._attempts():
            out = _output(["apt-cache"] + _dash_o(options) + ["depends", "--recurse", "--important", name])
            names = set(re.findall(r"^(?:lib|zlib)\S*", out, re.M)) - {"libc6"}
            if names:
                return sorted(other for other in names if not re.search(r"-(bin|data|common|modules|db|doc)$|^libpam|:", other))
        raise Failure("package %s: apt knows no such package" % name)

    def _fetch(self, names, into=None):
        """Each into a folder of its name, or all into one."""
        what = names[0] if len(names) == 1 else "%s and %d more" % (names[0], len(names) - 1)
        with Stage("download %s" % what, self.show) as stage, tempfile.TemporaryDirectory(
                prefix=".fetch-", dir=self.folder) as temporary:
            for options in self._attempts():
                # Downloading as root warns that user _apt cannot write here; that is the intention.
                run = subprocess.run(["apt-get", "-q", "download"] + _dash_o(options + ["APT::Sandbox::User=root"])
                                     + names, env=ENVIRONMENT, cwd=temporary, text=True,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                debs = {os.path.basename(path).partition("_")[0]: path
                        for path in glob.glob(os.path.join(temporary, "*.deb"))}
                if run.returncode == 0 and all(name in debs for name in names):
                    break
            else:
                raise Failure("package %s cannot be downloaded: %s" % (what, _last_line(run.stdout)))
            stage.detail = "%.1f MB" % (sum(os.path.getsize(path) for path in debs.values()) / 1e6)
            tree = os.path.join(temporary, "tree")
            for name in names:
                self._unpack(name, debs[name], tree)
                if not into or name == names[-1]:
                    target = os.path.join(self.folder, into or name)
                    shutil.rmtree(target, ignore_errors=True)
                    os.rename(tree, target)

    @staticmethod
    def _unpack(name, deb, tree):
        run = subprocess.run(["dpkg-deb", "-x", deb, tree], text=True, stderr=subprocess.PIPE)
        if run.returncode != 0:
            raise Failure("package %s cannot be unpacked: %s" % (name, _last_line(run.stderr)))
        os.chmod(tree, 0o755)


# bzImage

# (first bytes, what unpacks them): a program that filters stdin to stdout, or None for Python's own lzma.
_FORMATS = (
    (b"\x02\x21\x4c\x18", ["lz4", "-dc"], "lz4"),
    (b"\xfd7zXZ\x00", None, None),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"], "zstd"),
    (b"\x1f\x8b", ["gzip", "-dc"], "gzip"),
)


def unpack_bzimage(image, target):
    """Writes the ELF kernel in a bzImage to `target` (the boot protocol's payload_offset and payload_length)."""
    with open(image, "rb") as file:
        data = file.read()
    if data[0x202:0x206] != b"HdrS":
        raise Failure("%s: no bzImage" % image)
    setup_sectors = data[0x1F1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = data[start:start + length]
    for magic, program, package in _FORMATS:
        if not payload.startswith(magic):
            continue
        if program is None:
            elf = lzma.LZMADecompressor().decompress(payload)
        else:
            if not shutil.which(program[0]):
                raise Failure("%s: package %s is needed to unpack it" % (image, package))
            # The payload's last word is its unpacked length, which these programs call trailing garbage.
            elf = subprocess.run(program, input=payload[:-4], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL).stdout
        if not elf.startswith(b"\x7fELF"):
            raise Failure("%s: its payload does not unpack to an ELF kernel" % image)
        write_whole(target, elf)
        return
    raise Failure("%s: unknown compression %s" % (image, payload[:4].hex()))


# small helpers


def _host_debian_arch():
    return _output(["dpkg", "--print-architecture"]).strip()


def _dash_o(options):
    return [word for option in ["Acquire::Retries=3"] + options for word in ("-o", option)]


def _output(command):
    try:
        return subprocess.run(command, env=ENVIRONMENT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout
    except FileNotFoundError:
        raise Failure("'%s' is not here: kernels are fetched as Debian packages, which needs apt" % command[0])


def _first_line(path):
    try:
        with open(path) as file:
            return file.readline().strip()
    except FileNotFoundError:
        return ""


def _last_line(text):
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _short(path):
    relative = os.path.relpath(path, top())
    return path if relative.startswith("..") else relative


def write_whole(path, data, mode=0o644):
    """Writes a file under a temporary name, then renames it."""
    handle, temporary = tempfile.mkstemp(prefix=".write-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.chmod(temporary, mode)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(path):
    """Held by one process or thread at a time; goes with the process."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
