# SPDX-License-Identifier: BSD-2-Clause
"""Small and large guests: they see their memory, and what they do not touch costs the host nothing."""

ALSO = {"arm64": ("128m",)}
CASES = {"128m": {"mib": 128}, "2g": {"mib": 2048}, "5g": {"mib": 5120}}

# Of a guest's memory the kernel takes for itself: its image and 1/64 for its page table array, and some more.
RESERVED = 90
# What a booted guest may have touched beside that: the kernel, this initramfs, page tables.
TOUCHED = 110


def test(t, mib):
    guest = t.boot("fact total $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)\nread answer\n",
                   kernel="cloud", memory="%dM" % mib)
    total = int(guest.fact("total", 90)) / 1024
    t.check(mib - RESERVED - mib / 32 < total < mib, "the guest sees %.0f MiB of %d" % (total, mib))
    resident = guest.memory()
    t.note("resident %.0f MiB" % resident)
    bound = TOUCHED + mib / 32
    t.check(resident < bound, "trapline holds %.0f MiB resident, expected less than %.0f" % (resident, bound))
    guest.send("on\n")
    guest.ends(0)
