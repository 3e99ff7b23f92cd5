#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Bad input gets one clear line and a documented status; good input in a dry run is what was asked for."""
import bz2
import fcntl
import gzip
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import packing  # noqa: E402
from refusal import refuse  # noqa: E402
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
    windows = machine["windows"]
    assert windows["io"] == {"base": 0x6200, "size": 0x10000 - 0x6200}
    # Of 64 bits, where this host's CPU has so many.
    assert windows["mem32"]["base"] == 0xD2000000 and ("mem64" not in windows or windows["mem64"]["base"] >= 6 << 30)
    assert "BARs: 32-bit memory" in dry("-k", GOOD).stdout


def cmdline(*args):
    result = dry("-k", GOOD, "--json", *args)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["cmdline"]


def test_the_users_words_come_last_or_alone():
    own = cmdline()
    assert own == "console=ttyS0 pci=noearly i8042.noloop"
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


def test_firmware_instead_of_a_kernel():
    rom = path_of("rom", b"\xf4" * 0x30000)
    machine = json.loads(dry("--firmware", rom, "--json").stdout)
    assert machine["kernel"] is None
    assert machine["firmware"] == {"path": rom, "base": 0xfffd0000, "size": 0x30000, "entry": 0xfffffff0}
    assert [r["base"] for r in machine["bus"]["mmio"] if r["kind"] == "rom"] == [0xfffd0000]
    assert any(d["name"] == "fw_cfg" for d in machine["devices"])
    assert "started at 0xfffffff0" in dry("--firmware", rom).stdout


def test_without_firmware_nothing_of_it_is_there():
    machine = json.loads(dry("-k", GOOD, "--json").stdout)
    assert machine["firmware"] is None and machine["kernel"]["path"] == GOOD
    assert not any(d["name"] == "fw_cfg" for d in machine["devices"])
    assert [f["name"] for f in machine["pci"]] == ["pci"]


def test_firmware_of_a_wrong_size():
    for size in (0xffff, 0x10001, 17 << 20):
        with open(path_of("rom-bad"), "wb") as file:
            file.truncate(size)
        refuse(dry("--firmware", path_of("rom-bad")), IMAGE, "rom-bad", str(size), "4 KiB", "16 MiB")
    with open(path_of("rom-big"), "wb") as file:
        file.truncate(16 << 20)
    assert dry("--firmware", path_of("rom-big")).returncode == 0
    refuse(dry("--firmware", path_of("rom-none")), IMAGE, "firmware", "rom-none", "No such file")
    refuse(dry("--firmware", DIR), IMAGE, DIR, "directory")


def test_empty_values_are_told():
    for option in ("-k", "-i", "--boot", "--name", "--irqchip", "--stats", "--debugcon", "--firmware", "--kvm-device", "--cpu-affinity", "--numa-node"):
        refuse(run("run", option, ""), USAGE, "needs a value: ")
    refuse(run("device-test", "--arch", ""), USAGE, "--arch", "needs a value: ARCH")
    refuse(run("run", "-m", "1B", "-k", GOOD), USAGE, "-m", "1 bytes are too little")
    assert dry("-k", GOOD, "-p", "").returncode == 0


def test_what_is_no_kernel_of_this_machine():
    refuse(dry("-k", path_of("Image", bytes(56) + b"ARM\x64" + bytes(964))), IMAGE, "arm64 Image", "this machine is x86_64")
    refuse(dry("-k", "/bin/ls"), IMAGE, "/bin/ls", "a program for an operating system")


def test_kvmtools_names_are_taken():
    rom, flash = path_of("rom", b"\xf4" * 0x10000), path_of("flash", b"\xff" * 0x3000)
    assert dry("-f", rom, "-F", flash, "--json").stdout == dry("--firmware", rom, "--flash", flash, "--json").stdout
    refuse(run("run", "-k", GOOD, "--dev", path_of("no-kvm")), KVM, path_of("no-kvm"), "No such file")
    refuse(run("run", "-k", GOOD, "--dev"), USAGE, "--dev", "needs a value")
    assert "--dev " not in run("run", "--help").stdout


