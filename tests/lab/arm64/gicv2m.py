# SPDX-License-Identifier: BSD-2-Clause
"""A GICv2's frame for messages, which is the best on a host without GICv3: MSI-X by it, a reset, and the host kernel's own messages (vhost-net)."""

import json

import network

CASES = {
    # What --irqchip says, and whether frames are carried by the host's kernel, which then signals the frame's lines itself.
    "auto": {"bed": "gicv2", "irqchip": "auto", "vhost": False},
    "vhost": {"bed": "gicv2", "irqchip": "gicv2m", "vhost": True},
    "wires": {"bed": "gicv2", "irqchip": "gicv2", "vhost": False},
    # The usual bed's GICv3 has no GICv2 in it.
    "refused": {"bed": "", "irqchip": "gicv2m", "vhost": False},
}
TIMEOUT = 300
SECONDS = 30
PINGS = 100

SCRIPT = """
modprobe virtio_pci
modprobe virtio_net
modprobe virtio_rng
""" + network.ADDRESS + """
fact random $(head -c 4096 /dev/hwrng | gzip | wc -c)
fact pings $(ping -A -c PINGS -W 5 10.9.0.1 | sed -n 's/.* \\([0-9]*\\) packets received.*/\\1/p')
fact frame $(ls /sys/firmware/devicetree/base/interrupt-controller@3fff0000 | grep msi-controller)
facts interrupts </proc/interrupts
read again
"""


def judge_interrupts(t, guest, irqchip):
    lines = [line for line in guest.facts("interrupts") if "virtio" in line]
    by_message = [line for line in lines if " MSI" in line and "Edge" in line]
    t.check(lines and (by_message == lines if irqchip != "gicv2" else not by_message), "interrupts:\n" + "\n".join(lines))
    t.check(sum(int(line.split()[1]) for line in lines) >= PINGS, "too few interrupts:\n" + "\n".join(lines))


def test(t, bed, irqchip, vhost):
    t.inner.put("/tmp/up.sh", network.UP, 0o755)
    if vhost:
        t.sh("modprobe vhost_net")
    guest = t.boot(SCRIPT.replace("PINGS", str(PINGS)), modules="cloud",
                   options=["--irqchip", irqchip, "--rng", "--stats", "/tmp/stats", "--network",
                            "tap,ifname=lab0,script=/tmp/up.sh" + (",vhost" if vhost else "")])
    if not bed:
        guest.expect("--irqchip %s: this KVM has no GICv2 for guests; --irqchip auto takes" % irqchip)
        guest.ends(4)
        return
    for life in range(2):
        t.check(int(guest.fact("random", 120, again=True)) > 4090, "what it read is not random")
        t.equal("pings", guest.fact("pings", 120, again=True), str(PINGS))
        t.equal("the frame in the device tree", guest.fact("frame", again=True),
                "" if irqchip == "gicv2" else "msi-controller@1035000")
        guest.fact("interrupts", again=True)
        judge_interrupts(t, guest, irqchip)
        guest.send(b"\n" if life else b"\x01r")
    guest.ends(0)
    queues = [queue for queue in json.loads(t.sh("cat /tmp/stats"))["virtio"] if queue["device"] == "net0"][:2]
    by_us = sum(queue["interrupts"] for queue in queues)
    t.check(by_us <= 8 if vhost else by_us >= PINGS, "%d interrupts by trapline: %s" % (by_us, queues))
    t.note("%d interrupts by trapline, %d kicks" % (by_us, sum(queue["kicks"] for queue in queues)))
