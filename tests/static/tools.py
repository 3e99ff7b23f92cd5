#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Formatting and static analysis by the tools that Debian has. usage: tools.py format|cppcheck

Exit status 77, a skip, where the tool is not installed; tests/check installs them, so there it is none.
"""
import os
import shutil
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def sources(*folders):
    for folder in folders:
        for where, _, names in os.walk(os.path.join(TOP, folder)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.normpath(os.path.join(where, name))


COMMANDS = {
    # The major version is part of the rule: they format differently.
    "format": lambda: ["clang-format-14", "--dry-run", "-Werror", *sources("src", "tests")],
    "cppcheck": lambda: ["cppcheck", "--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1",
                         "--quiet", "--std=c11", "-D__linux__", "-D__x86_64__", "-D_GNU_SOURCE",
                         "-DTRAPLINE_VERSION=\"0\"", f"-I{TOP}/src", "--suppress=missingInclude",
                         os.path.join(TOP, "src")],
}


def main():
    command = COMMANDS[sys.argv[1]]()
    if not shutil.which(command[0]):
        print(f"{command[0]} is not installed")
        return 77
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
