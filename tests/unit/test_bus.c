/* SPDX-License-Identifier: BSD-2-Clause */
/* test_bus.c - the contract of the bus, as one access sees it: cutting, all ones, counts, kinds, aliases. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"
#include "bus_chip.h"

static struct bus *bus;
static struct initiator cpu;

static int setup(void **state)
{
	bus = bus_new();
	memset(&cpu, 0, sizeof(cpu));
	cpu.name = "cpu";
	bus_attach(bus, &cpu);
	return bus ? 0 : -1;
}

static int teardown(void **state)
{
	bus_detach(&cpu);
	bus_free(bus);
	return 0;
}

static void add(struct region *region)
{
	assert_int_equal(bus_add(bus, region), 0);
	assert_true(region->live);
}

static uint64_t mmio_read(uint64_t addr, unsigned len)
{
	uint64_t data = 0;

	bus_access(bus, &cpu, SPACE_MMIO, addr, &data, len, 1, false);
	return data;
}

static unsigned mmio_write(uint64_t addr, uint64_t value, unsigned len)
{
	return bus_access(bus, &cpu, SPACE_MMIO, addr, &value, len, 1, true);
}

static void check_trap(const struct trap *trap, uint64_t offset, unsigned len, bool write)
{
	assert_int_equal(trap->offset, offset);
	assert_int_equal(trap->len, len);
	assert_int_equal(trap->write, write);
	assert_ptr_equal(trap->from, &cpu);
}

/* ---- one call ---- */

static void handler_gets_offset_value_and_who_asks(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x10000, 0x1000, WIDTH_ANY);
	add(&chip.region);
	assert_int_equal(mmio_write(0x10020, 0x1122334455667788, 4), 4);
	assert_int_equal(chip.traps, 1);
	check_trap(&chip.log[0], 0x20, 4, true);
	assert_int_equal(chip.log[0].value, 0x55667788);
	chip.answers = true;
	chip.answer = 0x8877665544332211;
	assert_int_equal(mmio_read(0x10ff8, 8), 0x8877665544332211);
	check_trap(&chip.log[1], 0xff8, 8, false);
	bus_remove(bus, &chip.region);
}

static void both_spaces_dispatch_alike_and_apart(void **state)
{
	struct chip port, mem;
	uint32_t data = 0;

	chip_init(&port, "port", SPACE_PIO, 0x3f8, 8, WIDTH_1);
	chip_init(&mem, "mem", SPACE_MMIO, 0x3f8, 8, WIDTH_1);
	add(&port.region);
	add(&mem.region);
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x3fd, &data, 1, 1, false), 1);
	assert_int_equal(port.traps, 1);
	assert_int_equal(mem.traps, 0);
	check_trap(&port.log[0], 5, 1, false);
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x3fd, &data, 1, 1, false), 1);
	assert_int_equal(mem.traps, 1);
	bus_remove(bus, &port.region);
	bus_remove(bus, &mem.region);
}

static void bytes_are_little_endian(void **state)
{
	static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	uint8_t data[8];
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_ANY);
	add(&chip.region);
	for (unsigned len = 1; len <= 8; len *= 2) {
		memcpy(data, bytes, sizeof(data));
		bus_access(bus, &cpu, SPACE_MMIO, 0x1000, data, len, 1, true);
		assert_int_equal(chip.log[chip.traps - 1].value, 0x0807060504030201 & (UINT64_MAX >> (64 - 8 * len)));
		chip.answers = true;
		chip.answer = 0x0807060504030201;
		memset(data, 0xee, sizeof(data));
		bus_access(bus, &cpu, SPACE_MMIO, 0x1000, data, len, 1, false);
		assert_memory_equal(data, bytes, len);
		for (unsigned i = len; i < 8; i++)
			assert_int_equal(data[i], 0xee); /* nothing behind the access is touched */
	}
	bus_remove(bus, &chip.region);
}

