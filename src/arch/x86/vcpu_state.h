/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vcpu_state.h - a vCPU's power-on state: taken once, put back at each reset, because a vCPU cannot be made
 * twice. Likewise for the VM's in-kernel chips.
 *
 * The calls on a vCPU are made by any one thread while the vCPU is outside KVM_RUN with nothing pending.
 */
#ifndef TRAPLINE_ARCH_X86_VCPU_STATE_H
#define TRAPLINE_ARCH_X86_VCPU_STATE_H

#include "arch/x86/boot.h"
#include "core/error.h"

struct vcpu_state;
struct chip_state;

/*
 * Before vcpu_state_take(): the local APIC is an x2APIC from power-on, as firmware leaves all of them where one has an
 * id that eight bits cannot hold: to an xAPIC 255 is everybody. 0 or -errno.
 */
int vcpu_state_x2apic(int vcpu_fd, unsigned index, struct error *err) __attribute__((warn_unused_result));
/*
 * After KVM_SET_CPUID2 and before the vCPU first runs: takes the state, where there is no firmware to run with what
 * that leaves behind (memory types, fast strings, the boot CPU's local interrupt pins). `kvm_fd` is /dev/kvm's; `index`
 * 0 is the boot CPU. One allocation, which the caller frees with free(). 0 or -errno, naming what KVM refused.
 */
int vcpu_state_take(int kvm_fd, int vcpu_fd, unsigned index, bool firmware, struct vcpu_state **out, struct error *err)
	__attribute__((warn_unused_result));
/* Puts it back; a secondary vCPU waits for INIT and SIPI then. 0 or -errno, naming what KVM refused. */
int vcpu_state_restore(int vcpu_fd, const struct vcpu_state *state, struct error *err)
	__attribute__((warn_unused_result));
/* The boot CPU, in its power-on state, to the loaded kernel's entry. 0 or -errno. */
int vcpu_state_enter(int vcpu_fd, const struct boot_entry *entry, struct error *err)
	__attribute__((warn_unused_result));

/*
 * Both PICs, the IOAPIC, the PIT (where the VM has one) and kvmclock, after KVM_CREATE_IRQCHIP and
 * KVM_CREATE_PIT2. One allocation, which the caller frees with free(). 0 or -errno.
 */
int chip_state_take(int vm_fd, struct chip_state **out, struct error *err) __attribute__((warn_unused_result));
/*
 * While no vCPU runs, and after the devices were reset: lines that devices hold up are theirs to lower.
 * kvmclock starts again where it was. 0 or -errno.
 */
int chip_state_restore(int vm_fd, const struct chip_state *state, struct error *err)
	__attribute__((warn_unused_result));

#endif
