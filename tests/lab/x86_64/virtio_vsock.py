# SPDX-License-Identifier: BSD-2-Clause
"""
The stock kernel's virtio-vsock, served by the host's kernel and by trapline over Unix sockets: streams both ways that
come back byte for byte, many at once, ports where nobody listens, and reboots with streams open.
"""

import json

import program

ALSO = {"arm64": ("uds-pci",)}
CASES = {
    "kernel-pci": {"way": "kernel", "transport": "pci"},
    "kernel-mmio": {"way": "kernel", "transport": "mmio"},
    "uds-pci": {"way": "uds", "transport": "pci"},
    "uds-mmio": {"way": "uds", "transport": "mmio"},
}
TIMEOUT = 500
SECONDS = 40
PROGRAM = {}

CID = 42
BYTES = 1 << 20

SCRIPT = """
modprobe virtio_mmio
modprobe virtio_pci
modprobe vmw_vsock_virtio_transport
step() {
	/prog "$@" | while read -r line; do fact step $line; done
}
step cid %d
/prog serve vsock:4294967295:1234 >/dev/null &
fact which
read -r boot
if [ "$boot" = first ]; then
	step check vsock:2:5000 1 %d
	step check vsock:2:5000 16 100000
	step refused vsock:2:5999
	fact there
	read -r answer
	/prog hold vsock:2:5000 &
	sleep 1
	fact holds
	read -r answer
	reboot -f
fi
step check vsock:2:5000 4 100000
fact back
read -r answer
step cid %d
fact step ok end
fact done
""" % (CID, BYTES, CID)


def build(folder):
    PROGRAM["prog"] = program.build(folder, __file__)
    return []


def test(t, way, transport):
    t.inner.put("/tmp/prog", PROGRAM["prog"], 0o755)
    kernel = way == "kernel"
    if kernel:
        t.sh("modprobe vhost_vsock")
    # Both ends' addresses, as the host's programs have them.
    here = "vsock:4294967295:5000" if kernel else "unix:/tmp/vs_5000"
    there = "vsock:%d:%%d" % CID if kernel else "uds:/tmp/vs:%d"
    t.sh("/tmp/prog serve %s >/tmp/served 2>&1 </dev/null & echo $! >/tmp/server" % here)
    guest = t.boot(SCRIPT, files=PROGRAM.items(), modules="drivers",
                   options=["--stats", "/tmp/stats", "--vsock",
                            "%d%s,transport=%s" % (CID, "" if kernel else ",uds=/tmp/vs", transport)])
    guest.fact("which", 90)
    if kernel:
        said = t.sh("trapline device-test --vsock %d </dev/null 2>&1; true" % CID)
        t.check("CID %d is another guest's" % CID in said, "of a CID that is taken: %s" % said)
    guest.send("first\n")
    guest.fact("there", 120)
    for line in ("check %s 1 %d" % (there % 1234, BYTES), "check %s 16 100000" % (there % 1234),
                 "refused " + there % 999):
        said = t.sh("/tmp/prog %s; true" % line)
        t.check(said.startswith("ok ") and "wrong" not in said, "from the host, %s: %s" % (line, said))
    # A stream of the host's and one of the guest's are open when it reboots: the host's end sees it.
    t.sh("/tmp/prog hold %s >/tmp/held 2>&1 </dev/null & echo $! >/tmp/holder" % (there % 1234))
    guest.send("hold\n")
    guest.fact("holds", 60)
    t.sh("for i in $(seq 100); do grep -q held /tmp/held && break; sleep 0.1; done")
    guest.send("again\n")
    guest.fact("which", 90, again=True)
    guest.send("second\n")
    guest.fact("back", 90)
    said = t.sh("/tmp/prog check %s 4 100000; true" % (there % 1234))
    t.check(said.startswith("ok "), "after a reboot: %s" % said)
    if not kernel:
        # The kernel learns it when the guest's next packet is answered, or not at all.
        t.equal("the host's stream over the reboot", t.sh("cat /tmp/held"), "ok held\nok over\n")
    guest.send("off\n")
    program.judge(t, guest)
    guest.ends(0)
    t.sh("kill $(cat /tmp/server) $(cat /tmp/holder) 2>/dev/null; true")
    queues = {queue["queue"]: queue for queue in json.loads(t.sh("cat /tmp/stats"))["virtio"]
              if queue["device"] == "vsock0"}
    if kernel:
        t.equal("kicks that came to trapline", queues[0]["kicks"] + queues[1]["kicks"], 0)
        if transport == "pci":
            # But for what is signalled while the driver has a vector masked.
            ours = queues[0]["interrupts"] + queues[1]["interrupts"]
            t.check(ours <= 8, "%d interrupts by trapline" % ours)
    else:
        t.check(queues[1]["kicks"] > 0, "no kick came")
        t.equal("what is left of the socket", t.sh("ls /tmp/vs 2>/dev/null; true"), "")
