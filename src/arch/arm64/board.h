/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * board.h - an arm64 machine: its table of devices (machine.c), its images (boot.c), its device tree and its KVM side.
 */
#ifndef TRAPLINE_ARCH_ARM64_BOARD_H
#define TRAPLINE_ARCH_ARM64_BOARD_H

#include "arch/arch.h"
#include "arch/arm64/boot.h"
#include "arch/arm64/layout.h"
#include "arch/arm64/psci.h"
#include "pci/pci.h"

#define BOARD_CMDLINE_SIZE 2048 /* Linux's COMMAND_LINE_SIZE on arm64 */

/* Interrupt controllers that KVM may have. As an option: "auto" is NR_GICS, the best that there is. */
enum gic { GIC_V2, GIC_V2M, GIC_V3, GIC_V3_ITS, NR_GICS };
#define GIC_V2_CPUS 8

static inline bool gic_is_v2(enum gic gic)
{
	return gic == GIC_V2 || gic == GIC_V2M;
}

/* Chips that the clock may be. */
enum rtc { RTC_PL031, RTC_MC146818, NR_RTCS };

struct board {
	struct vm *vm;
	struct guest_config config;
	struct region ram;
	struct region pvtime; /* memory for what KVM tells of stolen time; none: its memory is NULL */
	struct region ports;  /* the port space, by memory accesses */
	struct pci_bus *pci;
	char cmdline[BOARD_CMDLINE_SIZE];

	uint64_t kaslr_seed; /* of this start */
	uint8_t rng_seed[56];
	bool random; /* both are random; else the first is the user's, and there is no second */

	struct boot boot;
	struct boot_places places;
	bool rootless; /* see struct board_info */
	bool loaded;   /* at least once */

	struct psci *psci;  /* NULL: KVM answers firmware calls */
	enum gic wanted;    /* NR_GICS: the best */
	enum gic gic;       /* what this KVM has; before it is asked, what a machine would have that has all */
	int gic_fd, its_fd; /* KVM's devices; -1: none */
};

/*
 * arch.c: how many bits of guest-physical addresses to ask KVM for, which has `limit` at most (0: it does not say, and
 * gives 40), for so many bytes of RAM: into *bits, 0 for what a VM has that asks for nothing. 0, or -ERANGE with a line
 * in `err`.
 */
int arm64_phys_bits(uint64_t ram, unsigned limit, unsigned *bits, struct error *err)
	__attribute__((warn_unused_result));

/* options.c: 0, or -errno with a line in `err`; *seed is set where one is given, *rtc, *address and *user always. */
int arm64_check_options(const struct guest_config *config, struct error *err) __attribute__((warn_unused_result));
int arm64_rtc(const struct guest_config *config, enum rtc *rtc, struct error *err) __attribute__((warn_unused_result));
int arm64_firmware_address(const struct guest_config *config, uint64_t *address, struct error *err)
	__attribute__((warn_unused_result));
int arm64_kaslr_seed(const struct guest_config *config, uint64_t *seed, struct error *err)
	__attribute__((warn_unused_result));
int arm64_psci_user(const struct guest_config *config, bool *user, struct error *err)
	__attribute__((warn_unused_result));
/* In bits, from 128 to 2,048; 0: none is given. */
int arm64_sve_max_vl(const struct guest_config *config, unsigned *bits, struct error *err)
	__attribute__((warn_unused_result));

/* machine.c */
int arm64_build(struct board *board, struct error *err) __attribute__((warn_unused_result));
/* Adds the frame for messages of GIC_V2M. 0 or -errno. */
int arm64_add_frame(struct board *board, struct error *err) __attribute__((warn_unused_result));
/* Guest-physical, of `cpus` redistributors; and of the ITS below them. */
uint64_t arm64_redist(unsigned cpus);
uint64_t arm64_its(unsigned cpus);
/* An MPIDR's affinity fields of a vCPU, as KVM gives them. */
uint64_t arm64_affinity(unsigned cpu);

/*
 * firmware.c: opens the image, kept until arm64_boot_close(); loads it, when
 * boot_place() has said where else things are.
 */
int arm64_firmware_open(struct board *board, struct error *err) __attribute__((warn_unused_result));
int arm64_firmware_load(struct board *board, struct error *err) __attribute__((warn_unused_result));

/* tree.c: see struct arch. */
int arm64_tree(struct board *board, void **bytes, size_t *size, struct error *err) __attribute__((warn_unused_result));
/* Writes it to guest memory. 0 or -errno. */
int arm64_describe(struct board *board, struct error *err) __attribute__((warn_unused_result));

/* kvm.c; where the host is an arm64. */
extern const struct arch_kvm arm64_kvm;
/*
 * cpu.c: whether KVM has what was asked for (0 or -errno); what a VM needs before its first vCPU; a vCPU's features for
 * KVM_ARM_VCPU_INIT, what is to be done after that, and what when the interrupt controller has started.
 */
int cpu_check(const struct board *board, const struct kvm *kvm, struct error *err) __attribute__((warn_unused_result));
int cpu_enable(const struct board *board, const struct kvm *kvm, struct error *err) __attribute__((warn_unused_result));
uint32_t cpu_features(const struct board *board, const struct kvm *kvm);
int cpu_finish(const struct board *board, struct vcpu *vcpu, struct error *err) __attribute__((warn_unused_result));
int cpu_start(const struct board *board, struct vcpu *vcpu, struct error *err) __attribute__((warn_unused_result));
/*
 * psci_kvm.c: has KVM leave firmware calls to us, where they are ours; before vCPUs. Then what the vCPUs' threads do.
 */
int psci_take(struct board *board, struct kvm *kvm, struct error *err) __attribute__((warn_unused_result));
void psci_hypercall(struct vcpu *vcpu);
void psci_called(struct vcpu *vcpu);
/*
 * gic.c: makes the interrupt controller that board->wanted says, and sets board->gic, before
 * vCPUs; starts it, after them; resets it.
 */
int gic_create(struct board *board, int vm_fd, struct error *err) __attribute__((warn_unused_result));
int gic_start(struct board *board, struct error *err) __attribute__((warn_unused_result));
int gic_reset(struct board *board, struct error *err) __attribute__((warn_unused_result));
void gic_close(struct board *board);
/* dump.c: its describe(). */
void arm64_describe_vcpu(struct board *board, struct vcpu *vcpu, bool whole, FILE *out);

#endif
