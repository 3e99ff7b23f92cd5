# SPDX-License-Identifier: BSD-2-Clause
"""what trapline holds of memory beyond its guest's RAM

From /proc/PID/smaps, without the mapping that is the guest's RAM: a flat guest that halts on this machine's /dev/kvm,
with one vCPU and more, dynamically linked and statically; and in the lab a stock kernel at its init.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import startup

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import smaps  # noqa: E402

MIB = 128
MORE = 8  # vCPUs
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def halted(program, kernel, cpus):
    """What it holds once its guest has said its byte."""
    process = subprocess.Popen([program, "run", "-k", kernel, "-m", str(MIB), "-c", str(cpus)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if process.stdout.read(1) != b"!":
            raise RuntimeError("the guest did not say its byte")
        with open("/proc/%d/smaps" % process.pid) as file:
            return smaps.beyond(smaps.parse(file.read()), MIB)
    finally:
        process.terminate()
        process.communicate()


def static_build(bench):
    """A program linked statically, built on first use; None where that fails."""
    folder = os.path.join(bench.build, "static")
    program = os.path.join(folder, "trapline")
    commands = [["ninja", "-C", folder, "trapline"]]
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        commands.insert(0, ["meson", "setup", "-Dstatic=true", folder, TOP])
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            bench.note("no static build: %s" % done.stdout.strip().splitlines()[-1])
            return None
    return program


def in_the_lab(bench):
    """The figures of the lab's test; None where there is no lab."""
    if not shutil.which("qemu-system-x86_64"):
        bench.note("no stock kernel: the lab needs qemu-system-x86_64")
        return None
    results = os.path.join(bench.build, "bench-lab.json")
    done = subprocess.run([sys.executable, os.path.join(TOP, "tests", "lab", "lab.py"), "--build", bench.build, "--jobs",
                           "1", "--results", results, "footprint-1"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        bench.note("no stock kernel: " + done.stdout.strip().splitlines()[-1])
        return None
    with open(results) as file:
        return json.load(file)["tests"]["footprint-1"]["figures"]


def on_kvm(bench, rows):
    """Adds rows for flat guests; returns KiB a further vCPU, for each kind of build."""
    further = {}
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as folder:
        kernel = os.path.join(folder, "payload.elf")
        with open(kernel, "wb") as file:
            file.write(startup.kernel(startup.PAYLOAD))
        for kind, program in (("dynamic", bench.program("trapline")), ("static", static_build(bench))):
            if not program:
                continue
            found = {cpus: halted(program, kernel, cpus) for cpus in (1, 1 + MORE)}
            for cpus, kib in found.items():
                rows.append(["flat guest, %s, %d vCPU" % (kind, cpus), kib["resident"], kib["anonymous"], kib["private"]])
            further[kind] = (found[1 + MORE]["resident"] - found[1]["resident"]) / MORE
    return further


def run(bench):
    rows, further = [], {}
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        further = on_kvm(bench, rows)
    else:
        bench.note("no flat guest: no usable /dev/kvm")
    lab = in_the_lab(bench)
    if lab:
        rows.append(["stock kernel at init, dynamic, 1 vCPU", lab["resident"], lab["anonymous"], lab["private"]])
    if not rows:
        raise bench.Skip("neither /dev/kvm nor the lab")
    bench.table("kib", ("KiB beyond guest RAM", "resident", "anonymous", "private"), rows)
    for where, resident, anonymous, _ in rows:
        if "dynamic, 1" in where:
            bench.target(where, resident, 2560, "KiB resident")
            bench.target(where, anonymous, 512, "KiB anonymous")
    for kind, kib in further.items():
        bench.target("each further vCPU, " + kind, kib, 100, "KiB")