static void read_that_the_handler_leaves_is_all_ones(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_ANY);
	add(&chip.region);
	assert_int_equal(mmio_read(0x1000, 4), 0xffffffff);
	assert_int_equal(chip.log[0].value, UINT64_MAX);
	bus_remove(bus, &chip.region);
}

/* ---- cutting ---- */

struct cut {
	unsigned widths, size, offset, len;
	const char *pieces; /* "offset:len ..." */
};

static void access_is_cut_into_widest_aligned_pieces(void **state)
{
	static const struct cut cuts[] = {
		{ WIDTH_1, 16, 0, 4, "0:1 1:1 2:1 3:1 " }, { WIDTH_1 | WIDTH_2, 16, 1, 4, "1:1 2:2 4:1 " },
		{ WIDTH_ANY, 16, 1, 8, "1:1 2:2 4:4 8:1 " }, { WIDTH_ANY, 16, 3, 3, "3:1 4:2 " },
		{ WIDTH_ANY, 16, 4, 8, "4:4 8:4 " }, { WIDTH_1 | WIDTH_4, 16, 2, 8, "2:1 3:1 4:4 8:1 9:1 " },
		{ WIDTH_4, 16, 0, 8, "0:4 4:4 " }, { WIDTH_4, 16, 1, 7, "4:4 " }, /* 1 to 3 unclaimed */
		{ WIDTH_4, 16, 2, 8, "4:4 " },                                    /* 2, 3, 8, 9 unclaimed */
		{ WIDTH_4, 16, 0, 2, "" },                                        /* narrower than what it takes */
		{ WIDTH_8, 16, 0, 4, "" }, { WIDTH_2, 16, 1, 2, "" },             /* wide enough, but aligned nowhere */
		{ WIDTH_1 | WIDTH_8, 16, 8, 8, "8:8 " },
		{ WIDTH_2 | WIDTH_4, 6, 0, 8, "0:4 4:2 " }, /* the region ends first */
		{ WIDTH_4, 6, 4, 4, "" },                   /* does not fit inside */
		{ 0, 16, 0, 8, "0:8 " },                    /* no widths means any */
	};

	for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		const struct cut *cut = &cuts[i];
		char got[128] = "";
		struct chip chip;
		unsigned claimed = 0;

		chip_init(&chip, "chip", SPACE_MMIO, 0x1000, cut->size, cut->widths);
		add(&chip.region);
		claimed = mmio_write(
			0x1000 + cut->offset, 0x0706050403020100 + 0x0101010101010101 * cut->offset, cut->len);
		for (unsigned t = 0; t < chip.traps; t++) {
			const struct trap *trap = &chip.log[t];

			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u:%u ", (unsigned)trap->offset,
				trap->len);
			assert_int_equal(trap->value & 0xff, trap->offset); /* and the right bytes */
			claimed -= trap->len;
		}
		assert_string_equal(got, cut->pieces);
		assert_int_equal(claimed, 0);
		bus_remove(bus, &chip.region);
	}
}

static void access_is_cut_at_region_ends_first(void **state)
{
	struct chip low, high;
	uint64_t data;

	/* Cut as one, 0x1000 would be a piece of four; the regions make two pieces of two. */
	chip_init(&low, "low", SPACE_MMIO, 0x0ff0, 0x12, WIDTH_1 | WIDTH_2);
	chip_init(&high, "high", SPACE_MMIO, 0x1002, 0x10, WIDTH_1 | WIDTH_2);
	add(&low.region);
	add(&high.region);
	low.answers = high.answers = true;
	low.answer = 0x2211;
	high.answer = 0x4433;
	assert_int_equal(mmio_read(0x1000, 4), 0x44332211);
	check_trap(&low.log[0], 0x10, 2, false);
	check_trap(&high.log[0], 0, 2, false);
	/* From a region into the open, and from the open into a region. */
	data = 0;
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x1010, &data, 4, 1, false), 2);
	assert_int_equal(data, 0xffff4433);
	data = 0;
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x0fee, &data, 4, 1, false), 2);
	assert_int_equal(data, 0x2211ffff);
	bus_remove(bus, &low.region);
	bus_remove(bus, &high.region);
}

