# SPDX-License-Identifier: BSD-2-Clause
"""A guest with its pvpanic driver loaded tells of a panic, which is status 17; without it the kernel does as it would."""

CASES = {"cloud": {"kernel": "cloud"}, "full": {"kernel": "full"}, "no-driver": {"kernel": "cloud", "driver": False}}

GUEST = '''
%s
fact device $(ls /sys/bus/acpi/devices | grep QEMU0001)
fact driver $(ls -d /sys/bus/platform/drivers/pvpanic-mmio/QEMU*)
fact knows $(cat /sys/bus/platform/drivers/pvpanic-mmio/QEMU*/capability)
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
'''


def test(t, kernel, driver=True):
    guest = t.boot(GUEST % ("modprobe pvpanic-mmio" if driver else ""), modules="drivers", kernel=kernel,
                   append="panic=5", options=("--no-reboot",))
    t.check(guest.fact("device", 100).startswith("QEMU0001"), "ACPI does not tell of the device")
    if driver:
        t.equal("what the driver knows of it", guest.fact("knows"), "3")
    guest.expect("Kernel panic - not syncing: sysrq triggered crash", 30)
    guest.ends(17 if driver else 16, 30)
    t.equal("that trapline tells of the panic", "trapline: the guest has panicked" in guest.log(), driver)
