/* SPDX-License-Identifier: BSD-2-Clause */
/* test_debugcon.c - the Bochs debug console on a bus of its own, in both spaces. */
#include "unit.h"

#include "arch/place.h"
#include "core/vm.h"
#include "dev/debugcon.h"

static const struct placement table[] = {
	{ .name = "debugcon", .type = &debugcon_type, .at = { PIO(0xe9) } },
	{ .name = "elsewhere", .type = &debugcon_type, .at = { MMIO(0x1000000) } },
};

static void answers_where_it_was_placed(void **state)
{
	struct initiator test = { .name = "test" };
	struct error err;
	struct vm vm;
	uint16_t value = 0;

	assert_int_equal(vm_init(&vm, true, &err), 0);
	assert_int_equal(place_devices(&vm, table, 2, &err), 0);
	bus_attach(vm.bus, &test);

	assert_int_equal(bus_access(vm.bus, &test, SPACE_PIO, 0xe9, &value, 1, 1, false), 1);
	assert_int_equal(value, 0xe9);
	assert_int_equal(bus_access(vm.bus, &test, SPACE_MMIO, 0x1000000, &value, 1, 1, false), 1);
	assert_int_equal(value, 0xe9);

	/* Two bytes: the device has one; nobody claims the other, so it reads as all ones. */
	assert_int_equal(bus_access(vm.bus, &test, SPACE_PIO, 0xe9, &value, 2, 1, false), 1);
	assert_int_equal(value, 0xffe9);

	bus_detach(&test);
	vm_fini(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(answers_where_it_was_placed) };

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
