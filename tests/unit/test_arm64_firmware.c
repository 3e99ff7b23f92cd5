/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_arm64_firmware.c - what an arm64 machine has instead of a kernel, or beside it: firmware in RAM, and the flash.
 */
#include "arm64_bed.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A new file of so many bytes, of which the first are "hello". */
static void write_file(char path[40], off_t size)
{
	int fd;

	strcpy(path, "/tmp/trapline-firmware-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* It is loaded where it is wanted, and again; the tree has no command line then. */
static void test_firmware(void **state)
{
	static const struct {
		const char *address;
		uint64_t at;
	} good[] = { { NULL, LAYOUT_RAM }, { "0x80200000", LAYOUT_RAM + 2 * MIB },
		{ "2149580800", LAYOUT_RAM + 2 * MIB } };
	struct guest_config config = { .ram = 64 * MIB, .cpus = 1 };
	char path[40];
	uint8_t got[5];

	write_file(path, 5);
	config.firmware = path;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct board_info info;
		struct bed *bed;

		config.arm.firmware_address = good[i].address;
		bed = bed_new(&config);
		for (unsigned life = 0; life < 2; life++) {
			struct error err = { 0 };

			assert_int_equal(mem_write(&bed->vm.mem, good[i].at, "_____", 5), 0);
			if (arch_arm64.load(bed->board, &err))
				fail_msg("%s", err.text);
			assert_int_equal(mem_read(&bed->vm.mem, good[i].at, got, 5), 0);
			assert_memory_equal(got, "hello", 5);
		}
		arch_arm64.info(bed->board, &info);
		assert_true(info.entry == good[i].at && info.firmware_base == good[i].at && info.firmware_size == 5);
		take_tree(bed, GIC_V3);
		assert_null(fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "bootargs", NULL));
		bed_free(bed);
	}
	unlink(path);
}

static void test_bad_firmware(void **state)
{
	static const struct {
		const char *address, *words;
		bool alone;
	} bad[] = { { "0x80000001", "multiple of 4 KiB" }, { "0x40000000", "not in RAM" },
		{ "0x84000000", "not in RAM" }, { "here", "not a number" },
		{ "0x80000000", "goes with --firmware", true } };
	struct guest_config config = { .ram = 64 * MIB, .cpus = 1 };
	struct error err = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.firmware = bad[i].alone ? NULL : "x";
		config.arm.firmware_address = bad[i].address;
		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_int_equal(err.status, STATUS_USAGE);
		assert_non_null(strstr(err.text, "--firmware-address"));
		if (!strstr(err.text, bad[i].words))
			fail_msg("'%s' instead of '%s'", err.text, bad[i].words);
	}
}

/* It lies in RAM, and not where the device tree does; what it is told else says where it would have room. */
static void test_places(void **state)
{
	static const struct {
		uint64_t ram;
		const char *address;
		uint64_t size;
		const char *words, *remedy; /* NULL: it has room */
	} cases[] = {
		{ 64 * MIB, "0x83fbf000", 4096, NULL, NULL },
		{ 64 * MIB, "0x83fbf000", 4097,
			"in the device tree's place: it needs 0x83fbf000-0x83fc0000, and the tree has "
			"0x83fc0000-0x83ffffff",
			"--firmware-address has room for it from 0x80000000 to 0x83fbe000" },
		{ 64 * MIB, "0x83fc0000", 5, "in the device tree's place: it needs 0x83fc0000-0x83fc0004",
			"to 0x83fbf000" },
		{ 64 * MIB, "0x83ff0000", 65537,
			"too large for the guest's RAM: it needs 0x83ff0000-0x84000000, and RAM ends at 0x83ffffff",
			"to 0x83faf000" },
		{ 64 * MIB, NULL, 64 * MIB, "in the device tree's place", "-m gives the guest more RAM" },
		{ 64 * MIB, NULL, 64 * MIB + 1, "too large for the guest's RAM", "-m gives the guest more RAM" },
		{ 3072 * MIB, NULL, 1024 * MIB, "in the device tree's place: it needs 0x80000000-0xbfffffff",
			"--firmware-address 0xc0000000 has room for it" },
		{ 3072 * MIB, NULL, 2048 * MIB + 1, "in the device tree's place", "-m gives the guest more RAM" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest_config config = { .ram = cases[i].ram, .cpus = 1 };
		struct error err = { 0 };
		char path[40];
		struct bed *bed;

		write_file(path, (off_t)cases[i].size);
		config.firmware = path;
		config.arm.firmware_address = cases[i].address;
		bed = bed_new(&config);
		assert_int_equal(arch_arm64.load(bed->board, &err), cases[i].words ? -ENOSPC : 0);
		if (cases[i].words && !strstr(err.text, cases[i].words))
			fail_msg("'%s' instead of '%s'", err.text, cases[i].words);
		if (cases[i].words && !strstr(err.hint, cases[i].remedy))
			fail_msg("'%s' instead of '%s'", err.hint, cases[i].remedy);
		bed_free(bed);
		unlink(path);
	}
}

/* EDK2 looks for the end of the console's path in what follows it: nothing random does. */
static void test_path_is_last(void **state)
{
	struct guest_config config = plain(1, 64 * MIB);
	struct bed *bed = bed_new(&config);
	const char *name = NULL;
	int at;

	take_tree(bed, GIC_V3);
	fdt_for_each_property_offset(at, bed->tree, fdt_path_offset(bed->tree, "/chosen"))
		assert_non_null(fdt_getprop_by_offset(bed->tree, at, &name, NULL));
	assert_string_equal(name, "stdout-path");
	bed_free(bed);
}

static void test_flash(void **state)
{
	struct guest_config config = plain(1, 64 * MIB);
	const fdt32_t *at;
	char path[40];
	struct bed *bed;
	int node;

	write_file(path, MIB);
	config.flash = path;
	bed = bed_new(&config);
	take_tree(bed, GIC_V3);
	node = fdt_path_offset(bed->tree, "/flash@2000000");
	assert_int_equal(fdt_node_check_compatible(bed->tree, node, "cfi-flash"), 0);
	at = property(bed->tree, node, "reg", 16);
	assert_true(cells(at) == vm_device(&bed->vm, "flash")->regions[0]->base && cells(at + 2) == MIB);
	assert_int_equal(fdt32_to_cpu(*property(bed->tree, node, "bank-width", 4)), 4);
	bed_free(bed);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_firmware),
		cmocka_unit_test(test_bad_firmware),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_path_is_last),
		cmocka_unit_test(test_flash),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
