#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Time: the real-time clock, its alarm and interrupts, the PM timer, and a host whose clock is set. usage: ... TRAPLINE"""
import datetime
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import SECOND, Machine  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
A, B, C, D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
SET, PIE, AIE, UIE, BINARY, HOURS24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10
RTC, SCI = 8, 9
MODES = [(binary, hours24) for binary in (0, BINARY) for hours24 in (0, HOURS24)]
START = datetime.datetime(2000, 1, 1)


class Rtc:
    def __init__(self, machine):
        self.m = machine

    def get(self, index):
        return int(self.m.commands([f"write pio 0x70 1 {index}", "read pio 0x71 1"])[1].split()[1], 0)

    def set(self, index, value):
        self.m.commands([f"write pio 0x70 1 {index}", f"write pio 0x71 1 {value}"])

    def mode(self, binary, hours24, enables=0):
        self.set(B, binary | hours24 | enables)

    def encode(self, value):
        return value if self.get(B) & BINARY else value // 10 << 4 | value % 10

    def encode_hour(self, hour):
        if self.get(B) & HOURS24:
            return self.encode(hour)
        return self.encode(hour % 12 or 12) | (0x80 if hour >= 12 else 0)

    def bytes_of(self, when):
        """What the registers say at that moment, as (index, byte)."""
        return [(0, self.encode(when.second)), (2, self.encode(when.minute)), (4, self.encode_hour(when.hour)),
                (6, self.encode(when.isoweekday() % 7 + 1)), (7, self.encode(when.day)), (8, self.encode(when.month)),
                (9, self.encode(when.year % 100)), (CENTURY, self.encode(when.year // 100))]

    def says(self, when):
        wrong = [(index, hex(byte), hex(self.get(index))) for index, byte in self.bytes_of(when) if self.get(index) != byte]
        assert not wrong, (when, wrong)

    def set_time(self, when):
        b = self.get(B)
        self.set(B, b | SET)
        for index, byte in self.bytes_of(when):
            self.set(index, byte)
        self.set(B, b & ~SET)

    def set_alarm(self, hour, minute, second):
        """None: any."""
        self.set(5, 0xFF if hour is None else self.encode_hour(hour))
        self.set(3, 0xC0 if minute is None else self.encode(minute))
        self.set(1, 0xFF if second is None else self.encode(second))


def test_the_time_of_day_in_every_notation():
    rng = random.Random(3)
    with Machine(TRAPLINE) as m:
        rtc, now = Rtc(m), START
        rtc.says(now)
        assert rtc.get(B) == HOURS24 and rtc.get(D) == 0x80
        for _ in range(150):
            step = rng.choice([1, 59, 60, 3599, 3600, 43200, 86399, rng.randrange(86400)])
            m.step(step)
            now += datetime.timedelta(seconds=step)
            rtc.mode(*rng.choice(MODES))
            rtc.says(now)


def test_a_whole_day_by_the_hour_in_every_notation():
    for mode in MODES:
        with Machine(TRAPLINE) as m:
            rtc = Rtc(m)
            rtc.mode(*mode)
            for hour in range(25):
                rtc.says(START + datetime.timedelta(hours=hour))
                m.step(3600)


def test_the_guest_sets_the_time_and_years_roll_over():
    for mode in MODES:
        for before, after in [("1999-12-31", "2000-01-01"), ("2000-02-28", "2000-02-29"), ("2001-02-28", "2001-03-01"),
                              ("2100-02-28", "2100-03-01"), ("2024-02-29", "2024-03-01"), ("2038-01-18", "2038-01-19")]:
            with Machine(TRAPLINE) as m:
                rtc = Rtc(m)
                rtc.mode(*mode)
                last = datetime.datetime.fromisoformat(before + " 23:59:59")
                rtc.set_time(last)
                rtc.says(last)
                m.step(1)
                rtc.says(datetime.datetime.fromisoformat(after))
                # What was set outlives a reset, and so does the memory.
                rtc.set(0x60, 0xA5)
                m.reset()
                rtc.says(datetime.datetime.fromisoformat(after))
                assert rtc.get(0x60) == 0xA5


def test_the_update_is_announced():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        assert not rtc.get(A) & 0x80
        m.step_ns(SECOND - 2228000 - 1)
        assert not rtc.get(A) & 0x80
        m.step_ns(1)
        assert rtc.get(A) & 0x80 and rtc.get(0) == 0
        m.step_ns(2228000)
        assert not rtc.get(A) & 0x80 and rtc.get(0) == 1


def test_the_alarm_comes_at_its_second():
    for mode in MODES:
        with Machine(TRAPLINE) as m:
            rtc = Rtc(m)
            rtc.mode(*mode, AIE)
            rtc.set_alarm(15, 4, 5)
            m.step_ns(((15 * 60 + 4) * 60 + 5) * SECOND - 1)
            assert m.line(RTC) == (0, 0)
            m.step_ns(1)
            assert m.line(RTC) == (1, 1)
            rtc.says(START.replace(hour=15, minute=4, second=5))
            assert rtc.get(C) & ~PF == IRQF | AF | UF and m.level(RTC) == 0
            m.step(86399)
            assert m.raised(RTC) == 1
            m.step(1)
            assert m.raised(RTC) == 2


def test_an_alarm_with_bytes_that_match_anything():
    for alarm, times in [((None, None, None), 7200), ((None, None, 30), 120), ((None, 15, 30), 2), ((1, None, 0), 60),
                         ((1, 2, None), 60), ((3, 0, 0), 0)]:
        with Machine(TRAPLINE) as m:
            rtc = Rtc(m)
            rtc.mode(0, HOURS24)
            rtc.set_alarm(*alarm)
            rtc.mode(0, HOURS24, AIE)
            m.step_ns(SECOND // 2)
            rtc.get(C)
            m.send(*(["clock step 1000000000", "write pio 0x70 1 12", "read pio 0x71 1"] * 200))
            for _ in range(600):
                m.answer()
            for _ in range(7000 // 200):
                m.commands(["clock step 1000000000", "write pio 0x70 1 12", "read pio 0x71 1"] * 200, 600)
            assert m.raised(RTC) == times, (alarm, m.raised(RTC))


def test_update_ended_interrupts_come_once_a_second():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        rtc.mode(0, HOURS24, UIE)
        for second in range(1, 20):
            m.step_ns(SECOND)
            assert m.line(RTC) == (1, second) and rtc.get(C) & (IRQF | UF) == IRQF | UF
        m.step(1000)  # nobody reads C: the line stays up
        assert m.line(RTC) == (1, 20)


def test_periodic_interrupts_of_every_rate():
    for rate in range(16):
        period = 0 if rate == 0 else 1 << ((rate + 7 if rate <= 2 else rate) - 1)  # in ticks of 32,768 Hz
        with Machine(TRAPLINE) as m:
            rtc = Rtc(m)
            rtc.set(A, 0x20 | rate)
            rtc.mode(0, HOURS24, PIE)
            if not period:
                m.step(10)
                assert m.raised(RTC) == 0
                continue
            number = min(100, 8 * 32768 // period)
            begin = m.now()
            for i in range(1, number + 1):
                due = begin + -(-i * period * SECOND // 32768)
                m.step_ns(due - m.now() - 1)
                assert m.line(RTC) == (0, i - 1), (rate, i)
                m.step_ns(1)
                assert m.line(RTC) == (1, i), (rate, i)
                assert rtc.get(C) & (IRQF | PF) == IRQF | PF


def test_memory_sizes_in_the_cmos():
    for mib, high in [(64, 0), (4096, 4096 - 3328)]:
        with Machine(TRAPLINE, "-m", str(mib)) as m:
            rtc = Rtc(m)
            low = min(mib, 3328)
            word = lambda at: rtc.get(at) | rtc.get(at + 1) << 8  # noqa: E731, pylint: disable=all
            assert word(0x15) == 640
            assert word(0x17) == word(0x30) == min(low * 1024 - 1024, 0xFFFF)
            assert word(0x34) == min((low - 16) * 16, 0xFFFF)
            assert word(0x5B) | rtc.get(0x5D) << 16 == high * 16
            assert rtc.get(0x2E) << 8 | rtc.get(0x2F) == sum(rtc.get(at) for at in range(0x10, 0x2E))


# a host whose time of day is set


def enable_all(rtc, rate=15):
    rtc.set(A, 0x20 | rate)
    rtc.set_alarm(None, None, 0)
    rtc.mode(0, HOURS24, PIE | AIE | UIE)


def interrupts(m, rtc, seconds, step=0.1):
    """As a driver does it: each interrupt is answered by a read of C. How many of each kind came."""
    counts = {PF: 0, AF: 0, UF: 0}
    for _ in range(round(seconds / step)):
        m.step(step)
        while m.level(RTC):
            flags = rtc.get(C)
            assert flags & IRQF
            for flag in counts:
                counts[flag] += bool(flags & flag)
    return counts


def test_the_time_follows_a_host_that_is_set():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        for jump in (3600, -7200, 86400 * 365, -86400 * 700, 0.25, -0.5):
            before = m.now()
            m.jump(jump)
            assert m.now() == before
        wall = START + datetime.timedelta(seconds=3600 - 7200 + 86400 * (365 - 700) - 0.25)
        rtc.says(wall.replace(microsecond=0))
        # What a guest has set is an offset, and is kept.
        rtc.set_time(datetime.datetime(2010, 5, 5, 5, 5, 5))
        m.jump(3600)
        rtc.says(datetime.datetime(2010, 5, 5, 6, 5, 5))


def test_no_storm_whatever_the_host_does():
    for jump in (3600, -3600, 86400 * 400, -86400 * 400, 0.9, -0.9):
        with Machine(TRAPLINE) as m:
            rtc = Rtc(m)
            enable_all(rtc)
            m.step(10)
            rtc.get(C)
            before = m.raised(RTC)
            m.jump(jump)
            counts = interrupts(m, rtc, 60)
            assert 119 <= counts[PF] <= 121, (jump, counts)
            assert 58 <= counts[UF] <= 62, (jump, counts)
            assert counts[AF] <= 2, (jump, counts)
            assert m.raised(RTC) - before <= sum(counts.values())


def test_many_jumps_neither_hang_nor_storm():
    rng = random.Random(4)
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        enable_all(rtc)
        begin, raised, total = time.monotonic(), m.raised(RTC), 0
        for _ in range(200):
            m.jump(rng.choice([1, -1]) * rng.choice([0.001, 1, 59, 3600, 86400 * 300]))
            seconds = rng.choice([0.001, 0.1, 1, 5])
            counts = interrupts(m, rtc, seconds, seconds / 4)
            # A look at C finds each flag up once at most.
            assert max(counts.values()) <= 5, counts
            total += sum(counts.values())
        assert m.raised(RTC) - raised <= total
        assert time.monotonic() - begin < 60


def test_the_ends_of_time():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        enable_all(rtc)
        begin = time.monotonic()
        for jump in (40, 2, -70, -70, 65, 33):  # years, from 30 after 1970
            m.jump(jump * 31557600)
            interrupts(m, rtc, 3)
        assert time.monotonic() - begin < 20
        m.command(f"clock jump {-int(m.command('clock get').split()[1]) + int(m.command('clock get').split()[0])}")
        rtc.mode(0, HOURS24)
        rtc.says(datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=m.now() // SECOND))


def test_an_alarm_after_the_host_was_set_back_comes_when_it_is_time():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        rtc.set_alarm(0, 10, 0)
        rtc.mode(0, HOURS24, AIE)
        m.step(300)
        m.jump(-200)  # now it is 00:01:40
        m.step_ns(500 * SECOND - 1)
        assert m.raised(RTC) == 0
        m.step_ns(1)
        assert m.line(RTC) == (1, 1)


def test_an_alarm_that_the_host_jumped_over_is_told():
    with Machine(TRAPLINE) as m:
        rtc = Rtc(m)
        rtc.set_alarm(0, 10, 0)
        rtc.mode(0, HOURS24, AIE)
        m.step(300)
        m.jump(1200)
        # At the latest when it would have come without the jump; at once where the guest looks.
        m.step(300)
        assert m.line(RTC) == (1, 1) and rtc.get(C) & AF


def test_timers_of_the_machine_do_not_see_it():
    with Machine(TRAPLINE) as m:
        pm = m.region("ACPI PM_TMR")[1]["base"]
        m.step(7)
        before = m.inl(pm)
        for jump in (86400 * 1000, -86400 * 2000):
            m.jump(jump)
            assert m.inl(pm) == before


# the PM timer


def ticks(ns):
    return ns * 3579545 // SECOND % (1 << 32)


def test_the_pm_timer_counts_3579545_a_second():
    rng = random.Random(5)
    with Machine(TRAPLINE) as m:
        pm = m.region("ACPI PM_TMR")[1]["base"]
        for _ in range(300):
            m.step_ns(rng.choice([1, 279, 280, 1000, 123456789, SECOND, 599 * SECOND, rng.randrange(3600 * SECOND)]))
            assert m.inl(pm) == ticks(m.now())
        value = m.inl(pm)
        assert [m.inb(pm + i) for i in range(4)] == list(value.to_bytes(4, "little"))
        m.outl(pm, 0)
        assert m.inl(pm) == value


def test_the_pm_timer_interrupts_when_its_highest_bit_changes():
    with Machine(TRAPLINE) as m:
        event = m.region("ACPI PM1a_EVT_BLK")[1]["base"]
        m.outw(event + 2, 1)
        for turn in range(1, 4):
            due = -(-turn * (1 << 31) * SECOND // 3579545)
            m.step_ns(due - m.now() - 1)
            assert m.line(SCI) == (0, turn - 1) and not m.inw(event) & 1
            m.step_ns(1)
            assert m.line(SCI) == (1, turn) and m.inw(event) & 1
            m.outw(event, 1)
            assert m.level(SCI) == 0 and not m.inw(event) & 1


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
