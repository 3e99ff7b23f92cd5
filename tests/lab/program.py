# SPDX-License-Identifier: BSD-2-Clause
"""Programs for the guest: built on the host, static; they print a line a step, "ok ..." or "wrong ..."."""

import os
import subprocess

from bed import arch as arches
from bed import cross, ui

# Whose guests run them: a lab sets it before it builds anything, and has one only.
arch = arches.host()


def build(folder, test, compiler=None):
    """Compiles the C source of the same name beside the test file, or other path, `test`; the program's bytes."""
    source = os.path.splitext(test)[0] + ".c"
    target = os.path.join(folder, "lab", os.path.basename(os.path.splitext(test)[0]))
    compiler = compiler or ("gcc" if arch is arches.host() else arch.triplet + "-gcc")
    run = subprocess.run([compiler, "-O1", "-D_GNU_SOURCE", "-Wall", "-Werror", "-static", "-pthread", "-o", target, source], text=True,
                         stderr=subprocess.PIPE)
    if run.returncode != 0:
        raise ui.Failure("%s: %s" % (source, run.stderr.strip().splitlines()[0]))
    with open(target, "rb") as file:
        return file.read()


def packaged(path):
    """A program of Debian's that this host has at `path`: that, or the same for the guests' architecture, unpacked."""
    return path if arch is arches.host() else cross.Cross(arch).program(path)


def e2fsprogs():
    """mke2fs and e2fsck with their libraries, as files for a guest."""
    files = {}
    for name in ("mke2fs", "e2fsck"):
        program = files["e2/" + name] = packaged("/sbin/" + name)
        files.update(cross.libraries(arch, None, program))
    return [(name.lstrip("/"), open(path, "rb").read()) for name, path in files.items()]


# What a guest's script does with such a program, /prog there.
RUN = "/prog %s | while read -r line; do fact step $line; done\nfact done\n"


def judge(t, guest, timeout=90):
    """Every step was good, and the last one was reached."""
    guest.fact("done", timeout)
    steps = [line[6:] for line in guest.lines() if line.startswith("@step ")]
    bad = [step for step in steps if not step.startswith("ok ")]
    t.check(not bad, "\n".join(bad))
    t.check(steps and steps[-1] == "ok end", "the program ended early, after: %s" % (steps[-1] if steps else "nothing"))
    t.note("%d steps" % (len(steps) - 1))
    return steps
