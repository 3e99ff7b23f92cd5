/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_mem.c - the guest-memory gateway and the memory behind RAM. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bus/bus.h"
#include "core/mem.h"
#include "resident.h"

/* clang's way to say what gcc defines. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#define LOW_BASE 0x80000000ULL
#define PIECE    0x4000ULL
#define TOP_BASE (UINT64_MAX - PIECE + 1) /* ends with the address space */
#define ROM_BASE 0xffff0000ULL

struct bed {
	struct bus *bus;
	struct mem mem;
	struct memory *memory, *rom_memory;
	struct region low, next, top, rom, zero;
	struct mem_watch watch;
	uint64_t wrote_gpa, wrote_len;
	unsigned wrote;
};

static void noted(struct mem_watch *watch, uint64_t gpa, uint64_t len)
{
	struct bed *bed = (struct bed *)(void *)((char *)watch - offsetof(struct bed, watch));

	bed->wrote++;
	bed->wrote_gpa = gpa;
	bed->wrote_len = len;
}

static void ram(struct bed *bed, struct region *region, uint64_t base, uint64_t offset)
{
	*region = (struct region){ .name = "ram",
		.kind = REGION_RAM,
		.space = SPACE_MMIO,
		.base = base,
		.size = PIECE,
		.memory = bed->memory,
		.memory_offset = offset };
	assert_int_equal(bus_add(bed->bus, region), 0);
}

/* Two neighbours in the guest that lie the other way round in the host, one at either end of the space, and a ROM. */
static void bed_init(struct bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	bed->bus = bus_new();
	assert_non_null(bed->bus);
	bed->mem.bus = bed->bus;
	assert_int_equal(memory_new(4 * PIECE, &bed->memory), 0);
	assert_int_equal(memory_new(PIECE, &bed->rom_memory), 0);
	ram(bed, &bed->low, LOW_BASE, PIECE);
	ram(bed, &bed->next, LOW_BASE + PIECE, 0);
	ram(bed, &bed->top, TOP_BASE, 2 * PIECE);
	ram(bed, &bed->zero, 0, 3 * PIECE); /* where an address that wraps would land */
	bed->rom = (struct region){ .name = "rom",
		.kind = REGION_ROM,
		.space = SPACE_MMIO,
		.base = ROM_BASE,
		.size = PIECE,
		.memory = bed->rom_memory };
	assert_int_equal(bus_add(bed->bus, &bed->rom), 0);
	bed->watch.wrote = noted;
	bed->mem.watch = &bed->watch;
}

static void bed_fini(struct bed *bed)
{
	struct region *regions[] = { &bed->low, &bed->next, &bed->top, &bed->rom, &bed->zero };

	for (unsigned i = 0; i < 5; i++)
		bus_remove(bed->bus, regions[i]);
	bus_drain(bed->bus);
	memory_put(bed->memory);
	memory_put(bed->rom_memory);
	bus_free(bed->bus);
}

static void test_copy_across_pieces(void **state)
{
	uint8_t out[64], in[64];
	uint8_t *host;
	struct bed bed;

	bed_init(&bed);
	host = bed.memory->host;
	for (unsigned i = 0; i < 64; i++)
		out[i] = (uint8_t)(i + 1);
	assert_int_equal(mem_write(&bed.mem, LOW_BASE + PIECE - 20, out, 64), 0);
	assert_int_equal(bed.wrote, 1);
	assert_true(bed.wrote_gpa == LOW_BASE + PIECE - 20);
	assert_int_equal(bed.wrote_len, 64);
	/* Each half where its region says. */
	assert_memory_equal(host + 2 * PIECE - 20, out, 20);
	assert_memory_equal(host, out + 20, 44);
	assert_int_equal(mem_read(&bed.mem, LOW_BASE + PIECE - 20, in, 64), 0);
	assert_memory_equal(in, out, 64);
	assert_int_equal(mem_fill(&bed.mem, LOW_BASE + PIECE - 1, 0xaa, 2), 0);
	assert_int_equal(host[2 * PIECE - 1], 0xaa);
	assert_int_equal(host[0], 0xaa);
	assert_int_equal(host[1], out[21]);
	bed_fini(&bed);
}

