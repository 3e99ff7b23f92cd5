/* SPDX-License-Identifier: BSD-2-Clause */
/* test_flash.c - the flash chip: its commands, what is kept in the file, and what a hostile guest writes. */
#include "dev_rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/status.h"
#include "dev/flash.h"

#define BASE   0x100000
#define BLOCKS 4
#define SIZE   (BLOCKS * FLASH_BLOCK)

#define PAIR_SIZE   FLASH_PAIR_MIN
#define PAIR_BUFFER (2 * FLASH_BUFFER)

struct bed {
	struct rig *rig;
	bool pair;
	char path[40];
};

static void fill_file(const char *path, uint64_t size)
{
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	for (uint64_t i = 0; i < size; i++)
		fputc((int)(i / FLASH_BLOCK == 1 ? 0xff : i & 0xff), file);
	assert_int_equal(fclose(file), 0);
}

static void add(struct bed *bed)
{
	const struct flash_config config = { .path = bed->path, .pair = bed->pair };
	struct device *dev;
	struct error err;

	assert_int_equal(flash_type.create(&bed->rig->vm, "flash", &config, &dev, &err), 0);
	dev->regions[0]->space = SPACE_MMIO;
	dev->regions[0]->base = BASE;
	assert_int_equal(vm_add_devices(&bed->rig->vm, &dev, 1, &err), 0);
	device_power_on(dev);
	flash_type.start(dev);
	bed->rig->dev = dev;
}

static int set_up(void **state, bool pair)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	int fd;

	assert_non_null(bed);
	bed->pair = pair;
	strcpy(bed->path, "/tmp/trapline-flash-XXXXXX");
	fd = mkstemp(bed->path);
	assert_true(fd >= 0);
	close(fd);
	fill_file(bed->path, pair ? PAIR_SIZE : SIZE);
	bed->rig = rig_new(0);
	add(bed);
	*state = bed;
	return 0;
}

static int setup(void **state)
{
	return set_up(state, false);
}

static int setup_pair(void **state)
{
	return set_up(state, true);
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	rig_free(bed->rig);
	unlink(bed->path);
	free(bed);
	return 0;
}

static uint64_t get(struct bed *bed, uint64_t offset, unsigned len)
{
	uint64_t value = 0;

	bus_access(bed->rig->vm.bus, &bed->rig->from, SPACE_MMIO, BASE + offset, &value, len, 1, false);
	return value;
}

static void put(struct bed *bed, uint64_t offset, unsigned len, uint64_t value)
{
	bus_access(bed->rig->vm.bus, &bed->rig->from, SPACE_MMIO, BASE + offset, &value, len, 1, true);
}

static void command2(struct bed *bed, uint64_t offset, uint8_t first, uint8_t second)
{
	put(bed, offset, 1, first);
	put(bed, offset, 1, second);
}

static uint8_t in_file(struct bed *bed, long offset)
{
	FILE *file = fopen(bed->path, "rb");
	int byte;

	assert_non_null(file);
	assert_int_equal(fseek(file, offset, SEEK_SET), 0);
	byte = fgetc(file);
	fclose(file);
	return (uint8_t)byte;
}

static enum region_kind kind(struct bed *bed)
{
	return bed->rig->dev->regions[0]->kind;
}

/* A whole memory as long as nobody asks for something else. */
static void test_array(void **state)
{
	struct bed *bed = *state;

	assert_int_equal(kind(bed), REGION_ROM);
	assert_int_equal(get(bed, 0x10, 4), 0x13121110);
	assert_int_equal(get(bed, FLASH_BLOCK, 8), UINT64_MAX);
	assert_int_equal(get(bed, SIZE - 1, 1), 0xff);
}

