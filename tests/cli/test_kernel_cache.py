#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Kernels that were unpacked once come from the cache, never a wrong or a damaged one, and the cache stays small."""
import fcntl
import glob
import gzip
import json
import lzma
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import flat  # noqa: E402
import halted  # noqa: E402
import packing  # noqa: E402
import tap  # noqa: E402

TRAPLINE, SHIM, SANITIZER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
DIR = tempfile.mkdtemp(prefix="trapline-cache-")
NOBODY = 65534
SETTLED = 2.2  # seconds after which a kernel may be kept
MOST = 8       # kernels that are


def packed(name, code, method=gzip.compress):
    """A bzImage with a flat guest in it; its path."""
    path = os.path.join(DIR, name)
    with open(flat.write(path + ".elf", code), "rb") as file:
        inner = file.read()
    with open(path, "wb") as file:
        file.write(packing.packed(inner, method))
    return path


SAY_AND_HALT = flat.say(b"!") + b"\xf4\xeb\xfd"
KERNEL = packed("kernel", SAY_AND_HALT)
OTHERS = [packed("kernel%d" % i, flat.say(b"!") + flat.POWER_OFF) for i in range(MOST + 2)]
# Unpacking and writing it take a while.
BIG = packed("big", SAY_AND_HALT.ljust(150 << 20, b"\x90"), lambda data: lzma.compress(data, preset=0))
BIG_ENDING = packed("big-ending", (flat.say(b"!") + flat.POWER_OFF).ljust(150 << 20, b"\x90"),
                    lambda data: lzma.compress(data, preset=0))
time.sleep(SETTLED)


