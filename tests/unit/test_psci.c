/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_psci.c - Arm's firmware calls for processors: each state of a vCPU, calls of
 * both widths, and calls that make no sense.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "arch/arm64/board.h"
#include "arch/arm64/psci.h"

#define CPUS 20 /* more than one cluster of 16 */

static struct psci_answer ask(struct psci *psci, unsigned cpu, uint32_t function, uint64_t a, uint64_t b, uint64_t c)
{
	const uint64_t args[3] = { a, b, c };

	return psci_call(psci, cpu, function, args);
}

static int64_t value(struct psci *psci, uint32_t function, uint64_t a, uint64_t b)
{
	struct psci_answer answer = ask(psci, 0, function, a, b, 0);

	assert_int_equal(answer.deed, PSCI_ANSWERS);
	return answer.value;
}

static struct psci *made(void)
{
	struct psci *psci = malloc(sizeof(*psci));

	assert_non_null(psci);
	psci_init(psci, CPUS);
	return psci;
}

/* Off, asked to start, on, off again: what is said of it, and where it begins. */
static void test_a_life(void **state)
{
	const uint64_t at = arm64_affinity(17);
	struct psci *psci = made();
	struct psci_answer answer;
	struct psci_cpu start;

	assert_int_equal(at, 0x101);
	for (unsigned life = 0; life < 2; life++) {
		assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO | PSCI_64, at, 0), 1);
		assert_false(psci_begin(psci, 17, &start));
		answer = ask(psci, 0, PSCI_CALL_CPU_ON | PSCI_64, at, 0x123456789000 + life, 0xfedcba9876543210);
		assert_int_equal(answer.deed, PSCI_STARTS);
		assert_int_equal(answer.target, 17);
		assert_int_equal(answer.value, PSCI_SUCCESS);
		assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO, at, 0), 2);
		assert_int_equal(value(psci, PSCI_CALL_CPU_ON, at, 0), PSCI_ON_PENDING);
		assert_true(psci_begin(psci, 17, &start));
		/* Only in its second life there are registers to forget. */
		assert_int_equal(start.ran, life);
		assert_true(start.entry == 0x123456789000ULL + life && start.context == 0xfedcba9876543210);
		assert_false(psci_begin(psci, 17, &start));
		assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO, at, 0), 0);
		assert_int_equal(value(psci, PSCI_CALL_CPU_ON | PSCI_64, at, 0), PSCI_ALREADY_ON);
		assert_int_equal(ask(psci, 17, PSCI_CALL_CPU_OFF, 0, 0, 0).deed, PSCI_STOPS);
	}
	/* A reset forgets one that was to start. */
	assert_int_equal(ask(psci, 0, PSCI_CALL_CPU_ON, at, 0, 0).deed, PSCI_STARTS);
	psci_reset(psci);
	assert_false(psci_begin(psci, 17, &start));
	assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO, 0, 0), 0);
	assert_int_equal(ask(psci, 0, PSCI_CALL_CPU_ON, at, 0, 0).deed, PSCI_STARTS);
	assert_true(psci_begin(psci, 17, &start));
	assert_false(start.ran);
	/* The first is on from the beginning. */
	assert_int_equal(ask(psci, 0, PSCI_CALL_CPU_OFF, 0, 0, 0).deed, PSCI_STOPS);
	assert_int_equal(ask(psci, 17, PSCI_CALL_CPU_ON, 0, 0, 0).deed, PSCI_STARTS);
	assert_true(psci_begin(psci, 0, &start));
	assert_true(start.ran);
	free(psci);
}

/* A call of 32 bits does not see what is in the upper halves. */
static void test_widths(void **state)
{
	struct psci *psci = made();
	struct psci_cpu start;

	assert_int_equal(
		ask(psci, 0, PSCI_CALL_CPU_ON, 0xffffffff00000001, 0xffffffff80000000, 0xffffffff00000007).deed,
		PSCI_STARTS);
	assert_true(psci_begin(psci, 1, &start));
	assert_true(start.entry == 0x80000000 && start.context == 7);
	assert_int_equal(value(psci, PSCI_CALL_CPU_ON | PSCI_64, 0xffffffff00000001, 0), PSCI_INVALID);
	free(psci);
}

