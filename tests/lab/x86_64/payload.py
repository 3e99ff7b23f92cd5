# SPDX-License-Identifier: BSD-2-Clause
"""The payload ring: the flat guests of tests/guest, run as on a host with /dev/kvm."""

import glob
import os
import re
import subprocess

from bed import packages, ui

KERNELS = ()
TIMEOUT = 600
SECONDS = 30
SOURCES = os.path.join(packages.top(), "tests", "guest")


def build(folder):
    """Makes the guests on the host, where the build has not."""
    if glob.glob(os.path.join(folder, "tests", "guest", "*.elf")):
        return []
    run = subprocess.run(["sh", os.path.join(SOURCES, "build.sh"), os.path.join(folder, "tests", "guest")], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode != 0:
        raise ui.Failure("tests/guest does not build: %s" % run.stdout.strip())
    return []


def test(t):
    payloads = glob.glob(os.path.join(t.build, "tests", "guest", "*.elf"))
    t.check(payloads, "no payload was built")
    for path in payloads + [os.path.join(SOURCES, "run.sh")]:
        with open(path, "rb") as file:
            t.inner.put("/tmp/payload/" + os.path.basename(path), file.read(), 0o755)
    pending = os.path.join(t.build, "tests", "guest", "libpendingshim.so")
    with open(pending, "rb") as file:
        t.inner.put("/tmp/payload/libpendingshim.so", file.read(), 0o755)
    output = t.sh("cd /tmp/payload && sh ./run.sh trapline .", 400, status=None)
    t.check(not re.search(r"^FAIL", output, re.M), output)
    t.equal("guests that passed", len(re.findall(r"^PASS", output, re.M)), len(payloads))
    again = t.sh("cd /tmp/payload && GUEST_PRELOAD=/tmp/payload/libpendingshim.so sh ./run.sh trapline reset.elf", 100,
                 status=None)
    t.check(re.search(r"^PASS reset", again, re.M), again)
    t.note("%d guests, %d checks" % (len(payloads), sum(int(n) for n in re.findall(r"\((\d+) checks\)", output))))
