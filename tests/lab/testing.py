# SPDX-License-Identifier: BSD-2-Clause
"""What a lab test sees: `t`, with which it boots guests under trapline in the inner machine and judges them."""

import json
import os
import re
import shlex
import time

from bed import initramfs, machine


class Failed(Exception):
    """The test's verdict: what was expected and what came."""


class Skipped(Exception):
    """The test cannot run here, and why."""


def without_messages(output):
    """What a guest has written: trapline's messages, whole lines of their own, come between any two bytes of it.

    Before what a key has it say trapline goes to a new line.
    """
    first, *rest = output.split(b"trapline: ")
    kept = [first]
    for piece in rest:
        message, end, after = piece.partition(b"\n")
        if end:
            # It ends in one more return for that.
            kept[-1] = kept[-1].removesuffix(b"\r\r\n" if message.endswith(b"\r\r") else b"")
            kept.append(after)
        else:
            kept.append(b"trapline: " + piece)
    return b"".join(kept)


class Guest:
    """trapline with a guest in it, running in L1 on a terminal."""

    def __init__(self, test, program):
        self.test = test
        self.program = program
        self.facts_seen = 0  # how much of told() the last fact() has consumed

    def log(self):
        return self.program.output().decode(errors="replace").replace("\r", "")

    def told(self):
        return without_messages(self.program.output())

    def lines(self):
        """What the guest has told so far, without trapline's messages."""
        return self.told().decode(errors="replace").replace("\r", "").split("\n")

    def send(self, text):
        """Types text into the guest's console."""
        self.program.send(text if isinstance(text, bytes) else text.encode())

    def expect(self, pattern, timeout=60, begin=0):
        """Waits for a regular expression on the console; its match object."""
        match = self.program.expect(pattern, self.test.left(timeout), begin)
        if match is None:
            self._ended("while waiting for '%s'" % pattern)
            raise Failed("the console never showed '%s' (waited %d s)" % (pattern, timeout))
        return match

    def fact(self, key, timeout=60, again=False):
        """Waits for the guest's `fact KEY value` and returns the value; with again=True for one not yet seen."""
        match = self.program.expect(r"^@%s(?: ([^\r\n]*))?\r*\n" % re.escape(key), self.test.left(timeout),
                                    self.facts_seen if again else 0, self.told)
        if match is None:
            self._ended("before it told '%s'" % key)
            raise Failed("the guest did not tell '%s' in %d s" % (key, timeout))
        self.facts_seen = max(self.facts_seen, match.end())
        return (match.group(1) or b"").decode(errors="replace")

    def facts(self, key, timeout=60):
        """Waits for the guest's `facts KEY` and returns its lines."""
        self.fact(key, timeout)
        begin = "@+%s " % key
        return [line[len(begin):] for line in self.lines() if line.startswith(begin)]

    def _ended(self, when):
        status = self.program.wait(1 if self.program.ended() else 0)
        if status is not None:
            raise Failed("trapline ended with status %d %s" % (status, when))

    def ends(self, status=0, timeout=60):
        """Waits for trapline's end, which has to have this exit status."""
        got = self.program.wait(self.test.left(timeout))
        if got is None:
            raise Failed("trapline still runs after %d s" % timeout)
        if got != status:
            raise Failed("trapline ended with status %d, not %d" % (got, status))

    def running(self):
        return self.program.wait(0) is None

    def memory(self, key="VmRSS"):
        """A size of trapline's process, in MiB."""
        return int(self.test.sh("sed -n 's/^%s:[ \t]*\\([0-9]*\\).*/\\1/p' /proc/%d/status" % (key, self.pid()))) / 1024

    def cpu_seconds(self):
        """Processor time that trapline's process has used so far."""
        fields = self.test.sh("cat /proc/%d/stat" % self.pid()).rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def pid(self):
        return int(self.test.sh("cat /run/%s.pid" % self.program.name))


