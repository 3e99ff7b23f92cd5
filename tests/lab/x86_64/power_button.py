# SPDX-License-Identifier: BSD-2-Clause
"""SIGTERM presses the power button: a stock guest's driver hears it, and its init powers off in order."""

CASES = {"cloud": {"kernel": "cloud"}, "full": {"kernel": "full"}}

# One event is 24 bytes, and the first that comes is the key's press. Who has not opened the device hears nothing of it.
GUEST = '''
modprobe button
modprobe evdev
for device in /sys/class/input/input*; do fact device $(cat $device/name); done
until button=$(grep -l "Power Button" /sys/class/input/event*/device/name); do usleep 100000; done
grep -q "Sleep Button" /sys/class/input/event*/device/name && fact sleep-button yes
exec 3</dev/input/$(basename ${button%/device/name})
fact listens $(cat /sys/firmware/acpi/interrupts/ff_pwr_btn)
dd bs=24 count=1 <&3 of=/event 2>/dev/null
fact key $(hexdump -s 16 -e '2/2 "%d " 1/4 " %d"' /event)
'''


def test(t, kernel):
    guest = t.boot(GUEST, modules="drivers", kernel=kernel)
    t.check("enabled" in guest.fact("listens", 100), "the guest has not enabled the button's event")
    t.equal("the sleep button", guest.fact("sleep-button"), "yes")
    t.sh("kill -TERM %d" % guest.pid())
    # EV_KEY, KEY_POWER, pressed.
    t.equal("what the guest read", guest.fact("key").split(), ["1", "116", "1"])
    guest.ends(0)
