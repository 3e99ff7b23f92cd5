# SPDX-License-Identifier: BSD-2-Clause
"""
The stock kernel's virtio-net. By a tap: ping, TCP both ways with checksums of what went through, over IPv4 and IPv6, the
cable pulled and plugged in again, reboots in the middle of traffic, the interface deleted; with the frames carried by trapline, and by the host's
kernel (vhost-net), when none passes through trapline. By passt: an address by DHCP, TCP to the host and from it, and
what a guest sees when passt dies.
"""

import json

import network

ALSO = {"arm64": ("tap-pci",)}
CASES = {
    "tap-mmio": {"way": "tap", "transport": "mmio"},
    "tap-mmio-legacy": {"way": "tap", "transport": "mmio-legacy"},
    "tap-pci": {"way": "tap", "transport": "pci"},
    "tap-pci-legacy": {"way": "tap", "transport": "pci-legacy"},
    "queues": {"way": "tap", "transport": "pci", "queues": 2},
    "vhost-mmio": {"way": "tap", "transport": "mmio", "vhost": True},
    "vhost-mmio-legacy": {"way": "tap", "transport": "mmio-legacy", "vhost": True},
    "vhost-pci": {"way": "tap", "transport": "pci", "vhost": True},
    "vhost-pci-legacy": {"way": "tap", "transport": "pci-legacy", "vhost": True},
    "vhost-queues": {"way": "tap", "transport": "pci", "queues": 2, "vhost": True},
    "deleted": {"way": "deleted", "transport": "pci"},
    "vhost-deleted": {"way": "deleted", "transport": "pci", "vhost": True},
    "vhost-reboot": {"way": "reboot", "transport": "pci", "vhost": True},
    "user-mmio": {"way": "user", "transport": "mmio"},
    "user-pci": {"way": "user", "transport": "pci"},
    "reboot": {"way": "reboot", "transport": "mmio"},
}
TIMEOUT = 600
SECONDS = 40
SIZE = 8 << 20

# busybox's ping waits a second for the last answer, and a busy machine may take longer: one that comes is enough. That none
# is lost is told by sums and counters.
REACHED = """
reached() { ping -c 3 -W 5 $* >/dev/null && echo yes || echo no; }
"""

# A program that reads from descriptor 3 sees no end: nc takes an end there for that of all.
MODULES = REACHED + """
mkfifo /hold
exec 3<>/hold
modprobe virtio_mmio
modprobe virtio_pci
modprobe virtio_net
fact driver $(readlink /sys/class/net/eth0/device/driver | sed 's,.*/,,')
fact mac $(cat /sys/class/net/eth0/address)
fact mtu $(cat /sys/class/net/eth0/mtu)
features=$(cat /sys/class/net/eth0/device/features)
fact features $features
"""

TAP = MODULES + network.ADDRESS + """
fact ping $(reached 10.9.0.1)
fact ping6 $(reached -6 fd09::1)
for host in 10.9.0.1 fd09::1; do
	nc $host 5001 <&3 >/got
	fact sum $(md5sum </got)
	nc $host 5002 </got
	fact sent $host
done
fact packets $(($(cat /sys/class/net/eth0/statistics/rx_packets) + $(cat /sys/class/net/eth0/statistics/tx_packets)))
fact queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)
fact ready
until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done
fact carrier down
ping -c 1 -W 1 10.9.0.1 >/dev/null && fact down reached || fact down nothing
until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
fact again $(reached 10.9.0.1)
fact errors $(cat /sys/class/net/eth0/statistics/rx_errors) $(cat /sys/class/net/eth0/statistics/tx_errors)
"""


def options(transport, what, vhost=False):
    return ["--name", "lab", "--stats", "/tmp/stats", "--network",
            what + (",vhost" if vhost else "") + ",transport=" + transport]


def judge_stats(t, transport, queues, vhost, least=2 * SIZE >> 16, pulled=False):
    """Who was at work for the data queues, by trapline's own count, which is returned; figures go to the notes.

    `least`: frames each way; `pulled`: the cable was, once.
    """
    stats = json.loads(t.sh("cat /tmp/stats"))
    data = [queue for queue in stats["virtio"] if queue["device"] == "net0"][:2 * queues]
    kicks, interrupts = sum(queue["kicks"] for queue in data), sum(queue["interrupts"] for queue in data)
    # Registers and doorbells; the frames' kicks are a signal in the kernel.
    exits = sum(region["reads"] + region["writes"] for region in stats["regions"] if region["device"] == "net0")
    if vhost:
        t.equal("kicks that trapline served", kicks, 0)
        if transport == "pci":
            # Linux masks a vector to move it to another processor; what is signalled meanwhile is ours to keep.
            t.check(interrupts <= 8, "%d interrupts by trapline" % interrupts)
            t.check(exits < 1000, "%d accesses of the device's registers" % exits)
    else:
        t.check(kicks > 0 and interrupts > 0, "%d kicks, %d interrupts" % (kicks, interrupts))
        frames = stats["counters"]["net0"]
        # How many depends on how well the stacks merge them: 64 KiB each at most.
        t.check(min(frames["rx_frames"], frames["tx_frames"]) >= least, "frames: %s" % frames)
        t.equal("frames dropped that were to go",
                [frames["tx_" + why] for why in ("malformed", "oversized", "refused")], [0] * 3)
        # The driver sends nothing once it has noticed.
        t.check(frames["tx_unplugged"] <= 8 * pulled, "%d frames came without a carrier" % frames["tx_unplugged"])
    t.note("%d exits, %d of them the device's, %d kicks, %d interrupts" % (stats["exits"], exits, kicks, interrupts))
    return stats


