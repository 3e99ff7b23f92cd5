# SPDX-License-Identifier: BSD-2-Clause
"""A quiet boot stays within its budget of exits to user space, and --stats tells who each of them went to."""

import json

CASES = {"1cpu": {"cpus": 1}, "2cpu": {"cpus": 2}}
KERNELS = (("cloud", "packaged"),)

BUDGET = 1000  # docs/benchmarks.md; here it holds for the test's own few lines on the console as well


def test(t, cpus):
    guest = t.boot("", cpus=cpus, image="packaged", append="cryptomgr.notests", options=("--stats", "/tmp/stats"))
    guest.fact("init")
    guest.ends(0)
    stats = json.loads(t.sh("cat /tmp/stats"))
    owned = (sum(owner["reads"] + owner["writes"] for owner in stats["regions"] + [stats["gone"], stats["unclaimed"]])
             - stats["split"] - stats["posted"])
    t.equal("exits for ports and memory, by region", owned, stats["ports"] + stats["memory"])
    t.equal("all exits", owned + sum(stats["other"].values()), stats["exits"])
    t.check(stats["posted"] > 100, "only %d writes were posted: PCI's address port alone is written more often"
            % stats["posted"])
    t.check(stats["exits"] <= BUDGET, "%d exits, of which %s" % (stats["exits"], ", ".join(
        "%d at %s" % (region["reads"] + region["writes"], region["name"]) for region in stats["regions"])))
    t.note("%d exits" % stats["exits"])
