#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a start costs is what it was meant to cost: libraries, memory slots."""
import os
import re
import select
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, os.path.join(HERE, "..", "bench"))
import startup  # noqa: E402
import tap  # noqa: E402

TRAPLINE, SHIM, SANITIZER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
DIR = tempfile.TemporaryDirectory(prefix="trapline-start-")
KERNEL = os.path.join(DIR.name, "kernel")
with open(KERNEL, "wb") as file:
    file.write(startup.kernel(startup.PAYLOAD))

# Each costs every start its mapping and its relocations: one that only an option needs is loaded by that option.
LIBRARIES = {"libc.so.6", "ld-linux-x86-64.so.2", "liburcu-memb.so.8", "liburcu-common.so.8"}


class Guest:
    """One that has said its byte and halts, until the end of the block."""

    def __init__(self, *args, env=None):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise tap.Skip("no usable /dev/kvm")
        self.process = subprocess.Popen([TRAPLINE, "run", "-k", KERNEL, "-m", "64", *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, **(env or {})})

    def __enter__(self):
        assert select.select([self.process.stdout], [], [], 20)[0], "it says nothing"
        assert self.process.stdout.read(1) == b"!", self.process.stderr.read().decode()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Its standard error."""
        self.process.terminate()
        return self.process.communicate(timeout=20)[1].decode()

    def proc(self, name):
        with open("/proc/%d/%s" % (self.process.pid, name)) as proc:
            return proc.read()


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
    with Guest() as guest:
        mapped = {os.path.basename(path) for path in re.findall(r"(\S+\.so[.\d]*)$", guest.proc("maps"), re.M)}
    # liburcu-memb.so.8.0.0 is the file behind liburcu-memb.so.8.
    more = {name for name in mapped if not name.startswith(tuple(LIBRARIES))}
    assert "libc.so.6" in mapped and not more, more


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
        with Guest(*args, env={"LD_PRELOAD": SHIM}) as guest:
            text = guest.end()
        assert f"slots: {slots} before, 0 after" in text, text


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
