#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the host is asked for: memory behind RAM, and CPUs. Huge pages that are there are the lab's to test."""
import json
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import halted  # noqa: E402
from refusal import refuse  # noqa: E402
import smaps  # noqa: E402
import tap  # noqa: E402

TRAPLINE, SANITIZER = os.path.abspath(sys.argv[1]), sys.argv[2]
DIR = tempfile.TemporaryDirectory(prefix="trapline-host-")
KERNEL = halted.kernel(DIR.name)
HOST, USAGE, IMAGE, KVM = 1, 2, 3, 4
MIB = 64


def path_of(name):
    return os.path.join(DIR.name, name)


def run(*args, **how):
    return subprocess.run([TRAPLINE, "run", "-k", KERNEL, "-m", str(MIB), *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False, **how)


def dry(*args, **how):
    return run("--dry-run", *args, **how)


def guest_of(*args):
    return halted.Guest(TRAPLINE, KERNEL, "-m", str(MIB), *args)


def threads(guest):
    """Names by number."""
    names = {}
    for task in os.listdir("/proc/%d/task" % guest.process.pid):
        names[int(task)] = guest.proc("task/%s/comm" % task).strip()
    return names


def test_lists_of_cpus_that_are_none():
    for text in [",", "0,", "x", "1-", "1-0", "-1", "0-99999", "0x1", "0 1"]:
        refuse(dry("--cpu-affinity", text), USAGE, "--cpu-affinity", f"'{text}'")
    refuse(dry("--cpu-affinity", "0,0", "-c", "3"), USAGE, "2 host CPUs for 3 vCPUs")
    refuse(dry("--cpu-affinity", "0-2"), USAGE, "3 host CPUs for 1 vCPU")
    refuse(dry("--cpu-affinity", "8000"), USAGE, "no CPU 8000")
    # kvmtool's name.
    refuse(dry("--vcpu-affinity", "0-2"), USAGE, "3 host CPUs for 1 vCPU")


def test_numa_nodes_that_are_none():
    refuse(dry("--numa-node", "900"), USAGE, "--numa-node 900", "no such node")
    for text in ["x", "-1", "0,1", "99999999999"]:
        refuse(dry("--numa-node", text), USAGE, "--numa-node", f"'{text}'")


def test_huge_pages_that_cannot_be():
    refuse(dry("--hugetlbfs", path_of("absent")), USAGE, "--hugetlbfs", path_of("absent"), "No such file")
    refuse(dry("--hugetlbfs", DIR.name), USAGE, "not a hugetlbfs", "mount")
    for text in ["0", "3M", "fish"]:
        refuse(dry("--hugepages=" + text), USAGE, "--hugepages", text)
    refuse(dry("--hugepages=8M"), USAGE, "--hugepages", "8192 KiB")
    if not os.path.exists("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        raise tap.Skip("this host has no pages of 2 MiB")
    refuse(dry("--hugepages=2M", "-m", "65"), USAGE, "no multiple", "2 MiB")
    # More than any host has: known before KVM is asked for anything.
    refuse(run("--hugepages=2M", "-m", "16T"), HOST, "--hugepages", "8388608 pages of 2 MiB", "nr_hugepages")


def test_backings_exclude_each_other():
    refuse(dry("--hugepages", "--mem-file", path_of("x")), USAGE, "exclude")
    refuse(dry("--hugepages", "--hugetlbfs", DIR.name), USAGE, "exclude")


def test_files_that_cannot_keep_ram():
    small = path_of("small")
    with open(small, "wb") as file:
        file.write(b"x" * 4096)
    refuse(dry("--mem-file", small), USAGE, small, "4096 bytes", str(MIB << 20))
    refuse(run("--mem-file", small), USAGE, small, "4096 bytes")
    with open(small, "rb") as file:
        assert file.read() == b"x" * 4096, "what was refused was changed"
    refuse(dry("--mem-file", DIR.name), USAGE, DIR.name, "not a regular file")
    for command in run, dry:
        refuse(command("--mem-file", path_of("absent/x")), USAGE, "absent/x", "No such file")
        refuse(command("--mem-file", small + "/x"), USAGE, small + "/x", "Not a directory")
    assert dry("--mem-file", path_of("new")).returncode == 0 and not os.path.exists(path_of("new"))
    assert dry("--mem-file", "new", cwd=DIR.name).returncode == 0


def test_a_start_that_fails_leaves_no_file():
    path = path_of("half")
    assert run("--mem-file", path, "-k", path_of("absent")).returncode == IMAGE
    assert not os.path.exists(path)
    assert run("--mem-file", path, "--kvm-device", "/dev/null").returncode == KVM
    assert not os.path.exists(path)
    limit = (1 << 20, 1 << 20)
    refuse(run("--mem-file", path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)), HOST, path,
           "64 MiB", "File too large")
    assert not os.path.exists(path)
    # But an older one is not ours to remove.
    with open(path, "wb") as file:
        file.truncate(MIB << 20)
    assert run("--mem-file", path, "--kvm-device", "/dev/null").returncode == KVM
    assert os.path.getsize(path) == MIB << 20
    os.unlink(path)


def test_a_dry_run_tells_and_takes_nothing():
    path = path_of("ram")
    text = dry("--mem-file", path, "--prefault", "--cpu-affinity", "0").stdout
    assert f"file {path}, filled at start" in text and "vCPU 0 on CPU 0" in text, text
    machine = json.loads(dry("--mem-file", path, "--cpu-affinity", "0,0", "-c", "2", "--json").stdout)
    assert machine["ram_from"] == f"file {path}" and machine["host_cpus"] == [0, 0], machine
    assert json.loads(dry("--json").stdout)["host_cpus"] == []
    assert not os.path.exists(path)


def test_a_file_keeps_ram_and_is_taken_again():
    path = path_of("kept")
    for _ in range(2):
        with guest_of("--mem-file", path) as guest:
            ram = smaps.ram(smaps.parse(guest.proc("smaps")), MIB)
            assert [m.path for m in ram] == [path] and ram[0].rights == "rw-s", [vars(m) for m in ram]
        with open(path, "rb") as file:
            file.seek(0x100000)
            assert file.read(len(halted.startup.PAYLOAD)) == halted.startup.PAYLOAD
            file.seek(0x300000)
            rest = file.read(8)
        assert rest in (b"\0" * 8, b"marked\0\0"), rest
        with open(path, "r+b") as file:
            file.seek(0x300000)
            file.write(b"marked\0\0")
    assert rest == b"marked\0\0", "an older file's content was lost"


def test_prefault_fills_ram():
    with guest_of() as lazy, guest_of("--prefault") as filled:
        kib = [smaps.ram(smaps.parse(guest.proc("smaps")), MIB)[0]["Rss"] for guest in (lazy, filled)]
    assert kib[0] < MIB << 9 and kib[1] == MIB << 10, kib


def test_prefault_of_more_than_the_host_has():
    result = subprocess.run([TRAPLINE, "run", "-k", KERNEL, "-m", "4T", "--prefault"], capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, timeout=tap.PATIENCE, check=False)
    refuse(result, 1, "--prefault", "4194304 MiB", "the host has")


def test_ram_is_bound_to_its_node():
    if not os.path.exists("/sys/devices/system/node/node0"):
        raise tap.Skip("this host has no NUMA nodes")
    with guest_of("--numa-node", "0") as guest:
        ram = smaps.ram(smaps.parse(guest.proc("smaps")), MIB)[0]
        policy = [line for line in guest.proc("numa_maps").splitlines() if line.startswith("%x " % ram.begin)]
    assert len(policy) == 1 and " bind:0 " in policy[0] + " ", policy


def test_vcpus_are_bound_to_their_cpus():
    cpus = sorted(os.sched_getaffinity(0))
    wanted = [cpus[-1], cpus[0], cpus[-1]]
    with guest_of("-c", "3", "--cpu-affinity", ",".join(map(str, wanted))) as guest:
        def bound(name):
            return next((os.sched_getaffinity(task) for task, its in threads(guest).items() if its == name), None)
        # The first vCPU runs before the last one's thread is named and bound.
        for i, cpu in enumerate(wanted):
            tap.until(lambda: bound(f"vcpu{i}") == {cpu}, f"vCPU {i} is bound to CPU {cpu}")
        assert bound("trapline") == set(cpus), "the event loop's thread is bound too"


def test_as_many_vcpus_as_an_old_apic_id_cannot_tell_apart():
    machine = json.loads(dry("-c", "300", "--json").stdout)
    assert machine["cpus"] == 300
    if SANITIZER != "none":
        raise tap.Skip("too slow under a sanitizer")
    with guest_of("-c", "300") as guest:
        assert len(os.listdir("/proc/%d/task" % guest.process.pid)) > 300


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
