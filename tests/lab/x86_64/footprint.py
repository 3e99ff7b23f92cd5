# SPDX-License-Identifier: BSD-2-Clause
"""What trapline holds of memory beyond its guest's RAM, when a stock kernel is at its init: little, and little a vCPU."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import smaps  # noqa: E402

CASES = {"1": {"cpus": 1}, "4": {"cpus": 4}}

RESIDENT, ANONYMOUS, VCPU = 2560, 512, 100  # KiB
MIB = 256


def test(t, cpus):
    guest = t.boot("fact up $(nproc)\nread answer\n", cpus=cpus, memory=str(MIB))
    t.equal("processors", guest.fact("up", 90), str(cpus))
    found = smaps.parse(t.sh("cat /proc/%d/smaps" % guest.pid()))
    kib = smaps.beyond(found, MIB)
    t.figures.update(kib)
    t.note("%(resident)d KiB resident, %(anonymous)d of it anonymous" % kib)
    more = (cpus - 1) * VCPU
    t.check(kib["resident"] <= RESIDENT + more, "%d KiB are resident" % kib["resident"])
    t.check(kib["anonymous"] <= ANONYMOUS + more, "%d KiB are anonymous" % kib["anonymous"])
    # Aligned, and wanting huge pages; whether the kernel finds any is its own affair.
    for ram in smaps.ram(found, MIB):
        t.check(ram.begin % (2 << 20) == 0, "guest RAM lies at %#x" % ram.begin)
        t.check("hg" in ram.flags, "guest RAM does not ask for huge pages: " + " ".join(ram.flags))
    guest.send("on\n")
    guest.ends(0)
