/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_pci_settle.c - what decodes agrees with what the registers say: sizing, moves, swaps, conflicts, moves
 * from inside a BAR's own handler, failures, threads, and a random walk that checks it after every step.
 *
 * settle.c is compiled in here, with its bus_edit() replaced by one that can be told to fail.
 */
#include "pci_bed.h"

static struct {
	unsigned failures; /* how many calls are still to fail */
	int code;
	unsigned calls;
	struct region *mine, *other; /* what a failure names */
} fault;

static int faulty_edit(
	struct bus *bus, const struct edit *edits, unsigned n, struct region **mine, struct region **other)
{
	__atomic_fetch_add(&fault.calls, 1, __ATOMIC_RELAXED);
	if (fault.failures > 0) {
		fault.failures--;
		*mine = fault.mine;
		*other = fault.other;
		return fault.code;
	}
	return bus_edit(bus, edits, n, mine, other);
}

#define bus_edit faulty_edit
#include "pci/settle.c"
#undef bus_edit

static void bar_write(struct bed *bed, unsigned slot, unsigned bar, uint32_t value)
{
	cfg_write(bed, slot, bar_reg(bar), 4, value);
}

static void bar2_write(struct bed *bed, unsigned slot, uint64_t value)
{
	bar_write(bed, slot, 2, (uint32_t)value);
	bar_write(bed, slot, 3, (uint32_t)(value >> 32));
}

static struct pci_function *fn(struct bed *bed, unsigned slot)
{
	return pci_function_of(bed->test[slot - 1]);
}

static bool is_test_at(struct bed *bed, uint64_t addr)
{
	return test_reg(bed, addr, PCI_TEST_ID) == PCI_TEST_ID_VALUE;
}

static void test_sizing(void **state)
{
	static const uint32_t sizes[PCI_BARS] = { 0xfffff000, 0, 0xffff000c, 0xffffffff, 0xffffffe1, 0 };
	struct bed *bed = *state;

	/* As Linux does it with decoding off, and as older systems do with it on. */
	for (unsigned on = 0; on < 2; on++) {
		cfg_write(bed, 1, PCI_COMMAND, 2, on ? 3 : 0);
		for (unsigned bar = 0; bar < PCI_BARS; bar++) {
			uint32_t old = cfg_read(bed, 1, bar_reg(bar), 4);

			bar_write(bed, 1, bar, 0xffffffff);
			assert_int_equal(cfg_read(bed, 1, bar_reg(bar), 4), sizes[bar]);
			/* Only the half of a pair that is written alone still decodes, elsewhere. */
			if (bar != 2 && bar != 3)
				assert_false(pci_bars_live(fn(bed, 1)) & 1U << bar);
			bar_write(bed, 1, bar, old);
			assert_int_equal(cfg_read(bed, 1, bar_reg(bar), 4), old);
			assert_int_equal(pci_bars_live(fn(bed, 1)), on ? 0x15 : 0);
		}
	}
	assert_true(is_test_at(bed, bar_address(bed, 1, 0)));
	/* Both halves all ones. */
	bar2_write(bed, 1, UINT64_MAX);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x11);
	assert_int_equal(bed->pci->conflicts, 0);
}

static void test_command_toggles(void **state)
{
	struct bed *bed = *state;
	uint64_t mem = bar_address(bed, 1, 0), io = bar_address(bed, 1, 4), wide = bar_address(bed, 1, 2);

	for (unsigned command = 0; command < 4; command++) {
		cfg_write(bed, 1, PCI_COMMAND, 1, command);
		assert_int_equal(bed_claimed(bed, SPACE_PIO, io), command & 1);
		assert_int_equal(bed_claimed(bed, SPACE_MMIO, mem), command >> 1);
		assert_int_equal(bed_claimed(bed, SPACE_MMIO, wide), command >> 1);
	}
}

