# SPDX-License-Identifier: BSD-2-Clause
"""Under a stock kernel, the test function's BARs are sized, moved and disabled, and its registers answer accordingly."""

import os
import subprocess

from bed import ui

SECONDS = 10


def build(folder):
    """Makes the guest's program, static; called once, on the host."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pci_move.c")
    target = os.path.join(folder, "lab", "x86_64", "pci-move")
    run = subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", target, source], text=True,
                         stderr=subprocess.PIPE)
    if run.returncode != 0:
        raise ui.Failure("%s: %s" % (source, run.stderr.strip().splitlines()[0]))
    global PROGRAM
    with open(target, "rb") as file:
        PROGRAM = file.read()
    return []


def test(t):
    guest = t.boot("/pci-move | while read -r line; do fact step $line; done\nfact done\n",
                   files=[("pci-move", PROGRAM)], options=("--pci-test",), append="iomem=relaxed")
    guest.fact("done", 90)
    steps = [line[6:] for line in guest.log().splitlines() if line.startswith("@step ")]
    bad = [step for step in steps if not step.startswith("ok ")]
    t.check(not bad, "\n".join(bad))
    t.check(steps and steps[-1] == "ok end", "the program ended early, after: %s" % (steps[-1] if steps else "nothing"))
    t.note("%d steps" % (len(steps) - 1))
    guest.ends(0)