static void alignment_is_that_of_the_offset(void **state)
{
	struct chip chip;

	/* Takes 2 at most, so a base that is only 2-aligned is fine; the offset decides. */
	chip_init(&chip, "chip", SPACE_PIO, 0x92, 6, WIDTH_1 | WIDTH_2);
	add(&chip.region);
	bus_access(bus, &cpu, SPACE_PIO, 0x92, &(uint32_t){ 0 }, 4, 1, true);
	assert_int_equal(chip.traps, 2);
	check_trap(&chip.log[0], 0, 2, true);
	check_trap(&chip.log[1], 2, 2, true);
	bus_remove(bus, &chip.region);
}

static void all_lengths_are_served_everywhere(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 0x20, WIDTH_1 | WIDTH_2 | WIDTH_4);
	add(&chip.region);
	chip.answers = true;
	chip.answer = 0;
	for (unsigned len = 1; len <= 8; len++) {
		for (unsigned offset = 0; offset < 0x10; offset++) {
			assert_int_equal(mmio_write(0x1000 + offset, 0, len), len);
			assert_int_equal(mmio_read(0x1000 + offset, len), 0);
		}
	}
	bus_remove(bus, &chip.region);
}

static void spaces_end_and_do_not_wrap(void **state)
{
	struct chip first, last, low, mem;
	uint64_t data = 0;

	chip_init(&first, "first", SPACE_PIO, 0, 8, WIDTH_1);
	chip_init(&last, "last", SPACE_PIO, 0xfffe, 2, WIDTH_1);
	chip_init(&low, "low", SPACE_MMIO, 0, 8, WIDTH_ANY);
	chip_init(&mem, "mem", SPACE_MMIO, UINT64_MAX - 7, 8, WIDTH_ANY);
	add(&first.region);
	add(&last.region);
	add(&low.region);
	add(&mem.region);
	first.answers = last.answers = mem.answers = true;
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0xfffe, &data, 4, 1, false), 2);
	assert_int_equal(data, 0xffff0000);
	data = 0;
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x10000, &data, 4, 1, false), 0);
	assert_int_equal(data, 0xffffffff);
	data = 0;
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, UINT64_MAX - 1, &data, 4, 1, false), 2);
	assert_int_equal(data, 0xffff0000);
	assert_int_equal(first.traps + low.traps, 0);
	bus_remove(bus, &first.region);
	bus_remove(bus, &last.region);
	bus_remove(bus, &low.region);
	bus_remove(bus, &mem.region);
}

/* ---- unclaimed ---- */

static void unclaimed_reads_give_all_ones_and_writes_vanish(void **state)
{
	uint64_t data;

	for (unsigned len = 1; len <= 8; len++) {
		data = 0;
		assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x5000, &data, len, 1, false), 0);
		assert_int_equal(data, UINT64_MAX >> (64 - 8 * len));
		assert_int_equal(mmio_write(0x5000, 0, len), 0);
	}
	assert_int_equal(cpu.unclaimed_reads[SPACE_MMIO], 8);
	assert_int_equal(cpu.unclaimed_writes[SPACE_MMIO], 8);
	assert_int_equal(cpu.unclaimed_reads[SPACE_PIO], 0);
	assert_int_equal(cpu.wrong_width[SPACE_MMIO], 0);
	assert_int_equal(cpu.reads[SPACE_MMIO], 0);
}

