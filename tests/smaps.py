# SPDX-License-Identifier: BSD-2-Clause
"""What a process holds of memory, from its /proc/PID/smaps, with and without the guest's RAM."""
import re


class Mapping:
    """One mapping. Sizes are in KiB, by the names that the kernel gives them."""

    def __init__(self, begin, end, rights, path):
        self.begin, self.end, self.rights, self.path = begin, end, rights, path
        self.size = (end - begin) >> 10
        self.kib = {}
        self.flags = []

    def __getitem__(self, key):
        return self.kib.get(key, 0)


def parse(text):
    """Every Mapping of the file, in order."""
    found = []
    for line in text.splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$", line)
        if head:
            found.append(Mapping(int(head.group(1), 16), int(head.group(2), 16), head.group(3), head.group(4)))
        elif line.startswith("VmFlags:"):
            found[-1].flags = line.split()[1:]
        elif found:
            key, value = line.split(":", 1)
            if value.strip().endswith("kB"):
                found[-1].kib[key] = int(value.split()[0])
    return found


def ram(mappings, mib):
    """Those that are the guest's RAM, of so many MiB in one piece."""
    return [m for m in mappings if m.size == mib << 10 and m.rights.startswith("rw")]


def beyond(mappings, mib):
    """KiB beyond the guest's RAM: "resident"; of it "anonymous"; and "private", what another such process would add."""
    guest = ram(mappings, mib)
    if not guest:
        raise ValueError("no mapping of %d MiB" % mib)
    own = [m for m in mappings if m not in guest]
    # Changed pages of private file mappings are anonymous too: the kernel counts them so, and so is it here.
    return {"resident": sum(m["Rss"] for m in own), "anonymous": sum(m["Anonymous"] for m in own),
            "private": sum(m["Private_Dirty"] + m["Private_Clean"] for m in own)}
