/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpu.c - what an arm64 machine's vCPUs can do: what KVM has is on, unless the user says otherwise, but for the PMU
 * and EL2, which are had by who asks for them (Documentation/virt/kvm/api.rst, 4.82, and devices/vcpu.rst).
 *
 * All of it is part of KVM_ARM_VCPU_INIT's argument or stays over it, so a reset, which is one more of these, keeps it.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/arm64/board.h"
#include "kvm/kvm.h"

/* Linux 6.16's; older headers do not have them. */
#define CAP_ARM_EL2  240
#define VCPU_HAS_EL2 7

#define PMU_INTID (16 + LAYOUT_PPI_PMU)

static int refused(struct error *err, const char *what)
{
	return error_set(err, -errno, "KVM refuses %s: %s", what, strerror(errno));
}

int cpu_check(const struct board *board, const struct kvm *kvm, struct error *err)
{
	const struct guest_arm *arm = &board->config.arm;
	const struct {
		bool wanted;
		int cap;
		const char *option, *name, *why;
	} needs[] = {
		{ arm->aarch32, KVM_CAP_ARM_EL1_32BIT, "aarch32", "KVM_CAP_ARM_EL1_32BIT",
			"a CPU that has 32-bit kernels" },
		{ arm->pmu, KVM_CAP_ARM_PMU_V3, "pmu", "KVM_CAP_ARM_PMU_V3", "a PMU that the host's kernel drives" },
		{ arm->nested, CAP_ARM_EL2, "nested", "KVM_CAP_ARM_EL2",
			"a CPU with nested virtualization, FEAT_NV2, and Linux 6.16 or later with "
			"kvm-arm.mode=nested" },
		{ arm->sve_max_vl, KVM_CAP_ARM_SVE, "sve-max-vl", "KVM_CAP_ARM_SVE", "a CPU with SVE" },
	};

	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		if (needs[i].wanted && kvm_check(kvm, needs[i].cap) <= 0)
			return error_set(err, -ENOTSUP, "--%s: this KVM lacks %s (%s)", needs[i].option, needs[i].name,
				needs[i].why);
	}
	return 0;
}

static void note_shared(struct region *region, void *arg)
{
	bool *shared = arg;

	if (region->memory && region->memory->shared)
		*shared = true;
}

/*
 * Tags are kept beside pages that only this process has: KVM takes no memory that is shared for a VM with MTE, and
 * fails at the first touch of a page of a file, or of a huge one that was asked for.
 */
static bool has_mte(const struct board *board, const struct kvm *kvm)
{
	bool shared = board->config.ram_foreign;

	if (board->config.arm.disable_mte || board->config.arm.aarch32 || kvm_check(kvm, KVM_CAP_ARM_MTE) <= 0)
		return false;
	bus_for_each(board->vm->bus, SPACE_MMIO, note_shared, &shared);
	return !shared;
}

int cpu_enable(const struct board *board, const struct kvm *kvm, struct error *err)
{
	struct kvm_enable_cap mte = { .cap = KVM_CAP_ARM_MTE };

	if (has_mte(board, kvm) && ioctl(kvm->fd, KVM_ENABLE_CAP, &mte))
		return refused(err, "MTE (--disable-mte leaves it out)");
	return 0;
}

static bool has_sve(const struct board *board, const struct kvm *kvm)
{
	return !board->config.arm.disable_sve && !board->config.arm.aarch32 && kvm_check(kvm, KVM_CAP_ARM_SVE) > 0;
}

uint32_t cpu_features(const struct board *board, const struct kvm *kvm)
{
	uint32_t features = 1U << KVM_ARM_VCPU_PSCI_0_2;

	if (board->config.arm.pmu)
		features |= 1U << KVM_ARM_VCPU_PMU_V3;
	if (board->config.arm.nested)
		features |= 1U << VCPU_HAS_EL2;
	if (board->config.arm.aarch32)
		return features | 1U << KVM_ARM_VCPU_EL1_32BIT;
	if (kvm_check(kvm, KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0 && kvm_check(kvm, KVM_CAP_ARM_PTRAUTH_GENERIC) > 0)
		features |= 1U << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1U << KVM_ARM_VCPU_PTRAUTH_GENERIC;
	if (has_sve(board, kvm))
		features |= 1U << KVM_ARM_VCPU_SVE;
	return features;
}

/*
 * Lengths of vectors that the guest may choose: those of KVM's, which are as the CPU has them, that are not too long.
 */
static int limit_vectors(int fd, unsigned bits, struct error *err)
{
	uint64_t lengths[KVM_ARM64_SVE_VLS_WORDS];
	struct kvm_one_reg reg = { .id = KVM_REG_ARM64_SVE_VLS, .addr = (uint64_t)(uintptr_t)lengths };

	if (ioctl(fd, KVM_GET_ONE_REG, &reg))
		return refused(err, "to tell what SVE vectors it has");
	for (unsigned vq = bits / 128 + 1; vq <= KVM_ARM64_SVE_VQ_MAX; vq++) {
		unsigned bit = vq - KVM_ARM64_SVE_VQ_MIN;

		lengths[bit / 64] &= ~(1ULL << bit % 64);
	}
	return ioctl(fd, KVM_SET_ONE_REG, &reg) ? refused(err, "SVE vectors of that length (--sve-max-vl)") : 0;
}

static int set_attr(int fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr set = { .group = group, .attr = attr, .addr = (uint64_t)(uintptr_t)value };

	return ioctl(fd, KVM_SET_DEVICE_ATTR, &set);
}

int cpu_finish(const struct board *board, struct vcpu *vcpu, struct error *err)
{
	const uint64_t stolen = LAYOUT_PVTIME + vcpu->index * LAYOUT_PVTIME_STEP;
	int sve = KVM_ARM_VCPU_SVE, r = 0;
	unsigned bits;

	if (has_sve(board, vcpu->kvm)) {
		r = arm64_sve_max_vl(&board->config, &bits, err);
		if (r == 0 && bits)
			r = limit_vectors(vcpu->fd, bits, err);
		if (r == 0 && ioctl(vcpu->fd, KVM_ARM_VCPU_FINALIZE, &sve))
			r = refused(err, "a vCPU with SVE");
	}
	if (r || !board->pvtime.memory || kvm_check(vcpu->kvm, KVM_CAP_STEAL_TIME) <= 0)
		return r;
	if (set_attr(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &stolen))
		return refused(err, "the place of a vCPU's stolen time (--no-pvtime leaves it out)");
	return 0;
}

int cpu_start(const struct board *board, struct vcpu *vcpu, struct error *err)
{
	const int irq = PMU_INTID;

	if (!board->config.arm.pmu)
		return 0;
	if (set_attr(vcpu->fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &irq) ||
		set_attr(vcpu->fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, NULL))
		return refused(err, "a vCPU's PMU (--pmu)");
	return 0;
}
