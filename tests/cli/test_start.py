#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a start costs is what it was meant to cost: libraries, memory slots."""
import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import halted  # noqa: E402
import packing  # noqa: E402
import smaps  # noqa: E402
import tap  # noqa: E402

TRAPLINE, SHIM, SANITIZER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
MIB = 64
# KiB: the target, of a release build. What is not optimised is larger.
RESIDENT = 3072 if sys.argv[4] == "debug" else 2560
DIR = tempfile.TemporaryDirectory(prefix="trapline-start-")
KERNEL = halted.kernel(DIR.name)

# Each costs every start its mapping and its relocations: one that only an option needs is loaded by that option.
LIBRARIES = {"libc.so.6", "ld-linux-x86-64.so.2", "liburcu-memb.so.8", "liburcu-common.so.8"}


def guest_of(*args, env=None):
    return halted.Guest(TRAPLINE, KERNEL, "-m", str(MIB), *args, env=env)


def no_sanitizer():
    if SANITIZER != "none":
        raise tap.Skip("a sanitizer brings its own")


def test_libraries_that_the_program_names():
    no_sanitizer()
    text = subprocess.run(["readelf", "-dW", TRAPLINE], stdout=subprocess.PIPE, text=True, check=True).stdout
    named = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
    assert named <= LIBRARIES, "loaded at every start: " + ", ".join(named - LIBRARIES)


def test_libraries_that_a_run_has_mapped():
    no_sanitizer()
    with guest_of() as guest:
        mapped = {os.path.basename(path) for path in re.findall(r"(\S+\.so[.\d]*)$", guest.proc("maps"), re.M)}
    # liburcu-memb.so.8.0.0 is the file behind liburcu-memb.so.8.
    more = {name for name in mapped if not name.startswith(tuple(LIBRARIES))}
    assert "libc.so.6" in mapped and not more, more


def test_nothing_of_unpacking_is_left_in_a_run():
    no_sanitizer()
    with open(KERNEL, "rb") as file:
        inner = file.read()
    kib = []
    for name, method in (("gzip", gzip.compress), ("xz", lzma.compress), ("bzip2", bz2.compress)):
        path = os.path.join(DIR.name, name)
        with open(path, "wb") as file:
            file.write(packing.packed(inner, method))
        with halted.Guest(TRAPLINE, path, "-m", str(MIB), "--debug") as guest:
            maps = guest.proc("maps")
            kib.append(smaps.beyond(smaps.parse(guest.proc("smaps")), MIB))
        assert not re.search(r"/lib(z|lzma|bz2)\.so", maps), maps
    # The decoders took megabytes; what is left is code that ran, and a heap that is not whole again.
    assert max(k["resident"] for k in kib) <= RESIDENT + 128 and max(k["anonymous"] for k in kib) <= 512, kib


def test_json_without_its_library_is_told():
    no_sanitizer()
    folder = tempfile.mkdtemp(dir=DIR.name)
    with open(os.path.join(folder, "libjansson.so.4"), "wb") as library:
        library.write(b"not a library")
    done = subprocess.run([TRAPLINE, "run", "--dry-run", "--json", "-k", KERNEL], capture_output=True, text=True,
                          env={**os.environ, "LD_LIBRARY_PATH": folder}, check=False)
    assert done.returncode == 1 and done.stdout == "", done
    assert "libjansson.so.4" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_all_memory_slots_come_before_the_interrupt_controllers():
    no_sanitizer()
    for args, slots in (((), 1), (("-m", "5G", "--pci-test"), 2)):
        with guest_of(*args, env={"LD_PRELOAD": SHIM}) as guest:
            text = guest.end()
        assert f"slots: {slots} before, 0 after" in text, text


def test_guest_ram_is_aligned_for_huge_pages_and_asks_for_them():
    with guest_of() as guest:
        ram = smaps.ram(smaps.parse(guest.proc("smaps")), MIB)
    assert len(ram) == 1 and ram[0].begin % (2 << 20) == 0, ram
    assert "hg" in ram[0].flags, ram[0].flags


def test_little_memory_beyond_the_guests():
    no_sanitizer()
    with guest_of() as one, guest_of("-c", "9") as nine:
        kib = [smaps.beyond(smaps.parse(guest.proc("smaps")), MIB) for guest in (one, nine)]
    assert kib[0]["resident"] <= RESIDENT and kib[0]["anonymous"] <= 512, kib
    assert kib[1]["resident"] - kib[0]["resident"] <= 8 * 100, kib


STAGES = ["options", "host", "vm", "memory", "console", "board", "images", "devices", "kvm", "loading", "guest", "irqchip",
          "vcpus", "load", "threads", "entry"]


def test_timings_tell_of_every_stage():
    begin = time.monotonic()
    with guest_of("--timings", "--json") as guest:
        wall = (time.monotonic() - begin) * 1e6
        line = guest.process.stderr.readline().decode()
    told = json.loads(line)
    names = [stage["name"] for stage in told["stages"]]
    assert [name for name in names if name in STAGES] == STAGES, names
    total = sum(stage["us"] for stage in told["stages"])
    assert abs(total - told["total_us"]) < 1, (total, told)
    assert 0 < told["total_us"] < wall and 0 < told["before_cpu_us"] < wall, (told, wall)


def test_timings_as_a_table():
    with guest_of("--timings") as guest:
        lines = [guest.process.stderr.readline().decode() for _ in range(len(STAGES) + 2)]
    assert all(re.match(r"trapline: [a-z' ]+ +[0-9]+\.[0-9] us$", line) for line in lines), lines


def test_timings_are_of_a_run():
    done = subprocess.run([TRAPLINE, "run", "--dry-run", "--timings", "-k", KERNEL], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and "--timings tells of a run" in done.stderr, done


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