def tap(t, transport, queues=1, vhost=False):
    if vhost:
        t.sh("modprobe vhost_net")
    t.inner.put("/tmp/up.sh", network.UP, 0o755)
    t.inner.put("/tmp/down.sh", "#!/bin/sh\necho $1 >/tmp/down\n", 0o755)
    t.sh("seq -w 1 9999999 | head -c %d >/tmp/data" % SIZE)
    wanted = t.sh("md5sum </tmp/data").split()[0]
    # One connection a protocol each way; a listener takes both.
    t.sh("mkfifo /tmp/hold; exec 3<>/tmp/hold\n"
         "(for i in 1 2; do nc -l -p 5001 </tmp/data >/dev/null; done) >/dev/null 2>&1 &\n"
         "(for i in 1 2; do nc -l -p 5002 <&3 >/tmp/back$i; done) >/dev/null 2>&1 &\n")
    what = "tap,ifname=lab0,script=/tmp/up.sh,downscript=/tmp/down.sh"
    guest = t.boot(TAP, options=options(transport, what + (",queues=%d" % queues if queues > 1 else ""), vhost), modules="cloud",
                   cpus=queues)
    t.equal("the driver", guest.fact("driver", 90), "virtio_net")
    features = guest.fact("features")
    # Sums and segments both ways, merged buffers, status, the control queue.
    for bit in (0, 1, 2, 5, 7, 8, 11, 12, 15, 16, 17) + (() if vhost else (18, 19)):
        t.check(features[bit] == "1", "the driver has not taken feature %d: %s" % (bit, features))
    t.equal("MQ", features[22], "1" if queues > 1 else "0")
    t.equal("what the tap's script was told", t.sh("cat /tmp/up"), "lab0\n")
    mac = guest.fact("mac")
    t.check(int(mac[:2], 16) & 3 == 2, "%s is not locally administered" % mac)
    t.equal("a ping", guest.fact("ping"), "yes")
    t.equal("a ping of IPv6", guest.fact("ping6", 90), "yes")
    for number, host in enumerate(("10.9.0.1", "fd09::1"), 1):
        t.equal("the sum of what came by %s" % host, guest.fact("sum", 200, again=True).split()[0], wanted)
        guest.fact("sent", 200, again=True)
        t.equal("the sum of what went by %s" % host,
                t.sh("for i in 1 2 3 4 5 6 7 8 9; do [ $(stat -c %%s /tmp/back%d) = %d ] && break; sleep 0.2; done\n"
                     "md5sum </tmp/back%d" % (number, SIZE, number)).split()[0], wanted)
    t.equal("queues", guest.fact("queues"), str(queues))
    guest.fact("ready")
    guest.send(b"\x01n0")
    guest.expect("net0: link down")
    t.equal("the carrier", guest.fact("carrier"), "down")
    t.equal("a ping without a cable", guest.fact("down"), "nothing")
    guest.send(b"\x01n0")
    t.equal("a ping with the cable back", guest.fact("again"), "yes")
    t.equal("the driver's errors", guest.fact("errors"), "0 0")
    guest.ends(0)
    t.equal("what the other script was told", t.sh("cat /tmp/down"), "lab0\n")
    t.equal("what is left of the interface", t.sh("ls /sys/class/net | grep -c lab0; true").strip(), "0")
    t.note("%s packets" % guest.fact("packets"))
    stats = judge_stats(t, transport, queues, vhost, pulled=True)
    # The thread was found, and is one that root may schedule.
    t.check(not vhost or stats["counters"]["net0"]["vhost_patient"] > 0, "the kernel's thread was never told to be patient")


DELETED = MODULES + network.ADDRESS + """
fact ping $(reached 10.9.0.1)
fact ready
until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done
fact carrier down
"""


def deleted(t, transport, vhost=False):
    """Another interface of the host's goes, then the guest's own."""
    if vhost:
        t.sh("modprobe vhost_net")
    t.inner.put("/tmp/up.sh", network.UP, 0o755)
    t.sh("tunctl -t other >/dev/null")
    guest = t.boot(DELETED, options=options(transport, "tap,ifname=lab0,script=/tmp/up.sh", vhost), modules="cloud")
    t.equal("a ping", guest.fact("ping", 90), "yes")
    guest.fact("ready")
    t.sh("ip link del other; sleep 1")
    t.check("is gone" not in guest.log(), "another interface's end was taken for the guest's")
    t.sh("ip link del lab0")
    guest.expect("net0: lab0 is gone: the guest's link is down")
    t.equal("the carrier", guest.fact("carrier"), "down")
    guest.ends(0)
    t.equal("how often it was told", guest.log().count("is gone"), 1)