/* The steps by which OVMF tells a flash from a ROM and from RAM. */
static void test_detection(void **state)
{
	struct bed *bed = *state;

	put(bed, 0x10, 1, 0x50);
	assert_int_equal(get(bed, 0x10, 1), 0x10);
	put(bed, 0x10, 1, 0x70);
	assert_int_equal(kind(bed), REGION_TRAP);
	assert_int_equal(get(bed, 0x10, 1), 0);
	put(bed, 0x10, 1, 0xff);
	assert_int_equal(kind(bed), REGION_ROM);
	assert_int_equal(get(bed, 0x10, 1), 0x10);
}

static void test_id_and_query(void **state)
{
	struct bed *bed = *state;

	put(bed, 0, 1, 0x90);
	assert_int_equal(get(bed, 0, 1), 0x89);
	assert_int_equal(get(bed, 2, 1), 0);
	put(bed, 0x55, 1, 0x98);
	assert_int_equal(get(bed, 0x10, 4) & 0xffffff, 0x595251); /* "QRY" */
	assert_int_equal(get(bed, 0x13, 1), 1);
	assert_int_equal(1 << get(bed, 0x27, 1), SIZE);
	assert_int_equal(1 << get(bed, 0x2a, 1), FLASH_BUFFER);
	assert_int_equal(get(bed, 0x2d, 1), BLOCKS - 1);
	assert_int_equal((get(bed, 0x2f, 1) | get(bed, 0x30, 1) << 8) * 256, FLASH_BLOCK);
	assert_int_equal(get(bed, SIZE - 1, 1), 0);
	put(bed, 0, 1, 0xff);
}

static void test_program_and_erase(void **state)
{
	struct bed *bed = *state;

	command2(bed, FLASH_BLOCK + 5, 0x10, 0x5a);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY);
	command2(bed, FLASH_BLOCK + 6, 0x40, 0xa5);
	/* Bits can be cleared and not set. */
	command2(bed, FLASH_BLOCK + 5, 0x10, 0xf0);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, FLASH_BLOCK + 4, 4), 0xffa550ff);
	assert_int_equal(in_file(bed, FLASH_BLOCK + 5), 0xff); /* until the event loop writes it */
	flash_type.stop(bed->rig->dev);
	assert_int_equal(in_file(bed, FLASH_BLOCK + 5), 0x50);
	assert_int_equal(in_file(bed, FLASH_BLOCK + 6), 0xa5);

	command2(bed, FLASH_BLOCK + 100, 0x20, 0xd0);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, FLASH_BLOCK + 4, 4), 0xffffffff);
	assert_int_equal(get(bed, FLASH_BLOCK - 1, 1), 0xff); /* its neighbours stay */
	assert_int_equal(get(bed, 2 * FLASH_BLOCK + 3, 1), 3);

	/* Not confirmed: an error, nothing erased. */
	command2(bed, 0, 0x20, 0xff);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY | FLASH_STATUS_ERASE_ERROR | FLASH_STATUS_PROGRAM_ERROR);
	put(bed, 0, 1, 0x50);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, 0x10, 1), 0x10);
}

static void test_buffer(void **state)
{
	struct bed *bed = *state;

	command2(bed, FLASH_BLOCK, 0xe8, FLASH_BUFFER - 1);
	for (unsigned i = 0; i < FLASH_BUFFER; i++)
		put(bed, FLASH_BLOCK + 0x80 + i, 1, i);
	put(bed, FLASH_BLOCK, 1, 0xd0);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, FLASH_BLOCK + 0x7f, 4), 0x020100ff);
	assert_int_equal(get(bed, FLASH_BLOCK + 0x80 + 0xff, 2), 0xffff);

	/* Data outside of the block, and no confirmation. */
	command2(bed, FLASH_BLOCK, 0xe8, 1);
	put(bed, FLASH_BLOCK + 0x800, 1, 0);
	put(bed, 2 * FLASH_BLOCK, 1, 0);
	assert_int_equal(get(bed, 0, 1) & FLASH_STATUS_PROGRAM_ERROR, FLASH_STATUS_PROGRAM_ERROR);
	put(bed, 0, 1, 0x50);
	command2(bed, FLASH_BLOCK, 0xe8, 0);
	put(bed, FLASH_BLOCK + 0x800, 1, 0);
	put(bed, FLASH_BLOCK + 0x800, 1, 0xff);
	assert_int_equal(get(bed, 0, 1) & FLASH_STATUS_PROGRAM_ERROR, FLASH_STATUS_PROGRAM_ERROR);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, FLASH_BLOCK + 0x800, 1), 0xff);
	assert_int_equal(get(bed, 2 * FLASH_BLOCK + 1, 1), 1);
}

