# SPDX-License-Identifier: BSD-2-Clause
"""The inner machine's side of a guest's network, by tap or by passt."""

import contextlib

import program

# The tap's script, as kvmtool's users have them: it gets the interface's name.
UP = """#!/bin/sh
echo 0 >/proc/sys/net/ipv6/conf/$1/accept_dad
ip addr add 10.9.0.1/24 dev $1 && ip -6 addr add fd09::1/64 dev $1 && ip link set $1 up && echo $1 >/tmp/up
"""

# The guest's side of it.
ADDRESS = """
ip link set lo up
ip addr add 10.9.0.2/24 dev eth0
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip -6 addr add fd09::2/64 dev eth0
ip link set eth0 up
"""

# The guest's side with passt: what DHCP tells, into /lease, and the name servers.
LEASE = """
ip link set eth0 up
cat >/dhcp <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-24} dev eth0
ip route add default via $router
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
echo "$ip $router" >/lease
END
chmod +x /dhcp
udhcpc -i eth0 -s /dhcp -q -n -t 10 -T 1 >/dev/null 2>&1
read -r ip router </lease
"""

# passt makes the root of its own mount namespace another one, which the kernel refuses where it is the first of all, as
# in the inner machine: so trapline runs in a mount that lies above that.
_ROOTED = """#!/bin/sh
mount --make-rprivate / && mkdir -p /run/root && mount --rbind / /run/root && cd /run/root && mount --move . / &&
exec chroot . "$@"
"""


@contextlib.contextmanager
def passt(t):
    """The inner machine has passt, and routes that lead nowhere for it to copy. Yields words to put before trapline's."""
    t.inner.install(program.packaged("/usr/bin/passt"), "/bin/passt")
    t.inner.put("/etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    t.inner.put("/tmp/rooted", _ROOTED, 0o755)
    t.sh("tunctl -t up0 >/dev/null; echo 0 >/proc/sys/net/ipv6/conf/up0/accept_dad\n"
         "ip addr add 192.0.2.2/24 dev up0; ip link set up0 up\n"
         "for address in 2001:db8::2 fe80::2; do ip -6 addr add $address/64 dev up0; done\n"
         "ip route add default via 192.0.2.1 dev up0; ip -6 route add default via 2001:db8::1 dev up0")
    try:
        yield ["unshare", "-m", "/tmp/rooted"]
    finally:
        t.sh("ip link del up0; ip route flush table main; ip -6 route flush table main; true")
