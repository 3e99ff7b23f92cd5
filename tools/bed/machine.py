# SPDX-License-Identifier: BSD-2-Clause
"""The inner machine: starts QEMU with a stock kernel in it and talks to it.

Channels, each a socket pair that QEMU inherits, so nothing is left in the file system:
  log      L1's own console, kept in a file
  guest    a terminal in L1 that trapline gets; its bytes go to whoever asked for them
  control  requests to the shell loop in inner-init, and their answers
  events   lines that L1 sends on its own: "kvm" when it is up, "exit NAME STATUS" when a program ended
  poke     a byte now and then, for its interrupt; see POKE_SECONDS
"""

import dataclasses
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time

from . import arch as arches
from . import cross, initramfs, mended, packages
from .ui import Failure

HERE = os.path.dirname(os.path.abspath(__file__))

# Virtual time is the count of instructions, and while nobody runs it jumps to the next timer.
NOISE_FREE = ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off",
              "-rtc", "base=2024-01-01T00:00:00,clock=vm", "-seed", "42")

# The emulator may lose an interrupt: each VMEXIT clears a bit of the CPU's word of pending requests outside the lock under
# which a device's thread sets another. The local APIC then shows an interrupt pending that the CPU does not take until the
# next one comes; when the lost one was the one-shot timer's there is no next, and L1 sleeps. So there is always a next.
POKE_SECONDS = 0.2


class Lost(Exception):
    """The inner machine went away, or does not answer."""


class Stuck(Lost):
    """The inner machine runs, but gets nowhere."""