/* Reset ends what was begun, and what is stored stays. A saved state may hold anything. */
static void test_state(void **state)
{
	struct bed *bed = *state;

	command2(bed, FLASH_BLOCK, 0x10, 0x11);
	command2(bed, FLASH_BLOCK, 0xe8, 9);
	device_reset(bed->rig->dev);
	assert_int_equal(kind(bed), REGION_ROM);
	assert_int_equal(get(bed, FLASH_BLOCK, 1), 0x11);
	put(bed, 0, 1, 0x70);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY);
	rig_restore(bed->rig);
	assert_int_equal(kind(bed), REGION_TRAP);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY);
	memset((char *)bed->rig->dev + flash_type.state_offset, 0xee, 8);
	flash_type.start(bed->rig->dev);
	assert_int_equal(kind(bed), REGION_ROM);
}

static void test_garbage(void **state)
{
	struct bed *bed = *state;
	const uint32_t size = bed->pair ? PAIR_SIZE : SIZE;
	uint32_t seed = 1;
	FILE *file;

	for (unsigned i = 0; i < 200000; i++) {
		static const uint8_t likely[] = { 0x10, 0x20, 0xd0, 0xe8, 0xff, 0x70, 0x00, 0x90 };
		uint32_t offset, r;

		r = seed = seed * 1664525 + 1013904223;
		offset = (r >> 8) % size;
		if (r >> 28 < 4)
			(void)get(bed, offset, 1U << (r & 3));
		else
			put(bed, r & 0x80 ? offset & ~3U : offset, 1U << (r >> 4 & 3),
				r & 0x40 ? likely[r >> 8 & 7] : r >> 8);
	}
	put(bed, 0, bed->pair ? 4 : 1, 0xff);
	flash_type.stop(bed->rig->dev);
	device_reset(bed->rig->dev);
	file = fopen(bed->path, "rb");
	assert_non_null(file);
	for (unsigned i = 0; i < size; i++)
		assert_int_equal(get(bed, i, 1), fgetc(file));
	fclose(file);
}

/* ---- a pair ---- */

static void both(struct bed *bed, uint64_t offset, uint8_t command)
{
	put(bed, offset, 4, command * 0x00010001U);
}

/* What Linux and EDK2 read: each chip in its half of a word. */
static void test_pair_tells(void **state)
{
	struct bed *bed = *state;

	assert_int_equal(get(bed, 0x10, 4), 0x13121110);
	assert_int_equal(get(bed, 0x11, 1), 0x11);
	both(bed, 0x55 * 4, 0x98);
	assert_int_equal(kind(bed), REGION_TRAP);
	assert_int_equal(get(bed, 0x10 * 4, 4), 0x00510051); /* Q */
	assert_int_equal(get(bed, 0x11 * 4, 8), 0x0059005900520052);
	assert_int_equal(get(bed, 0x13 * 4, 4), 0x00010001);
	assert_int_equal(1 << (get(bed, 0x27 * 4, 4) & 0xff), PAIR_SIZE / 2);
	assert_int_equal(get(bed, 0x28 * 4, 4), 0x00010001); /* 16 bits */
	assert_int_equal(1 << (get(bed, 0x2a * 4, 4) & 0xff), FLASH_BUFFER);
	assert_int_equal(get(bed, 0x2d * 4, 4) & 0xff, PAIR_SIZE / FLASH_PAIR_BLOCK - 1);
	assert_int_equal(
		(get(bed, 0x2f * 4, 4) & 0xff) * 256 + (get(bed, 0x30 * 4, 4) & 0xff) * 65536, FLASH_PAIR_BLOCK / 2);
	/* The table of the command set, where the other says. */
	assert_int_equal(get(bed, 0x15 * 4, 4) & 0xff, 0x31);
	assert_int_equal(get(bed, 0x31 * 4, 4), 0x00500050); /* P */
	assert_int_equal(get(bed, 0x34 * 4, 4), 0x00310031); /* version 1.1 */
	assert_int_equal(get(bed, 0x42 * 4, 4), 0);
	both(bed, 0, 0x90);
	assert_int_equal(get(bed, 0, 4), 0x00890089);
	assert_int_equal(get(bed, 2 * 4, 4), 0);
	/* Less than a word reaches nobody. */
	assert_int_equal(get(bed, 0, 2), 0xffff);
	put(bed, 0, 2, 0xff);
	assert_int_equal(kind(bed), REGION_TRAP);
	both(bed, 0, 0xff);
	assert_int_equal(kind(bed), REGION_ROM);
}