static void test_moves(void **state)
{
	struct bed *bed = *state;
	uint64_t old;

	enable(bed, 1);
	old = bar_address(bed, 1, 0);
	bar_write(bed, 1, 0, 0xe1000000);
	assert_false(bed_claimed(bed, SPACE_MMIO, old));
	assert_true(is_test_at(bed, 0xe1000000));
	old = bar_address(bed, 1, 4);
	bar_write(bed, 1, 4, 0xfee0);
	assert_false(bed_claimed(bed, SPACE_PIO, old));
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xfee0, 4), PCI_TEST_ID_VALUE);
	/* Byte by byte, each step an address of its own. */
	cfg_write(bed, 1, bar_reg(0) + 2, 1, 0x22);
	assert_true(is_test_at(bed, 0xe1220000));
	cfg_write(bed, 1, bar_reg(0) + 1, 1, 0x3f);
	assert_true(is_test_at(bed, 0xe1223000));
	/* Outside the windows, where nothing is, hardware decodes too. */
	bar_write(bed, 1, 0, 0x90000000);
	assert_true(is_test_at(bed, 0x90000000));
	assert_int_equal(bed->pci->conflicts, 0);
}

static void test_wide_bar_moves_by_halves(void **state)
{
	struct bed *bed = *state;
	uint64_t old;

	enable(bed, 1);
	old = bar_address(bed, 1, 2);
	bed_write(bed, SPACE_MMIO, old, 8, 0x1234);
	bar_write(bed, 1, 2, 0x55550000);
	assert_false(bed_claimed(bed, SPACE_MMIO, old));
	assert_int_equal(bed_read(bed, SPACE_MMIO, (old & ~0xffffffffULL) | 0x55550000, 8), 0x1234);
	bar_write(bed, 1, 3, 0x7);
	assert_false(bed_claimed(bed, SPACE_MMIO, (old & ~0xffffffffULL) | 0x55550000));
	assert_int_equal(bed_read(bed, SPACE_MMIO, 0x755550000, 8), 0x1234);
	/* Through RAM: low half 0 under a high half of 0 is no address, then RAM is in the way, then it is clear. */
	bar_write(bed, 1, 3, 0);
	assert_int_equal(bed_read(bed, SPACE_MMIO, 0x55550000, 8), 0x1234);
	bar_write(bed, 1, 2, 0);
	assert_false(pci_bars_live(fn(bed, 1)) & 4);
	assert_int_equal(bed->pci->conflicts, 0);
	bar_write(bed, 1, 2, 0x10000);
	assert_false(pci_bars_live(fn(bed, 1)) & 4);
	assert_int_equal(bed->pci->conflicts, 1);
	bar_write(bed, 1, 3, 1);
	assert_int_equal(bed_read(bed, SPACE_MMIO, 0x100010000, 8), 0x1234);
	/* The last place but one of the address space. */
	bar2_write(bed, 1, 0xfffffffffffe0000);
	assert_int_equal(bed_read(bed, SPACE_MMIO, 0xfffffffffffe0000, 8), 0x1234);
}

static void test_ports_end_at_64k(void **state)
{
	struct bed *bed = *state;

	enable(bed, 1);
	bar_write(bed, 1, 4, 0x10000);
	assert_int_equal(cfg_read(bed, 1, bar_reg(4), 4), 0x10001);
	assert_false(pci_bars_live(fn(bed, 1)) & 0x10);
	bar_write(bed, 1, 4, 0xabcd0000 | BED_IO);
	assert_false(pci_bars_live(fn(bed, 1)) & 0x10);
	bar_write(bed, 1, 4, 0);
	assert_false(pci_bars_live(fn(bed, 1)) & 0x10);
	bar_write(bed, 1, 4, 0xffe0);
	assert_true(pci_bars_live(fn(bed, 1)) & 0x10);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xffe0, 4), PCI_TEST_ID_VALUE);
	assert_int_equal(bed->pci->conflicts, 0);
}

/* Tells the functions apart. */
static void mark(struct bed *bed, unsigned slot)
{
	enable(bed, slot);
	bed_write(bed, SPACE_MMIO, bar_address(bed, slot, 0) + PCI_TEST_SCRATCH, 4, slot);
}

static unsigned marked(struct bed *bed, uint64_t addr)
{
	return test_reg(bed, addr, PCI_TEST_SCRATCH);
}

