#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Single ports, ACPI's fixed hardware, what nobody claims, and accesses across the ends of regions. usage: ... TRAPLINE"""
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
ONES = [0] + [(1 << 8 * size) - 1 for size in range(1, 9)]
SCI = 9


def base_of(machine, name):
    return machine.region(name)[1]["base"]


def test_the_post_code_is_remembered():
    with Machine(TRAPLINE) as m:
        for code in (0x12, 0xFF, 0):
            m.outb(0x80, code)
            assert m.inb(0x80) == code


def test_port_92_resets_on_a_rising_edge_only():
    with Machine(TRAPLINE) as m:
        assert m.inb(0x92) == 2
        m.outb(0x92, 0)
        assert m.inb(0x92) == 0 and not m.events
        m.outb(0x92, 3)
        assert m.take_events() == ["reset"]
        m.outb(0x92, 3)
        assert not m.events
        m.outb(0x92, 2)
        m.outb(0x92, 3)
        assert m.take_events() == ["reset"]


def test_the_acpi_reset_register():
    with Machine(TRAPLINE) as m:
        port = base_of(m, "ACPI reset")
        for value in (0, 2, 0xFF):
            m.outb(port, value)
        assert not m.events and m.inb(port) == 0
        m.outb(port, 1)
        assert m.take_events() == ["reset"]


def test_soft_off_is_power_off_and_no_other_sleep_is():
    with Machine(TRAPLINE) as m:
        control = base_of(m, "ACPI PM1a_CNT_BLK")
        assert m.inw(control) & 1  # in ACPI mode from the start
        for kind in (0, 1, 2, 3, 4, 6, 7):
            m.outw(control, kind << 10 | 0x2000)
            assert not m.events, kind
        m.outw(control, 5 << 10)  # not yet
        assert not m.events and m.inw(control) == 5 << 10 | 1
        m.outw(control, 5 << 10 | 0x2000)
        assert m.take_events() == ["power-off: ACPI S5"]
        m.outb(control + 1, 5 << 2 | 0x20)  # a byte will do
        assert m.take_events() == ["power-off: ACPI S5"]


def test_buttons_set_their_bits_and_raise_the_sci():
    with Machine(TRAPLINE) as m:
        event = base_of(m, "ACPI PM1a_EVT_BLK")
        for button, bit in [("power", 0x100), ("sleep", 0x200)]:
            assert not m.press(button)
            assert m.inw(event) & bit and m.level(SCI) == 0
            m.outw(event + 2, bit)
            assert m.level(SCI) == 1
            m.outw(event, bit)
            assert not m.inw(event) & bit and m.level(SCI) == 0
            assert m.press(button) and m.level(SCI) == 1
            m.outw(event, bit)
            m.outw(event + 2, 0)


def test_a_panic_is_told_and_a_crash_kernel_is_none():
    with Machine(TRAPLINE) as m:
        port = base_of(m, "pvpanic")
        assert m.inb(port) == 3  # what it knows
        m.outb(port, 2)
        assert not m.events and m.counters()["guest_faults"] == 0
        m.outb(port, 4)
        assert not m.events and m.counters()["guest_faults"] == 1
        m.outb(port, 1)
        assert len(m.events) == 1 and m.take_events()[0].startswith("guest panic")


def test_the_exit_port_takes_one_status_and_only_if_it_is_asked_for():
    with Machine(TRAPLINE) as m:
        port = base_of(m, "exit")
        m.outl(port, 7)
        assert m.inb(port) == 0xFF and not m.events and m.counters()["guest_faults"] == 1
    with Machine(TRAPLINE, "--exit-port") as m:
        assert m.inb(port) == 0
        m.outl(port, 0x107)  # the lowest byte
        m.outb(port, 9)
        assert len(m.events) == 1 and m.take_events()[0].endswith("status 7")


def test_ready_is_said_once():
    with Machine(TRAPLINE) as m:
        port = base_of(m, "ready")
        m.step(2)
        assert m.inb(port) == 0
        for value, ready, faults in [(1, 0, 1), (123, 1, 1), (123, 1, 2)]:
            m.outb(port, value)
            assert m.inb(port) == ready and m.counters()["guest_faults"] == faults
        m.reset()
        assert m.inb(port) == 0


def gaps(regions, end):
    """(first, last) of what no region covers."""
    at = 0
    for region in regions:
        if region["base"] > at:
            yield at, region["base"] - 1
        at = region["base"] + region["size"]
    if at < end:
        yield at, end - 1


def test_what_nobody_claims_reads_as_ones():
    rng = random.Random(7)
    with Machine(TRAPLINE, "-m", "64") as m:
        for space, end in [("pio", 1 << 16), ("mmio", 1 << 64)]:
            for first, last in gaps(m.map()[space], end):
                for _ in range(20):
                    size = rng.randrange(1, 9)
                    if last - first < size:
                        continue
                    addr = rng.choice([first, last - size + 1, rng.randrange(first, last - size + 2)])
                    assert m.read_claimed(space, addr, size) == (0, ONES[size]), hex(addr)
                    assert m.write(space, addr, size, rng.getrandbits(8 * size)) == 0
                    assert m.read_claimed(space, addr, size) == (0, ONES[size])
        assert not m.events