static void test_faults(void **state)
{
	uint8_t buf[256] = { 1, 2, 3, 4 };
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(mem_read(&bed.mem, LOW_BASE - 1, buf, 1), -EFAULT);
	assert_int_equal(mem_read(&bed.mem, LOW_BASE + 2 * PIECE - 4, buf, 5), -EFAULT);
	assert_int_equal(mem_write(&bed.mem, PIECE, buf, 1), -EFAULT);
	assert_int_equal(bed.wrote, 0);
	/* What could be written was, and is told. */
	assert_int_equal(mem_write(&bed.mem, LOW_BASE + 2 * PIECE - 4, buf, 5), -EFAULT);
	assert_int_equal(bed.wrote_len, 4);
	/* Nothing asked for is nothing missing. */
	assert_int_equal(mem_read(&bed.mem, PIECE, buf, 0), 0);
	assert_int_equal(mem_write(&bed.mem, PIECE, buf, 0), 0);
	assert_int_equal(mem_fill(&bed.mem, UINT64_MAX, 0, 0), 0);
	assert_int_equal(bed.wrote, 1);
	bed_fini(&bed);
}

static void test_end_of_address_space(void **state)
{
	uint8_t buf[16] = { 9, 8, 7 };
	struct mem_ref ref;
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(mem_write(&bed.mem, UINT64_MAX - 15, buf, 16), 0);
	assert_int_equal(mem_read(&bed.mem, UINT64_MAX, buf, 1), 0);
	/* Wraps to address 0. */
	assert_int_equal(mem_write(&bed.mem, UINT64_MAX - 15, buf, 17), -EFAULT);
	assert_int_equal(((uint8_t *)bed.memory->host)[3 * PIECE], 0);
	assert_int_equal(mem_read(&bed.mem, UINT64_MAX, buf, 2), -EFAULT);
	assert_int_equal(mem_fill(&bed.mem, LOW_BASE, 0, UINT64_MAX), -EFAULT);
	assert_int_equal(mem_map(&bed.mem, UINT64_MAX, 2, true, &ref), -EFAULT);
	assert_int_equal(mem_map(&bed.mem, LOW_BASE, UINT64_MAX, true, &ref), -EFAULT);
	bed_fini(&bed);
}

static void test_rom(void **state)
{
	uint8_t byte = 5;
	struct mem_ref ref;
	struct bed bed;

	bed_init(&bed);
	memset(bed.rom_memory->host, 0x77, PIECE);
	assert_int_equal(mem_read(&bed.mem, ROM_BASE + 3, &byte, 1), 0);
	assert_int_equal(byte, 0x77);
	assert_int_equal(mem_write(&bed.mem, ROM_BASE, &byte, 1), -EFAULT);
	assert_int_equal(mem_map(&bed.mem, ROM_BASE, 16, true, &ref), -EFAULT);
	assert_int_equal(mem_map(&bed.mem, ROM_BASE, 16, false, &ref), 0);
	mem_unmap(&ref);
	bed_fini(&bed);
}

static void test_map_outlives_region(void **state)
{
	struct mem_ref ref, none;
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(mem_map(&bed.mem, LOW_BASE + PIECE - 8, 16, false, &none), -EFAULT); /* not one piece */
	assert_int_equal(mem_map(&bed.mem, LOW_BASE, 0, false, &none), -EFAULT);
	assert_null(none.memory);
	mem_unmap(&none);
	assert_int_equal(mem_map(&bed.mem, LOW_BASE + 16, 100, true, &ref), 0);
	assert_ptr_equal(ref.host, (uint8_t *)bed.memory->host + PIECE + 16);
	assert_int_equal(ref.len, 100);
	bed_fini(&bed);
	/* Regions, bus and the owner's reference are gone; ours holds the memory. */
	memset(ref.host, 0x11, ref.len);
	mem_unmap(&ref);
	assert_null(ref.host);
	mem_unmap(&ref);
}

