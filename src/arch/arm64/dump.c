/* SPDX-License-Identifier: BSD-2-Clause */
/* dump.c - what a vCPU was doing, for people: where it was, and all of its registers. */
#include <inttypes.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "arch/arm64/board.h"
#include "kvm/kvm.h"

#define CORE_REG(member) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(member))
#define PSTATE_32        0x10
/* Words from one of x0 to x30 to the next. */
#define X_STEP (sizeof(uint64_t) / sizeof(uint32_t))

static bool read_reg(struct vcpu *vcpu, uint64_t id, uint64_t *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)(uintptr_t)value };

	return ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg) == 0;
}

static uint64_t get_reg(struct vcpu *vcpu, uint64_t id)
{
	uint64_t value;

	return read_reg(vcpu, id, &value) ? value : 0;
}

static const char *state_of(int fd)
{
	struct kvm_mp_state state;

	if (ioctl(fd, KVM_GET_MP_STATE, &state))
		return "in an unknown state";
	return state.mp_state == KVM_MP_STATE_STOPPED ? "off" : "running";
}

static void print_registers(struct vcpu *vcpu, FILE *out)
{
	for (unsigned i = 0; i < 31; i++)
		fprintf(out, "%s x%-2u %016" PRIx64 "%s", i % 4 ? "" : " ", i,
			get_reg(vcpu, CORE_REG(regs.regs[0]) + i * X_STEP), i % 4 == 3 ? "\n" : "");
	fprintf(out, "\n  sp_el0 %016" PRIx64 " sp_el1 %016" PRIx64 " elr_el1 %016" PRIx64 "\n",
		get_reg(vcpu, CORE_REG(regs.sp)), get_reg(vcpu, CORE_REG(sp_el1)), get_reg(vcpu, CORE_REG(elr_el1)));
}

void arm64_describe_vcpu(struct board *board, struct vcpu *vcpu, bool whole, FILE *out)
{
	uint64_t pstate, pc;

	if (!read_reg(vcpu, CORE_REG(regs.pstate), &pstate) || !read_reg(vcpu, CORE_REG(regs.pc), &pc)) {
		fprintf(out, "%s: KVM does not tell where it is\n", vcpu->name);
		return;
	}
	fprintf(out, "%s: pc %#" PRIx64 ", ", vcpu->name, pc);
	if (pstate & PSTATE_32)
		fprintf(out, "32-bit code, mode %#x", (unsigned)(pstate & 0x1f));
	else
		fprintf(out, "64-bit code, EL%u", (unsigned)(pstate >> 2 & 3));
	fprintf(out, ", pstate %#" PRIx64 ", %s\n", pstate, state_of(vcpu->fd));
	if (whole)
		print_registers(vcpu, out);
}
