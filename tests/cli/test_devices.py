#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Options that add virtio devices: what a dry run shows of them, and what is said of bad ones."""
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import flat  # noqa: E402
from refusal import refuse  # noqa: E402
import tap  # noqa: E402

TRAPLINE = os.path.abspath(sys.argv[1])
DIR = tempfile.mkdtemp(prefix="trapline-devices-")
KERNEL = flat.write(os.path.join(DIR, "kernel"), flat.POWER_OFF)
HOST, USAGE, QUIT = 1, 2, 20
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def dry(*args, user=None):
    return subprocess.run([TRAPLINE, "run", "-k", KERNEL, "--dry-run", *args], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=60, check=False, user=user)


def device_test(*args, nodes=()):
    """A machine without KVM where /dev has nothing but `nodes`, which are for nobody, by a user who is nobody."""
    script = ("mount -t tmpfs none /dev\nfor node in %s; do touch /dev/$node; chmod 0 /dev/$node; done\n"
              'exec setpriv --reuid=65534 --clear-groups --regid=65534 "$@"' % " ".join(nodes))
    return subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", TRAPLINE, "device-test", *args], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def run(*args, **how):
    return subprocess.run([TRAPLINE, "run", "-k", KERNEL, *args], stdin=subprocess.DEVNULL, text=True, capture_output=True,
                          timeout=60, check=False, **how)


def machine(*args):
    result = dry("--json", *args)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return json.loads(result.stdout)


def test_without_options_there_is_none():
    assert machine()["virtio"] == []
    assert not [d for d in machine()["devices"] if "virtio" in d["type"]]


def test_devices_on_mmio():
    got = machine("--rng=transport=mmio", "--rng=transport=mmio-legacy")
    assert got["virtio"] == [{"name": "rng0", "type": "rng", "transport": "mmio"},
                             {"name": "rng1", "type": "rng", "transport": "mmio-legacy"}]
    regions = [r for r in got["bus"]["mmio"] if r["type"] == "virtio-mmio"]
    assert [(r["base"], r["size"], r["device"]) for r in regions] == [(0xd0000000, 0x200, "rng0"),
                                                                        (0xd0000200, 0x200, "rng1")]
    devices = [d for d in got["devices"] if d["type"] == "virtio-mmio"]
    assert [d["acpi_hid"] for d in devices] == ["LNRO0005"] * 2
    assert [i["line"] for d in devices for i in d["irqs"]] == [20, 21]
    text = dry("--rng=transport=mmio-legacy").stdout
    assert "\nvirtio        rng0 (rng on mmio-legacy)\n" in text, text


def test_devices_on_pci():
    got = machine("--rng", "--rng=transport=pci-legacy", "--rng=transport=mmio", "--rng")
    assert [v["transport"] for v in got["virtio"]] == ["pci", "pci-legacy", "mmio", "pci"]
    assert [(f["address"], f["device"], f["name"]) for f in got["pci"] if f["vendor"] == 0x1af4] == [
        ("0000:00:01.0", 0x1044, "rng0"), ("0000:00:02.0", 0x1005, "rng1"), ("0000:00:03.0", 0x1044, "rng3")]
    assert "\nvirtio        rng0 (rng on pci-legacy)\n" in dry("--rng=transport=pci-legacy").stdout


def test_more_devices_than_slots():
    assert len(machine(*["--rng"] * 31)["virtio"]) == 31
    refuse(dry(*["--rng"] * 32), USAGE, "--rng", "all slots of the PCI bus are taken", "transport=mmio")
    refuse(dry("--pci-test", *["--rng"] * 31), USAGE, "all slots of the PCI bus are taken")
    assert len(machine(*["--rng"] * 31, "--rng=transport=mmio")["virtio"]) == 32


def test_default_transport():
    assert machine("--virtio-transport", "mmio-legacy", "--rng", "--rng=transport=mmio")["virtio"] == [
        {"name": "rng0", "type": "rng", "transport": "mmio-legacy"}, {"name": "rng1", "type": "rng", "transport": "mmio"}]


def test_devices_are_moved_like_others():
    got = machine("--rng=transport=mmio", "--place", "rng0=pio:0x2000,irq=15")
    assert [r["base"] for r in got["bus"]["pio"] if r["device"] == "rng0"] == [0x2000]
    refuse(dry("--rng=transport=mmio", "--place", "serial0=mmio:0xd0000100"), USAGE, "rng0", "serial0", "in the way")
    refuse(dry("--rng=transport=mmio", "--place", "rng0=mmio:0xd0001000,irq=4"), USAGE, "interrupt 4", "serial0")


def test_interrupts_are_shared_when_there_are_no_more():
    lines = [d["irqs"][0]["line"] for d in machine(*["--rng=transport=mmio"] * 20)["devices"] if d["type"] == "virtio-mmio"]
    assert len(set(lines)) == 9 and lines[:9] == lines[9:18]


