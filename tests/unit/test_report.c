/* SPDX-License-Identifier: BSD-2-Clause */
/* test_report.c - what a guest tells its host: a panic, a status, that it is ready. */
#include "dev_rig.h"

#include "dev/report.h"

static const struct report_config takes = { .exit = true };

static enum run_reason requested(struct rig *rig)
{
	return run_take_request(&rig->vm.run);
}

static void test_panic(void **state)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &pvpanic_type, NULL);
	assert_string_equal(rig->dev->type->acpi_hid, "QEMU0001");
	assert_int_equal(rig_read(rig, 0, 0, 1), 3);
	/* The guest handles this one by itself. */
	rig_write(rig, 0, 0, 1, PVPANIC_CRASH_LOADED);
	assert_int_equal(requested(rig), REASON_NONE);
	assert_int_equal(rig->vm.guest_faults, 0);
	/* Events that nobody has defined. */
	rig_write(rig, 0, 0, 1, 0xfc);
	rig_write(rig, 0, 0, 1, 0);
	assert_int_equal(requested(rig), REASON_NONE);
	assert_int_equal(rig->vm.guest_faults, 2);
	rig_write(rig, 0, 0, 1, PVPANIC_PANICKED);
	assert_int_equal(requested(rig), REASON_PANIC);
	rig_free(rig);
}

static void test_every_status(void **state)
{
	for (unsigned status = 0; status < 256; status++) {
		struct rig *rig = rig_new(0);

		rig_add(rig, &report_type, &takes);
		assert_int_equal(rig_read(rig, REPORT_EXIT, 0, 1), 0);
		/* By any width: the lowest byte counts. */
		rig_write(rig, REPORT_EXIT, 0, 1U << status % 3, 0x12345600 | status);
		assert_int_equal(rig->vm.guest_status, VM_STATUS_GIVEN | status);
		assert_int_equal(requested(rig), REASON_GUEST_STATUS);
		/* A second one comes too late. */
		rig_write(rig, REPORT_EXIT, 0, 1, ~status);
		assert_int_equal(rig->vm.guest_status, VM_STATUS_GIVEN | status);
		assert_int_equal(rig->vm.guest_faults, 1);
		rig_free(rig);
	}
}

static void test_a_status_that_nobody_asked_for(void **state)
{
	struct rig *rig = rig_new(0);
	const struct report_config not_taken = { .exit = false };

	rig_add(rig, &report_type, &not_taken);
	assert_int_equal(rig_read(rig, REPORT_EXIT, 0, 4), 0xffffffff);
	rig_write(rig, REPORT_EXIT, 0, 1, 7);
	assert_int_equal(requested(rig), REASON_NONE);
	assert_int_equal(rig->vm.guest_status, 0);
	assert_int_equal(rig->vm.guest_faults, 1);
	rig_free(rig);
}

static void test_only_the_first_byte_is_a_status(void **state)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &report_type, &takes);
	for (unsigned i = 1; i < REPORT_EXIT_SIZE; i++)
		rig_write(rig, REPORT_EXIT, i, 1, 7);
	assert_int_equal(requested(rig), REASON_NONE);
	assert_int_equal(rig->vm.guest_status, 0);
	rig_free(rig);
}

static void test_ready(void **state)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &report_type, &takes);
	assert_int_equal(rig_read(rig, REPORT_READY, 0, 1), 0);
	for (unsigned value = 0; value < 256; value++)
		if (value != REPORT_READY_VALUE)
			rig_write(rig, REPORT_READY, 0, 1, value);
	assert_int_equal(rig->vm.ready_at, 0);
	assert_int_equal(rig->vm.guest_faults, 255);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	rig_write(rig, REPORT_READY, 0, 1, REPORT_READY_VALUE);
	assert_int_equal(rig->vm.ready_at, NSEC_PER_SEC);
	assert_int_equal(rig_read(rig, REPORT_READY, 0, 1), 1);
	/* Once: the first counts. */
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	rig_write(rig, REPORT_READY, 0, 1, REPORT_READY_VALUE);
	assert_int_equal(rig->vm.ready_at, NSEC_PER_SEC);
	rig_restore(rig);
	assert_int_equal(rig_read(rig, REPORT_READY, 0, 1), 1);
	/* Each life says it for itself. */
	device_reset(rig->dev);
	assert_int_equal(rig->vm.ready_at, 0);
	rig_write(rig, REPORT_READY, 0, 1, REPORT_READY_VALUE);
	assert_int_equal(rig->vm.ready_at, 2 * NSEC_PER_SEC);
	assert_int_equal(requested(rig), REASON_NONE);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_panic),
		cmocka_unit_test(test_every_status),
		cmocka_unit_test(test_a_status_that_nobody_asked_for),
		cmocka_unit_test(test_only_the_first_byte_is_a_status),
		cmocka_unit_test(test_ready),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
