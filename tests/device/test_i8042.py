#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The keyboard controller where a PC has it: its command set, keyboard, mouse, interrupts 1 and 12. usage: ... TRAPLINE"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
FULL, SYSTEM, COMMAND, UNLOCKED, AUX = 0x01, 0x04, 0x08, 0x10, 0x20
KEYBOARD, MOUSE = 1, 12
ACK, RESEND = 0xFA, 0xFE


class Controller:
    def __init__(self, machine):
        self.m = machine

    def status(self):
        return self.m.inb(0x64)

    def command(self, command, *data):
        self.m.outb(0x64, command)
        for byte in data:
            self.m.outb(0x60, byte)

    def take(self):
        """All that the controller has to say; the mouse's bytes as (byte,)."""
        found = []
        while (status := self.status()) & FULL:
            byte = self.m.inb(0x60)
            found.append((byte,) if status & AUX else byte)
            assert len(found) < 100
        return found

    def ask(self, command, *data):
        self.command(command, *data)
        return self.take()

    def keyboard(self, *data):
        for byte in data:
            self.m.outb(0x60, byte)
        return self.take()

    def mouse(self, *data):
        found = []
        for byte in data:
            found += self.ask(0xD4, byte)
        assert all(isinstance(byte, tuple) for byte in found), found
        return [byte[0] for byte in found]


def test_self_tests_and_what_a_driver_probes():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        assert c.take() == [] and c.status() & (UNLOCKED | SYSTEM) == UNLOCKED | SYSTEM
        assert c.ask(0xAA) == [0x55]
        assert c.ask(0xAB) == [0] and c.ask(0xA9) == [0]
        assert c.ask(0xA4) == [0xF1]
        assert c.ask(0xC0) == [0x80]
        # Loops, with which a driver finds out whether there is a mouse's port at all.
        assert c.ask(0xD2, 0x3C) == [0x3C]
        assert c.ask(0xD3, 0x5A) == [(0x5A,)]


def test_the_command_byte_and_the_rest_of_the_ram():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        for at in range(32):
            value = 0x65 if at == 0 else at ^ 0x5A
            assert c.ask(0x60 + at, value) == []
            assert c.ask(0x20 + at) == [value]
        m.reset()
        assert c.ask(0x20) == [0x65]
        assert c.ask(0x21) == [0]


def test_ports_are_turned_off_and_on_by_commands():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0xAD)
        c.command(0xA7)
        assert c.ask(0x20)[0] & 0x30 == 0x30
        assert c.keyboard(0xEE) == []  # answered, but not let through
        c.command(0xAE)
        assert c.take() == [0xEE]
        c.command(0xA8)
        assert c.ask(0x20)[0] & 0x30 == 0


def test_status_tells_what_the_last_write_was():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0xAE)
        assert c.status() & COMMAND
        m.outb(0x60, 0xEE)
        assert not c.status() & COMMAND


def test_a20_and_the_output_port():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        assert c.ask(0xD0)[0] & 3 == 3
        c.command(0xD1, 0xDD)
        assert c.ask(0xD0)[0] & 3 == 1
        c.command(0xD1, 0xDF)
        assert c.ask(0xD0)[0] & 3 == 3 and not m.events
        c.command(0xD1, 0xDE)
        assert m.take_events() == ["reset"]


def test_resets():
    for lines in (["write pio 0x64 1 0xfe"], ["write pio 0x64 1 0xf0"], ["write pio 0x64 1 0xd1", "write pio 0x60 1 0"]):
        with Machine(TRAPLINE) as m:
            m.commands(lines)
            assert m.take_events() == ["reset"], lines
    with Machine(TRAPLINE) as m:
        for command in range(0xF1, 0x100, 2):
            m.outb(0x64, command)  # pulses other lines
        assert not m.events


def test_no_command_is_more_than_a_command():
    """All of them, whatever data follows: no end, no unread byte that stays, a controller that works."""
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        for command in range(0x100):
            for data in (0x00, 0x55, 0xFF):
                c.command(command, data)
                c.take()
        m.take_events()
        m.reset()
        assert c.ask(0xAA) == [0x55] and c.keyboard(0xF2) == [ACK, 0xAB, 0x41]