static void test_swap_by_toggling(void **state)
{
	struct bed *bed = *state;
	uint64_t a, b;

	mark(bed, 1);
	mark(bed, 2);
	a = bar_address(bed, 1, 0);
	b = bar_address(bed, 2, 0);
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	cfg_write(bed, 2, PCI_COMMAND, 2, 0);
	bar_write(bed, 1, 0, (uint32_t)b);
	bar_write(bed, 2, 0, (uint32_t)a);
	enable(bed, 1);
	enable(bed, 2);
	assert_int_equal(marked(bed, b), 1);
	assert_int_equal(marked(bed, a), 2);
	assert_int_equal(bed->pci->conflicts, 0);
}

static void test_swap_while_decoding(void **state)
{
	struct bed *bed = *state;
	uint64_t a, b;

	mark(bed, 1);
	mark(bed, 2);
	a = bar_address(bed, 1, 0);
	b = bar_address(bed, 2, 0);
	bar_write(bed, 1, 0, (uint32_t)b);
	/* The newcomer is refused; its old place is given up. */
	assert_int_equal(marked(bed, b), 2);
	assert_false(bed_claimed(bed, SPACE_MMIO, a));
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x14);
	assert_int_equal(cfg_read(bed, 1, bar_reg(0), 4), b);
	bar_write(bed, 2, 0, (uint32_t)a);
	assert_int_equal(marked(bed, b), 1);
	assert_int_equal(marked(bed, a), 2);
	assert_int_equal(bed->pci->conflicts, 1);
	assert_int_equal(fn(bed, 1)->bars[0].conflicts, 1);
}

/* One write of four bytes of another function's command can make two BARs of one function change places. */
static void test_swap_inside_one_function(void **state)
{
	struct bed *bed = *state;
	uint64_t a;

	mark(bed, 1);
	a = bar_address(bed, 1, 0);
	/* BAR 2 takes BAR 0's neighbourhood while BAR 0 is told to go where BAR 2 was: all in one edit. */
	bar2_write(bed, 1, 0xe4000000);
	bar_write(bed, 1, 0, 0xe4000000); /* refused */
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x14);
	bar_write(bed, 1, 2, (uint32_t)a & 0xffff0000);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x15);
	assert_int_equal(marked(bed, 0xe4000000), 1);
}

static void conflict_and_recovery(struct bed *bed, unsigned bar, uint32_t taken)
{
	enum space space = bar == 4 ? SPACE_PIO : SPACE_MMIO;
	uint64_t old = bar_address(bed, 1, bar);
	uint64_t before = bed->pci->conflicts;
	unsigned bit = 1U << bar;

	bar_write(bed, 1, bar, taken);
	assert_false(pci_bars_live(fn(bed, 1)) & bit);
	assert_false(bed_claimed(bed, space, old));
	assert_int_equal(bar_address(bed, 1, bar), taken);
	assert_int_equal(bed->pci->conflicts, before + 1);
	/* Tried again whenever a BAR changes, counted once. */
	bar_write(bed, 2, 0, 0xe9000000);
	bar_write(bed, 2, 0, 0xe9001000);
	bar_write(bed, 1, bar, taken);
	assert_false(pci_bars_live(fn(bed, 1)) & bit);
	assert_int_equal(bed->pci->conflicts, before + 1);
	/* Another bad place counts again; off and on again too, since that is asking anew. */
	bar_write(bed, 1, bar, (uint32_t)old);
	assert_true(pci_bars_live(fn(bed, 1)) & bit);
	assert_true(bed_claimed(bed, space, old));
	bar_write(bed, 1, bar, taken);
	assert_int_equal(bed->pci->conflicts, before + 2);
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	enable(bed, 1);
	assert_int_equal(bed->pci->conflicts, before + 3);
	bar_write(bed, 1, bar, (uint32_t)old);
	assert_true(bed_claimed(bed, space, old));
}

static void test_conflicts(void **state)
{
	struct bed *bed = *state;

	enable(bed, 1);
	enable(bed, 2);
	bed_write(bed, SPACE_MMIO, 0x10000, 4, 0xcafe);
	conflict_and_recovery(bed, 0, 0x10000);
	conflict_and_recovery(bed, 0, BED_RAM - 0x1000);
	conflict_and_recovery(bed, 0, BED_CHIP);
	conflict_and_recovery(bed, 0, BED_ECAM);
	conflict_and_recovery(bed, 4, BED_CHIP_IO);
	conflict_and_recovery(bed, 4, 0xce0); /* the config ports: they lie at its end */
	assert_int_equal(bed_read(bed, SPACE_MMIO, 0x10000, 4), 0xcafe);
	/* Right behind RAM is free. */
	bar_write(bed, 1, 0, (uint32_t)BED_RAM);
	assert_true(is_test_at(bed, BED_RAM));
	/* All of RAM lies inside a BAR, or a BAR inside it: test the former with the chip, which is smaller. */
	bar2_write(bed, 1, BED_CHIP & ~0xffffULL);
	assert_false(pci_bars_live(fn(bed, 1)) & 4);
}

