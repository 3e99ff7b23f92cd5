# SPDX-License-Identifier: BSD-2-Clause
"""A stock kernel, as packaged or unpacked, by each way to start it, to init and power-off."""

# The cloud kernel is packed with LZ4, the full one with xz.
CASES = {
    "%s-%s-%dcpu" % (kernel, "bzimage" if image == "packaged" else image, cpus):
        {"kernel": kernel, "image": image, "cpus": cpus}
    for kernel, image, cpus in (
        ("cloud", "packaged", 1), ("cloud", "packaged", 2), ("cloud", "packaged", 8),
        ("full", "packaged", 1), ("full", "packaged", 2), ("full", "packaged", 8),
        ("cloud", "vmlinux", 1), ("full", "vmlinux", 2))
}
CASES.update({
    "by-" + way + ("" if image == "packaged" else "-" + image): {"kernel": "cloud", "image": image, "cpus": 1, "way": way}
    for way, image in (("elf64", "packaged"), ("elf64", "vmlinux"), ("bzimage64", "packaged"), ("bzimage32", "packaged"))
})
CASES["by-bzimage64-full"] = {"kernel": "full", "image": "packaged", "cpus": 1, "way": "bzimage64"}
TIMEOUT = 300


def test(t, kernel, image, cpus, way=None):
    told = t.machine(kernel=kernel, image=image, options=("--boot", way) if way else ())["kernel"]
    t.equal("the way", told["boot"], way or "pvh")
    t.check(told["note"] is None, "%s" % told["note"])
    t.equal("randomised", told["kaslr"], (way or "pvh").startswith("bzimage"))
    guest = t.boot("fact cpus $(nproc)\nfact release $(uname -r)\nfact boot $(cat /proc/cmdline)\n"
                   "fact text $(grep -w _text /proc/kallsyms)\n",
                   kernel=kernel, image=image, cpus=cpus, options=("--boot", way) if way else ())
    t.note("init after %s s" % guest.fact("init", 90))
    t.equal("processors that the guest sees", guest.fact("cpus"), str(cpus))
    t.check(("cloud" in guest.fact("release")) == (kernel == "cloud"), "not the %s kernel: %s" % (
        kernel, guest.fact("release")))
    t.check("console=ttyS0" in guest.fact("boot"), "no console in the command line: " + guest.fact("boot"))
    if not told["kaslr"]:
        t.equal("where the kernel is", guest.fact("text").split()[0], "ffffffff81000000")
    guest.ends(0)
