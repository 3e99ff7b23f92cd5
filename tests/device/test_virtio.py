#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Virtio transports and the entropy device in the whole machine, with a driver that keeps to the rules and ones that do not."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402
from virtio import (ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, INDIRECT, NEXT, PACKED, RING_RESET, TABLE,  # noqa: E402
                    VERSION_1, WRITE, Driver, Pci, PciLegacy, transport)

TRAPLINE = None
TRANSPORTS = ["pci", "pci-legacy", "mmio", "mmio-legacy"]


def each():
    """A machine and the driver of its entropy device, on each transport."""
    for name in TRANSPORTS:
        with Machine(TRAPLINE, "--rng", "--virtio-transport", name) as machine:
            yield machine, Driver(transport(machine, "rng0"))


def kinds(driver):
    """What to negotiate: packed rings only where they are offered."""
    return [{}] if driver.t.legacy else [{}, {"packed": True}]


def faults(machine):
    return machine.counters()["guest_faults"]


def test_reads_random_bytes():
    for machine, rng in each():
        for kind in kinds(rng):
            rng.start(**kind)
            data = [rng.exchange(0, [], [size]) for size in (1, 64, 4096)]
            assert [len(d) for d in data] == [1, 64, 4096]
            assert len(set(data[2])) > 200, "these are no random bytes"
            assert rng.exchange(0, [], [4096]) != data[2]
            assert rng.t.interrupts() == 1
            # A buffer in pieces, and one that is larger than a bite.
            assert len(rng.exchange(0, [], [1, 2, 3])) == 6
            assert 0 < len(rng.exchange(0, [], [100000])) <= 100000


def test_more_buffers_than_a_turn():
    for machine, rng in each():
        for kind in kinds(rng):
            rng.start(**kind)
            queue = rng.queues[0]
            for _ in range(5):
                ids = {queue.add([], [(rng.alloc(16), 16)]) for _ in range(queue.size)}
                rng.t.notify(0)
                assert {rng.wait(0)[0] for _ in ids} == ids


def test_interrupt_line():
    for machine, rng in each():
        line = next(d for d in machine.devices() if d["name"] == "rng0")["irqs"][0]["line"]
        rng.start()
        assert machine.level(line) == 0
        rng.exchange(0, [], [8])
        assert machine.level(line) == 1
        assert rng.t.interrupts() == 1
        assert machine.level(line) == 0
        rng.exchange(0, [], [8])
        rng.reset()
        assert machine.level(line) == 0, "a reset leaves the wire up"


def test_features():
    with Machine(TRAPLINE, "--rng=transport=mmio") as machine:
        rng = Driver(transport(machine, "rng0"))
        offered = rng.t.offered()
        assert all(offered >> bit & 1 for bit in (VERSION_1, PACKED, RING_RESET, INDIRECT))
        assert not rng.negotiate(features=1 << VERSION_1 | 1 << 5), "a feature that was not offered"
        rng.reset()
        assert not rng.negotiate(features=1 << INDIRECT), "no VERSION_1"
        assert rng.t.status() == ACKNOWLEDGE | DRIVER
        # Without FEATURES_OK there is no DRIVER_OK, and no queue.
        rng.t.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
        assert rng.t.status() == ACKNOWLEDGE | DRIVER
        rng.make_queue(0)
        assert not rng.t.enabled(0)
        rng.reset()
        # Changing one's mind is for before FEATURES_OK.
        assert rng.negotiate(features=1 << VERSION_1)
        before = faults(machine)
        rng.t.take(1 << VERSION_1 | 1 << INDIRECT)
        assert faults(machine) > before
        rng.t.write(rng.t.FEATURES_SEL, 2)
        assert rng.t.read(rng.t.FEATURES) == 0
        # Bits are not cleared but by a reset, and NEEDS_RESET is the device's.
        rng.t.set_status(0x40 | ACKNOWLEDGE)
        assert rng.t.status() == ACKNOWLEDGE | DRIVER | FEATURES_OK
    with Machine(TRAPLINE, "--rng=transport=mmio-legacy") as machine:
        rng = Driver(transport(machine, "rng0"))
        rng.t.write(rng.t.FEATURES_SEL, 1)
        assert rng.t.read(rng.t.FEATURES) == 0, "a driver of before 1.0 sees 32 bits"


