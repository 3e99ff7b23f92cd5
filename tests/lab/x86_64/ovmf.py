# SPDX-License-Identifier: BSD-2-Clause
"""OVMF, from Debian's package, to its shell on the serial console; a variable set there outlives the run."""

import os
import subprocess
import time

from bed import arch, machine, packages
import testing

KERNELS = ()
SECONDS = 60
TIMEOUT = 240
# A minute long, and the emulating QEMU was seen to end in one run of nine; see PERIOD.
ON_REQUEST = True
# OVMF's clock runs by the APIC timer, at 100 Hz; with this it ticks twice a second instead, and its second takes fifty.
# QEMU 7.2, which emulates this machine, ends with an assertion when a nested guest writes CR8 while an interrupt
# waits, as OVMF's interrupt handler does where the next tick comes before it is done.
PERIOD = "/sys/module/kvm/parameters/min_timer_period_us"
PERIOD_US = 500000


def build(folder):
    """The ROM and the empty store of variables, from the package."""
    folder = os.path.join(packages.Cache(arch.find("x86_64")).package("ovmf"), "usr", "share", "OVMF")
    return [("/lab/" + name, os.path.join(folder, name)) for name in ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")]


def to_shell(t):
    """Starts it and goes past what it waits for."""
    guest = t.start(["trapline", "run", "--firmware", "/lab/OVMF_CODE_4M.fd", "--flash", "/tmp/vars", "-m", "512"])
    guest.expect("\033\\[2J")
    begin = time.monotonic()
    while b"Shell>" not in guest.program.output() and time.monotonic() - begin < 60 and guest.running():
        guest.send("\r")
        time.sleep(1)
    guest.expect("Shell>", 1)
    return guest


def leave(guest):
    guest.send(b"\1x")
    guest.ends(20)


def keep_variable(t):
    guest = to_shell(t)
    guest.send("set kept yes\rset kept\r")
    guest.expect("kept [^y]*= [^y]*yes", 60)
    leave(guest)
    guest = to_shell(t)
    guest.send("set kept\r")
    guest.expect("kept [^y]*= [^y]*yes", 60)
    leave(guest)


def ended_by_assertion(process):
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        return False
    return b"tcg_handle_interrupt: assertion failed" in process.stdout.read()


def test(t):
    period = t.sh("cat %s && echo %d >%s && cp /lab/OVMF_VARS_4M.fd /tmp/vars" % (PERIOD, PERIOD_US, PERIOD)).strip()
    try:
        keep_variable(t)
    except (machine.Lost, testing.Failed):
        if ended_by_assertion(t.inner.process):
            t.skip("this QEMU ends when a nested guest writes CR8 while an interrupt waits")
        raise
    finally:
        if t.inner.alive():
            t.sh("echo %s >%s" % (period, PERIOD))
