/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_firmware.c - the x86-64 machine with firmware, built without KVM: the ROM and its shadow, the chips by which
 * firmware knows the machine, and the ACPI tables as firmware's script places them.
 */
#include "unit.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86/board.h"
#include "desc/acpi_loader.h"

#define ROM_SIZE 0x40000

struct bed {
	struct vm vm;
	struct board *board;
	struct initiator from;
	char path[32];
	uint8_t rom[ROM_SIZE];
};

static void build(struct bed *bed, unsigned cpus, uint64_t ram)
{
	const struct guest_config config = { .firmware = bed->path, .ram = ram, .cpus = cpus };
	struct error err = { 0 };

	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(arch_x86_64.create(&bed->vm, &config, &bed->board, &err), 0);
	if (arch_x86_64.build(bed->board, &err) || arch_x86_64.open_images(bed->board, &err))
		fail_msg("%s", err.text);
	list_for_each (pos, &bed->vm.devices)
		device_power_on(container_of(pos, struct device, node));
	if (arch_x86_64.load(bed->board, &err))
		fail_msg("%s", err.text);
	bed->from.name = "test";
	bus_attach(bed->vm.bus, &bed->from);
}

static struct bed *bed_new(unsigned cpus, uint64_t ram)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	int fd;

	assert_non_null(bed);
	for (unsigned i = 0; i < ROM_SIZE; i++)
		bed->rom[i] = (uint8_t)(i * 7 + (i >> 12));
	strcpy(bed->path, "/tmp/trapline-rom-XXXXXX");
	fd = mkstemp(bed->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bed->rom, ROM_SIZE), ROM_SIZE);
	close(fd);
	build(bed, cpus, ram);
	return bed;
}

static void bed_free(struct bed *bed)
{
	bus_detach(&bed->from);
	vm_remove_devices(&bed->vm);
	arch_x86_64.destroy(bed->board);
	vm_fini(&bed->vm);
	unlink(bed->path);
	free(bed);
}

static uint64_t get(struct bed *bed, enum space space, uint64_t addr, unsigned len)
{
	uint64_t value = 0;

	bus_access(bed->vm.bus, &bed->from, space, addr, &value, len, 1, false);
	return value;
}

static void put(struct bed *bed, enum space space, uint64_t addr, unsigned len, uint64_t value)
{
	bus_access(bed->vm.bus, &bed->from, space, addr, &value, len, 1, true);
}

static uint32_t config_read(struct bed *bed, unsigned slot, unsigned function, unsigned reg, unsigned len)
{
	put(bed, SPACE_PIO, 0xcf8, 4, 1U << 31 | slot << 11 | function << 8 | (reg & 0xfc));
	return (uint32_t)get(bed, SPACE_PIO, 0xcfc + (reg & 3), len);
}

/* The ROM ends at 4 GiB and takes no writes; its last 128 KiB are below 1 MiB too, in RAM, and again after a reset. */
static void test_rom(void **state)
{
	struct bed *bed = bed_new(1, 64ULL << 20);
	const uint64_t base = 0x100000000ULL - ROM_SIZE;
	uint8_t low[0x20000];
	struct board_info info;
	struct error err;

	put(bed, SPACE_MMIO, base, 4, 0x12345678);
	for (unsigned i = 0; i < ROM_SIZE; i += 0x3fff)
		assert_int_equal(get(bed, SPACE_MMIO, base + i, 1), bed->rom[i]);
	assert_int_equal(bed->board->firmware.rom.kind, REGION_ROM);
	assert_int_not_equal(mem_fill(&bed->vm.mem, base, 0, 4), 0); /* nor by DMA */

	assert_int_equal(mem_read(&bed->vm.mem, 0xe0000, low, sizeof(low)), 0);
	assert_memory_equal(low, bed->rom + ROM_SIZE - sizeof(low), sizeof(low));
	assert_int_equal(mem_fill(&bed->vm.mem, 0xe0000, 0xcc, sizeof(low)), 0);
	assert_int_equal(arch_x86_64.load(bed->board, &err), 0);
	assert_int_equal(mem_read(&bed->vm.mem, 0xe0000, low, sizeof(low)), 0);
	assert_memory_equal(low, bed->rom + ROM_SIZE - sizeof(low), sizeof(low));

	arch_x86_64.info(bed->board, &info);
	assert_int_equal(info.entry, 0xfffffff0);
	assert_int_equal(info.firmware_base, base);
	assert_int_equal(info.firmware_size, ROM_SIZE);
	bed_free(bed);
}

/* What firmware reads to learn what machine it is on. */
static void test_chips(void **state)
{
	struct bed *bed = bed_new(1, 64ULL << 20);

	assert_int_equal(config_read(bed, 0, 0, 0, 4), 0x12378086);
	assert_int_equal(config_read(bed, 0, 0, 0x2c, 4), 0x11001af4);
	assert_int_equal(config_read(bed, 1, 0, 0, 4), 0x70008086);
	assert_int_equal(config_read(bed, 1, 0, 0x0a, 2), 0x0601);
	assert_int_equal(config_read(bed, 1, 0, 0x0e, 1) & 0x80, 0x80);
	assert_int_equal(config_read(bed, 1, 0, 0x04, 2), 7);
	assert_int_equal(config_read(bed, 1, 3, 0, 4), 0x71138086);
	assert_int_equal(config_read(bed, 1, 3, 0x40, 4), 0x601);
	assert_int_equal(config_read(bed, 1, 3, 0x80, 1) & 1, 1);
	assert_int_equal(config_read(bed, 1, 3, 0x5b, 1) & 2, 2);
	/* The base stays where the chip is. */
	put(bed, SPACE_PIO, 0xcfc, 4, 0xb001);
	put(bed, SPACE_PIO, 0xcf8, 4, 1U << 31 | 1 << 11 | 3 << 8 | 0x40);
	put(bed, SPACE_PIO, 0xcfc, 4, 0xb001);
	assert_int_equal(get(bed, SPACE_PIO, 0xcfc, 4), 0x601);
	/* PAM: after reset the ROM answers, and the bits can be set. */
	assert_int_equal(config_read(bed, 0, 0, 0x59, 1), 0);
	put(bed, SPACE_PIO, 0xcfd, 1, 0xff);
	assert_int_equal(config_read(bed, 0, 0, 0x59, 1), 0x30);
	bed_free(bed);
}