static void wrong_widths_are_counted_apart(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 16, WIDTH_4);
	add(&chip.region);
	chip.answers = true;
	chip.answer = 0;
	assert_int_equal(mmio_read(0x1002, 8), 0xffff00000000ffff);
	assert_int_equal(cpu.reads[SPACE_MMIO], 1);
	assert_int_equal(cpu.unclaimed_reads[SPACE_MMIO], 2); /* a run before the piece and one behind */
	assert_int_equal(cpu.wrong_width[SPACE_MMIO], 2);
	/* Half past the end: a run of the wrong width, and one where nobody is. */
	mmio_write(0x100e, 0, 4);
	assert_int_equal(cpu.unclaimed_writes[SPACE_MMIO], 2);
	assert_int_equal(cpu.wrong_width[SPACE_MMIO], 3);
	bus_remove(bus, &chip.region);
}

static uint64_t stray_count(uint64_t addr)
{
	for (unsigned i = 0; i < BUS_STRAYS; i++) {
		if (cpu.strays[i].count && cpu.strays[i].addr == addr)
			return cpu.strays[i].count;
	}
	return 0;
}

static void strays_are_counted_by_address_in_bounded_room(void **state)
{
	for (unsigned i = 0; i < 1000; i++) {
		mmio_read(0x80, 1);
		mmio_write(0x84, 0, 4);
	}
	assert_int_equal(stray_count(0x80), 1000);
	assert_int_equal(stray_count(0x84), 1000);
	/* A guest that scans all of memory does not push out what it hits all the time. */
	for (uint64_t addr = 0x100000; addr < 0x100000 + 0x1000 * 1000; addr += 0x1000)
		mmio_read(addr, 4);
	assert_true(stray_count(0x80) >= 1000 && stray_count(0x84) >= 1000);
}

/* ---- locks, edits between pieces ---- */

static void check_locked(struct chip *chip, struct trap *trap)
{
	assert_int_equal(pthread_mutex_trylock(chip->region.lock), EBUSY);
}

static void lock_is_held_in_the_handler_and_dropped_between_pieces(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct chip a, b;

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 4, WIDTH_2);
	chip_init(&b, "b", SPACE_MMIO, 0x1004, 4, WIDTH_2);
	a.region.lock = b.region.lock = &lock; /* the second call would block if the first still held it */
	a.hook = b.hook = check_locked;
	add(&a.region);
	add(&b.region);
	assert_int_equal(mmio_write(0x1000, 0, 8), 8);
	assert_int_equal(a.traps + b.traps, 4);
	assert_int_equal(mmio_write(0x1000, 0, 2), 2);
	assert_int_equal(pthread_mutex_trylock(&lock), 0);
	pthread_mutex_unlock(&lock);
	bus_remove(bus, &a.region);
	bus_remove(bus, &b.region);
}

/* Each call of the handler runs `hook`, and reads answer so. */
static void add_hooked(struct chip *chip, void (*hook)(struct chip *chip, struct trap *trap), uint64_t answer)
{
	chip->hook = hook;
	chip->answers = true;
	chip->answer = answer;
	add(&chip->region);
}

static void remove_self(struct chip *chip, struct trap *trap)
{
	bus_remove(bus, &chip->region);
}

static void removal_takes_effect_between_pieces(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_2);
	add_hooked(&chip, remove_self, 0x1234);
	assert_int_equal(mmio_read(0x1000, 8), 0xffffffffffff1234);
	assert_int_equal(chip.traps, 1);
	assert_false(chip.region.live);
	assert_int_equal(mmio_read(0x1000, 2), 0xffff);
}

static void move_up(struct chip *chip, struct trap *trap)
{
	struct edit edit = {
		.op = EDIT_MOVE, .region = &chip->region, .space = SPACE_MMIO, .base = chip->region.base + 0x1000
	};

	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
}

static void move_takes_effect_between_pieces(void **state)
{
	struct chip chip;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_4);
	add_hooked(&chip, move_up, 0);
	assert_int_equal(mmio_read(0x1000, 8), 0xffffffff00000000);
	assert_int_equal(chip.region.base, 0x2000);
	assert_int_equal(mmio_read(0x2000, 4), 0);
	assert_int_equal(chip.region.base, 0x3000);
	bus_remove(bus, &chip.region);
}

/* ---- counts (REP) ---- */

