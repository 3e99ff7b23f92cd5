# SPDX-License-Identifier: BSD-2-Clause
"""
Consoles of a stock kernel. Four UARTs are taken for 16550As, and bytes go both ways through a file, a terminal and a
socket; what is pasted arrives whole, and so does what the guest says just before it powers off, to a slow reader.
"""

import os

import program

ALSO = {"arm64": ("ports",)}
CASES = {"ports": {"way": None}, "stdio": {"way": "stdio"}, "socket": {"way": "socket"},
         "1m": {"way": "socket", "size": 1 << 20}}
# As much as chip, kernel and trapline can hold between them, several times. Each byte costs a stock kernel exits.
SIZE = 64 << 10
TIMEOUT = 4000
SECONDS = 40
# A megabyte takes minutes in the emulated machine.
ON_REQUEST = ("1m",)


def build(folder):
    """Makes the socket's client, static; called once, on the host."""
    global CLIENT
    CLIENT = program.build(folder, os.path.join(os.path.dirname(os.path.abspath(__file__)), "console_client.c"))
    return []


# The last `stty` waits until all has left the kernel's own buffer; what is in the chip's by then is our business.
PASTE = """
stty raw -echo </dev/console
fact ready
head -c SIZE </dev/console >/pasted
fact sum $(md5sum </pasted)
cat /pasted >/dev/console
stty -F /dev/console raw
"""


def paste(t, way, size):
    t.initrd(PASTE.replace("SIZE", str(size)))
    t.inner.put("/tmp/client", CLIENT, 0o755)
    t.sh("seq -w 1 200000 | head -c %d >/tmp/data" % size)
    words = t.command()
    if way == "socket":
        words += ["--console", "socket:/tmp/console"]
    run = " ".join("'%s'" % word for word in words)
    # What is pasted waits until the guest says that it is ready; the reader naps, so that the end has to wait for it.
    slow = "while dd bs=16384 count=1 2>/dev/null >>/tmp/out; [ $(stat -c %s /tmp/out) != $seen ]; do " \
           "seen=$(stat -c %s /tmp/out); usleep 20000; done"
    source = "(until grep -q @ready /tmp/out; do sleep 0.2; done; cat /tmp/data; %s)" % (
        "sleep 0" if way == "stdio" else "until [ -e /tmp/end ]; do sleep 0.2; done")
    if way == "stdio":
        script = "%s | (%s; echo $? >/tmp/status) | (seen=0; %s)" % (source, run, slow)
    else:
        script = "(%s >/tmp/said 2>&1; echo $? >/tmp/status; touch /tmp/end) & %s | /tmp/client /tmp/console 20 >>/tmp/out; wait" % (
            run, source)
    t.sh(">/tmp/out\n" + script, 240 * size // SIZE)
    t.equal("trapline's status", t.sh("cat /tmp/status").strip(), "0")
    wanted = t.sh("md5sum </tmp/data").split()[0]
    t.equal("the sum of what was pasted", t.sh("sed -n 's/^@sum \\([0-9a-f]*\\).*/\\1/p' /tmp/out").strip(), wanted)
    # From the first number on, as many bytes as there were.
    got = t.sh("sed -n '/^000001/,$p' /tmp/out | head -c %d | md5sum" % size).split()[0]
    t.equal("the sum of what the guest said before it powered off", got, wanted)
    t.check(way == "stdio" or not t.sh("ls /tmp/console 2>/dev/null; true").strip(), "the socket is left behind")


PORTS = """
for n in 0 1 2 3; do fact uart$n $(dmesg | sed -n "s/.*ttyS$n at .* is a \\(.*\\)/\\1/p"); done
for n in 1 2 3; do stty -F /dev/ttyS$n raw -echo; done
exec 3<>/dev/ttyS2 4<>/dev/ttyS3
fact open
echo hello from port 1 >/dev/ttyS1
echo hello from port 2 >&3
echo hello from port 3 >&4
read -r line <&3
fact heard2 $line
echo port 2 heard $line >&3
read -r line <&4
fact heard3 $line
echo port 3 heard $line >&4
stty -F /dev/ttyS1 raw
stty -F /dev/ttyS2 raw
stty -F /dev/ttyS3 raw
fact interrupts $(cat /proc/interrupts | grep -c ttyS)
read -r line
"""


def ports(t):
    t.inner.put("/tmp/client", CLIENT, 0o755)
    guest = t.boot(PORTS, options=["--console", "serial1=file:/tmp/port1", "--tty", "2", "--console",
                                   "serial3=socket:/tmp/port3"])
    pty = guest.expect(r"trapline: serial2 is (/dev/pts/\d+)").group(1).decode()
    for n in range(4):
        t.equal("UART %d" % n, guest.fact("uart%d" % n, 90), "16550A")
    guest.fact("open")
    # What was said before anybody was attached is there for whoever comes.
    t.sh("(echo word two; sleep 1) >%s & head -n 2 <%s >/tmp/port2; wait" % (pty, pty))
    t.equal("what port 2 heard", guest.fact("heard2"), "word two")
    t.sh("(echo word three; until grep -q 'port 3 heard' /tmp/port3.out; do sleep 0.1; done) | "
         "timeout 30 /tmp/client /tmp/port3 >/tmp/port3.out; true", 60)
    t.equal("what port 3 heard", guest.fact("heard3"), "word three")
    # Of those that are open: on a PC all share two lines.
    t.equal("the ports' interrupts", guest.fact("interrupts"), "2" if t.arch == "x86_64" else "3")
    guest.send("go\n")
    guest.ends(0)
    t.equal("port 1", t.sh("cat /tmp/port1"), "hello from port 1\n")
    t.equal("port 2", t.sh("cat /tmp/port2"), "hello from port 2\nport 2 heard word two\n")
    t.equal("port 3", t.sh("cat /tmp/port3.out"), "hello from port 3\nport 3 heard word three\n")
    t.check(not t.sh("ls /tmp/port3 2>/dev/null; true").strip(), "the socket is left behind")


def test(t, way, size=SIZE):
    if way:
        paste(t, way, size)
    else:
        ports(t)
