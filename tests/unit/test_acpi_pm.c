/* SPDX-License-Identifier: BSD-2-Clause */
/* test_acpi_pm.c - ACPI fixed hardware, and the single ports and held places of a PC. */
#include "dev_rig.h"

#include <errno.h>

#include "dev/acpi_pm.h"
#include "dev/held.h"
#include "dev/pcports.h"

#define TIMER        0x0001
#define POWER_BUTTON 0x0100
#define SLEEP_BUTTON 0x0200
#define SLEEP        0x2000
#define S5           (ACPI_PM_S5 << 10)

static struct rig *pm_rig(void)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &acpi_pm_type, NULL);
	return rig;
}

static uint16_t status(struct rig *rig)
{
	return rig_read(rig, ACPI_PM_EVENT, 0, 2);
}

static enum run_reason requested(struct rig *rig)
{
	return run_take_request(&rig->vm.run);
}

static void test_regions(void **state)
{
	struct rig *rig = pm_rig();
	struct region **regions = rig->dev->regions;

	/* Linux's names for what it claims are among the type's drivers. */
	for (unsigned i = 0; i < ACPI_PM_RESET; i++)
		assert_non_null(strstr(acpi_pm_type.drivers, regions[i]->name));
	assert_int_equal(regions[ACPI_PM_EVENT]->size, 4);
	assert_int_equal(regions[ACPI_PM_CONTROL]->size, 2);
	assert_int_equal(regions[ACPI_PM_TIMER]->size, 4);
	assert_int_equal(regions[ACPI_PM_RESET]->size, 1);
	assert_int_equal(rig->dev->nr_regions, NR_ACPI_PM_REGIONS);
	rig_free(rig);
}

static void test_power_button(void **state)
{
	struct rig *rig = pm_rig();

	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 0, 4), 0);
	/* Pressed before anybody listens: remembered. */
	assert_false(vm_press(&rig->vm, BUTTON_POWER));
	assert_int_equal(status(rig), POWER_BUTTON);
	assert_false(rig_level(rig, 0));
	rig_write(rig, ACPI_PM_EVENT, 2, 2, 0xffff);
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 2, 2), 0x0721);
	assert_true(rig_level(rig, 0));
	/* Writing zeros clears nothing; ones do, and only theirs. */
	rig_write(rig, ACPI_PM_EVENT, 0, 2, 0);
	rig_write(rig, ACPI_PM_EVENT, 0, 2, TIMER);
	assert_true(rig_level(rig, 0));
	rig_write(rig, ACPI_PM_EVENT, 0, 2, POWER_BUTTON);
	assert_false(rig_level(rig, 0));
	assert_int_equal(status(rig), 0);
	/* By bytes: the other byte stays. */
	vm_press(&rig->vm, BUTTON_POWER);
	rig_write(rig, ACPI_PM_EVENT, 0, 1, 0xff);
	assert_int_equal(status(rig), POWER_BUTTON);
	rig_write(rig, ACPI_PM_EVENT, 2, 1, 0x00);
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 2, 2), 0x0700);
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 3, 1), 0x07);
	rig_write(rig, ACPI_PM_EVENT, 1, 1, POWER_BUTTON >> 8);
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 0, 4), 0x07000000);
	/* By a doubleword: both at once. */
	vm_press(&rig->vm, BUTTON_POWER);
	rig_write(rig, ACPI_PM_EVENT, 0, 4, 0x00010000 | POWER_BUTTON);
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 0, 4), 0x00010000);
	rig_free(rig);
}

static void test_buttons_tell_whether_the_guest_listens(void **state)
{
	struct rig *rig = rig_new(0);

	/* No device with buttons. */
	assert_false(vm_press(&rig->vm, BUTTON_POWER));
	rig_add(rig, &acpi_pm_type, NULL);
	rig_write(rig, ACPI_PM_EVENT, 2, 2, POWER_BUTTON);
	assert_false(vm_press(&rig->vm, BUTTON_SLEEP));
	assert_int_equal(status(rig), SLEEP_BUTTON);
	assert_false(rig_level(rig, 0));
	assert_true(vm_press(&rig->vm, BUTTON_POWER));
	assert_int_equal(status(rig), SLEEP_BUTTON | POWER_BUTTON);
	assert_true(rig_level(rig, 0));
	rig_write(rig, ACPI_PM_EVENT, 0, 2, POWER_BUTTON);
	assert_false(rig_level(rig, 0));
	rig_write(rig, ACPI_PM_EVENT, 2, 2, SLEEP_BUTTON);
	assert_true(rig_level(rig, 0));
	assert_true(vm_press(&rig->vm, BUTTON_SLEEP));
	assert_false(vm_press(&rig->vm, BUTTON_POWER));
	/* Reset, it is a guest that does not listen yet. */
	device_reset(rig->dev);
	assert_false(vm_press(&rig->vm, BUTTON_SLEEP));
	vm_remove_device(rig->dev);
	assert_false(vm_press(&rig->vm, BUTTON_POWER));
	rig_free(rig);
}

