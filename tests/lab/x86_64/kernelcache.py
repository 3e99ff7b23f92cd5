# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel that was unpacked for one guest comes from the cache for the next, and for its reset."""

import json
import os
import shlex
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import smaps  # noqa: E402

KERNELS = [("cloud", "packaged")]
TIMEOUT = 300
SECONDS = 15

CACHE = "/tmp/cache"
MIB = 256
RESIDENT, ANONYMOUS = 2560, 512  # KiB, as for a guest whose kernel was never packed


def told(t, words):
    """What a dry run says of the kernel."""
    text = t.sh("XDG_CACHE_HOME=%s %s --dry-run --json" % (CACHE, " ".join(shlex.quote(word) for word in words)))
    return json.loads(text)["kernel"]


def test(t):
    t.initrd("fact text $(grep -w _text /proc/kallsyms)\nread answer\n[ $answer = again ] && reboot -f\n")
    words = t.command(image="packaged", memory=str(MIB))
    # A kernel that has only just been put there is not kept.
    t.sh("mkdir %s; sleep 3" % CACHE)
    first = told(t, words)
    t.check(not first["cached"] and first["cache"].startswith(CACHE), "%s" % first)
    guest = t.start(["env", "XDG_CACHE_HOME=" + CACHE] + words)
    place = guest.fact("text", 90)
    t.sh("until [ -e %s ]; do usleep 50000; done" % first["cache"])
    # The thread that wrote it has its buffers a moment longer than the file is there.
    for _ in range(40):
        kib = smaps.beyond(smaps.parse(t.sh("cat /proc/%d/smaps" % guest.pid())), MIB)
        if kib["resident"] <= RESIDENT and kib["anonymous"] <= ANONYMOUS:
            break
        t.sh("usleep 250000")
    else:
        t.fail("when it is kept: %s" % kib)
    t.note("the one that wrote it: %(resident)d KiB resident, %(anonymous)d of it anonymous" % kib)
    guest.send("off\n")
    guest.ends(0)
    second = told(t, words)
    t.equal("from the cache", second["cached"], True)
    t.equal("the way", (second["boot"], second["entry"]), (first["boot"], first["entry"]))
    guest = t.start(["env", "XDG_CACHE_HOME=" + CACHE] + words)
    t.equal("where the kernel is", guest.fact("text", 90), place)
    kib = smaps.beyond(smaps.parse(t.sh("cat /proc/%d/smaps" % guest.pid())), MIB)
    t.figures.update(kib)
    t.note("from the cache: %(resident)d KiB resident, %(anonymous)d of it anonymous" % kib)
    t.check(kib["resident"] <= RESIDENT and kib["anonymous"] <= ANONYMOUS, "from the cache: %s" % kib)
    guest.send("again\n")
    t.equal("where it is after a reset", guest.fact("text", 90, again=True), place)
    guest.send("off\n")
    guest.ends(0)
    t.equal("files", t.sh("ls -A %s/trapline/kernels | wc -l" % CACHE).strip(), "1")
