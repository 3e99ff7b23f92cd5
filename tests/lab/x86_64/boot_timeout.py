# SPDX-License-Identifier: BSD-2-Clause
"""A stock guest that never says that it is ready is ended by --boot-timeout, which tells where its vCPUs are."""

import re
import time

SECONDS = 45


def test(t):
    begin = time.monotonic()
    guest = t.boot("fact up\ncat\n", cpus=2, options=("--boot-timeout", "40"))
    guest.fact("up", 39)
    guest.ends(21, 60)
    took = time.monotonic() - begin
    t.check(took > 39, "it ended after %.1f s" % took)
    log = guest.log()
    for number in range(2):
        t.check(re.search(r"^vcpu%d: rip 0x[0-9a-f]+, 64-bit code, ring [03], (running|halted)" % number, log, re.M),
                "not told where vCPU %d is" % number)
    t.check("within 40 s (--boot-timeout)" in log, "not told why")