static void test_timer(void **state)
{
	struct rig *rig = pm_rig();
	uint32_t ticks;

	assert_int_equal(rig_read(rig, ACPI_PM_TIMER, 0, 4), 0);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_int_equal(rig_read(rig, ACPI_PM_TIMER, 0, 4), ACPI_PM_TIMER_HZ);
	clock_step(&rig->vm.clock, NSEC_PER_SEC / 2);
	assert_int_equal(rig_read(rig, ACPI_PM_TIMER, 0, 4), ACPI_PM_TIMER_HZ * 3 / 2);
	rig_write(rig, ACPI_PM_TIMER, 0, 4, 0);
	ticks = rig_read(rig, ACPI_PM_TIMER, 0, 4);
	assert_int_equal(ticks, ACPI_PM_TIMER_HZ * 3 / 2);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_read(rig, ACPI_PM_TIMER, i, 1), ticks >> (8 * i) & 0xff);
	/* 32 bits, and a day is many times that. */
	clock_step(&rig->vm.clock, 86400 * NSEC_PER_SEC);
	assert_int_equal(
		rig_read(rig, ACPI_PM_TIMER, 0, 4), (uint32_t)(86400ULL * ACPI_PM_TIMER_HZ + ACPI_PM_TIMER_HZ * 3 / 2));
	/* It goes on over a reset. */
	device_reset(rig->dev);
	assert_int_not_equal(rig_read(rig, ACPI_PM_TIMER, 0, 4), 0);
	rig_free(rig);
}

/* Status and interrupt at each change of bit 31. */
static void test_timer_carry(void **state)
{
	struct rig *rig = pm_rig();
	uint64_t half = ((1ULL << 31) * NSEC_PER_SEC + ACPI_PM_TIMER_HZ - 1) / ACPI_PM_TIMER_HZ;

	clock_step(&rig->vm.clock, half - 1);
	assert_int_equal(status(rig), 0);
	clock_step(&rig->vm.clock, 1);
	assert_int_equal(status(rig), TIMER);
	rig_write(rig, ACPI_PM_EVENT, 0, 2, TIMER);
	rig_write(rig, ACPI_PM_EVENT, 2, 2, TIMER);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, half - 10);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 10);
	assert_true(rig_level(rig, 0));
	rig_write(rig, ACPI_PM_EVENT, 0, 2, TIMER);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, half);
	assert_true(rig_level(rig, 0));
	device_reset(rig->dev);
	assert_false(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 0, 4), 0);
	rig_free(rig);
}

static void test_sleep(void **state)
{
	struct rig *rig = pm_rig();

	/* In ACPI mode from the start, and that cannot be left. */
	assert_int_equal(rig_read(rig, ACPI_PM_CONTROL, 0, 2), 1);
	rig_write(rig, ACPI_PM_CONTROL, 0, 2, 0);
	assert_int_equal(rig_read(rig, ACPI_PM_CONTROL, 0, 2), 1);
	/* The type alone does nothing; other types with SLP_EN are not offered. */
	rig_write(rig, ACPI_PM_CONTROL, 0, 2, S5);
	assert_int_equal(rig_read(rig, ACPI_PM_CONTROL, 0, 2), S5 | 1);
	for (unsigned type = 0; type < 8; type++)
		if (type != ACPI_PM_S5)
			rig_write(rig, ACPI_PM_CONTROL, 0, 2, type << 10 | SLEEP);
	assert_int_equal(requested(rig), REASON_NONE);
	assert_int_equal(rig->vm.guest_faults, 7);
	rig_write(rig, ACPI_PM_CONTROL, 0, 2, S5 | SLEEP | 1);
	assert_int_equal(rig_read(rig, ACPI_PM_CONTROL, 0, 2) & SLEEP, 0);
	assert_int_equal(requested(rig), REASON_POWER_OFF);
	rig_free(rig);
	/* By its upper byte alone. */
	rig = pm_rig();
	rig_write(rig, ACPI_PM_CONTROL, 1, 1, (S5 | SLEEP) >> 8);
	assert_int_equal(requested(rig), REASON_POWER_OFF);
	rig_free(rig);
}

