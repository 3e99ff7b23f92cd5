# SPDX-License-Identifier: BSD-2-Clause
"""RAM beyond the 40 bits of address that a VM usually has: the guest is told of it and can use its end; more than KVM has is refused."""

CASES = {"usual": {"gib": 1022}, "large": {"gib": 2048}}
KERNELS = [("cloud", "packaged")]
TIMEOUT = 240

# mem= keeps the kernel from having a struct for each page, for which the inner machine has no room.
SCRIPT = """
fact last $(devmem LAST 32)
devmem LAST 32 0x600dbeef
fact written $(devmem LAST 32)
fact node $(hexdump -v -e '/1 "%02x"' /proc/device-tree/memory@80000000/reg)
"""


def test(t, gib):
    last = (2 << 30) + (gib << 30) - 4096
    guest = t.boot(SCRIPT.replace("LAST", hex(last)), image="packaged", memory="%dG" % gib, append="mem=256M")
    t.equal("memory that nobody wrote", guest.fact("last", 120), "0x00000000")
    t.equal("what was written to the last page", guest.fact("written"), "0x600DBEEF")
    t.equal("the device tree's RAM", guest.fact("node"), "%016x%016x" % (2 << 30, gib << 30))
    guest.ends(0)
    command = " ".join(t.command(image="packaged", memory="%dG" % (32 << 10), initrd=None, quiet=False)[:-2])
    said = t.sh(command, status=2).strip()
    t.check("-m: 32768 GiB is beyond this KVM's 44 bits of guest-physical addresses: at most 16382 GiB" in said, said)
    t.note("RAM to %#x; %s" % (last + 4095, said))
