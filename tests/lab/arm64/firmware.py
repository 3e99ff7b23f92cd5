# SPDX-License-Identifier: BSD-2-Clause
"""--firmware: a flat image starts where it was loaded, with the device tree's address in x0, and is loaded anew at a reset."""

import os
import subprocess

CASES = {"": {"address": None}, "address": {"address": 0x80200000}}
TIMEOUT = 120


def build(folder):
    target = os.path.join(folder, "lab", "firmware")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "firmware.S")
    subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", "-Wl,--build-id=none", "-o", target + ".elf", source], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", target + ".elf", target], check=True)
    return [("/lab/firmware", target)]


def test(t, address):
    where = ["--firmware-address", hex(address)] if address else []
    guest = t.start(["trapline", "run", "--firmware", "/lab/firmware"] + where)
    guest.ends(0)
    wanted = "firmware %08x d00dfeed 00001234 end" % (address or 0x80000000)
    t.equal("what it said in two lives", [line for line in guest.log().splitlines() if line.startswith("firmware")], [wanted] * 2)
