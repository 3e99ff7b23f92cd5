# SPDX-License-Identifier: BSD-2-Clause
"""The guest's real-time clock shows the host's time, in UTC, whenever it is looked at."""


def test(t):
    def now():
        return int(t.sh("date -u +%s"))

    def check(key, value, begin):
        """Read since `begin`; each of the three tells whole seconds."""
        end = now()
        t.check(begin - 1 <= value <= end + 1, "the guest's %s is %d, between %d and %d" % (key, value, begin, end))

    begin = now()
    guest = t.boot("""
until [ -e /sys/class/rtc/rtc0/since_epoch ]; do usleep 100000; done
fact rtc $(cat /sys/class/rtc/rtc0/since_epoch)
fact date $(date -u +%s)
fact name $(cat /sys/class/rtc/rtc0/name)
read answer
fact again $(hwclock -u -r -f /dev/rtc0 >/dev/null 2>&1; cat /sys/class/rtc/rtc0/since_epoch)
""")
    guest.fact("rtc", 90)
    t.check("rtc_cmos" in guest.fact("name"), "the clock's driver is %s" % guest.fact("name"))
    for key in ("rtc", "date"):
        check(key, int(guest.fact(key)), begin)
    # It runs.
    t.sh("sleep 3")
    begin = now()
    guest.send("on\n")
    check("rtc", int(guest.fact("again")), begin)
    guest.ends(0)
