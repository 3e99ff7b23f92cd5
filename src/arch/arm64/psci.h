/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * psci.h - Arm's firmware calls for processors (PSCI 1.0, DEN 0022), where KVM leaves them to us (--psci user): which
 * vCPU is on, and what a call comes to. Carrying it out is psci_kvm.c's.
 */
#ifndef TRAPLINE_ARCH_ARM64_PSCI_H
#define TRAPLINE_ARCH_ARM64_PSCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define PSCI_CPUS 512

/* Functions, as 32-bit calls; those that take an address or an affinity are also 64-bit ones, with PSCI_64. */
#define PSCI_BASE               0x84000000U
#define PSCI_64                 0x40000000U
#define PSCI_FUNCTIONS          0x20U
#define PSCI_CALL_VERSION       0x84000000U
#define PSCI_CALL_CPU_SUSPEND   0x84000001U
#define PSCI_CALL_CPU_OFF       0x84000002U
#define PSCI_CALL_CPU_ON        0x84000003U
#define PSCI_CALL_AFFINITY_INFO 0x84000004U
#define PSCI_CALL_MIGRATE_TYPE  0x84000006U
#define PSCI_CALL_SYSTEM_OFF    0x84000008U
#define PSCI_CALL_SYSTEM_RESET  0x84000009U
#define PSCI_CALL_FEATURES      0x8400000aU
#define SMCCC_VERSION           0x80000000U

/* 5.2.2 */
#define PSCI_SUCCESS       0
#define PSCI_NOT_SUPPORTED (-1)
#define PSCI_INVALID       (-2)
#define PSCI_ALREADY_ON    (-4)
#define PSCI_ON_PENDING    (-5)

struct psci_cpu {
	enum { PSCI_OFF, PSCI_PENDING, PSCI_ON } power;
	bool ran;                /* since the machine's reset, so that its registers are no longer as that left them */
	uint64_t entry, context; /* where it begins, and what it finds in its first register */
};

struct psci {
	pthread_mutex_t lock;
	unsigned nr_cpus;
	struct psci_cpu cpus[PSCI_CPUS];
};

/* What its caller's vCPU does. */
enum psci_deed {
	PSCI_ANSWERS, /* goes on with `value` in its first register */
	PSCI_STARTS,  /* the same, and `target` is told to look at psci_begin() */
	PSCI_STOPS,   /* itself */
	PSCI_POWERS_OFF,
	PSCI_RESETS,
};

struct psci_answer {
	enum psci_deed deed;
	int64_t value;
	unsigned target;
};

/* `cpus`, at most PSCI_CPUS. Only the first is on: psci_reset(), which is also for the machine's reset. */
void psci_init(struct psci *psci, unsigned cpus);
void psci_reset(struct psci *psci);
/* From vCPU `cpu`; `args` are of a call of 32 bits, or 64. Nothing in it is believed. */
struct psci_answer psci_call(struct psci *psci, unsigned cpu, uint32_t function, const uint64_t args[3]);
/*
 * On the thread of `cpu`: true where it was started, which it now is; its beginning
 * is in *start, with `ran` as it was before.
 */
bool psci_begin(struct psci *psci, unsigned cpu, struct psci_cpu *start);

#endif
