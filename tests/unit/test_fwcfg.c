/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_fwcfg.c - the firmware configuration device: items byte by byte and by DMA, and what a hostile guest asks for.
 */
#include "dev_rig.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>

#include "core/mem.h"
#include "dev/fwcfg.h"

#define RAM_SIZE 0x200000
#define REQUEST  0x1000 /* where the tests put their DMA requests */
#define TARGET   0x2000

enum { SELECTOR = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8 };

struct bed {
	struct rig *rig;
	struct region ram;
};

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct memory *memory;

	bed->rig = rig_new(0);
	assert_int_equal(memory_new(RAM_SIZE, &memory), 0);
	bed->ram = (struct region){
		.name = "RAM", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM_SIZE, .memory = memory
	};
	assert_int_equal(bus_add(bed->rig->vm.bus, &bed->ram), 0);
	memory_put(memory);
	rig_add(bed->rig, &fwcfg_type, NULL);
	*state = bed;
	return 0;
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	bus_remove(bed->rig->vm.bus, &bed->ram);
	bus_drain(bed->rig->vm.bus);
	rig_free(bed->rig);
	free(bed);
	return 0;
}

static void select_key(struct bed *bed, uint16_t key)
{
	rig_write(bed->rig, 0, SELECTOR, 2, key);
}

static void read_data(struct bed *bed, void *to, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		((uint8_t *)to)[i] = (uint8_t)rig_read(bed->rig, 0, DATA, 1);
}

/* A request by DMA at `at`; the control word that it leaves. */
static uint32_t dma_at(struct bed *bed, uint64_t at, uint32_t control, uint32_t length, uint64_t address)
{
	struct {
		uint32_t control, length;
		uint64_t address;
	} request = { htobe32(control), htobe32(length), htobe64(address) };

	assert_int_equal(mem_write(&bed->rig->vm.mem, at, &request, sizeof(request)), 0);
	rig_write(bed->rig, 0, DMA_HIGH, 4, htobe32((uint32_t)(at >> 32)));
	rig_write(bed->rig, 0, DMA_LOW, 4, htobe32((uint32_t)at));
	assert_int_equal(mem_read(&bed->rig->vm.mem, at, &request, sizeof(request)), 0);
	return be32toh(request.control);
}

static uint32_t dma(struct bed *bed, uint32_t control, uint32_t length, uint64_t address)
{
	return dma_at(bed, REQUEST, control, length, address);
}

static void test_presence(void **state)
{
	struct bed *bed = *state;
	uint8_t bytes[8];
	uint32_t id;

	select_key(bed, FWCFG_SIGNATURE);
	read_data(bed, bytes, 8);
	assert_memory_equal(bytes, "QEMU\0\0\0", 8);
	select_key(bed, FWCFG_ID);
	read_data(bed, &id, 4);
	assert_int_equal(le32toh(id), 3);
	assert_int_equal(rig_read(bed->rig, 0, DMA_HIGH, 4), 0x554d4551); /* "QEMU" */
	assert_int_equal(rig_read(bed->rig, 0, DMA_LOW, 4), 0x47464320);  /* " CFG" */
	/* Other widths of the data register, and the selector, do not answer. */
	assert_int_equal(rig_read(bed->rig, 0, SELECTOR, 2), 0xffff);
}

static void test_files(void **state)
{
	struct bed *bed = *state;
	struct {
		uint32_t size;
		uint16_t key, reserved;
		char name[56];
	} entry;
	uint8_t bytes[4];
	uint32_t count;
	char longest[FWCFG_NAME_SIZE + 1];

	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/one", "abc", 3), 0);
	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/two", "defg", 4), 0);
	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/one", "x", 1), 0); /* replaces */
	select_key(bed, FWCFG_DIRECTORY);
	read_data(bed, &count, 4);
	assert_int_equal(be32toh(count), 2);
	read_data(bed, &entry, sizeof(entry));
	assert_string_equal(entry.name, "etc/one");
	assert_int_equal(be32toh(entry.size), 1);
	assert_int_equal(be16toh(entry.key), FWCFG_FILES);
	read_data(bed, &entry, sizeof(entry));
	assert_string_equal(entry.name, "etc/two");
	assert_int_equal(be32toh(entry.size), 4);
	select_key(bed, be16toh(entry.key));
	read_data(bed, bytes, 4);
	assert_memory_equal(bytes, "defg", 4);

	memset(longest, 'n', sizeof(longest));
	longest[FWCFG_NAME_SIZE] = 0;
	assert_int_equal(fwcfg_file(bed->rig->dev, longest, "", 0), -ENAMETOOLONG);
	longest[FWCFG_NAME_SIZE - 1] = 0;
	assert_int_equal(fwcfg_file(bed->rig->dev, longest, "", 0), 0);
}

