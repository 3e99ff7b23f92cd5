# SPDX-License-Identifier: BSD-2-Clause
"""SeaBIOS, from Debian's package, to its boot menu on the serial console."""

import os
import time

from bed import arch, packages

KERNELS = ()
SECONDS = 10
CASES = {
    "seabios": {"rom": "bios-256k.bin", "cpus": "2"},
    "seabios-128k": {"rom": "bios.bin", "cpus": "1"},
    "seabios-microvm": {"rom": "bios-microvm.bin", "cpus": "1"},
}


def build(folder):
    """The ROMs, from packages that are downloaded and unpacked."""
    folder = os.path.join(packages.Cache(arch.find("x86_64")).package("seabios"), "usr", "share", "seabios")
    return [("/lab/" + case["rom"], os.path.join(folder, case["rom"])) for case in CASES.values()]


def press_until(t, guest, text):
    """Escape, twice a second, until it has said that; who waits for it next tells that it has not."""
    end = time.monotonic() + t.left(60)
    while text not in guest.program.output() and guest.running() and time.monotonic() < end:
        guest.send(b"\033")
        time.sleep(0.5)


def test(t, rom, cpus):
    # SeaBIOS logs to a debug console, if a read of port 0x402 tells that there is one.
    guest = t.start(["trapline", "run", "--firmware", "/lab/" + rom, "-c", cpus, "--debugcon", "file:/tmp/debug",
                     "--place", "debugcon=pio:0x402"])
    version = guest.expect(r"SeaBIOS \(version ([^)]*)\)").group(1)
    guest.expect("Press ESC for boot menu")
    # It listens for some of its seconds, of which an emulated machine may lose one.
    press_until(t, guest, b"Select boot device:")
    guest.expect("Select boot device:")
    # It has nothing to offer. For a second and a half it does not take the same key as an answer.
    press_until(t, guest, b"No bootable device")
    guest.expect("No bootable device")
    guest.send(b"\1x")
    guest.ends(20)
    log = t.sh("cat /tmp/debug")
    t.check("SeaBIOS (version" in log and "No bootable device" in log, "SeaBIOS did not log to the debug console")
    t.note("SeaBIOS %s" % version.decode())
