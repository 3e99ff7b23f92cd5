/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psci_kvm.c - firmware calls that KVM hands to us carried out on vCPUs (Documentation/virt/kvm/devices/vm.rst, 5.1).
 *
 * KVM takes a vCPU's registers and state from its own thread only, or waits for that to leave the guest. So who starts
 * another vCPU says where it begins, and calls it; it looks before it enters the guest.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/arm64/board.h"
#include "kvm/kvm.h"

/* Linux 6.4's; older headers do not have them. */
#define VM_SMCCC_CTRL   0
#define VM_SMCCC_FILTER 0
#define FORWARD_TO_USER 2
struct smccc_filter {
	uint32_t base, functions;
	uint8_t action, pad[15];
};

#define CORE_REG(member) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(member))
/* Words from one of x0 to x30 to the next. */
#define X_STEP     (sizeof(uint64_t) / sizeof(uint32_t))
#define PSTATE_T32 0x20

static int forward(const struct kvm *kvm, uint32_t base)
{
	const struct smccc_filter filter = { .base = base, .functions = PSCI_FUNCTIONS, .action = FORWARD_TO_USER };
	struct kvm_device_attr attr = {
		.group = VM_SMCCC_CTRL, .attr = VM_SMCCC_FILTER, .addr = (uint64_t)(uintptr_t)&filter
	};

	return ioctl(kvm->fd, KVM_SET_DEVICE_ATTR, &attr);
}

int psci_take(struct board *board, struct kvm *kvm, struct error *err)
{
	struct kvm_device_attr attr = { .group = VM_SMCCC_CTRL, .attr = VM_SMCCC_FILTER };

	if (!board->psci)
		return 0;
	if (ioctl(kvm->fd, KVM_HAS_DEVICE_ATTR, &attr))
		return error_set(err, -ENOTSUP,
			"--psci user: this KVM lacks KVM_ARM_VM_SMCCC_FILTER (to leave firmware calls to user space); "
			"Linux 6.4 or later has it");
	if (forward(kvm, PSCI_BASE) || forward(kvm, PSCI_BASE | PSCI_64))
		return error_set(
			err, -errno, "KVM refuses to leave firmware calls to us (--psci user): %s", strerror(errno));
	kvm->hypercall = psci_hypercall;
	kvm->called = psci_called;
	kvm->arch = board;
	return 0;
}

static int access_reg(struct vcpu *vcpu, unsigned long request, uint64_t id, uint64_t *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)(uintptr_t)value };

	return ioctl(vcpu->fd, request, &reg);
}

static void failed(struct vcpu *vcpu, const char *what)
{
	vcpu->failed = true;
	vm_stop(vcpu->kvm->vm, REASON_KVM_ERROR, "%s: KVM refuses %s: %s", vcpu->name, what, strerror(errno));
}

void psci_hypercall(struct vcpu *vcpu)
{
	struct board *board = vcpu->kvm->arch;
	struct run *run = &vcpu->kvm->vm->run;
	struct kvm_mp_state stopped = { .mp_state = KVM_MP_STATE_STOPPED };
	uint64_t args[3] = { 0 }, value;
	struct psci_answer answer;

	for (unsigned i = 0; i < 3; i++) {
		if (access_reg(vcpu, KVM_GET_ONE_REG, CORE_REG(regs.regs[0]) + (i + 1) * X_STEP, &args[i])) {
			failed(vcpu, "a firmware call's arguments");
			return;
		}
	}
	/* A 32-bit guest has no 64-bit calls (SMCCC, 2.5). */
	if (board->config.arm.aarch32 && vcpu->run->hypercall.nr & PSCI_64)
		answer = (struct psci_answer){ .value = PSCI_NOT_SUPPORTED };
	else
		answer = psci_call(board->psci, vcpu->index, (uint32_t)vcpu->run->hypercall.nr, args);
	value = (uint64_t)answer.value;
	switch (answer.deed) {
	case PSCI_STOPS:
		if (ioctl(vcpu->fd, KVM_SET_MP_STATE, &stopped))
			failed(vcpu, "to stop a vCPU");
		return;
	case PSCI_POWERS_OFF:
		run_request(run, REASON_POWER_OFF);
		return;
	case PSCI_RESETS:
		run_request(run, REASON_RESET);
		return;
	case PSCI_STARTS:
		vcpu_call(&vcpu->kvm->vcpus[answer.target]);
		break;
	case PSCI_ANSWERS:
		break;
	}
	if (access_reg(vcpu, KVM_SET_ONE_REG, CORE_REG(regs.regs[0]), &value))
		failed(vcpu, "a firmware call's answer");
}

/*
 * As after a reset, but running: in EL1 or EL2, or a 32-bit one in supervisor mode, with interrupts masked. One that
 * did not run since then is so already, and has only to go on (api.rst, 4.39): KVM_ARM_VCPU_INIT of any vCPU takes all
 * of the VM's RAM away from it, to be faulted in again, where the CPU cannot force guests' accesses to be cached (no
 * FWB).
 */
static int make_ready(struct vcpu *vcpu, bool ran)
{
	struct kvm_vcpu_init init = *(struct kvm_vcpu_init *)vcpu->power_on;
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	if (!ran)
		return ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable);
	init.features[0] &= ~(1U << KVM_ARM_VCPU_POWER_OFF);
	return ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init);
}

void psci_called(struct vcpu *vcpu)
{
	struct board *board = vcpu->kvm->arch;
	const uint64_t pstate = CORE_REG(regs.pstate);
	struct psci_cpu start;
	uint64_t state;

	if (!psci_begin(board->psci, vcpu->index, &start))
		return;
	if (make_ready(vcpu, start.ran)) {
		failed(vcpu, "to start a vCPU");
		return;
	}
	if (board->config.arm.aarch32 && start.entry & 1 && access_reg(vcpu, KVM_GET_ONE_REG, pstate, &state) == 0) {
		state |= PSTATE_T32;
		start.entry &= ~1ULL;
		(void)access_reg(vcpu, KVM_SET_ONE_REG, pstate, &state);
	}
	if (access_reg(vcpu, KVM_SET_ONE_REG, CORE_REG(regs.regs[0]), &start.context) ||
		access_reg(vcpu, KVM_SET_ONE_REG, CORE_REG(regs.pc), &start.entry))
		failed(vcpu, "a vCPU's beginning");
}
