# SPDX-License-Identifier: BSD-2-Clause
"""The guest's real-time clock shows the host's time, in UTC, within two seconds."""


def test(t):
    guest = t.boot("""
until [ -e /sys/class/rtc/rtc0/since_epoch ]; do usleep 100000; done
fact rtc $(cat /sys/class/rtc/rtc0/since_epoch)
fact date $(date -u +%s)
fact name $(cat /sys/class/rtc/rtc0/name)
read answer
fact again $(hwclock -u -r -f /dev/rtc0 >/dev/null 2>&1; cat /sys/class/rtc/rtc0/since_epoch)
""")
    guest.fact("rtc", 90)
    now = int(t.sh("date -u +%s"))
    t.check("rtc_cmos" in guest.fact("name"), "the clock's driver is %s" % guest.fact("name"))
    for key in ("rtc", "date"):
        off = int(guest.fact(key)) - now
        t.check(abs(off) <= 2, "the guest's %s is %d s off" % (key, off))
    # It runs: three seconds later it shows three seconds more.
    t.sh("sleep 3")
    guest.send("on\n")
    again = int(guest.fact("again"))
    now = int(t.sh("date -u +%s"))
    t.check(abs(again - now) <= 2, "after three seconds the clock is %d s off" % (again - now))
    guest.ends(0)