/* A word is one access: aligned, in one piece, in memory, little-endian. */
static void test_words(void **state)
{
	uint8_t bytes[4];
	uint16_t half;
	uint32_t word;
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(mem_store16(&bed.mem, LOW_BASE + PIECE - 2, 0x1234), 0);
	assert_int_equal(bed.wrote, 1);
	assert_true(bed.wrote_gpa == LOW_BASE + PIECE - 2);
	assert_int_equal(bed.wrote_len, 2);
	assert_int_equal(mem_store32(&bed.mem, LOW_BASE + PIECE, 0xdeadbeef), 0);
	assert_int_equal(bed.wrote_len, 4);
	assert_int_equal(mem_read(&bed.mem, LOW_BASE + PIECE - 2, bytes, 4), 0);
	assert_memory_equal(bytes, "\x34\x12\xef\xbe", 4);
	assert_int_equal(mem_load16(&bed.mem, LOW_BASE + PIECE - 2, &half), 0);
	assert_int_equal(half, 0x1234);
	assert_int_equal(mem_load32(&bed.mem, LOW_BASE + PIECE, &word), 0);
	assert_int_equal(word, 0xdeadbeef);
	bed.wrote = 0;
	for (unsigned odd = 1; odd < 4; odd++) {
		assert_int_equal(mem_load32(&bed.mem, LOW_BASE + odd, &word), -EFAULT);
		assert_int_equal(mem_store32(&bed.mem, LOW_BASE + odd, 1), -EFAULT);
	}
	assert_int_equal(mem_load16(&bed.mem, LOW_BASE + PIECE - 1, &half), -EFAULT); /* across two pieces, too */
	assert_int_equal(mem_store16(&bed.mem, LOW_BASE + 1, 1), -EFAULT);
	assert_int_equal(mem_load16(&bed.mem, LOW_BASE + 2 * PIECE, &half), -EFAULT);
	assert_int_equal(mem_store32(&bed.mem, LOW_BASE - 4, 1), -EFAULT);
	assert_int_equal(mem_load16(&bed.mem, ROM_BASE, &half), 0);
	assert_int_equal(mem_store16(&bed.mem, ROM_BASE, 1), -EFAULT);
	assert_int_equal(bed.wrote, 0);
	bed_fini(&bed);
}

/* Memory whose place in the host is odd: a word there would be torn. */
static void test_words_behind_odd_memory(void **state)
{
	struct region odd;
	uint16_t half;
	struct bed bed;

	bed_init(&bed);
	odd = (struct region){ .name = "odd",
		.kind = REGION_RAM,
		.space = SPACE_MMIO,
		.base = 0x1000000,
		.size = 16,
		.memory = bed.memory,
		.memory_offset = 1 };
	assert_int_equal(bus_add(bed.bus, &odd), 0);
	assert_int_equal(mem_load16(&bed.mem, 0x1000000, &half), -EFAULT);
	assert_int_equal(mem_store16(&bed.mem, 0x1000000, 1), -EFAULT);
	bus_remove(bed.bus, &odd);
	bed_fini(&bed);
}

static void test_map_some(void **state)
{
	struct mem_ref ref;
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(mem_map_some(&bed.mem, LOW_BASE + PIECE - 8, 20, true, &ref), 0);
	assert_int_equal(ref.len, 8);
	assert_ptr_equal(ref.host, (uint8_t *)bed.memory->host + 2 * PIECE - 8);
	mem_unmap(&ref);
	assert_int_equal(mem_map_some(&bed.mem, LOW_BASE + PIECE, 12, true, &ref), 0);
	assert_int_equal(ref.len, 12);
	assert_ptr_equal(ref.host, bed.memory->host);
	mem_unmap(&ref);
	assert_int_equal(mem_map_some(&bed.mem, LOW_BASE + 2 * PIECE, 1, false, &ref), -EFAULT);
	assert_int_equal(mem_map_some(&bed.mem, UINT64_MAX, 2, false, &ref), -EFAULT);
	assert_int_equal(mem_map_some(&bed.mem, ROM_BASE, 2, true, &ref), -EFAULT);
	bed_fini(&bed);
}

/* What a window says of the byte at `gpa`, opened and closed for it. */
static int seen_by(struct mem_window *w, struct mem *mem, uint64_t gpa, uint8_t *byte)
{
	int rc;

	mem_window_open(w, mem);
	rc = mem_window_read(w, gpa, byte, 1);
	mem_window_close(w);
	return rc;
}

