#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Bad input gets one clear line and a documented status; good input in a dry run is what was asked for."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

TRAPLINE, SHIM = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
DIR = tempfile.mkdtemp(prefix="trapline-cli-")

USAGE, IMAGE, KVM = 2, 3, 4


def run(*args, env=None, cwd=None, user=None, stdin=subprocess.DEVNULL):
    return subprocess.run([TRAPLINE, *args], stdin=stdin, capture_output=True, text=True, timeout=60, cwd=cwd,
                          env={**os.environ, **(env or {})}, check=False, user=user)


def path_of(name, content=None):
    path = os.path.join(DIR, name)
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    return path


def elf(machine=62, bits=2, note=True, pad=4096):
    """A whole small kernel: an ELF header, a LOAD segment at 1 MiB and, if `note`, a PVH note (type 18)."""
    note_body = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000) if note else b""
    count = 2 if note else 1
    note_at = 64 + 56 * count
    code_at = 4096
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", bits, 1, 1, 0, 2, machine, 1, 0x100000, 64, 0, 0, 64,
                         56, count, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, code_at, 0x100000, 0x100000, pad, pad, 4096)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note_body), len(note_body), 4) if note else b""
    head = header + load + notes + note_body
    return head + b"\0" * (code_at - len(head)) + b"\xf4" * pad


def dry(*args, **kwargs):
    return run("run", "--dry-run", *args, **kwargs)


def refuse(result, status, *words):
    """One line on stderr that holds every word, nothing on stdout, the status."""
    assert result.returncode == status, f"status {result.returncode}, not {status}: {result.stderr!r}"
    assert result.stdout == "", f"stdout: {result.stdout!r}"
    lines = result.stderr.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines: {result.stderr!r}"
    for word in words:
        assert word in lines[0], f"no {word!r} in {lines[0]!r}"


GOOD = path_of("good.elf", elf())


def test_a_good_kernel_is_accepted():
    result = dry("-k", GOOD)
    assert result.returncode == 0 and result.stderr == "", result
    assert "PVH" in result.stdout and "serial0" in result.stdout and "0x3f8" in result.stdout


def test_a_kernel_may_be_a_bare_word():
    assert dry(GOOD).returncode == 0


def test_the_json_is_json_and_says_the_same():
    machine = json.loads(dry("-k", GOOD, "--json", "-m", "5G", "-c", "3", "-p", "hello=world").stdout)
    assert machine["cpus"] == 3 and machine["ram"] == 5 << 30
    assert machine["cmdline"].endswith("hello=world")
    ram = [r for r in machine["bus"]["mmio"] if r["kind"] == "ram"]
    assert sum(r["size"] for r in ram) == 5 << 30
    assert any(r["base"] == 4 << 30 for r in ram)
    uart = [r for r in machine["bus"]["pio"] if r["base"] == 0x3F8]
    assert uart and uart[0]["device"] == "serial0"
    assert any(f["address"] == "0000:00:00.0" for f in machine["pci"])


def cmdline(*args):
    result = dry("-k", GOOD, "--json", *args)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["cmdline"]


def test_the_users_words_come_last_or_alone():
    own = cmdline()
    assert "console=ttyS0" in own.split()
    assert cmdline("-p", "a b=\"c d\"") == own + " a b=\"c d\""
    assert cmdline("-p", "") == own
    assert cmdline("-p", "a b", "--no-default-params") == "a b"
    assert cmdline("--no-default-params") == ""


def test_a_command_line_too_long():
    room = 65535 - len(cmdline()) - 1
    assert len(cmdline("-p", "x" * room)) == 65535
    refuse(dry("-k", GOOD, "-p", "x" * (room + 1)), USAGE, "-p", "65536 bytes")
    assert cmdline("-p", "x" * 65534, "--no-default-params") == "x" * 65534


def test_initrd_is_accepted():
    assert dry("-k", GOOD, "-i", path_of("initrd", b"x" * 5000)).returncode == 0


def test_no_kvm_device():
    refuse(run("run", "-k", GOOD, "--kvm-device", path_of("no-kvm")), KVM, path_of("no-kvm"), "No such file",
           "modprobe")


def test_no_permission_for_kvm():
    device = path_of("kvm-of-others", b"")
    os.chmod(device, 0)
    user = None
    if os.getuid() == 0:
        user = 65534
        if subprocess.run([TRAPLINE, "version"], user=user, capture_output=True, check=False).returncode:
            raise tap.Skip("nobody cannot run the program where it lies")
        os.chmod(DIR, 0o755)
    refuse(run("run", "-k", GOOD, "--kvm-device", device, user=user), KVM, device, "Permission denied", "group")


def test_a_device_that_is_not_kvm():
    refuse(run("run", "-k", GOOD, "--kvm-device", "/dev/null"), KVM, "/dev/null", "not a KVM device")


def lacking(**env):
    return run("run", "-k", GOOD, "--kvm-device", "/dev/null", env={"LD_PRELOAD": SHIM, **env})


def test_a_kvm_of_another_api_version():
    refuse(lacking(SHIM_API="11"), KVM, "version is 11")


def test_a_kvm_that_lacks_something_is_told_what():
    refuse(lacking(SHIM_LACKS="0"), KVM, "lacks KVM_CAP_IRQCHIP")


def test_kernel_missing():
    refuse(dry("-k", path_of("absent")), IMAGE, path_of("absent"), "No such file")


def test_kernel_is_a_directory():
    refuse(dry("-k", DIR), IMAGE, DIR)


def test_kernel_empty():
    refuse(dry("-k", path_of("empty", b"")), IMAGE, "empty")


def test_kernel_not_a_kernel():
    refuse(dry("-k", path_of("text", b"hello " * 2000)), IMAGE, "text")


