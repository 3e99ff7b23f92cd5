# SPDX-License-Identifier: BSD-2-Clause
"""A stock guest that never says that it is ready is ended by --boot-timeout, which tells its last words and its vCPUs.

How far it gets by then depends on the inner machine's clock, which may run fast on a busy host.
"""

import re

# The kernel's messages from before its serial driver.
EARLY = {"x86_64": "earlyprintk=serial", "arm64": "earlycon"}
WHERE = {
    "x86_64": (r"^vcpu0: rip 0x[0-9a-f]+, 64-bit code, ring [03], (running|halted)",
               r"^vcpu1: rip 0x[0-9a-f]+, .* code|^vcpu1: rip 0xfff0, real mode.*not started"),
    "arm64": (r"^vcpu0: pc 0x[0-9a-f]+, 64-bit code, EL[01], pstate 0x[0-9a-f]+, running$",
              r"^vcpu1: pc 0x[0-9a-f]+, 64-bit code, EL[01], pstate 0x[0-9a-f]+, (running|off)$"),
}
ALSO = {"arm64": ("",)}
# Many times what init takes there.
LIMIT = {"x86_64": 30, "arm64": 12}


def test(t):
    guest = t.boot("fact up\ncat\n", cpus=2, quiet=False, append="cryptomgr.notests " + EARLY[t.arch],
                   options=("--boot-timeout", str(LIMIT[t.arch])))
    guest.ends(21, 110)
    log = guest.log()
    for number, where in enumerate(WHERE[t.arch]):
        t.check(re.search(where, log, re.M), "not told where vCPU %d is" % number)
    console, _, told = log.partition("console: its last lines\n")
    lines = re.findall(r"^  \| (.*)$", told, re.M)
    t.check(0 < len(lines) <= 10 and all(line in console for line in lines), "not told the console's last lines")
    t.check("within %d s (--boot-timeout)" % LIMIT[t.arch] in log, "not told why")
    t.note("got to '%s'" % lines[-1][:60])
