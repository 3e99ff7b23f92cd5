# SPDX-License-Identifier: BSD-2-Clause
"""A flat guest that says one byte and halts, for tests that look at trapline meanwhile."""
import os
import select
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, os.path.join(HERE, "..", "bench"))
import startup  # noqa: E402
import tap  # noqa: E402

# The build's test runner has malloc() fill what it gives, and that makes all of it resident.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"}


class Guest:
    """One that has said its byte and halts, until the end of the block."""

    def __init__(self, trapline, kernel_path, *args, env=None):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise tap.Skip("no usable /dev/kvm")
        self.process = subprocess.Popen([trapline, "run", "-k", kernel_path, *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**ENVIRONMENT, **(env or {})})

    def __enter__(self):
        assert select.select([self.process.stdout], [], [], tap.PATIENCE)[0], "it says nothing"
        assert self.process.stdout.read(1) == b"!", self.process.stderr.read().decode()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Its standard error."""
        self.process.terminate()
        return self.process.communicate(timeout=tap.PATIENCE)[1].decode()

    def proc(self, name):
        with open("/proc/%d/%s" % (self.process.pid, name)) as proc:
            return proc.read()


def kernel(folder):
    """Makes its kernel in a folder; the path."""
    path = os.path.join(folder, "kernel")
    with open(path, "wb") as file:
        file.write(startup.kernel(startup.PAYLOAD))
    return path