def test_kernel_of_another_architecture():
    refuse(dry("-k", path_of("arm.elf", elf(machine=183))), IMAGE, "aarch64")
    image = bytearray(8192)
    image[56:60] = b"ARM\x64"
    refuse(dry("-k", path_of("Image", bytes(image))), IMAGE, "arm64")


def test_elf_truncated_at_each_header():
    whole = elf()
    for size in [1, 3, 4, 15, 16, 52, 63, 64, 65, 119, 120, 175, 176, 180, 195, 4095, 4096, 4097, len(whole) - 1]:
        refuse(dry("-k", path_of("cut.elf", whole[:size])), IMAGE, "cut.elf")


def test_bzimage_truncated_at_each_header():
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x200:0x202] = b"\xeb\x6a"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x1F4, 0x1000)
    struct.pack_into("<H", setup, 0x236, 3)
    struct.pack_into("<I", setup, 0x238, 2047)
    struct.pack_into("<I", setup, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<Q", setup, 0x258, 0x1000000)
    struct.pack_into("<I", setup, 0x260, 0x200000)
    struct.pack_into("<I", setup, 0x230, 0x200000)
    setup[0x234] = 1
    whole = bytes(setup) + b"\xf4" * 0x10000
    result = dry("-k", path_of("bzImage", whole))
    assert result.returncode == 0, result.stderr
    for size in [0x1F1, 0x1FF, 0x200, 0x202, 0x205, 0x206, 0x211, 0x238, 0x260, 0x264, 5 * 512 - 1, 5 * 512,
                 5 * 512 + 0x200, len(whole) - 16]:
        refuse(dry("-k", path_of("cut.bz", whole[:size])), IMAGE, "cut.bz")


def test_initrd_missing():
    refuse(dry("-k", GOOD, "-i", path_of("absent")), IMAGE, path_of("absent"), "No such file")


def test_initrd_too_large():
    big = path_of("big-initrd", b"")
    os.truncate(big, 300 << 20)
    refuse(dry("-k", GOOD, "-i", big, "-m", "256"), IMAGE, "big-initrd", "too large")


def test_memory_zero_tiny_unparsable_beyond():
    for size in ["0", "1", "4K", "12q", "fish", "-5", "", "1GG", "99999999999999999999", "20000P", "17179869184G"]:
        refuse(dry("-k", GOOD, "-m", size), USAGE, "-m")


def test_cpus_zero_or_too_many():
    for count in ["0", "100000", "-1", "two", "99999999999999"]:
        refuse(dry("-k", GOOD, "-c", count), USAGE, "-c")


def test_unknown_option_suggests_the_nearest():
    refuse(run("run", "--kernal", GOOD), USAGE, "--kernal", "did you mean '--kernel'")
    refuse(run("run", "--nonsense"), USAGE, "--nonsense", "--help")
    refuse(run("run", "-Z"), USAGE, "-Z")


def test_unknown_command_suggests_the_nearest():
    refuse(run("rnu"), USAGE, "rnu", "did you mean 'run'")


def test_option_without_its_value():
    refuse(run("run", "-k"), USAGE, "-k")
    refuse(run("run", "--mem"), USAGE, "--mem")


def test_flag_with_a_value():
    refuse(run("run", "--dry-run=yes"), USAGE, "--dry-run")


def test_unknown_console():
    refuse(run("run", "-k", GOOD, "--console", "seriel"), USAGE, "seriel", "serial")


def test_two_kernels():
    refuse(run("run", "-k", GOOD, "another"), USAGE, "another")


def test_guest_name_is_in_the_message():
    refuse(dry("-k", path_of("absent"), "--name", "alpha"), IMAGE, "alpha")


def test_without_a_kernel_it_says_where_it_looked():
    result = dry(cwd=tempfile.mkdtemp(dir=DIR))
    if result.returncode == 0:
        raise tap.Skip("this host has a kernel of its own in /boot")
    refuse(result, IMAGE, "arch/x86/boot/bzImage", "-k")


def test_a_build_tree_is_found():
    tree = tempfile.mkdtemp(dir=DIR)
    os.makedirs(os.path.join(tree, "arch/x86/boot"))
    shutil.copy(GOOD, os.path.join(tree, "arch/x86/boot/bzImage"))
    result = dry(cwd=tree)
    assert result.returncode == 0 and "arch/x86/boot/bzImage" in result.stdout, result


def test_help_is_grouped_and_version_is_told():
    text = run("run", "--help").stdout
    for word in ["Guest:", "Console:", "--kernel", "--no-reboot", "Exit status"]:
        assert word in text, word
    assert run("--version").stdout.startswith("trapline ")
    assert run("help").returncode == 0
    assert run().returncode == USAGE


def test_a_full_disk_is_told():
    for args in [["--dry-run"], ["--dry-run", "--json"], ["--help"]]:
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([TRAPLINE, "run", "-k", GOOD, *args], stdout=full, stderr=subprocess.PIPE,
                                    text=True, timeout=60, check=False)
        assert result.returncode == 1 and "No space" in result.stderr, (args, result)


def test_json_cannot_say_what_is_not_utf8():
    refuse(dry("-k", GOOD, "--json", "-p", b"\xff"), USAGE, "UTF-8")


def test_closed_standard_streams():
    for closed in ["<&-", ">&-", "<&- >&- 2>&-"]:
        status = subprocess.run(["sh", "-c", f'exec "$0" run --dry-run -k "$1" {closed}', TRAPLINE, GOOD],
                                capture_output=True, timeout=60, check=False).returncode
        assert status in (0, 1), f"{closed}: status {status}"


if __name__ == "__main__":
    try:
        STATUS = tap.main(globals())
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
    sys.exit(STATUS)
