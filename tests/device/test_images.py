#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Disks of other formats, which qemu-storage-daemon serves, in the whole machine: read, written, killed, refused."""
import glob
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
from client import Machine  # noqa: E402
from virtio import EVENT_IDX, Driver, transport  # noqa: E402

TRAPLINE = None
MIB = 1 << 20
READ, WRITE_, FLUSH = 0, 1, 4
FORMATS = {"qcow2": "qcow2", "qed": "qed", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vpc": "vhd"}
DATA = random.Random(7).randbytes(4 * MIB)


class Folder:
    """Images, made by qemu-img out of a raw one."""

    def __enter__(self):
        for program in ("qemu-storage-daemon", "qemu-img"):
            if not shutil.which(program):
                raise tap.Skip("no %s here" % program)
        self.path = tempfile.mkdtemp(prefix="trapline-images-")
        with open(self.path + "/raw", "wb") as file:
            file.write(DATA)
        return self

    def image(self, kind, name):
        path = os.path.join(self.path, name)
        # A VHD is else of whole cylinders.
        options = ["-o", "force_size=on"] if kind == "vpc" else []
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *options, self.path + "/raw", path], check=True)
        return path

    def raw(self, kind, path):
        """What an image holds."""
        subprocess.run(["qemu-img", "convert", "-f", kind, "-O", "raw", path, self.path + "/back"], check=True)
        with open(self.path + "/back", "rb") as file:
            return file.read()

    def __exit__(self, *exc):
        shutil.rmtree(self.path)


def request(disk, kind, sector, data=b"", room=0, queue=0):
    """A request and its answer: the status, and what was read."""
    head = struct.pack("<IIQ", kind, 0, sector)
    answer = disk.exchange(queue, [head, data] if data else [head], [room, 1] if room else [1])
    return answer[-1], answer[:-1]


