#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The language of `trapline device-test` itself: answers, errors, garbage, sockets, ends. usage: ... TRAPLINE"""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine, Refused  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
DIR = tempfile.mkdtemp(prefix="trapline-device-")
STARTED = []


def talk(data, *options, **how):
    """The program with `data` as its whole input."""
    return subprocess.run([TRAPLINE, "device-test", *options], input=data, capture_output=True, timeout=60,
                          check=False, **how)


def refused(machine, line):
    try:
        answer = machine.command(line)
    except Refused as why:
        return str(why)
    raise AssertionError(f"{line!r} was accepted: {answer!r}")


def test_each_command_is_helped():
    with Machine(TRAPLINE) as m:
        names = m.command("help").split()
        assert {"read", "write", "mem", "clock", "irq", "msi", "map", "pci", "windows", "reset", "counters", "quit"} <= set(names)
        for name in names:
            assert m.command(f"help {name}").startswith(name), name


def test_a_read_and_a_write():
    with Machine(TRAPLINE) as m:
        assert m.command("read pio 0x80 1") == "1 0x00"
        assert m.command("write pio 128 1 0x5a") == "1"
        assert m.command("read pio 0x80 1") == "1 0x5a"
        # Bytes beyond the region are nobody's.
        assert m.command("read pio 0x80 2") == "1 0xff5a"


def test_a_count_is_one_place_often():
    with Machine(TRAPLINE) as m:
        assert m.command("write pio 0x3f8 1 0x41 0x42 0x43") == "3"
        assert m.serial_get() == b"ABC"
        assert m.command("read pio 0x3fd 1 3") == "3 0x60 0x60 0x60"


def test_memory_is_ram_and_nothing_else():
    with Machine(TRAPLINE, "-m", "64") as m:
        data = bytes(range(256)) * 20
        m.mem_write(0x200000, data)
        assert m.mem_read(0x200000, len(data)) == data
        assert m.read("mmio", 0x200001, 4) == 0x04030201
        m.write("mmio", 0x200000, 8, 0x1122334455667788)
        assert m.mem_read(0x200000, 8) == bytes.fromhex("8877665544332211")
        end = 64 << 20
        m.mem_write(end - 4, b"last")
        for line in [f"mem read {end - 4} 5", f"mem read {end} 1", "mem read 0xd1000000 4", f"mem write {end - 1} 0000"]:
            assert "no " in refused(m, line), line


def test_the_clock_stands_until_it_is_stepped():
    with Machine(TRAPLINE) as m:
        before = m.command("clock get")
        time.sleep(0.05)
        assert m.command("clock get") == before == "0 946684800000000000"
        assert m.command("clock step 1500000000") == "1500000000 946684801500000000"
        assert m.command("clock jump -500000000") == "1500000000 946684801000000000"
        for line in ["clock step -1", "clock step 86400000000001", "clock step", "clock get 1", "clock run",
                     "clock jump 99999999999999999999", "clock jump 2305843009213693952"]:
            refused(m, line)


def test_the_map_is_that_of_a_dry_run():
    kernel = os.path.join(DIR, "kernel")
    with open(kernel, "wb") as file:  # as small as an ELF with a PVH note can be
        note = (4).to_bytes(4, "little") * 2 + (18).to_bytes(4, "little") + b"Xen\0" + (0x100000).to_bytes(4, "little")
        head = (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0\1\0\0\0" + (0x100000).to_bytes(8, "little")
                + (64).to_bytes(8, "little") + bytes(12) + b"\x40\0\x38\0\2\0\0\0\0\0\0\0")
        load = b"\1\0\0\0\5\0\0\0" + b"".join(v.to_bytes(8, "little") for v in [4096, 1 << 20, 1 << 20, 16, 16, 4096])
        notes = b"\4\0\0\0\4\0\0\0" + b"".join(v.to_bytes(8, "little") for v in [176, 0, 0, len(note), len(note), 4])
        file.write((head + load + notes + note).ljust(4096, b"\0") + b"\xf4" * 16)
    for options in [[], ["-m", "5G", "--pci-test", "-c", "3"]]:
        dry = json.loads(subprocess.run([TRAPLINE, "run", "--dry-run", "--json", "-k", kernel, *options],
                                        capture_output=True, check=True, timeout=60).stdout)
        with Machine(TRAPLINE, *options) as m:
            assert m.map() == dry["bus"]
            assert m.devices() == dry["devices"]
            assert m.pci() == dry["pci"]


def test_a_device_answers_where_it_was_placed():
    with Machine(TRAPLINE, "--place", "serial1=mmio:0xd0000000,irq=10") as m:
        assert m.read("pio", 0x2FD, 1) == 0xFF
        assert m.read("mmio", 0xD0000005, 1) == 0x60
        m.write("mmio", 0xD0000004, 1, 8)  # OUT2 lets the interrupt through
        m.write("mmio", 0xD0000001, 1, 2)
        assert m.level(10) == 1


