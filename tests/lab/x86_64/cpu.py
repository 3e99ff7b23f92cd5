# SPDX-License-Identifier: BSD-2-Clause
"""What CPUID says is what a stock kernel makes of it: one package of as many cores as vCPUs, x2APIC, kvmclock."""

CASES = {"1": {"cpus": 1}, "4": {"cpus": 4}}

GUEST = """
fact cpus $(nproc)
fact packages $(cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort -u | wc -l)
fact cores $(cat /sys/devices/system/cpu/cpu*/topology/core_id | sort -u | wc -l)
fact threads $(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)
fact apicids $(sed -n 's/^apicid.*: //p' /proc/cpuinfo)
fact flags $(sed -n 's/^flags.*: //p' /proc/cpuinfo | head -1)
fact clocksource $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)
fact hypervisor $(dmesg | grep -c 'Hypervisor detected: KVM')
fact name $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
"""


def test(t, cpus):
    guest = t.boot(GUEST, cpus=cpus)
    guest.fact("init", 90)
    t.equal("processors", guest.fact("cpus"), str(cpus))
    t.equal("packages", guest.fact("packages"), "1")
    t.equal("cores", guest.fact("cores"), str(cpus))
    t.equal("hardware threads of the first core", guest.fact("threads"), "0")
    t.equal("APIC ids", guest.fact("apicids"), " ".join(str(n) for n in range(cpus)))
    flags = guest.fact("flags").split()
    for flag in ("x2apic", "hypervisor", "lm", "nx"):
        t.check(flag in flags, "no '%s' among the processor's flags" % flag)
    t.check("kvm-clock" in guest.fact("clocksource"), "clock sources are only: " + guest.fact("clocksource"))
    t.equal("times that the kernel detects KVM", guest.fact("hypervisor"), "1")
    t.note(guest.fact("name"))
    guest.ends(0)
