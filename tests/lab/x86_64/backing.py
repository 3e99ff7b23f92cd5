# SPDX-License-Identifier: BSD-2-Clause
"""Stock kernels whose RAM is a file or huge pages, filled at start: /proc/PID/smaps shows it, and it is given back."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import smaps  # noqa: E402

ALSO = {"arm64": ("huge",)}
CASES = {"file": {"options": ["--mem-file", "/tmp/ram"]},
         "huge": {"options": ["--hugepages=2M"], "huge": True},
         "hugetlbfs": {"options": ["--hugetlbfs", "/tmp/huge"], "huge": True}}

MIB = 256
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/"


def pool(t, name):
    return int(t.sh("cat " + POOL + name))


def test(t, options, huge=False):
    t.sh("mkdir /tmp/huge; mount -t hugetlbfs -o pagesize=2M none /tmp/huge")
    try:
        backed(t, options, huge)
    finally:
        t.sh("umount /tmp/huge; echo 0 >%snr_hugepages" % POOL)


def backed(t, options, huge):
    if huge:
        t.sh("echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory; echo %d >%snr_hugepages" % (
            MIB // 2, POOL))
        got = pool(t, "nr_hugepages")
        if got < MIB // 2:
            t.skip("the inner machine has but %d huge pages" % got)
    words = t.command(memory=str(MIB), options=options + ["--prefault"])
    t.initrd("fact total $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)\nread answer\n")
    guest = t.start(words)
    t.check(int(guest.fact("total", 90)) > 128 << 10, "the guest misses memory")
    ram = smaps.ram(smaps.parse(t.sh("cat /proc/%d/smaps" % guest.pid())), MIB)
    t.equal("mappings that are RAM", len(ram), 1)
    if huge:
        t.check("ht" in ram[0].flags, "no huge pages: " + " ".join(ram[0].flags))
        t.equal("KiB of a page", ram[0]["KernelPageSize"], 2048)
        t.equal("KiB in huge pages", ram[0]["Private_Hugetlb"] + ram[0]["Shared_Hugetlb"], MIB << 10)
        t.equal("free huge pages", pool(t, "free_hugepages"), 0)
    else:
        t.equal("the file", ram[0].path, "/tmp/ram")
        t.equal("KiB resident", ram[0]["Rss"], MIB << 10)
    guest.send("on\n")
    guest.ends(0)
    if huge:
        t.equal("huge pages given back", pool(t, "free_hugepages"), MIB // 2)
        t.equal("names left in the mount", t.sh("ls /tmp/huge"), "")
        output = t.sh("%s 2>&1" % " ".join(["trapline", "run", "-k", t.kernel(), "-m", "1G"] + options), status=1)
        t.check("512 pages of 2 MiB are needed, %d are free" % (MIB // 2) in output, output)
    else:
        t.equal("the file's size", t.sh("stat -c %s /tmp/ram").strip(), str(MIB << 20))
