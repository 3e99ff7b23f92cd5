/* SPDX-License-Identifier: BSD-2-Clause */
/* test_vhost.c - what back ends are told: where a ring lies, and which names of targets are such. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "host/vhost_kernel.h"

static uint8_t low[0x10000], high[0x10000];

static const struct vhost_range ranges[] = {
	{ .gpa = 0x1000, .len = sizeof(low), .host = low, .fd = -1 },
	{ .gpa = UINT64_MAX - 0xffff, .len = sizeof(high), .host = high, .fd = -1 },
};

static int place(uint64_t desc, uint64_t driver, uint64_t device, uint16_t size, bool packed, struct vhost_parts *parts)
{
	const struct vhost_ring ring = { .size = size, .desc = desc, .driver = driver, .device = device };
	struct vhost_map map;

	assert_int_equal(vhost_map_set(&map, ranges, 2), 0);
	return vhost_map_ring(&map, &ring, packed, parts);
}

static void test_rings(void **state)
{
	const uint64_t end = 0x1000 + sizeof(low);
	struct vhost_parts parts;

	assert_int_equal(place(0x1000, 0x2000, UINT64_MAX - 0xffff, 64, false, &parts), 0);
	assert_ptr_equal(parts.desc, low);
	assert_ptr_equal(parts.driver, low + 0x1000);
	assert_ptr_equal(parts.device, high);
	/* Up to the last byte, and one further. */
	assert_int_equal(place(end - 16 * 64, 0x2000, 0x3000, 64, false, &parts), 0);
	assert_int_equal(place(end - 16 * 64 + 16, 0x2000, 0x3000, 64, false, &parts), -EFAULT);
	assert_int_equal(place(0x1000, end - 134, 0x3000, 64, false, &parts), 0);
	assert_int_equal(place(0x1000, end - 132, 0x3000, 64, false, &parts), -EFAULT);
	assert_int_equal(place(0x1000, 0x2000, end - 518, 64, false, &parts), 0);
	assert_int_equal(place(0x1000, 0x2000, end - 516, 64, false, &parts), -EFAULT);
	assert_int_equal(place(0x1000, end - 4, end - 4, 64, true, &parts), 0);
	assert_int_equal(place(0x1000, end - 2, end - 4, 64, true, &parts), -EFAULT);
	/* Nowhere, and at the end of the address space. */
	assert_int_equal(place(0, 0x2000, 0x3000, 64, false, &parts), -EFAULT);
	assert_int_equal(place(UINT64_MAX - 15, 0x2000, 0x3000, 64, false, &parts), -EFAULT);
	assert_int_equal(place(UINT64_MAX - 1023, 0x2000, 0x3000, 64, false, &parts), 0);
}

static void test_too_many_ranges(void **state)
{
	static struct vhost_range many[VHOST_RANGES + 1];
	struct vhost_map map;

	assert_int_equal(vhost_map_set(&map, many, VHOST_RANGES), 0);
	assert_int_equal(vhost_map_set(&map, many, VHOST_RANGES + 1), -E2BIG);
	assert_int_equal(map.n, VHOST_RANGES);
}

static void test_names(void **state)
{
	assert_true(vhost_scsi_wwpn("naa.600140554cf3a18e"));
	assert_false(vhost_scsi_wwpn("naa.600140554cf3a18"));
	assert_false(vhost_scsi_wwpn("naa.600140554cf3a18e0"));
	assert_false(vhost_scsi_wwpn("naa.600140554CF3A18E"));
	assert_false(vhost_scsi_wwpn("eui.600140554cf3a18e"));
	assert_false(vhost_scsi_wwpn("naa."));
	assert_false(vhost_scsi_wwpn(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_too_many_ranges),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
