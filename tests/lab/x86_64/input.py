# SPDX-License-Identifier: BSD-2-Clause
"""
Keyboard and mouse by a stock kernel's drivers, atkbd and psmouse: what they make of the controller, and each key,
movement and click of trapline's user, read from the guest's event devices.
"""

import struct

SECONDS = 9
KERNELS = (("full", "vmlinux"),)
GUEST = """
modprobe evdev
modprobe psmouse
# The driver talks to the mouse for a while; the device is there when it is done.
until grep -q 'Name=".*Mouse' /proc/bus/input/devices; do sleep 0.1; done
facts input </proc/bus/input/devices
dmesg | grep -i 'psmouse\\|i8042\\|atkbd\\|input:' >/tmp/log
facts log </tmp/log
# handler NAME: the event device of what is called so
handler() {
	sed -n "/Name=\\".*$1/,/^$/s/.*Handlers=.*\\(event[0-9]*\\).*/\\1/p" /proc/bus/input/devices
}
# record EVENTS <DEVICE: as many events, 24 bytes each, in hexadecimal
record() {
	dd bs=24 count=$1 2>/dev/null | hexdump -v -e '24/1 "%02x" "\\n"'
}
echo 0 >/proc/sys/kernel/ctrl-alt-del
trap '' INT
exec 3</dev/input/$(handler keyboard) 4</dev/input/$(handler Mouse)
fact ready
record KEYS <&3 >/tmp/keyboard
for events in MOVES; do
	fact ready
	record $events <&4 >>/tmp/mouse
done
facts keyboard </tmp/keyboard
facts mouse </tmp/mouse
fact interrupts $(sed -n 's/^ *\\(1\\|12\\): *\\([0-9]*\\) .*i8042/\\2/p' /proc/interrupts)
"""

SYN, KEY, REL, MSC = 0, 1, 2, 4
X, Y = 0, 1
LEFT, RIGHT, MIDDLE = 0x110, 0x111, 0x112
CTRL, ALT, DELETE = 29, 56, 111

# What the user types after Ctrl-A, and what the kernel is to say of it, reports and scan codes left out.
MOVES = [("h", [(REL, X, -16)]), ("j", [(REL, Y, 16)]), ("k", [(REL, Y, -16)]), ("l", [(REL, X, 16)]),
         ("1", [(KEY, LEFT, 1), (KEY, LEFT, 0)]), ("2", [(KEY, MIDDLE, 1), (KEY, MIDDLE, 0)]),
         ("3", [(KEY, RIGHT, 1), (KEY, RIGHT, 0)])]
KEYS = [(KEY, CTRL, 1), (KEY, ALT, 1), (KEY, DELETE, 1), (KEY, DELETE, 0), (KEY, ALT, 0), (KEY, CTRL, 0)]


def events(lines):
    """(type, code, value) of each, without the times."""
    return [struct.unpack("<16xHHi", bytes.fromhex(line)) for line in lines]


def test(t):
    # A key comes with its scan code and the end of the report; each event of the mouse is a report of its own.
    script = GUEST.replace("KEYS", str(3 * len(KEYS))).replace("MOVES", " ".join(str(2 * len(w)) for _, w in MOVES))
    guest = t.boot(script, kernel="full", modules="full")
    inputs = "\n".join(guest.facts("input", 90))
    for name, interrupt in (("AT Translated Set 2 keyboard", "kbd"), ("PS/2 Generic Mouse", "mouse")):
        t.check('Name="%s"' % name in inputs and interrupt in inputs, "the kernel found no %s: %s" % (name, inputs))
    log = "\n".join(guest.facts("log"))
    for bad in ("error", "fail", "timed out", "timeout", "lost", "throwing", "not found"):
        t.check(bad not in log.lower(), "the drivers complain: %s" % log)
    guest.fact("ready", again=True)
    guest.send(b"\x01k")
    for key, _ in MOVES:
        guest.fact("ready", 30, again=True)
        guest.send(b"\x01m" + key.encode())
    got = events(guest.facts("keyboard", 30))
    t.equal("what the keyboard said", [event for event in got if event[0] not in (SYN, MSC)], KEYS)
    t.equal("its scan codes", [value for kind, _, value in got if kind == MSC], [29, 56, 211, 211, 56, 29])
    got = events(guest.facts("mouse", 30))
    t.equal("what the mouse said", [event for event in got if event[0] != SYN],
            [event for _, wanted in MOVES for event in wanted])
    t.note("interrupts %s" % guest.fact("interrupts"))
    guest.ends(0)