def test_balloon():
    assert machine("-m", "512", "--balloon=size=511M,transport=mmio")["virtio"] == [
        {"name": "balloon0", "type": "balloon", "transport": "mmio"}]
    refuse(dry("-m", "512", "--balloon=size=512"), USAGE, "--balloon size=512", "512 MiB is all that the guest has", "-m")
    refuse(dry("--balloon", "--balloon"), USAGE, "balloon1", "a machine has one balloon")
    refuse(dry("--balloon=size=much"), USAGE, "--balloon size=much", "size", "much")
    refuse(dry("--balloon=sise=1"), USAGE, "'sise'", "did you mean 'size'?")
    refuse(dry("--balloon=size"), USAGE, "'size' needs a value")
    refuse(dry("--baloon"), USAGE, "did you mean '--balloon'?")


def test_bad_words():
    refuse(dry("--rng=transprt=mmio"), USAGE, "--rng transprt=mmio", "'transprt'", "did you mean 'transport'?")
    refuse(dry("--rng=transport=mmmio"), USAGE, "'mmmio'", "did you mean 'mmio'?")
    refuse(dry("--rng=transport"), USAGE, "'transport' needs a value")
    refuse(dry("--rng=transport=mmio,transport=mmio"), USAGE, "given twice")
    refuse(dry("--virtio-transport", "isa"), USAGE, "--virtio-transport", "'isa'", "mmio-legacy")
    refuse(dry("--virtio-transport"), USAGE, "needs a value")
    refuse(dry("--rgn"), USAGE, "--rgn", "did you mean '--rng'?")


def test_folders():
    got = machine("--9p", DIR + ",share", "--9p", DIR + ",other,ro,chown=ignore,transport=mmio")
    assert got["virtio"] == [{"name": "9p0", "type": "9p", "transport": "pci"},
                             {"name": "9p1", "type": "9p", "transport": "mmio"}]
    refuse(dry("--9p", DIR), USAGE, "not of the form DIR,TAG")
    refuse(dry("--9p", DIR + ","), USAGE, "not of the form DIR,TAG")
    refuse(dry("--9p", DIR + "/none,share"), USAGE, "--9p", DIR + "/none", "No such file")
    refuse(dry("--9p", KERNEL + ",share"), USAGE, "--9p", KERNEL, "not a folder")
    refuse(dry("--9p", DIR + "," + "t" * 64), USAGE, "too long", "64", "63 at most")
    refuse(dry("--9p", DIR + ",a b"), USAGE, "--9p", "tag", "spaces")
    refuse(dry("--9p", DIR + ",a", "--9p", DIR + ",b", "--9p", DIR + ",a"), USAGE, "the tag 'a'", "already")
    refuse(dry("--9p", DIR + ",a,rw"), USAGE, "there is no 'rw'; a comma")
    refuse(dry("--9p", DIR + ",a,chown=no"), USAGE, "chown=no", "strict or ignore")
    refuse(dry("--9p", DIR + ",a,ro,ro"), USAGE, "given twice")


def test_devices_that_others_serve():
    got = machine("--vhost-user", "blk,socket=/x", "--vhost-user", "fs,tag=a,queues=3,reconnect,socket=/y,transport=mmio",
                  "--vhost-user", "45,socket=/z,wait=0", "--vhost-user", "net,socket=/n,mac=52:54:00:12:34:56")
    assert got["virtio"] == [{"name": "user0", "type": "blk", "transport": "pci"},
                             {"name": "user1", "type": "fs", "transport": "mmio"},
                             {"name": "user2", "type": "type 45", "transport": "pci"},
                             {"name": "user3", "type": "net", "transport": "pci"}]
    assert got["ram_from"] == "memory that other processes map (memfd)", got["ram_from"]
    assert machine("--rng")["ram_from"] == "anonymous memory"
    assert [f["device"] for f in got["pci"] if f["vendor"] == 0x1af4] == [0x1042, 0x1040 + 45, 0x1041]
    refuse(dry("--vhost-user", ""), USAGE, "--vhost-user", "not of the form")
    refuse(dry("--vhost-user", "blk"), USAGE, "--vhost-user", "no socket", "socket=PATH")
    refuse(dry("--vhost-user", "bkl,socket=/x"), USAGE, "'bkl'", "did you mean 'blk'?")
    for number in ("0", "64", "-1", "2x", "99999999999999999999"):
        refuse(dry("--vhost-user", number + ",socket=/x"), USAGE, number, "1 to 63")
    refuse(dry("--vhost-user", "blk,socket=" + "/x" * 100), USAGE, "200 bytes long")
    refuse(dry("--vhost-user", "blk,socket="), USAGE, "'socket' needs a value")
    refuse(dry("--vhost-user", "blk,sock=/x"), USAGE, "'sock'", "did you mean 'socket'?")
    refuse(dry("--vhost-user", "blk,socket=/x,queues=0"), USAGE, "queues=0", "1 to 64")
    refuse(dry("--vhost-user", "fs,socket=/x,queues=64"), USAGE, "queues=64", "1 to 63")
    refuse(dry("--vhost-user", "net,socket=/x,queues=2"), USAGE, "queues=2", "has 2, always")
    refuse(dry("--vhost-user", "blk,socket=/x,wait=-1"), USAGE, "wait=-1", "0 to 3600")
    refuse(dry("--vhost-user", "blk,socket=/x,tag=a"), USAGE, "tag=", "fs")
    refuse(dry("--vhost-user", "blk,socket=/x,mac=52:54:00:12:34:56"), USAGE, "mac=", "net")
    refuse(dry("--vhost-user", "net,socket=/x,mac=1"), USAGE, "mac=1")
    refuse(dry("--vhost-user", "fs,socket=/x,tag=" + "t" * 37), USAGE, "too long", "36 at most")
    refuse(dry("--vhost-user", "blk,socket=/x,reconnect=1"), USAGE, "'reconnect' takes no value")
    refuse(dry("--vhost-user", "fs,socket=/x,tag=a,transport=pci-legacy"), USAGE, "user0", "no legacy interface")


