# SPDX-License-Identifier: BSD-2-Clause
"""A small virtio driver for `trapline device-test`, that can also do what no driver should (virtio 1.2).

    with Machine(trapline, "--rng=transport=mmio") as m:
        rng = Driver(transport(m, "rng0"))
        rng.start()
        assert len(rng.exchange(0, [], [64])) == 64

A transport knows registers (Mmio), a Queue rings in guest memory, split or packed, and Driver the order of things. All of
them let a test leave the order: each step is a method of its own.
"""
import struct
import time

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80
INDIRECT, EVENT_IDX, VERSION_1, PACKED, RING_RESET = 28, 29, 32, 34, 40
NEXT, WRITE, TABLE = 1, 2, 4
MEMORY = 0x1000000  # where drivers have their rings and buffers: 16 MiB each, one a transport
MEMORY_EACH = 0x1000000


class Mmio:
    """Virtio over MMIO, version 1 or 2 (4.2)."""
    FEATURES, FEATURES_SEL, TAKEN, TAKEN_SEL, PAGE_SIZE = 0x10, 0x14, 0x20, 0x24, 0x28
    SEL, NUM_MAX, NUM, ALIGN, PFN, READY, NOTIFY = 0x30, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x50
    ISR, ACK, STATUS, DESC, AVAIL, USED, RESET, GENERATION, CONFIG = \
        0x60, 0x64, 0x70, 0x80, 0x90, 0xa0, 0xc0, 0xfc, 0x100

    def __init__(self, machine, space, base):
        self.machine, self.space, self.base = machine, space, base
        self.legacy = self.read(4) == 1
        if self.legacy:
            self.write(self.PAGE_SIZE, 4096)  # once, as Linux does: a reset of the device leaves it
        self.id = self.read(8)

    def read(self, offset, size=4):
        return self.machine.read(self.space, self.base + offset, size)

    def write(self, offset, value, size=4):
        self.machine.write(self.space, self.base + offset, size, value)

    def status(self):
        return self.read(self.STATUS)

    def set_status(self, value):
        self.write(self.STATUS, value)

    def offered(self):
        features = 0
        for half in range(1 if self.legacy else 2):
            self.write(self.FEATURES_SEL, half)
            features |= self.read(self.FEATURES) << 32 * half
        return features

    def take(self, features):
        for half in range(1 if self.legacy else 2):
            self.write(self.TAKEN_SEL, half)
            self.write(self.TAKEN, features >> 32 * half & 0xffffffff)

    def queue_max(self, index):
        self.write(self.SEL, index)
        return self.read(self.NUM_MAX)

    def address(self, register, gpa):
        self.write(register, gpa & 0xffffffff)
        self.write(register + 4, gpa >> 32)

    def set_queue(self, index, size, desc, avail, used):
        """All but enabling it."""
        self.write(self.SEL, index)
        self.write(self.NUM, size)
        if self.legacy:
            self.write(self.ALIGN, 4096)
            assert desc % 4096 == 0 and avail == desc + 16 * size
            assert used == (avail + 6 + 2 * size + 4095) & ~4095
            return
        self.address(self.DESC, desc)
        self.address(self.AVAIL, avail)
        self.address(self.USED, used)

    def enable(self, index, desc):
        self.write(self.SEL, index)
        if self.legacy:
            self.write(self.PFN, desc >> 12)
        else:
            self.write(self.READY, 1)

    def enabled(self, index):
        self.write(self.SEL, index)
        return self.read(self.PFN if self.legacy else self.READY) != 0

    def reset_queue(self, index):
        """As the transport has it: by its own register where that was negotiated."""
        self.write(self.SEL, index)
        if self.legacy:
            self.write(self.PFN, 0)
        else:
            self.write(self.RESET, 1)

    def resetting(self, index):
        self.write(self.SEL, index)
        return not self.legacy and self.read(self.RESET) != 0

    def notify(self, index):
        self.write(self.NOTIFY, index)

    def interrupts(self):
        """Why there was an interrupt (1: used buffers, 2: config), and it is acknowledged."""
        why = self.read(self.ISR)
        self.write(self.ACK, why)
        return why

    def config(self, offset, size):
        return self.read(self.CONFIG + offset, size)

    def set_config(self, offset, value, size):
        self.write(self.CONFIG + offset, value, size)

    def generation(self):
        return self.read(self.GENERATION)

    def wake(self):
        """It always answers."""

    def registers(self):
        """(space, base, size) of all there are."""
        return [(self.space, self.base, 0x200)]