/* It keeps the last look-up from one time to the next, and never what has changed meanwhile. */
static void test_window_is_kept(void **state)
{
	struct mem_window w = { 0 };
	struct region alias;
	struct bed bed;
	struct edit edit;
	uint8_t byte;

	bed_init(&bed);
	((uint8_t *)bed.memory->host)[PIECE] = 0x51;
	((uint8_t *)bed.memory->host)[0] = 0x52;
	assert_int_equal(seen_by(&w, &bed.mem, LOW_BASE, &byte), 0);
	assert_int_equal(byte, 0x51);
	assert_ptr_equal(w.host, (uint8_t *)bed.memory->host + PIECE);
	mem_window_open(&w, &bed.mem);
	assert_ptr_equal(w.host, (uint8_t *)bed.memory->host + PIECE);
	mem_window_close(&w);
	/* Moved away: the neighbour comes into its place. */
	bus_remove(bed.bus, &bed.low);
	assert_int_equal(seen_by(&w, &bed.mem, LOW_BASE, &byte), -EFAULT);
	edit = (struct edit){ .op = EDIT_MOVE, .region = &bed.next, .space = SPACE_MMIO, .base = LOW_BASE };
	assert_int_equal(bus_edit(bed.bus, &edit, 1, NULL, NULL), 0);
	assert_int_equal(seen_by(&w, &bed.mem, LOW_BASE, &byte), 0);
	assert_int_equal(byte, 0x52);
	/* Read-only from now on. */
	edit = (struct edit){ .op = EDIT_KIND, .region = &bed.next, .kind = REGION_ROM };
	assert_int_equal(bus_edit(bed.bus, &edit, 1, NULL, NULL), 0);
	mem_window_open(&w, &bed.mem);
	assert_int_equal(mem_window_write(&w, LOW_BASE, &byte, 1), -EFAULT);
	mem_window_close(&w);
	/* The way to it goes, and not the place. */
	alias = (struct region){ .name = "alias",
		.kind = REGION_ALIAS,
		.space = SPACE_MMIO,
		.base = LOW_BASE + 4 * PIECE,
		.size = PIECE,
		.target_space = SPACE_MMIO,
		.target_base = LOW_BASE };
	assert_int_equal(bus_add(bed.bus, &alias), 0);
	assert_int_equal(seen_by(&w, &bed.mem, LOW_BASE + 4 * PIECE, &byte), 0);
	assert_int_equal(byte, 0x52);
	bus_remove(bed.bus, &alias);
	assert_int_equal(seen_by(&w, &bed.mem, LOW_BASE + 4 * PIECE, &byte), -EFAULT);
	bed_fini(&bed);
}

struct changing {
	struct bed *bed;
	bool over;           /* all are atomic */
	unsigned seen, none; /* how often the reader has seen it there, and not */
};

static void *look_all_the_time(void *arg)
{
	struct changing *c = arg;
	struct mem_window w = { 0 };
	uint8_t byte;

	bus_thread_enter();
	while (!__atomic_load_n(&c->over, __ATOMIC_RELAXED)) {
		if (seen_by(&w, &c->bed->mem, 0x10000000, &byte)) {
			__atomic_add_fetch(&c->none, 1, __ATOMIC_RELAXED);
			continue;
		}
		assert_int_equal(byte, 0x77);
		__atomic_add_fetch(&c->seen, 1, __ATOMIC_RELAXED);
	}
	bus_thread_leave();
	return NULL;
}

