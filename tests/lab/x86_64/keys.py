# SPDX-License-Identifier: BSD-2-Clause
"""
Keys of trapline's terminal reach a stock kernel: Ctrl-Alt-Del by its keyboard driver, a break and a key by its serial
driver as SysRq, the power button.
"""

ALSO = {"arm64": ("",)}
GUEST = """
trap 'fact ctrl-alt-del' INT
echo 0 >/proc/sys/kernel/ctrl-alt-del
echo 1 >/proc/sys/kernel/sysrq
facts input </proc/bus/input/devices
until [ "$line" = over ]; do read -r line; done
fact keys $(sed -n 's/^ *1: *\\([0-9]*\\) .*i8042/\\1/p' /proc/interrupts)
dmesg | sed -n 's/.*sysrq: /@sysrq /p'
"""


def test(t):
    guest = t.boot(GUEST)
    guest.fact("init", 90)
    inputs = "\n".join(guest.facts("input"))
    if t.arch == "x86_64":
        t.check("AT Translated Set 2 keyboard" in inputs, "the kernel found no keyboard: %s" % inputs)
        guest.send(b"\x01k")
        guest.fact("ctrl-alt-del", 30)
    guest.send(b"\x01bh")
    # What we say to a terminal that is full is lost.
    guest.expect(r"HELP : [^\n]*\n", 30)
    guest.send(b"\x01s")
    guest.expect(r"serial0: 0 bytes of output dropped", 20)
    guest.send("over\n")
    if t.arch == "x86_64":
        t.note("%s interrupts of the keyboard" % guest.fact("keys", 30))
    guest.expect("@sysrq HELP", 20)
    guest.ends(0)
