#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The four serial ports where a PC has them: registers, loopback, FIFO, interrupts, their wire. usage: ... TRAPLINE"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import SECOND, Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
PORTS = [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)]
DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 2, 3, 4, 5, 6, 7
LOOP, OUT2 = 0x10, 0x08
NONE, TX, RX, LINE, TIMEOUT, MODEM = 0x01, 0x02, 0x04, 0x06, 0x0C, 0x00


class Uart:
    def __init__(self, machine, base=0x3F8):
        self.m, self.base = machine, base

    def get(self, reg):
        return self.m.inb(self.base + reg)

    def set(self, reg, value):
        self.m.outb(self.base + reg, value)

    def cause(self):
        return self.get(IIR) & 0x3F

    def receive_all(self):
        found = bytearray()
        while self.get(LSR) & 1:
            found.append(self.get(DATA))
        return bytes(found)


def test_all_four_have_their_registers():
    with Machine(TRAPLINE) as m:
        for base, _ in PORTS:
            u = Uart(m, base)
            for value in (0xAA, 0x55, 0):
                u.set(SCR, value)
                assert u.get(SCR) == value
            u.set(LCR, 0x83)
            u.set(DATA, 0x34)
            u.set(IER, 0x12)
            assert (u.get(DATA), u.get(IER)) == (0x34, 0x12)
            u.set(LCR, 0x03)
            u.set(IER, 0xFF)
            assert u.get(IER) == 0x0F
            u.set(IER, 0)
            u.set(MCR, 0xFF)
            assert u.get(MCR) == 0x1F
            u.set(MCR, 0)
            assert u.get(LSR) == 0x60
            # A 16550A by the way in which drivers find out.
            assert u.get(IIR) & 0xC0 == 0
            u.set(FCR, 1)
            assert u.get(IIR) & 0xC0 == 0xC0


def test_each_is_on_its_own():
    with Machine(TRAPLINE) as m:
        for number, (base, _) in enumerate(PORTS):
            Uart(m, base).set(SCR, number + 1)
        assert [Uart(m, base).get(SCR) for base, _ in PORTS] == [1, 2, 3, 4]
        m.reset()
        assert [Uart(m, base).get(SCR) for base, _ in PORTS] == [0, 0, 0, 0]


def test_wide_accesses_are_neighbouring_registers():
    with Machine(TRAPLINE) as m:
        u = Uart(m)
        u.set(LCR, 0x83)
        m.outw(0x3F8, 0x1234)
        assert m.inw(0x3F8) == 0x1234
        u.set(LCR, 0x03)
        assert m.read("pio", 0x3F8 + LCR, 1) == 3
        assert m.inl(0x3F8 + LCR) == 3 | 0 << 8 | 0x60 << 16 | u.get(MSR) << 24
        # Its last register, and beyond.
        u.set(SCR, 0x77)
        assert m.read_claimed("pio", 0x3FF, 2) == (1, 0xFF77)


def test_what_is_sent_arrives():
    rng = random.Random(6)
    sent = bytes(rng.randrange(256) for _ in range(5000))
    with Machine(TRAPLINE) as m:
        m.commands([f"write pio 0x3f8 1 {byte}" for byte in sent])
        assert [m.serial_get(), m.serial_get(), m.serial_get()] == [sent[:4096], sent[4096:], b""]
        m.outb(0x3F8, 0x21)
        assert m.serial_get() == b"!" and m.serial_get() == b""


def test_each_has_a_wire_of_its_own():
    with Machine(TRAPLINE) as m:
        for number, (base, _) in enumerate(PORTS):
            u = Uart(m, base)
            u.set(FCR, 0x07)
            u.set(MCR, 0x0B)
            u.set(DATA, 0x41 + number)
            assert m.serial_put(b"in %d" % number, number) == 4
        for number, (base, _) in enumerate(PORTS):
            assert m.serial_get(number) == b"%c" % (0x41 + number)
            assert Uart(m, base).receive_all() == b"in %d" % number


def test_what_comes_in_waits_until_the_guest_listens():
    text = bytes(range(1, 251)) * 4
    with Machine(TRAPLINE) as m:
        u = Uart(m)
        u.set(FCR, 0x07)
        assert m.serial_put(text) == len(text)
        assert not u.get(LSR) & 1
        u.set(MCR, 0x0B)  # a driver opens the port
        assert u.receive_all() == text
        u.set(MCR, 0)
        assert m.serial_put(b"x" * 4000) == 4000
        assert m.serial_put(b"y" * 1000) < 1000  # no more than there is room for


