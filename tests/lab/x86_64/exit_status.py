# SPDX-License-Identifier: BSD-2-Clause
"""examples/init.c runs a program in the guest and hands its status to the host; it says in time that it is ready."""

import os

from bed import packages
import program

ALSO = {"arm64": ("42",)}
CASES = {"zero": {"script": "exit 0", "status": 0}, "42": {"script": "exit 42", "status": 42},
         "255": {"script": "exit 255", "status": 255}, "killed": {"script": "kill -9 $$", "status": 137},
         "full": {"script": "exit 16", "status": 16, "kernel": "full"}}


def build(folder):
    """Makes the example, static; called once, on the host."""
    global PROGRAM
    PROGRAM = program.build(folder, os.path.join(packages.top(), "examples", "init.c"))
    return []


def test(t, script, status, kernel="cloud"):
    test = ("#!/bin/busybox sh\necho @test runs\n%s\n" % script).encode()
    guest = t.boot(files=[("example-init", PROGRAM), ("test", test)], kernel=kernel, append="rdinit=/example-init",
                   options=("--exit-port", "--boot-timeout", "100", "--debug"))
    guest.ends(status, 110)
    t.check("@test runs" in guest.log(), "the program was not run")
    t.check("ready after" in guest.log(), "the guest was not seen to be ready")
