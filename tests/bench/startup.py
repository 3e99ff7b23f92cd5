# SPDX-License-Identifier: BSD-2-Clause
"""from exec to what the guest's first instructions say, beside the least that KVM allows

Two programs in turn, startup.c measures: floor.c, which makes just the calls that KVM wants, and trapline. Both run the
same three instructions, which write a byte to the first serial port, and end with that byte in a pipe.
"""

import os
import statistics
import struct
import subprocess
import tempfile

ROUNDS = 41

# mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx); 1: cli; hlt; jmp 1b
PAYLOAD = b"\x66\xba\xf8\x03\xb0\x21\xee\xfa\xf4\xeb\xfc"


def kernel(code):
    """A PVH kernel, entered in 32-bit mode at 1 MiB, of these bytes."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2,
                         0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 4096, 0x100000, 0x100000, len(code), len(code), 4096)
    segments += struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4)
    return (header + segments + note).ljust(4096, b"\0") + code


def measure(bench, *programs):
    """A list of milliseconds for each program (a list of words)."""
    words = [bench.program("tests", "bench", "bench_startup"), str(bench.rounds or ROUNDS)]
    for program in programs:
        words += ["---", *program]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return [[float(us) / 1000 for us in line.split()] for line in done.stdout.splitlines()]


def run(bench):
    bench.kvm()
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as folder:
        elf, raw = os.path.join(folder, "payload.elf"), os.path.join(folder, "payload.bin")
        for path, content in ((elf, kernel(PAYLOAD)), (raw, PAYLOAD)):
            with open(path, "wb") as file:
                file.write(content)
        floor, ours = measure(bench, [bench.program("tests", "bench", "bench_floor"), raw],
                              [bench.program("trapline"), "run", "-k", elf, "-m", "128"])
    rows = [[name, round(min(ms), 2), round(statistics.quantiles(ms)[0], 2), round(statistics.median(ms), 2)]
            for name, ms in (("floor", floor), ("trapline", ours))]
    bench.table("ms", ("program", "fastest", "quartile", "median"), rows)
    bench.data["rounds"] = len(ours)
    median = statistics.median(ours)
    bench.target("start-up, median", median, 5, "ms")
    bench.target("start-up above the floor, medians", median - statistics.median(floor), 2, "ms")
