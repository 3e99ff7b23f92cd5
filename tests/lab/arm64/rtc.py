# SPDX-License-Identifier: BSD-2-Clause
"""--rtc mc146818: no stock arm64 kernel has a driver, so its user reads the chip's registers, which say what time it is; the tree describes it."""

import calendar

GUEST = """
facts tree </sys/firmware/devicetree/base/rtc@1010000/compatible
fact rtcs $(ls /sys/class/rtc | wc -l)
get() { devmem 0x1010000 8 $1; devmem 0x1010001 8; }
# 24 hours, in BCD: what a PC has at power-on. Not in the middle of an update.
fact control $(get 11)
until second=$(get 0); time="$(get 50) $(get 9) $(get 8) $(get 7) $(get 4) $(get 2) $second"; [ $(get 0) = $second ]; do :; done
fact time $time
"""


def test(t):
    guest = t.boot(GUEST, options=("--rtc", "mc146818"))
    t.equal("clocks with a driver", guest.fact("rtcs", 120), "0")
    t.check("motorola,mc146818" in guest.log(), "the tree does not describe it")
    t.equal("register B", int(guest.fact("control"), 16) & 6, 2)
    century, *rest = ["%02x" % int(word, 16) for word in guest.fact("time").split()]
    year, month, day, hour, minute, second = rest
    told = calendar.timegm((int(century + year), int(month), int(day), int(hour), int(minute), int(second)))
    late = int(t.sh("date +%s")) - told
    t.check(abs(late) < 30, "the guest's time is %d s off" % late)
    t.note("%s%s-%s-%s %s:%s:%s" % (century, year, month, day, hour, minute, second))
    guest.ends(0)
