/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_pl031.c - the PL031: time, setting it, the match interrupt, what a reset
 * leaves, a host's clock that is set back.
 */
#include "dev_rig.h"

#include "dev/pl031.h"

enum { DR = 0x00, MR = 0x04, LR = 0x08, CR = 0x0c, IMSC = 0x10, RIS = 0x14, MIS = 0x18, ICR = 0x1c };

#define EPOCH 1204329598
#define HALF  (NSEC_PER_SEC / 2)

static uint32_t get(struct rig *rig, unsigned reg)
{
	return (uint32_t)rig_read(rig, 0, reg, 4);
}

static void put(struct rig *rig, unsigned reg, uint32_t value)
{
	rig_write(rig, 0, reg, 4, value);
}

static struct rig *pl031_rig(int64_t epoch)
{
	struct rig *rig = rig_new(epoch);

	rig_add(rig, &pl031_type, NULL);
	return rig;
}

static void test_time(void **state)
{
	struct rig *rig = pl031_rig(EPOCH);

	assert_int_equal(get(rig, DR), EPOCH);
	assert_int_equal(get(rig, CR), 1);
	clock_step(&rig->vm.clock, NSEC_PER_SEC - 1);
	assert_int_equal(get(rig, DR), EPOCH);
	clock_step(&rig->vm.clock, 1);
	assert_int_equal(get(rig, DR), EPOCH + 1);
	/* Registers that only are read, and those that are not there. */
	put(rig, DR, 5);
	put(rig, CR, 0);
	put(rig, 0x40, 5);
	assert_int_equal(get(rig, DR), EPOCH + 1);
	assert_int_equal(get(rig, CR), 1);
	assert_int_equal(get(rig, 0x40), 0);
	rig_free(rig);
}

static void test_identity(void **state)
{
	static const uint8_t ids[] = { 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct rig *rig = pl031_rig(0);

	for (unsigned i = 0; i < sizeof(ids); i++)
		assert_int_equal(get(rig, 0xfe0 + 4 * i), ids[i]);
	rig_free(rig);
}

/* What it is set to holds over a reset; an alarm does not. */
static void test_set(void **state)
{
	struct rig *rig = pl031_rig(EPOCH);

	put(rig, LR, 1000);
	assert_int_equal(get(rig, LR), 1000);
	assert_int_equal(get(rig, DR), 1000);
	put(rig, MR, 1001);
	put(rig, IMSC, 1);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_true(rig_level(rig, 0));
	device_reset(rig->dev);
	assert_false(rig_level(rig, 0));
	assert_int_equal(get(rig, DR), 1001);
	assert_int_equal(get(rig, IMSC), 0);
	assert_int_equal(get(rig, RIS), 0);
	assert_int_equal(get(rig, MR), 0);
	/* Before 1970, and past what 32 bits hold. */
	put(rig, LR, UINT32_MAX);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_int_equal(get(rig, DR), 0);
	rig_free(rig);
}

static void test_match(void **state)
{
	struct rig *rig = pl031_rig(EPOCH);

	clock_step(&rig->vm.clock, HALF);
	put(rig, MR, EPOCH + 2);
	put(rig, IMSC, 1);
	/* At the beginning of that second, by the timer: nobody asks meanwhile. */
	clock_step(&rig->vm.clock, NSEC_PER_SEC + HALF - 1);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 1);
	assert_true(rig_level(rig, 0));
	assert_int_equal(get(rig, RIS), 1);
	assert_int_equal(get(rig, MIS), 1);
	/* Masked it is kept. */
	put(rig, IMSC, 0);
	assert_false(rig_level(rig, 0));
	assert_int_equal(get(rig, MIS), 0);
	assert_int_equal(get(rig, RIS), 1);
	put(rig, IMSC, 1);
	assert_true(rig_level(rig, 0));
	put(rig, ICR, 0);
	assert_true(rig_level(rig, 0));
	put(rig, ICR, 1);
	assert_false(rig_level(rig, 0));
	/* It has matched, and does not again. */
	clock_step(&rig->vm.clock, 100 * NSEC_PER_SEC);
	assert_false(rig_level(rig, 0));
	/* At once. */
	put(rig, MR, get(rig, DR));
	assert_true(rig_level(rig, 0));
	put(rig, ICR, 1);
	/* Without the interrupt it is noticed when somebody asks. */
	put(rig, IMSC, 0);
	put(rig, MR, get(rig, DR) + 10);
	clock_step(&rig->vm.clock, 50 * NSEC_PER_SEC);
	assert_int_equal(get(rig, RIS), 1);
	rig_free(rig);
}

/* Set forward over the match it is a match; set back it is none, and the match comes in its time. */
static void test_jumps(void **state)
{
	struct rig *rig = pl031_rig(EPOCH);

	put(rig, MR, EPOCH + 5);
	put(rig, IMSC, 1);
	clock_jump(&rig->vm.clock, -3600 * (int64_t)NSEC_PER_SEC);
	assert_int_equal(get(rig, DR), EPOCH - 3600);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 3604 * NSEC_PER_SEC);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_true(rig_level(rig, 0));
	put(rig, ICR, 1);
	put(rig, MR, EPOCH + 1000);
	clock_jump(&rig->vm.clock, 3600 * (int64_t)NSEC_PER_SEC);
	assert_int_equal(get(rig, RIS), 1);
	assert_true(rig_level(rig, 0));
	rig_free(rig);
}

static void test_widths(void **state)
{
	struct rig *rig = pl031_rig(EPOCH);

	assert_int_equal(rig_read(rig, 0, DR, 2), 0xffff);
	assert_int_equal(rig_read(rig, 0, DR, 1), 0xff);
	rig_write(rig, 0, LR, 2, 1);
	assert_int_equal(get(rig, DR), EPOCH);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_widths),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
