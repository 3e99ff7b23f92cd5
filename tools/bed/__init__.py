# SPDX-License-Identifier: BSD-2-Clause
"""The bed: real KVM on any machine, by emulating a machine that has it and booting a stock kernel there.

Three levels: L0 is this host and its QEMU (TCG, which emulates the virtualization extension), L1 is a stock Debian
kernel with KVM inside that QEMU, L2 is the guest that trapline runs in L1. `make run` uses it where the processor has
no hardware virtualization, `make lab` everywhere.
"""
