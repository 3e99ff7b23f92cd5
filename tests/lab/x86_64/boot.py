# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel, as packaged or unpacked, to init and power-off."""

CASES = {
    "%s-%s-%dcpu" % (kernel, "bzimage" if image == "packaged" else image, cpus):
        {"kernel": kernel, "image": image, "cpus": cpus}
    for kernel, image, cpus in (
        ("cloud", "packaged", 1), ("cloud", "packaged", 2), ("cloud", "packaged", 8),
        ("full", "packaged", 1), ("full", "packaged", 2), ("full", "packaged", 8),
        ("cloud", "vmlinux", 1), ("full", "vmlinux", 2))
}


def test(t, kernel, image, cpus):
    guest = t.boot("fact cpus $(nproc)\nfact release $(uname -r)\nfact boot $(cat /proc/cmdline)\n",
                   kernel=kernel, image=image, cpus=cpus)
    t.note("init after %s s" % guest.fact("init", 90))
    t.equal("processors that the guest sees", guest.fact("cpus"), str(cpus))
    t.check(("cloud" in guest.fact("release")) == (kernel == "cloud"), "not the %s kernel: %s" % (
        kernel, guest.fact("release")))
    t.check("console=ttyS0" in guest.fact("boot"), "no console in the command line: " + guest.fact("boot"))
    guest.ends(0)