class Function:
    """A PCI function's config space and BARs."""

    def __init__(self, machine, address):
        self.machine = machine
        slot, function = address.split(":")[2].split(".")
        self.config_base = machine.region("PCI ECAM")[1]["base"] + (int(slot, 16) << 15 | int(function) << 12)
        self.wake()

    def get(self, reg, size=4):
        return self.machine.read("mmio", self.config_base + reg, size)

    def set(self, reg, value, size=4):
        self.machine.write("mmio", self.config_base + reg, size, value)

    def wake(self):
        """What a kernel does before its driver comes: BARs decode, and the function may write to memory."""
        self.set(4, 7, 2)

    def bar(self, index):
        value = self.get(0x10 + 4 * index)
        if value & 1:
            return value & ~3
        return value & ~15 | (self.get(0x14 + 4 * index) << 32 if value & 4 else 0)

    def capabilities(self):
        """(offset, id), in their order."""
        at, found = self.get(0x34, 1), []
        while at:
            found.append((at, self.get(at, 1)))
            at = self.get(at + 1, 1)
        return found

    def line(self):
        return self.get(0x3c, 1)

    def msix_cap(self):
        return next(at for at, kind in self.capabilities() if kind == 0x11)

    def msix_entry(self, vector):
        table = self.get(self.msix_cap() + 4)
        return self.bar(table & 7) + (table & ~7) + 16 * vector

    def msix_enable(self, on=True):
        self.set(self.msix_cap() + 2, 0x8000 if on else 0, 2)

    def msix_set(self, vector, address, data, masked=0):
        for i, value in enumerate((address & 0xffffffff, address >> 32, data, masked)):
            self.machine.write("mmio", self.msix_entry(vector) + 4 * i, 4, value)

    def set_vector(self, index, vector):
        """A queue's, or the configuration's (None); of a legacy device while MSI-X is on. What it reads back as."""
        if index is None:
            self.write(self.CONFIG_VECTOR, vector, 2)
            return self.read(self.CONFIG_VECTOR, 2)
        self.write(self.SEL, index, 2)
        self.write(self.VECTOR, vector, 2)
        return self.read(self.VECTOR, 2)


