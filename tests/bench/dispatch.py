# SPDX-License-Identifier: BSD-2-Clause
"""what a trapped access costs from the bus to its handler and back, beside a mutex and a tree

dispatch.c measures, and says how.
"""

import json
import os
import subprocess


def run(bench):
    path = os.path.join(bench.build, "dispatch.json")
    subprocess.run([bench.program("tests", "bench", "bench_dispatch"), "--json=" + path], check=True)
    with open(path) as file:
        found = json.load(file)
    os.unlink(path)
    bench.targets += found.pop("targets")
    bench.data.update(found)