class Test:
    """One run of one test. Messages of the check methods say what was wrong, in the test's own terms."""

    def __init__(self, name, inner, kernels, pieces, timeout, build, verbose=False):
        self.name = name
        self.inner = inner
        self.arch = inner.arch.name
        self.notes = []
        self.figures = {}  # numbers for the JSON of results, by name
        self.guests = []
        self.images = []
        self.transcript = []
        self.build = build
        self._kernels = kernels
        self._pieces = pieces
        self._deadline = time.monotonic() + timeout
        self._verbose = verbose

    def left(self, timeout):
        """`timeout`, but no more than what is left of the test's own."""
        return max(0.1, min(timeout, self._deadline - time.monotonic()))

    # doing

    def command(self, kernel="cloud", image="vmlinux", cpus=1, memory="256", append="", options=(), quiet=True,
                initrd="/tmp/initrd"):
        """The words of a `trapline run` for a stock kernel."""
        words = ["trapline", "run", "-k", self.kernel(kernel, image), "-m", str(memory), "-c", str(cpus)]
        if initrd:
            words += ["-i", initrd]
        # The self-tests of the kernel's ciphers are most of its boot here and prove nothing about us.
        extra = ["cryptomgr.notests"] if quiet else []
        if not self._verbose and quiet:
            extra.append("quiet")
        extra.append(append)
        return words + ["-p", " ".join(word for word in extra if word)] + list(options)

    def kernel(self, flavour="cloud", image="vmlinux"):
        """Where in L1 a kernel lies: image is "packaged" (as Debian ships it) or "vmlinux" (unpacked ELF)."""
        return self._kernels[flavour, image]

    def initrd(self, guest, files=(), modules="", path="/tmp/initrd", kernel="cloud"):
        """Makes an initramfs in L1 whose init runs the shell script `guest`, for a kernel; files are (name, bytes)."""
        archive = initramfs.Archive()
        archive.file("init", self._pieces["guest-init"], 0o755)
        archive.file("test.sh", guest)
        for name, data in files:
            archive.file(name, data, 0o755)
        self.inner.put(path + ".test", archive.bytes())
        self.sh("cat %s %s %s.test >%s" % (self._pieces["bases"][kernel], "/lab/modules." + modules if modules else "",
                                           path, path))
        return path

    def boot(self, guest="", files=(), modules="", **how):
        """Boots a guest on a terminal; see command() for `how`. `guest` is its shell script; it powers off after."""
        kernel = how.get("kernel", "cloud")
        self.initrd(guest, files, kernel if modules == "drivers" else modules, kernel=kernel)
        return self.start(self.command(**how))

    def start(self, words):
        """Starts a program in L1 on the guest terminal."""
        self.transcript.append("$ " + " ".join(shlex.quote(word) for word in words))
        program = self.inner.launch("test%d" % len(self.guests), words)
        self.guests.append(Guest(self, program))
        return self.guests[-1]

    def sh(self, script, timeout=60, status=0):
        """Runs a shell script in L1; its output. Its exit status has to be `status`, unless that is None."""
        got, output = self.inner.sh(script, self.left(timeout))
        if len(script) < 2000:
            self.transcript.append("L1# %s\n%s" % (script, output if len(output) < 20000 else "..."))
        if status is not None and got != status:
            raise Failed("'%s' ended with status %d, not %d: %s" % (
                script.strip().splitlines()[0], got, status, " | ".join(output.strip().splitlines()[-3:])))
        return output

    def image(self, name, size):
        """A new raw image of the host's, of `size` bytes, for restart(); its path. It goes with the test."""
        path = os.path.join(self.build, "lab", "%s.%s" % (self.name, name))
        with open(path, "wb") as file:
            file.truncate(size)
        self.images.append(path)
        return path

    def restart(self, drives=()):
        """Cuts the power of L1, whatever it is at, and boots it again; `drives` are as in bed/machine.py."""
        for guest in self.guests:
            guest.program.lost()
        self.transcript.append("---- L1 is killed, and boots again ----")
        self.inner.restart(drives)

    def machine(self, **how):
        """What `trapline run --dry-run --json` tells of the machine."""
        if "initrd" not in how:
            how["initrd"] = None
        words = self.command(**how) + ["--dry-run", "--json"]
        return json.loads(self.sh(" ".join(shlex.quote(word) for word in words)))

    # judging

    def equal(self, what, got, wanted):
        if got != wanted:
            raise Failed("%s: %s, expected %s" % (what, got, wanted))

    def check(self, good, text):
        if not good:
            raise Failed(text)

    def note(self, text):
        """Shown beside the result."""
        self.notes.append(text)

    def fail(self, text):
        raise Failed(text)

    def skip(self, text):
        raise Skipped(text)

    # afterwards

    def clean_up(self):
        """Ends what still runs in L1. Lost when that is impossible."""
        for guest in self.guests:
            guest.program.kill()
        status, output = self.inner.sh("pidof trapline && kill -9 $(pidof trapline); rm -rf /tmp/*; true", 20)
        if status != 0:
            raise machine.Lost("the inner machine cannot be cleaned: %s" % output)

    def log(self):
        text = "\n".join(self.transcript)
        for number, guest in enumerate(self.guests):
            text += "\n---- console of guest %d ----\n%s\n" % (number, guest.log())
        return text