/* Memory that comes and goes, and is unmapped as soon as the bus says that nobody looks any more. */
static void test_window_while_memory_goes(void **state)
{
	struct changing c = { 0 };
	pthread_t reader;
	struct bed bed;

	bed_init(&bed);
	c.bed = &bed;
	assert_int_equal(pthread_create(&reader, NULL, look_all_the_time, &c), 0);
	/* However late the reader begins. */
	for (unsigned i = 0;
		i < 300 || !__atomic_load_n(&c.seen, __ATOMIC_RELAXED) || !__atomic_load_n(&c.none, __ATOMIC_RELAXED);
		i++) {
		struct region region = {
			.name = "guest", .kind = REGION_RAM, .space = SPACE_MMIO, .base = 0x10000000, .size = PIECE
		};

		assert_int_equal(memory_new(PIECE, &region.memory), 0);
		memset(region.memory->host, 0x77, PIECE);
		assert_int_equal(bus_add(bed.bus, &region), 0);
		memory_put(region.memory);
		usleep(100);
		bus_remove(bed.bus, &region);
		bus_drain(bed.bus);
	}
	__atomic_store_n(&c.over, true, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	bed_fini(&bed);
}

/* Whole pages of what was named, whatever it is that backs them; and nothing else. */
static void test_discard(void **state)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct bed bed;

	for (unsigned shared = 0; shared < 2; shared++) {
		int fd = memfd_create("shared", MFD_CLOEXEC);
		uint8_t *host;

		bed_init(&bed);
		host = bed.memory->host;
		assert_int_equal(ftruncate(fd, 4 * PIECE), 0);
		if (shared) {
			assert_ptr_equal(
				mmap(host, 4 * PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), host);
			bed.memory->shared = true;
		}
		memset(host, 0x33, 4 * PIECE);
		/* From the middle of the last page but one of `low` to the middle of the second of `next`. */
		assert_int_equal(mem_discard(&bed.mem, LOW_BASE + PIECE - page - 8, 2 * page + 16), 0);
		for (uint64_t i = 0; i < 4 * PIECE; i++) {
			bool gone = i < page || (i >= 2 * PIECE - page && i < 2 * PIECE);

			assert_int_equal(host[i], gone ? 0 : 0x33);
		}
		/* The guest sees other bytes than before. */
		assert_int_equal(bed.wrote, 2);
		if (shared) {
			/* In the file as well. */
			uint8_t byte = 1;

			assert_int_equal(pread(fd, &byte, 1, 0), 1);
			assert_int_equal(byte, 0);
		}
		/* Less than a page, nothing, and no RAM. */
		assert_int_equal(mem_discard(&bed.mem, LOW_BASE + 1, page - 1), 0);
		assert_int_equal(host[PIECE + 1], 0x33);
		assert_int_equal(mem_discard(&bed.mem, LOW_BASE, 0), 0);
		assert_int_equal(mem_discard(&bed.mem, LOW_BASE - page, page), -EFAULT);
		assert_int_equal(mem_discard(&bed.mem, ROM_BASE, page), -EFAULT);
		assert_int_equal(mem_discard(&bed.mem, UINT64_MAX - page + 1, 2 * page), -EFAULT);
		bed_fini(&bed);
		close(fd);
	}
}

static void test_memory_new(void **state)
{
	struct memory *memory;

	assert_int_equal(memory_new(0, &memory), -EINVAL);
	assert_null(memory);
	assert_int_equal(memory_new(UINT64_MAX, &memory), -ENOMEM);
	assert_int_equal(memory_new(1, &memory), 0);
	assert_int_equal(memory->size, sysconf(_SC_PAGESIZE));
	memory_put(memory);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(memory_new((64ULL << 20) + 4096 * i, &memory), 0);
		assert_int_equal((uintptr_t)memory->host & ((2 << 20) - 1), 0);
		assert_int_equal(resident(memory), 0);
		/* Both ends are there. */
		((uint8_t *)memory->host)[0] = 1;
		((uint8_t *)memory->host)[memory->size - 1] = 1;
		memory_put(memory);
	}
	/* More than any host has: address space only. ThreadSanitizer keeps most of that to itself. */
#ifndef __SANITIZE_THREAD__
	assert_int_equal(memory_new(4ULL << 40, &memory), 0);
	memory_put(memory);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_across_pieces),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_end_of_address_space),
		cmocka_unit_test(test_rom),
		cmocka_unit_test(test_map_outlives_region),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_words_behind_odd_memory),
		cmocka_unit_test(test_map_some),
		cmocka_unit_test(test_window_is_kept),
		cmocka_unit_test(test_window_while_memory_goes),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_memory_new),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
