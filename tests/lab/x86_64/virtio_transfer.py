# SPDX-License-Identifier: BSD-2-Clause
"""
Many bytes both ways, each of them known: by a tap and by passt, over IPv4 and IPv6. By passt also a name that the host's
resolver knows, and ports of the host's, TCP and UDP, that lead into the guest.
"""

import network
import program

ALSO = {"arm64": ()}
CASES = {
    "tap": {"way": "tap", "mib": 32},
    "user": {"way": "user", "mib": 16},
    "tap-gib": {"way": "tap", "mib": 1024},
    "user-gib": {"way": "user", "mib": 1024},
}
ON_REQUEST = ("gib",)
TIMEOUT = 900
SECONDS = 40
PROGRAM = {}

MODULES = "modprobe virtio_pci\nmodprobe virtio_net\n"

# The guest's part: both ways by IPv4, by IPv6, and both at once.
TAKES = """
for host in $hosts; do
	/prog connect $host 5002 TAKE BYTES | facts steps
done
"""

GIVES = """
for host in $hosts; do
	/prog connect $host 5001 give BYTES | facts steps
done
set -- $hosts
/prog connect $1 5001 give BYTES >/give &
/prog connect $2 5002 take BYTES | facts steps
wait
facts steps </give
"""

# passt of 2023-03 drops all that its socket to us has no room for. Bytes it sends again, but not the end of a stream: it
# resets the connection 16 seconds later. So a guest that gets bytes from passt counts them, and ends the stream itself.
#
# And it forgets what the host's socket does not take at once, and has the guest send it again; each time starts a timer of
# 2 seconds, and when that has ended a few times, which takes a slow receiver, it resets the connection. So a guest may have
# to try again, and both ways at once there is no end of it.
TRIES = """
tries=0
for host in $hosts; do
	until /prog connect $host 5001 give GIVEN >/give || [ $tries = 20 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	facts steps </give
done
fact resets $tries
"""

END = """
fact errors $(cat /sys/class/net/eth0/statistics/rx_errors) $(cat /sys/class/net/eth0/statistics/tx_errors)
fact transferred
"""

TAP = MODULES + network.ADDRESS + "hosts='10.9.0.1 fd09::1'\n" + TAKES.replace("TAKE", "take") + GIVES + END

# Addresses of IPv6 come by router advertisement. Then the guest is a name server itself, and listens on port 80.
USER = MODULES + network.LEASE + """
until ip -6 addr show dev eth0 | grep 'inet6 2001' | grep -qv tentative; do sleep 0.1; done
fact address6 $(ip -6 addr show dev eth0 | sed -n 's/.*inet6 \\(2001[^ ]*\\).*/\\1/p')
fact servers $(sed -n 's/nameserver //p' /etc/resolv.conf)
fact mtu $(cat /sys/class/net/eth0/mtu)
fact resolved $(nslookup -type=a host.lab | sed -n 's/^Address: *\\(198.*\\)/\\1/p')
fact unknown $(nslookup -type=a other.lab 2>&1 | grep -c NXDOMAIN)
hosts="$router 2001:db8::1"
""" + TAKES.replace("TAKE", "count") + TRIES + END + """
/prog names $ip guest.lab 198.51.100.2 &
names=$!
/prog listen 80 count 1000000 1 | while read -r line; do fact forwarded $line; done
read answer
kill $names
"""

RESOLVER = "203.0.113.53"


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def listen(t, port, what, size, times):
    """The host's end, which takes or gives as often as the guest comes."""
    t.inner.put("/tmp/prog", PROGRAM["prog"], 0o755)
    t.sh("/tmp/prog listen %d %s %d %d >/tmp/steps%d 2>&1 </dev/null &" % (port, what, size, times, port))


def judge(t, guest, wanted):
    """The guest's steps, in their order, are these."""
    guest.fact("transferred", 800)
    steps = [line[len("@+steps "):] for line in guest.lines() if line.startswith("@+steps ")]
    t.equal("the guest's ends", steps, ["ok %s %d" % step for step in wanted])
    t.equal("the driver's errors", guest.fact("errors"), "0 0")


def host_steps(t, port):
    return t.sh("cat /tmp/steps%d" % port).splitlines()


def tap(t, mib):
    size = mib << 20
    t.inner.put("/tmp/up.sh", network.UP, 0o755)
    listen(t, 5001, "take", size, 3)
    listen(t, 5002, "give", size, 3)
    guest = t.boot(TAP.replace("BYTES", str(size)), files=PROGRAM.items(), modules="cloud",
                   options=["--network", "tap,script=/tmp/up.sh"])
    judge(t, guest, [("take", size), ("take", size), ("give", size), ("give", size), ("take", size), ("give", size)])
    for port, what in ((5001, "take"), (5002, "give")):
        t.equal("the host's ends on port %d" % port, host_steps(t, port), ["ok listens"] + ["ok %s %d" % (what, size)] * 3)
    guest.ends(0)


def user(t, mib):
    size, given = mib << 20, mib << 18
    with network.passt(t) as before:
        t.sh("echo nameserver %s >/etc/resolv.conf; ip addr add %s/32 dev lo" % (RESOLVER, RESOLVER))
        listen(t, 5002, "give", size, 2)
        t.sh(">/tmp/loop; (while [ -e /tmp/loop ]; do /tmp/prog listen 5001 take %d 1; done) >/tmp/steps5001 2>&1 </dev/null &\n"
             "/tmp/prog names %s host.lab 198.51.100.1 >/dev/null 2>&1 </dev/null &" % (given, RESOLVER))
        t.initrd(USER.replace("BYTES", str(size)).replace("GIVEN", str(given)), files=PROGRAM.items(), modules="cloud")
        guest = t.start(before + t.command(options=["-n", "user,tcp=8080:80,udp=5353:53"]))
        address = guest.fact("address6", 120)
        t.check(address.startswith("2001:db8:"), "the guest's address is %s" % address)
        t.equal("the guest's name servers", guest.fact("servers"), RESOLVER)
        t.equal("the MTU, which the guest's DHCP client does not set", guest.fact("mtu"), "65520")
        t.equal("the address of a name", guest.fact("resolved"), "198.51.100.1")
        t.check(int(guest.fact("unknown")) > 0, "a name that is not known was found")
        judge(t, guest, [("count", size)] * 2 + [("give", given)] * 2)
        t.equal("the host's ends on port 5001", host_steps(t, 5001).count("ok take %d" % given), 2)
        t.equal("the guest's listener", guest.fact("forwarded", 60), "ok listens")
        t.equal("what goes to port 8080", t.sh("/tmp/prog connect 127.0.0.1 8080 give 1000000"), "ok give 1000000\n")
        told = t.sh("nslookup -type=a guest.lab 127.0.0.1:5353")
        t.check("198.51.100.2" in told, "port 5353 says %s" % told)
        guest.send("off\n")
        guest.ends(0)
        t.note("passt has reset %s uploads" % guest.fact("resets"))


def test(t, way, mib):
    try:
        {"tap": tap, "user": user}[way](t, mib)
    finally:
        t.sh("rm -f /tmp/loop /etc/resolv.conf; killall prog; ip addr del %s/32 dev lo 2>/dev/null; true" % RESOLVER)
