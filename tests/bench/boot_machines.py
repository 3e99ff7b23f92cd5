# SPDX-License-Identifier: BSD-2-Clause
"""What boot.py boots on each architecture: which monitors, with which words, and who stands where in their machines."""

import collections
import dataclasses

from bed import ui

MIB = 256

# QEMU, as little of it as a machine has: no network, no display, no disk.
QEMU = ("-accel kvm -cpu host -m %d -nodefaults -no-user-config -display none -no-reboot -serial stdio "
        "-L /usr/share/qemu" % MIB).split()


@dataclasses.dataclass(frozen=True)
class Machines:
    peers: dict          # QEMU's machines: name -> words
    qemu: str            # the program, where this host has it
    firmware: tuple      # what it loads, by name
    rival: str           # whom we are held against
    # Words for the kernel that all have. Its self-tests of its ciphers take longer than all else, and would hide what a monitor does.
    common: str
    shared: str          # what QEMU's guests get for trapline's defaults; "": those
    cached: bool         # whether there are packed kernels, which trapline keeps when it has unpacked one
    sums: tuple          # KVM's own, of the one guest that runs
    histograms: tuple    # trace points, with what they are counted by
    # What answers in the kernel: such accesses are traced, but do not exit. (first, how many)
    kernel_ports: tuple
    kernel_memory: tuple
    # Who stands where, in the machines that are compared: (first, how many, name).
    ports: tuple
    memory: tuple

    @property
    def monitors(self):
        return ("trapline", *self.peers)

    @property
    def rows(self):
        """What is run, in the table's order. Cold: trapline's cache of unpacked kernels is empty, as for a kernel's first start."""
        cold = ", cold" if self.cached else ""
        rows = [("identical", "identical command lines" + cold), ("defaults", "trapline with its defaults" + cold)]
        rows += [("warm", "trapline with its defaults, warm")] if self.cached else []
        return collections.OrderedDict(rows + [("shared", "the others with trapline's defaults")])

    def rows_of(self, monitor):
        return [row for row in self.rows if row == "identical" or (row == "shared") != (monitor == "trapline")]


X86 = Machines(
    peers={"qemu-pc": ("-M", "pc,hpet=off"), "qemu-microvm": ("-M", "microvm")},
    qemu="/usr/bin/qemu-system-x86_64",
    firmware=("bios-256k.bin", "bios-microvm.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin"),
    rival="qemu-pc",
    common="console=ttyS0 cryptomgr.notests nokaslr panic=-1",
    shared="",
    cached=True,
    sums=("exits", "halt_exits", "halt_wait_ns", "pf_taken", "pf_fixed", "irq_injections", "signal_exits"),
    histograms=(("kvm_userspace_exit", "reason,errno"), ("kvm_pio", "port,rw"), ("kvm_mmio", "gpa,type")),
    kernel_ports=((0x20, 2), (0x40, 4), (0x61, 1), (0xa0, 2), (0x4d0, 2)),
    kernel_memory=((0xfec00000, 0x1000), (0xfee00000, 0x100000)),
    ports=(
        (0x00, 0x20, "DMA"), (0x60, 1, "i8042"), (0x64, 1, "i8042"), (0x70, 2, "RTC"), (0x80, 1, "POST"),
        (0x80, 0x10, "DMA"), (0x92, 1, "system control"), (0xc0, 0x20, "DMA"), (0xf0, 2, "FPU"),
        (0x1f0, 8, "IDE"), (0x170, 8, "IDE"), (0x3f6, 1, "IDE"), (0x376, 1, "IDE"), (0x3f8, 8, "serial 1"),
        (0x2f8, 8, "serial 2"), (0x3e8, 8, "serial 3"), (0x2e8, 8, "serial 4"), (0x3f0, 8, "floppy"), (0x378, 8, "parallel"),
        (0x3b0, 0x30, "VGA"), (0x402, 1, "firmware log"), (0x505, 1, "pvpanic"), (0x510, 12, "fw_cfg"), (0xb2, 2, "APM"),
        (0xcf8, 8, "PCI config"), (0x600, 0x40, "ACPI"), (0xae00, 0x40, "ACPI"), (0xaf00, 0x20, "ACPI"),
        (0xafe0, 4, "ACPI"),
    ),
    memory=(
        (0xd0000000, 0x2000000, "PCI config"), (0xa0000, 0x20000, "VGA"), (0xfea00000, 0x1000, "ACPI"),
        (0xfeb00000, 0x100000, "virtio-mmio"), (0xfec10000, 0x1000, "second IOAPIC"), (0xfed00000, 0x400, "HPET"),
    ),
)

# Their consoles have other names, so with identical command lines it is the device tree that names them. QEMU's machine is told in
# its own documentation and by the tree that it makes (-M virt,dumpdtb=FILE).
ARM64 = Machines(
    peers={"qemu-virt": ("-M", "virt")},
    qemu="/usr/bin/qemu-system-aarch64",
    firmware=(),
    rival="qemu-virt",
    common="cryptomgr.notests nokaslr panic=-1",
    shared="console=ttyAMA0",
    cached=False,
    sums=("exits", "wfi_exit_stat", "wfe_exit_stat", "hvc_exit_stat", "mmio_exit_kernel", "mmio_exit_user", "signal_exits"),
    histograms=(("kvm_userspace_exit", "reason,errno"), ("kvm_mmio", "gpa,type")),
    kernel_ports=(),
    # GICs: of trapline with all its redistributors, and of QEMU.
    kernel_memory=((0x3c000000, 0x4000000), (0x08000000, 0x1000000)),
    ports=(),
    memory=(
        (0x00000000, 0x10000, "PCI ports"), (0x01000000, 0x1000, "serial 1"), (0x01001000, 0x1000, "serial 2"),
        (0x01002000, 0x1000, "serial 3"), (0x01003000, 0x1000, "serial 4"), (0x01010000, 0x1000, "RTC"),
        (0x01034000, 0x1000, "GPIO"), (0x40000000, 0x10000000, "PCI config"), (0x50000000, 0x30000000, "PCI BARs"), (0x03000000, 0x8000, "virtio-mmio"),
        (0x09000000, 0x1000, "serial 1"), (0x09010000, 0x1000, "RTC"), (0x09020000, 0x1000, "fw_cfg"),
        (0x09030000, 0x1000, "GPIO"), (0x0a000000, 0x4000, "virtio-mmio"), (0x10000000, 0x2eff0000, "PCI BARs"),
        (0x3eff0000, 0x10000, "PCI ports"), (0x4010000000, 0x10000000, "PCI config"),
    ),
)

MACHINES = {"x86_64": X86, "arm64": ARM64}


def find(arch):
    if arch.name not in MACHINES:
        raise ui.Failure("boot: there is nothing to compare on %s yet; on %s there is" % (arch.name, ", ".join(MACHINES)))
    return MACHINES[arch.name]