class Cache:
    """A folder to be XDG_CACHE_HOME."""

    def __init__(self):
        self.base = tempfile.mkdtemp(dir=DIR)
        self.folder = os.path.join(self.base, "trapline", "kernels")
        self.env = {"XDG_CACHE_HOME": self.base}

    def files(self, ending=".kernel"):
        return sorted(glob.glob(os.path.join(self.folder, "*" + ending)))

    def dry(self, kernel=KERNEL, *args, env=None, **more):
        run = subprocess.run([TRAPLINE, "run", "--dry-run", "--json", "-k", kernel, *args], capture_output=True, text=True,
                             timeout=60, check=False, env={**os.environ, **self.env, **(env or {})}, **more)
        assert run.returncode == 0 and run.stderr == "", run
        return json.loads(run.stdout)["kernel"]

    def cached(self, kernel=KERNEL):
        return self.dry(kernel)["cached"]

    def boot(self, kernel=KERNEL, *args, env=None):
        return halted.Guest(TRAPLINE, kernel, *args, env={**self.env, **(env or {})})

    def fill(self, kernel=KERNEL):
        """Runs until the kernel is kept."""
        with self.boot(kernel):
            until(lambda: self.cached(kernel), "the kernel never came into the cache")
        return self

    def run(self, kernel, *args, **how):
        """A guest that ends by itself; what it said and what trapline did."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise tap.Skip("no usable /dev/kvm")
        run = subprocess.run([TRAPLINE, "run", "-k", kernel, *args], stdin=subprocess.DEVNULL, capture_output=True,
                             timeout=60, check=False, env={**os.environ, **self.env}, **how)
        assert run.returncode == 0 and run.stdout == b"!", run
        return run.stderr.decode()


def until(true, text, seconds=tap.PATIENCE):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, text
        time.sleep(0.002)


def stays(true, seconds=0.3):
    """What is not to happen has had time to."""
    time.sleep(seconds)
    return true()


def change(path, at, how):
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([how(byte)]))


def test_a_second_run_unpacks_nothing():
    cache = Cache()
    told = cache.dry()
    assert told["cached"] is False and told["cache"].startswith(cache.folder) and told["cache_note"] is None, told
    assert os.listdir(cache.base) == [], "a dry run wrote"
    cache.fill()
    assert cache.files() == [told["cache"]] and cache.files(".new") == []
    for path in (cache.folder, os.path.dirname(cache.folder)):
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert os.stat(told["cache"]).st_mode & 0o777 == 0o600
    with cache.boot(KERNEL, "--debug") as guest:
        assert "came unpacked from the cache" in guest.end()
    if SANITIZER == "none":
        # Without its decoder nothing is unpacked.
        without = {"LD_PRELOAD": SHIM, "SHIM_NO_LIBRARY": "libz.so.1"}
        kept = cache.dry(env=without)
        assert kept["cached"] and kept["unpacked"] == "gzip" and kept["entry"] == told["entry"], kept
        assert cache.dry(KERNEL, "--no-kernel-cache", env=without)["unpacked"] is None


def test_text_of_a_dry_run():
    cache = Cache()

    def line():
        text = subprocess.run([TRAPLINE, "run", "--dry-run", KERNEL], capture_output=True, text=True, check=True,
                              env={**os.environ, **cache.env}).stdout
        return [found for found in text.splitlines() if found.startswith("kernel cache")]
    path = cache.dry()["cache"]
    assert line() == ["kernel cache  a run would keep it in " + path]
    cache.fill()
    assert line() == ["kernel cache  it comes from " + path]
    cache.env = {"XDG_CACHE_HOME": "/dev/null"}
    assert line()[0].startswith("kernel cache  none: '/dev/null'"), line()


def test_no_kernel_cache():
    cache = Cache()
    with cache.boot(KERNEL, "--no-kernel-cache"):
        assert stays(lambda: os.listdir(cache.base) == [])
    cache.fill()
    told = cache.dry(KERNEL, "--no-kernel-cache")
    assert told["cached"] is False and told["cache"] is None and told["cache_note"] is None, told


def test_only_what_is_unpacked_is_kept():
    cache = Cache()
    for args in ((KERNEL + ".elf",), (KERNEL, "--boot", "bzimage64")):
        assert cache.dry(*args)["cache"] is None
    with cache.boot(KERNEL + ".elf"):
        assert stays(lambda: os.listdir(cache.base) == [])


def test_a_changed_kernel_is_another():
    path = os.path.join(DIR, "changing")
    shutil.copy(KERNEL, path)
    os.utime(path, ns=(10**18, 10**18))
    cache = Cache()
    with cache.boot(path):
        assert stays(lambda: not cache.files()), "kept, though it has only just been written"
    time.sleep(SETTLED)
    cache.fill(path)
    # Of the same name, inode, size and time of modification.
    with open(OTHERS[0], "rb") as file:
        other = file.read()
    assert len(other) == os.path.getsize(path)
    with open(path, "r+b") as file:
        file.write(other)
    os.utime(path, ns=(10**18, 10**18))
    assert not cache.cached(path)
    cache.run(path)
    time.sleep(SETTLED)
    assert not cache.cached(path)
    run_until_kept(cache, path)
    assert len(cache.files()) == 1, cache.files()
    cache.run(path)


def run_until_kept(cache, path):
    """Runs of a guest that ends at once, which may be before its kernel is kept."""
    for _ in range(50):
        cache.run(path)
        if cache.cached(path):
            return
    raise AssertionError("fifty runs, and it is not kept")


def test_what_is_damaged_is_not_taken_and_replaced():
    def truncated(path):
        os.truncate(path, os.path.getsize(path) - 1)

    def empty(path):
        os.truncate(path, 0)

    def zeros(path):  # what a crash leaves of a file whose data was not on the disk yet
        size = os.path.getsize(path)
        os.truncate(path, 4096)
        os.truncate(path, size)

    for damage in (truncated, empty, zeros, lambda path: change(path, -1, lambda b: b ^ 1),
                   lambda path: change(path, 8192, lambda b: b ^ 0x80), lambda path: change(path, 4096, lambda b: b ^ 1),
                   lambda path: change(path, 7, lambda b: b + 1), lambda path: change(path, 16, lambda b: b ^ 1),
                   lambda path: change(path, 100, lambda b: b ^ 1), lambda path: os.truncate(path, 1000)):
        cache = Cache().fill()
        damage(cache.files()[0])
        told = cache.dry()
        assert told["cached"] is False and told["unpacked"] == "gzip", told
        cache.fill()


def test_nobody_elses_file_or_folder_is_trusted():
    elsewhere = Cache().fill()
    kept = os.path.basename(elsewhere.files()[0])
    cache = Cache()
    os.makedirs(cache.folder, 0o700)
    os.symlink(elsewhere.files()[0], os.path.join(cache.folder, kept))
    assert not cache.cached(), "it followed a link"
    os.unlink(os.path.join(cache.folder, kept))
    os.rmdir(cache.folder)
    os.symlink(elsewhere.folder, cache.folder)
    told = cache.dry()
    assert not told["cached"] and told["cache"] is None and cache.folder in told["cache_note"], told
    with cache.boot():
        assert stays(lambda: os.path.islink(cache.folder))
    for path in (elsewhere.folder, os.path.dirname(elsewhere.folder)):
        os.chmod(path, 0o770)
        told = elsewhere.dry()
        assert not told["cached"] and "others can write" in told["cache_note"], told
        os.chmod(path, 0o700)
    os.chmod(elsewhere.files()[0], 0o620)
    assert not elsewhere.cached()
    os.chmod(elsewhere.files()[0], 0o600)
    assert elsewhere.cached()
    if os.getuid() == 0:
        os.chown(elsewhere.files()[0], NOBODY, NOBODY)
        assert not elsewhere.cached()
        os.chown(elsewhere.files()[0], 0, 0)
        os.chown(elsewhere.folder, NOBODY, NOBODY)
        assert "somebody else" in elsewhere.dry()["cache_note"]


def test_a_folder_that_cannot_be_written():
    cache = Cache()
    os.makedirs(cache.folder, 0o700)
    how = {}
    if os.getuid() == 0:
        if subprocess.run([TRAPLINE, "version"], user=NOBODY, capture_output=True, check=False).returncode:
            raise tap.Skip("nobody cannot run the program where it lies")
        for path in (DIR, cache.base, os.path.dirname(cache.folder)):
            os.chmod(path, 0o755)
        for path in (os.path.dirname(cache.folder), cache.folder):
            os.chown(path, NOBODY, NOBODY)
        how["user"] = NOBODY
    os.chmod(cache.folder, 0o500)
    told = cache.dry(**how)
    assert told["cached"] is False and told["cache"] is None and "Permission denied" in told["cache_note"], told


def test_a_full_disk_is_no_error():
    cache = Cache()
    log = cache.run(OTHERS[0], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)))
    assert log == "" and cache.files("*") == [], (log, cache.files("*"))
    cache.env = {"XDG_CACHE_HOME": "/proc/self"}  # no folder can be made there
    assert cache.run(OTHERS[0]) == ""


def test_without_a_home_there_is_none():
    cache = Cache()
    for env in ({"XDG_CACHE_HOME": "", "HOME": ""}, {"XDG_CACHE_HOME": "relative", "HOME": "home"}):
        cache.env = env
        told = cache.dry()
        assert told["cache"] is None and "$HOME" in told["cache_note"], told
        cache.run(OTHERS[0], cwd=DIR)
    home = tempfile.mkdtemp(dir=DIR)
    cache.env = {"XDG_CACHE_HOME": "relative", "HOME": home}
    cache.fill()
    assert cache.dry()["cache"].startswith(home + "/.cache/trapline/kernels/")
    assert os.stat(home + "/.cache").st_mode & 0o777 == 0o700


def test_two_at_a_time():
    cache = Cache()
    with cache.boot(BIG, "-m", "256"), cache.boot(BIG, "-m", "256"), cache.boot(KERNEL):
        until(lambda: cache.cached(BIG) and cache.cached(), "not both are kept")
        until(lambda: not cache.files(".new"), "something half-made stayed")
    assert len(cache.files()) == 2


def test_what_another_run_writes_is_left_alone():
    cache = Cache()
    os.makedirs(cache.folder, 0o700)
    path = cache.dry()["cache"].replace(".kernel", ".new")
    with open(path, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with cache.boot():
            assert stays(lambda: not cache.files() and os.path.getsize(path) == 0)
    # Its writer is dead now: the next takes the file over.
    cache.fill()
    assert cache.files(".new") == []


def test_what_is_left_of_a_killed_run_goes():
    cache = Cache()
    with cache.boot(BIG, "-m", "256") as guest:
        until(lambda: cache.files(".new") or cache.files(), "it writes nothing")
        guest.process.kill()
        guest.process.wait()
    if cache.files():
        raise tap.Skip("it was whole before it could be killed")
    assert len(cache.files(".new")) == 1
    assert not cache.cached(BIG)
    cache.fill(KERNEL)
    until(lambda: not cache.files(".new"), "what was left of another kernel stayed")


def test_an_end_does_not_wait_for_the_cache():
    cache = Cache()
    cache.run(BIG_ENDING, "-m", "256")
    assert cache.files(".new") == [], "something half-made stayed"


def test_few_are_kept_those_used_last():
    cache = Cache()
    for kernel in OTHERS[:MOST]:
        run_until_kept(cache, kernel)
    assert len(cache.files()) == MOST
    time.sleep(0.02)
    cache.run(OTHERS[0])
    for kernel in OTHERS[MOST:]:
        run_until_kept(cache, kernel)
    until(lambda: len(cache.files()) == MOST, "%d are kept" % len(cache.files()))
    kept = [kernel for kernel in OTHERS if cache.cached(kernel)]
    assert kept == OTHERS[:1] + OTHERS[3:], [os.path.basename(kernel) for kernel in kept]


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