def test_nobody_serves():
    path = os.path.join(DIR, "unserved")
    refuse(run("--vhost-user", f"blk,wait=0,socket={path}"), HOST, "user0", path, "no such socket", "wait=")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    refuse(run("--vhost-user", f"blk,wait=0,socket={path}"), HOST, "user0", path, "nobody listens there")
    with open(path + ".file", "w", encoding="ascii"):
        pass
    # At once, whatever the wait.
    for other in (path + ".file", DIR):
        refuse(run("--vhost-user", f"blk,wait=1000,socket={other}"), USAGE, "user0", f"'{other}' is no socket")
        refuse(run("-n", f"socket={other}"), USAGE, "net0", f"'{other}' is no socket")
    # Who hangs up at once.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".mute")
        listener.listen(4)

        def hang_up():
            listener.accept()[0].close()
        other = threading.Thread(target=hang_up)
        other.start()
        refuse(run("--vhost-user", f"blk,wait=0,socket={path}.mute"), HOST, "user0", path, "it is gone")
        other.join()
    # A signal ends the wait.
    waiting = subprocess.Popen([TRAPLINE, "run", "-k", KERNEL, "--vhost-user", f"blk,wait=3000,socket={path}"], text=True,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    line = waiting.stderr.readline()
    assert "nobody listens there yet; waiting for 3000 s" in line, line
    waiting.terminate()
    assert waiting.wait(60) == 20, waiting.returncode
    assert "a signal ended the wait" in waiting.stderr.read()
    waiting.stderr.close()


def test_a_signal_ends_the_wait_for_a_program():
    """Programs that never answer, and do not end when they are told to: they are waited for, and gone with the start."""
    image = os.path.join(DIR, "unanswered.qcow2")
    with open(image, "wb") as file:
        # A header of version 2: 64 KiB clusters, 64 KiB, one L1 entry.
        file.write(struct.pack(">IIQIIQIIQQIIQ", 0x514649FB, 2, 0, 0, 16, 1 << 16, 0, 1, 0x30000, 0x10000, 1, 0, 0))
        file.truncate(1 << 18)
    names = ("passt", "qemu-storage-daemon", "virtiofsd")
    cases = [(["-n", "user"], "net0: passt"), (["-d", image], "disk0: qemu-storage-daemon")]
    if os.geteuid() == 0:
        cases.append((["--fs", f"{DIR},share,program={DIR}/virtiofsd"], "fs0: virtiofsd"))
    pid = os.path.join(DIR, "unanswered.pid")
    for name in names:
        with open(os.path.join(DIR, name), "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\ntrap '' TERM INT HUP\necho $$ >{pid}.new\nmv {pid}.new {pid}\nexec sleep 1000\n")
        os.chmod(file.name, 0o755)
    for args, told in cases:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = subprocess.Popen([TRAPLINE, "run", "-k", KERNEL, *args], text=True, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env={**os.environ, "PATH": DIR + ":" + os.environ["PATH"]},
                                       preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in ENDING])
            tap.until(lambda: os.path.exists(pid) or process.poll() is not None, f"{told} was started")
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            assert process.returncode == QUIT, (process.returncode, said)
            assert len(said.splitlines()) == 1 and told in said and "a signal ended the wait" in said, said
            with open(pid, encoding="ascii") as file:
                assert not os.path.exists("/proc/" + file.read().strip()), "the program is still there"
            os.unlink(pid)
    for name in names:
        os.unlink(os.path.join(DIR, name))