def test_firmware_and_what_is_a_kernels():
    rom = path_of("rom", b"\xf4" * 0x10000)
    for option in (("-i", GOOD), ("-p", "quiet"), ("--boot", "pvh"), ("--no-default-params",)):
        refuse(dry("--firmware", rom, *option), USAGE, option[0], "--firmware")
    for option in (("-k", GOOD), (GOOD,)):
        refuse(dry("--firmware", rom, *option), USAGE, "a kernel and --firmware exclude each other")


def test_flash_below_the_firmware():
    rom, flash = path_of("rom", b"\xf4" * 0x10000), path_of("flash", b"\xff" * 0x3000)
    machine = json.loads(dry("--firmware", rom, "--flash", flash, "--json").stdout)
    roms = [(r["base"], r["device"]) for r in machine["bus"]["mmio"] if r["kind"] == "rom"]
    assert roms == [(0xfffed000, "flash"), (0xffff0000, None)], roms
    refuse(dry("-k", GOOD, "--flash", flash), USAGE, "--flash", "--firmware")
    refuse(dry("--firmware", rom, "--flash", path_of("flash-none")), IMAGE, "flash-none", "No such file")
    refuse(dry("--firmware", rom, "--flash", path_of("flash-odd", b"x" * 4097)), IMAGE, "flash-odd", "4097", "4 KiB")
    with open(path_of("flash-big", b""), "wb") as file:
        file.truncate(16 << 20)
    refuse(dry("--firmware", rom, "--flash", path_of("flash-big")), IMAGE, "flash-big", "rom", "16 MiB")
    with open(flash, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refuse(dry("--firmware", rom, "--flash", flash), IMAGE, flash, "another guest")


def test_an_arm64_machines_firmware_and_flash():
    def refuse_arm(status, words, *options):
        refuse(run("device-test", "--arch", "arm64", "-m", "64", *options), status, *words)

    image, flash = path_of("image", b"\x1f\x20\x03\xd5"), path_of("flash-arm", b"\xff" * 0x20000)
    good = run("device-test", "--arch", "arm64", "-m", "64", "--firmware", image, "--flash", flash)
    assert good.returncode == 0, good
    for size in (0x1ffff, 0x10000, 0x30000, 32 << 20):
        with open(path_of("flash-odd"), "wb") as file:
            file.truncate(size)
        refuse_arm(IMAGE, ("flash-odd", str(size), "power of two"), "--flash", path_of("flash-odd"))
    with open(path_of("image-big"), "wb") as file:
        file.truncate(64 << 20)
    refuse_arm(IMAGE, ("image-big", "in the device tree's place", "-m gives"), "--firmware", path_of("image-big"))
    refuse_arm(IMAGE, ("image", "too large"), "--firmware", path_of("image-big"), "--firmware-address", "0x80200000")
    refuse_arm(IMAGE, ("firmware", "image-none", "No such file"), "--firmware", path_of("image-none"))
    refuse_arm(USAGE, ("--firmware-address", "not in RAM"), "--firmware", image, "--firmware-address", "0x40000000")
    refuse_arm(USAGE, ("--firmware-address", "--firmware"), "--firmware-address", "0x80000000")


def test_firmware_has_some_places_by_heart():
    rom = path_of("rom", b"\xf4" * 0x10000)
    refuse(dry("--firmware", rom, "--place", "acpi-pm=pio:0x1000"), USAGE, "acpi-pm", "--firmware", "0x600")
    refuse(dry("--firmware", rom, "--place", "pci=pio:0x1000"), USAGE, "pci", "--firmware")
    assert dry("--firmware", rom, "--place", "serial0=pio:0x2000").returncode == 0


def test_no_kvm_device():
    path = path_of("no-kvm")
    result = run("run", "-k", GOOD, "--kvm-device", path)
    refuse(result, KVM, f"--kvm-device '{path}'", "No such file")
    assert "modprobe" not in result.stderr, "the path is the user's, no module makes it right"


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
    refuse(run("run", "-k", GOOD, "--kvm-device", "/dev/null"), KVM, "--kvm-device '/dev/null'", "not a KVM device")


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
    whole = packing.bzimage()
    result = dry("-k", path_of("bzImage", whole))
    assert result.returncode == 0, result.stderr
    for size in [0x1F1, 0x1FF, 0x200, 0x202, 0x205, 0x206, 0x211, 0x238, 0x260, 0x264, 5 * 512 - 1, 5 * 512,
                 5 * 512 + 0x200, len(whole) - 16]:
        refuse(dry("-k", path_of("cut.bz", whole[:size])), IMAGE, "cut.bz")


def kernel_of(*args, **kwargs):
    result = dry("--json", "-k", *args, **kwargs)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["kernel"]


def packed(inner, method=gzip.compress):
    return path_of("packed.bz", packing.packed(inner, method))


def noted_elf():
    """With the note where it is loaded, as in a kernel."""
    head = bytearray(elf())
    struct.pack_into("<QQQQQ", head, 64 + 8, 0, 0x100000, 0x100000, len(head), len(head))
    struct.pack_into("<I", head, 64 + 112 + 16, 0x101000)
    return bytes(head)


def test_a_bzimage_is_unpacked_and_entered_by_pvh():
    for method, name in ((gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")):
        kernel = kernel_of(packed(noted_elf(), method))
        assert kernel["unpacked"] == name and kernel["boot"] == "pvh" and kernel["entry"] == 0x101000, kernel
        assert kernel["kind"] == "bzImage" and kernel["kaslr"] is False and kernel["note"] is None, kernel
    text = dry("-k", packed(noted_elf())).stdout
    assert "unpacked here from gzip, entered by PVH at 0x101000" in text and "no address randomisation" in text, text


def test_boot_forces_a_way():
    path = packed(noted_elf())
    for way, entry in ("auto", 0x101000), ("pvh", 0x101000), ("elf64", 0x100000), ("bzimage64", 0x1000200), (
            "bzimage32", 0x1000000):
        kernel = kernel_of(path, "--boot", way)
        assert kernel["boot"] == ("pvh" if way == "auto" else way) and kernel["entry"] == entry, kernel
        assert kernel["kaslr"] == way.startswith("bzimage"), kernel
    assert "random, if the kernel wants it" in dry("-k", path, "--boot", "bzimage64").stdout
    assert kernel_of(path_of("a32.bz", packing.bzimage(xloadflags=0)))["boot"] == "bzimage32"


def test_boot_by_a_way_that_is_not_there():
    refuse(dry("-k", GOOD, "--boot", "pvhh"), USAGE, "--boot pvhh", "bzimage64", "did you mean 'pvh'?")
    refuse(dry("-k", GOOD, "--boot", ""), USAGE, "--boot")
    for way in "bzimage64", "bzimage32":
        refuse(dry("-k", GOOD, "--boot", way), IMAGE, "good.elf", "--boot " + way)
    refuse(dry("-k", path_of("no-note", elf(note=False)), "--boot", "pvh"), IMAGE, "no-note", "--boot pvh")
    refuse(dry("-k", packed(elf(note=False)), "--boot", "pvh"), IMAGE, "packed.bz", "--boot pvh")
    for way in "pvh", "elf64":
        refuse(dry("-k", path_of("bare.bz", packing.bzimage()), "--boot", way), IMAGE, "bare.bz", "--boot " + way)
    refuse(dry("-k", path_of("a32.bz", packing.bzimage(xloadflags=0)), "--boot", "bzimage64"), IMAGE, "32-bit")


def test_a_packed_kernel_that_cannot_work():
    good = gzip.compress(elf())
    refuse(dry("-k", path_of("sum.bz", packing.bzimage(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]))), IMAGE, "sum.bz",
           "damaged", "gzip")
    refuse(dry("-k", path_of("cut.bz", packing.bzimage(good[:100] + good[-4:]))), IMAGE, "cut.bz", "damaged", "cut short")
    refuse(dry("-k", packed(elf(machine=183))), IMAGE, "packed.bz", "aarch64")
    refuse(dry("-k", packed(elf()[:4100])), IMAGE, "packed.bz", "damaged")
    unknown = path_of("lzo.bz", packing.bzimage(b"\x89LZO and so on"))
    assert kernel_of(unknown)["boot"] == "bzimage64"
    assert "unknown here" in kernel_of(unknown)["note"]
    refuse(dry("-k", unknown, "--boot", "elf64"), IMAGE, "lzo.bz", "--boot elf64", "unknown here")


def test_without_the_library_the_guest_unpacks():
    path = packed(noted_elf())
    without = {"LD_PRELOAD": SHIM, "SHIM_NO_LIBRARY": "libz.so.1"}
    kernel = kernel_of(path, env=without)
    assert kernel["boot"] == "bzimage64" and kernel["unpacked"] is None and kernel["kaslr"] is True, kernel
    assert "libz.so.1" in kernel["note"] and "zlib1g" in kernel["note"], kernel
    assert "libz.so.1" in dry("-k", path, env=without).stdout
    refuse(dry("-k", path, "--boot", "pvh", env=without), IMAGE, "packed.bz", "--boot pvh", "libz.so.1", "zlib1g")


def test_initrd_missing():
    refuse(dry("-k", GOOD, "-i", path_of("absent")), IMAGE, path_of("absent"), "No such file")


def test_initrd_too_large():
    big = path_of("big-initrd", b"")
    os.truncate(big, 300 << 20)
    refuse(dry("-k", GOOD, "-i", big, "-m", "256"), IMAGE, "big-initrd", "too large", "-m gives the guest more RAM")
    # It lies below the hole, where more RAM does not reach.
    os.truncate(big, 0xd0000000)
    assert "-m gives" not in refuse(dry("-k", GOOD, "-i", big, "-m", "8G"), IMAGE, "big-initrd", "too large")


def test_memory_zero_tiny_unparsable_beyond():
    for size in ["0", "1", "4K", "12q", "fish", "-5", "", "1GG", "99999999999999999999", "20000P", "17179869184G"]:
        refuse(dry("-k", GOOD, "-m", size), USAGE, "-m")


def test_a_shutdown_timeout_is_a_number_of_seconds():
    refuse(dry("-k", GOOD, "--shutdown-timeout", "soon"), USAGE, "--shutdown-timeout", "'soon'", "not a number")
    refuse(dry("-k", GOOD, "--shutdown-timeout", "-1"), USAGE, "--shutdown-timeout", "'-1'")
    refuse(dry("-k", GOOD, "--shutdown-timeout", "99999999999"), USAGE, "--shutdown-timeout", "too large")


def test_what_only_arm_machines_have():
    for option in (("--aarch32",), ("--pmu",), ("--disable-sve",), ("--sve-max-vl", "256"), ("--disable-mte",), ("--no-pvtime",),
                   ("--kaslr-seed", "1"), ("--rtc", "pl031"), ("--firmware-address", "0"), ("--psci", "kvm"),
                   ("--nested",)):
        refuse(dry("-k", GOOD, *option), USAGE, option[0], "only an arm64 machine has it")
    refuse(dry("-k", GOOD, "--irqchip", "gicv3"), USAGE, "--irqchip gicv3")


def test_cpus_zero_or_too_many():
    for count in ["0", "100000", "-1", "two", "99999999999999"]:
        refuse(dry("-k", GOOD, "-c", count), USAGE, "-c")


def test_letters_of_another_case_are_near():
    refuse(dry("-k", GOOD, "--Kernel", GOOD), USAGE, "did you mean '--kernel'?")
    refuse(dry("-k", GOOD, "--boot", "PVH"), USAGE, "did you mean 'pvh'?")
    refuse(run("device-test", "--arch", "arm64", "--irqchip", "GICv3"), USAGE, "did you mean 'gicv3'?")


def test_a_pipe_that_nobody_reads():
    pipe = path_of("pipe")
    os.mkfifo(pipe)
    refuse(run("run", "-k", GOOD, "--stats", pipe), USAGE, "--stats: cannot write", "nobody reads this pipe")
    refuse(run("run", "-k", GOOD, "--debugcon", "file:" + pipe), USAGE, "--debugcon: cannot write", "nobody reads this pipe")


def test_one_dash_for_two():
    for option in ("kernel", "initrd", "network", "mem", "balloon"):
        refuse(dry("-" + option, GOOD), USAGE, f"unknown option '-{option}'; did you mean '--{option}'?")
    refuse(dry("-kernel=" + GOOD), USAGE, "unknown option '-kernel'; did you mean '--kernel'?")
    refuse(dry("-k", GOOD, "-append", "quiet"), USAGE, "unknown option '-append'; --help lists")
    refuse(dry("-k", GOOD, "-z"), USAGE, "unknown option '-z'; --help lists")
    refuse(dry("-k", GOOD, "-="), USAGE, "unknown option '-='; --help lists")
    assert dry("-k" + GOOD, "-m16", "-c1", "-pquiet").returncode == 0


def test_values_that_went_astray():
    """An option whose value is optional takes it by '=' only."""
    for option, value in (("--hugepages", "2M"), ("--rng", "transport=mmio"), ("--balloon", "size=1")):
        meant = f"did you mean '{option}={value}'?"
        refuse(dry("-k", GOOD, option, value), USAGE, f"one kernel too many: '{value}'", meant)
        refuse(dry(option, value, GOOD), USAGE, f"one kernel too many: '{GOOD}'", meant)
    refuse(run("device-test", "--rng", "transport=mmio"), USAGE, "takes no words", "'--rng=transport=mmio'?")
    refuse(dry("--rng", "transport=mmio"), IMAGE, "kernel 'transport=mmio': No such file", "'--rng=transport=mmio'?")
    for words in (("-k", GOOD, "--rng=transport=mmio", "x"), ("-k", GOOD, "--rng", "--", "x"), ("-k", GOOD, "x"),
                  ("-k", GOOD, "--debug", "x")):
        said = dry(*words).stderr
        assert said == "trapline: one kernel too many: 'x'\n", said
    assert dry("--rng", GOOD).returncode == 0
    # Where the word is the kernel, what else is wrong is no hint at it.
    for words in (("--rng", GOOD, "-i", path_of("absent")), ("--hugepages", path_of("no-kernel", b"x"))):
        assert "did you mean" not in refuse(dry(*words), IMAGE, "kernel" if len(words) == 2 else "absent")


def test_values_are_told_with_what_is_wrong_of_them():
    refuse(dry("-k", GOOD, "-m", "16777217B"), USAGE, "-m: 16777217 bytes are no multiple of 4 KiB")
    refuse(dry("-k", GOOD, "--place", ""), USAGE, "--place: not of the form DEV=SPACE:ADDR")
    refuse(dry("-k", GOOD, "-d", "nfs://host/disk"), USAGE, "disk 'nfs://host/disk': No such file", "nbd://HOST")
    refuse(run("device-test", "--arch", "x86"), USAGE, "--arch 'x86': there are x86_64 and arm64; did you mean 'x86_64'?")
    refuse(run("device-test", "--arch", "arm64", "-m", "16777217B"), USAGE, "16777217 bytes are no multiple of 64 KiB")


def test_how_many_functions_that_tests_drive():
    for number, functions in (("1", 1), ("8", 8)):
        got = json.loads(run("run", "-k", GOOD, "--dry-run", "--json", "--pci-test-functions", number).stdout)
        assert len([f for f in got["pci"] if f["name"].startswith("pci-test")]) == functions, got["pci"]
    for number in ("0", "9", "2147483647"):
        refuse(dry("-k", GOOD, "--pci-test-functions", number), USAGE, f"--pci-test-functions: '{number}' is not in 1-8")
    for text in ("", "x", "1-8", "-1"):
        refuse(dry("-k", GOOD, "--pci-test-functions", text), USAGE, f"--pci-test-functions: '{text}' is not a number")


def test_unknown_option_suggests_the_nearest():
    refuse(run("run", "--kernal", GOOD), USAGE, "--kernal", "did you mean '--kernel'")
    refuse(run("run", "--memory", "256"), USAGE, "--memory", "did you mean '--mem'")
    refuse(run("run", "--mme", "256"), USAGE, "--mme", "did you mean '--mem'")
    # What is as near to anything is near to nothing.
    for word in ("--vnc", "--gtk", "--x"):
        refuse(run("run", word), USAGE, f"'{word}'; --help lists the options")
    refuse(run("run", "--nonsense"), USAGE, "--nonsense", "--help")
    refuse(run("run", "-Z"), USAGE, "-Z")


def test_unknown_command_suggests_the_nearest():
    refuse(run("rnu"), USAGE, "rnu", "did you mean 'run'")


def test_option_without_its_value():
    refuse(run("run", "-k"), USAGE, "-k")
    refuse(run("run", "--mem"), USAGE, "--mem")


def test_flag_with_a_value():
    refuse(run("run", "--dry-run=yes"), USAGE, "--dry-run")


def test_stats_that_cannot_be_written():
    path = os.path.join(DIR, "no", "such", "folder")
    refuse(run("run", "--stats", path, GOOD), 2, "--stats", path, "No such file")


def test_stats_of_a_dry_run():
    refuse(dry("--stats", os.path.join(DIR, "stats"), GOOD), 2, "--stats", "--dry-run")


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


def placed(*moves, more=()):
    return dry("-k", GOOD, "--json", *more, *[word for move in moves for word in ("--place", move)])


def regions_of(result, device):
    assert result.returncode == 0, result.stderr
    bus = json.loads(result.stdout)["bus"]
    return [(space, r["name"], r["base"]) for space in bus for r in bus[space] if r["device"] == device]


def lines_of(result, device):
    return [irq["line"] for d in json.loads(result.stdout)["devices"] if d["name"] == device for irq in d["irqs"]]


def test_place_moves_devices():
    result = placed("serial0=mmio:0xd0000000,irq=10", "rtc=pio:0x370")
    assert regions_of(result, "serial0") == [("mmio", "serial", 0xD0000000)]
    assert lines_of(result, "serial0") == [10]
    assert regions_of(result, "rtc") == [("pio", "rtc", 0x370)]
    assert lines_of(result, "rtc") == [8]
    assert regions_of(result, "serial1") == [("pio", "serial", 0x2F8)]
    # Decimal and octal as in C, and the last word counts.
    assert regions_of(placed("serial0=pio:512", "serial0=pio:01000,irq=0x5"), "serial0") == [("pio", "serial", 512)]
    text = dry("-k", GOOD, "--place", "serial0=mmio:0xd0000000").stdout
    assert "0xd0000000 -     0xd0000007" in text, text


def test_place_keeps_distances_or_moves_one_region():
    result = placed("acpi-pm=mmio:0xd0000100")
    assert [(space, base) for space, _, base in regions_of(result, "acpi-pm")] == [
        ("mmio", 0xD0000100), ("mmio", 0xD0000104), ("mmio", 0xD0000108), ("mmio", 0xD000010C)]
    result = placed("acpi-pm.ACPI PM_TMR=mmio:0xd0000000")
    assert regions_of(result, "acpi-pm") == [
        ("pio", "ACPI PM1a_EVT_BLK", 0x600), ("pio", "ACPI PM1a_CNT_BLK", 0x604), ("pio", "ACPI reset", 0x60C),
        ("mmio", "ACPI PM_TMR", 0xD0000000)]
    # What stands in the other space stays.
    assert ("mmio", "PCI ECAM", 0xD1000000) in regions_of(placed("pci=pio:0x2cf8"), "pci")
    result = placed("i8042=pio:0x160,irq=5,6")
    assert [base for _, _, base in regions_of(result, "i8042")] == [0x160, 0x164]
    assert lines_of(result, "i8042") == [5, 6]


def test_places_and_interrupts_can_be_swapped():
    result = placed("serial0=pio:0x2f8,irq=3", "serial1=pio:0x3f8,irq=4", "rtc=pio:0x70,irq=1",
                    "i8042=pio:0x60,irq=8,12")
    assert regions_of(result, "serial0") == [("pio", "serial", 0x2F8)]
    assert lines_of(result, "i8042") == [8, 12] and lines_of(result, "rtc") == [1]


BAD_PLACES = [
    # malformed
    ("serial0", "form DEV=SPACE:ADDR"), ("=pio:1", "form DEV=SPACE:ADDR"), ("serial0=pio", "form DEV=SPACE:ADDR"),
    ("", "form DEV=SPACE:ADDR"), ("serial0=port:0x100", "'port'", "'pio'"), ("serial0=pio:", "''", "address"),
    ("serial0=pio:com1", "'com1'", "address"), ("serial0=pio:-1", "'-1'", "address"),
    ("serial0=pio:18446744073709551616", "address"), ("serial0=pio:0x100irq=4", "'irq=4'", ",irq=N"),
    ("serial0=pio:0x100,irq", "',irq'"), ("serial0=pio:0x100,irq=", "''", "interrupt number"),
    ("serial0=pio:0x100,irq=4x", "'4x'", "interrupt number"), ("serial0=pio:0x100,irq=3,4", "has 1 interrupt"),
    ("serial0=pio:0x100,irq=1,2,3,4,5", "more than 4"), ("acpi-pm=mmio:0xd0000001", "aligned", "4 bytes"),
    # unknown
    ("seril0=pio:0x100", "'seril0'", "did you mean 'serial0'?"), ("floppy=pio:0x3f0", "'floppy'", "--dry-run"),
    ("pci.ECAM=mmio:0xc0000000", "no region 'ECAM'", "--dry-run"),
    # outside of its space
    ("serial0=pio:0xfff9", "serial", "outside", "ports for devices end at 0xffff"), ("serial0=pio:0x10000", "outside"),
    ("serial0=mmio:0xfffffffffffffff8", "outside"), ("serial0=mmio:0xffffffffffffffff", "outside"),
    # overlapping: both sides are named
    ("serial0=pio:0x2f8", "serial0", "serial1"), ("serial0=mmio:0x1000000", "RAM", "serial0"),
    ("serial0=pio:0x40", "kernel", "serial0"), ("serial0=mmio:0xfee00000", "kernel", "serial0"),
    ("serial0=mmio:0xd1000ff8", "pci", "serial0"), ("serial0=mmio:0xe0000000", "PCI's 32-bit window", "serial0"),
    ("serial0=pio:0x61f9", "PCI's I/O window", "serial0"), ("kernel=pio:0x100", "KVM", "stays"),
    # interrupts
    ("serial0=pio:0x100,irq=8", "interrupt 8", "rtc", "could have 3, 4, 5"),
    ("serial0=pio:0x100,irq=9", "interrupt 9", "acpi-pm"), ("serial0=pio:0x100,irq=0", "the timer"),
    ("serial0=pio:0x100,irq=17", "interrupt 17", "PCI"), ("serial0=pio:0x100,irq=24", "0 to 23"),
    ("acpi-pm=pio:0x700,irq=4", "interrupt 4", "serial0"), ("acpi-pm=pio:0x700,irq=20", "SCI"),
    ("pci.PCI ECAM=mmio:0xc0080000", "aligned to 1 MiB"),
]


def test_bad_places_are_told():
    for move, *words in BAD_PLACES:
        refuse(placed(move), USAGE, "--place", *words)
    refuse(dry("-k", GOOD, *["--place", "rtc=pio:0x370"] * 33), USAGE, "--place", "32 times")


def test_debugcon_is_there_when_asked_for():
    assert regions_of(placed(), "debugcon") == []
    out = path_of("debug.log")
    assert regions_of(placed(more=["--debugcon", "file:" + out]), "debugcon") == [("pio", "data", 0xE9)]
    assert not os.path.exists(out), "a dry run made a file"
    assert regions_of(placed("debugcon=pio:0x402", more=["--debugcon", "stderr"]), "debugcon") == [
        ("pio", "data", 0x402)]
    refuse(placed("debugcon=pio:0x402"), USAGE, "no device 'debugcon'")
    for where in ["stdout", "file:", "stderr:"]:
        refuse(dry("-k", GOOD, "--debugcon", where), USAGE, "--debugcon", f"'{where}' is neither stderr nor file:PATH")
    refuse(run("run", "-k", GOOD, "--debugcon", "file:/no/such/folder/x"), USAGE, "/no/such/folder/x", "No such file")


def test_options_of_another_architecture():
    refuse(dry("-k", GOOD, "--irqchip", "gicv3"), USAGE, "--irqchip")
    assert dry("-k", GOOD, "--irqchip", "auto").returncode == 0
    target = os.path.join(DIR, "tree.dtb")
    refuse(dry("-k", GOOD, "--dump-dtb", target), USAGE, "--dump-dtb")
    assert not os.path.exists(target)


def test_help_is_grouped_and_version_is_told():
    text = run("run", "--help").stdout
    for word in ["Guest:", "Console:", "--kernel", "--no-reboot", "Exit status"]:
        assert word in text, word
    assert run("--version").stdout.startswith("trapline ")
    assert run("help").returncode == 0
    assert run().returncode == USAGE
    for command in "run", "device-test":
        assert run("help", command).stdout == run(command, "--help").stdout
    refuse(run("help", "rum"), USAGE, "unknown command 'rum'", "did you mean 'run'?")
    refuse(run("version", "x"), USAGE, "version takes no more words: 'x'")
    refuse(run(""), USAGE, "unknown command ''")


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


def test_make_run_looks_at_its_words_first():
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "run")
    text, there = path_of("text", b"hello " * 2000), path_of("image", b"")
    for words, *has in ((["-k", "bogus"], "KERNEL=bogus", "neither full nor cloud, and no such file"),
                        (["-k", text], "KERNEL=" + text, "neither a bzImage nor an ELF kernel"),
                        (["-k", path_of("absent")], path_of("absent"), "No such file"),
                        (["--bed", "--", "-d", there + ",ro"], f"'{there}'", "emulated machine", "/disk")):
        result = subprocess.run([sys.executable, tool, "--check", *words], capture_output=True, text=True, timeout=60,
                                check=False)
        lines = (result.stdout + result.stderr).splitlines()
        assert result.returncode == 1 and len(lines) == 1 and all(word in lines[0] for word in has), result
    for words in (["-k", GOOD], ["--bed", "--", "--debug", "--console", "socket:" + path_of("absent"), "-p", "root=/dev/vda"]):
        result = subprocess.run([sys.executable, tool, "--check", *words], capture_output=True, timeout=60, check=False)
        assert result.returncode == 0 and not result.stdout + result.stderr, result


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
