#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The 9P transport in the whole machine: messages through rings, on each transport, from drivers good and bad."""
import errno
import os
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402
from virtio import Driver, transport  # noqa: E402

TRAPLINE = None
TRANSPORTS = ["pci", "pci-legacy", "mmio", "mmio-legacy"]
NO_FID = 0xffffffff


def text(string):
    return struct.pack("<H", len(string)) + string.encode()


class Client:
    """9P2000.L, as far as these tests speak it."""

    def __init__(self, driver):
        self.driver = driver

    def call(self, kind, body, room=8192, cut=None):
        """(the reply's type, its fields)"""
        message = struct.pack("<IBH", 7 + len(body), kind, 1) + body
        out = [message[:cut], message[cut:]] if cut else [message]
        reply = self.driver.exchange(0, out, [7, room - 7])
        size, got, tag = struct.unpack_from("<IBH", reply)
        assert size == len(reply) and tag == 1, reply
        return got, reply[7:]

    def good(self, kind, body, **how):
        got, fields = self.call(kind, body, **how)
        assert got == kind + 1, (kind, got, fields)
        return fields

    def error(self, kind, body):
        got, fields = self.call(kind, body)
        assert got == 7, (kind, got)
        return struct.unpack("<I", fields)[0]

    def hello(self):
        assert self.good(100, struct.pack("<I", 65536) + text("9P2000.L")) == struct.pack("<I", 65536) + text("9P2000.L")
        self.good(104, struct.pack("<II", 0, NO_FID) + text("root") + text("") + struct.pack("<I", 0))

    def walk(self, fid, new, *names):
        return self.good(110, struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names)), cut=9)


def folder():
    path = tempfile.mkdtemp(prefix="trapline-p9-")
    with open(os.path.join(path, "file"), "w", encoding="ascii") as file:
        file.write("hello")
    return path


def each():
    """A folder, a machine that shares it, and a client that has attached, on each transport."""
    for name in TRANSPORTS:
        path = folder()
        with Machine(TRAPLINE, "--9p", path + ",share", "--virtio-transport", name) as machine:
            driver = Driver(transport(machine, "9p0"))
            for kind in [{}] if driver.t.legacy else [{}, {"packed": True}]:
                driver.start(**kind)
                client = Client(driver)
                client.hello()
                yield path, machine, client
        shutil.rmtree(path)


def test_tag():
    for _, _, client in each():
        t = client.driver.t
        assert t.id == 9
        assert bytes(t.config(i, 1) for i in range(7)) == b"\5\0share"
        assert client.driver.has(0)


def test_reads_and_writes():
    for path, _, client in each():
        client.walk(0, 1, "file")
        client.good(12, struct.pack("<II", 1, 2))
        assert client.good(116, struct.pack("<IQI", 1, 1, 100)) == struct.pack("<I", 4) + b"ello"
        data = bytes(i * 7 % 251 for i in range(50000))
        assert client.good(118, struct.pack("<IQI", 1, 0, len(data)) + data, cut=23) == struct.pack("<I", len(data))
        with open(os.path.join(path, "file"), "rb") as file:
            assert file.read() == data
        assert client.good(116, struct.pack("<IQI", 1, 0, 60000), room=60000)[4:] == data
        with open(os.path.join(path, "file"), "wb") as file:
            file.write(b"hello")


def test_nothing_above():
    for path, _, client in each():
        root = client.walk(0, 1, "..", "..")
        assert root[2:15] == root[15:28]
        assert struct.unpack("<Q", root[7:15])[0] == os.stat(path).st_ino
        assert client.error(110, struct.pack("<IIH", 0, 2, 1) + text("../x")) == errno.EINVAL


def test_reset_forgets():
    for _, _, client in each():
        client.walk(0, 1, "file")
        client.driver.start()
        assert client.error(120, struct.pack("<I", 1)) == errno.EPROTO, "no version since the reset"
        client.hello()
        assert client.error(120, struct.pack("<I", 1)) == errno.EBADF


def test_bad_messages():
    for _, machine, client in each():
        before = machine.counters()["guest_faults"]
        driver = client.driver
        # No room, no message, neither; each is given back, and the next one is served.
        assert driver.exchange(0, [b"\7\0\0\0\x64\1\0"], []) == b""
        assert driver.exchange(0, [b"\7\0\0\0\x64\1\0"], [10]) == b""
        assert driver.exchange(0, [], [64])[4] == 7
        assert driver.exchange(0, [b"\xff\xff\xff\xff\x64\1\0"], [64])[4] == 7
        assert driver.exchange(0, [b"x" * 30000], [64])[4] == 7
        assert machine.counters()["guest_faults"] >= before + 4
        client.walk(0, 3, "file")


def test_many_at_once():
    for _, _, client in each():
        driver = client.driver
        queue = driver.queues[0]
        message = struct.pack("<IBHIQ", 19, 24, 1, 0, 0x7ff)
        sent = {driver.send(0, [message], [200])[0] for _ in range(queue.size // 2)}
        assert {driver.wait(0)[0] for _ in sent} == sent


def test_reset_in_the_middle():
    for _, _, client in each():
        driver = client.driver
        for _ in range(20):
            for _ in range(10):
                driver.send(0, [struct.pack("<IBHIQ", 19, 24, 1, 0, 0x7ff)], [200])
            driver.start()
        client.hello()
        client.walk(0, 1, "file")


if __name__ == "__main__":
    TRAPLINE = sys.argv[1]
    sys.exit(tap.main(globals()))
