#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Every architecture's machine is built on any host: all sources but the halves that need KVM compile for arm64, and
nothing of what they call is in those halves. usage: portable.py TOP SOURCE... -- SOURCE OF A HALF...

Headers of libraries are this host's; they do not differ. Exit status 77, a skip, where the compiler is not installed;
tests/check installs it, so there it is none.
"""
import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys
import tempfile

CROSS = "aarch64-linux-gnu-"
HEADERS = ["urcu", "urcu*.h", "jansson*.h", "zlib.h", "zconf.h", "lzma", "lzma.h", "zstd*.h", "lz4*.h", "bzlib.h"]


def headers(folder):
    """The libraries' headers alone, so that libc's and the kernel's are arm64's."""
    multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    for source in "/usr/include", "/usr/include/" + multiarch:
        for pattern in HEADERS:
            for path in glob.glob(os.path.join(source, pattern)):
                target = os.path.join(folder, os.path.basename(path))
                if os.path.isdir(path):
                    shutil.copytree(path, target, dirs_exist_ok=True)
                else:
                    shutil.copy(path, target)


def symbols(prefix, objects, *options):
    out = subprocess.run([prefix + "nm", "-P", *options, *objects], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in out.splitlines() if not line.endswith(":")}


def build(prefix, top, sources, folder, *options):
    """Objects of the sources; what does not compile is told by the compiler."""
    def compile_one(number):
        target = os.path.join(folder, f"{prefix}{number}.o")
        done = subprocess.run([prefix + "gcc", "-std=gnu17", "-D_GNU_SOURCE", "-DTRAPLINE_VERSION=\"0\"", "-Wall", "-Werror",
                               "-I" + os.path.join(top, "src"), *options, "-c", sources[number], "-o", target],
                              check=False)
        return target if done.returncode == 0 else None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, range(len(sources))))
    if None in objects:
        sys.exit(f"{objects.count(None)} of {len(objects)} sources do not compile")
    return objects


def main():
    top, rest = sys.argv[1], sys.argv[2:]
    at = rest.index("--")
    if not shutil.which(CROSS + "gcc"):
        print(f"{CROSS}gcc is not installed: nothing was compiled for arm64")
        return 77
    with tempfile.TemporaryDirectory(prefix="trapline-portable-") as folder:
        headers(folder)
        objects = build(CROSS, top, rest[:at], folder, "-isystem", folder)
        halves = build("", top, rest[at + 1:], folder)
        needed = symbols(CROSS, objects, "-u") & symbols("", halves, "-g", "--defined-only")
    if needed:
        sys.exit("used everywhere, but there only where the host's CPU is right: " + ", ".join(sorted(needed)))
    print(f"{len(objects)} sources")
    return 0


if __name__ == "__main__":
    sys.exit(main())
