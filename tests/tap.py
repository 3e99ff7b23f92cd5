# SPDX-License-Identifier: BSD-2-Clause
"""Test functions to TAP, so that the build's test runner counts each of them."""
import os
import sys
import tempfile
import time
import traceback

# However busy the machine is. Who waits this long in vain has found a fault.
PATIENCE = 60

# The user's cache of unpacked kernels is not for tests to read or to fill: no folder, no cache. Tests of it have their own.
os.environ["XDG_CACHE_HOME"] = "/dev/null"

# All that a test program makes with tempfile is in here, and goes with it. The name is short, for names of sockets are;
# other users may look, for some tests are run as one.
PLACE = tempfile.TemporaryDirectory(prefix="trapline-")
os.chmod(PLACE.name, 0o755)
tempfile.tempdir = PLACE.name


class Skip(Exception):
    """Raised by a test whose prerequisite is truly absent; its text says which."""


def until(happened, what):
    """Waits for an event: that `happened()` is true. Returns what it returned; `what` says what was waited for."""
    end = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < end, f"in vain, for {PATIENCE} s: {what}"
        time.sleep(0.01)
    return found


def main(module):
    """Runs every function of `module` (a dict) named test_*, in order. Returns an exit status."""
    tests = [(name, fn) for name, fn in module.items() if name.startswith("test_") and callable(fn)]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, fn) in enumerate(tests, 1):
        try:
            fn()
            print(f"ok {number} {name}", flush=True)
        except Skip as why:
            print(f"ok {number} {name} # SKIP {why}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", file=sys.stderr)
    return 1 if failed else 0