def test_registers():
    with Machine(TRAPLINE, "--rng=transport=mmio") as machine:
        t = transport(machine, "rng0")
        assert t.read(0) == 0x74726976 and t.read(4) == 2 and t.read(8) == 4
        # Registers take 4 bytes; all ones is what others read.
        assert t.read(0x70, 1) == 0xff and t.read(0x70, 2) == 0xffff
        t.write(0x70, 1, 1)
        assert t.status() == 0
        # This device has no config space: zeros, and writes vanish.
        t.set_config(0, 0x12345678, 4)
        assert [t.config(offset, size) for offset, size in ((0, 4), (1, 1), (2, 2), (0xfc, 4))] == [0] * 4
        # A queue that is not there.
        assert t.queue_max(1) == 0 and t.queue_max(0xffffffff) == 0
        for offset in range(0, 0x100, 4):
            t.write(offset, 0xffffffff)
            t.read(offset)
        assert t.read(0xb0) == 0xffffffff, "shared memory that is not there"
        t.notify(1)
        t.notify(0xffffffff)
        t.set_status(0)
        assert t.status() == 0


def test_wrong_order():
    """Buffers before DRIVER_OK, kicks of what is not enabled, set-up of what is; nothing is used, and it works afterwards."""
    for machine, rng in each():
        rng.t.notify(0)
        rng.reset()
        rng.negotiate()
        queue = rng.make_queue(0)
        rng.send(0, [], [16])
        for _ in range(3):
            assert machine.command("help") and queue.get() is None, "used before DRIVER_OK"
        # The size and place of an enabled queue stay.
        rng.t.set_queue(0, 2, queue.desc, queue.desc + 32, (queue.desc + 32 + 10 + 4095) & ~4095)
        rng.t.enable(0, queue.desc)
        rng.ready()
        assert rng.wait(0)[1] == 16, "what was offered before DRIVER_OK is forgotten"
        rng.exchange(0, [], [16])


def test_reset_of_one_queue():
    for machine, rng in each():
        for kind in kinds(rng):
            rng.start(**kind)
            rng.exchange(0, [], [16])
            rng.t.reset_queue(0)
            rng.until(lambda: not rng.t.enabled(0), "the queue is not reset")
            rng.until(lambda: not rng.t.resetting(0), "the queue is not reset")
            assert rng.t.status() & DRIVER_OK
            # Where a legacy driver has no say, the size is the same as ever.
            rng.make_queue(0, None if isinstance(rng.t, PciLegacy) else 4)
            assert len(rng.exchange(0, [], [100])) == 100
    with Machine(TRAPLINE, "--rng=transport=mmio") as machine:
        rng = Driver(transport(machine, "rng0"))
        rng.start(without=1 << RING_RESET)
        rng.t.reset_queue(0)
        assert rng.t.enabled(0), "reset without the feature"
        rng.t.write(rng.t.READY, 0)
        rng.until(lambda: not rng.t.enabled(0), "QueueReady 0 does not stop it")


def test_hostile_chains():
    """Each breaks the queue, which the device tells; a reset mends it."""
    def loop(queue, gpa):
        queue.put(0, gpa, 16, WRITE | NEXT, 0)
        queue.offer(0)

    def beyond_memory(queue, gpa):
        queue.put(0, 1 << 60, 16, WRITE, 0)
        queue.offer(0)

    def beyond_table(queue, gpa):
        queue.offer(queue.size)

    def huge_next(queue, gpa):
        queue.put(0, gpa, 16, WRITE | NEXT, 0xffff)
        queue.offer(0)

    def table_of_nothing(queue, gpa):
        queue.put(0, gpa, 0, TABLE, 0)
        queue.offer(0)

    def too_many(queue, gpa):
        queue.set_avail(queue.avail_idx + queue.size + 1)

    for machine, rng in each():
        for attack in (loop, beyond_memory, beyond_table, huge_next, table_of_nothing, too_many):
            rng.start()
            rng.t.interrupts()
            attack(rng.queues[0], rng.alloc(64))
            rng.t.notify(0)
            rng.broken()
            assert rng.t.interrupts() & 2, "no config interrupt tells it"
            rng.send(0, [], [16])
            assert rng.queues[0].get() is None
        rng.start()
        assert len(rng.exchange(0, [], [16])) == 16


