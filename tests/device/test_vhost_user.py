#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Devices that other programs serve, in the whole machine: qemu-storage-daemon's disks, virtiofsd's folders, on each transport."""
import errno
import os
import random
import shutil
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
TRANSPORTS = ["pci", "pci-legacy", "mmio", "mmio-legacy"]
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MIB = 1 << 20
READ, WRITE_, FLUSH = 0, 1, 4


class Folder:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="trapline-vu-")
        return self.path

    def __exit__(self, *exc):
        shutil.rmtree(self.path)


class Storage:
    """qemu-storage-daemon, with a disk of 4 MiB."""

    def __init__(self, folder, queues=1):
        if not shutil.which("qemu-storage-daemon"):
            raise tap.Skip("no qemu-storage-daemon here")
        self.socket, self.image, self.queues = folder + "/socket", folder + "/image", queues
        with open(self.image, "wb") as file:
            file.write(random.Random(1).randbytes(4 * MIB))
        self.start()

    def start(self):
        self.process = subprocess.Popen([
            "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={self.image}",
            "--export", f"type=vhost-user-blk,id=e,addr.type=unix,addr.path={self.socket},node-name=f,writable=on,"
            f"num-queues={self.queues}"], stderr=subprocess.PIPE, text=True)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()


def request(disk, kind, sector, data=b"", room=0, queue=0):
    """A request and its answer: what was read. It has to succeed."""
    head = struct.pack("<IIQ", kind, 0, sector)
    answer = disk.exchange(queue, [head, data] if data else [head], [room, 1] if room else [1])
    assert answer[-1] == 0, f"status {answer[-1]}"
    return answer[:-1]


def serve(transport_, *keys, queues=1):
    def decorate(test):
        with Folder() as folder, Storage(folder, queues) as storage, \
                Machine(TRAPLINE, "--virtio-transport", transport_, "--vhost-user",
                        ",".join(["blk", "socket=" + storage.socket, *keys])) as machine:
            test(storage, Driver(transport(machine, "user0")))
    return decorate


def test_a_disk_is_read_and_written():
    for carrier in TRANSPORTS:
        for keys in ((), ("reconnect",)):
            for events in (False, True):
                @serve(carrier, *keys)
                def _(storage, disk):
                    assert disk.t.id == 2 and disk.t.config(0, 4) == 4 * MIB // 512
                    for life in range(2):
                        disk.start(features=disk.t.offered() & ~(0 if events else 1 << EVENT_IDX))
                        with open(storage.image, "rb") as file:
                            assert request(disk, READ, 8 * life, room=8192) == file.read(8192 + 4096 * life)[-8192:]
                        data = random.Random(life).randbytes(65536)
                        for i in range(40):
                            request(disk, WRITE_, 128 * (i % 20), data)
                        request(disk, FLUSH, 0)
                        assert request(disk, READ, 128, room=65536) == data
                        with open(storage.image, "r+b") as file:
                            assert file.read(65536) == data
                            file.seek(0)
                            file.write(random.Random(1).randbytes(65536))


def test_each_queue_is_served():
    @serve("mmio", queues=3)
    def _(storage, disk):
        assert disk.t.config(34, 2) == 3
        disk.start(queues=3)
        for queue in range(3):
            request(disk, WRITE_, queue, bytes([queue + 1]) * 512, queue=queue)
        assert [request(disk, READ, i, room=512, queue=2 - i)[0] for i in range(3)] == [1, 2, 3]

    @serve("pci", "queues=1", queues=3)
    def _(storage, disk):
        disk.start()
        assert not disk.has(12) and disk.t.queue_max(1) == 0
        request(disk, READ, 0, room=512)


def test_a_program_that_dies_is_told():
    for carrier in ("pci", "mmio"):
        @serve(carrier)
        def _(storage, disk):
            disk.start()
            request(disk, READ, 0, room=512)
            storage.kill()
            disk.broken()
            # It is there again when the guest begins anew.
            storage.start()
            end = time.monotonic() + tap.PATIENCE
            while True:
                disk.start()
                disk.t.notify(0)
                time.sleep(0.3)
                if not disk.t.status() & 0x40:
                    break
                assert time.monotonic() < end, "it is not served after its reset"
            request(disk, READ, 0, room=512)


