/* SPDX-License-Identifier: BSD-2-Clause */
/* kvm.c - an arm64 machine's half that needs KVM, and so an arm64 host: what arch.h says under arch_kvm. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/arm64/board.h"
#include "kvm/kvm.h"

/* EL1 with its own stack pointer; debug exceptions, SError, IRQ and FIQ masked (booting.rst). */
#define PSTATE_ENTRY 0x3c5
/* The same in EL2, where a hypervisor begins. */
#define PSTATE_ENTRY_EL2 0x3c9
/* 32-bit: supervisor mode; asynchronous aborts, IRQ and FIQ masked. */
#define PSTATE_ENTRY_32 0x1d3

/* INTIDs of shared peripheral interrupts begin here. */
#define FIRST_SPI 32

#define CORE_REG(member) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(member))

static const struct kvm_need needs[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory from user space" },
	{ KVM_CAP_ONE_REG, "KVM_CAP_ONE_REG", "to set a vCPU's registers" },
	{ KVM_CAP_ARM_PSCI_0_2, "KVM_CAP_ARM_PSCI_0_2", "to start vCPUs, power off and reset" },
	{ KVM_CAP_DEVICE_CTRL, "KVM_CAP_DEVICE_CTRL", "an interrupt controller in the kernel" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "to stop a vCPU; Linux 4.13 or later has it" },
	{ 0, NULL, NULL },
};

static int refused(struct error *err, const char *what)
{
	return error_set(err, -errno, "KVM refuses %s: %s", what, strerror(errno));
}

/* KVM_CREATE_VM's argument (Documentation/virt/kvm/api.rst, 4.2): the size of the guest-physical address space. */
static int vm_type(struct board *board, const struct kvm *kvm, unsigned long *type, struct error *err)
{
	unsigned bits;
	int r = cpu_check(board, kvm, err);

	if (r == 0)
		r = arm64_phys_bits(board->config.ram, (unsigned)kvm_check(kvm, KVM_CAP_ARM_VM_IPA_SIZE), &bits, err);
	if (r == 0)
		*type = KVM_VM_TYPE_ARM_IPA_SIZE(bits);
	return r;
}

static int make_chips(struct board *board, struct kvm *kvm, struct error *err)
{
	int r;

	/* KVM_IRQ_LINE's numbers: the kind in the upper byte, then the INTID. */
	kvm->first_line = (uint32_t)KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | FIRST_SPI;
	r = cpu_enable(board, kvm, err);
	if (r == 0)
		r = psci_take(board, kvm, err);
	return r ? r : gic_create(board, kvm->fd, err);
}

/* Line n is the pin of its number. Set when the GIC has started, which sets routes of its own. */
static int route_lines(struct kvm *kvm, struct error *err)
{
	struct kvm_irq_routing_entry lines[LAYOUT_LINES - FIRST_SPI];
	const unsigned n = LAYOUT_LINES - FIRST_SPI;
	int r;

	memset(lines, 0, sizeof(lines));
	for (unsigned gsi = 0; gsi < n; gsi++) {
		lines[gsi].gsi = gsi;
		lines[gsi].type = KVM_IRQ_ROUTING_IRQCHIP;
		lines[gsi].u.irqchip.pin = gsi;
	}
	r = kvm_set_lines(kvm, lines, n);
	return r ? error_set(err, r, "KVM refuses the interrupt lines' routes: %s", strerror(-r)) : 0;
}

/* When the last vCPU is there. */
static int start_chips(struct board *board, struct kvm *kvm, struct error *err)
{
	int r = gic_start(board, err);

	if (r == 0)
		r = route_lines(kvm, err);
	for (unsigned i = 0; r == 0 && i < kvm->nr_vcpus; i++)
		r = cpu_start(board, &kvm->vcpus[i], err);
	return r;
}

static int make_vcpu(struct board *board, struct vcpu *vcpu, struct error *err)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_vcpu_init *init = calloc(1, sizeof(*init));
	int r;

	if (!init)
		return error_set(err, -ENOMEM, "no memory for vCPU %u's state", vcpu->index);
	vcpu->power_on = init;
	if (ioctl(kvm->fd, KVM_ARM_PREFERRED_TARGET, init))
		return refused(err, "to tell what vCPUs it has");
	init->features[0] = cpu_features(board, kvm);
	if (vcpu->index > 0)
		init->features[0] |= 1U << KVM_ARM_VCPU_POWER_OFF;
	if (ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, init))
		return refused(err, "to make a vCPU of this CPU's kind");
	r = cpu_finish(board, vcpu, err);
	if (r || vcpu->index + 1 < board->config.cpus)
		return r;
	return start_chips(board, kvm, err);
}

static int reset(struct board *board, struct kvm *kvm, struct error *err)
{
	if (board->psci)
		psci_reset(board->psci);
	for (unsigned i = 0; i < kvm->nr_vcpus; i++) {
		if (ioctl(kvm->vcpus[i].fd, KVM_ARM_VCPU_INIT, kvm->vcpus[i].power_on))
			return refused(err, "to reset a vCPU");
	}
	return gic_reset(board, err);
}

static int set_reg(struct vcpu *vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)(uintptr_t)&value };

	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

struct setting {
	uint64_t reg, value;
};

static int enter(struct board *board, struct kvm *kvm, struct error *err)
{
	const bool aarch32 = board->config.arm.aarch32;
	const struct setting wide[] = {
		{ CORE_REG(regs.pstate), board->config.arm.nested ? PSTATE_ENTRY_EL2 : PSTATE_ENTRY },
		{ CORE_REG(regs.regs[0]), board->places.tree },
		{ CORE_REG(regs.pc), board->places.kernel },
	};
	/* r0 to r2: nothing, no machine number, the device tree. */
	const struct setting narrow[] = {
		{ CORE_REG(regs.pstate), PSTATE_ENTRY_32 },
		{ CORE_REG(regs.regs[0]), 0 },
		{ CORE_REG(regs.regs[1]), UINT32_MAX },
		{ CORE_REG(regs.regs[2]), board->places.tree },
		{ CORE_REG(regs.pc), board->places.kernel },
	};
	const struct setting *at = aarch32 ? narrow : wide;
	const unsigned n = aarch32 ? sizeof(narrow) / sizeof(narrow[0]) : sizeof(wide) / sizeof(wide[0]);
	int r = arm64_describe(board, err);

	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (set_reg(&kvm->vcpus[0], at[i].reg, at[i].value))
			r = refused(err, "the boot CPU's registers");
	}
	return r;
}

const struct arch_kvm arm64_kvm = {
	.needs = needs,
	.no_ports = true,
	.vm_type = vm_type,
	.make_chips = make_chips,
	.make_vcpu = make_vcpu,
	.reset = reset,
	.enter = enter,
	.describe = arm64_describe_vcpu,
};