static void test_conflict_ends_with_the_other(void **state)
{
	struct bed *bed = *state;
	struct error err;

	mark(bed, 1);
	mark(bed, 2);
	mark(bed, 3);
	bar_write(bed, 2, 0, 0xe9000000);
	bar_write(bed, 1, 0, 0xe9000000);
	bar_write(bed, 3, 0, 0xe9000000);
	assert_int_equal(marked(bed, 0xe9000000), 2);
	/* When it goes, the lowest of those that wait comes; then the next. */
	cfg_write(bed, 2, PCI_COMMAND, 2, 0);
	assert_int_equal(marked(bed, 0xe9000000), 1);
	pci_bus_remove(fn(bed, 1));
	assert_int_equal(marked(bed, 0xe9000000), 3);
	pci_bus_remove(fn(bed, 3));
	assert_false(bed_claimed(bed, SPACE_MMIO, 0xe9000000));
	assert_int_equal(pci_bus_add(bed->pci, fn(bed, 3), 3, 0, &err), 0);
	mark(bed, 3);
	/* A chip that goes is noticed at the next write. */
	bar_write(bed, 3, 0, BED_CHIP);
	/* Settling sees such things before the map does. */
	assert_int_equal(bed->pci->failures, 0);
	bus_remove(bed->vm.bus, &bed->chip);
	assert_int_equal(pci_bars_live(fn(bed, 3)), 0x14);
	cfg_write(bed, 2, PCI_COMMAND, 2, 0);
	assert_int_equal(marked(bed, BED_CHIP), 3);
	/* And now the chip is refused, not the BAR. */
	assert_int_equal(bus_add(bed->vm.bus, &bed->chip), -EEXIST);
}

static void move_by_handler(struct bed *bed, enum space space, uint64_t base, unsigned bar, uint64_t to)
{
	bed_write(bed, space, base + PCI_TEST_MOVE_LO, 4, (uint32_t)to);
	bed_write(bed, space, base + PCI_TEST_MOVE_HI, 4, (uint32_t)(to >> 32));
	bed_write(bed, space, base + PCI_TEST_MOVE, 4, bar);
}

static void test_move_from_own_handler(void **state)
{
	struct bed *bed = *state;
	uint64_t at, io;

	mark(bed, 1);
	at = bar_address(bed, 1, 0);
	io = bar_address(bed, 1, 4);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t to = 0xe4000000 + 0x1000 * (uint64_t)(i % 64);

		move_by_handler(bed, SPACE_MMIO, at, 0, to);
		assert_int_equal(marked(bed, to), 1);
		if (to != at)
			assert_false(bed_claimed(bed, SPACE_MMIO, at));
		at = to;
		bus_throttle(bed->vm.bus);
	}
	assert_int_equal(test_reg(bed, at, PCI_TEST_MOVE), 2000);
	move_by_handler(bed, SPACE_MMIO, at, 2, 0x9000000000);
	assert_true(bed_claimed(bed, SPACE_MMIO, 0x9000000000));
	/* A port's own handler moves the ports, and moves its memory onto RAM and back. */
	move_by_handler(bed, SPACE_PIO, io, 4, 0xa000);
	assert_false(bed_claimed(bed, SPACE_PIO, io));
	move_by_handler(bed, SPACE_PIO, 0xa000, 0, 0x10000);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xa000 + PCI_TEST_LIVE, 4), 0x14);
	move_by_handler(bed, SPACE_PIO, 0xa000, 0, 0xe5000000);
	assert_int_equal(marked(bed, 0xe5000000), 1);
	/* An access of 8 bytes that starts at the register goes to the place it had. */
	bed_write(bed, SPACE_MMIO, 0xe5000000 + PCI_TEST_MOVE_LO, 4, 0xe6000000);
	bed_write(bed, SPACE_MMIO, 0xe5000000 + PCI_TEST_MOVE, 8, 77ULL << 32);
	assert_int_equal(marked(bed, 0xe6000000), 77);
	/* It can make itself vanish, and wild BAR numbers do nothing. */
	move_by_handler(bed, SPACE_MMIO, 0xe6000000, 6, 0x10000);
	move_by_handler(bed, SPACE_MMIO, 0xe6000000, 0xffffffff, 0x10000);
	move_by_handler(bed, SPACE_MMIO, 0xe6000000, 5, 0x10000);
	assert_int_equal(marked(bed, 0xe6000000), 77);
	move_by_handler(bed, SPACE_MMIO, 0xe6000000, 0, 0);
	assert_false(bed_claimed(bed, SPACE_MMIO, 0xe6000000));
}