def test_an_access_across_an_end_is_cut_there():
    """At both ends of each region: the bytes inside are its, the others are their own region's or nobody's."""
    with Machine(TRAPLINE, "-m", "64", "--pci-test") as m:
        for space, regions in m.map().items():
            covered = [(r["base"], r["base"] + r["size"]) for r in regions]
            claims = [(r["base"], r["base"] + r["size"]) for r in regions if r["kind"] != "trap" or 1 in r["widths"]]
            for begin, end in covered:
                for edge in (begin, end):
                    for size in (2, 4, 8):
                        for before in range(1, size):
                            addr = edge - before
                            if addr < 0 or addr + size > (1 << 16 if space == "pio" else 1 << 64):
                                continue
                            claimed, value = m.read_claimed(space, addr, size)
                            octets = range(addr, addr + size)
                            anyone = sum(any(b <= at < e for b, e in covered) for at in octets)
                            bytewise = sum(any(b <= at < e for b, e in claims) for at in octets)
                            assert bytewise <= claimed <= anyone, (space, hex(addr), size, claimed)
                            for i, at in enumerate(octets):
                                if not any(b <= at < e for b, e in covered):
                                    assert value >> 8 * i & 0xFF == 0xFF, (space, hex(addr), size)


def test_the_end_of_a_space_does_not_wrap():
    with Machine(TRAPLINE, "-m", "64") as m:
        m.mem_write(0, b"\x55" * 16)
        for size in range(1, 9):
            for back in range(1, size + 1):
                claimed, value = m.read_claimed("mmio", (1 << 64) - back, size)
                assert claimed == 0 and value == ONES[size], (size, back)
                m.write("mmio", (1 << 64) - back, size, 0)
                m.read("pio", 0x10000 - back, size)
                m.write("pio", 0x10000 - back, size, 0)
        assert m.mem_read(0, 16) == b"\x55" * 16


def test_ram_and_the_hole_behind_it():
    end = 64 << 20
    with Machine(TRAPLINE, "-m", "64") as m:
        m.write("mmio", end - 4, 8, 0x1122334455667788)
        assert m.mem_read(end - 4, 4) == bytes.fromhex("88776655")
        assert m.read_claimed("mmio", end - 4, 8) == (4, 0xFFFFFFFF55667788)
    with Machine(TRAPLINE, "-m", "5G") as m:
        hole, high = 0xD0000000, 4 << 30
        for at in (hole - 4, high, high + (5 << 30) - hole - 4):
            m.mem_write(at, b"here")
            assert m.read("mmio", at, 4) == int.from_bytes(b"here", "little")
        assert m.read_claimed("mmio", hole, 8) == (0, ONES[8])
        assert m.read_claimed("mmio", high - 4, 8) == (4, int.from_bytes(b"\xff" * 4 + b"here", "little"))


def test_a_rom_reads_as_its_file_and_takes_no_writes():
    with tempfile.NamedTemporaryFile(prefix="trapline-rom-") as rom:
        content = bytes(random.Random(9).randrange(256) for _ in range(128 << 10))
        rom.write(content)
        rom.flush()
        with Machine(TRAPLINE, "--firmware", rom.name) as m:
            base = (4 << 30) - len(content)
            assert m.mem_read(base, len(content)) == content == m.mem_read(0x100000 - len(content), len(content))
            assert m.write("mmio", base, 8, 0) == 8  # claimed, and ignored
            assert m.read("mmio", base, 8) == int.from_bytes(content[:8], "little")
            # The last bytes, and those beyond them, which are of another space's beginning in no machine.
            assert m.read_claimed("mmio", (4 << 30) - 2, 4) == (2, 0xFFFF0000 | int.from_bytes(content[-2:], "little"))


def test_the_same_lines_give_the_same_answers():
    """Nothing but lines moves the machine: a long random run, twice."""
    rng = random.Random(8)
    lines = []
    ports = [0x60, 0x64, 0x70, 0x71, 0x80, 0x92, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x600, 0x604, 0x608,
             0xCF8, 0xCFC]
    for _ in range(4000):
        port, size = rng.choice(ports), rng.choice([1, 1, 1, 2, 4])
        lines.append(rng.choice([f"read pio {port} {size}", f"write pio {port} {size} {rng.getrandbits(8 * size)}",
                                 f"clock step {rng.randrange(1 << rng.randrange(40))}", "irq", "serial 0 get"]))
    runs = []
    for _ in range(2):
        with Machine(TRAPLINE, "--pci-test") as m:
            runs.append((m.commands(lines), m.take_events()))
    assert runs[0] == runs[1]


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
