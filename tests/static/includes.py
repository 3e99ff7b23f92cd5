#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The direction of includes: a file may include its own layer and lower ones. Budgets of files, functions and lines."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SRC = os.path.join(TOP, "src")

# What each layer may include beyond itself. Written out, not "all that is lower": devices are kept from KVM and
# from architectures on purpose.
ALLOWED = {
    "bus": set(),
    "core": {"bus"},
    "desc": {"bus", "core"},
    "dev": {"bus", "core", "desc"},
    "pci": {"bus", "core", "desc"},
    "host": {"bus", "core"},
    "virtio": {"bus", "core", "desc", "pci", "host"},
    "kvm": {"bus", "core"},
    "arch": {"bus", "core", "desc", "dev", "pci", "virtio", "kvm"},
    "machine": {"bus", "core", "host", "kvm", "arch"},
    "cli": {"bus", "core", "host", "virtio", "machine", "arch"},
}
MAX_FILE = 800
MAX_FUNCTION = 60
# Of tabs of 8. clang-format keeps code to it, but leaves comments as they are written: reflowed, none would keep its columns.
MAX_WIDTH = 120


def sources(top=SRC):
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            if name.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(folder, name), SRC)


def lines_of(path):
    with open(os.path.join(SRC, path), encoding="utf-8") as file:
        return file.read().splitlines()


def wrong_includes(path, lines):
    layer = path.split(os.sep)[0]
    if os.sep not in path:
        return  # main.c: the top
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1).split("/")
        if len(target) < 2 or target[0] not in ALLOWED:
            yield f"{path}:{number}: '{match.group(1)}' is not written as layer/file.h"
        elif target[0] != layer and target[0] not in ALLOWED[layer]:
            yield f"{path}:{number}: {layer}/ may not include {target[0]}/"


def test_direction_of_includes():
    wrong = [w for path in sources() for w in wrong_includes(path, lines_of(path))]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_check_itself_finds_a_wrong_include():
    assert list(wrong_includes("dev/x.c", ['#include "kvm/kvm.h"']))
    assert list(wrong_includes("bus/x.c", ['#include "core/irq.h"']))
    assert list(wrong_includes("dev/x.c", ['#include "uart.h"']))
    assert not list(wrong_includes("dev/x.c", ['#include "core/irq.h"', "#include <stdio.h>"]))


def test_files_keep_their_budget():
    long = [f"{p}: {len(lines_of(p))} lines" for p in sources() if len(lines_of(p)) > MAX_FILE]
    assert not long, f"over {MAX_FILE} lines: " + ", ".join(long)


def test_functions_keep_their_budget():
    long = []
    for path in sources():
        start = None
        for number, line in enumerate(lines_of(path), 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start - 1 > MAX_FUNCTION:
                    long.append(f"{path}:{start}: {number - start - 1} lines")
                start = None
    assert not long, f"over {MAX_FUNCTION} lines: " + ", ".join(long)


def too_wide(path, lines):
    for number, line in enumerate(lines, 1):
        width = len(line.expandtabs(8))
        if width > MAX_WIDTH:
            yield f"{path}:{number}: {width} columns"


def test_lines_keep_their_width():
    wide = [w for folder in ("src", "tests", "examples") for path in sources(os.path.join(TOP, folder))
            for w in too_wide(path, lines_of(path))]
    assert not wide, f"over {MAX_WIDTH} columns:\n" + "\n".join(wide)


def test_the_check_itself_finds_a_wide_line():
    assert list(too_wide("x.c", ["\t/* " + "x" * 107 + " */"])) == ["x.c:1: 121 columns"]
    assert not list(too_wide("x.c", ["\t/* " + "x" * 106 + " */"]))


def test_files_say_their_licence_and_purpose():
    bare = [p for p in sources()
            if "SPDX-License-Identifier: BSD-2-Clause" not in lines_of(p)[0] or not lines_of(p)[1].startswith("/*")]
    assert not bare, ", ".join(bare)


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
