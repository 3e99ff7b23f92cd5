# SPDX-License-Identifier: BSD-2-Clause
"""One table of what differs between architectures: packages, the emulated machine, consoles.

Filling in a row, plus tests under tests/lab/NAME/, is all that an architecture needs here.
"""

import dataclasses
import platform

from .ui import Failure


@dataclasses.dataclass(frozen=True)
class Arch:
    name: str            # as in ARCH= and for trapline
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
    triplet: str         # GNU's name of it, which its compiler's name begins with
    family: str          # meson's, which is also what `uname -m` says
    emulator: str = ""   # runs its programs on another host
    # Other machines that tests may ask for, by name, like `machine`.
    others: dict = dataclasses.field(default_factory=dict)
    # Kernels of elsewhere: flavour -> (Debian's names of the architecture and of the release, meta package). Of another
    # architecture, these are guests that its KVM runs as well.
    guests: dict = dataclasses.field(default_factory=dict)
    inners: dict = dataclasses.field(default_factory=dict)  # what L1 runs where it is not `inner`, by others' names
    append: str = ""     # more words for L1's command line
    appends: dict = dataclasses.field(default_factory=dict)  # and more of them, by others' names
    # Whose QEMU emulates it, where the host's is too old: Debian's name of a release, by others' names.
    emulators: dict = dataclasses.field(default_factory=dict)
    mended: bool = False  # the host's QEMU is run without a defect: mended.py
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
            triplet="x86_64-linux-gnu",
            family="x86_64",
            append="tsc=reliable no_timer_check",
            mended=True,
        ),
        Arch(
            name="arm64",
            debian="arm64",
            suite="bookworm",
            kernels={"cloud": "linux-image-cloud-arm64", "full": "linux-image-arm64"},
            inner="cloud",
            qemu="qemu-system-aarch64",
            qemu_package="qemu-system-arm",
            machine=("-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a72"),
            log_tty="ttyAMA0",
            guest_tty="hvc0",
            # The machine has one UART, and a kernel has this driver as a module.
            guest_tty_device=("-device", "virtio-serial-pci,id=guests", "-device",
                              "virtconsole,chardev=guest,bus=guests.0"),
            kvm_modules=(),
            triplet="aarch64-linux-gnu",
            family="aarch64",
            emulator="qemu-aarch64-static",
            guests={"armmp": ("armhf", "bookworm", "linux-image-armmp"),
                    "armmp-lpae": ("armhf", "bookworm", "linux-image-armmp-lpae"),
                    "newer": ("arm64", "trixie", "linux-image-cloud-arm64"),
                    "newest": ("arm64", "trixie-backports", "linux-image-cloud-arm64")},
            inners={"newer": "newer", "nested": "newest"},
            appends={"nested": "kvm-arm.mode=nested"},
            emulators={"nested": "trixie"},
            others={"newer": ("-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a72"),
                    "max": ("-M", "virt,virtualization=on,gic-version=3,mte=on", "-cpu", "max,pauth-impdef=on"),
                    "nested": ("-M", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on"),
                    "n1": ("-M", "virt,virtualization=on,gic-version=3", "-cpu", "neoverse-n1,pmu=off"),
                    "gicv2": ("-M", "virt,virtualization=on,gic-version=2", "-cpu", "cortex-a72")},
        ),
    )
}


def find(name):
    if name not in ARCHES:
        raise Failure("ARCH=%s: the lab has no such machine yet; there is %s" % (name, ", ".join(sorted(ARCHES))))
    return ARCHES[name]


def host():
    for arch in ARCHES.values():
        if arch.family == platform.machine():
            return arch
    return find(platform.machine())