def daemons():
    """qemu-storage-daemon's processes that are our machines' children."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as file, open(os.path.dirname(path) + "/cmdline") as words:
                if file.read().startswith("qemu-storage-d") and tap.PLACE.name in words.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def test_every_format_is_read_and_written():
    with Folder() as folder:
        for kind, extension in FORMATS.items():
            path = folder.image(kind, "a,b." + extension)
            with Machine(TRAPLINE, "-d", path.replace(",", ",,")) as machine:
                disk = Driver(transport(machine, "disk0"))
                assert disk.t.id == 2 and disk.t.config(0, 4) == 4 * MIB // 512, kind
                disk.start()
                assert request(disk, READ, 64, room=65536) == (0, DATA[64 * 512:64 * 512 + 65536]), kind
                assert request(disk, WRITE_, 1000, bytes([9]) * 8192)[0] == 0
                assert request(disk, FLUSH, 0)[0] == 0
            assert folder.raw(kind, path) == DATA[:512000] + bytes([9]) * 8192 + DATA[520192:], kind
            os.unlink(path)
        assert not daemons()


def test_keys():
    with Folder() as folder:
        path = folder.image("qcow2", "disk.img")
        with Machine(TRAPLINE, "-d", path + ",format=qcow2,ro,queues=2,transport=mmio") as machine:
            disk = Driver(transport(machine, "disk0"))
            disk.start(queues=2)
            assert disk.has(5) and disk.t.config(34, 2) == 2
            assert request(disk, READ, 0, room=512, queue=1) == (0, DATA[:512])
            assert request(disk, WRITE_, 0, bytes(512))[0] == 1
            # Many read what none writes.
            with Machine(TRAPLINE, "-d", path + ",format=qcow2,ro") as other:
                second = Driver(transport(other, "disk0"))
                second.start()
                assert request(second, READ, 0, room=512) == (0, DATA[:512])
        with Machine(TRAPLINE, "-d", path + ",format=raw") as machine:
            disk = Driver(transport(machine, "disk0"))
            disk.start()
            assert request(disk, READ, 0, room=512)[1][:4] == b"QFI\xfb"
        assert folder.raw("qcow2", path) == DATA


def test_what_lies_on_a_server():
    with Folder() as folder:
        server = subprocess.Popen(["qemu-storage-daemon", "--blockdev", f"file,filename={folder.path}/raw,node-name=d",
                                   "--nbd-server", f"addr.type=unix,addr.path={folder.path}/nbd", "--export",
                                   "nbd,id=e,node-name=d,name=a b,writable=on"])
        try:
            end = time.monotonic() + tap.PATIENCE
            while not os.path.exists(folder.path + "/nbd"):
                assert time.monotonic() < end
                time.sleep(0.05)
            with Machine(TRAPLINE, "-d", f"nbd+unix:///a%20b?socket={folder.path}/nbd") as machine:
                disk = Driver(transport(machine, "disk0"))
                disk.start()
                assert request(disk, READ, 8, room=512) == (0, DATA[4096:4608])
                assert request(disk, WRITE_, 0, b"QFI\xfb" * 128)[0] == 0
                assert request(disk, FLUSH, 0)[0] == 0
            with open(folder.path + "/raw", "rb") as file:
                assert file.read(512) == b"QFI\xfb" * 128
            # What its guest has written makes no other format of it.
            with Machine(TRAPLINE, "-d", f"nbd+unix:///a%20b?socket={folder.path}/nbd") as machine:
                disk = Driver(transport(machine, "disk0"))
                assert disk.t.config(0, 4) == 4 * MIB // 512
        finally:
            server.kill()
            server.wait()


def until_errors(disk):
    end = time.monotonic() + tap.PATIENCE
    while request(disk, READ, 0, room=512)[0] != 1:
        assert time.monotonic() < end, "requests still succeed"


def test_a_daemon_that_dies_is_a_disk_that_fails():
    with Folder() as folder:
        path = folder.image("qcow2", "disk.qcow2")
        for carrier in ("pci", "mmio"):
            with Machine(TRAPLINE, "-d", path, "--virtio-transport", carrier) as machine:
                disk = Driver(transport(machine, "disk0"))
                disk.start()
                assert request(disk, READ, 0, room=512)[0] == 0
                first, = daemons()
                os.kill(first, signal.SIGKILL)
                until_errors(disk)
                assert request(disk, WRITE_, 0, bytes(512))[0] == 1
                assert not disk.t.status() & 0x40, "a disk that fails needs no reset"
                # In the guest's next life it is there again, by another one.
                disk.start()
                assert request(disk, READ, 0, room=512) == (0, DATA[:512])
                second, = daemons()
                assert second != first
        assert not daemons()


def test_what_it_has_in_its_hands_is_answered_once():
    with Folder() as folder:
        path = folder.image("qcow2", "disk.qcow2")
        for carrier, events in (("pci", False), ("pci", True), ("mmio", True), ("pci-legacy", True), ("mmio-legacy", False)):
            with Machine(TRAPLINE, "-d", path + ",queues=2", "--virtio-transport", carrier) as machine:
                disk = Driver(transport(machine, "disk0"))
                for stops in (True, False):
                    disk.start(queues=2, features=disk.t.offered() & ~(0 if events else 1 << EVENT_IDX))
                    for queue in (0, 1):
                        assert request(disk, READ, 0, room=512, queue=queue)[0] == 0
                    daemon, = daemons()
                    if stops:
                        os.kill(daemon, signal.SIGSTOP)
                    sent = {0: [], 1: []}
                    for i in range(30):
                        for queue in sent:
                            head = struct.pack("<IIQ", WRITE_ if i % 3 else READ, 0, i * 8)
                            sent[queue].append(disk.send(queue, [head] + [bytes(4096)] * (i % 3 > 0), [4096] * (i % 3 == 0) + [1]))
                    os.kill(daemon, signal.SIGKILL)
                    for queue, requests in sent.items():
                        done = [disk.wait(queue)[0] for _ in requests]
                        assert sorted(done) == sorted(chain for chain, _ in requests), (done, requests)
                        statuses = {machine.mem_read(room[-1][0], 1)[0] for _, room in requests}
                        assert statuses == {1} if stops else statuses <= {0, 1}, statuses
                    disk.next = disk.queues[1].end
                    until_errors(disk)
                    assert all(queue.get() is None for queue in disk.queues.values())
                    assert not disk.t.status() & 0x40


def test_one_that_cannot_start_again_is_a_disk_that_fails():
    with Folder() as folder:
        path = folder.image("qcow2", "disk.qcow2")
        with Machine(TRAPLINE, "-d", path) as machine:
            disk = Driver(transport(machine, "disk0"))
            disk.start()
            assert request(disk, READ, 0, room=512)[0] == 0
            daemon, = daemons()
            os.kill(daemon, signal.SIGKILL)
            until_errors(disk)
            os.rename(path, path + ".away")
            disk.start()
            assert request(disk, READ, 0, room=512)[0] == 1
            assert not disk.t.status() & 0x40
            os.rename(path + ".away", path)
            disk.start()
            assert request(disk, READ, 0, room=512) == (0, DATA[:512])


def test_none_is_left_behind():
    with Folder() as folder:
        path = folder.image("qcow2", "disk.qcow2")
        machine = Machine(TRAPLINE, "-d", path)
        disk = Driver(transport(machine, "disk0"))
        disk.start()
        assert request(disk, WRITE_, 0, bytes([5]) * 512)[0] == 0
        assert len(daemons()) == 1
        os.kill(machine.process.pid, signal.SIGKILL)
        machine.process.wait()
        end = time.monotonic() + tap.PATIENCE
        while daemons():
            assert time.monotonic() < end, "the daemon still runs"
            time.sleep(0.05)
        assert folder.raw("qcow2", path) == bytes([5]) * 512 + DATA[512:]
        subprocess.run(["qemu-img", "check", "-q", path], check=True)


if __name__ == "__main__":
    TRAPLINE = os.path.abspath(sys.argv[1])
    sys.exit(tap.main(globals()))