/* A BAR that is smaller than what its register decodes, and ones of the least sizes. */
static void test_small_bars(void **state)
{
	static const struct pci_ids ids = { .vendor = 1, .device = 2 };
	struct bed *bed = *state;
	struct pci_function *f = calloc(1, sizeof(*f));
	uint8_t *config = malloc(PCI_CONFIG_SIZE);
	struct region r[3];
	struct error err;

	device_init(&f->dev, &pci_test_type, &bed->vm, "small");
	pci_function_init(f, &ids, config);
	assert_int_equal(pci_bar_init(f, 0, PCI_BAR_IO, false, &r[0], "r", 3, WIDTH_1, NULL), 0);
	assert_int_equal(pci_bar_init(f, 1, PCI_BAR_MEM32, true, &r[1], "r", 1, WIDTH_1, NULL), 0);
	assert_int_equal(pci_bar_init(f, 2, PCI_BAR_MEM64, false, &r[2], "r", 0x1001, WIDTH_1, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		r[i].kind = REGION_HELD;
	assert_int_equal(pci_bus_add(bed->pci, f, 9, 0, &err), 0);
	enable(bed, 9);
	assert_int_equal(pci_bars_live(f), 7);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal((uint32_t)r[i].base, cfg_read(bed, 9, bar_reg(i), 4) & (i ? ~0xfU : ~3U));
	assert_int_equal(r[2].base >> 32, cfg_read(bed, 9, bar_reg(3), 4));
	bar_write(bed, 9, 0, 0xffffffff);
	bar_write(bed, 9, 1, 0xffffffff);
	bar_write(bed, 9, 2, 0xffffffff);
	assert_int_equal(cfg_read(bed, 9, bar_reg(0), 4), 0xfffffffd);
	assert_int_equal(cfg_read(bed, 9, bar_reg(1), 4), 0xfffffff8);
	assert_int_equal(cfg_read(bed, 9, bar_reg(2), 4), 0xffffe004);
	bar_write(bed, 9, 0, 0x8004);
	bar_write(bed, 9, 1, 0xe7000010);
	assert_int_equal(r[0].base, 0x8004);
	assert_int_equal(r[1].base, 0xe7000010);
	pci_function_fini(f);
	device_fini(&f->dev);
	free(config);
	free(f);
}

static void test_no_memory(void **state)
{
	struct bed *bed = *state;
	uint64_t old;

	mark(bed, 1);
	mark(bed, 2);
	old = bar_address(bed, 1, 0);
	fault.failures = 1;
	fault.code = -ENOMEM;
	bar_write(bed, 1, 0, 0xe9000000);
	/* The old place is given up, the new one not had, nobody else touched. */
	assert_false(bed_claimed(bed, SPACE_MMIO, old));
	assert_false(bed_claimed(bed, SPACE_MMIO, 0xe9000000));
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x14);
	assert_int_equal(pci_bars_live(fn(bed, 2)), 0x15);
	assert_int_equal(bed->pci->failures, 1);
	/* The next change of any BAR brings it back. */
	bar_write(bed, 2, 0, 0xea000000);
	assert_int_equal(marked(bed, 0xe9000000), 1);
	assert_int_equal(marked(bed, 0xea000000), 2);
	/* Turning decoding off cannot fail. */
	fault.failures = 1;
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0);
	/* For all at once, too. */
	fault.failures = 1;
	enable(bed, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0);
	enable(bed, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x15);
}