static void test_pair_programs(void **state)
{
	struct bed *bed = *state;
	const uint32_t at = FLASH_PAIR_BLOCK;

	both(bed, at, 0x60); /* unlock, as EDK2 does before each erase */
	both(bed, at, 0xd0);
	assert_int_equal(get(bed, at, 4), 0x00800080);
	both(bed, at, 0x20);
	both(bed, at, 0xd0);
	assert_int_equal(get(bed, at, 4), 0x00800080);
	/* A wrong sequence; what is cleared is the errors. */
	both(bed, at, 0x20);
	both(bed, at, 0x40);
	assert_int_equal(get(bed, at, 4), 0x00b000b0);
	both(bed, at, 0x50);
	both(bed, at, 0x70);
	assert_int_equal(get(bed, at, 4), 0x00800080);
	both(bed, at + 8, 0x40);
	put(bed, at + 8, 4, 0x12345678);
	both(bed, at + 8, 0x10);
	put(bed, at + 8, 4, 0xffff00ff);
	both(bed, 0, 0xff);
	assert_int_equal(get(bed, at + 4, 4), 0xffffffff);
	assert_int_equal(get(bed, at + 8, 8), 0xffffffff12340078);
	assert_int_equal(get(bed, PAIR_SIZE - 1, 1), 0xff);
	assert_int_equal(get(bed, at - 1, 1), 0xff);
	assert_int_equal(get(bed, at - 2, 1), 0xfe); /* the neighbour stays */
	flash_type.stop(bed->rig->dev);
	assert_int_equal(in_file(bed, at + 8), 0x78);
	assert_int_equal(in_file(bed, PAIR_SIZE - 2), 0xff);
}

static void test_pair_buffer(void **state)
{
	struct bed *bed = *state;
	const uint32_t at = FLASH_BLOCK; /* all ones */

	both(bed, at + PAIR_BUFFER, 0xe8);
	assert_int_equal(get(bed, at, 4), 0x00800080);
	both(bed, at + PAIR_BUFFER, PAIR_BUFFER / 4 - 1);
	for (uint32_t i = 0; i < PAIR_BUFFER; i += 4)
		put(bed, at + PAIR_BUFFER + i, 4, 0x01020304 + i);
	both(bed, at + PAIR_BUFFER, 0xd0);
	assert_int_equal(get(bed, at, 4), 0x00800080);
	both(bed, 0, 0xff);
	assert_int_equal(get(bed, at + PAIR_BUFFER, 8), 0x0102030801020304);
	assert_int_equal(get(bed, at + 2 * PAIR_BUFFER - 4, 8), 0xffffffff01020304 + PAIR_BUFFER - 4);
	assert_int_equal(get(bed, at + PAIR_BUFFER - 4, 4), 0xffffffff);
	/* More than there is room for, by one and by far; outside of what it may change. */
	for (unsigned i = 0; i < 2; i++) {
		both(bed, at, 0xe8);
		put(bed, at, 4, i ? 0xffffffff : (PAIR_BUFFER / 4) * 0x00010001U);
		assert_int_equal(get(bed, at, 4), 0x00b000b0);
		both(bed, at, 0x50);
	}
	both(bed, at, 0xe8);
	both(bed, at, 0);
	put(bed, at + FLASH_BLOCK, 4, 0);
	assert_int_equal(get(bed, at, 4), 0x00b000b0);
	both(bed, 0, 0xff);
	assert_int_equal(get(bed, at + FLASH_BLOCK + 1, 1), 1);
}