def test_loopback_of_data_and_of_modem_lines():
    with Machine(TRAPLINE) as m:
        for base, _ in PORTS:
            u = Uart(m, base)
            u.set(FCR, 0x07)
            u.set(LCR, 3)
            u.set(MCR, LOOP)
            for byte in b"loop":
                u.set(DATA, byte)
            assert u.receive_all() == b"loop"
            for outputs, inputs in [(0x00, 0x00), (0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80), (0x0F, 0xF0)]:
                u.set(MCR, LOOP | outputs)
                assert u.get(MSR) & 0xF0 == inputs
            # Five bits a character.
            u.set(LCR, 0)
            u.set(DATA, 0xFF)
            assert u.receive_all() == b"\x1f"
        assert m.serial_get() == b""


def test_the_fifo_overruns_at_16_and_says_so():
    with Machine(TRAPLINE) as m:
        u = Uart(m)
        u.set(LCR, 3)
        u.set(FCR, 0x07)
        u.set(MCR, LOOP)
        for byte in range(17):
            u.set(DATA, byte)
        assert u.get(LSR) & 0x03 == 0x03
        assert u.receive_all() == bytes(range(16)) and not u.get(LSR) & 2
        u.set(FCR, 0)
        u.set(DATA, 1)
        u.set(DATA, 2)
        assert u.get(LSR) & 0x03 == 0x03 and u.receive_all() == b"\2"


def test_trigger_levels_and_the_receive_timeout():
    for trigger, level in [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)]:
        with Machine(TRAPLINE) as m:
            u = Uart(m)
            u.set(LCR, 0x83)
            u.set(DATA, 12)  # 9600 baud
            u.set(LCR, 0x03)
            u.set(FCR, trigger | 7)
            u.set(IER, 1)
            u.set(MCR, OUT2 | 2)
            for count in range(1, level):
                m.serial_put(b"x")
                assert m.level(4) == 0 and u.cause() == NONE, (level, count)
            if level > 1:
                # Four characters of ten bits.
                m.step_ns(4 * 10 * 16 * 12 * SECOND // 1843200 - 1)
                assert m.level(4) == 0
                m.step_ns(2)
                assert m.level(4) == 1 and u.cause() == TIMEOUT
            m.serial_put(b"x")
            assert m.level(4) == 1 and u.cause() in (RX, TIMEOUT)
            assert u.receive_all() == b"x" * level and m.level(4) == 0


def test_interrupts_reach_their_lines_and_only_by_out2():
    for base, line in PORTS:
        with Machine(TRAPLINE) as m:
            u = Uart(m, base)
            u.set(IER, 2)
            assert u.m.level(line) == 0 and u.cause() == TX
            u.set(MCR, OUT2)
            u.set(IER, 0)
            u.set(IER, 2)
            assert m.level(line) == 1 and u.cause() == TX
            assert m.level(line) == 0 and u.cause() == NONE  # reading IIR took it
            u.set(DATA, 0x21)
            assert m.level(line) == 1  # the byte is gone: empty again


def test_a_shared_line_is_up_while_one_of_two_is():
    with Machine(TRAPLINE) as m:
        one, two = Uart(m, 0x3F8), Uart(m, 0x3E8)
        for u in (one, two):
            u.set(MCR, OUT2)
            u.set(IER, 2)
        assert m.line(4) == (1, 1)
        one.cause()
        assert m.level(4) == 1
        two.cause()
        assert m.level(4) == 0


def test_causes_in_order_of_their_priority():
    with Machine(TRAPLINE) as m:
        u = Uart(m)
        u.set(FCR, 7)
        u.set(LCR, 3)
        u.set(MCR, LOOP)
        u.get(MSR)
        u.set(IER, 0x0F)
        for byte in range(20):  # an overrun, data, an empty transmitter
            u.set(DATA, byte)
        u.set(MCR, LOOP | 1)  # and a modem line that changed
        assert u.cause() == LINE
        u.get(LSR)
        assert u.cause() == RX
        u.receive_all()
        assert u.cause() == TX
        assert u.cause() == MODEM
        u.get(MSR)
        assert u.cause() == NONE


def test_a_break_in_loopback_is_a_null_byte_with_a_flag():
    with Machine(TRAPLINE) as m:
        u = Uart(m)
        u.set(FCR, 7)
        u.set(MCR, LOOP)
        u.set(LCR, 0x43)
        assert u.get(LSR) & 0x11 == 0x11 and u.get(DATA) == 0
        u.set(LCR, 0x03)
        assert not u.get(LSR) & 0x11


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