def test_wrong_direction_is_counted():
    for machine, rng in each():
        rng.start()
        before = faults(machine)
        assert rng.exchange(0, [b"x" * 16], []) == b""
        assert faults(machine) == before + 1


def test_bad_rings_break():
    with Machine(TRAPLINE, "--rng=transport=mmio") as machine:
        rng = Driver(transport(machine, "rng0"))
        for desc, avail, used in ((1, 0x2000, 0x3000), (0x1000, 0x2001, 0x3000), (0x1000, 0x2000, 0x3002),
                                  (0x1000, 1 << 63, 0x3000), (0x1000, 0xfffffffffffffffe, 0x3000)):
            rng.reset()
            rng.negotiate()
            rng.t.set_queue(0, 8, desc, avail, used)
            rng.t.enable(0, desc)
            rng.ready()
            rng.broken()


def test_machine_reset():
    for machine, rng in each():
        rng.start()
        rng.exchange(0, [], [8])
        machine.reset()
        rng.t.wake()
        assert rng.t.status() == 0 and rng.t.interrupts() == 0
        assert not rng.t.enabled(0)
        rng = Driver(transport(machine, "rng0"))
        rng.start()
        assert len(rng.exchange(0, [], [8])) == 8


def test_pause():
    for machine, rng in each():
        for kind in kinds(rng):
            rng.start(**kind)
            rng.exchange(0, [], [8])
            machine.command("pause")
            machine.command("pause")
            queue = rng.queues[0]
            ids = {queue.add([], [(rng.alloc(16), 16)]) for _ in range(3)}
            rng.t.notify(0)
            before = machine.mem_read(rng.memory, 0x4000)
            for _ in range(20):
                assert queue.get() is None
            assert machine.mem_read(rng.memory, 0x4000) == before
            machine.command("resume")
            assert {rng.wait(0)[0] for _ in ids} == ids
            # A reset of the machine ends it too.
            machine.command("pause")
            machine.reset()
            rng.t.wake()
            rng = Driver(transport(machine, "rng0"))
            rng.start(**kind)
            assert len(rng.exchange(0, [], [8])) == 8


def test_at_random():
    """Register accesses of any kind, with memory full of what may be rings. It must live, and serve a driver afterwards."""
    for machine, rng in each():
        rnd = random.Random(4)
        places = rng.t.registers()
        # Where there is something, and anywhere.
        known = {"mmio": (0x14, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94,
                          0xa0, 0xa4, 0xc0, 0x100),
                 "pci": (0, 8, 12, 16, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 52, 58, 0x1000, 0x3000, 0x3004)}
        known = known["mmio" if len(places) == 1 else "pci"]
        for _ in range(30):
            machine.mem_write(rng.memory, bytes(rnd.choice((0, 0, 1, 2, rnd.randrange(256))) for _ in range(4096)))
            lines = []
            for _ in range(200):
                for what in ("write", "read"):
                    space, base, size = rnd.choice(places)
                    width = rnd.choice((1, 2, 4, 4))
                    offset = rnd.choice(known + (rnd.randrange(size),)) % size & ~(width - 1)
                    value = rnd.choice((0, 1, 3, 8, 11, 15, rng.memory, rng.memory >> 12, rnd.getrandbits(32)))
                    line = f"{what} {space} {base + offset:#x} {width}"
                    lines.append(f"{line} {value & (1 << 8 * width) - 1:#x}" if what == "write" else line)
            machine.commands(lines)
        rng = Driver(transport(machine, "rng0"))
        rng.start()
        assert len(rng.exchange(0, [], [8])) == 8


def test_ids_on_pci():
    with Machine(TRAPLINE, "--rng", "--rng=transport=pci-legacy") as machine:
        modern, legacy = transport(machine, "rng0"), transport(machine, "rng1")
        assert (modern.get(0), modern.get(8, 1), legacy.get(0), legacy.get(8, 1)) == (0x10441af4, 1, 0x10051af4, 0)
        assert modern.id == legacy.id == 4 and modern.get(0x2e, 2) >= 0x40


