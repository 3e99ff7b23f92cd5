/* SPDX-License-Identifier: BSD-2-Clause */
/* psci.c - which vCPU is on, and what a firmware call comes to; see psci.h. */
#include "arch/arm64/psci.h"

#include "arch/arm64/board.h"

#define VERSION_1_0  0x10000
#define NO_MIGRATION 2

void psci_reset(struct psci *psci)
{
	pthread_mutex_lock(&psci->lock);
	for (unsigned i = 0; i < psci->nr_cpus; i++)
		psci->cpus[i] = (struct psci_cpu){ .power = i ? PSCI_OFF : PSCI_ON, .ran = !i };
	pthread_mutex_unlock(&psci->lock);
}

void psci_init(struct psci *psci, unsigned cpus)
{
	pthread_mutex_init(&psci->lock, NULL);
	psci->nr_cpus = cpus;
	psci_reset(psci);
}

/* By its affinity fields; nr_cpus: there is none. */
static unsigned cpu_at(const struct psci *psci, uint64_t affinity)
{
	unsigned cpu = 0;

	while (cpu < psci->nr_cpus && arm64_affinity(cpu) != affinity)
		cpu++;
	return cpu;
}

static struct psci_answer cpu_on(struct psci *psci, const uint64_t args[3])
{
	const unsigned target = cpu_at(psci, args[0]);
	struct psci_answer answer = { .target = target };

	if (target == psci->nr_cpus) {
		answer.value = PSCI_INVALID;
	} else if (psci->cpus[target].power != PSCI_OFF) {
		answer.value = psci->cpus[target].power == PSCI_ON ? PSCI_ALREADY_ON : PSCI_ON_PENDING;
	} else {
		psci->cpus[target].power = PSCI_PENDING;
		psci->cpus[target].entry = args[1];
		psci->cpus[target].context = args[2];
		answer.deed = PSCI_STARTS;
	}
	return answer;
}

/* On, off or on its way; of single CPUs only, as 1.0 allows. */
static int64_t affinity_info(const struct psci *psci, const uint64_t args[3])
{
	static const int64_t states[] = { [PSCI_ON] = 0, [PSCI_OFF] = 1, [PSCI_PENDING] = 2 };
	const unsigned target = cpu_at(psci, args[0]);

	return args[1] || target == psci->nr_cpus ? PSCI_INVALID : states[psci->cpus[target].power];
}

static int64_t features(uint32_t function)
{
	switch (function) {
	case PSCI_CALL_VERSION:
	case PSCI_CALL_CPU_SUSPEND:
	case PSCI_CALL_CPU_SUSPEND | PSCI_64:
	case PSCI_CALL_CPU_OFF:
	case PSCI_CALL_CPU_ON:
	case PSCI_CALL_CPU_ON | PSCI_64:
	case PSCI_CALL_AFFINITY_INFO:
	case PSCI_CALL_AFFINITY_INFO | PSCI_64:
	case PSCI_CALL_MIGRATE_TYPE:
	case PSCI_CALL_SYSTEM_OFF:
	case PSCI_CALL_SYSTEM_RESET:
	case PSCI_CALL_FEATURES:
	case SMCCC_VERSION: /* which KVM answers itself */
		return PSCI_SUCCESS;
	default:
		return PSCI_NOT_SUPPORTED;
	}
}

static struct psci_answer answer_call(struct psci *psci, unsigned cpu, uint32_t function, const uint64_t args[3])
{
	if (function != SMCCC_VERSION && features(function) == PSCI_SUCCESS)
		function &= ~PSCI_64;
	switch (function) {
	case PSCI_CALL_VERSION:
		return (struct psci_answer){ .value = VERSION_1_0 };
	case PSCI_CALL_CPU_SUSPEND: /* in no deeper state than standby, which may end at any time */
		return (struct psci_answer){ .value = PSCI_SUCCESS };
	case PSCI_CALL_CPU_OFF:
		psci->cpus[cpu].power = PSCI_OFF;
		return (struct psci_answer){ PSCI_STOPS };
	case PSCI_CALL_CPU_ON:
		return cpu_on(psci, args);
	case PSCI_CALL_AFFINITY_INFO:
		return (struct psci_answer){ .value = affinity_info(psci, args) };
	case PSCI_CALL_MIGRATE_TYPE:
		return (struct psci_answer){ .value = NO_MIGRATION };
	case PSCI_CALL_SYSTEM_OFF:
		return (struct psci_answer){ PSCI_POWERS_OFF };
	case PSCI_CALL_SYSTEM_RESET:
		return (struct psci_answer){ PSCI_RESETS };
	case PSCI_CALL_FEATURES:
		return (struct psci_answer){ .value = features((uint32_t)args[0]) };
	default:
		return (struct psci_answer){ .value = PSCI_NOT_SUPPORTED };
	}
}

struct psci_answer psci_call(struct psci *psci, unsigned cpu, uint32_t function, const uint64_t args[3])
{
	const uint64_t mask = function & PSCI_64 ? UINT64_MAX : UINT32_MAX;
	const uint64_t used[3] = { args[0] & mask, args[1] & mask, args[2] & mask };
	struct psci_answer answer;

	pthread_mutex_lock(&psci->lock);
	answer = answer_call(psci, cpu, function, used);
	pthread_mutex_unlock(&psci->lock);
	return answer;
}

bool psci_begin(struct psci *psci, unsigned cpu, struct psci_cpu *start)
{
	bool begins;

	pthread_mutex_lock(&psci->lock);
	begins = psci->cpus[cpu].power == PSCI_PENDING;
	*start = psci->cpus[cpu];
	if (begins) {
		psci->cpus[cpu].power = PSCI_ON;
		psci->cpus[cpu].ran = true;
	}
	pthread_mutex_unlock(&psci->lock);
	return begins;
}