def test_a_disk_goes_on_when_its_program_is_back():
    for carrier in ("pci", "mmio-legacy"):
        @serve(carrier, "reconnect")
        def _(storage, disk):
            disk.start()
            rng = random.Random(2)
            wanted = {}
            for death in range(4):
                # Some of these are in its hands when it dies.
                sent = []
                at = disk.next
                for i in range(24):
                    sector = (death * 24 + i) * 8
                    data = rng.randbytes(4096)
                    sent.append(disk.send(0, [struct.pack("<IIQ", WRITE_, 0, sector), data], [1]))
                    wanted[sector] = data
                    if i == 12:
                        storage.kill()
                assert not disk.t.status() & 0x40
                storage.start()
                done = {disk.wait(0)[0] for _ in sent}
                assert done == {chain for chain, _ in sent}, (done, sent)
                assert all(disk.machine.mem_read(room[0][0], 1) == b"\0" for _, room in sent)
                disk.next = at
            assert disk.queues[0].get() is None
            for sector, data in wanted.items():
                assert request(disk, READ, sector, room=4096) == data, sector


def test_nobody_listens():
    with Folder() as folder:
        run = subprocess.run([TRAPLINE, "device-test", "--vhost-user", f"blk,wait=0,socket={folder}/none"], text=True,
                             capture_output=True, stdin=subprocess.DEVNULL)
        assert run.returncode == 1 and "there is no such socket" in run.stderr and folder in run.stderr, run
        with Storage(folder) as storage:
            tap.until(lambda: os.path.exists(storage.socket), "it listens")
            for words, text in (("blk,queues=2", "has 1 queue, and the device needs 2"), ("net", "has 1 queue, and the device needs 2")):
                run = subprocess.run([TRAPLINE, "device-test", "--vhost-user", f"{words},socket={storage.socket}"], text=True,
                                     capture_output=True, stdin=subprocess.DEVNULL)
                assert run.returncode == 1 and text in run.stderr, (words, run)


class Fuse:
    """As much of a FUSE client as is needed to see that there is a server (include/uapi/linux/fuse.h)."""
    LOOKUP, READ, WRITE, OPEN, INIT, CREATE, RELEASE, COPY = 1, 15, 16, 14, 26, 35, 18, 47

    def __init__(self, driver):
        self.driver, self.unique = driver, 0

    def head(self, opcode, node, body):
        self.unique += 2
        return struct.pack("<IIQQIIII", 40 + len(body), opcode, self.unique, node, 0, 0, os.getpid(), 0)

    def send(self, opcode, node, body, room):
        """Driver.send()'s (id, where the room is)."""
        return self.driver.send(1, [self.head(opcode, node, body), body], [16, room])

    def call(self, opcode, node, body, room):
        """(error, answer)"""
        answer = self.driver.exchange(1, [self.head(opcode, node, body), body], [16, room] if room else [16])
        size, error, unique = struct.unpack_from("<IiQ", answer)
        assert size == len(answer) and unique == self.unique, answer
        return -error, answer[16:]

    def good(self, opcode, node, body, room=256):
        error, answer = self.call(opcode, node, body, room)
        assert error == 0, (opcode, os.strerror(error))
        return answer

    def hello(self):
        answer = self.good(self.INIT, 0, struct.pack("<IIII", 7, 31, 65536, 0) + bytes(48), 64)
        assert struct.unpack_from("<I", answer)[0] == 7, answer

    def lookup(self, name):
        error, answer = self.call(self.LOOKUP, 1, name + b"\0", 128)
        return error, struct.unpack_from("<Q", answer)[0] if not error else None

    def open(self, node, flags=os.O_RDWR):
        return struct.unpack_from("<Q", self.good(self.OPEN, node, struct.pack("<II", flags, 0), 16))[0]

    def read(self, name):
        error, node = self.lookup(name)
        assert not error, os.strerror(error)
        handle = self.open(node, os.O_RDONLY)
        return self.good(self.READ, node, struct.pack("<QQIIQII", handle, 0, 4096, 0, 0, 0, 0), 4096)


def virtiofsd_or_skip():
    if os.geteuid() or not os.access(VIRTIOFSD, os.X_OK):
        raise tap.Skip("virtiofsd is not here, or we are not root")


def sandboxes():
    """What virtiofsd can lock itself in by, here."""
    spaces = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], check=False, capture_output=True)
    return ["chroot"] + ["namespace"] * (spaces.returncode == 0)


def children(machine):
    tasks = f"/proc/{machine.process.pid}/task"
    found = []
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/children", encoding="ascii") as file:
            found += [int(pid) for pid in file.read().split()]
    return found