class Pci(Function):
    """Virtio over PCI as of version 1 (4.1.4)."""
    legacy = False
    COMMON, NOTIFY, ISR_CFG, DEVICE, WINDOW = 1, 2, 3, 4, 5
    CONFIG_VECTOR, SEL, SIZE, VECTOR, ENABLE, NOTIFY_OFF, RESET = 16, 22, 24, 26, 28, 30, 58

    def __init__(self, machine, address):
        super().__init__(machine, address)
        self.id = self.get(2, 2) - 0x1040
        self.structures = {}
        for at, kind in self.capabilities():
            if kind == 9:
                self.structures[self.get(at + 3, 1)] = (at, self.bar(self.get(at + 4, 1)) + self.get(at + 8))
        self.multiplier = self.get(self.structures[self.NOTIFY][0] + 16)

    def read(self, offset, size, structure=COMMON):
        return self.machine.read("mmio", self.structures[structure][1] + offset, size)

    def write(self, offset, value, size, structure=COMMON):
        self.machine.write("mmio", self.structures[structure][1] + offset, size, value)

    def status(self):
        return self.read(20, 1)

    def set_status(self, value):
        self.write(20, value, 1)

    def offered(self):
        features = 0
        for half in range(2):
            self.write(0, half, 4)
            features |= self.read(4, 4) << 32 * half
        return features

    def take(self, features):
        for half in range(2):
            self.write(8, half, 4)
            self.write(12, features >> 32 * half & 0xffffffff, 4)

    def queue_max(self, index):
        self.write(self.SEL, index, 2)
        return self.read(self.SIZE, 2)

    def set_queue(self, index, size, desc, avail, used):
        self.write(self.SEL, index, 2)
        self.write(self.SIZE, size, 2)
        for i, gpa in enumerate((desc, avail, used)):
            self.write(32 + 8 * i, gpa & 0xffffffff, 4)
            self.write(36 + 8 * i, gpa >> 32, 4)

    def enable(self, index, _desc):
        self.write(self.SEL, index, 2)
        self.write(self.ENABLE, 1, 2)

    def enabled(self, index):
        self.write(self.SEL, index, 2)
        return self.read(self.ENABLE, 2) != 0

    def reset_queue(self, index):
        self.write(self.SEL, index, 2)
        self.write(self.RESET, 1, 2)

    def resetting(self, index):
        self.write(self.SEL, index, 2)
        return self.read(self.RESET, 2) != 0

    def notify(self, index):
        self.write(self.SEL, index, 2)
        self.write(self.read(self.NOTIFY_OFF, 2) * self.multiplier, index & 0xffff, 2, self.NOTIFY)

    def interrupts(self):
        return self.read(0, 1, self.ISR_CFG)

    def config(self, offset, size):
        return self.read(offset, size, self.DEVICE)

    def set_config(self, offset, value, size):
        self.write(offset, value, size, self.DEVICE)

    def generation(self):
        return self.read(21, 1)

    def registers(self):
        """(space, base, size) of all there are."""
        return [("mmio", self.bar(4), 0x4000), ("mmio", self.bar(1), 0x1000)]


class PciLegacy(Function):
    """Virtio over PCI before version 1 (4.1.4.10): ports."""
    legacy = True
    FEATURES, TAKEN, PFN, SIZE, SEL, NOTIFY, STATUS, ISR, CONFIG_VECTOR, VECTOR = 0, 4, 8, 12, 14, 16, 18, 19, 20, 22

    def __init__(self, machine, address):
        super().__init__(machine, address)
        self.id = self.get(0x2e, 2)

    def read(self, offset, size):
        return self.machine.read("pio", self.bar(0) + offset, size)

    def write(self, offset, value, size):
        self.machine.write("pio", self.bar(0) + offset, size, value)

    def status(self):
        return self.read(self.STATUS, 1)

    def set_status(self, value):
        self.write(self.STATUS, value, 1)

    def offered(self):
        return self.read(self.FEATURES, 4)

    def take(self, features):
        self.write(self.TAKEN, features & 0xffffffff, 4)

    def queue_max(self, index):
        self.write(self.SEL, index, 2)
        return self.read(self.SIZE, 2)

    def set_queue(self, index, size, desc, avail, used):
        """The size is the device's choice, and the place of all is that of the descriptors."""
        self.write(self.SEL, index, 2)
        assert desc % 4096 == 0 and avail == desc + 16 * size
        assert used == (avail + 6 + 2 * size + 4095) & ~4095

    def enable(self, index, desc):
        self.write(self.SEL, index, 2)
        self.write(self.PFN, desc >> 12, 4)

    def enabled(self, index):
        self.write(self.SEL, index, 2)
        return self.read(self.PFN, 4) != 0

    def reset_queue(self, index):
        self.write(self.SEL, index, 2)
        self.write(self.PFN, 0, 4)

    def resetting(self, index):
        return self.enabled(index)

    def notify(self, index):
        self.write(self.NOTIFY, index & 0xffff, 2)

    def interrupts(self):
        return self.read(self.ISR, 1)

    def config_offset(self):
        return 24 if self.get(self.msix_cap() + 2, 2) & 0x8000 else 20

    def config(self, offset, size):
        return self.read(self.config_offset() + offset, size)

    def set_config(self, offset, value, size):
        self.write(self.config_offset() + offset, value, size)

    def registers(self):
        return [("pio", self.bar(0), 0x20), ("mmio", self.bar(4), 0x4000), ("mmio", self.bar(1), 0x1000)]


