# SPDX-License-Identifier: BSD-2-Clause
"""Firmware calls answered here, not by KVM: processors start, stop and start again, a reset, power-off; an older KVM says that it cannot."""
import json

CASES = {"user": {"bed": "newer", "cpus": 2, "options": ()}, "aarch32": {"bed": "newer", "cpus": 1, "kernel": "armmp", "options": ("--aarch32",)},
         "older": {"cpus": 0, "options": ()}}
KERNELS = [("cloud", "packaged"), ("armmp", "packaged")]
ON_REQUEST = ("aarch32",)
TIMEOUT = 400
SECONDS = 40

TRACING = "/sys/kernel/tracing"
WATCH = """
[ -e {0}/trace ] || mount -t tracefs tracefs {0}
echo kvm_reset_vcpu >{0}/set_ftrace_filter
echo function >{0}/current_tracer
echo >{0}/trace
""".format(TRACING)

SCRIPT = """
fact cpus $(nproc)
fact version $(dmesg | sed -n 's/.*psci: //p' | grep -m 1 detected)
if [ -e /sys/devices/system/cpu/cpu1/online ]; then
	for i in 1 2 3; do
		echo 0 >/sys/devices/system/cpu/cpu1/online
		fact down $(nproc)
		echo 1 >/sys/devices/system/cpu/cpu1/online
		fact up $(nproc)
	done
	taskset 2 true && fact ran
fi
read answer
[ $answer = again ] && reboot -f
"""


def test(t, cpus, options, kernel="cloud", bed=""):
    words = ("--psci", "user", "--stats", "/tmp/stats", *options)
    if not cpus:
        said = t.sh("trapline run -k %s --psci user" % t.kernel("cloud", "packaged"), status=4).strip()
        t.check("--psci user: this KVM lacks KVM_ARM_VM_SMCCC_FILTER" in said and "6.4" in said, said)
        t.note(said)
        return
    t.sh(WATCH)
    guest = t.boot(SCRIPT, kernel=kernel, image="packaged", cpus=cpus, options=words)
    for start in range(2):
        t.equal("processors", guest.fact("cpus", 180, again=True), str(cpus))
        t.equal("PSCI", guest.fact("version", again=True).split()[:2], ["PSCIv1.0", "detected"])
        if cpus > 1:
            for _ in range(3):
                t.equal("processors with one off", guest.fact("down", again=True), "1")
                t.equal("processors with it on again", guest.fact("up", again=True), "2")
            guest.fact("ran", again=True)
        guest.send("off\n" if start else "again\n")
    guest.ends(0)
    # A machine's two starts reset each vCPU, and so does each start of one that has run; the first start of one does not.
    t.equal("resets of vCPUs", t.sh("grep -c kvm_reset_vcpu %s/trace" % TRACING).strip(), str(2 * cpus + 2 * 3 * (cpus - 1)))
    exits = json.loads(t.sh("cat /tmp/stats"))
    t.note("%s; %d exits" % (t.sh("uname -r").strip(), exits["exits"]))
