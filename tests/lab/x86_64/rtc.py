# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's driver reads, sets and waits for the clock chip; what the guest has set stays through a reset, and is its own."""

import program

ALSO = {"arm64": ("cloud",)}
TIMEOUT = 300
SECONDS = 30
CASES = {"cloud": {"kernel": "cloud"}, "full": {"kernel": "full"}}
PROGRAM = {}

# 2031-02-03, as no clock here shows it.
THEN = 1927845296

GUEST = """
until [ -e /dev/rtc0 ]; do usleep 100000; done
fact epoch $(cat /sys/class/rtc/rtc0/since_epoch)
fact name $(cat /sys/class/rtc/rtc0/name)
if [ $(cat /sys/class/rtc/rtc0/since_epoch) -lt %d ]; then
	%s
	reboot -f
fi
fact hwclock $(hwclock -u -r -f /dev/rtc0)
"""


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def clocks(t):
    """The host's time, and that of its start."""
    now, up = t.sh("date -u +%s; cat /proc/uptime").split()[:2]
    return int(now), int(now) - float(up)


def test(t, kernel):
    begin, offset = clocks(t)
    guest = t.boot(GUEST % (THEN, program.RUN % THEN), files=PROGRAM.items(), kernel=kernel)
    first = int(guest.fact("epoch", 90))
    t.check({"x86_64": "rtc_cmos", "arm64": "rtc-pl031"}[t.arch] in guest.fact("name"), "the clock's driver is %s" % guest.fact("name"))
    now, _ = clocks(t)
    t.check(begin - 1 <= first <= now + 1, "the guest's clock shows %d, between %d and %d" % (first, begin, now))
    program.judge(t, guest)
    guest.fact("init", 90, again=True)
    second = int(guest.fact("epoch", 90, again=True))
    passed = clocks(t)[0] - begin
    t.check(THEN < second <= THEN + passed + 1, "after the reset the clock shows %d, %d s from what was set" % (
        second, second - THEN))
    t.check("2031" in guest.fact("hwclock"), "hwclock says " + guest.fact("hwclock"))
    guest.ends(0)
    t.check(abs(clocks(t)[1] - offset) < 2, "the host's own clock was set")