def transport(machine, name):
    """What carries the device of that name."""
    function = next((f for f in machine.pci() if f["name"] == name), None)
    if function:
        return (PciLegacy if function["device"] < 0x1040 else Pci)(machine, function["address"])
    space, region = machine.region(name)
    return Mmio(machine, space, region["base"])


class Queue:
    """The driver's side of a ring, split or packed, in guest memory at `base`."""

    def __init__(self, machine, base, size, packed):
        self.machine, self.size, self.packed = machine, size, packed
        self.desc = base
        self.avail = base + 16 * size
        self.used = (self.avail + 6 + 2 * size + 4095) & ~4095
        self.end = (self.used + 6 + 8 * size + 4095) & ~4095
        machine.mem_write(base, bytes(self.end - base))
        self.avail_idx = self.used_idx = 0
        self.avail_wrap = self.used_wrap = 1
        self.free = list(range(size))
        self.chains = {}  # id to its descriptors

    def u16(self, gpa):
        return struct.unpack("<H", self.machine.mem_read(gpa, 2))[0]

    def put(self, slot, gpa, size, flags, last, table=None):
        """A descriptor as it is, whatever that means. `last`: split: next; packed: id."""
        last = (flags, last) if not self.packed else (last, flags)
        self.machine.mem_write((self.desc if table is None else table) + 16 * slot,
                               struct.pack("<QIHH", gpa, size, *last))

    def offer(self, head):
        """Split: makes descriptor `head` available, whatever it says."""
        self.machine.mem_write(self.avail + 4 + 2 * (self.avail_idx % self.size), struct.pack("<H", head & 0xffff))
        self.set_avail(self.avail_idx + 1)

    def set_avail(self, idx):
        self.avail_idx = idx & 0xffff
        self.machine.mem_write(self.avail + 2, struct.pack("<H", self.avail_idx))

    def add(self, out, in_):
        """Buffers, (gpa, size) each: `out` is for the device to read. The chain's id."""
        buffers = [(gpa, size, 0) for gpa, size in out] + [(gpa, size, WRITE) for gpa, size in in_]
        slots = [self.free.pop(0) for _ in buffers]
        chain = slots[0]
        self.chains[chain] = slots
        if not self.packed:
            for i, (gpa, size, flags) in enumerate(buffers):
                last = i + 1 == len(buffers)
                self.put(slots[i], gpa, size, flags | (0 if last else NEXT), 0 if last else slots[i + 1])
            self.offer(chain)
            return chain
        lines = []
        for i, (gpa, size, flags) in enumerate(buffers):
            wrap = self.avail_wrap
            slot = self.avail_idx + i
            if slot >= self.size:
                slot, wrap = slot - self.size, 1 - wrap
            flags |= (0 if i + 1 == len(buffers) else NEXT) | (0x80 if wrap else 0x8000)
            lines.append((slot, gpa, size, flags, chain))
        for line in reversed(lines):
            self.put(*line)
        self.avail_idx += len(buffers)
        if self.avail_idx >= self.size:
            self.avail_idx, self.avail_wrap = self.avail_idx - self.size, 1 - self.avail_wrap
        return chain

    def get(self):
        """(id, bytes written) of the next that the device has given back, or None."""
        if self.packed:
            at = self.desc + 16 * self.used_idx
            _, size, chain, flags = struct.unpack("<QIHH", self.machine.mem_read(at, 16))
            if (flags >> 7 & 1) != self.used_wrap or (flags >> 15) != self.used_wrap:
                return None
            self.used_idx += len(self.chains.get(chain, [0]))
            if self.used_idx >= self.size:
                self.used_idx, self.used_wrap = self.used_idx - self.size, 1 - self.used_wrap
        else:
            if self.u16(self.used + 2) == self.used_idx:
                return None
            at = self.used + 4 + 8 * (self.used_idx % self.size)
            chain, size = struct.unpack("<II", self.machine.mem_read(at, 8))
            self.used_idx = (self.used_idx + 1) & 0xffff
        self.free += self.chains.pop(chain, [])
        return chain, size


