# SPDX-License-Identifier: BSD-2-Clause
"""SIGTERM presses the power button, a key on a pin: a stock guest's init reads it and powers off; without a driver it is ended at once.

Ctrl-A p presses it too. Presses that came before there was a driver, which finds the key down and sees it let go, do not keep
the next from being heard.
"""

CASES = {
    "full": {"kernel": "full", "again": False},
    "early": {"kernel": "full", "again": False, "early": True},
    # The button of the life after a reset.
    "reset": {"kernel": "full", "again": True},
    # Debian's cloud kernel has the chip's driver and not the keys'.
    "deaf": {"kernel": "cloud", "again": False},
}
KERNELS = (("full", "packaged"), ("cloud", "packaged"))
TIMEOUT = 300
SECONDS = 40

# An event is 24 bytes: the key's press and a report, its release and a report.
GUEST = '''
fact waits
read -r go
modprobe gpio_keys && modprobe evdev || fact driver none
until button=$(grep -l gpio-keys /sys/class/input/event*/device/name); do usleep 100000; done
fact keys $(cat ${button%name}capabilities/key)
button=${button%/device/name}
mount -t debugfs debugfs /sys/kernel/debug
until grep "Power Button" /sys/kernel/debug/gpio | grep -q " in  *lo"; do usleep 100000; done
dd bs=24 count=4 if=/dev/input/${button##*/} of=/event 2>/dev/null &
reader=$!
until ls -l /proc/$reader/fd | grep -q /dev/input/; do usleep 50000; done
fact listens $(grep "Power Button" /proc/interrupts)
wait $reader
fact key $(hexdump -s 16 -n 8 -e '2/2 "%d " 1/4 " %d"' /event) $(hexdump -s 64 -n 8 -e '2/2 "%d " 1/4 " %d"' /event)
'''


def test(t, kernel, again, early=False):
    guest = t.boot(GUEST, modules="drivers", kernel=kernel, image="packaged")
    guest.fact("waits", 200)
    for _ in range(2 * early):
        guest.send("\x01p")
        guest.expect("does not listen to its power button")
    guest.send("go\n")
    if kernel == "cloud":
        t.equal("the cloud kernel's driver", guest.fact("driver", 120), "none")
        t.sh("kill -TERM %d" % guest.pid())
        guest.expect("does not listen to its power button")
        guest.ends(20)
        return
    if again:
        guest.fact("listens", 200)
        guest.send("\x01r")
        guest.fact("waits", 200, again=True)
        guest.send("go\n")
    guest.fact("keys", 200)
    t.note(guest.fact("listens", 200, again=True))
    t.sh("kill -TERM %d" % guest.pid())
    # EV_KEY, KEY_POWER, pressed, and let go.
    t.equal("what the guest read", guest.fact("key").split(), ["1", "116", "1", "1", "116", "0"])
    guest.ends(0)
