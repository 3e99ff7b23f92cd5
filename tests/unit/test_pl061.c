/* SPDX-License-Identifier: BSD-2-Clause */
/* test_pl061.c - the PL061: masked pins, directions, edges and levels, and a power button that waits to be seen. */
#include "dev_rig.h"

#include "dev/pl061.h"

enum {
	ALL = 0x3fc,
	DIR = 0x400,
	IS = 0x404,
	IBE = 0x408,
	IEV = 0x40c,
	IE = 0x410,
	RIS = 0x414,
	MIS = 0x418,
	IC = 0x41c,
	AFSEL = 0x420,
};

#define POWER_PIN 3
#define POWER     (1U << POWER_PIN)
#define HELD      (NSEC_PER_SEC / 10)

static uint32_t get(struct rig *rig, unsigned reg)
{
	return (uint32_t)rig_read(rig, 0, reg, 4);
}

static void put(struct rig *rig, unsigned reg, uint32_t value)
{
	rig_write(rig, 0, reg, 4, value);
}

static struct rig *pl061_rig(void)
{
	static const struct pl061_config config = { .power = POWER_PIN };
	struct rig *rig = rig_new(0);

	rig_add(rig, &pl061_type, &config);
	return rig;
}

static bool press(struct rig *rig)
{
	return vm_press(&rig->vm, BUTTON_POWER);
}

/* Bits 9 to 2 of the address say which pins are meant; only outputs are driven by what is written. */
static void test_data(void **state)
{
	struct rig *rig = pl061_rig();

	assert_int_equal(get(rig, ALL), 0);
	put(rig, ALL, 0xff);
	assert_int_equal(get(rig, ALL), 0);
	put(rig, DIR, 0xf0);
	assert_int_equal(get(rig, ALL), 0xf0);
	put(rig, 0x10 << 2, 0x00);
	assert_int_equal(get(rig, ALL), 0xe0);
	assert_int_equal(get(rig, 0x60 << 2), 0x60);
	put(rig, 0x00, 0x00);
	assert_int_equal(get(rig, ALL), 0xe0);
	assert_int_equal(get(rig, 0x00), 0);
	/* What was written while a pin was an input. */
	put(rig, DIR, 0xff);
	assert_int_equal(get(rig, ALL), 0xef);
	rig_free(rig);
}

static void test_registers(void **state)
{
	static const unsigned kept[] = { DIR, IS, IBE, IEV, IE, AFSEL };
	static const uint8_t ids[] = { 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct rig *rig = pl061_rig();

	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		assert_int_equal(get(rig, kept[i]), 0);
		put(rig, kept[i], 0x15a);
		assert_int_equal(get(rig, kept[i]), 0x5a);
	}
	for (unsigned i = 0; i < sizeof(ids); i++)
		assert_int_equal(get(rig, 0xfe0 + 4 * i), ids[i]);
	/* Those that only are read or only are written, those that are not there, and places within a word. */
	put(rig, RIS, 0xff);
	put(rig, 0xfe0, 0xff);
	put(rig, 0x500, 0xff);
	assert_int_equal(get(rig, 0xfe0), 0x61);
	assert_int_equal(get(rig, 0x500), 0);
	assert_int_equal(get(rig, IC), 0);
	rig_write(rig, 0, DIR + 1, 1, 0xff);
	assert_int_equal(rig_read(rig, 0, DIR, 1), 0x5a);
	assert_int_equal(rig_read(rig, 0, DIR + 1, 1), 0);
	device_reset(rig->dev);
	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		assert_int_equal(get(rig, kept[i]), 0);
	rig_free(rig);
}