def test_counters_count():
    with Machine(TRAPLINE) as m:
        m.inb(0x3FD)
        m.inb(0x3FD)
        m.outb(0x80, 1)
        m.read("pio", 0x5000, 4)
        m.write("mmio", 1 << 45, 8, 0)
        m.read("pio", 0xCF8, 1)  # the address register takes four bytes at a time
        counters = m.counters()
        by_device = {(r["device"], r["base"]): r for r in counters["regions"]}
        assert by_device["serial0", 0x3F8]["reads"] == 2
        assert by_device["post", 0x80]["writes"] == 1
        assert counters["unclaimed"]["pio"] == {"reads": 2, "writes": 0, "wrong_width": 1}
        assert counters["unclaimed"]["mmio"] == {"reads": 0, "writes": 1, "wrong_width": 0}


def test_requests_are_events_and_the_machine_goes_on():
    with Machine(TRAPLINE) as m:
        m.outb(0x92, 1)
        assert m.take_events() == ["reset"]
        assert m.inb(0x92) & 1
        m.reset()
        assert not m.inb(0x92) & 1
        assert m.counters()["resets"] == 1 and not m.take_events()


def test_quit_and_the_end_of_input_are_status_0():
    assert talk(b"quit\nread pio 0 1\n").stdout == b"ok\n"
    for data in [b"", b"\n", b"# nothing\n", b"read pio 0x80 1", b"read pio 0x80 1\n"]:
        done = talk(data)
        assert done.returncode == 0 and done.stderr == b"", done
        assert done.stdout == (b"ok 1 0x00\n" if b"read" in data else b""), done


