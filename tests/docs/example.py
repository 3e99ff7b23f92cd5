#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Takes the worked example out of docs/add-a-device.md, compiles it against the built layers, and runs its test.

usage: example.py "CC ARGS..." LIBRARY...
"""
import os
import re
import shlex
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def main():
    compiler, libraries = shlex.split(sys.argv[1]), sys.argv[2:]
    with open(os.path.join(TOP, "docs", "add-a-device.md"), encoding="utf-8") as file:
        blocks = dict(re.findall(r"^```c file=(\S+)\n(.*?)^```$", file.read(), re.M | re.S))
    missing = {"debugcon.c", "debugcon.h", "line.inc", "test_debugcon.c"} - set(blocks)
    if missing:
        print(f"the page has no block for {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "dev"))
        for name, text in blocks.items():
            sub = "dev" if name.startswith("debugcon") else "."
            with open(os.path.join(folder, sub, name), "w", encoding="utf-8") as file:
                file.write(text)
        program = os.path.join(folder, "test")
        subprocess.run([*compiler, "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                        "-Wno-unused-parameter", f"-I{TOP}/src", f"-I{folder}", "-o", program,
                        os.path.join(folder, "dev", "debugcon.c"), os.path.join(folder, "test_debugcon.c"),
                        "-Wl,--start-group", *libraries, "-Wl,--end-group", "-lcmocka", "-lurcu-memb",
                        "-lpthread"], check=True)
        return subprocess.run([program], check=False, timeout=60).returncode


if __name__ == "__main__":
    sys.exit(main())
