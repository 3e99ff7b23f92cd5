# SPDX-License-Identifier: BSD-2-Clause
"""
The stock kernel's driver of the virtio console: what goes through a port arrives whole both ways, several ports at a time;
the port that shares the terminal with the UART takes its keys, and knows the terminal's size.
"""

import os

import program

ALSO = {"arm64": ("pci",)}
CASES = {
    "pci": {"transport": "pci", "driver": "virtio_pci"},
    "pci-legacy": {"transport": "pci-legacy", "driver": "virtio_pci"},
    "mmio": {"transport": "mmio", "driver": "virtio_mmio"},
    "mmio-legacy": {"transport": "mmio-legacy", "driver": "virtio_mmio"},
    "shared": {"transport": "pci", "driver": "virtio_pci", "shared": True},
}
SIZE = 20000
TIMEOUT = 300


def build(folder):
    """Makes the sockets' client, static; called once, on the host."""
    global CLIENT
    CLIENT = program.build(folder, os.path.join(os.path.dirname(os.path.abspath(__file__)), "console_client.c"))
    return []


PORTS = """
modprobe DRIVER
modprobe virtio_console
until [ -c /dev/hvc1 ] && (: <>/dev/hvc0) 2>/dev/null && (: <>/dev/hvc1) 2>/dev/null; do usleep 10000; done
exec 3<>/dev/hvc0 4<>/dev/hvc1
stty raw -echo <&3
stty raw -echo <&4
fact ready
(head -c SIZE <&3 >/got0; cat /got0 >&3) &
(head -c SIZE <&4 >/got1; cat /got1 >&4)
wait
fact sum0 $(md5sum </got0)
fact sum1 $(md5sum </got1)
read -r line
"""


def ports(t, transport, driver):
    t.inner.put("/tmp/client", CLIENT, 0o755)
    t.sh("seq -w 1 200000 | head -c %d >/tmp/data0; seq -w 500000 900000 | head -c %d >/tmp/data1" % (SIZE, SIZE))
    guest = t.boot(PORTS.replace("DRIVER", driver).replace("SIZE", str(SIZE)), modules="cloud", options=[
        "--console", "hvc0=socket:/tmp/hvc0", "--console", "hvc1=socket:/tmp/hvc1", "--virtio-transport", transport])
    guest.fact("ready")
    script = "".join("(cat /tmp/data%d; sleep 100) | /tmp/client /tmp/hvc%d >/tmp/out%d & " % (n, n, n) for n in range(2))
    whole = " && ".join("[ $(stat -c %%s /tmp/out%d) -ge %d ]" % (n, SIZE) for n in range(2))
    t.sh(">/tmp/out0; >/tmp/out1; %s until %s; do sleep 0.1; done; killall client sleep; true" % (script, whole), 110)
    for n in range(2):
        wanted = t.sh("md5sum </tmp/data%d" % n).split()[0]
        t.equal("what port %d heard" % n, guest.fact("sum%d" % n).split()[0], wanted)
        t.equal("what port %d said" % n, t.sh("head -c %d /tmp/out%d | md5sum" % (SIZE, n)).split()[0], wanted)
    guest.send("go\n")
    guest.ends(0)


SHARED = """
read -r line
fact uart $line
modprobe DRIVER
modprobe virtio_console
until [ -c /dev/hvc0 ] && (: <>/dev/hvc0) 2>/dev/null; do usleep 10000; done
exec 3<>/dev/hvc0
stty -echo <&3
fact opened
until [ -n "$(stty size <&3 2>/dev/null)" ]; do usleep 50000; done
fact size $(stty size <&3)
fact open
read -r line <&3
echo "hvc0 heard $line" >&3
until [ "$(stty size <&3)" = "33 99" ]; do usleep 50000; done
fact resized $(stty size <&3)
"""


def shared(t, transport, driver):
    guest = t.boot(SHARED.replace("DRIVER", driver), modules="cloud",
                   options=["--console", "virtio", "--virtio-transport", transport])
    guest.fact("init")
    guest.send("for the UART\n")
    t.equal("what the UART heard before", guest.fact("uart"), "for the UART")
    # Linux passes on what it is told while somebody has the port open.
    guest.fact("opened")
    t.sh("stty -F /dev/%s rows 24 cols 80" % t.inner.arch.guest_tty)
    t.equal("the terminal's size", guest.fact("size"), "24 80")
    guest.fact("open")
    guest.send("a word\n")
    guest.expect("hvc0 heard a word")
    t.sh("stty -F /dev/%s rows 33 cols 99" % t.inner.arch.guest_tty)
    t.equal("the terminal's size afterwards", guest.fact("resized"), "33 99")
    guest.ends(0)


def test(t, transport, driver, **how):
    if how.get("shared"):
        shared(t, transport, driver)
    else:
        ports(t, transport, driver)
