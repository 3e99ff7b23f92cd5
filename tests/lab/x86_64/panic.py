# SPDX-License-Identifier: BSD-2-Clause
"""A kernel panic shows on the console; with panic=1 and --no-reboot it ends trapline with status 16."""


ALSO = {"arm64": ("",)}
def test(t):
    guest = t.boot("echo 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\n", append="panic=1",
                   options=("--no-reboot",))
    guest.fact("init", 90)
    guest.expect("Kernel panic - not syncing: sysrq triggered crash", 30)
    guest.ends(16, 30)