static void test_what_there_is(void **state)
{
	static const uint32_t there[] = { PSCI_CALL_VERSION, PSCI_CALL_CPU_SUSPEND, PSCI_CALL_CPU_SUSPEND | PSCI_64,
		PSCI_CALL_CPU_OFF, PSCI_CALL_CPU_ON, PSCI_CALL_CPU_ON | PSCI_64, PSCI_CALL_AFFINITY_INFO,
		PSCI_CALL_AFFINITY_INFO | PSCI_64, PSCI_CALL_MIGRATE_TYPE, PSCI_CALL_SYSTEM_OFF, PSCI_CALL_SYSTEM_RESET,
		PSCI_CALL_FEATURES, SMCCC_VERSION };
	struct psci *psci = made();
	unsigned found = 0;

	assert_int_equal(value(psci, PSCI_CALL_VERSION, 0, 0), 0x10000);
	assert_int_equal(value(psci, PSCI_CALL_MIGRATE_TYPE, 0, 0), 2);
	assert_int_equal(value(psci, PSCI_CALL_CPU_SUSPEND | PSCI_64, 0, 0), PSCI_SUCCESS);
	assert_int_equal(ask(psci, 3, PSCI_CALL_SYSTEM_OFF, 0, 0, 0).deed, PSCI_POWERS_OFF);
	assert_int_equal(ask(psci, 3, PSCI_CALL_SYSTEM_RESET, 0, 0, 0).deed, PSCI_RESETS);
	for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++)
		assert_int_equal(value(psci, PSCI_CALL_FEATURES, there[i], 0), PSCI_SUCCESS);
	for (uint32_t i = 0; i < 2 * PSCI_FUNCTIONS; i++) {
		uint32_t function = PSCI_BASE + i % PSCI_FUNCTIONS + (i < PSCI_FUNCTIONS ? 0 : PSCI_64);

		if (value(psci, PSCI_CALL_FEATURES, function, 0) == PSCI_SUCCESS)
			found++;
		else
			assert_int_equal(value(psci, function, 0, 0), PSCI_NOT_SUPPORTED);
	}
	assert_int_equal(found, sizeof(there) / sizeof(there[0]) - 1);
	free(psci);
}

static void test_nonsense(void **state)
{
	struct psci *psci = made();

	/* No such CPU: beyond the last, between clusters, by fields that none has. */
	assert_int_equal(value(psci, PSCI_CALL_CPU_ON | PSCI_64, arm64_affinity(CPUS), 0), PSCI_INVALID);
	assert_int_equal(value(psci, PSCI_CALL_CPU_ON | PSCI_64, 0x10, 0), PSCI_INVALID);
	assert_int_equal(value(psci, PSCI_CALL_CPU_ON | PSCI_64, UINT64_MAX, 0), PSCI_INVALID);
	assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO, 0x7fffffff, 0), PSCI_INVALID);
	/* Of a cluster. */
	assert_int_equal(value(psci, PSCI_CALL_AFFINITY_INFO, 0, 1), PSCI_INVALID);
	assert_int_equal(value(psci, 0, 0, 0), PSCI_NOT_SUPPORTED);
	assert_int_equal(value(psci, UINT32_MAX, 0, 0), PSCI_NOT_SUPPORTED);
	/* SYSTEM_OFF is no call of 64 bits. */
	assert_int_equal(value(psci, PSCI_CALL_SYSTEM_OFF | PSCI_64, 0, 0), PSCI_NOT_SUPPORTED);
	assert_int_equal(value(psci, SMCCC_VERSION, 0, 0), PSCI_NOT_SUPPORTED);
	free(psci);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_life),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_what_there_is),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