static void answer_index(struct chip *chip, struct trap *trap)
{
	trap->value = chip->traps;
}

static void count_repeats_at_the_same_place(void **state)
{
	struct chip chip;
	uint16_t data[5];

	chip_init(&chip, "chip", SPACE_PIO, 0x1f0, 2, WIDTH_2);
	chip.hook = answer_index;
	add(&chip.region);
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x1f0, data, 2, 5, false), 10);
	for (unsigned i = 0; i < 5; i++) {
		check_trap(&chip.log[i], 0, 2, false);
		assert_int_equal(data[i], i + 1);
	}
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x1f0, (uint16_t[]){ 7, 8, 9 }, 2, 3, true), 6);
	assert_int_equal(chip.log[7].value, 9);
	bus_remove(bus, &chip.region);
}

static void region_found_first_serves_all_of_a_count(void **state)
{
	struct chip chip, late;
	uint32_t data[4];

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_4);
	add_hooked(&chip, move_up, 5); /* each call moves it on */
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x1000, data, 4, 4, false), 16);
	assert_int_equal(chip.traps, 4);
	assert_int_equal(data[3], 5);
	assert_int_equal(chip.region.base, 0x5000);
	bus_remove(bus, &chip.region);
	/* The same where the element is cut in two: the second piece is looked up, once, where it is then. */
	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 8, WIDTH_4);
	chip_init(&late, "late", SPACE_MMIO, 0x1008, 8, WIDTH_4);
	add(&chip.region);
	add(&late.region);
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x1004, (uint64_t[]){ 1, 2, 3 }, 8, 3, true), 24);
	assert_int_equal(chip.traps, 3);
	assert_int_equal(late.traps, 3);
	bus_remove(bus, &chip.region);
	bus_remove(bus, &late.region);
}

static void remove_at_third(struct chip *chip, struct trap *trap)
{
	if (chip->traps == 3)
		bus_remove(bus, &chip->region);
}

static void removal_ends_a_count(void **state)
{
	struct chip chip;
	uint8_t data[6] = { 0 };
	static const uint8_t want[6] = { 1, 1, 1, 0xff, 0xff, 0xff };

	chip_init(&chip, "chip", SPACE_PIO, 0x60, 1, WIDTH_1);
	add_hooked(&chip, remove_at_third, 1);
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x60, data, 1, 6, false), 3);
	assert_memory_equal(data, want, 6);
	assert_int_equal(cpu.unclaimed_reads[SPACE_PIO], 3);
}

static void readd_elsewhere(struct chip *chip, struct trap *trap)
{
	if (chip->traps != 1)
		return;
	bus_remove(bus, &chip->region);
	chip->region.base = 0x70;
	assert_int_equal(bus_add(bus, &chip->region), 0);
}

static void removal_ends_a_count_though_the_region_returns(void **state)
{
	struct chip chip;
	uint8_t data[3];

	chip_init(&chip, "chip", SPACE_PIO, 0x60, 1, WIDTH_1);
	chip.hook = readd_elsewhere;
	add(&chip.region);
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x60, data, 1, 3, false), 1);
	assert_int_equal(chip.traps, 1);
	assert_int_equal(bus_access(bus, &cpu, SPACE_PIO, 0x70, data, 1, 3, false), 3);
	bus_remove(bus, &chip.region);
}

/* ---- kinds ---- */

static void alias_init(struct region *region, uint64_t base, uint64_t size, enum space space, uint64_t target)
{
	*region = (struct region){ .name = "alias",
		.kind = REGION_ALIAS,
		.space = SPACE_MMIO,
		.base = base,
		.size = size,
		.target_space = space,
		.target_base = target };
}