def test_message_interrupts():
    for name in ("pci", "pci-legacy"):
        with Machine(TRAPLINE, "--rng", "--virtio-transport", name) as machine:
            rng = Driver(transport(machine, "rng0"))
            t = rng.t
            t.msix_enable()
            for vector in range(2):
                t.msix_set(vector, 0xfee00000 + vector * 0x1000, 0x4030 + vector)
            rng.start()
            rng.exchange(0, [], [8])
            assert machine.msis() == [] and machine.level(t.line()) == 0, "an interrupt without a vector"
            assert t.set_vector(0, 2) == 0xffff and t.set_vector(0, 0x100) == 0xffff, "a vector that is not there"
            assert t.set_vector(0, 1) == 1 and t.set_vector(None, 0) == 0
            rng.exchange(0, [], [8])
            rng.exchange(0, [], [8])
            assert machine.msis() == [(0xfee01000, 0x4031)] * 2
            assert t.interrupts() == 0 and machine.level(t.line()) == 0
            # Masked: pending, and sent once.
            machine.write("mmio", t.msix_entry(1) + 12, 4, 1)
            rng.exchange(0, [], [8])
            rng.exchange(0, [], [8])
            assert machine.msis() == []
            machine.write("mmio", t.msix_entry(1) + 12, 4, 0)
            assert machine.msis() == [(0xfee01000, 0x4031)]
            # A queue that breaks is told by the configuration's vector.
            rng.queues[0].offer(rng.queues[0].size)
            t.notify(0)
            rng.broken()
            assert machine.msis() == [(0xfee00000, 0x4030)]
            t.msix_enable(False)
            rng.start()
            rng.exchange(0, [], [8])
            assert machine.level(t.line()) == 1 and machine.msis() == []
            assert t.interrupts() == 1 and machine.level(t.line()) == 0


def test_wires_are_shared():
    """Slots 1 and 5 have one line; it is up while either device has something to tell."""
    with Machine(TRAPLINE, *["--rng"] * 5) as machine:
        one, five = (Driver(transport(machine, f"rng{i}"), i) for i in (0, 4))
        line = one.t.line()
        assert five.t.line() == line
        for driver in (one, five):
            driver.start()
            driver.exchange(0, [], [8])
        assert machine.level(line) == 1
        assert one.t.interrupts() == 1 and machine.level(line) == 1
        assert one.t.interrupts() == 0 and five.t.interrupts() == 1 and machine.level(line) == 0


def test_bar_moves_under_a_driver():
    for name in ("pci", "pci-legacy"):
        with Machine(TRAPLINE, "--rng", "--virtio-transport", name) as machine:
            rng = Driver(transport(machine, "rng0"))
            rng.start()
            rng.exchange(0, [], [8])
            if name == "pci":
                rng.t.set(0x20, 0xe0000000)
                rng.t.set(0x24, 0)
                rng.t = Pci(machine, "0000:00:01.0")
                assert rng.t.structures[1][1] == 0xe0000000
            else:
                rng.t.set(0x10, 0x9000)
            assert len(rng.exchange(0, [], [8])) == 8


def test_many_devices():
    with Machine(TRAPLINE, *["--rng=transport=mmio"] * 32) as machine:
        drivers = [Driver(transport(machine, f"rng{i}"), i % 8) for i in range(32)]
        for driver in drivers:
            driver.start()
            assert len(driver.exchange(0, [], [8])) == 8
            driver.t.interrupts()


def test_placed_elsewhere():
    with Machine(TRAPLINE, "--rng=transport=mmio", "--place", "rng0=pio:0x1000,irq=11") as machine:
        rng = Driver(transport(machine, "rng0"))
        assert rng.t.space == "pio"
        rng.start()
        assert len(rng.exchange(0, [], [8])) == 8
        assert machine.level(11) == 1


if __name__ == "__main__":
    TRAPLINE = sys.argv[1]
    sys.exit(tap.main(globals()))
