# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel to init and power-off."""

CASES = {"%s-%dcpu" % (kernel, cpus): {"kernel": kernel, "image": "packaged", "cpus": cpus}
         for kernel, cpus in (("cloud", 1), ("cloud", 2), ("full", 1))}
CASES["gicv2-2cpu"] = {"kernel": "cloud", "image": "packaged", "cpus": 2, "bed": "gicv2"}
CASES["by-wires"] = {"kernel": "cloud", "image": "packaged", "cpus": 1, "irqchip": "gicv3"}
CASES["cloud-8cpu"] = {"kernel": "cloud", "image": "packaged", "cpus": 8}
# Of Debian 13: 6.12, which unpacks itself as EFI programs do (zboot), or trapline does that.
CASES["newer"] = {"kernel": "newer", "image": "packaged", "cpus": 2}
ON_REQUEST = ("8cpu",)
TIMEOUT = 240


def test(t, kernel, image, cpus, bed="", irqchip=None):
    guest = t.boot("fact cpus $(nproc)\nfact release $(uname -r)\nfact boot $(cat /proc/cmdline)\n"
                   "fact gic $(awk '/arch_timer/ { print $(NF - 3) }' /proc/interrupts | head -1)\n"
                   "fact clock $(date +%s) $(cat /sys/class/rtc/rtc0/name)\n",
                   kernel=kernel, image=image, cpus=cpus,
                   options=("--irqchip", irqchip, "--dump-dtb", "/tmp/tree") if irqchip else ())
    t.note("init after %s s" % guest.fact("init", 200))
    t.equal("processors that the guest sees", guest.fact("cpus"), str(cpus))
    t.check(("cloud" in guest.fact("release")) == (kernel != "full"), "not the %s kernel: %s" % (
        kernel, guest.fact("release")))
    t.check("console=ttyS0" in guest.fact("boot"), "no console in the command line: " + guest.fact("boot"))
    if irqchip:
        tree = t.sh("cat /tmp/tree | tr '\\0' '\\n'")
        t.check("arm,gic-v3" in tree and "arm,gic-v3-its" not in tree, "the device tree: %s" % tree)
    t.equal("the interrupt controller", guest.fact("gic"), "GIC-0" if bed == "gicv2" else "GICv3")
    seconds, *name = guest.fact("clock").split()
    t.equal("the clock", name[0], "rtc-pl031")
    t.check(abs(int(seconds) - int(t.sh("date +%s"))) < 30, "the guest's time is %s" % seconds)
    guest.ends(0)