static void alias_is_a_window_onto_another_space(void **state)
{
	struct region window;
	struct chip port;

	chip_init(&port, "port", SPACE_PIO, 0x3f8, 8, WIDTH_1);
	alias_init(&window, 0x3eff0000, 0x10000, SPACE_PIO, 0);
	add(&window);
	assert_int_equal(mmio_read(0x3eff03f9, 1), 0xff);
	assert_int_equal(cpu.unclaimed_reads[SPACE_MMIO], 1); /* counted where the guest asked */
	assert_int_equal(stray_count(0x3eff03f9), 1);
	add(&port.region); /* resolved at each access */
	assert_int_equal(mmio_write(0x3eff03f9, 0xab, 1), 1);
	check_trap(&port.log[0], 1, 1, true);
	assert_int_equal(port.log[0].value, 0xab);
	assert_int_equal(cpu.writes[SPACE_MMIO], 1);
	assert_int_equal(region_counts(&port.region).writes, 1);
	bus_remove(bus, &port.region);
	bus_remove(bus, &window);
}

static void alias_shows_only_its_window(void **state)
{
	struct region window;
	struct chip chip;
	uint64_t data = 0;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 0x10, WIDTH_1 | WIDTH_2 | WIDTH_4);
	chip.answers = true;
	chip.answer = 0;
	alias_init(&window, 0x20002, 4, SPACE_MMIO, 0x1006);
	add(&chip.region);
	add(&window);
	/* From two bytes before to two behind: cut at the window's ends, then as the chip's offsets demand. */
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x20000, &data, 8, 1, false), 4);
	assert_int_equal(data, 0xffff00000000ffff);
	assert_int_equal(chip.traps, 2);
	check_trap(&chip.log[0], 6, 2, false);
	check_trap(&chip.log[1], 8, 2, false);
	bus_remove(bus, &chip.region);
	bus_remove(bus, &window);
}

static void alias_circles_end_unclaimed(void **state)
{
	struct region a, b, c;
	struct chip chip;

	alias_init(&a, 0x1000, 0x1000, SPACE_MMIO, 0x2000);
	alias_init(&b, 0x2000, 0x1000, SPACE_MMIO, 0x3000);
	alias_init(&c, 0x3000, 0x1000, SPACE_MMIO, 0x1000);
	add(&a);
	add(&b);
	add(&c);
	assert_int_equal(mmio_read(0x1ffc, 8), UINT64_MAX);
	assert_int_equal(mmio_write(0x2004, 0, 4), 0);
	/* Opened, the circle is a chain, and a chain of three leads somewhere. */
	bus_remove(bus, &c);
	c.target_base = 0x4000;
	add(&c);
	chip_init(&chip, "chip", SPACE_MMIO, 0x4000, 0x1000, WIDTH_ANY);
	add(&chip.region);
	assert_int_equal(mmio_write(0x1004, 0, 4), 4);
	check_trap(&chip.log[0], 4, 4, true);
	bus_remove(bus, &a);
	bus_remove(bus, &b);
	bus_remove(bus, &c);
	bus_remove(bus, &chip.region);
}

static void held_is_never_called_and_no_fault_of_the_guest(void **state)
{
	struct chip held;

	chip_init(&held, "pic", SPACE_MMIO, 0x1000, 4, WIDTH_1);
	held.region.kind = REGION_HELD;
	add(&held.region);
	assert_int_equal(mmio_read(0x1000, 4), 0xffffffff);
	assert_int_equal(mmio_write(0x1001, 0, 2), 2);
	assert_int_equal(held.traps, 0);
	assert_int_equal(cpu.unclaimed_reads[SPACE_MMIO] + cpu.unclaimed_writes[SPACE_MMIO], 0);
	assert_int_equal(region_counts(&held.region).reads, 1); /* but one can see that the kernel let it through */
	bus_remove(bus, &held.region);
}

static void keep(struct memory *mem)
{
}

static void memory_init(struct region *region, enum region_kind kind, struct memory *mem, uint64_t base)
{
	*region = (struct region){
		.name = "memory", .kind = kind, .space = SPACE_MMIO, .base = base, .size = mem->size, .memory = mem
	};
}

