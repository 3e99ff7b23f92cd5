# SPDX-License-Identifier: BSD-2-Clause
"""Every virtio device at once, from two vCPUs: all that comes back is right, in the middle of it the guest is reset."""

import json
import os
import threading
import time

import program

ALSO = {"arm64": ()}
CASES = {
    "pci": {"transport": "pci"},
    "mmio": {"transport": "mmio"},
    "pci-legacy": {"transport": "pci-legacy", "seconds": 3, "reboots": 0},
    "mmio-legacy": {"transport": "mmio-legacy", "seconds": 3, "reboots": 0},
    "minute": {"transport": "pci", "seconds": 60, "reboots": 0},
}
ON_REQUEST = ("mmio", "minute")
KERNELS = [("full", "vmlinux")]
# Of one processor: with two the emulated machine loses track of guest memory under this load, and guests, or the inner
# kernel itself, are reset out of the blue. (Another defect than bed/mended.py's.)
INNER_CPUS = 1
TIMEOUT = 600
SECONDS = 45
PROGRAMS = {}

# Numbers of the specification: net, disk, console, random numbers, balloon, 9P.
DEVICES = (1, 2, 3, 4, 5, 9)

SCRIPT = '''
modprobe virtio_%s
for module in virtio_blk virtio_net virtio_console virtio_rng virtio_balloon 9pnet_virtio 9p; do modprobe $module; done
for device in /sys/bus/virtio/devices/*; do
	echo $(($(cat $device/device))) $(cut -c 33 $device/features) $(readlink $device/driver | sed 's,.*/,,')
done | facts devices
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
mkdir /mnt
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share /mnt
fact mounted $(grep -c ' /mnt 9p ' /proc/mounts)
until ping -c 1 -W 1 10.9.0.1 >/dev/null; do :; done
until (: <>/dev/hvc0) 2>/dev/null; do usleep 10000; done
fact boot
read seconds port
fact started $seconds $port
tell() {
	while read -r line; do fact step $line; done </steps
	grep -q ^wrong /steps && dmesg | tail -n 40 | facts dmesg
	fact told
}
/prog $seconds /dev/vda /dev/hvc0 /mnt 10.9.0.1 $port >/steps &
until grep -q 'all are in use' /steps || ! kill -0 $!; do usleep 10000; done
fact used
if [ $seconds = 1000 ]; then
	read answer
	kill -0 $! && fact alive
	tell
	# What the console still holds back is lost with a reset.
	read answer
	echo b >/proc/sysrq-trigger
fi
wait
until read -t 1 answer; do fact over; done
tell
echo 3 >/proc/sys/vm/drop_caches
fact whole $(md5sum </dev/vda)
fact done
'''

UP = """#!/bin/sh
ip addr add 10.9.0.1/24 dev $1 && ip link set $1 up
"""


def build(folder):
    here = os.path.dirname(os.path.abspath(__file__))
    PROGRAMS["prog"] = program.build(folder, __file__)
    PROGRAMS["client"] = program.build(folder, os.path.join(here, "console_client.c"))
    return []


def host(t, boots):
    """What the devices talk to; TCP on a port for each boot, for what is cut off is not heard of here."""
    t.inner.put("/tmp/up.sh", UP, 0o755)
    t.inner.put("/tmp/client", PROGRAMS["client"], 0o755)
    t.sh("truncate -s 8M /tmp/a; mkdir /tmp/share; mkfifo /tmp/loop\n"
         "for n in $(seq %d); do nc -l -p $((5002 + n)) -e /bin/cat >/dev/null 2>&1 </dev/null & done\n"
         "/tmp/client /tmp/hvc0 <>/tmp/loop >/tmp/loop 2>/dev/null &\n" % boots)


def squeeze(guest, halt):
    """The balloon up to a quarter of the guest's memory and back, until told to stop."""
    while not halt.wait(1):
        guest.send(b"\x01+" * 4)
        halt.wait(1)
        guest.send(b"\x01-" * 4)


def hammer(t, guest, seconds, port):
    """The work of one boot. What the balloon's keys have trapline say may break into the guest's lines, so all that it
    tells in that time is that it is over, again and again; it goes on when the answer, behind the last key, has come."""
    halt = threading.Event()
    keys = threading.Thread(target=squeeze, args=(guest, halt))
    guest.send("%d %d\n" % (seconds, port))
    t.equal("what the guest was told", guest.fact("started", 60, again=True), "%d %d" % (seconds, port))
    guest.fact("used", 120, again=True)
    keys.start()
    try:
        if seconds < 1000:
            guest.fact("over", 300)
        else:
            time.sleep(2)
    finally:
        halt.set()
        keys.join()
    guest.send("go on\n")
    if seconds < 1000:
        return program.judge(t, guest, 60)
    guest.fact("told", 60, again=True)
    guest.send("reset\n")
    return []


def test(t, transport, seconds=8, reboots=2):
    host(t, reboots + 1)
    legacy = transport.endswith("-legacy")
    words = []
    for device in ("--disk=/tmp/a", "--network=tap,ifname=lab0,script=/tmp/up.sh", "--rng", "--balloon", "--9p=/tmp/share,share",
                   "--console=hvc0=socket:/tmp/hvc0", "--stats=/tmp/stats"):
        words += device.split("=", 1)
    driver = "pci" + " force_legacy=1" * legacy if "pci" in transport else "mmio"
    guest = t.boot(SCRIPT % driver, files=[("prog", PROGRAMS["prog"])], kernel="full", modules="full", memory="384", cpus=2,
                   options=words + ["--virtio-transport", transport])
    for boot in range(reboots + 1):
        guest.fact("boot", 200, again=True)
        steps = hammer(t, guest, seconds if boot == reboots else 1000, 5003 + boot)
    devices = [line.split() for line in guest.facts("devices")][:len(DEVICES)]
    t.equal("the devices", sorted(int(words[0]) for words in devices), list(DEVICES))
    t.equal("VERSION_1 taken", {words[1] for words in devices}, {"0" if legacy else "1"})
    t.equal("mounts in all boots", guest.lines().count("@mounted 1"), reboots + 1)
    t.equal("boots in which all were in use", guest.lines().count("@step ok all are in use"), reboots + 1)
    t.equal("boots that were reset in the middle of it", guest.lines().count("@alive "), reboots)
    whole = guest.fact("whole", 60).split()[0]
    guest.ends(0)
    t.equal("what the host has of the disk", t.sh("md5sum </tmp/a").split()[0], whole)
    t.equal("what is left in the folder", t.sh("ls /tmp/share"), "")
    idle = [queue for queue in json.loads(t.sh("cat /tmp/stats"))["virtio"] if queue["kicks"] == 0]
    t.sh("killall nc client; true")
    t.note("; ".join(step[3:] for step in steps if step.endswith("rounds")))
    t.note("%d queues were never kicked" % len(idle))
