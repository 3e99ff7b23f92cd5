/* SPDX-License-Identifier: BSD-2-Clause */
/* dump.c - what a vCPU was doing, for people: where it was, and all of its registers with the code there. */
#include <inttypes.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "arch/x86/board.h"
#include "kvm/kvm.h"

#define CR0_PE        1
#define EFER_LMA      (1 << 10)
#define PAGE          4096
#define CODE_BEFORE   8
#define CODE_AFTER    16
#define POWER_ON_BASE 0xffff0000
#define POWER_ON_RIP  0xfff0

static const char *mode_of(const struct kvm_sregs *s)
{
	if (!(s->cr0 & CR0_PE))
		return "real mode";
	if (s->efer & EFER_LMA && s->cs.l)
		return "64-bit code";
	return s->cs.db ? "32-bit code" : "16-bit code";
}

static const char *state_of(int fd)
{
	struct kvm_mp_state state;

	if (ioctl(fd, KVM_GET_MP_STATE, &state))
		return "in an unknown state";
	switch (state.mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		return "running";
	case KVM_MP_STATE_HALTED:
		return "halted, waiting for an interrupt";
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		return "not started by the guest";
	default:
		return "being started";
	}
}

/* One byte at a linear address, by the vCPU's own page tables. */
static bool code_byte(struct board *board, int fd, uint64_t linear, uint8_t *byte)
{
	struct kvm_translation tr = { .linear_address = linear & ~(uint64_t)(PAGE - 1) };

	if (ioctl(fd, KVM_TRANSLATE, &tr) || !tr.valid)
		return false;
	return mem_read(&board->vm->mem, tr.physical_address + linear % PAGE, byte, 1) == 0;
}

static void print_code(struct board *board, int fd, uint64_t at, FILE *out)
{
	uint8_t byte;

	fprintf(out, "  code at rip:");
	for (uint64_t i = at - CODE_BEFORE; i != at + CODE_AFTER; i++) {
		bool got = code_byte(board, fd, i, &byte);

		if (got)
			fprintf(out, i == at ? " <%02x>" : " %02x", byte);
		else
			fprintf(out, i == at ? " <no memory>" : " ??");
	}
	fprintf(out, "\n");
}

static void print_registers(const struct kvm_regs *r, const struct kvm_sregs *s, FILE *out)
{
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{ "rax", r->rax },
		{ "rbx", r->rbx },
		{ "rcx", r->rcx },
		{ "rdx", r->rdx },
		{ "rsi", r->rsi },
		{ "rdi", r->rdi },
		{ "rbp", r->rbp },
		{ "rsp", r->rsp },
		{ "r8", r->r8 },
		{ "r9", r->r9 },
		{ "r10", r->r10 },
		{ "r11", r->r11 },
		{ "r12", r->r12 },
		{ "r13", r->r13 },
		{ "r14", r->r14 },
		{ "r15", r->r15 },
		{ "rip", r->rip },
		{ "flags", r->rflags },
		{ "cr0", s->cr0 },
		{ "cr2", s->cr2 },
		{ "cr3", s->cr3 },
		{ "cr4", s->cr4 },
		{ "efer", s->efer },
		{ "apic", s->apic_base },
	};
	const struct {
		const char *name;
		const struct kvm_segment *segment;
	} segments[] = {
		{ "cs", &s->cs },
		{ "ss", &s->ss },
		{ "ds", &s->ds },
		{ "es", &s->es },
		{ "fs", &s->fs },
		{ "gs", &s->gs },
		{ "tr", &s->tr },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		fprintf(out, "%s%-5s %016" PRIx64 "%s", i % 4 ? "" : "  ", all[i].name, all[i].value,
			i % 4 == 3 ? "\n" : "  ");
	for (size_t i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
		const struct kvm_segment *g = segments[i].segment;

		fprintf(out, "  %-5s %04x  base %016" PRIx64 "  limit %08x  type %x, ring %u%s\n", segments[i].name,
			g->selector, (uint64_t)g->base, g->limit, g->type, g->dpl, g->present ? "" : ", not present");
	}
	fprintf(out, "  gdt   base %016" PRIx64 "  limit %04x\n  idt   base %016" PRIx64 "  limit %04x\n",
		(uint64_t)s->gdt.base, s->gdt.limit, (uint64_t)s->idt.base, s->idt.limit);
}

void board_describe_vcpu(struct board *board, struct vcpu *vcpu, bool whole, FILE *out)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs)) {
		fprintf(out, "%s: KVM does not tell where it is\n", vcpu->name);
		return;
	}
	fprintf(out, "%s: rip %#" PRIx64 ", %s, ring %u, %s\n", vcpu->name, (uint64_t)regs.rip, mode_of(&sregs),
		sregs.ss.dpl, state_of(vcpu->fd));
	if (!whole)
		return;
	/* The kernel on AMD does so at a triple fault, since hardware leaves nothing that is defined. */
	if (sregs.cs.base == POWER_ON_BASE && regs.rip == POWER_ON_RIP)
		fprintf(out, "  KVM has put it to its reset state: where it was is lost\n");
	print_registers(&regs, &sregs, out);
	print_code(board, vcpu->fd, (sregs.efer & EFER_LMA && sregs.cs.l ? 0 : sregs.cs.base) + regs.rip, out);
}