static void ram_is_copied_at_any_width_within_bounds(void **state)
{
	static uint64_t host[4] = { 0 }; /* the last word is beyond */
	static struct memory mem = {
		.host = host, .size = 24, .refs = 1, .release = keep
	}; /* maps that retire after the test still refer to it */
	struct region ram;
	uint64_t data = 0;

	memory_init(&ram, REGION_RAM, &mem, 0x1000);
	host[3] = 0x5555555555555555;
	add(&ram);
	for (unsigned len = 1; len <= 8; len++) {
		for (unsigned offset = 0; offset + len <= 24; offset++) {
			uint64_t want = 0x8877665544332211 & (UINT64_MAX >> (64 - 8 * len));

			assert_int_equal(mmio_write(0x1000 + offset, 0x8877665544332211, len), len);
			assert_int_equal(mmio_read(0x1000 + offset, len), want);
			assert_memory_equal((uint8_t *)host + offset, &want, len);
		}
	}
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x1014, &data, 8, 1, true), 4);
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x1014, &data, 8, 1, false), 4);
	assert_int_equal(data, 0xffffffff00000000);
	assert_int_equal(host[3], 0x5555555555555555);
	bus_remove(bus, &ram);
}

static void rom_reads_memory_and_traps_writes(void **state)
{
	static uint64_t host[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
	static struct memory mem = {
		.host = host, .size = 16, .refs = 1, .release = keep
	}; /* maps that retire after the test still refer to it */
	struct chip flash;
	struct region rom;
	struct edit edit = { .op = EDIT_KIND, .region = &flash.region, .kind = REGION_TRAP };

	chip_init(&flash, "flash", SPACE_MMIO, 0x1000, 8, WIDTH_1 | WIDTH_2);
	flash.region.kind = REGION_ROM;
	flash.region.memory = &mem;
	flash.region.memory_offset = 8;
	add(&flash.region);
	assert_int_equal(mmio_read(0x1001, 7), 0x0f0e0d0c0b0a09); /* any width */
	assert_int_equal(mmio_write(0x1000, 0x9090, 2), 2);
	assert_int_equal(flash.traps, 1);
	check_trap(&flash.log[0], 0, 2, true);
	assert_int_equal(host[1], 0x0f0e0d0c0b0a0908);
	/* A flash chip that is sent a command answers reads itself, and goes back afterwards. */
	flash.answers = true;
	flash.answer = 0x80;
	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
	assert_int_equal(flash.region.kind, REGION_TRAP);
	assert_int_equal(mmio_read(0x1000, 1), 0x80);
	edit.kind = REGION_ROM;
	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
	assert_int_equal(mmio_read(0x1000, 1), 0x08);
	/* Without a handler, writes vanish; the region claims them all the same. */
	memory_init(&rom, REGION_ROM, &mem, 0x2000);
	add(&rom);
	assert_int_equal(mmio_write(0x2000, 0, 8), 8);
	assert_int_equal(mmio_read(0x2000, 8), host[0]);
	assert_int_equal(cpu.unclaimed_writes[SPACE_MMIO], 0);
	bus_remove(bus, &rom);
	bus_remove(bus, &flash.region);
}

static void host_view_is_bounded_by_the_region(void **state)
{
	static uint8_t host[0x100];
	static struct memory mem = {
		.host = host, .size = sizeof(host), .refs = 1, .release = keep
	}; /* maps that retire after the test still refer to it */
	struct memory *found = NULL;
	struct region ram, rom, window;
	struct chip chip;
	uint64_t len = 0x1000;

	memory_init(&ram, REGION_RAM, &mem, 0x10000);
	memory_init(&rom, REGION_ROM, &mem, 0x20000);
	alias_init(&window, 0x30000, 0x20, SPACE_MMIO, 0x10040);
	chip_init(&chip, "chip", SPACE_MMIO, 0x40000, 0x1000, WIDTH_ANY);
	add(&ram);
	add(&rom);
	add(&window);
	add(&chip.region);
	bus_read_lock();
	assert_ptr_equal(bus_memory(bus, 0x10010, &len, true, &found), host + 0x10);
	assert_int_equal(len, 0xf0);
	assert_ptr_equal(found, &mem);
	len = 4;
	assert_ptr_equal(bus_memory(bus, 0x10010, &len, false, NULL), host + 0x10);
	assert_int_equal(len, 4);
	assert_non_null(bus_memory(bus, 0x20000, &len, false, NULL));
	assert_null(bus_memory(bus, 0x20000, &len, true, NULL));
	assert_null(bus_memory(bus, 0x40000, &len, false, NULL));
	assert_null(bus_memory(bus, 0x50000, &len, false, NULL));
	len = 0x1000;
	assert_ptr_equal(bus_memory(bus, 0x30008, &len, false, NULL), host + 0x48);
	assert_int_equal(len, 0x18);
	len = 0;
	assert_null(bus_memory(bus, 0x10000, &len, false, NULL));
	bus_read_unlock();
	bus_remove(bus, &ram);
	bus_remove(bus, &rom);
	bus_remove(bus, &window);
	bus_remove(bus, &chip.region);
}

/* ---- counters ---- */

static void counts_add_up_over_any_number_of_initiators(void **state)
{
	struct initiator many[2 * BUS_LANES] = { { 0 } };
	struct chip chip;
	uint32_t data = 0;

	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 0x100, WIDTH_ANY);
	add(&chip.region);
	for (unsigned i = 0; i < 2 * BUS_LANES; i++) {
		bus_attach(bus, &many[i]);
		for (unsigned j = 0; j <= i; j++)
			bus_access(bus, &many[i], SPACE_MMIO, 0x1000, &data, 4, 1, j & 1);
		assert_int_equal(many[i].reads[SPACE_MMIO] + many[i].writes[SPACE_MMIO], i + 1);
	}
	assert_int_equal(region_counts(&chip.region).reads + region_counts(&chip.region).writes, 36);
	/* A lane that is given back is given to the next. */
	bus_detach(&many[0]);
	bus_attach(bus, &many[0]);
	assert_int_equal(many[0].lane, 1);                         /* 0 is cpu's */
	assert_int_equal(many[2 * BUS_LANES - 1].lane, BUS_LANES); /* shared */
	for (unsigned i = 0; i < 2 * BUS_LANES; i++)
		bus_detach(&many[i]);
	bus_remove(bus, &chip.region);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(handler_gets_offset_value_and_who_asks),
		TEST(both_spaces_dispatch_alike_and_apart),
		TEST(bytes_are_little_endian),
		TEST(read_that_the_handler_leaves_is_all_ones),
		TEST(access_is_cut_into_widest_aligned_pieces),
		TEST(access_is_cut_at_region_ends_first),
		TEST(alignment_is_that_of_the_offset),
		TEST(all_lengths_are_served_everywhere),
		TEST(spaces_end_and_do_not_wrap),
		TEST(unclaimed_reads_give_all_ones_and_writes_vanish),
		TEST(wrong_widths_are_counted_apart),
		TEST(strays_are_counted_by_address_in_bounded_room),
		TEST(lock_is_held_in_the_handler_and_dropped_between_pieces),
		TEST(removal_takes_effect_between_pieces),
		TEST(move_takes_effect_between_pieces),
		TEST(count_repeats_at_the_same_place),
		TEST(region_found_first_serves_all_of_a_count),
		TEST(removal_ends_a_count),
		TEST(removal_ends_a_count_though_the_region_returns),
		TEST(alias_is_a_window_onto_another_space),
		TEST(alias_shows_only_its_window),
		TEST(alias_circles_end_unclaimed),
		TEST(held_is_never_called_and_no_fault_of_the_guest),
		TEST(ram_is_copied_at_any_width_within_bounds),
		TEST(rom_reads_memory_and_traps_writes),
		TEST(host_view_is_bounded_by_the_region),
		TEST(counts_add_up_over_any_number_of_initiators),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