static void test_full(void **state)
{
	struct bed *bed = *state;
	char name[16];
	unsigned n = 0;

	do
		snprintf(name, sizeof(name), "etc/%u", n++);
	while (n < 2 * FWCFG_ITEMS && fwcfg_file(bed->rig->dev, name, "x", 1) == 0);
	assert_int_equal(n, FWCFG_ITEMS - 3 + 1); /* signature, id and directory */
	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/0", "y", 1), 0);
}

static void test_dma(void **state)
{
	struct bed *bed = *state;
	uint8_t got[8];

	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/file", "0123456789", 10), 0);
	assert_int_equal(mem_fill(&bed->rig->vm.mem, TARGET, 0xee, 64), 0);
	assert_int_equal(dma(bed, FWCFG_FILES << 16 | FWCFG_DMA_SELECT | FWCFG_DMA_READ, 4, TARGET), 0);
	assert_int_equal(dma(bed, FWCFG_DMA_SKIP, 3, 0), 0);
	assert_int_equal(dma(bed, FWCFG_DMA_READ, 8, TARGET + 8), 0);
	assert_int_equal(mem_read(&bed->rig->vm.mem, TARGET, got, 8), 0);
	assert_memory_equal(got, "0123\xee\xee\xee\xee", 8);
	assert_int_equal(mem_read(&bed->rig->vm.mem, TARGET + 8, got, 8), 0);
	assert_memory_equal(got, "789\0\0\0\0\0", 8);
	/* The data register goes on where DMA stopped. */
	assert_int_equal(dma(bed, FWCFG_FILES << 16 | FWCFG_DMA_SELECT, 0, 0), 0);
	assert_int_equal(dma(bed, FWCFG_DMA_SKIP, 9, 0), 0);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), '9');
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 0);
	assert_int_equal(bed->rig->vm.guest_faults, 0);
}

static void test_hostile(void **state)
{
	struct bed *bed = *state;
	const uint32_t read = FWCFG_FILES << 16 | FWCFG_DMA_SELECT | FWCFG_DMA_READ;
	uint8_t byte;

	assert_int_equal(fwcfg_file(bed->rig->dev, "etc/file", "0123456789", 10), 0);
	/* Too long, wrapping, past RAM's end, and what no item takes. */
	assert_int_equal(dma(bed, read, UINT32_MAX, TARGET), FWCFG_DMA_ERROR);
	assert_int_equal(dma(bed, read, 10, UINT64_MAX - 4), FWCFG_DMA_ERROR);
	assert_int_equal(dma(bed, read, 10, RAM_SIZE - 5), FWCFG_DMA_ERROR);
	assert_int_equal(dma(bed, read, 0x10000, RAM_SIZE - 0x100), FWCFG_DMA_ERROR);
	assert_int_equal(dma(bed, FWCFG_FILES << 16 | FWCFG_DMA_SELECT | FWCFG_DMA_WRITE, 4, TARGET), FWCFG_DMA_ERROR);
	select_key(bed, FWCFG_FILES);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), '0');
	assert_int_equal(bed->rig->vm.guest_faults, 5);

	/* The request itself is nowhere, or ends beyond RAM. */
	rig_write(bed->rig, 0, DMA_HIGH, 4, htobe32(1));
	rig_write(bed->rig, 0, DMA_LOW, 4, 0);
	rig_write(bed->rig, 0, DMA_LOW, 4, htobe32(RAM_SIZE - 8));
	rig_write(bed->rig, 0, DMA_LOW, 4, UINT32_MAX);
	assert_int_equal(bed->rig->vm.guest_faults, 8);

	/* A request that is read over itself still gets its answer. */
	assert_int_equal(dma_at(bed, TARGET, read, 10, TARGET), 0);

	/* Skipping far beyond the end stays there; keys that are not there are empty. */
	select_key(bed, FWCFG_FILES);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(dma(bed, FWCFG_DMA_SKIP, UINT32_MAX - 1, 0), 0);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 0);
	select_key(bed, 0xffff);
	read_data(bed, &byte, 1);
	assert_int_equal(byte, 0);
	assert_int_equal(dma(bed, 0, UINT32_MAX, UINT64_MAX), 0);

	/* Writes of the data register and of odd places and widths vanish. */
	for (unsigned len = 1; len <= 4; len *= 2) {
		for (unsigned offset = 0; offset < 12; offset += len) {
			if (offset != SELECTOR && offset != DMA_LOW)
				rig_write(bed->rig, 0, offset, len, 0x5a5a5a5a);
		}
	}
	select_key(bed, FWCFG_SIGNATURE);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 'Q');
}

static void test_state(void **state)
{
	struct bed *bed = *state;

	select_key(bed, FWCFG_SIGNATURE);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 'Q');
	rig_restore(bed->rig);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 'E');
	device_reset(bed->rig->dev);
	assert_int_equal(rig_read(bed->rig, 0, DATA, 1), 'Q');
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_presence),
		T(test_files),
		T(test_full),
		T(test_dma),
		T(test_hostile),
		T(test_state),
	};

	return cmocka_run_group_tests_name("fw_cfg", tests, unit_adopt, unit_release);
}
