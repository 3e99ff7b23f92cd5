/* SPDX-License-Identifier: BSD-2-Clause */
/* kvm.c - an x86 machine's half that needs KVM, and so an x86 host: what arch.h says under arch_kvm. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/x86/board.h"
#include "arch/x86/cpuid.h"
#include "kvm/kvm.h"

/* Those that an xAPIC's ids, 0 to 254, can tell apart. */
#define XAPIC_CPUS 255

#define IOAPIC_LINES KVM_IOAPIC_NUM_PINS
#define PIC_LINES    16

static const struct kvm_need needs[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers in the kernel" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2", "a timer in the kernel" },
	{ KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2", "to reset the timer" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory from user space" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode on older CPUs" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "to say what CPUs the guest has" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "to stop a vCPU; Linux 4.13 or later has it" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "message-signalled interrupts" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "to start and reset more than one vCPU" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "to reset a vCPU" },
	{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "to reset a vCPU" },
	{ 0, NULL, NULL },
};

static int refused(struct error *err, const char *what)
{
	return error_set(err, -errno, "KVM refuses %s: %s", what, strerror(errno));
}

/* The IOAPIC's input that the timer has, as the MADT says: on a PC, line 0 of the PICs is input 2 there. */
#define IOAPIC_TIMER 2

/*
 * Each line leads to the IOAPIC's input of its number, the first 16 to the PICs too. KVM's own table has the timer,
 * line 0, at input 0, where no guest looks for it; and line 2 is nobody's: the PICs cascade there.
 */
static int route_lines(struct kvm *kvm, struct error *err)
{
	struct kvm_irq_routing_entry lines[IOAPIC_LINES + PIC_LINES];
	unsigned n = 0;
	int r;

	memset(lines, 0, sizeof(lines));
	for (unsigned gsi = 0; gsi < IOAPIC_LINES; gsi++) {
		if (gsi == IOAPIC_TIMER)
			continue;
		lines[n].gsi = gsi;
		lines[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		lines[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		lines[n++].u.irqchip.pin = gsi ? gsi : IOAPIC_TIMER;
		if (gsi >= PIC_LINES)
			continue;
		lines[n].gsi = gsi;
		lines[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		lines[n].u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		lines[n++].u.irqchip.pin = gsi % 8;
	}
	r = kvm_set_lines(kvm, lines, n);
	return r ? error_set(err, r, "KVM refuses the interrupt lines' routes: %s", strerror(-r)) : 0;
}

static int make_chips(struct board *board, struct kvm *kvm, struct error *err)
{
	uint64_t identity = LAYOUT_KVM_IDENTITY;
	struct kvm_enable_cap x2apic = {
		.cap = KVM_CAP_X2APIC_API,
		.args = { KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK },
	};
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int r = cpuid_supported(kvm->dev, &board->supported, err);

	if (r)
		return r;
	if (kvm_check(kvm, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 && ioctl(kvm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return refused(err, "the identity map's address");
	if (ioctl(kvm->fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS))
		return refused(err, "the TSS's address");
	/* APIC ids beyond 8 bits. Where KVM has it not, it limits the number of vCPUs instead. */
	if (kvm_check(kvm, KVM_CAP_X2APIC_API) > 0 && ioctl(kvm->fd, KVM_ENABLE_CAP, &x2apic))
		return refused(err, "x2APIC ids");
	if (ioctl(kvm->fd, KVM_CREATE_IRQCHIP, 0))
		return refused(err, "to make the interrupt controllers");
	if (ioctl(kvm->fd, KVM_CREATE_PIT2, &pit))
		return refused(err, "to make the timer");
	r = route_lines(kvm, err);
	if (r)
		return r;
	return chip_state_take(kvm->fd, &board->chips, err);
}

static int make_vcpu(struct board *board, struct vcpu *vcpu, struct error *err)
{
	bool tsc_deadline = kvm_check(vcpu->kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	struct vcpu_state *state = NULL;
	int r = cpuid_set(vcpu->fd, board->supported, vcpu->index, board->config.cpus, tsc_deadline, err);

	if (r == 0 && !board->config.firmware && board->config.cpus > XAPIC_CPUS)
		r = vcpu_state_x2apic(vcpu->fd, vcpu->index, err);
	if (r == 0)
		r = vcpu_state_take(vcpu->kvm->dev, vcpu->fd, vcpu->index, board->config.firmware, &state, err);
	vcpu->power_on = state;
	return r;
}

static int reset(struct board *board, struct kvm *kvm, struct error *err)
{
	int r = chip_state_restore(kvm->fd, board->chips, err);

	for (unsigned i = 0; r == 0 && i < kvm->nr_vcpus; i++)
		r = vcpu_state_restore(kvm->vcpus[i].fd, kvm->vcpus[i].power_on, err);
	return r;
}

static int enter(struct board *board, struct kvm *kvm, struct error *err)
{
	/* Firmware starts where every PC does, in the power-on state. */
	if (board->config.firmware)
		return 0;
	return vcpu_state_enter(kvm->vcpus[0].fd, &board->entry, err);
}

const struct arch_kvm board_kvm = {
	.needs = needs,
	.make_chips = make_chips,
	.make_vcpu = make_vcpu,
	.reset = reset,
	.enter = enter,
	.describe = board_describe_vcpu,
};