static void test_edges(void **state)
{
	struct rig *rig = pl061_rig();

	put(rig, DIR, 0xff & ~POWER);
	put(rig, IEV, POWER);
	put(rig, IE, POWER);
	assert_true(press(rig));
	assert_true(rig_level(rig, 0));
	assert_int_equal(get(rig, MIS), POWER);
	put(rig, IC, ~POWER);
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	assert_false(rig_level(rig, 0));
	assert_int_equal(get(rig, RIS), 0);
	/*
	 * It is down already, and is let go: each press is heard, also by who came after the first and has not looked.
	 */
	assert_true(press(rig));
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	/* It goes up, which is no rising edge, */
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD);
	assert_int_equal(get(rig, ALL), 0);
	assert_int_equal(get(rig, RIS), 0);
	/* but a falling one, and one of both. */
	put(rig, IEV, 0);
	put(rig, IE, 0);
	press(rig);
	assert_int_equal(get(rig, RIS), 0);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD);
	assert_int_equal(get(rig, RIS), POWER);
	assert_int_equal(get(rig, MIS), 0);
	assert_false(rig_level(rig, 0));
	put(rig, IE, POWER);
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	put(rig, IBE, POWER);
	press(rig);
	assert_true(rig_level(rig, 0));
	rig_free(rig);
}

/* By its level a pin asks as long as it is so, whatever is cleared. */
static void test_levels(void **state)
{
	struct rig *rig = pl061_rig();

	put(rig, IS, POWER);
	put(rig, IEV, POWER);
	put(rig, IE, POWER);
	assert_false(rig_level(rig, 0));
	assert_true(press(rig));
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	assert_true(rig_level(rig, 0));
	put(rig, IEV, 0);
	assert_false(rig_level(rig, 0));
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD);
	assert_true(rig_level(rig, 0));
	device_reset(rig->dev);
	assert_false(rig_level(rig, 0));
	rig_free(rig);
}

/* A press while the button is down: both edges, and it is held from when that press was seen, not from the first. */
static void test_again(void **state)
{
	struct rig *rig = pl061_rig();

	assert_false(press(rig));
	put(rig, IE, POWER);
	assert_true(press(rig)); /* to a driver of falling edges */
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD - 1);
	put(rig, IBE, POWER);
	assert_true(press(rig));
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	/* The first one's time is over; this one's begins when it is seen. */
	clock_step(&rig->vm.clock, HELD);
	assert_int_equal(get(rig, RIS), 0);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD - 1);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, 1);
	assert_int_equal(get(rig, ALL), 0);
	assert_int_equal(get(rig, RIS), POWER);
	rig_free(rig);
}

/* However long it takes: from when it was seen the button stays down a while, and no longer. */
static void test_button(void **state)
{
	struct rig *rig = pl061_rig();

	assert_false(vm_press(&rig->vm, BUTTON_SLEEP));
	assert_false(press(rig));
	clock_step(&rig->vm.clock, 3600 * NSEC_PER_SEC);
	/* Other pins are read. */
	assert_int_equal(get(rig, (0xff & ~POWER) << 2), 0);
	clock_step(&rig->vm.clock, HELD);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, HELD - 1);
	assert_int_equal(get(rig, ALL), POWER);
	clock_step(&rig->vm.clock, 1);
	assert_int_equal(get(rig, ALL), 0);
	/* Again, and a reset lets go of it. */
	press(rig);
	assert_int_equal(get(rig, ALL), POWER);
	device_reset(rig->dev);
	assert_int_equal(get(rig, ALL), 0);
	/* A guest that made it an output does not hear it. */
	put(rig, IE, POWER);
	put(rig, DIR, POWER);
	assert_false(press(rig));
	put(rig, DIR, 0);
	assert_true(press(rig));
	vm_remove_device(rig->dev);
	assert_false(press(rig));
	rig_free(rig);
}

static void test_restore(void **state)
{
	struct rig *rig = pl061_rig();

	put(rig, IBE, POWER);
	put(rig, IE, POWER);
	press(rig);
	assert_int_equal(get(rig, ALL), POWER);
	rig_restore(rig);
	assert_true(rig_level(rig, 0));
	put(rig, IC, POWER);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, HELD);
	assert_true(rig_level(rig, 0));
	assert_int_equal(get(rig, ALL), 0);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_button),
		cmocka_unit_test(test_restore),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