def test_folders_by_virtiofsd():
    got = machine("--fs", DIR + ",share,program=/bin/true", "--fs", DIR + ",other,ro,sandbox=chroot,program=/bin/true,transport=mmio")
    root = os.geteuid() == 0
    if root:
        assert got["virtio"] == [{"name": "fs0", "type": "fs", "transport": "pci"},
                                 {"name": "fs1", "type": "fs", "transport": "mmio"}]
    refuse(dry("--fs", DIR), USAGE, "not of the form DIR,TAG")
    refuse(dry("--fs", DIR + "/none,share"), USAGE, "--fs", DIR + "/none", "No such file")
    refuse(dry("--fs", KERNEL + ",share"), USAGE, "--fs", KERNEL, "not a folder")
    refuse(dry("--fs", DIR + "," + "t" * 37), USAGE, "too long", "36 at most")
    refuse(dry("--fs", DIR + ",a,sandbox=none"), USAGE, "sandbox=none", "namespace or chroot")
    refuse(dry("--fs", DIR + ",a,program=/bin/true", "--fs", DIR + ",a,program=/bin/true"), USAGE, "the tag 'a'", "already")
    # Where it cannot be had, 9P has the same folder by the same tag.
    refuse(dry("--fs", DIR + ",a,program=/none"), USAGE, "--fs", "program='/none'", "No such file")
    refuse(dry("--fs", DIR + ",a,program=" + KERNEL), USAGE, "--fs", f"program='{KERNEL}'", "Permission denied")
    os.chmod(DIR, 0o755)
    result = dry("--json", "--fs", "/tmp,a", **({"user": 65534} if root else {}))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["virtio"] == [{"name": "fs0", "type": "9p", "transport": "pci"}]
    assert json.loads(result.stdout)["ram_from"] == "anonymous memory"
    said = "so 9P serves it: mount -t 9p -o trans=virtio a /mnt"
    assert "virtiofsd" in result.stderr and said in result.stderr, result.stderr
    if root:
        result = dry("--fs", "/tmp,a,program=/bin/true", user=65534)
        assert "virtiofsd wants root" in result.stderr and said in result.stderr, result.stderr


def test_more_than_the_option_can_be_given():
    refuse(dry(*["--rng"] * 33), USAGE, "--rng: one too many", "32 times")


def image(name, size=1 << 20, head=b""):
    path = os.path.join(DIR, name)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def test_a_disk_is_writable_unless_it_says_otherwise():
    path = image("rw.img")
    assert machine("-d", path + ",rw")["virtio"] == machine("-d", path)["virtio"]
    refuse(dry("-d", path + ",rw,ro"), USAGE, "'ro' and 'rw' exclude each other")
    refuse(dry("-d", path + ",xy"), USAGE, "there is no 'xy'; a comma")
    refuse(dry("--vhost-user", "foo,socket=/x"), USAGE, "'foo'")


def test_disks():
    path, other = image("disk.img"), image("a,b")
    got = machine("-d", path, "--disk", other.replace(",", ",,") + ",ro,serial=abc,queues=2,transport=mmio")
    assert got["virtio"] == [{"name": "disk0", "type": "blk", "transport": "pci"},
                             {"name": "disk1", "type": "blk", "transport": "mmio"}]
    # The file is as it was, and free again.
    assert os.path.getsize(path) == 1 << 20
    assert machine("-d", path)["virtio"]


def test_files_that_are_no_disks():
    refuse(dry("-d", "/dev/null"), USAGE, "/dev/null", "neither a file nor a block device")
    refuse(dry("-d", DIR + "/none"), USAGE, DIR + "/none", "No such file")
    refuse(dry("-d", image("empty", 0)), USAGE, "empty: it has no bytes")
    refuse(dry("-d", image("small", 511)), USAGE, "smaller than a sector of 512")
    refuse(dry("-d", ""), USAGE, "not of the form FILE")
    refuse(dry("-d"), USAGE, "needs a value")


