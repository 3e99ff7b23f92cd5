#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""PCI in the whole machine: both ways to config space, sizing, moving and conflicts of BARs. usage: ... TRAPLINE"""
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
ROM = tempfile.NamedTemporaryFile(prefix="trapline-rom-")  # pylint: disable=consider-using-with
ROM.write(bytes(range(256)) * 256)
ROM.flush()
ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: (1 << 64) - 1}
COMMAND, BAR0, BAR2, BAR4, BAR5 = 4, 0x10, 0x18, 0x20, 0x24
IO, MEMORY, INTX_DISABLE = 1, 2, 0x400


class Config:
    """Config space of one machine, by ports and by ECAM."""

    def __init__(self, machine):
        self.m = machine
        ecam = machine.region("PCI ECAM")
        self.ecam = ecam and ecam[1]["base"]
        self.functions = []
        for found in machine.pci():
            slot, function = found["address"].split(":")[2].split(".")
            self.functions.append(int(slot, 16) << 3 | int(function))
        self.test = next((devfn for devfn in self.functions if self.by_ports(devfn, [0], 4) == [0x7E571234]), None)

    def at(self, devfn, reg):
        return self.ecam + (devfn << 12) + reg

    def by_ports(self, devfn, regs, size):
        lines = []
        for reg in regs:
            lines += [f"write pio 0xcf8 4 {1 << 31 | devfn << 8 | (reg & 0xfc):#x}", f"read pio {0xcfc + (reg & 3):#x} {size}"]
        return [int(answer.split()[1], 0) for answer in self.m.commands(lines)[1::2]]

    def by_ecam(self, devfn, regs, size):
        return self.m.reads("mmio", [self.at(devfn, reg) for reg in regs], size)

    def write_by_ports(self, devfn, reg, size, value):
        self.m.commands([f"write pio 0xcf8 4 {1 << 31 | devfn << 8 | (reg & 0xfc):#x}",
                         f"write pio {0xcfc + (reg & 3):#x} {size} {value:#x}"])

    def get(self, reg, size=4):
        return self.m.read("mmio", self.at(self.test, reg), size)

    def set(self, reg, value, size=4):
        self.m.write("mmio", self.at(self.test, reg), size, value)

    def lives(self, bar):
        """Where a BAR of the test function decodes: (space, base), or None."""
        found = self.m.region(f"pci-test BAR{bar}")
        return found and (found[0], found[1]["base"])


def value_of(octets, reg, size):
    return int.from_bytes(bytes(octets[reg:reg + size]), "little")


def same_both_ways(config):
    for devfn in config.functions:
        octets = config.by_ecam(devfn, range(4096), 1)
        assert octets[0:4] != [0xFF] * 4
        for size in (1, 2, 4):
            regs = range(0, 257 - size)
            inside = [reg for reg in regs if (reg & 3) + size <= 4]
            assert config.by_ports(devfn, inside, size) == [value_of(octets, reg, size) for reg in inside]
        # Any length at any offset, also those that no bus delivers in one piece.
        for size in range(1, 9):
            regs = list(range(0, 257 - size)) + [4096 - size]
            assert config.by_ecam(devfn, regs, size) == [value_of(octets, reg, size) for reg in regs], size


def test_both_ways_show_the_same_bit_by_bit():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        assert len(config.functions) >= 2
        same_both_ways(config)


def test_what_firmware_finds_is_the_same_by_every_width():
    with Machine(TRAPLINE, "--firmware", ROM.name) as m:
        config = Config(m)
        assert not config.ecam and len(config.functions) >= 3
        for devfn in config.functions:
            octets = config.by_ports(devfn, range(256), 1)
            assert octets[:2] == [0x86, 0x80]
            for size in (2, 4):
                regs = range(0, 256, size)
                assert config.by_ports(devfn, regs, size) == [value_of(octets, reg, size) for reg in regs]
            # Many functions in a slot, and function 0 says so.
            if devfn & 7:
                assert config.by_ports(devfn & ~7, [0x0E], 1)[0] & 0x80


def test_absent_functions_are_all_ones_by_both_ways():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        absent = [devfn for devfn in range(256) if devfn not in config.functions]
        for size in (1, 2, 4):
            assert set(m.reads("mmio", [config.at(devfn, 0) for devfn in absent], size)) == {ONES[size]}
            assert {value for devfn in absent for value in config.by_ports(devfn, [0], size)} == {ONES[size]}
        # Of other buses there is nothing at all, and writing to them does nothing.
        assert set(m.reads("mmio", [config.ecam + (bus << 20) for bus in range(1, 16)], 4)) == {ONES[4]}
        before = config.by_ecam(config.functions[0], range(0, 256, 4), 4)
        for bus in range(1, 256):
            m.outl(0xCF8, 1 << 31 | bus << 16)
            assert m.inl(0xCFC) == ONES[4]
            m.outl(0xCFC, 0x12345678)
        assert config.by_ecam(config.functions[0], range(0, 256, 4), 4) == before


