# SPDX-License-Identifier: BSD-2-Clause
"""what a write to config space costs on a PCI bus of 256 functions

settle.c measures, and says how.
"""

import subprocess

# A guest can make each of its own writes cost this much, and no more; a frame of video is 16,667.
SLOWEST_US = 20000


def run(bench):
    output = subprocess.run([bench.program("tests", "bench", "bench_settle")], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    rows = [(name, int(n), int(total), float(most)) for name, n, total, most in map(str.split, output.splitlines())]
    bench.table("settle", ("all BARs", "writes", "us together", "us the slowest"), rows)
    bench.target("the slowest write to config space", max(row[3] for row in rows), SLOWEST_US, "us")