/* The file has its size limit below the block: the chip says so, and changes nothing any more. */
static void test_broken_file(void **state)
{
	struct bed *bed = *state;
	struct rlimit old, none;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none = old;
	none.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	command2(bed, FLASH_BLOCK, 0x10, 0x11);
	flash_type.stop(bed->rig->dev);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	command2(bed, FLASH_BLOCK + 1, 0x10, 0x11);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY | FLASH_STATUS_PROGRAM_ERROR);
	put(bed, 0, 1, 0x50);
	command2(bed, FLASH_BLOCK + 1, 0x20, 0xd0);
	assert_int_equal(get(bed, 0, 1), FLASH_STATUS_READY | FLASH_STATUS_ERASE_ERROR);
	put(bed, 0, 1, 0xff);
	assert_int_equal(get(bed, FLASH_BLOCK, 2), 0xff11);
}

static void refused(struct bed *bed, const char *path, const char *word)
{
	const struct flash_config config = { .path = path, .pair = bed->pair };
	struct device *dev = NULL;
	struct error err = { 0 };

	assert_int_not_equal(flash_type.create(&bed->rig->vm, "other", &config, &dev, &err), 0);
	assert_int_equal(err.status, STATUS_IMAGE);
	if (!strstr(err.text, word) || !strstr(err.text, path))
		fail_msg("%s", err.text);
}

static void test_refusals(void **state)
{
	struct bed *bed = *state;
	char path[64];

	refused(bed, bed->path, "another guest");
	refused(bed, "/nonexistent/flash", "No such file");
	refused(bed, "/dev/null", "not a regular file");
	snprintf(path, sizeof(path), "%s.odd", bed->path);
	fill_file(path, FLASH_BLOCK + 1);
	refused(bed, path, "4097 bytes");
	fill_file(path, 0);
	refused(bed, path, "0 bytes");
	assert_int_equal(truncate(path, FLASH_MAX + FLASH_BLOCK), 0);
	refused(bed, path, "16 MiB");
	unlink(path);
}

static void test_pair_refusals(void **state)
{
	static const uint32_t sizes[] = { FLASH_PAIR_MIN - 1, FLASH_PAIR_MIN / 2, FLASH_PAIR_MIN + FLASH_PAIR_BLOCK,
		FLASH_MAX * 2 };
	struct bed *bed = *state;
	char path[64];

	refused(bed, bed->path, "another guest");
	snprintf(path, sizeof(path), "%s.odd", bed->path);
	fill_file(path, 0);
	refused(bed, path, "0 bytes");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(truncate(path, sizes[i]), 0);
		refused(bed, path, "a power of two from 128 KiB to 16 MiB");
	}
	unlink(path);
}

#define P(f) cmocka_unit_test_setup_teardown(f, setup_pair, teardown)
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_array),
		T(test_detection),
		T(test_id_and_query),
		T(test_program_and_erase),
		T(test_buffer),
		T(test_state),
		T(test_garbage),
		T(test_broken_file),
		T(test_refusals),
		P(test_pair_tells),
		P(test_pair_programs),
		P(test_pair_buffer),
		P(test_garbage),
		P(test_pair_refusals),
	};

	return cmocka_run_group_tests_name("flash", tests, unit_adopt, unit_release);
}