def test_the_address_register_takes_four_bytes_only():
    with Machine(TRAPLINE) as m:
        m.outl(0xCF8, 0xFFFFFFFF)
        assert m.inl(0xCF8) == 0x80FFFFFC
        m.outl(0xCF8, 1 << 31)
        m.outb(0xCF8, 0x55)
        m.outw(0xCFA, 0x5555)
        assert m.inl(0xCF8) == 1 << 31 and m.inb(0xCF8) == 0xFF and m.inw(0xCF8) == 0xFFFF
        assert m.inl(0xCFC) != ONES[4]
        m.outl(0xCF8, 0)  # not enabled
        assert m.inl(0xCFC) == ONES[4] and m.inb(0xCFC) == 0xFF


def test_writes_of_every_width_do_the_same_by_both_ways():
    """Two machines: what one is written by ports, the other is by ECAM; then all of it is compared."""
    with Machine(TRAPLINE, "--pci-test") as one, Machine(TRAPLINE, "--pci-test") as two:
        write_both_ways(one, two)


def write_both_ways(one, two):
    rng = random.Random(1)
    ports, ecam = Config(one), Config(two)
    for devfn in ports.functions:
        fixed = ports.by_ecam(devfn, [0, 8, 0x2C], 4)
        for reg in range(256):
            for size in (1, 2, 4):
                if (reg & 3) + size > 4:
                    continue
                for value in (ONES[size], rng.getrandbits(8 * size), 0):
                    ports.write_by_ports(devfn, reg, size, value)
                    two.write("mmio", ecam.at(devfn, reg), size, value)
            shown = ports.by_ecam(devfn, range(0, 256, 4), 4)
            assert shown == ecam.by_ecam(devfn, range(0, 256, 4), 4), (devfn, reg)
        assert ports.by_ecam(devfn, [0, 8, 0x2C], 4) == fixed
    assert one.map() == two.map()
    # Beyond 256 bytes there is ECAM alone, and nothing that could be written.
    for devfn in ecam.functions:
        before = ecam.by_ecam(devfn, range(256, 4096, 4), 4)
        for reg in range(256, 4096, 4):
            two.write("mmio", ecam.at(devfn, reg), 4, ONES[4])
        assert ecam.by_ecam(devfn, range(256, 4096, 4), 4) == before


def on(config):
    config.set(COMMAND, IO | MEMORY, 2)


def test_sizing():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        on(config)
        decoded = m.map()
        for reg, flags, mask in [(BAR0, 0x0, 0xFFFFF000), (BAR2, 0xC, 0xFFFF0000), (BAR2 + 4, 0, ONES[4]),
                                 (BAR4, 1, 0xFFFFFFE0), (BAR5, 0, 0xFFFFF000), (0x14, 0, 0), (0x30, 0, 0)]:
            before = config.get(reg)
            config.set(reg, ONES[4])
            assert config.get(reg) == mask | flags, hex(reg)
            config.set(reg, before)
            assert config.get(reg) == before
        assert m.map() == decoded


def test_decoding_follows_the_command_register():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        bars = [config.get(reg) & ~0xF for reg in (BAR0, BAR2)] + [config.get(BAR4) & ~3]
        assert all(bars[:1] + bars[2:])  # placed at power-on, as by firmware, but not decoded
        assert [config.lives(bar) for bar in (0, 2, 4)] == [None] * 3
        config.set(COMMAND, MEMORY, 2)
        assert config.lives(0) == ("mmio", bars[0]) and config.lives(2) and not config.lives(4)
        config.set(COMMAND, IO, 1)
        assert not config.lives(0) and not config.lives(2) and config.lives(4) == ("pio", bars[2])
        assert m.inl(bars[2]) == 0x54534554
        on(config)
        assert m.read("mmio", bars[0], 4) == 0x54534554
        m.reset()
        assert [config.lives(bar) for bar in (0, 2, 4)] == [None] * 3
        assert config.get(BAR0) & ~0xF == bars[0]