/* Another thread's edit took the place after settling had looked. */
static void test_lost_race(void **state)
{
	struct bed *bed = *state;

	mark(bed, 1);
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	fault = (typeof(fault)){
		.failures = 1, .code = -EEXIST, .mine = fn(bed, 1)->bars[2].region, .other = &bed->chip
	};
	enable(bed, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x11);
	assert_int_equal(fn(bed, 1)->bars[2].conflicts, 1);
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	/* The other way round. */
	fault = (typeof(fault)){
		.failures = 1, .code = -EEXIST, .mine = &bed->chip, .other = fn(bed, 1)->bars[0].region
	};
	enable(bed, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x14);
	cfg_write(bed, 1, PCI_COMMAND, 2, 0);
	/* Names that say nothing: everything that was pending is given up, and the loop ends. */
	fault = (typeof(fault)){ .failures = 100, .code = -EEXIST };
	fault.calls = 0;
	enable(bed, 1);
	assert_int_equal(fault.calls, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0);
	/* However often it fails, it ends. */
	fault.mine = fn(bed, 1)->bars[0].region;
	fault.calls = 0;
	enable(bed, 1);
	assert_true(fault.calls <= 4);
	fault.failures = 0;
	enable(bed, 1);
	assert_int_equal(pci_bars_live(fn(bed, 1)), 0x15);
}

/* The whole rule, worked out from config space as the guest reads it and from nothing else. */
struct model_bar {
	struct region *region;
	enum space space;
	uint64_t base, size;
	bool wanted;
};

static struct model_bar model_bar(struct bed *bed, unsigned slot, unsigned bar)
{
	static const uint64_t sizes[] = { 0x1000, 0, 0x10000, 0, 32 };
	struct model_bar m = { fn(bed, slot)->bars[bar].region, bar == 4 ? SPACE_PIO : SPACE_MMIO,
		bar_address(bed, slot, bar), sizes[bar], false };
	uint32_t command = cfg_read(bed, slot, PCI_COMMAND, 2);
	uint64_t ones = bar == 2 ? UINT64_MAX : UINT32_MAX;

	if (bar == 4)
		m.wanted = command & 1 && m.base && m.base <= 0xffff;
	else
		m.wanted = command & 2 && m.base && m.base != (ones & ~(m.size - 1));
	return m;
}

static bool clash(const struct model_bar *a, const struct region *b)
{
	return a->space == b->space && a->base < b->base + b->size && b->base < a->base + a->size;
}

static unsigned check_invariants(struct bed *bed, struct region *extra)
{
	struct region *foreign[] = { &bed->ram, &bed->chip, &bed->chip_io, bed->host->regions[0], bed->host->regions[1],
		bed->host->regions[2], extra };
	struct model_bar bars[3 * BED_TESTS];
	unsigned n = 0, live = 0;

	for (unsigned slot = 1; slot <= BED_TESTS; slot++)
		for (unsigned bar = 0; fn(bed, slot)->bus && bar < 6; bar += 2)
			bars[n++] = model_bar(bed, slot, bar);
	for (unsigned i = 0; i < n; i++) {
		bool blocked = false;

		for (unsigned f = 0; f < sizeof(foreign) / sizeof(foreign[0]); f++)
			blocked |= foreign[f]->live && clash(&bars[i], foreign[f]);
		for (unsigned j = 0; j < n; j++)
			if (j != i && bars[j].region->live)
				blocked |= clash(&bars[i], bars[j].region);
		assert_int_equal(bars[i].region->live, bars[i].wanted && !blocked);
		if (bars[i].region->live) {
			struct region_count before = region_counts(bars[i].region);

			assert_int_equal(bars[i].region->base, bars[i].base);
			assert_int_equal(bars[i].region->space, bars[i].space);
			bed_read(bed, bars[i].space, bars[i].base + bars[i].size - 1, 1);
			assert_int_equal(region_counts(bars[i].region).reads, before.reads + 1);
			live++;
		}
	}
	return live;
}