class Pipe:
    """One byte channel: a thread reads it, keeps what came, hands it to a listener."""

    def __init__(self, name):
        self.name = name
        self.ours, self.theirs = socket.socketpair()
        self.data = bytearray()
        self.closed = False
        self.listener = None
        self.changed = threading.Condition()

    def start(self):
        self.theirs.close()
        threading.Thread(target=self._read, name=self.name, daemon=True).start()

    def _read(self):
        while True:
            try:
                block = self.ours.recv(65536)
            except OSError:
                block = b""
            with self.changed:
                if block:
                    self.data += block
                else:
                    self.closed = True
                self.changed.notify_all()
            if not block:
                return
            if self.listener:
                self.listener(block)

    def send(self, data):
        try:
            self.ours.sendall(data)
        except OSError as error:
            raise Lost("%s: %s" % (self.name, error.strerror))

    def wait(self, ready, timeout):
        """Waits until ready(data) is not None, and returns that; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                result = ready(self.data)
                if result is not None:
                    return result
                if self.closed:
                    raise Lost("the inner machine ended")
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)


# The program's end is told twice: on the terminal, so that its output is known to be complete, and as an event.
_LAUNCH = """\
rm -f /run/{name}.pid
setsid sh -c 'exec <>/dev/{tty} >&0 2>&1; echo $$ >/run/{name}.pid; exec "$@"' sh {command}
status=$?
printf '%s' '{mark}' >/dev/{tty}
echo "exit {name} $status" >/dev/events
"""


class Program:
    """A program that runs in L1 on the guest terminal."""

    _number = 0

    def __init__(self, machine, name):
        Program._number += 1
        self.machine = machine
        self.name = name
        self.mark = b"\033[%d;%dx" % (os.getpid(), Program._number)  # no text of a guest looks like this
        self.pipe = machine.pipes["guest"]
        self.start = len(self.pipe.data)
        self.status = None

    def output(self):
        """What it has written so far, as it came (carriage returns included)."""
        data = bytes(self.pipe.data[self.start:])
        return data.partition(self.mark)[0]

    def ended(self):
        """Whether its terminal tells that it has ended; wait() then has the status at once."""
        return self.mark in self.pipe.data[self.start:]

    def send(self, data):
        self.pipe.send(data)

    def expect(self, pattern, timeout, begin=0, output=None):
        """Waits for a regular expression in the output from offset `begin` on; the match, or None.

        None comes after `timeout` seconds, or when the program has ended without showing it. `output` is another method
        than ours that tells what it has written.
        """
        compiled = re.compile(pattern if isinstance(pattern, bytes) else pattern.encode(), re.M)

        def ready(data):
            match = compiled.search((output or self.output)(), begin)
            return match or (False if self.ended() else None)

        return self.pipe.wait(ready, timeout) or None

    def wait(self, timeout):
        """Its exit status, or None when it still runs after `timeout` seconds."""
        if self.status is not None:
            return self.status
        end = time.monotonic() + timeout
        while True:
            event = self.machine.event(max(0.0, end - time.monotonic()))
            if event is None:
                if not self.machine.alive():
                    raise Lost("the inner machine ended")
                return None
            words = event.split()
            if words[:2] == ["exit", self.name]:
                self.status = int(words[2])
                self.pipe.wait(lambda data: True if self.ended() else None, 20)
                return self.status

    def lost(self):
        """Its machine was restarted: it has ended."""
        self.status = self.status or -signal.SIGKILL

    def kill(self):
        """Ends it the hard way, and waits for that."""
        if self.status is None:
            self.machine.sh("kill -9 $(cat /run/%s.pid)" % self.name)
            self.wait(20)


class Machine:
    """An inner machine with KVM. Use start(), then put() and sh(); stop() always works."""

    def __init__(self, arch, log, cache=None, memory=2048, cpus=1, bed=""):
        self.arch = arch
        self.log = log
        self.cache = cache or packages.Cache(arch)
        self.memory = memory
        self.cpus = cpus
        self.bed = bed  # one of arch.others; "": arch.machine
        self.process = None
        self.drives = []
        self.programs = {}
        self.pipes = {}
        self.events = queue.Queue()
        self._lock = threading.Lock()

    # Before the start: what is to be in L1's file system beside busybox and modules.

    def fetch(self):
        """Has what it needs from elsewhere: its kernel, and who emulates it. Slow only the first time."""
        self.kernel = self.cache.kernel(self.arch.inners.get(self.bed, self.arch.inner))
        self.emulator = self._emulator()

    def prepare(self, files=(), script=None):
        """Makes L1's initramfs; `files` are (path in L1, path here). Slow only the first time.

        `script` is for run_alone(): a shell script that L1 runs instead of serving requests.
        """
        self.fetch()
        modules = initramfs.Modules(self.kernel)
        archive = initramfs.Archive()
        archive.copy("init", os.path.join(HERE, "inner-init"))
        archive.file("etc/bed", "other_modules='%s'\nkvm_modules='%s'\nguest_tty=%s\n" % (
            " ".join(self.arch.modules), " ".join(self.arch.kvm_modules), self.arch.guest_tty))
        archive.file("etc/passwd", "root::0:0:root:/root:/bin/sh\n")
        if script:
            archive.file("etc/alone", script)
        for name, path in files:
            archive.copy(name, path)
        self.initrd = [initramfs.base(self.cache.busybox()),
                       modules.piece(self.arch.modules + self.arch.kvm_modules +
                                     tuple(modules.known(self.arch.shelf))), archive.bytes()]

    def _initrd_fd(self):
        """An anonymous file: QEMU reads it by its /dev/fd name, and it is gone with the last of us."""
        initrd = os.memfd_create("initrd")
        for piece in self.initrd:
            os.write(initrd, piece)
        return initrd

    def _command(self, accel, initrd, append=""):
        """The words for QEMU that all ways to run L1 share."""
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        return ["setpriv", "--pdeathsig", "KILL", *self.emulator,
                *(self.arch.others[self.bed] if self.bed else self.arch.machine), *accel,
                "-m", str(self.memory), "-smp", str(self.cpus),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", self.kernel.image, "-initrd", "/dev/fd/%d" % initrd,
                "-append", "console=%s quiet panic=-1 mitigations=off cryptomgr.notests %s %s %s" % (
                    self.arch.log_tty, self.arch.append, self.arch.appends.get(self.bed, ""), append)]

    def _emulator(self):
        suite = self.arch.emulators.get(self.bed)
        if suite:
            host = dataclasses.replace(arches.host(), name="%s-%s" % (arches.host().name, suite), suite=suite, guests={})
            return packages.Cache(host).command(self.arch.qemu_package, self.arch.qemu)
        if not shutil.which(self.arch.qemu):
            raise Failure("%s is not here; install package %s" % (self.arch.qemu, self.arch.qemu_package))
        if not self.arch.mended:
            return [self.arch.qemu]
        return mended.command(shutil.which(self.arch.qemu), packages.Cache(arches.host()).folder, arches.host().triplet)

    def start(self, timeout=60):
        """Boots it; returns when /dev/kvm is there and requests are served."""
        initrd = self._initrd_fd()
        command = self._command(("-accel", "tcg,thread=multi"), initrd)
        for name in ("log", "guest", "control", "events", "poke"):
            self.pipes[name] = Pipe(name)
        log = open(self.log, "wb", buffering=0)
        self.pipes["log"].listener = log.write
        self.pipes["events"].listener = self._event
        self._event_text = b""
        fds = [pipe.theirs.fileno() for pipe in self.pipes.values()] + [initrd]
        for name, pipe in self.pipes.items():
            command += ["-chardev", "socket,id=%s,fd=%d" % (name, pipe.theirs.fileno())]
        for number, path in enumerate(self.drives):
            readonly = "off" if os.stat(path).st_mode & 0o222 else "on"
            command += ["-drive", "file=%s,format=raw,if=none,id=drive%d,readonly=%s" % (
                            path.replace(",", ",,"), number, readonly),
                        "-device", "virtio-blk-pci,drive=drive%d" % number]
        command += ["-serial", "chardev:log", *self.arch.guest_tty_device, "-device", "virtio-serial-pci",
                    "-device", "virtserialport,chardev=control,name=control",
                    "-device", "virtserialport,chardev=events,name=events",
                    "-device", "virtserialport,chardev=poke,name=poke"]
        # Its own session: Ctrl-C is ours to handle, and it must not touch our terminal.
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        os.close(initrd)
        for pipe in self.pipes.values():
            pipe.start()
        first = self.event(timeout)
        if first != "kvm":
            said = "" if self.process.poll() is None else self.process.stdout.read().decode(errors="replace").strip()
            self.stop()
            if first == "nokvm":
                raise Failure("the inner machine has no /dev/kvm; see %s" % self.log)
            raise Failure("the inner machine does not come up%s; see %s" % (" (%s)" % said if said else "", self.log))
        threading.Thread(target=self._poke, args=(self.process, self.pipes["poke"]), name="poke", daemon=True).start()

    def restart(self, drives=()):
        """Cuts its power, and boots it anew: its memory is lost, the caches of its kernel with it.

        `drives`, raw images of this host, are its /dev/vda and on; one that nobody may write is read-only. What it has
        flushed to them, or written past its caches, is kept; so are the programs that were installed.
        """
        self.stop((signal.SIGKILL,))
        self.events = queue.Queue()
        self.drives = list(drives)
        self.start()
        for path, program in self.programs.items():
            self._install(program, path)

    def _poke(self, process, pipe):
        try:
            while process.poll() is None:
                pipe.send(b".")
                time.sleep(POKE_SECONDS)
        except Lost:
            pass

    def _event(self, block):
        self._event_text += block
        *lines, self._event_text = self._event_text.split(b"\n")
        for line in lines:
            self.events.put(line.decode(errors="replace").strip())

    def event(self, timeout):
        """The next event line, or None after `timeout` seconds or when the machine has ended."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self.events.get(timeout=min(0.2, max(0.0, end - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= end or self.process is None or self.process.poll() is not None:
                    return None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def _ask(self, request, timeout):
        control = self.pipes["control"]
        with self._lock:
            with control.changed:
                del control.data[:]
            control.send(request)

            def ready(data):
                line, newline, rest = bytes(data).partition(b"\n")
                if not newline:
                    return None
                status, length = (int(word) for word in line.split())
                return (status, rest) if len(rest) >= length else None

            answer = control.wait(ready, timeout)
        if answer is None:
            raise Lost("no answer from the inner machine in %g s" % timeout)
        return answer

    def put(self, path, data, mode=0o644, timeout=60):
        """Writes a file in L1."""
        data = data.encode() if isinstance(data, str) else data
        status, _ = self._ask(b"put %s %o %d\n" % (path.encode(), mode, len(data)) + data, timeout)
        if status != 0:
            raise Lost("%s cannot be written in the inner machine" % path)

    def sh(self, script, timeout=60):
        """Runs a shell script in L1: (status, output). One at a time, so keep them short."""
        script = script.encode()
        status, output = self._ask(b"sh %d\n" % len(script) + script, timeout)
        return status, output.decode(errors="replace")

    def install(self, program, path):
        """Puts a program of this host, with the libraries it needs, into L1; it is there after restart(), too."""
        self.programs[path] = program
        self._install(program, path)

    def _install(self, program, path):
        for name, library in self.libraries(program):
            status, _ = self.sh("[ -e %s ]" % name)
            if status != 0:
                with open(library, "rb") as file:
                    self.put(name, file.read(), 0o755)
        with open(program, "rb") as file:
            self.put(path, file.read(), 0o755)

    def libraries(self, program):
        """What a program for L1 needs beside itself: (path there, path here)."""
        return cross.libraries(self.arch, self.cache, program)

    def launch(self, name, command):
        """Starts a program in L1 with the guest terminal as its controlling terminal; returns a Program."""
        program = Program(self, name)
        self.put("/run/%s.sh" % name, _LAUNCH.format(
            name=name, tty=self.arch.guest_tty, mark=program.mark.decode(),
            command=" ".join(shlex.quote(word) for word in command)))
        status, output = self.sh("sh /run/%s.sh </dev/null >/dev/null 2>&1 &" % name)
        if status != 0:
            raise Lost("a program cannot be started in the inner machine: %s" % output.strip())
        return program

    def _cpu_seconds(self):
        """Processor time that QEMU has used."""
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run_alone(self, timeout, patience, halt=None):
        """Boots it with a clock that counts instructions and lets it run the script that it was prepared with.

        Returns what was printed. Stuck when it has printed nothing for `patience` seconds of processor time, Lost after
        `timeout` seconds of the host's or when `halt` (an event) says so. Its time is exact: a nanosecond an instruction, whatever else the host does. So that runs
        are equal to the digit there is one processor, no network, disk or request, and output goes to a file, which
        takes it at once.
        """
        initrd = self._initrd_fd()
        command = self._command(NOISE_FREE, initrd, "nokaslr")
        open(self.log, "wb").close()
        command += ["-serial", "file:" + self.log]
        self.process = subprocess.Popen(command, pass_fds=[initrd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        os.close(initrd)
        end = time.monotonic() + timeout
        size, since = 0, 0.0
        while self.process and self.process.poll() is None:
            if os.path.getsize(self.log) > size:
                size, since = os.path.getsize(self.log), self._cpu_seconds()
            elif self._cpu_seconds() > since + patience:
                self.stop()
                raise Stuck("the inner machine gets nowhere; see %s" % self.log)
            if time.monotonic() > end or (halt and halt.is_set()):
                self.stop()
                raise Lost("the inner machine did not end in %d s; see %s" % (timeout, self.log))
            time.sleep(0.1)
        self.stop()
        with open(self.log, errors="replace") as file:
            return file.read().replace("\r", "")

    def stop(self, signals=(signal.SIGTERM, signal.SIGKILL)):
        """Ends it at once. It has nothing worth saving."""
        process, self.process = self.process, None
        if process is None:
            return
        for sig in signals:
            try:
                process.send_signal(sig)
                process.wait(2)
                break
            except subprocess.TimeoutExpired:
                continue
        process.stdout.close()
        for pipe in self.pipes.values():
            pipe.ours.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        return False