def test_a_folder_is_served_and_its_program_may_die():
    virtiofsd_or_skip()
    for carrier in ("pci", "mmio"):
        with Folder() as folder:
            shared = folder + "/a,b\\c"
            os.mkdir(shared)
            with open(shared + "/hello", "w", encoding="ascii") as file:
                file.write("from the host")
            option = shared.replace(",", ",,") + ",share,sandbox=chroot,transport=" + carrier
            with Machine(TRAPLINE, "--fs", option) as machine:
                driver = Driver(transport(machine, "fs0"))
                assert driver.t.id == 26 and bytes(driver.t.config(i, 1) for i in range(6)) == b"share\0"
                assert driver.t.config(36, 4) == 1
                for life in range(2):
                    driver.start(queues=2)
                    fuse = Fuse(driver)
                    fuse.hello()
                    assert fuse.read(b"hello") == b"from the host"
                    assert fuse.lookup(b"absent")[0] == errno.ENOENT
                    found = children(machine)
                    assert len(found) == 1, found
                    os.kill(found[0], 9)
                    # From now on there are errors, and answers all the same.
                    tap.until(lambda: fuse.lookup(b"hello")[0] == errno.ENOTCONN, "errors instead of files")
                    assert not driver.t.status() & 0x40
            left = subprocess.run(["pgrep", "-f", shared], capture_output=True, text=True).stdout
            assert not left, left


def test_a_folder_is_answered_in_order():
    """If it were not, its used index would not tell what it had not answered when it died."""
    virtiofsd_or_skip()
    with Folder() as folder:
        for name in ("/a", "/b"):
            with open(folder + name, "wb") as file:
                file.write(bytes(32 * MIB))
        with Machine(TRAPLINE, "--fs", folder + ",share,sandbox=chroot") as machine:
            driver = Driver(transport(machine, "fs0"))
            driver.start(queues=2)
            fuse = Fuse(driver)
            fuse.hello()
            (a, from_), (b, to) = [(node, fuse.open(node)) for node in (fuse.lookup(name)[1] for name in (b"a", b"b"))]
            copy = struct.pack("<QQQQQQQ", from_, 0, b, to, 0, 32 * MIB, 0)
            at = driver.next
            for _ in range(10):
                # Slow ones, and such as need nothing but a look.
                sent = []
                for i in range(40):
                    if i % 10 == 0:
                        sent.append(fuse.send(fuse.COPY, a, copy, 8))
                    sent.append(fuse.send(fuse.LOOKUP, 1, b"absent\0", 128))
                answers = [driver.wait(1)[0] for _ in sent]
                assert answers == [chain for chain, _ in sent]
                errors = {struct.unpack("<i", machine.mem_read(room[0][0] + 4, 4))[0] for _, room in sent}
                assert errors == {0, -errno.ENOENT}, errors
                driver.next = at


def test_a_folder_that_is_only_read():
    virtiofsd_or_skip()
    with Folder() as folder:
        for sandbox in sandboxes():
            with Machine(TRAPLINE, "--fs", folder + ",share,ro,sandbox=" + sandbox) as machine:
                driver = Driver(transport(machine, "fs0"))
                driver.start(queues=2)
                fuse = Fuse(driver)
                fuse.hello()
                error, _ = fuse.call(fuse.CREATE, 1, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + b"new\0", 160)
                assert error == errno.EROFS, os.strerror(error)
            assert not os.listdir(folder)
        # Nor for others than the guest.
        with open(folder + "/ours", "w", encoding="ascii"):
            pass


def test_a_folder_by_a_relative_name_or_a_link():
    virtiofsd_or_skip()
    with Folder() as folder:
        # There is one of that name at the top, which is not meant.
        os.mkdir(folder + "/etc")
        os.symlink("etc", folder + "/link")
        with open(folder + "/etc/hello", "w", encoding="ascii") as file:
            file.write("from the host")
        trapline, before = os.path.abspath(TRAPLINE), os.getcwd()
        os.chdir(folder)
        try:
            for name in ("etc", "link", "./link/."):
                for words in ("", ",ro"):
                    with Machine(trapline, "--fs", name + ",share,sandbox=chroot" + words) as machine:
                        driver = Driver(transport(machine, "fs0"))
                        driver.start(queues=2)
                        fuse = Fuse(driver)
                        fuse.hello()
                        assert fuse.read(b"hello") == b"from the host"
                        assert fuse.lookup(b"passwd")[0] == errno.ENOENT
        finally:
            os.chdir(before)


def test_it_does_not_start():
    virtiofsd_or_skip()
    with Folder() as folder:
        run = subprocess.run([TRAPLINE, "device-test", "--fs", f"{folder},share,program=/bin/false"], text=True,
                             capture_output=True, stdin=subprocess.DEVNULL)
        assert run.returncode == 1 and "virtiofsd ended with status 1" in run.stderr, run


if __name__ == "__main__":
    TRAPLINE = sys.argv[1]
    sys.exit(tap.main(globals()))
