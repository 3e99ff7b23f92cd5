# SPDX-License-Identifier: BSD-2-Clause
"""what a virtqueue costs the device: taking a disk's request and giving it back

virtq.c measures, and says how.
"""

import subprocess

RUNS = 3


def run(bench):
    program = bench.program("tests", "bench", "bench_virtq")
    rows = {}
    for _ in range(bench.rounds or RUNS):
        output = subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE).stdout
        for ring, table, *costs in map(str.split, output.splitlines()):
            old = rows.get((ring, table), [float("inf")] * len(costs))
            rows[ring, table] = [min(pair) for pair in zip(old, map(float, costs))]
    bench.table("virtq", ("ns a chain of three", "one by one", "32 at a time"),
                [["%s, %s" % key, *costs] for key, costs in rows.items()])
