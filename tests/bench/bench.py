#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the benchmarks and prints a table of each, the targets that are held to, and all of it as JSON.

A benchmark is a module beside this file with a line in BENCHES. It has a docstring, whose first line is its heading,
and run(bench), which measures and tells what it found by the methods of Bench.
"""

import argparse
import importlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(TOP, "tools"))
from bed import arch as arches  # noqa: E402
from bed import cross, ui  # noqa: E402

# In this order, the quick ones first.
BENCHES = ("binary", "startup", "memory", "dispatch", "settle", "virtq", "virtio", "boot")
# What runs in an emulated machine of any architecture.
ANYWHERE = ("boot",)


class Skip(Exception):
    """What this host lacks for a benchmark."""


class Bench:
    """One benchmark's run: what it may use, and what it found."""

    Skip = Skip

    def __init__(self, name, arch, build, rounds):
        self.name = name
        self.arch = arch
        self.build = build
        self.rounds = rounds  # None, or the user's wish
        self.data = {}
        self.targets = []

    def program(self, *path):
        """A file of the build folder; it must be there."""
        found = os.path.join(self.build, *path)
        if not os.path.exists(found):
            raise ui.Failure("%s is not there; 'make bench' builds it" % found)
        return found

    def packaged(self, path):
        """A program of Debian's that this host has at `path`, of the architecture that is measured."""
        return path if self.arch is arches.host() else cross.Cross(self.arch).program(path)

    @staticmethod
    def kvm():
        """Skips where guests cannot run."""
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Skip("no usable /dev/kvm")

    def table(self, key, header, rows):
        """Prints rows of text and numbers, and keeps them for the JSON as dictionaries by the header's words."""
        self.data[key] = [dict(zip(header, row)) for row in rows]
        cells = [list(header)] + [["%.2f" % c if isinstance(c, float) else str(c) for c in row] for row in rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        for row in cells:
            ui.say("  " + "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                    for i, (cell, width) in enumerate(zip(row, widths))).rstrip())

    def note(self, text):
        ui.say("  " + text)

    def target(self, text, value, limit, unit=""):
        """A figure and the most that it may be."""
        met = value <= limit
        self.targets.append({"target": text, "value": value, "max": limit, "unit": unit, "met": met})
        ui.say("  %s %s: %.4g %s (at most %g)" % (ui.green("ok  ") if met else ui.red("MISS"), text, value, unit, limit))


def run(name, arch, build, rounds):
    """What one benchmark found, for the JSON."""
    module = importlib.import_module(name)
    bench = Bench(name, arch, build, rounds)
    ui.say(ui.bold("%s: %s" % (name, module.__doc__.splitlines()[0])))
    try:
        module.run(bench)
    except Skip as why:
        ui.say("  %s: %s" % (ui.yellow("skipped"), why))
        bench.data["skipped"] = str(why)
    ui.say()
    return {**bench.data, "targets": bench.targets, "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="some of: %s; all when none is given" % ", ".join(BENCHES))
    parser.add_argument("--arch", default=arches.host().name, help="of the build; of another than this host's there is: %s"
                        % ", ".join(ANYWHERE))
    parser.add_argument("--build", default=os.path.join(TOP, "build"), help="the build folder")
    parser.add_argument("--rounds", type=int, help="of what is repeated; each benchmark has a default")
    parser.add_argument("--json", metavar="FILE", help="default: bench.json in the build folder")
    parser.add_argument("--check", action="store_true", help="status 1 when a target is missed")
    args = parser.parse_args()
    for name in args.names:
        if name not in BENCHES:
            raise ui.Failure("no benchmark is called '%s'; there are: %s" % (name, ", ".join(BENCHES)))
    arch = arches.find(args.arch)
    known = BENCHES if arch is arches.host() else ANYWHERE
    for name in args.names:
        if name not in known:
            raise ui.Failure("%s measures this host; with --arch %s there is: %s" % (name, arch.name, ", ".join(known)))
    build = os.path.abspath(args.build)
    results = {name: run(name, arch, build, args.rounds) for name in known if not args.names or name in args.names}
    path = args.json or os.path.join(build, "bench.json")
    with open(path, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    targets = [target for result in results.values() for target in result["targets"]]
    missed = sum(not target["met"] for target in targets)
    ui.say("%d of %d targets met; load average %.1f; %s" % (
        len(targets) - missed, len(targets), os.getloadavg()[0], os.path.relpath(path)))
    return 1 if args.check and missed else 0


if __name__ == "__main__":
    ui.main(main)
