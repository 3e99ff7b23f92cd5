#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every end has its status and gives the terminal back; what is pressed or sent always arrives. Needs /dev/kvm."""
import fcntl
import os
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
DIR = tempfile.TemporaryDirectory(prefix="trapline-ends-")
QUIT = 20
USABLE = os.access("/dev/kvm", os.R_OK | os.W_OK)


def kernel(name, code):
    """A PVH kernel of these bytes of 32-bit code."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2,
                         0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 4096, 0x100000, 0x100000, len(code), len(code), 4096)
    segments += struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4)
    path = os.path.join(DIR.name, name)
    with open(path, "wb") as file:
        file.write((header + segments + note).ljust(4096, b"\0") + code)
    return path


SAY = b"\x66\xba\xf8\x03\xb0\x21\xee"  # mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx)
HALT = kernel("halt", SAY + b"\xfa\xf4\xeb\xfc")  # cli; 1: hlt; jmp 1b
SPEW = kernel("spew", SAY + b"\xeb\xfd")  # 1: out; jmp 1b


class Guest:
    """One on a terminal of its own, run until it has said something."""

    def __init__(self, *args, control=True, before=lambda: None, by=()):
        if not USABLE:
            raise tap.Skip("no usable /dev/kvm: the lab tests the console's ends there")
        self.master, self.slave = pty.openpty()
        self.old = termios.tcgetattr(self.slave)

        def prepare():
            os.setsid()
            if control:
                fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            before()

        self.process = subprocess.Popen([*by, TRAPLINE, "run", *args], preexec_fn=prepare, stdin=self.slave,
                                        stdout=self.slave, stderr=self.slave)
        assert select.select([self.master], [], [], 10)[0], "it says nothing"
        end = time.monotonic() + 5
        while not by and not self.raw() and time.monotonic() < end:
            time.sleep(0.01)

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def ends(self, status):
        try:
            got = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            got = "none, it goes on"
        after = termios.tcgetattr(self.slave)
        os.close(self.master)
        os.close(self.slave)
        assert got == status, f"status {got}, not {status}"
        assert after == self.old, "the terminal is not as it was"


def test_ctrl_a_x_quits_a_halted_guest():
    guest = Guest(HALT)
    assert guest.raw()
    os.write(guest.master, b"\x01x")
    guest.ends(QUIT)


def test_it_quits_although_much_was_typed_that_no_guest_took():
    guest = Guest(HALT)
    for _ in range(80):
        os.write(guest.master, b"z" * 100)
        time.sleep(0.001)
    os.write(guest.master, b"\x01x")
    guest.ends(QUIT)


def test_it_quits_although_nobody_reads_what_the_guest_says():
    guest = Guest(SPEW)
    time.sleep(0.5)
    os.write(guest.master, b"\x01x")
    guest.ends(QUIT)


def test_a_terminal_outside_of_job_control_is_raw_too():
    guest = Guest(HALT, control=False)
    assert guest.raw()
    os.write(guest.master, b"\x01x")
    guest.ends(QUIT)


def test_signals_quit():
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]:
        guest = Guest(HALT)
        guest.process.send_signal(number)
        guest.ends(QUIT)


def test_a_second_signal_changes_nothing():
    guest = Guest(SPEW)  # its end takes long enough: nobody reads
    time.sleep(0.3)
    guest.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    guest.process.send_signal(signal.SIGTERM)
    guest.ends(QUIT)


def test_signals_that_kill_restore_the_terminal():
    for number in [signal.SIGQUIT, signal.SIGUSR1, signal.SIGSEGV, signal.SIGABRT]:
        guest = Guest(HALT, before=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
        guest.process.send_signal(number)
        guest.ends(-number)


def test_a_signal_that_was_ignored_stays_so():
    guest = Guest(HALT, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    guest.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert guest.process.poll() is None, "SIGHUP ends it"
    guest.process.send_signal(signal.SIGTERM)
    guest.ends(QUIT)


def test_a_background_job_leaves_the_terminal_alone():
    # The session's leader stays in the foreground and hands the status on.
    leader = """if True:
        import os, sys
        child = os.fork()
        if child:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os.setpgid(0, 0)
        os.execv(sys.argv[1], sys.argv[1:])"""
    guest = Guest(HALT, by=[sys.executable, "-c", leader])
    assert not guest.raw()
    os.write(guest.master, b"typed at the shell\n")
    time.sleep(0.3)
    child = int(open(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children", encoding="ascii").read())
    state = open(f"/proc/{child}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()[0]
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGCONT)
    guest.ends(QUIT)
    assert state != "T", "it was stopped for reading the terminal"


def test_a_file_at_its_size_limit_is_like_a_full_disk():
    if not USABLE:
        raise tap.Skip("no usable /dev/kvm")
    with open(os.path.join(DIR.name, "out"), "wb") as out:
        process = subprocess.Popen([TRAPLINE, "run", SPEW], stdin=subprocess.DEVNULL, stdout=out, preexec_fn=lambda:
                                   resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)))
        end = time.monotonic() + 10
        while os.fstat(out.fileno()).st_size < 8192 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == QUIT


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