def test_a_moved_bar_answers_at_its_new_place_alone():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        on(config)
        old = config.get(BAR0)
        m.write("mmio", old + 0x800, 8, 0x1122334455667788)
        for new in (0xD3000000, 0xD0000000, 0xFEB00000, old):
            config.set(BAR0, new)
            assert m.read("mmio", new + 0x800, 8) == 0x1122334455667788
            if new != old:
                assert m.read_claimed("mmio", old + 0x800, 8) == (0, ONES[8])
        # From inside its own handler, by its register.
        m.write("mmio", old + 0x10, 4, 0xD4000000)
        m.write("mmio", old + 0x18, 4, 0)
        assert config.lives(0) == ("mmio", 0xD4000000) and config.get(BAR0) == 0xD4000000
        # 64 bits, in two writes with half an address between them.
        config.set(BAR2 + 4, 0x10)
        config.set(BAR2, 0x20000000)
        assert config.lives(2) == ("mmio", 0x1020000000)
        m.write("mmio", 0x1020001234, 2, 0xBEEF)
        config.set(BAR2 + 4, 0)
        config.set(BAR2, 0xD5000000)
        assert m.read("mmio", 0xD5001234, 2) == 0xBEEF
        # An address that is none: not decoded, and no harm.
        for nowhere in (0, ONES[4]):
            config.set(BAR0, nowhere)
            assert config.lives(0) is None
        config.set(BAR4, 0x10000)
        assert config.lives(4) is None


def test_a_bar_in_the_way_of_a_chip_gives_way():
    with Machine(TRAPLINE, "--pci-test", "-m", "64") as m:
        config = Config(m)
        on(config)
        home = config.get(BAR4) & ~3
        config.set(BAR4, 0x3E0)  # over serial2 and serial0
        assert config.lives(4) is None and m.inb(0x3FD) == 0x60 and m.read_claimed("pio", home, 4)[0] == 0
        assert config.get(BAR4) == 0x3E1  # the register says what was written
        config.set(BAR4, home)
        assert config.lives(4) == ("pio", home) and m.inl(home) == 0x54534554
        m.mem_write(0x100000, b"RAM!")
        for place in (0x100000, config.ecam, 0xFEC00000, 0xFEE00000):
            config.set(BAR0, place)
            assert config.lives(0) is None, hex(place)
        assert m.read("mmio", 0x100000, 4) == int.from_bytes(b"RAM!", "little")
        assert config.get(0) == 0x7E571234
        config.set(BAR0, 0xD6000000)
        assert config.lives(0) == ("mmio", 0xD6000000)


def test_two_bars_at_one_place_and_apart_again():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        config.set(BAR0, 0xD7000000)
        config.set(BAR2, 0xD8000000)
        config.set(BAR2 + 4, 0)
        on(config)
        m.write("mmio", 0xD8000800, 4, 0x22222222)
        m.write("mmio", 0xD7000800, 4, 0x11111111)
        config.set(BAR0, 0xD8000000)  # who comes later waits
        assert config.lives(0) is None and m.read("mmio", 0xD8000800, 4) == 0x22222222
        config.set(BAR2, 0xD7000000)  # and has the place as soon as it is free
        assert config.lives(0) == ("mmio", 0xD8000000) and config.lives(2) == ("mmio", 0xD7000000)
        assert m.read("mmio", 0xD8000800, 4) == 0x11111111 and m.read("mmio", 0xD7000800, 4) == 0x22222222


def test_intx_is_a_level_that_the_command_register_lets_through():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        on(config)
        base, line = config.get(BAR0), config.get(0x3C, 1)
        assert config.get(0x3D, 1) == 1 and line == 16 + (config.test >> 3) % 4
        m.write("mmio", base + 4, 4, 1)
        assert m.line(line) == (1, 1) and config.get(6, 2) & 8
        config.set(COMMAND, IO | MEMORY | INTX_DISABLE, 2)
        assert m.line(line) == (0, 1) and config.get(6, 2) & 8
        config.set(COMMAND, IO | MEMORY, 2)
        assert m.line(line) == (1, 2)
        m.write("mmio", base + 4, 4, 0)
        assert m.line(line) == (0, 2) and not config.get(6, 2) & 8
        m.write("mmio", base + 4, 4, 1)
        m.reset()
        assert m.level(line) == 0


def test_widths_of_a_bar():
    with Machine(TRAPLINE, "--pci-test") as m:
        config = Config(m)
        on(config)
        base = (config.get(BAR2 + 4) << 32) | config.get(BAR2) & ~0xF
        octets = bytes(random.Random(2).randrange(256) for _ in range(64))
        for at in range(0, 64, 8):
            m.write("mmio", base + at, 8, value_of(octets, at, 8))
        for size in range(1, 9):
            for at in range(0, 64 - size):
                assert m.read("mmio", base + at, size) == value_of(octets, at, size), (at, size)
        # Its last bytes, and what lies behind it.
        end = base + 0x10000
        m.write("mmio", end - 4, 8, 0x1122334455667788)
        assert m.read_claimed("mmio", end - 4, 8) == (4, 0xFFFFFFFF55667788)
        assert m.read_claimed("mmio", end, 8) == (0, ONES[8])


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