def test_keyboard_commands():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0x60, 0x24)  # no translation, mouse off
        for sent, answered in [((0xEE,), [0xEE]), ((0xF2,), [ACK, 0xAB, 0x83]), ((0xED, 7), [ACK, ACK]),
                               ((0xF3, 0x20), [ACK, ACK]), ((0xF0, 0), [ACK, ACK, 2]), ((0xF0, 1), [ACK, ACK]),
                               ((0xF0, 0), [ACK, ACK, 1]), ((0xF0, 3), [ACK, RESEND]), ((0xF4,), [ACK]),
                               ((0xF5,), [ACK]), ((0xF6,), [ACK]), ((0x05,), [RESEND]), ((0xFF,), [ACK, 0xAA])]:
            assert c.keyboard(*sent) == answered, sent
        assert c.keyboard(0xEE) == [0xEE] and c.keyboard(0xFE) == [0xEE]  # once more


def test_mouse_commands():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0xA8)
        for sent, answered in [((0xF2,), [ACK, 0]), ((0xE8, 3), [ACK, ACK]), ((0xF3, 200), [ACK, ACK]), ((0xE7,), [ACK]),
                               ((0xF4,), [ACK]), ((0xE9,), [ACK, 0x30, 3, 200]), ((0xE6,), [ACK]), ((0xF5,), [ACK]),
                               ((0xF0,), [ACK]), ((0xE9,), [ACK, 0x40, 3, 200]), ((0xEB,), [ACK, 8, 0, 0]),
                               ((0xEA,), [ACK]), ((0xE8, 4), [ACK, RESEND]), ((0xE8, 0), [ACK, ACK]), ((0x01,), [RESEND]),
                               ((0xFF,), [ACK, 0xAA, 0])]:
            assert c.mouse(*sent) == answered, (sent, answered)


def test_keys_and_the_mouse_from_the_host():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        assert m.key(b"\x1c") and m.key(b"\xf0\x1c") and c.take() == [0x1E, 0x9E]
        assert c.keyboard(0xF5) == [ACK] and not m.key(b"\x1c") and c.take() == []
        assert c.keyboard(0xF4) == [ACK] and not m.key(b"\x1c" * 17) and c.take() == [0xFF]  # too much for its queue
        assert not m.mouse(5, 5)
        c.command(0x60, 0x47)
        assert not m.mouse(5, 5) and c.mouse(0xF4) == [ACK]
        before = m.raised(MOUSE)
        assert m.mouse(5, -3, 4) and m.line(MOUSE) == (1, before + 1)
        assert c.take() == [(0x2C,), (5,), (0xFD,)]
        assert m.mouse(-300, 0) and c.take() == [(0x18,), (0x01,), (0,), (0x18,), (0xD3,), (0,)]
        c.command(0xA7)
        assert not m.mouse(1, 1) and c.take() == []
        c.command(0xA8)
        assert c.take() == [(0x08,), (1,), (1,)] and c.mouse(0xF5) == [ACK] and not m.mouse(1, 1)


def test_passwords_are_taken_and_never_kept():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        assert c.ask(0xA4) == [0xF1]
        # None of its bytes is the keyboard's, which would reset itself and answer the next.
        assert c.ask(0xA5, 0xFF, 0xEE, 0xF2, 0) == [] and c.keyboard(0xEE) == [0xEE]
        assert c.ask(0xA5, 0xFF) == [] and c.ask(0xA4) == [0xF1]  # the next command ends it too
        assert c.ask(0xA6) == [] and c.keyboard(0xEE) == [0xEE] and c.status() & UNLOCKED


def test_interrupts_are_an_edge_a_byte():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0x60, 0x47)  # both interrupts, translation
        for _ in range(3):
            before = m.raised(KEYBOARD)
            m.outb(0x60, 0xF2)
            for more in range(3):
                assert m.line(KEYBOARD) == (1, before + more + 1)
                m.inb(0x60)
            assert m.level(KEYBOARD) == 0
        m.outb(0x64, 0xD4)
        m.outb(0x60, 0xF2)
        for more in range(2):
            assert m.line(MOUSE) == (1, more + 1) and c.status() & AUX
            m.inb(0x60)
        assert m.level(MOUSE) == 0
        c.command(0x60, 0x44)  # both off
        before = m.raised(KEYBOARD), m.raised(MOUSE)
        assert c.keyboard(0xEE) == [0xEE] and c.mouse(0xF2) == [ACK, 0]
        assert (m.raised(KEYBOARD), m.raised(MOUSE)) == before


def test_an_unread_byte_is_not_replaced():
    with Machine(TRAPLINE) as m:
        c = Controller(m)
        c.command(0xD2, 0x11)
        c.command(0xA8)
        c.command(0xD4, 0xF2)
        m.outb(0x60, 0xEE)
        assert c.take() == [0x11, 0xEE, (ACK,), (0,)]


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