REBOOT = MODULES + network.ADDRESS + """
fact ping $(reached 10.9.0.1)
nc 10.9.0.1 5003 </dev/zero >/dev/null &
fact up
read answer
[ $answer = again ] && echo b >/proc/sysrq-trigger
kill $!
ip link set eth0 down
"""
# The kernel's own way down, to reboot or to power off, breaks the queues before it resets the device, and where frames are under
# way then, virtio_net's poll (virtnet_poll_cleantx()) goes round for ever: seen with Linux 6.1.192, on one processor. So not
# that way; and a machine that is reset at once has more under way.


def reboot(t, transport, vhost=False):
    if vhost:
        t.sh("modprobe vhost_net")
    t.inner.put("/tmp/up.sh", network.UP, 0o755)
    # Echoes, so that both ways are busy; to each boot anew, for the last one's connection is never closed.
    t.sh("nc -ll -p 5003 -e /bin/cat >/dev/null 2>&1 </dev/null & echo $! >/tmp/echo")
    guest = t.boot(REBOOT, options=options(transport, "tap,ifname=lab0,script=/tmp/up.sh", vhost), modules="cloud")
    macs = set()
    for boot in range(4):
        guest.fact("up", 90, again=True)
        macs.add(guest.fact("mac"))
        before = int(t.sh("cat /sys/class/net/lab0/statistics/rx_bytes"))
        # A MiB, more than a ping or a connection that is refused.
        t.sh("until [ $(cat /sys/class/net/lab0/statistics/rx_bytes) -gt %d ]; do sleep 0.2; done" % (before + (1 << 20)))
        guest.send("again\n" if boot < 3 else "off\n")
    t.equal("boots that reached the host", guest.log().count("@ping yes"), 4)
    t.equal("addresses over the boots", len(macs), 1)
    guest.ends(0)
    t.sh("kill $(cat /tmp/echo); true")
    judge_stats(t, transport, 1, vhost, 4 << 20 >> 16)


USER = MODULES + network.LEASE + """
fact lease $ip
fact router $router
nc $router 5001 <&3 >/got
fact sum $(md5sum </got)
head -c UPLOAD /got | nc $router 5002
fact sent
(echo hello from the guest | nc -l -p 80 >/heard) &
until netstat -tln | grep -q :80; do sleep 0.1; done
fact listening
wait
fact heard $(cat /heard)
fact ready
until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done
fact carrier down
"""

# On a busy machine Debian's passt resets longer uploads; virtio_transfer.py tells why.
UPLOAD = 1 << 20


def user(t, transport):
    with network.passt(t) as before:
        user_guest(t, transport, before)


def user_guest(t, transport, before):
    t.sh("seq -w 1 9999999 | head -c %d >/tmp/data" % SIZE)
    wanted = t.sh("md5sum </tmp/data").split()[0]
    t.sh("mkfifo /tmp/hold; exec 3<>/tmp/hold\n"
         "nc -l -p 5001 </tmp/data >/dev/null 2>&1 &\n"
         "nc -l -p 5002 <&3 >/tmp/back 2>/dev/null &\n")
    t.initrd(USER.replace("UPLOAD", str(UPLOAD)), modules="cloud")
    guest = t.start(before + t.command(options=options(transport, "user,tcp=8080:80")))
    t.equal("the driver", guest.fact("driver", 90), "virtio_net")
    t.equal("the guest's address, which is the host's", guest.fact("lease", 60), "192.0.2.2")
    t.equal("the guest's router", guest.fact("router"), "192.0.2.1")
    t.equal("the sum of what came", guest.fact("sum", 60).split()[0], wanted)
    guest.fact("sent", 60)
    t.equal("the sum of what went", t.sh("for i in 1 2 3 4 5 6 7 8 9; do [ $(stat -c %%s /tmp/back) = %d ] && break; "
                                         "sleep 0.2; done; md5sum </tmp/back" % UPLOAD).split()[0],
            t.sh("head -c %d /tmp/data | md5sum" % UPLOAD).split()[0])
    guest.fact("listening")
    t.equal("what the guest said to port 8080", t.sh("echo hello to you | timeout 10 nc 127.0.0.1 8080"),
            "hello from the guest\n")
    t.equal("what it heard", guest.fact("heard"), "hello to you")
    guest.fact("ready")
    t.sh("kill -KILL $(pidof passt passt.avx2)")
    guest.expect("net0: passt is gone, killed by signal 9 \\(Killed\\): the guest's link is down")
    t.equal("the carrier", guest.fact("carrier"), "down")
    guest.ends(0)
    t.check(not t.sh("pidof passt passt.avx2; true").strip(), "passt is left behind")


def test(t, way, transport, **how):
    {"tap": tap, "user": user, "reboot": reboot, "deleted": deleted}[way](t, transport, **how)
