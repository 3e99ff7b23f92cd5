# SPDX-License-Identifier: BSD-2-Clause
"""A client of `trapline device-test`: a machine's devices from Python. docs/device-test.md has the language.

    with Machine(trapline, "--pci-test") as m:
        m.outb(0x3f8, 0x41)
        assert m.serial_get() == b"A"
"""
import json
import subprocess

SECOND = 10 ** 9


class Refused(Exception):
    """The answer was an error; its text says why."""


class Machine:
    """One program, one machine; commands are methods."""

    def __init__(self, trapline, *options):
        self.process = subprocess.Popen([trapline, "device-test", *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1 << 16)
        self.events = []  # what devices asked for, until somebody takes them

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Ends the program; its exit status."""
        if self.process.stdin:
            self.process.stdin.close()
            self.process.stdin = None
        status = self.process.wait(90)
        self.process.stdout.close()
        return status

    def answer(self):
        """The next answer's words after "ok"; events before it are kept."""
        while True:
            line = self.process.stdout.readline()
            assert line.endswith("\n"), f"the program ended: {line!r}, status {self.process.wait(30)}"
            kind, _, rest = line[:-1].partition(" ")
            if kind == "event":
                self.events.append(rest)
            elif kind == "ok":
                return rest
            else:
                assert kind == "error", line
                raise Refused(rest)

    def send(self, *lines):
        """Sends lines without waiting for their answers."""
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()

    def command(self, line):
        self.send(line)
        return self.answer()

    def commands(self, lines, bunch=256):
        """Many commands at once, as a pipe takes them; their answers."""
        answers = []
        for first in range(0, len(lines), bunch):
            part = lines[first:first + bunch]
            self.send(*part)
            answers += [self.answer() for _ in part]
        return answers

    def take_events(self):
        events, self.events = self.events, []
        return events

    # accesses

    def reads(self, space, addrs, size):
        """The values at all of these addresses."""
        return [int(answer.split()[1], 0)
                for answer in self.commands([f"read {space} {addr:#x} {size}" for addr in addrs])]

    def read(self, space, addr, size):
        return self.read_claimed(space, addr, size)[1]

    def read_claimed(self, space, addr, size):
        """(bytes that somebody claimed, value)"""
        claimed, value = self.command(f"read {space} {addr:#x} {size}").split()
        return int(claimed), int(value, 0)

    def write(self, space, addr, size, *values):
        """How many bytes somebody claimed."""
        return int(self.command(f"write {space} {addr:#x} {size} " + " ".join(f"{value:#x}" for value in values)))

    def inb(self, port):
        return self.read("pio", port, 1)

    def inw(self, port):
        return self.read("pio", port, 2)

    def inl(self, port):
        return self.read("pio", port, 4)

    def outb(self, port, value):
        return self.write("pio", port, 1, value)

    def outw(self, port, value):
        return self.write("pio", port, 2, value)

    def outl(self, port, value):
        return self.write("pio", port, 4, value)

    # the rest of the machine

    def mem_read(self, gpa, size):
        return bytes.fromhex("".join(self.commands([f"mem read {gpa + at:#x} {min(4096, size - at)}"
                                                    for at in range(0, size, 4096)])))

    def mem_write(self, gpa, data):
        for at in range(0, len(data), 4096):
            self.command(f"mem write {gpa + at:#x} {data[at:at + 4096].hex()}")

    def now(self):
        """Nanoseconds since the machine's start."""
        return int(self.command("clock get").split()[0])

    def step(self, seconds):
        self.command(f"clock step {round(seconds * SECOND)}")

    def step_ns(self, ns):
        self.command(f"clock step {ns}")

    def jump(self, seconds):
        """The host's time of day is set, this much later."""
        self.command(f"clock jump {round(seconds * SECOND)}")

    def line(self, line):
        """(level, how often it was raised)"""
        return tuple(int(word) for word in self.command(f"irq {line}").split())

    def level(self, line):
        return self.line(line)[0]

    def raised(self, line):
        return self.line(line)[1]

    def msis(self):
        """(address, data) of the messages since the last time."""
        return [tuple(int(part, 0) for part in word.split("=")) for word in self.command("msi").split()[1:]]

    def serial_put(self, data, port=0):
        return int(self.command(f"serial {port} put {data.hex()}"))

    def serial_get(self, port=0):
        return bytes.fromhex(self.command(f"serial {port} get"))

    def map(self):
        return json.loads(self.command("map"))

    def region(self, name):
        """(space, region) of that name or, where names are not enough, the first of that device: "serial0"; or None."""
        return next(((space, region) for space, regions in self.map().items() for region in regions
                     if name in (region["name"], region["device"])), None)

    def devices(self):
        return json.loads(self.command("devices"))

    def pci(self):
        return json.loads(self.command("pci"))

    def windows(self):
        return json.loads(self.command("windows"))

    def counters(self):
        return json.loads(self.command("counters"))

    def press(self, button):
        """"power" or "sleep"; whether the guest listens."""
        return self.command(f"press {button}") == "1"

    def key(self, codes):
        """A key's scan codes (set 2), as it is pressed or let go; whether the guest takes them."""
        return self.command(f"key {codes.hex()}") == "1"

    def mouse(self, dx, dy, buttons=0):
        """Counts, right and up positive; buttons: 1 left, 2 right, 4 middle; whether the guest has the mouse on."""
        return self.command(f"mouse {dx} {dy} {buttons}") == "1"

    def reset(self):
        self.command("reset")
