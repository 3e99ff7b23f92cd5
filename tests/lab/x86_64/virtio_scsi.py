# SPDX-License-Identifier: BSD-2-Clause
"""
The stock kernel's virtio-scsi with a target of the inner machine's kernel behind it (vhost-scsi), made through configfs from
a file: what is in the file is read, what is written is in the file, also over reboots with commands under way.
"""

import json

ALSO = {"arm64": ("pci",)}
CASES = {
    "pci": {"transport": "pci"},
    "pci-legacy": {"transport": "pci-legacy"},
    "mmio": {"transport": "mmio"},
    # A queue for each processor.
    "2cpu": {"transport": "pci", "cpus": 2},
}
TIMEOUT = 400
SECONDS = 40

# A target for each case: an inner machine has several of them, and a target stays, with its file.
WWPN = "naa.600140554cf3a1%02x"
MIB = 4

TARGET = """
modprobe target_core_mod && modprobe target_core_file && modprobe vhost_scsi
grep -q configfs /proc/mounts || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/target
mkdir -p core/fileio_0/lab%(number)d vhost/%(wwpn)s/tpgt_1/lun/lun_0
echo fd_dev_name=/tmp/lun%(number)d,fd_dev_size=%(bytes)d >core/fileio_0/lab%(number)d/control
echo 1 >core/fileio_0/lab%(number)d/enable
echo naa.60014055aa00aa00 >vhost/%(wwpn)s/tpgt_1/nexus
ln -s ../../../../../../target/core/fileio_0/lab%(number)d vhost/%(wwpn)s/tpgt_1/lun/lun_0/lab%(number)d 2>/dev/null ||
	ln -s /sys/kernel/config/target/core/fileio_0/lab%(number)d vhost/%(wwpn)s/tpgt_1/lun/lun_0/lab%(number)d
ls vhost/%(wwpn)s/tpgt_1/lun/lun_0
"""

SCRIPT = """
modprobe virtio_mmio
modprobe virtio_pci
modprobe virtio_scsi
modprobe sd_mod
for i in $(seq 100); do [ -b /dev/sda ] && break; sleep 0.1; done
fact size $(cat /sys/block/sda/size)
fact model $(cat /sys/block/sda/device/vendor)
fact sum $(md5sum </dev/sda)
fact which
read -r boot
if [ "$boot" = write ]; then
	head -c %d /dev/urandom >/data
	fact made $(md5sum </data)
	dd if=/data of=/dev/sda bs=64k 2>/dev/null
	sync
	fact written
	read -r answer
	(while :; do dd if=/dev/sda of=/dev/null bs=64k iflag=direct 2>/dev/null; done) &
	sleep 1
	reboot -f
fi
fact done
""" % (MIB << 20)


def test(t, transport, cpus=1):
    number = 4 * cpus + sorted(case["transport"] for case in CASES.values()).index(transport)
    lun, wwpn = "/tmp/lun%d" % number, WWPN % number
    t.sh("seq -w 5 9999999 | head -c %d >%s" % (MIB << 20, lun))
    said = t.sh(TARGET % {"wwpn": wwpn, "bytes": MIB << 20, "number": number})
    t.check("lab" in said, "the target was not made: %s" % said)
    guest = t.boot(SCRIPT, cpus=cpus, modules="drivers", options=[
        "--stats", "/tmp/stats", "--scsi", "wwpn=%s,transport=%s" % (wwpn, transport)])
    for boot in range(2):
        t.equal("sectors", guest.fact("size", 90, again=True), str(MIB << 11))
        t.equal("the vendor", guest.fact("model", again=True), "LIO-ORG")
        t.equal("what the guest reads in boot %d" % boot, guest.fact("sum", 60, again=True).split()[0],
                t.sh("md5sum <" + lun).split()[0])
        guest.fact("which", again=True)
        if boot == 0:
            guest.send("write\n")
            made = guest.fact("made", 60).split()[0]
            guest.fact("written", 90)
            t.equal("what the guest wrote", t.sh("md5sum <" + lun).split()[0], made)
            guest.send("again\n")
    guest.send("off\n")
    guest.fact("done")
    guest.ends(0)
    queues = [queue for queue in json.loads(t.sh("cat /tmp/stats"))["virtio"] if queue["device"] == "scsi0"]
    t.equal("kicks that came to trapline", sum(queue["kicks"] for queue in queues), 0)
    # The target is free again, and one that is not there is told.
    said = t.sh("trapline device-test --scsi wwpn=%s </dev/null 2>&1; true" % wwpn)
    t.check("scsi0" not in said, "after the guest: %s" % said)
    said = t.sh("trapline device-test --scsi wwpn=naa.0123456789abcdef </dev/null 2>&1; true")
    t.check("there is no such target" in said and "targetcli" in said, "of a target that is not there: %s" % said)