/* Few places, so that they collide; sizing values and wild ones among them. */
static uint32_t some_address(unsigned bar)
{
	static const uint32_t memory[] = { 0, 0xffffffff, 0x10000, 0x3fff000, 0x4000000, 0xd1fff000, 0xd2000000,
		0xd2001000, 0xd200f000, 0xd2010000, 0xdfff0000, 0xe0000000, 0xe0001000, 0xe0010000, 0xfffff000,
		0xffff0000, 0xffffe000 };
	static const uint32_t ports[] = { 0, 0xffffffff, 0xcc0, 0xce0, 0xd00, 0x6200, 0x6220, 0x6240, 0x6ff0, 0x7000,
		0x7020, 0xffe0, 0x10000, 0x16200 };

	if (bar == 3)
		return rand() % 4 ? 0 : rand() % 4 ? 0xffffffff : (uint32_t)rand() % 3;
	if (rand() % 16 == 0)
		return (uint32_t)rand() << 1;
	return bar == 4 ? ports[(unsigned)rand() % (sizeof(ports) / sizeof(ports[0]))]
			: memory[(unsigned)rand() % (sizeof(memory) / sizeof(memory[0]))];
}

static void some_config_write(struct bed *bed, unsigned slot)
{
	unsigned bar = (unsigned)rand() % 5, reg = bar_reg(bar), len = 4;
	uint32_t value = some_address(bar);

	if (rand() % 3 == 0) {
		reg = PCI_COMMAND;
		len = 1U << rand() % 3;
		value = rand() % 4 ? 3 : (uint32_t)rand();
	} else if (rand() % 8 == 0) { /* half or a quarter of one */
		len = 1U << rand() % 2;
		reg += (unsigned)rand() % (4 / len) * len;
	}
	if (rand() & 1)
		port_write(bed, slot, reg, len, value);
	else
		cfg_write(bed, slot, reg, len, value);
}

static void some_step(struct bed *bed, struct region *extra)
{
	unsigned slot = 1 + (unsigned)rand() % BED_TESTS, bar;
	struct error err;

	switch (rand() % 24) {
	case 0:
		device_reset(bed->test[slot - 1]);
		break;
	case 1:
		pci_bus_remove(fn(bed, slot));
		break;
	case 2:
		if (extra->live)
			bus_remove(bed->vm.bus, extra);
		else
			(void)!bus_add(bed->vm.bus, extra); /* may fail: a BAR was first */
		break;
	case 3:
	case 4:
	case 5:
		bar = (unsigned)rand() % 2 * 2;
		if (fn(bed, slot)->bars[bar].region->live)
			move_by_handler(bed, SPACE_MMIO, fn(bed, slot)->bars[0].region->base, bar,
				some_address(bar) | (uint64_t)some_address(3) << 32);
		break;
	case 6:
		fault.code = -ENOMEM;
		fault.failures = 1;
		some_config_write(bed, slot);
		fault.failures = 0;
		break;
	default:
		some_config_write(bed, slot);
		break;
	}
	for (slot = 1; slot <= BED_TESTS; slot++)
		if (!fn(bed, slot)->bus && rand() % 8 == 0)
			assert_int_equal(pci_bus_add(bed->pci, fn(bed, slot), slot, 0, &err), 0);
	bus_throttle(bed->vm.bus);
}

static void test_random_walk(void **state)
{
	struct region extra = {
		.name = "extra", .kind = REGION_HELD, .space = SPACE_MMIO, .base = 0xd2000000, .size = 0x11000
	};
	struct bed *bed = *state;
	unsigned live = 0;

	srand(42);
	for (unsigned i = 0; i < 20000; i++) {
		some_step(bed, &extra);
		/* What other edits and failures left behind is put right by any write to any BAR. */
		cfg_write(bed, 0, PCI_COMMAND, 2, 0);
		live += check_invariants(bed, &extra);
	}
	assert_true(live > 20000); /* the walk was not one of empty buses */
	assert_true(bed->pci->conflicts > 1000);
	bus_remove(bed->vm.bus, &extra);
	bus_drain(bed->vm.bus);
}

struct mover {
	struct bed *bed;
	unsigned seed;
	bool *stop;
};

