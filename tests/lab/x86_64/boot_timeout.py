# SPDX-License-Identifier: BSD-2-Clause
"""A stock guest that never says that it is ready is ended by --boot-timeout, which tells its last words and its vCPUs.

How far it gets by then depends on the inner machine's clock, which may run fast on a busy host.
"""

import re


def test(t):
    guest = t.boot("fact up\ncat\n", cpus=2, quiet=False, append="cryptomgr.notests earlyprintk=serial",
                   options=("--boot-timeout", "30"))
    guest.ends(21, 110)
    log = guest.log()
    t.check(re.search(r"^vcpu0: rip 0x[0-9a-f]+, 64-bit code, ring [03], (running|halted)", log, re.M),
            "not told where vCPU 0 is")
    t.check(re.search(r"^vcpu1: rip 0x[0-9a-f]+, .* code|^vcpu1: rip 0xfff0, real mode.*not started", log, re.M),
            "not told where vCPU 1 is")
    console, _, told = log.partition("console: its last lines\n")
    lines = re.findall(r"^  \| (.*)$", told, re.M)
    t.check(0 < len(lines) <= 10 and all(line in console for line in lines), "not told the console's last lines")
    t.check("within 30 s (--boot-timeout)" in log, "not told why")
    t.note("got to '%s'" % lines[-1][:60])