/* An fw_cfg file's bytes, by the ports. Returns its length; the caller frees. */
static uint32_t fetch(struct bed *bed, const char *name, uint8_t **bytes)
{
	uint8_t entry[64];
	uint32_t count = 0, size = 0;
	uint16_t key = 0;

	put(bed, SPACE_PIO, 0x510, 2, 0x19);
	for (unsigned i = 0; i < 4; i++)
		count = count << 8 | (uint32_t)get(bed, SPACE_PIO, 0x511, 1);
	while (count-- && !key) {
		for (unsigned i = 0; i < sizeof(entry); i++)
			entry[i] = (uint8_t)get(bed, SPACE_PIO, 0x511, 1);
		if (strcmp((char *)entry + 8, name))
			continue;
		size = (uint32_t)entry[0] << 24 | (uint32_t)entry[1] << 16 | (uint32_t)entry[2] << 8 | entry[3];
		key = (uint16_t)(entry[4] << 8 | entry[5]);
	}
	assert_true(key);
	*bytes = malloc(size);
	put(bed, SPACE_PIO, 0x510, 2, key);
	for (unsigned i = 0; i < size; i++)
		(*bytes)[i] = (uint8_t)get(bed, SPACE_PIO, 0x511, 1);
	return size;
}

static void test_map(void **state)
{
	struct bed *bed = bed_new(1, 5ULL << 30);
	uint8_t *map;
	uint32_t size = fetch(bed, "etc/e820", &map);
	uint64_t ram = 0;

	assert_int_equal(size % 20, 0);
	for (uint32_t i = 0; i < size; i += 20) {
		uint64_t length;
		uint32_t type;

		memcpy(&length, map + i + 8, 8);
		memcpy(&type, map + i + 16, 4);
		ram += le32toh(type) == 1 ? le64toh(length) : 0;
	}
	assert_int_equal(ram, 5ULL << 30);
	free(map);
	bed_free(bed);
}

static uint64_t le(const uint8_t *at, unsigned len)
{
	uint64_t value = 0;

	while (len--)
		value = value << 8 | at[len];
	return value;
}

static void store(uint8_t *at, unsigned len, uint64_t value)
{
	for (unsigned i = 0; i < len; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

/* One command of the script, with the RSDP placed at `base` and the tables 64 bytes behind it. */
static void run_command(const uint8_t *c, uint8_t *rsdp, uint8_t *tables, uint64_t base)
{
	const char *name = (const char *)c + 4;
	uint8_t *file = strcmp(name, ACPI_LOADER_RSDP) ? tables : rsdp, sum = 0;

	switch (le(c, 4)) {
	case 1:
		assert_int_equal(le(c + 60, 4), file == rsdp ? 16 : 64);
		assert_int_equal(c[64], file == rsdp ? 2 : 1);
		break;
	case 2: {
		uint8_t *at = file + le(c + 116, 4);

		assert_string_equal(c + 60, ACPI_LOADER_TABLES);
		store(at, c[120], le(at, c[120]) + base + 64);
		break;
	}
	case 3:
		for (uint64_t i = 0; i < le(c + 68, 4); i++)
			sum = (uint8_t)(sum + file[le(c + 64, 4) + i]);
		file[le(c + 60, 4)] = (uint8_t)-sum;
		break;
	default:
		fail_msg("command %llu", (unsigned long long)le(c, 4));
	}
}

/* A firmware that places them somewhere gets the tables that the machine would have had there, to the byte. */
static void test_tables(void **state)
{
	struct bed *bed = bed_new(3, 128ULL << 20);
	const uint64_t base = 0x7abc0000;
	uint8_t *rsdp, *tables, *script;
	uint32_t rsdp_len = fetch(bed, ACPI_LOADER_RSDP, &rsdp), len = fetch(bed, ACPI_LOADER_TABLES, &tables);
	uint32_t script_len = fetch(bed, ACPI_LOADER_SCRIPT, &script);
	struct acpi_tables wanted;
	struct error err;

	assert_int_equal(script_len % 128, 0);
	for (uint32_t i = 0; i < script_len; i += 128)
		run_command(script + i, rsdp, tables, base);
	assert_int_equal(board_tables(bed->board, base, &wanted, &err), 0);
	assert_int_equal(wanted.length, len + 64);
	assert_memory_equal(wanted.bytes, rsdp, rsdp_len);
	assert_memory_equal(wanted.bytes + 64, tables, len);
	acpi_free(&wanted);
	free(rsdp);
	free(tables);
	free(script);
	bed_free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rom),
		cmocka_unit_test(test_chips),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
