#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The virtio console: ports and their messages, bytes both ways, back-pressure, drivers that break the rules."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402
from virtio import NEXT, Driver, transport  # noqa: E402

TRAPLINE = None
TRANSPORTS = ["pci", "pci-legacy", "mmio", "mmio-legacy"]
PORTS, HVC0 = 4, 4  # and the number of the first of them among the machine's consoles
SIZE, MULTIPORT, EMERGENCY = 0, 1, 2
RX0, TX0, CONTROL_RX, CONTROL_TX = range(4)
DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = range(8)


def rx(port):
    return 2 + 2 * port if port else RX0


def each(kinds=True):
    """A machine and its console's driver, on each transport, with each kind of ring."""
    for name in TRANSPORTS:
        for packed in [False] if not kinds or name.endswith("legacy") else [False, True]:
            with Machine(TRAPLINE, "--virtio-console", "--virtio-transport", name) as machine:
                driver = Driver(transport(machine, "hvc0"))
                driver.kind = {"packed": packed}
                yield machine, driver


def control(driver, port, event, value):
    driver.exchange(CONTROL_TX, [struct.pack("<IHH", port, event, value)], [])


def messages(driver, n):
    """What the device says with the buffers that are there."""
    said = []
    for _ in range(n):
        _, written = driver.wait(CONTROL_RX)
        said.append(written)
    return said


def opened(driver, ports):
    """Starts it, with buffers for messages, and opens these ports; what the device said meanwhile."""
    driver.start(queues=2 + 2 * PORTS, **driver.kind)
    places = [driver.send(CONTROL_RX, [], [64]) for _ in range(32)]
    control(driver, 0xffffffff, DEVICE_READY, 1)
    for port in range(PORTS):
        control(driver, port, PORT_READY, 1)
    for port in ports:
        control(driver, port, PORT_OPEN, 1)
    where = {chain: room[0][0] for chain, room in places}
    said = []
    while len(said) < 3 * PORTS:
        chain, written = driver.wait(CONTROL_RX)
        said.append(struct.unpack("<IHH", driver.machine.mem_read(where[chain], written)))
    return said


def test_config():
    for _, driver in each(False):
        driver.start(queues=2)
        assert driver.t.id == 3
        assert driver.t.config(4, 4) == PORTS
        assert driver.features >> SIZE & 7 == 7
        assert driver.t.config(0, 4) == 0, "there is no terminal, yet it has a size"


def test_ports_are_announced():
    for _, driver in each():
        said = opened(driver, [])
        for port in range(PORTS):
            mine = [event for number, event, value in said if number == port]
            assert mine == [PORT_ADD, CONSOLE_PORT, PORT_OPEN], (port, said)


def test_bytes_both_ways():
    data = bytes(range(256)) * 40
    for machine, driver in each():
        opened(driver, range(PORTS))
        for port in range(PORTS):
            text = b"port %d says " % port + data
            for at in range(0, len(text), 4000):
                driver.exchange(rx(port) + 1, [text[at:at + 1000], text[at + 1000:at + 4000]], [])
            got = b""
            while len(got) < len(text):
                more = machine.serial_get(HVC0 + port)
                assert more, f"{len(got)} bytes came out, of {len(text)}"
                got += more
            assert got == text
        for port in range(PORTS):
            # What was there before the driver had a buffer, and what comes after.
            assert machine.serial_put(b"hello %d" % port, HVC0 + port) == 7
            assert driver.exchange(rx(port), [], [3, 4]) == b"hello %d" % port
            chain, room = driver.send(rx(port), [], [100])
            assert machine.serial_put(b"again", HVC0 + port) == 5
            assert driver.wait(rx(port)) == (chain, 5)
            assert machine.mem_read(room[0][0], 5) == b"again"


def test_a_driver_without_ports():
    for machine, driver in each():
        driver.start(queues=2, without=1 << MULTIPORT, **driver.kind)
        driver.exchange(TX0, [b"plain"], [])
        assert machine.serial_get(HVC0) == b"plain"
        machine.serial_put(b"key", HVC0)
        assert driver.exchange(RX0, [], [16]) == b"key"


def test_emergency_write():
    for machine, driver in each(False):
        driver.reset()
        for byte in b"Oops":
            driver.t.set_config(8, byte, 4)
        assert machine.serial_get(HVC0) == b"Oops"


def test_many_requests_make_nothing_grow():
    for machine, driver in each():
        driver.start(queues=2 + 2 * PORTS, **driver.kind)
        for _ in range(200):
            control(driver, 0xffffffff, DEVICE_READY, 1)
            control(driver, 1, PORT_READY, 1)
        places = [driver.send(CONTROL_RX, [], [64]) for _ in range(32)]
        assert len(messages(driver, PORTS + 2)) == PORTS + 2
        assert driver.queues[CONTROL_RX].get() is None, "more was said than there is to say"
        assert places


def test_messages_that_make_no_sense():
    for machine, driver in each():
        opened(driver, [0])
        for event in range(12):
            for port in (PORTS, 0x7fffffff, 0xffffffff):
                control(driver, port, event, 0xffff)
        for text in (b"", b"\0", b"1234567"):
            if text:
                driver.exchange(CONTROL_TX, [text], [])
        driver.exchange(CONTROL_TX, [bytes(4096)], [])
        driver.exchange(TX0, [b"alive"], [])
        assert machine.serial_get(HVC0).endswith(b"alive")


def test_wrong_directions():
    for machine, driver in each():
        opened(driver, [0])
        machine.serial_put(b"input", HVC0)
        # A receive buffer that the device may not write, and output that it may not read: nothing comes of either.
        assert driver.exchange(RX0, [b"12345678"], []) == b""
        assert driver.exchange(TX0, [], [16]) == b""
        assert driver.exchange(RX0, [], [16]) == b"input"
        assert machine.serial_get(HVC0) == b""


def test_a_loop_breaks_it_and_a_reset_heals_it():
    for machine, driver in each():
        if driver.kind["packed"]:
            continue
        driver.start(queues=2, without=1 << MULTIPORT)
        queue = driver.queues[TX0]
        queue.put(0, driver.alloc(16), 16, NEXT, 1)
        queue.put(1, driver.alloc(16), 16, NEXT, 0)
        queue.offer(0)
        driver.t.notify(TX0)
        driver.broken()
        driver.start(queues=2, without=1 << MULTIPORT)
        driver.exchange(TX0, [b"well again"], [])
        assert machine.serial_get(HVC0) == b"well again"


def test_reset_keeps_input():
    for machine, driver in each():
        opened(driver, [0])
        driver.send(RX0, [], [100])
        driver.reset()
        machine.serial_put(b"later", HVC0)
        opened(driver, [0])
        assert driver.exchange(RX0, [], [100]) == b"later"


if __name__ == "__main__":
    TRAPLINE = os.path.abspath(sys.argv[1])
    sys.exit(tap.main(globals()))