static void test_reset_register(void **state)
{
	struct rig *rig = pm_rig();

	for (unsigned v = 0; v < 256; v++) {
		rig_write(rig, ACPI_PM_RESET, 0, 1, v);
		assert_int_equal(requested(rig), v == ACPI_PM_RESET_VALUE ? REASON_RESET : REASON_NONE);
	}
	assert_int_equal(rig_read(rig, ACPI_PM_RESET, 0, 1), 0);
	rig_free(rig);
}

static void test_restore(void **state)
{
	struct rig *rig = pm_rig();

	rig_write(rig, ACPI_PM_EVENT, 2, 2, POWER_BUTTON);
	vm_press(&rig->vm, BUTTON_POWER);
	rig_restore(rig);
	assert_true(rig_level(rig, 0));
	assert_int_equal(rig_read(rig, ACPI_PM_EVENT, 0, 4), POWER_BUTTON << 16 | POWER_BUTTON);
	rig_free(rig);
}

static void test_post(void **state)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &post_type, NULL);
	assert_int_equal(rig->dev->regions[0]->coalesce, 1);
	rig_write(rig, 0, 0, 1, 0x42);
	assert_int_equal(rig_read(rig, 0, 0, 1), 0x42);
	rig_restore(rig);
	assert_int_equal(rig_read(rig, 0, 0, 1), 0x42);
	rig_free(rig);
}

static void test_syscontrol(void **state)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &syscontrol_type, NULL);
	assert_int_equal(rig_read(rig, 0, 0, 1), 0x02);
	rig_write(rig, 0, 0, 1, 0x00);
	assert_int_equal(rig_read(rig, 0, 0, 1), 0x00);
	rig_write(rig, 0, 0, 1, 0x02);
	assert_int_equal(requested(rig), REASON_NONE);
	rig_write(rig, 0, 0, 1, 0x03);
	assert_int_equal(requested(rig), REASON_RESET);
	/* The reset is the bit's rise, not its being set. */
	rig_write(rig, 0, 0, 1, 0x01);
	assert_int_equal(requested(rig), REASON_NONE);
	device_reset(rig->dev);
	assert_int_equal(rig_read(rig, 0, 0, 1), 0x02);
	rig_free(rig);
}

static void test_held(void **state)
{
	static const struct held_place places[] = {
		{ "pic1", SPACE_PIO, 0x20, 2 },
		{ "ioapic", SPACE_MMIO, 0xfec00000, 0x1000 },
	};
	const struct held_config config = { .places = places, .n = 2 };
	const struct held_config many = { .places = places, .n = DEVICE_REGIONS + 1 };
	struct rig *rig = rig_new(0);
	struct device *dev, *post;
	struct error err;
	uint32_t value = 0;

	assert_int_equal(held_type.create(&rig->vm, "chips", &many, &dev, &err), -EINVAL);
	assert_int_equal(held_type.create(&rig->vm, "chips", &config, &dev, &err), 0);
	assert_int_equal(dev->nr_regions, 2);
	assert_int_equal(vm_add_devices(&rig->vm, &dev, 1, &err), 0);
	device_power_on(dev);
	/* Never called, even where an access should come by. */
	bus_access(rig->vm.bus, &rig->from, SPACE_MMIO, 0xfec00000, &value, 4, 1, false);
	assert_int_equal(value, 0xffffffff);
	/* Nothing else can stand there, and the error says why. */
	assert_int_equal(post_type.create(&rig->vm, "post", NULL, &post, &err), 0);
	post->regions[0]->base = 0x21;
	assert_int_equal(vm_add_devices(&rig->vm, &post, 1, &err), -EEXIST);
	assert_non_null(strstr(err.text, "post"));
	assert_non_null(strstr(err.text, "chips"));
	post_type.destroy(post);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_power_button),
		cmocka_unit_test(test_buttons_tell_whether_the_guest_listens),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_timer_carry),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_reset_register),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_post),
		cmocka_unit_test(test_syscontrol),
		cmocka_unit_test(test_held),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
