#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The arm64 machine on any host: the same devices as elsewhere, by memory accesses only; ports through a window. usage: ... TRAPLINE"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
UART, RTC, GPIO, ECAM, VIRTIO = 0x01000000, 0x01010000, 0x01034000, 0x40000000, 0x03000000


def arm64(*options):
    return Machine(TRAPLINE, "--arch", "arm64", *options)


def function(m, slot):
    return ECAM + (slot << 15)


def test_four_uarts_talk():
    with arm64() as m:
        for port in range(4):
            for byte in b"hello":
                m.write("mmio", UART + 0x1000 * port, 1, byte)
            assert m.serial_get(port) == b"hello"
        # Level-triggered: the line stays up until the byte is read.
        m.write("mmio", UART + 1, 1, 1)
        m.write("mmio", UART + 4, 1, 3)
        m.serial_put(b"x")
        assert m.level(0)
        assert m.read("mmio", UART, 1) == ord("x")
        assert not m.level(0)


def test_the_clock_is_a_pl031():
    with arm64() as m:
        now = m.read("mmio", RTC, 4)
        assert now == 946684800
        assert m.read("mmio", RTC + 0xFE0, 4) == 0x31
        m.write("mmio", RTC + 4, 4, now + 2)
        m.write("mmio", RTC + 0x10, 4, 1)
        m.step(1)
        assert not m.level(4)
        m.step(1)
        assert m.level(4)


def test_the_clock_may_be_an_mc146818():
    with arm64("--rtc", "mc146818") as m:
        def register(index, *value):
            m.write("mmio", RTC, 1, index)
            if value:
                m.write("mmio", RTC + 1, 1, *value)
            return m.read("mmio", RTC + 1, 1)

        # The same chip as a PC's: seconds of 2000-01-01, and an alarm each second by the line, until it was read.
        assert register(0) == 0 and register(9) == 0 and register(0x32) == 0x20
        register(0xB, register(0xB) | 0x10)
        assert not m.level(4)
        m.step(1)
        assert m.level(4)
        assert register(0xC) & 0x90 == 0x90
        assert not m.level(4) and register(0) == 1
    with arm64() as m:
        assert m.read("mmio", RTC + 0xFE0, 4) == 0x31


def test_the_power_button_is_a_pin():
    with arm64() as m:
        assert not m.press("power")
        m.write("mmio", GPIO + 0x408, 4, 8)
        m.write("mmio", GPIO + 0x410, 4, 8)
        # It is down since then; the interrupt tells of edges.
        assert not m.level(5)
        assert m.read("mmio", GPIO + 0x3FC, 4) == 8
        m.step(1)
        assert m.level(5)
        assert m.read("mmio", GPIO + 0x3FC, 4) == 0
        m.write("mmio", GPIO + 0x41C, 4, 8)
        assert not m.level(5)
        assert m.press("power")
        assert m.level(5)
        assert not m.press("sleep")
        # An early press that no driver heard, and one that it hears.
        m.write("mmio", GPIO + 0x41C, 4, 8)
        assert not m.level(5)
        assert m.press("power")
        assert m.level(5)


def test_the_bus_has_no_function_that_nobody_drives():
    with arm64("--rng=transport=pci") as m:
        ids = m.reads("mmio", [function(m, slot) for slot in range(32)], 4)
        assert ids[1] == 0x10441AF4
        assert set(ids[:1] + ids[2:]) == {0xFFFFFFFF}


def test_a_frame_for_messages():
    frame = 0x01035000
    with arm64("--irqchip", "gicv2m") as m:
        assert m.read("mmio", frame + 8, 4) == 128 << 16 | 128
        before = m.raised(96 + 5)
        m.write("mmio", frame + 0x40, 4, 128 + 5)
        assert m.raised(96 + 5) == before + 1 and not m.level(96 + 5)
    with arm64() as m:
        assert m.read("mmio", frame + 8, 4) == 0xFFFFFFFF


def test_ports_are_behind_a_window():
    with arm64("--rng=transport=pci-legacy") as m:
        at = function(m, 1)
        assert m.read("mmio", at, 4) == 0x10051AF4
        bar = m.read("mmio", at + 0x10, 4)
        assert bar & 1 and 0x6200 <= bar & ~3 < 0x10000
        # Nothing decodes yet.
        assert m.read("mmio", bar & ~3, 4) == 0xFFFFFFFF
        m.write("mmio", at + 4, 2, 1)
        # The device's features: the same through the window and in the port space.
        features = m.read("mmio", bar & ~3, 4)
        assert features != 0xFFFFFFFF
        assert m.read("pio", bar & ~3, 4) == features
        m.write("mmio", (bar & ~3) + 0x12, 1, 1)
        assert m.read("pio", (bar & ~3) + 0x12, 1) == 1
        # It moves, and the window shows it where it went.
        m.write("mmio", at + 0x10, 4, 0x9000)
        assert m.read("mmio", 0x9000 + 0x12, 1) == 1
        assert m.read("mmio", (bar & ~3) + 0x12, 1) == 0xFF


def test_devices_of_a_pc_are_not_there():
    with arm64() as m:
        names = {device["name"] for device in m.devices()}
        assert not names & {"i8042", "acpi-pm", "post", "syscontrol"}, names
        assert m.read("mmio", 0x60, 1) == 0xFF
        assert m.read("pio", 0x3F8, 1) == 0xFF


def test_the_map_is_whole():
    with arm64("-c", "3", "--debugcon", "stderr") as m:
        places = {region["name"]: (region["base"], region["size"], region["kind"]) for region in m.map()["mmio"]}
        assert places["gic distributor"] == (0x3FFF0000, 0x10000, "kernel")
        assert places["gic cpus"] == (0x3FF90000, 0x60000, "kernel")
        assert places["gic its"] == (0x3FF70000, 0x20000, "kernel")
        # What is told of windows is where BARs are placed.
        assert m.windows()["io"] == {"base": 0x6200, "size": 0x9E00} and "mem64" not in m.windows()
        assert m.windows()["mem32"] == {"base": 0x50000000, "size": 0x30000000}
        assert m.write("mmio", 0x01033000, 1, ord("!")) == 1


def test_virtio_on_mmio():
    with arm64("--rng=transport=mmio", "--rng=transport=mmio-legacy") as m:
        for number, version in enumerate((2, 1)):
            at = VIRTIO + 0x200 * number
            assert m.read("mmio", at, 4) == 0x74726976
            assert m.read("mmio", at + 4, 4) == version
            assert m.read("mmio", at + 8, 4) == 4


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