def test_a_disk_of_odd_size_is_cut():
    path = image("odd", 5000)
    result = dry("-d", path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ("trapline: disk '%s': 5000 bytes are no whole sectors of 512: the guest does not see the last "
                             "392\n" % path), result.stderr


def test_disks_of_other_formats():
    heads = (("qcow2", "QCOW2", b"QFI\xfb\0\0\0\3"), ("vmdk", "VMDK", b"KDMV"), ("vhdx", "VHDX", b"vhdxfile"),
             ("vdi", "VDI", bytes(64) + b"\x7f\x10\xda\xbe"))
    for name, title, head in heads:
        # How it begins and how it is called have to agree, or the user says it: the first is up to a raw disk's guest.
        assert machine("-d", image("disk." + name, head=head))["virtio"] == [
            {"name": "disk0", "type": "blk", "transport": "pci"}]
        path = image("disk", head=head)
        refuse(dry("-d", path), USAGE, path, f"begins like a {title} image, but is not called so", f"format={name} or format=raw")
        assert machine("-d", path + ",format=raw")["virtio"]
        assert machine("-d", path + ",format=" + name)["virtio"]
        path = image("raw." + name)
        refuse(dry("-d", path), USAGE, path, f"is called like a {title} image, but begins like none", "format=raw")
        assert machine("-d", path + ",format=raw")["virtio"]
    refuse(dry("-d", path + ",format=qcow3"), USAGE, "'format=qcow3'", "raw, qcow2")
    refuse(dry("-d", DIR + "/none.qcow2"), USAGE, DIR + "/none.qcow2", "No such file")
    path = image("keys.qcow2", head=b"QFI\xfb\0\0\0\3")
    refuse(dry("-d", path + ",serial=x"), USAGE, "'serial'", "qemu-storage-daemon has none")
    refuse(dry("-d", path + ",queues=9"), USAGE, "queues", "1 to 8")
    refuse(dry("-d", path + ",chown=ignore"), USAGE, "'chown' is for a folder")
    assert machine("-d", path + ",ro,direct,queues=3,transport=mmio-legacy")["virtio"]
    # Its header names a file below, in bytes 8 to 19, and no format of that.
    path = image("over.qcow2", head=b"QFI\xfb\0\0\0\2" + struct.pack(">QI", 512, 8) + bytes(52) + bytes(8))
    refuse(dry("-d", path), USAGE, path, "does not say which format", "qemu-img rebase")


def test_disks_of_servers():
    for uri in ("nbd://host:10809/disk", "nbd+unix:///?socket=/run/nbd", "nbd://[::1]"):
        assert machine("-d", uri + ",ro")["virtio"] == [{"name": "disk0", "type": "blk", "transport": "pci"}]
    assert machine("-d", "nbd://h/x,format=qcow2")["virtio"]
    for uri, words in (("nbds://host/disk", "none of them with TLS"), ("nbd://", "not of the form nbd://HOST"),
                       ("nbd+unix:///x", "not of the form nbd+unix"), ("nbd://h:99999/x", "not of the form")):
        refuse(dry("-d", uri), USAGE, uri, words)
    refuse(dry("-d", "nbd://h/x,format=x"), USAGE, "'format=x'")


def test_images_that_cannot_be_served():
    path = image("broken.qcow2", head=b"QFI\xfb\0\0\0\x63")
    lost = {**os.environ, "PATH": "/nonexistent"}
    refuse(run("-d", path, env=lost), HOST, "disk0", "qemu-storage-daemon: not installed", "apt install qemu-system-common")
    if not shutil.which("qemu-storage-daemon"):
        raise tap.Skip("no qemu-storage-daemon here")
    refuse(run("-d", path), USAGE, "disk0", path, "ended with status 1: Unsupported qcow2 version 99")
    refuse(run("-d", f"nbd+unix:///x?socket={DIR}/none"), USAGE, "disk0", "ended with status 1", "No such file")
    with open(path, "rb+") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        refuse(run("-d", path), HOST, path, f"in use: process {os.getpid()} (")


def test_an_image_that_is_named_twice():
    if not shutil.which("qemu-storage-daemon") or not shutil.which("qemu-img"):
        raise tap.Skip("no qemu-storage-daemon or qemu-img here")
    path = DIR + "/twice.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    refuse(run("-d", path, "-d", path), USAGE, path, "in use by this guest already", "named twice")


def test_a_disk_has_one_writer():
    path = image("shared")
    refuse(dry("-d", path, "-d", path), USAGE, path, "in use", "named twice", ",ro")
    refuse(dry("-d", path, "-d", path + ",ro"), USAGE, path, "in use", "named twice")
    assert len(machine("-d", path + ",ro", "-d", path + ",ro")["virtio"]) == 2
    with open(path, "rb+") as file:
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
        who = f"process {os.getpid()} ("
        refuse(dry("-d", path), USAGE, path, "in use: " + who, "has it")
        refuse(dry("-d", path + ",ro"), USAGE, path, "in use: " + who, "writes it")
    # A lock of the older kind, of which the kernel itself tells whose it is.
    with open(path, "rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        refuse(dry("-d", path), USAGE, path, "in use: " + who, "has it")


def test_who_has_a_disk():
    path, program = image("held"), os.path.join(DIR, "trapline")
    os.symlink(os.path.realpath(sys.executable), program)
    # A file is locked for reading or writing, until there is an end of input.
    lock = ("import fcntl, os, struct, sys\n"
            "file = open(sys.argv[1], 'rb+')\n"
            "kind = fcntl.F_RDLCK if 'ro' in sys.argv else fcntl.F_WRLCK\n"
            "fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', kind, os.SEEK_SET, 0, 0, 0))\n"
            "print(os.getpid(), flush=True)\n")
    child = lock + "sys.stdin.read()\n"
    parent = "import subprocess, sys\nsubprocess.run([%r] + sys.argv[1:2], check=False)\n" % sys.executable
    parent = parent.replace("] + sys", ", '-c', %r] + sys" % child)
    for words, text, ro in (([program, "-c", child, path, "--name", "web"], "(trapline, guest 'web') ", "writes it"),
                            ([program, "-c", child, path, "--name=db"], "(trapline, guest 'db') ", "writes it"),
                            ([program, "-c", child, path], "(trapline) ", "writes it"),
                            ([sys.executable, "-c", child, path, "--name", "web"], "(python", "writes it"),
                            ([program, "-c", parent, path, "--name=vm"], ", guest 'vm') ", "writes it"),
                            ([program, "-c", child, path, "ro"], "(trapline) ", None)):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            pid = int(holder.stdout.readline())
            refuse(dry("-d", path), USAGE, path, f"in use: process {pid} (", text, "has it", ",ro")
            if ro:
                refuse(dry("-d", path + ",ro"), USAGE, path, f"process {pid} ", text, ro)
            else:
                assert machine("-d", path + ",ro")["virtio"]
            holder.stdin.close()
    if os.geteuid() == 0:
        with subprocess.Popen([program, "-c", child, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            holder.stdout.readline()
            os.chmod(path, 0o666)
            os.chmod(DIR, 0o755)
            refuse(dry("-d", path, user="nobody"), USAGE, path, "in use: another process", "has it")
            holder.stdin.close()


def test_disks_that_may_not_be_written():
    path = image("locked-up")
    os.chmod(path, 0o444)
    if os.geteuid() == 0:
        assert machine("-d", path + ",ro")["virtio"]
        return  # root may
    refuse(dry("-d", path), USAGE, path, "Permission denied", ",ro")
    assert machine("-d", path + ",ro")["virtio"]


def test_words_of_disks():
    path = image("words")
    refuse(dry("-d", path + ",drect"), USAGE, "'drect'", "did you mean 'direct'?")
    refuse(dry("-d", path + ",ro,ro"), USAGE, "given twice")
    refuse(dry("-d", path + ",ro=1"), USAGE, "takes no value")
    for queues in ("0", "9", "x", "-1", "1x", ""):
        refuse(dry("-d", path + ",queues=" + queues), USAGE, "queues", "needs a value" if not queues else "1 to 8")
    refuse(dry("-d", path + ",serial=123456789012345678901"), USAGE, "serial", "longer than 20")
    assert machine("-d", path + ",serial=12345678901234567890,queues=8")["virtio"]


def test_a_folder_as_the_root():
    folder, other = (os.path.join(DIR, name) for name in ("root", "other"))
    for path in (folder, other):
        os.mkdir(path)
    got = machine("-d", folder, "-p", "quiet", "--9p", other + ",share", "-i", KERNEL)
    assert [(v["name"], v["type"]) for v in got["virtio"]] == [("root0", "9p"), ("9p0", "9p")]
    where = "root=/dev/root rootfstype=9p rootflags=trans=virtio,version=9p2000.L "
    assert got["cmdline"].endswith(where + "rw quiet"), got["cmdline"]
    assert machine("-d", folder + ",ro", "-i", KERNEL)["cmdline"].endswith(where + "ro")
    assert machine("-d", folder, "--no-default-params")["cmdline"] == ""
    refuse(dry("-d", folder, "-d", other), USAGE, other, f"the guest's root is the folder '{folder}' already")
    refuse(dry("-d", folder, "--9p", other + ",/dev/root"), USAGE, "the tag '/dev/root' is that of", folder)
    for key in ("direct", "serial=x", "queues=2", "format=raw"):
        refuse(dry("-d", f"{folder},{key}"), USAGE, f"'{key.split('=')[0]}' is for a disk", folder)
    refuse(dry("-d", folder + ",chown=x"), USAGE, "strict or ignore")
    refuse(dry("-d", image("disk"), "-d", image("disk2") + ",chown=ignore"), USAGE, "'chown' is for a folder")
    result = subprocess.run([TRAPLINE, "run", "--firmware", KERNEL, "-d", folder, "--dry-run"], capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, timeout=60, check=False)
    refuse(result, USAGE, "not with --firmware", "--9p DIR,TAG")


def test_a_kernel_that_cannot_mount_its_root():
    folder = os.path.join(DIR, "rooted")
    os.mkdir(folder)
    able = flat.write(os.path.join(DIR, "able"), flat.POWER_OFF + b"version=9p2000.L")
    for kernel, args, told in ((KERNEL, [], True), (KERNEL, ["-i", KERNEL], False), (able, [], False),
                               (KERNEL, ["-p", "root=/dev/vda"], False), (KERNEL, ["--no-default-params"], False)):
        result = subprocess.run([TRAPLINE, "run", "-k", kernel, "-d", folder, "--dry-run", *args], capture_output=True,
                                text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        assert ("no 9P of its own" in result.stderr) == told, (kernel, args, result.stderr)


def test_networks():
    got = machine("-n", "tap", "--network", "user,tcp=8080:80,mac=52:54:00:12:34:56", "--network", "none", "-n", "socket=/x")
    assert [(d["name"], d["type"]) for d in got["virtio"]] == [("net0", "net"), ("net1", "net"), ("net2", "net")]


def test_networks_in_kvmtools_words():
    got = machine("-n", "mode=tap,trans=virtio,tapif=tap9,guest_mac=52:54:00:12:34:56", "-n", "mode=user", "-n", "mode=none")
    assert [d["name"] for d in got["virtio"]] == ["net0", "net1"], got["virtio"]
    refuse(dry("-n", "mode=tup"), USAGE, "'tup' is no network", "did you mean 'tap'?")
    refuse(dry("-n", "user,trans=mmio"), USAGE, "trans=mmio", "transport=")
    refuse(dry("-n", "tap,tapif=a,ifname=b"), USAGE, "tapif= and ifname= are the same")
    refuse(dry("-n", "user,tapif=a"), USAGE, "ifname= goes with tap")


def test_values_without_their_key():
    refuse(dry("--balloon=64"), USAGE, "--balloon 64: '64' is not of the form size=SIZE")
    refuse(dry("--rng=mmio"), USAGE, "--rng mmio: 'mmio' is not of the form transport=WHICH")
    refuse(dry("--scsi", "naa.600140554cf3a18e"), USAGE, "'naa.600140554cf3a18e' is not of the form wwpn=NAA[,queues=N]")
    refuse(dry("--balloon=foo=64"), USAGE, "there is no 'foo'; its form is size=SIZE")
    refuse(dry("--balloon=sise=64"), USAGE, "there is no 'sise'", "did you mean 'size'?")


def test_networks_that_are_none():
    refuse(dry("-n", ""), USAGE, "--network", "WHAT[,KEY=VALUE]...")
    refuse(dry("-n", "tpa"), USAGE, "--network tpa", "'tpa' is no network", "did you mean 'tap'?")
    for key in ("mac=52:54:00:12:34:56", "guest_mac=52:54:00:12:34:56", "tapif=a", "trans=virtio", "transport=mmio", "vhost"):
        for none in ("none", "mode=none"):
            refuse(dry("-n", f"{none},{key}"), USAGE, f"--network {none},{key}: {key.split('=')[0]}",
                   ("= " if "=" in key else " ") + "does not go with none")
    assert machine("-n", "none", "--virtio-transport", "mmio")["virtio"] == []
    refuse(dry("-n", "bridge"), USAGE, "'bridge'", "user, tap, socket=PATH and none")
    refuse(dry("-n", "socket="), USAGE, "socket=PATH")
    refuse(dry("-n", "tap,ifnam=x"), USAGE, "'ifnam'", "did you mean 'ifname'?")
    refuse(dry("-n", "user,ifname=x"), USAGE, "ifname= goes with tap")
    refuse(dry("-n", "tap,tcp=80"), USAGE, "tcp= goes with user")
    refuse(dry("-n", "tap,fd=3,ifname=x"), USAGE, "ifname= does not go with fd=")
    for fd in ("0", "2", "x", "-1", "3x", "99999999999999999999"):
        refuse(dry("-n", "tap,fd=" + fd), USAGE, "fd=" + fd, "not a number")
    for queues in ("0", "9", "two"):
        refuse(dry("-n", "tap,queues=" + queues), USAGE, "queues=" + queues, "from 1 to 8")
    for mtu in ("67", "65536", "1e3"):
        refuse(dry("-n", "user,mtu=" + mtu), USAGE, "mtu=" + mtu, "from 68 to 65535")
    for mac in ("52:54:00:12:34", "52:54:00:12:34:56:78", "52-54-00-12-34-56", "5:54:0:12:34:56", "xx:54:00:12:34:56"):
        refuse(dry("-n", "user,mac=" + mac), USAGE, "mac=" + mac, "52:54:00:12:34:56")
    refuse(dry("-n", "user,mac=01:00:5e:00:00:01"), USAGE, "its first byte is odd")
    refuse(dry("-n", "user,mac=00:00:00:00:00:00"), USAGE, "no address")
    for ports in ("0", "http", "80:", "1-2:3-5", "80,,,,"):
        refuse(dry("-n", "user,tcp=" + ports), USAGE, "tcp=", "is no port to forward", "8080:80")
        refuse(dry("-n", "user,udp=" + ports), USAGE, "udp=", "is no port to forward")


def test_networks_that_the_host_has_not():
    refuse(run("-n", "socket=" + DIR + "/absent"), HOST, "net0", DIR + "/absent", "No such file")
    refuse(run("-n", "tap,fd=77"), USAGE, "net0", "fd=77", "Bad file descriptor")
    refuse(run("-n", "tap,ifname=0123456789abcdef"), USAGE, "net0", "15 characters")
    refuse(run("-n", "user", env={**os.environ, "PATH": "/nonexistent"}), HOST, "net0: passt", "apt install passt")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        refuse(run("-n", f"user,tcp=127.0.0.1/{port}:80"), HOST, f"TCP port {port}", "127.0.0.1", "another program")


def test_vsock():
    got = machine("--vsock", "3")
    assert got["virtio"] == [{"name": "vsock0", "type": "vsock", "transport": "pci"}]
    assert [(f["device"], f["class"]) for f in got["pci"] if f["name"] == "vsock0"] == [(0x1053, 0x0280)]
    # A dry run leaves the host alone.
    path = DIR + "/vsock"
    assert machine("--vsock", "4294967294,uds=" + path)["virtio"]
    assert not os.path.exists(path)
    for cid in ("0", "1", "2", "4294967295", "9999999999"):
        refuse(dry("--vsock", cid), USAGE, "--vsock " + cid, "no guest's CID", "3 to 4294967294")
    refuse(dry("--vsock", "2"), USAGE, "2 is the host's")
    for cid in ("x", "3x", "-3", "0x3", "99999999999999999999"):
        refuse(dry("--vsock", cid), USAGE, "--vsock", "'" + cid, "no CID")
    refuse(dry("--vsock", "3,uds="), USAGE, "uds=")
    refuse(dry("--vsock", "3,uds=" + "a" * 97), USAGE, "97 bytes long", "96 at most")
    refuse(dry("--vsock", "3,ud=x"), USAGE, "did you mean 'uds'?")
    refuse(dry("--vsock", "3", "--vsock", "4"), USAGE, "--vsock 4", "one such device")
    refuse(dry("--vsock", "3,transport=pci-legacy"), USAGE, "virtio-vsock has no legacy interface")


def test_scsi():
    wwpn = "naa.600140554cf3a18e"
    got = machine("--scsi", "wwpn=" + wwpn, "-c", "4")
    assert got["virtio"] == [{"name": "scsi0", "type": "scsi", "transport": "pci"}]
    assert [(f["device"], f["class"]) for f in got["pci"] if f["name"] == "scsi0"] == [(0x1048, 0x0100)]
    refuse(dry("--scsi", "queues=1"), USAGE, "--scsi queues=1", "which target?", "wwpn=naa.")
    for bad in ("naa.600140554cf3a18", wwpn + "0", "eui." + wwpn[4:], wwpn.upper(), "naa.600140554cf3a18x"):
        refuse(dry("--scsi", "wwpn=" + bad), USAGE, "wwpn=" + bad, "16 hexadecimal digits")
    for bad in ("0", "17", "x"):
        refuse(dry("--scsi", "wwpn=%s,queues=%s" % (wwpn, bad)), USAGE, "queues=" + bad, "from 1 to 16")
    refuse(dry("--scsi", "wwpn=" + wwpn, "--scsi", "wwpn=" + wwpn), USAGE, "this target already")
    refuse(device_test("--scsi", "wwpn=" + wwpn), HOST, "scsi0: /dev/vhost-scsi: No such file", "modprobe vhost_scsi")
    refuse(device_test("--scsi", "wwpn=" + wwpn, nodes=["vhost-scsi"]), HOST, "scsi0", "Permission denied", "for root")


def test_sockets_of_vsock():
    path = DIR + "/vsock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        refuse(run("--vsock", "3,uds=" + path), HOST, "vsock0", path, "another process listens")
    os.unlink(path)
    with open(path, "w", encoding="ascii"):
        pass
    refuse(run("--vsock", "3,uds=" + path), USAGE, "vsock0", path, "is no socket")
    os.unlink(path)
    refuse(run("--vsock", "3,uds=" + DIR + "/absent/x"), USAGE, "vsock0", DIR + "/absent/x", "No such file")
    result = run("--vsock", "3,uds=" + path)
    assert result.returncode == 0, result.stderr
    assert not os.path.exists(path)


def test_kernels_that_do_not_serve():
    refuse(device_test("--vsock", "3"), HOST, "vsock0: /dev/vhost-vsock: No such file", "modprobe vhost_vsock", "or uds=PATH")
    refuse(device_test("--vsock", "3", nodes=["vhost-vsock"]), HOST, "vsock0: /dev/vhost-vsock: Permission denied",
           "group kvm", "or uds=PATH")
    refuse(dry("-n", "user,vhost"), USAGE, "vhost goes with tap")
    refuse(dry("-n", "tap,vhost=on"), USAGE, "'vhost' takes no value")
    assert machine("-n", "tap,vhost,queues=2")["virtio"] == [{"name": "net0", "type": "net", "transport": "pci"}]


if __name__ == "__main__":
    sys.exit(tap.main(globals()))