def test_input_may_be_a_file():
    path = os.path.join(DIR, "script")
    with open(path, "w", encoding="ascii") as file:
        file.write("write pio 0x80 1 7\n# a comment\n\n" + "read pio 0x80 1\n" * 5000)
    with open(path, "rb") as file:
        done = subprocess.run([TRAPLINE, "device-test"], stdin=file, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout == b"ok 1\n" + b"ok 1 0x07\n" * 5000


def test_what_makes_no_sense_is_an_error():
    with Machine(TRAPLINE, "--pci-test") as m:
        for line, word in [
                ("reed pio 0 1", "unknown"), ("read", "usage"), ("read pio 0", "usage"), ("read pio 0 1 1 1", "usage"),
                ("read cow 0 1", "neither"), ("read pio 0x 1", "not a number"), ("read pio 1z 1", "not a number"),
                ("read pio -1 1", "not a number"), ("read pio 0 0", "LEN"), ("read pio 0 9", "LEN"),
                ("read pio 0 1 0", "COUNT"), ("read pio 0 1 1025", "COUNT"), ("write pio 0 1 0x100", "beyond"),
                ("write pio 0 1", "usage"), ("read pio 99999999999999999999 1", "beyond"), ("mem read 0 5000", "LEN"),
                ("mem write 0 abc", "HEX"), ("mem write 0 zz", "HEX"), ("mem move 0 1", "neither"),
                ("irq 1024", "beyond"), ("serial 8 get", "beyond"), ("serial 0 bite", "serial"), ("help me", "unknown"),
                ("press on", "neither"),
                ("key 1", "pairs"), ("mouse 1 1", "usage: mouse"), ("mouse - 1 0", "DX: '' is not a number"),
                ("mouse 1 -40000 0", "DY: 40000 is beyond 32767"), ("mouse 1 1 8", "BUTTONS: 8 is beyond 7"),
                ("quit now", "usage"), ("\x01\x02\xff", "unknown")]:
            why = refused(m, line)
            assert word in why, (line, why)
            assert why.isascii() and why.isprintable(), why
        assert m.command("read pio 0x80 1") == "1 0x00"


def test_lines_are_of_bounded_length():
    long = b"read pio 0x80 " + b" " * 20000 + b"1\n"
    done = talk(long + b"read pio 0x80 1\n" + b"x" * 1000000 + b"\n" + b"\0\n" + b"read pio 0x80 1\n" + b"y" * 16384)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [b"error", b"ok", b"error", b"error", b"ok", b"error"], lines
    assert b"too long" in lines[0] and b"too long" in lines[2] and b"NUL" in lines[3], lines
    fits = b"write pio 0x80 1" + b" 0" * 1024
    assert talk(fits + b"\n" + fits + b" 0\n").stdout.splitlines() == [
        b"ok 1024", b"error usage: write SPACE ADDR LEN VALUE..."]


def test_garbage_never_ends_it():
    """Random bytes, and random words of the language: one line for each that is not blank, and it lives."""
    seed = int(os.environ.get("TRAPLINE_FUZZ_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    words = [b"read", b"write", b"mem", b"clock", b"irq", b"msi", b"key", b"mouse", b"serial", b"map", b"pci", b"counters", b"reset",
             b"help", b"pio", b"mmio", b"get", b"put", b"step", b"jump", b"0", b"1", b"2", b"4", b"8", b"0x64", b"0xfe",
             b"0xcf8", b"0x80000804", b"0xd1008004", b"0xffffffffffffffff", b"0x3f8", b"0x70", b"0x510", b"0x511", b"-1", b"86400000000000",
             b"41", b"deadbeef", b"", b"\xff", b"%n", b"0x604", b"0x3400", b"100000", b"#"]

    def line():
        if rng.random() < 0.2:
            return bytes(rng.choice(range(256)) for _ in range(rng.randrange(60))).replace(b"\n", b"").replace(b"\0", b"")
        return b" ".join(rng.choice(words) for _ in range(rng.randrange(8)))

    rom = os.path.join(DIR, "rom")
    with open(rom, "wb") as file:
        file.write(bytes(range(256)) * 256)
    seconds = float(os.environ.get("TRAPLINE_FUZZ_SECONDS", "2"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [line() for _ in range(2000)]
        done = talk(b"\n".join(lines) + b"\nhelp quit\n", *rng.choice([["--pci-test"], ["--firmware", rom]]))
        where = f"seed {seed}"
        assert done.returncode == 0 and done.stderr == b"", (where, done.returncode, done.stderr[-2000:])
        answers = [text for text in done.stdout.split(b"\n")[:-1] if not text.startswith(b"event ")]
        asked = [text for text in lines if text.strip(b" \t\r") and not text.startswith(b"#")]
        assert len(answers) == len(asked) + 1, (where, len(answers), len(asked))
        assert all(text.startswith((b"ok", b"error ")) for text in answers), where
        assert answers[-1].startswith(b"ok quit"), where


def serving(path):
    """A program that listens there; it does not outlive its test."""
    process = subprocess.Popen([TRAPLINE, "device-test", "--socket", path], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    STARTED.append(process)
    return process


def dial(path):
    def connected():
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(tap.PATIENCE)
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            client.close()
            return None
        return client
    client = tap.until(connected, "somebody listens at " + path)
    return client, client.makefile("rw", buffering=1)


def test_a_socket_serves_one_client_after_the_other():
    path = os.path.join(DIR, "socket")
    process = serving(path)
    client, file = dial(path)
    print("write pio 0x80 1 9", file=file)
    assert file.readline() == "ok 1\n"
    other, other_file = dial(path)  # waits for its turn
    print("read pio 0x80 1", file=other_file)
    print("write pio 0x80 1 10", file=file)
    assert file.readline() == "ok 1\n"
    for end in (file, client):
        end.close()
    assert other_file.readline() == "ok 1 0x0a\n"  # the machine is the same
    for end in (other_file, other):
        end.close()
    client, file = dial(path)
    print("read pio 0x80 1\nquit", file=file)
    assert file.readline() == "ok 1 0x0a\n" and file.readline() == "ok\n"
    assert process.wait(tap.PATIENCE) == 0 and not os.path.exists(path)


def test_a_stale_socket_is_replaced_and_a_living_one_is_not():
    path = os.path.join(DIR, "stale")
    process = serving(path)
    dial(path)[0].close()
    done = talk(b"", "--socket", path)
    assert done.returncode == 1 and path.encode() in done.stderr and b"another process" in done.stderr, done
    process.kill()
    process.wait(tap.PATIENCE)
    assert os.path.exists(path)
    process = serving(path)
    client, file = dial(path)
    print("help help", file=file)
    assert file.readline().startswith("ok help")
    process.send_signal(signal.SIGTERM)
    assert process.wait(tap.PATIENCE) == 20 and not os.path.exists(path)
    client.close()


def test_what_is_no_socket_is_left_alone():
    path = os.path.join(DIR, "file")
    with open(path, "w", encoding="ascii") as file:
        file.write("precious")
    done = talk(b"", "--socket", path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and path.encode() in done.stderr, done
    with open(path, encoding="ascii") as file:
        assert file.read() == "precious"


def test_a_signal_ends_it_though_nobody_reads():
    process = subprocess.Popen([TRAPLINE, "device-test"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    STARTED.append(process)
    os.set_blocking(process.stdin.fileno(), False)
    sent = 0
    for _ in range(1000):
        try:
            sent += process.stdin.write(b"map\n" * 1000) or 0
        except BlockingIOError:
            break
    assert sent
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(tap.PATIENCE) == 20
    process.stdout.close()
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass


def test_a_reader_that_goes_is_an_end():
    process = subprocess.Popen([TRAPLINE, "device-test"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    STARTED.append(process)
    process.stdout.close()
    process.stdin.write(b"help\n")
    process.stdin.flush()
    assert process.wait(tap.PATIENCE) == 0
    process.stdin.close()


def test_wrong_options_are_one_line():
    for options, word in [(["--arch", "pdp11"], b"x86_64"), (["-m", "4"], b"16 MiB"), (["-c", "0"], b"-c 0"),
                          (["word"], b"word"), (["--sokket", "x"], b"did you mean '--socket'"),
                          (["--socket", "x" * 200], b"107 at most"), (["--socket", ""], b"needs a value: PATH"),
                          (["--arch", "arm64", "--place", "serial0=mmio:0x1035000"], b"GICv2m frame")]:
        done = talk(b"", *options)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and word in done.stderr, done
    assert b"--arch" in talk(b"", "--help").stdout


if __name__ == "__main__":
    try:
        STATUS = tap.main(globals())
    finally:
        for left in STARTED:
            left.kill()
    sys.exit(STATUS)
