#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""--console: each kind of back end with a flat guest behind it; what is lost, what is kept, what is left behind."""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import flat  # noqa: E402
from refusal import refuse  # noqa: E402
import tap  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
TEMP = tempfile.TemporaryDirectory(prefix="trapline-console-")
DIR = TEMP.name
USABLE = os.access("/dev/kvm", os.R_OK | os.W_OK)
HOST, USAGE, IMAGE, KVM, QUIT = 1, 2, 3, 4, 20
MUCH = 144 << 10  # more than ring and pipe, which lie between a guest and who reads, have room for
SOCKETFUL = 96 << 10  # more than the ring has room for
SOME = 16 << 10


def at(name):
    return os.path.join(DIR, name)


def kernel(code):
    # Each its own: one that has just been started may not have read its file yet.
    return flat.write(tempfile.mktemp("-kernel", "", DIR), code)


class Run:
    """trapline with a flat guest, on no terminal."""

    def __init__(self, code, *consoles, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, options=()):
        if not USABLE:
            raise tap.Skip("no usable /dev/kvm: the lab tests consoles with a stock kernel")
        words = [word for console in consoles for word in ("--console", console)]
        self.process = subprocess.Popen([TRAPLINE, "run", kernel(code), *words, *options], stdin=stdin, stdout=stdout,
                                        stderr=subprocess.PIPE)
        self.stderr = ""

    def ends(self, status=0, timeout=100):
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"it goes on after {timeout} s") from None
        self.stderr += err.decode()
        assert self.process.returncode == status, f"status {self.process.returncode}, not {status}: {self.stderr!r}"
        return out

    def quit(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ends(QUIT)


def refused(*words, status=USAGE, has=()):
    result = subprocess.run([TRAPLINE, "run", *([] if "-k" in words else [kernel(b"\xf4")]), *words], capture_output=True, text=True, timeout=tap.PATIENCE,
                            check=False, stdin=subprocess.DEVNULL)
    refuse(result, status, *has)


def try_connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(tap.PATIENCE)
    try:
        client.connect(path)
        return client
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None


def connect(path):
    return tap.until(lambda: try_connect(path), "somebody listens at " + path)


def written(path):
    return os.path.exists(path) and os.path.getsize(path) > 0


def receive(client, count=None, until=None):
    """Bytes from a socket: `count` of them, up to and with `until`, or all to its end."""
    data = b""
    while (count is None or len(data) < count) and (until is None or until not in data):
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data


def test_what_is_wrong_is_told():
    refused("--console", "seriel", has=["--console", "seriel", "stdio", "socket:PATH"])
    refused("--console", "serial4=pty", has=["serial4", "serial0 to serial3"])
    refused("--console", "file:", has=["file:PATH"])
    refused("--console", "socket", has=["socket:PATH"])
    refused("--console", "pty:x", has=["pty"])
    refused("--console", "socket:" + "x" * 200, has=["200 bytes", "107"])
    refused("--console", "stdio", "--console", "serial2=stdio", has=["serial0", "serial2", "both"])
    refused("--console", "file:x", "--console", "serial3=file:x", has=["'x'", "serial0", "serial3"])
    refused("--tty", "4", has=["--tty", "'4'", "0 to 3"])
    refused("--tty", "x", has=["--tty"])
    refused(*["--console=none"] * 33, has=["32 times"])


def test_what_cannot_be_opened_is_told():
    folder = at("nowhere/x")
    refused("--console", "file:" + folder, has=["serial0", folder, "No such file"])
    refused("--console", "serial1=socket:" + folder, has=["serial1", folder, "No such file"])
    with open(at("plain"), "w", encoding="ascii"):
        pass
    refused("--console", "socket:" + at("plain"), has=[at("plain"), "no socket"])
    assert os.path.exists(at("plain")), "a file that is no socket is gone"
    os.mkfifo(at("fifo"))
    refused("--console", "file:" + at("fifo"), has=["fifo", "nobody reads"])


def test_a_start_that_fails_leaves_files_as_they_were():
    for options in (["--console", "file:"], ["--stats", ""], ["--debugcon", "file:"]):
        old, new = at("old"), at("new")
        with open(old, "wb") as file:
            file.write(b"precious")
        for path in (old, new):
            # The kernel is looked at behind all of these; KVM is asked later still.
            refused(options[0], options[1] + path, "-k", at("no-kernel"), status=IMAGE, has=["no-kernel"])
            refused(options[0], options[1] + path, "--kvm-device", "/dev/null", status=KVM, has=["/dev/null"])
        with open(old, "rb") as file:
            assert file.read() == b"precious", options
        assert not os.path.exists(new), f"{options}: an empty file is left"


def test_files_are_emptied_when_the_guest_runs():
    run_files = {name: at("full-" + name) for name in ("console", "stats", "debugcon")}
    for path in run_files.values():
        with open(path, "wb") as file:
            file.write(b"x" * 65536)
    Run(flat.say(b"hello") + flat.POWER_OFF, "file:" + run_files["console"],
        options=["--stats", run_files["stats"], "--debugcon", "file:" + run_files["debugcon"]]).ends()
    with open(run_files["console"], "rb") as file:
        assert file.read() == b"hello"
    with open(run_files["stats"], encoding="ascii") as file:
        assert json.load(file)["exits"] > 0
    assert os.path.getsize(run_files["debugcon"]) == 0


def test_a_link_is_followed():
    os.symlink("new-behind", at("link"))
    os.symlink("/dev/stdout", at("out"))
    Run(flat.say(b"hello") + flat.POWER_OFF, "file:" + at("link")).ends()
    with open(at("new-behind"), "rb") as file:
        assert file.read() == b"hello"
    assert Run(flat.say(b"hello") + flat.POWER_OFF, "file:" + at("out")).ends() == b"hello"


def test_a_dry_run_touches_nothing():
    subprocess.run([TRAPLINE, "run", kernel(b"\xf4"), "--dry-run", "--console", "file:" + at("dry"), "--console",
                    "serial1=socket:" + at("dry2")], check=True, stdout=subprocess.DEVNULL, timeout=tap.PATIENCE)
    assert not os.path.exists(at("dry")) and not os.path.exists(at("dry2"))


def test_each_port_has_its_own():
    paths = [at(f"port{i}") for i in range(4)]
    bases = [0x3F8, 0x2F8, 0x3E8, 0x2E8]
    code = b"".join(flat.say(b"this is port %d\n" % i, base) for i, base in enumerate(bases))
    out = Run(code + flat.POWER_OFF, "file:" + paths[0], "serial1=file:" + paths[1], "serial2=stdio",
              "serial3=file:" + paths[3]).ends()
    assert out == b"this is port 2\n", out
    for i in (0, 1, 3):
        with open(paths[i], "rb") as file:
            assert file.read() == b"this is port %d\n" % i


def test_none_is_silent():
    run = Run(flat.say(b"hello") + flat.POWER_OFF, "none")
    assert run.ends() == b""
    assert run.stderr == ""


def test_a_file_on_a_full_disk_does_not_stop_the_guest():
    run = Run(flat.stream(SOME) + flat.POWER_OFF, "file:/dev/full", options=["--debug"])
    run.ends()
    assert len(re.findall("bytes of output were lost", run.stderr)) == 1, run.stderr
    assert f"serial0: {SOME} bytes of output were lost" in run.stderr, run.stderr


def test_a_closed_pipe_does_not_stop_the_guest():
    read, write = os.pipe()
    run = Run(flat.stream(SOME) + flat.POWER_OFF, stdout=write, options=["--debug"])
    os.close(write)
    assert os.read(read, 1) == flat.pattern(1)
    os.close(read)
    run.ends()
    assert len(re.findall("bytes of output were lost", run.stderr)) == 1, run.stderr


def test_a_terminal_that_goes_away_does_not_stop_the_guest():
    master, slave = pty.openpty()
    run = Run(flat.stream(SOME) + flat.POWER_OFF, stdin=slave, stdout=slave, options=["--debug"])
    os.close(slave)
    os.read(master, 1)
    os.close(master)
    run.ends()
    assert "bytes of output were lost" in run.stderr, run.stderr


def test_what_was_written_before_power_off_arrives_by_a_slow_pipe():
    read, write = os.pipe()
    run = Run(flat.stream(MUCH) + flat.POWER_OFF, stdout=write)
    os.close(write)
    data = b""
    while piece := os.read(read, 24 << 10):
        data += piece
        time.sleep(0.05)
    os.close(read)
    run.ends()
    assert data == flat.pattern(MUCH), f"{len(data)} bytes of {MUCH}"


def test_what_was_written_before_power_off_arrives_by_a_slow_socket():
    path = at("slow")
    run = Run(flat.echo(until=b"!") + flat.stream(SOCKETFUL) + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    client.sendall(b"!")
    data = b""
    while piece := client.recv(24 << 10):
        data += piece
        time.sleep(0.05)
    run.ends()
    assert data == flat.pattern(SOCKETFUL), f"{len(data)} bytes of {SOCKETFUL}"
    assert not os.path.exists(path), "the socket is left behind"


def test_a_reader_that_stopped_does_not_hold_up_who_polls():
    read, write = os.pipe()
    run = Run(flat.stream(MUCH, interrupt=False) + flat.say(b"\n", 0x2F8) + flat.POWER_OFF, "stdio",
              "serial1=file:" + at("done"), stdout=write, options=["--debug"])
    os.close(write)
    tap.until(lambda: written(at("done")), "the guest goes on")
    # It has gone on, although nobody has read a byte so far. What was kept is the stream's beginning.
    data = b""
    while piece := os.read(read, 65536):
        data += piece
    os.close(read)
    run.ends()
    assert data and data == flat.pattern(MUCH)[:len(data)] and len(data) < MUCH
    assert f"serial0: {MUCH - len(data)} bytes of output were lost" in run.stderr, run.stderr


def test_a_socket_shows_what_was_said_before():
    path = at("history")
    text = b"".join(b"line %05d\r\n" % i for i in range(400))
    run = Run(flat.say(text) + flat.echo() + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    assert receive(client, len(text)) == text
    # Another is told who has it; the first goes on.
    second = connect(path)
    assert receive(second) == b"trapline: serial0 has a client already\r\n"
    second.close()
    client.sendall(b"abc")
    assert receive(client, 3) == b"abc"
    client.close()
    # Attached again, the last of all that was said.
    client = connect(path)
    assert receive(client, len(text) + 3) == text + b"abc"
    client.sendall(b"q")
    assert receive(client) == b""
    run.ends()
    assert not os.path.exists(path), "the socket is left behind"


def test_history_is_bounded_and_begins_with_a_line():
    path = at("bounded")
    text = b"".join(b"line %07d\r\n" % i for i in range(3000))
    code = flat.port(0x3F8) + b"\xbe\x00\x10\x10\x00\xb9" + len(text).to_bytes(4, "little")  # mov $0x101000, %esi; %ecx
    code = (code + b"\xf3\x6e" + flat.say(b"!", 0x2F8) + flat.echo() + flat.POWER_OFF).ljust(4096, b"\0")  # rep outsb
    run = Run(code + text, "socket:" + path, "serial1=file:" + at("all"))
    tap.until(lambda: written(at("all")), "the guest has said all")
    client = connect(path)
    data = receive(client, until=b"line 0002999\r\n")
    assert text.endswith(data) and data.startswith(b"line "), data[:50]
    assert 32 * 1024 - 16 <= len(data) <= 32 * 1024, len(data)
    client.sendall(b"q")
    run.ends()


def test_a_client_may_close_its_half():
    path = at("half")
    run = Run(flat.echo() + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    client.sendall(b"12345")
    client.shutdown(socket.SHUT_WR)
    assert receive(client, 5) == b"12345"
    client.close()
    other = connect(path)
    other.sendall(b"678q")
    assert b"678" in receive(other)
    run.ends()


def test_what_a_client_sent_arrives_although_it_went():
    path = at("gone")
    run = Run(flat.echo() + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    data = bytes(ord("a") + i % 10 for i in range(20000))
    sender = threading.Thread(target=lambda: (client.sendall(data + b"."), client.close()))
    sender.start()
    sender.join()
    # The next one gets in at once, and what it sends comes after.
    other = connect(path)
    other.sendall(b"!")
    seen = receive(other, until=b"!")
    assert seen.endswith(b".!") and data.endswith(seen[:-2]), seen[-50:]
    other.close()
    other = connect(path)
    other.sendall(b"q")
    receive(other)
    run.ends()


def test_a_client_that_went_makes_room_although_the_guest_never_read_it():
    path = at("dead")
    run = Run(flat.say(b"here") + b"\xf4\xeb\xfd", "socket:" + path)
    client = connect(path)
    client.sendall(b"x" * 100000)
    client.close()
    client = connect(path)
    assert receive(client, 4) == b"here"
    run.quit()
    assert not os.path.exists(path)


def test_a_stale_socket_is_replaced_and_a_live_one_left_alone():
    path = at("stale")
    run = Run(flat.echo() + flat.POWER_OFF, "socket:" + path)
    connect(path).close()
    refused("--console", "socket:" + path, status=HOST, has=[path, "another process listens"])
    run.process.kill()
    run.ends(-signal.SIGKILL)
    assert os.path.exists(path)
    run = Run(flat.echo() + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    client.sendall(b"xq")
    assert receive(client) == b"x"
    run.ends()
    assert not os.path.exists(path)


def test_a_socket_that_was_replaced_by_somebody_is_not_removed():
    path = at("other")
    run = Run(flat.echo() + flat.POWER_OFF, "socket:" + path)
    client = connect(path)
    os.unlink(path)
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    client.sendall(b"q")
    run.ends()
    assert os.path.exists(path), "somebody else's socket was removed"
    os.unlink(path)


def pty_of(run, port):
    line = run.process.stderr.readline().decode()
    match = re.fullmatch(rf"trapline: {port} is (/dev/pts/\d+)\n", line)
    assert match, line
    return match.group(1)


def read_pty(path, count):
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    data = b""
    while len(data) < count and select.select([fd], [], [], tap.PATIENCE)[0]:
        data += os.read(fd, 4096)
    return fd, data


def test_a_pty_shows_what_was_said_before_and_takes_what_is_typed():
    for options, base, port in ((["--console", "pty"], 0x3F8, "serial0"), (["--tty", "2"], 0x3E8, "serial2")):
        text = b"".join(b"line %05d\r\n" % i for i in range(800))
        run = Run(flat.say(text, base) + flat.echo(base) + flat.POWER_OFF, options=options)
        path = pty_of(run, port)
        time.sleep(0.3)
        for extra in (b"", b"abc", b"abcabc"):
            fd, data = read_pty(path, len(text + extra))
            assert data == text + extra, (len(data), data[-40:])
            os.write(fd, b"abc")
            echoed = b""
            while len(echoed) < 3:
                echoed += os.read(fd, 3)
            assert echoed == b"abc"
            os.close(fd)
        with open(path, "wb", buffering=0) as file:
            file.write(b"q")
        # Its name may be another's by then.
        run.ends()


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
