# SPDX-License-Identifier: BSD-2-Clause
"""what is loaded at start: size, relocations, libraries"""

import os
import re
import subprocess


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def sections(program):
    """(text, data, bss) in bytes, as size(1) counts them."""
    return [int(word) for word in output("size", program).splitlines()[1].split()[:3]]


def relocations(program):
    """{kind: how many} of what the loader has to fill in."""
    found = {}
    for kind in re.findall(r" (R_\w+)", output("readelf", "-rW", program)):
        found[kind] = found.get(kind, 0) + 1
    return found


def needed(program):
    """Libraries that the program names itself."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", program))


def loaded(program):
    """Libraries that the loader maps, those that others name included."""
    return re.findall(r"^\s*(\S+\.so[.\d]*) => ", output("ldd", program), re.M)


def run(bench):
    program = bench.program("trapline")
    text, data, bss = sections(program)
    kinds = relocations(program)
    rows = [["file", os.path.getsize(program)], ["text and constants", text], ["data", data], ["bss", bss],
            ["relocations", sum(kinds.values())]]
    rows += [["  " + kind, number] for kind, number in sorted(kinds.items())]
    bench.table("size", ("what", "bytes or number"), rows)
    bench.note("named libraries:  " + " ".join(needed(program)))
    bench.note("loaded libraries: " + " ".join(loaded(program)))
    bench.data["needed"], bench.data["loaded"] = needed(program), loaded(program)
