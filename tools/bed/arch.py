# SPDX-License-Identifier: BSD-2-Clause
"""One table of what differs between architectures: packages, the emulated machine, consoles.

Filling in a row, plus tests under tests/lab/NAME/, is all that an architecture needs here.
"""

import dataclasses
import platform

from .ui import Failure


@dataclasses.dataclass(frozen=True)
class Arch:
    name: str            # as in `uname -m` and in ARCH=
    debian: str          # Debian's name of it
    suite: str           # the Debian release its kernels come from when it is not the host's own architecture
    kernels: dict        # flavour -> meta package; "cloud" is the small and quick one, "full" has every driver
    inner: str           # flavour that L1 runs
    qemu: str            # program that emulates it
    qemu_package: str
    machine: tuple       # QEMU's options for a machine with the virtualization extension
    log_tty: str         # L1's own console
    guest_tty: str       # the tty in L1 that trapline gets as its terminal
    guest_tty_device: tuple  # QEMU's options for that tty, chardev "guest"
    kvm_modules: tuple   # what L1 loads to get /dev/kvm, in order
    append: str = ""     # more words for L1's command line
    modules: tuple = dataclasses.field(default=("virtio_pci", "virtio_console", "virtio_blk", "tun"))
    # What L1 has for tests to load.
    shelf: tuple = dataclasses.field(default=("vhost_net", "vhost_vsock", "vhost_scsi", "target_core_file"))


ARCHES = {
    arch.name: arch
    for arch in (
        Arch(
            name="x86_64",
            debian="amd64",
            suite="bookworm",
            kernels={"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"},
            inner="cloud",
            qemu="qemu-system-x86_64",
            qemu_package="qemu-system-x86",
            machine=("-M", "q35,hpet=off", "-cpu", "EPYC-v3,+svm,+npt"),
            log_tty="ttyS0",
            guest_tty="ttyS1",
            guest_tty_device=("-serial", "chardev:guest"),
            kvm_modules=("irqbypass", "kvm", "kvm_amd"),
            append="tsc=reliable no_timer_check",
        ),
    )
}


def find(name):
    if name not in ARCHES:
        raise Failure("ARCH=%s: the lab has no such machine yet; there is %s" % (name, ", ".join(sorted(ARCHES))))
    return ARCHES[name]


def host():
    return find(platform.machine())