static void *read_everywhere(void *arg)
{
	struct mover *m = arg;
	struct bed *bed = m->bed;
	struct initiator cpu = { .name = "reader" };

	bus_attach(bed->vm.bus, &cpu);
	while (!__atomic_load_n(m->stop, __ATOMIC_RELAXED)) {
		uint64_t value = 0, at = 0xe4000000 + 0x1000 * (uint64_t)(rand_r(&m->seed) % 8);

		bus_access(bed->vm.bus, &cpu, SPACE_MMIO, at + PCI_TEST_ID, &value, 4, 1, false);
		/*
		 * Each byte is the device's or nobody's: a function may arrive
		 * after the first byte was found unclaimed.
		 */
		for (unsigned i = 0; i < 4; i++)
			if ((uint8_t)(value >> 8 * i) != (uint8_t)(PCI_TEST_ID_VALUE >> 8 * i) &&
				(uint8_t)(value >> 8 * i) != 0xff)
				__atomic_fetch_add(&bed->edges, 1, __ATOMIC_RELAXED);
		bus_access(bed->vm.bus, &cpu, SPACE_MMIO, at + PCI_TEST_LIVE, &value, 4, 1, false);
		value = 0xe4000000 + 0x1000 * (uint64_t)(rand_r(&m->seed) % 8);
		bus_access(bed->vm.bus, &cpu, SPACE_MMIO, at + PCI_TEST_MOVE_LO, &value, 4, 1, true);
		value = 0;
		bus_access(bed->vm.bus, &cpu, SPACE_MMIO, at + PCI_TEST_MOVE, &value, 4, 1, true);
		bus_throttle(bed->vm.bus);
	}
	bus_detach(&cpu);
	return NULL;
}

static void *add_and_remove(void *arg)
{
	struct mover *m = arg;
	struct bed *bed = m->bed;

	while (!__atomic_load_n(m->stop, __ATOMIC_RELAXED)) {
		struct region *r = calloc(1, sizeof(*r));

		*r = (struct region){ .name = "hot",
			.kind = REGION_HELD,
			.space = SPACE_MMIO,
			.size = 0x1000,
			.base = 0xe4000000 + 0x1000 * (uint64_t)(rand_r(&m->seed) % 8) };
		if (bus_add(bed->vm.bus, r) == 0)
			bus_remove(bed->vm.bus, r);
		bus_drain(bed->vm.bus);
		free(r);
	}
	return NULL;
}

/*
 * Two vCPUs make the functions move from inside their handlers, a third writes config space, a device comes and goes.
 */
static void test_threads(void **state)
{
	struct bed *bed = *state;
	bool stop = false;
	struct mover movers[] = { { bed, 1, &stop }, { bed, 2, &stop }, { bed, 3, &stop } };
	struct region none = { .size = 1 };
	pthread_t threads[3];

	for (unsigned slot = 1; slot <= BED_TESTS; slot++) {
		enable(bed, slot);
		bar_write(bed, slot, 0, 0xe4000000 + 0x1000 * slot);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
			thread_start(&threads[i], "mover", i < 2 ? read_everywhere : add_and_remove, &movers[i]), 0);
	srand(7);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned slot = 1 + (unsigned)rand() % BED_TESTS;

		if (rand() % 8)
			bar_write(bed, slot, 0, 0xe4000000 + 0x1000 * ((unsigned)rand() % 8));
		else
			cfg_write(bed, slot, PCI_COMMAND, 2, (unsigned)rand() & 3);
		bus_throttle(bed->vm.bus);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(bed->edges, 0); /* counts wrong answers here: no interrupt is raised */
	for (unsigned slot = 1; slot <= BED_TESTS; slot++)
		enable(bed, slot);
	assert_true(check_invariants(bed, &none) > 0);
}

static int setup(void **state)
{
	memset(&fault, 0, sizeof(fault));
	return bed_setup(state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sizing),
		T(test_command_toggles),
		T(test_moves),
		T(test_wide_bar_moves_by_halves),
		T(test_ports_end_at_64k),
		T(test_swap_by_toggling),
		T(test_swap_while_decoding),
		T(test_swap_inside_one_function),
		T(test_conflicts),
		T(test_conflict_ends_with_the_other),
		T(test_move_from_own_handler),
		T(test_small_bars),
		T(test_no_memory),
		T(test_lost_race),
		T(test_random_walk),
		T(test_threads),
	};

	return cmocka_run_group_tests_name("pci settling", tests, NULL, NULL);
}