class Driver:
    def __init__(self, carrier, number=0):
        """`number` tells drivers of one machine apart: each has memory of its own."""
        self.t, self.machine = carrier, carrier.machine
        self.memory = MEMORY + number * MEMORY_EACH
        self.features = 0
        self.queues = {}
        self.next = self.memory

    def alloc(self, size, align=4096):
        gpa = (self.next + align - 1) & ~(align - 1)
        self.next = gpa + size
        assert self.next <= self.memory + MEMORY_EACH, "out of the driver's memory"
        return gpa

    def reset(self):
        """And waits until it is over."""
        self.t.set_status(0)
        self.until(lambda: self.t.status() == 0, "the reset is not over")
        self.queues = {}
        self.next = self.memory

    @staticmethod
    def until(done, what, seconds=60):
        """Devices have threads of their own, so a test may have to wait."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, what
            time.sleep(0.001)

    def negotiate(self, features=None, packed=False, without=0):
        """Up to FEATURES_OK; whether the device agreed. Without `features` all that is offered, but packed rings."""
        self.t.set_status(ACKNOWLEDGE)
        self.t.set_status(ACKNOWLEDGE | DRIVER)
        if features is None:
            features = self.t.offered() & ~(0 if packed else 1 << PACKED) & ~(1 << EVENT_IDX) & ~without
        self.features = features
        self.t.take(features)
        if self.t.legacy:
            return True
        self.t.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        return bool(self.t.status() & FEATURES_OK)

    def has(self, bit):
        return bool(self.features >> bit & 1)

    def make_queue(self, index, size=None):
        """Sets it up and enables it."""
        size = size or self.t.queue_max(index)
        queue = Queue(self.machine, self.alloc(0), size, self.has(PACKED))
        self.next = queue.end
        self.t.set_queue(index, size, queue.desc, queue.avail, queue.used)
        self.t.enable(index, queue.desc)
        self.queues[index] = queue
        return queue

    def start(self, queues=1, size=None, **negotiation):
        """All of it: reset, features, that many queues, DRIVER_OK."""
        self.reset()
        assert self.negotiate(**negotiation), "the device refused the features"
        for index in range(queues):
            self.make_queue(index, size)
        self.ready()

    def ready(self):
        self.t.set_status(self.t.status() | DRIVER_OK)

    def send(self, index, out, in_):
        """Offers bytes and room for so many bytes, each a descriptor, and kicks. (id, where the room is)."""
        places = []
        for data in out:
            gpa = self.alloc(len(data), 1)
            self.machine.mem_write(gpa, data)
            places.append((gpa, len(data)))
        room = [(self.alloc(size, 1), size) for size in in_]
        chain = self.queues[index].add(places, room)
        self.t.notify(index)
        return chain, room

    def wait(self, index):
        """(id, bytes written) of the next one given back."""
        got = []

        def look():
            one = self.queues[index].get()
            if one is not None:
                got.append(one)
            return got

        self.until(look, f"queue {index} gives nothing back")
        return got[0]

    def exchange(self, index, out, in_):
        """One request and its answer: the bytes that the device wrote."""
        at = self.next
        chain, room = self.send(index, out, in_)
        used, written = self.wait(index)
        assert used == chain, f"{used} was given back, not {chain}"
        answer = b"".join(self.machine.mem_read(gpa, size) for gpa, size in room)[:written]
        self.next = at
        return answer

    def broken(self):
        """Waits until the device says that it needs a reset."""
        self.until(lambda: self.t.status() & NEEDS_RESET, "the device does not say that it needs a reset")
