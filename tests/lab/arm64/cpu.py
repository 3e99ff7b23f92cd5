# SPDX-License-Identifier: BSD-2-Clause
"""What a stock guest sees of its processors: SVE, MTE, pointer authentication, PMU, stolen time; each switch takes it away; a reset keeps it."""

CASES = {
    "max": {"bed": "max", "options": ("--pmu",), "sve": 64, "mte": True, "pac": True, "pmu": True},
    "less": {"bed": "max", "options": ("--disable-sve", "--disable-mte", "--no-pvtime"), "sve": 0, "mte": False, "pac": True,
             "pmu": False, "stolen": False},
    "short": {"bed": "max", "options": ("--sve-max-vl", "256", "--mem-file", "/tmp/ram"), "sve": 32, "mte": False, "pac": True,
              "pmu": False},
    "plain": {"options": ("--pmu",), "sve": 0, "mte": False, "pac": False, "pmu": True},
    "gicv2": {"bed": "gicv2", "options": ("--pmu",), "sve": 0, "mte": False, "pac": False, "pmu": True},
    # Neither a PMU that the host drives, nor 32-bit kernels, nor SVE.
    "refused": {"bed": "n1"},
}
KERNELS = [("cloud", "packaged")]
TIMEOUT = 400
SECONDS = 60

# Two that always want to run, on one processor of the inner machine: time is stolen, and counted where the guest is told.
SCRIPT = """
fact features $(sed -n 's/^Features.*: //p' /proc/cpuinfo | head -1)
facts log <<END
$(dmesg | grep -E 'stolen|PMU|SVE|KASLR')
END
fact sve $(cat /proc/sys/abi/sve_default_vector_length)
fact counters $(ls /sys/bus/event_source/devices)
for cpu in 0 1; do (taskset $((1 << cpu)) timeout 2 sh -c 'while :; do :; done') & done
wait
fact stolen $(awk '/^cpu / { print $9 }' /proc/stat)
read answer
[ $answer = again ] && reboot -f
"""


def refused(t):
    for option, name in ((("--pmu",), "KVM_CAP_ARM_PMU_V3"), (("--aarch32",), "KVM_CAP_ARM_EL1_32BIT"),
                         (("--nested",), "KVM_CAP_ARM_EL2"), (("--sve-max-vl", "128"), "KVM_CAP_ARM_SVE")):
        kernel = "/dev/null"
        if option == ("--aarch32",):
            # The least that is a zImage: KVM is asked when the files are known to be good.
            t.sh("{ head -c 36 /dev/zero; printf '\\030\\050\\157\\001\\0\\0\\0\\0\\060\\0\\0\\0\\001\\002\\003\\004'; "
                 "head -c 64 /dev/zero; } >/tmp/zImage")
            kernel = "/tmp/zImage"
        else:
            kernel = t.kernel("cloud", "packaged")
        said = t.sh("trapline run -k %s %s" % (kernel, " ".join(option)), status=4).strip()
        t.check("%s: this KVM lacks %s (" % (option[0], name) in said, said)
    t.note(said)


def test(t, bed="", options=(), sve=0, mte=False, pac=False, pmu=False, stolen=True):
    if bed == "n1":
        refused(t)
        return
    guest = t.boot(SCRIPT, image="packaged", cpus=2, options=options)
    for start in range(2):
        features = guest.fact("features", 180, again=True).split()
        guest.fact("log", again=True)
        t.equal("SVE", "sve" in features, bool(sve))
        t.equal("MTE", "mte" in features, mte)
        t.equal("pointer authentication", ("paca" in features, "pacg" in features), (pac, pac))
        t.equal("bytes of SVE's vectors", guest.fact("sve", again=True), str(sve) if sve else "")
        t.equal("a PMU", "armv8_pmuv3" in guest.fact("counters", again=True), pmu)
        ticks = int(guest.fact("stolen", 60, again=True))
        t.equal("stolen time", ticks > 0, stolen)
        guest.send("off\n" if start else "again\n")
    guest.ends(0)
    log = guest.facts("log")
    t.equal("starts that tell of stolen time", len([line for line in log if "using stolen time PV" in line]), 2 if stolen else 0)
    t.equal("starts that tell of a PMU", len([line for line in log if "PMU driver" in line]), 2 if pmu else 0)
    t.note("%d ticks stolen; %s" % (ticks, " ".join(sorted(set(features) & {"sve", "mte", "paca", "pacg", "sve2"}))))
