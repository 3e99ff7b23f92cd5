#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The worked example of docs/add-a-device.md is what the tree has: whole files, and lines out of others."""
import os
import re
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def main():
    page = read("docs", "add-a-device.md")
    blocks = re.findall(r"^```c (file|in)=(\S+)\n(.*?)^```$", page, re.M | re.S)
    wrong = [path for kind, path, text in blocks if (
        read(path) != text if kind == "file" else any(line not in read(path) for line in text.splitlines()))]
    for path in wrong:
        print(f"docs/add-a-device.md does not show what {path} has", file=sys.stderr)
    if len(blocks) < 4:
        print("docs/add-a-device.md has lost its example", file=sys.stderr)
    return 1 if wrong or len(blocks) < 4 else 0


if __name__ == "__main__":
    sys.exit(main())
