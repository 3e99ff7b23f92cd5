#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The ACPI tables where a guest looks for them: found, whole, true to the map, and iasl's approval. usage: ... TRAPLINE"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
MACHINES = [[], ["-c", "4", "-m", "5G"], ["--pci-test", "-c", "255"],
            ["--place", "serial0=mmio:0xd0000000,irq=10", "--place", "serial1=pio:0x5000"]]


def u64(table, at):
    return struct.unpack_from("<Q", table, at)[0]


def u32(table, at):
    return struct.unpack_from("<I", table, at)[0]


class Tables:
    """As an operating system reads them, from the RSDP on."""

    def __init__(self, machine):
        self.m = machine
        low = machine.mem_read(0xE0000, 0x20000)
        found = [at for at in range(0, len(low), 16) if low[at:at + 8] == b"RSD PTR "]
        assert len(found) == 1, found
        self.rsdp = low[found[0]:found[0] + 36]
        xsdt = self.table(u64(self.rsdp, 24))
        assert xsdt[:4] == b"XSDT" and (len(xsdt) - 36) % 8 == 0
        self.tables = {}
        for at in range(36, len(xsdt), 8):
            table = self.table(u64(xsdt, at))
            self.tables[table[:4].decode("ascii")] = table
        self.tables["DSDT"] = self.table(u64(self.tables["FACP"], 140))
        self.xsdt = xsdt

    def table(self, gpa):
        header = self.m.mem_read(gpa, 36)
        assert 0xE0000 <= gpa and gpa + u32(header, 4) <= 0x100000
        return self.m.mem_read(gpa, u32(header, 4))


def each_machine():
    for options in MACHINES:
        with Machine(TRAPLINE, *options) as m:
            yield options, m, Tables(m)


def test_checksums():
    for options, _, tables in each_machine():
        assert tables.rsdp[15] == 2 and u32(tables.rsdp, 20) == 36
        assert sum(tables.rsdp[:20]) % 256 == 0 and sum(tables.rsdp) % 256 == 0
        for name, table in [("XSDT", tables.xsdt), *tables.tables.items()]:
            assert sum(table) % 256 == 0, (options, name)
        assert {"FACP", "APIC", "MCFG", "DSDT"} <= set(tables.tables)


def test_they_are_there_again_after_a_reset():
    with Machine(TRAPLINE) as m:
        before = m.mem_read(0xE0000, 0x20000)
        m.mem_write(0xE0000, bytes(0x20000))
        m.reset()
        assert m.mem_read(0xE0000, 0x20000) == before


def generic(table, at):
    """An address of the FADT as (space, base)."""
    space = table[at]
    return {0: "mmio", 1: "pio"}[space], u64(table, at + 4)


def test_fixed_hardware_is_where_the_map_has_it():
    for _, m, tables in each_machine():
        fadt = tables.tables["FACP"]
        for name, at in [("ACPI PM1a_EVT_BLK", 148), ("ACPI PM1a_CNT_BLK", 172), ("ACPI PM_TMR", 208), ("ACPI reset", 116)]:
            space, region = m.region(name)
            assert generic(fadt, at) == (space, region["base"]), name
        # By what the table says, the reset register resets.
        space, port = generic(fadt, 116)
        m.write(space, port, 1, fadt[128])
        assert m.take_events() == ["reset"]


def test_config_space_and_processors():
    for options, m, tables in each_machine():
        mcfg, madt = tables.tables["MCFG"], tables.tables["APIC"]
        ecam = m.region("PCI ECAM")[1]
        assert u64(mcfg, 44) == ecam["base"] and (mcfg[55] + 1 - mcfg[54]) << 20 == ecam["size"]
        entries, at = [], 44
        while at < len(madt):
            assert madt[at + 1] >= 2 and at + madt[at + 1] <= len(madt)
            entries.append(madt[at:at + madt[at + 1]])
            at += madt[at + 1]
        processors = [entry for entry in entries if entry[0] in (0, 9)]
        assert len(processors) == int(options[options.index("-c") + 1] if "-c" in options else 1)
        ioapics = [entry for entry in entries if entry[0] == 1]
        assert [u32(entry, 4) for entry in ioapics] == [m.region("ioapic")[1]["base"]]
        assert u32(madt, 36) == m.region("lapic and msi")[1]["base"]


def iasl(folder, *args):
    done = subprocess.run(["iasl", *args], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, (args, done.stdout)
    return done.stdout


def test_iasl_takes_them_apart_and_puts_them_together_without_a_warning():
    if not shutil.which("iasl"):
        raise tap.Skip("iasl is not installed: package acpica-tools")
    for options, _, tables in each_machine():
        with tempfile.TemporaryDirectory(prefix="trapline-acpi-") as folder:
            for name, table in tables.tables.items():
                with open(os.path.join(folder, name + ".aml"), "wb") as file:
                    file.write(table)
                said = iasl(folder, "-d", name + ".aml")
                assert "arning" not in said and "rror" not in said, (options, name, said)
                said = iasl(folder, "-oa", "-p", "again", name + ".dsl")
                assert "0 Errors, 0 Warnings, 0 Remarks" in said, (options, name, said)
                with open(os.path.join(folder, "again.aml"), "rb") as file:
                    again = file.read()
                # All but the compiler's own name and version, and the checksum over them.
                assert again[36:] == table[36:] and again[10:28] == table[10:28], (options, name)


def test_the_dsdt_knows_where_a_moved_port_is():
    if not shutil.which("iasl"):
        raise tap.Skip("iasl is not installed: package acpica-tools")
    with Machine(TRAPLINE, "--place", "serial0=mmio:0xd0000000,irq=10") as m, \
            tempfile.TemporaryDirectory(prefix="trapline-acpi-") as folder:
        with open(os.path.join(folder, "DSDT.aml"), "wb") as file:
            file.write(Tables(m).tables["DSDT"])
        iasl(folder, "-d", "DSDT.aml")
        with open(os.path.join(folder, "DSDT.dsl"), encoding="ascii") as file:
            text = file.read()
        assert "0xD0000000" in text and "0x03F8" not in text


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
