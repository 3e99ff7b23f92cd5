/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bus_edit.c - the contract of the bus, as those see it that change the map: what is refused, batches,
 * swaps, removal without memory, who may wait and where.
 *
 * Linked with --wrap=calloc,--wrap=aligned_alloc,--wrap=malloc,--wrap=realloc, to run out of memory at will.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"
#include "bus_chip.h"

static struct bus *bus;
static struct initiator cpu;

static unsigned allocations;            /* since it was last cleared, on this thread */
static unsigned fail_from = UINT32_MAX; /* that one and all later ones fail */
static __thread bool counting;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

static bool fails(void)
{
	return counting && allocations++ >= fail_from;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(align, size);
}

/* From now on, `n` allocations of this thread succeed. */
static void allow_allocations(unsigned n)
{
	allocations = 0;
	fail_from = n;
	counting = true;
}

static void allow_all(void)
{
	counting = false;
}

static int setup(void **state)
{
	bus = bus_new();
	memset(&cpu, 0, sizeof(cpu));
	bus_attach(bus, &cpu);
	return bus ? 0 : -1;
}

static int teardown(void **state)
{
	allow_all();
	bus_detach(&cpu);
	bus_free(bus);
	return 0;
}

static struct chip chips[16]; /* each answers with its number */

/* Who answers at a place; NULL: nobody. */
static struct chip *at(enum space space, uint64_t addr)
{
	struct chip *chip = NULL;
	uint8_t data = 0;

	if (bus_access(bus, &cpu, space, addr, &data, 1, 1, false))
		chip = &chips[data];
	return chip;
}

static struct region *init(unsigned i, enum space space, uint64_t base, uint64_t size)
{
	chip_init(&chips[i], "chip", space, base, size, WIDTH_1);
	chips[i].answers = true;
	chips[i].answer = i;
	return &chips[i].region;
}

static struct region *added(unsigned i, enum space space, uint64_t base, uint64_t size)
{
	struct region *region = init(i, space, base, size);

	assert_int_equal(bus_add(bus, region), 0);
	return region;
}

static struct edit move_to(struct region *region, enum space space, uint64_t base)
{
	return (struct edit){ .op = EDIT_MOVE, .region = region, .space = space, .base = base };
}

/* ---- what is refused ---- */

static void no_release(struct memory *mem)
{
}

static void malformed_regions_are_refused(void **state)
{
	static uint8_t host[64];
	static struct memory mem = { .host = host, .size = 64, .refs = 1, .release = no_release };
	static const struct region good = {
		.kind = REGION_TRAP, .space = SPACE_MMIO, .base = 0x1000, .size = 16, .fn = chip_trap
	};
	struct region r;

#define REFUSED(...)                                                                                                   \
	do {                                                                                                           \
		r = good;                                                                                              \
		__VA_ARGS__;                                                                                           \
		assert_int_equal(bus_add(bus, &r), -EINVAL);                                                           \
		assert_false(r.live);                                                                                  \
	} while (0)

	REFUSED(r.size = 0);
	REFUSED(r.base = UINT64_MAX - 7, r.size = 9);
	REFUSED(r.space = SPACE_PIO, r.base = 0xfff8);
	REFUSED(r.space = SPACE_PIO, r.base = 0x10000, r.size = 8);
	REFUSED(r.space = NR_SPACES);
	REFUSED(r.kind = NR_REGION_KINDS);
	REFUSED(r.widths = 16);
	REFUSED(r.fn = NULL);
	REFUSED(r.base = 0x1004); /* any width means 8 here */
	REFUSED(r.base = 0x1002, r.widths = WIDTH_1 | WIDTH_4);
	REFUSED(r.size = 2, r.widths = WIDTH_4); /* no width could ever be used */
	REFUSED(r.kind = REGION_RAM);
	REFUSED(r.kind = REGION_ROM);
	REFUSED(r.kind = REGION_RAM, r.memory = &mem, r.size = 65);
	REFUSED(r.kind = REGION_RAM, r.memory = &mem, r.memory_offset = 49);
	REFUSED(r.kind = REGION_RAM, r.memory = &mem, r.memory_offset = UINT64_MAX);
	REFUSED(r.kind = REGION_ROM, r.memory = &mem, r.base = 0x1004); /* for the writes it traps */
	REFUSED(r.kind = REGION_ALIAS, r.target_space = NR_SPACES);
	REFUSED(r.kind = REGION_ALIAS, r.target_space = SPACE_PIO, r.target_base = 0xfff8);
	REFUSED(r.kind = REGION_ALIAS, r.target_space = SPACE_MMIO, r.target_base = UINT64_MAX);

#define TAKEN(...)                                                                                                     \
	do {                                                                                                           \
		r = good;                                                                                              \
		__VA_ARGS__;                                                                                           \
		assert_int_equal(bus_add(bus, &r), 0);                                                                 \
		bus_remove(bus, &r);                                                                                   \
	} while (0)

	TAKEN(r.base = UINT64_MAX - 15);
	TAKEN(r.space = SPACE_PIO, r.base = 0xfff0);
	TAKEN(r.base = 0x1002, r.widths = WIDTH_1 | WIDTH_2);
	TAKEN(r.base = 0x1001, r.size = 1);                           /* widths beyond the size do not count */
	TAKEN(r.base = 0x1001, r.kind = REGION_HELD);                 /* nobody is called, so nothing must be */
	TAKEN(r.base = 0x1001, r.kind = REGION_RAM, r.memory = &mem); /* aligned */
	TAKEN(r.memory_offset = 48, r.kind = REGION_RAM, r.memory = &mem);
	assert_int_equal(__atomic_load_n(&mem.refs, __ATOMIC_ACQUIRE) > 0, 1);
}

static void conflicts_name_both_sides(void **state)
{
	struct region *low = added(0, SPACE_MMIO, 0x1000, 0x1000), *high = added(1, SPACE_MMIO, 0x3000, 0x1000);
	struct region *mine, *other;
	struct edit edit = { .op = EDIT_ADD };
	static const struct {
		uint64_t base, size;
		int conflict; /* with chips[i]; -1: none */
	} cases[] = {
		{ 0x2000, 0x1000, -1 },
		{ 0x1fff, 1, 0 },
		{ 0x1000, 1, 0 },
		{ 0xfff, 1, -1 },
		{ 0xfff, 2, 0 },
		{ 0x0, 0x10000, 0 },
		{ 0x2000, 0x1001, 1 },
		{ 0x3800, 0x10, 1 },
		{ 0x3000, 0x1000, 1 },
		{ 0x4000, 1, -1 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		edit.region = init(2, SPACE_MMIO, cases[i].base, cases[i].size);
		if (cases[i].conflict < 0) {
			assert_int_equal(bus_edit(bus, &edit, 1, &mine, &other), 0);
			assert_null(mine);
			assert_null(other);
			bus_remove(bus, edit.region);
			continue;
		}
		assert_int_equal(bus_edit(bus, &edit, 1, &mine, &other), -EEXIST);
		assert_ptr_equal(mine, edit.region);
		assert_ptr_equal(other, cases[i].conflict ? high : low);
		assert_false(edit.region->live);
	}
	/* The same numbers in the other space are another place. */
	added(3, SPACE_PIO, 0x1000, 0x1000);
	/* What is live already is in its own way. */
	edit.region = low;
	assert_int_equal(bus_edit(bus, &edit, 1, &mine, &other), -EEXIST);
	assert_ptr_equal(mine, low);
	assert_ptr_equal(other, low);
	assert_true(low->live);
	/* And a move into the way names the one that moves. */
	edit = move_to(high, SPACE_MMIO, 0x1800);
	assert_int_equal(bus_edit(bus, &edit, 1, &mine, &other), -EEXIST);
	assert_ptr_equal(mine, high);
	assert_ptr_equal(other, low);
}

/* ---- batches ---- */

static void batches_are_judged_on_their_result(void **state)
{
	struct region *a = added(0, SPACE_MMIO, 0x1000, 0x1000), *b = added(1, SPACE_MMIO, 0x2000, 0x1000);
	struct edit swap[] = { move_to(a, SPACE_MMIO, 0x2000), move_to(b, SPACE_MMIO, 0x1000) };
	struct edit replace[] = { { .op = EDIT_ADD, .region = init(2, SPACE_MMIO, 0x1000, 0x2000) },
		{ .op = EDIT_REMOVE, .region = a }, { .op = EDIT_REMOVE, .region = b } };
	struct edit twice[] = { move_to(&chips[2].region, SPACE_MMIO, 0x5000),
		move_to(&chips[2].region, SPACE_PIO, 0x500) };

	assert_int_equal(bus_edit(bus, swap, 2, NULL, NULL), 0);
	assert_ptr_equal(at(SPACE_MMIO, 0x1000), &chips[1]);
	assert_ptr_equal(at(SPACE_MMIO, 0x2000), &chips[0]);
	assert_int_equal(bus_edit(bus, replace, 3, NULL, NULL), 0);
	assert_ptr_equal(at(SPACE_MMIO, 0x1000), &chips[2]);
	assert_false(a->live || b->live);
	/* Edits of one region apply in their order; and it may change its space. */
	chips[2].region.size = 0x100; /* not live in between, or this would not be allowed */
	assert_int_equal(
		bus_edit(bus, (struct edit[]){ { .op = EDIT_REMOVE, .region = &chips[2].region } }, 1, NULL, NULL), 0);
	bus_drain(bus);
	assert_int_equal(bus_edit(bus, twice, 2, NULL, NULL), 0);
	assert_null(at(SPACE_MMIO, 0x5000));
	assert_ptr_equal(at(SPACE_PIO, 0x5ff), &chips[2]);
	assert_int_equal(bus_edit(bus, NULL, 0, NULL, NULL), 0);
}

static void two_of_a_batch_can_conflict_with_each_other(void **state)
{
	struct edit edits[] = { { .op = EDIT_ADD, .region = init(0, SPACE_MMIO, 0x1000, 0x1000) },
		{ .op = EDIT_ADD, .region = init(1, SPACE_MMIO, 0x1800, 0x1000) } };
	struct region *mine, *other;

	assert_int_equal(bus_edit(bus, edits, 2, &mine, &other), -EEXIST);
	assert_true((mine == edits[0].region && other == edits[1].region) ||
		    (mine == edits[1].region && other == edits[0].region));
	assert_null(at(SPACE_MMIO, 0x1000));
}

/* A batch of all sorts, one of them impossible for the reason given. */
static void check_failing_batch(int want, struct edit bad, unsigned allocations_allowed)
{
	struct region *a = &chips[0].region, *b = &chips[1].region, *c = &chips[2].region;
	struct edit edits[] = { move_to(a, SPACE_MMIO, 0x8000), { .op = EDIT_REMOVE, .region = b },
		{ .op = EDIT_ADD, .region = c }, bad };
	struct region before[4];
	int r;

	for (unsigned i = 0; i < 4; i++)
		before[i] = chips[i].region;
	allow_allocations(allocations_allowed);
	r = bus_edit(bus, edits, 4, NULL, NULL);
	allow_all();
	assert_int_equal(r, want);
	for (unsigned i = 0; i < 4; i++) {
		assert_memory_equal(&before[i], &chips[i].region, sizeof(before[i]));
	}
	assert_ptr_equal(at(SPACE_MMIO, 0x1000), &chips[0]);
	assert_ptr_equal(at(SPACE_MMIO, 0x2000), &chips[1]);
	assert_null(at(SPACE_MMIO, 0x3000));
	assert_null(at(SPACE_MMIO, 0x8000));
}

static void failed_batches_change_nothing(void **state)
{
	struct region *d = init(3, SPACE_MMIO, 0x4000, 0x1000);

	added(0, SPACE_MMIO, 0x1000, 0x1000);
	added(1, SPACE_MMIO, 0x2000, 0x1000);
	init(2, SPACE_MMIO, 0x3000, 0x1000);
	check_failing_batch(-EEXIST, move_to(d, SPACE_MMIO, 0x3fff), UINT32_MAX);
	check_failing_batch(-EEXIST, (struct edit){ .op = EDIT_ADD, .region = &chips[0].region }, UINT32_MAX);
	check_failing_batch(-EINVAL, move_to(d, SPACE_PIO, 0xff00), UINT32_MAX);
	check_failing_batch(-EINVAL, (struct edit){ .op = EDIT_KIND, .region = d, .kind = REGION_HELD }, UINT32_MAX);
	check_failing_batch(
		-EINVAL, (struct edit){ .op = EDIT_KIND, .region = &chips[0].region, .kind = REGION_ROM }, UINT32_MAX);
	/* Whichever allocation fails. */
	check_failing_batch(-ENOMEM, move_to(d, SPACE_MMIO, 0x4000), 0);
	check_failing_batch(-ENOMEM, move_to(d, SPACE_MMIO, 0x4000), 1);
	allow_allocations(2);
	assert_int_equal(bus_edit(bus, (struct edit[]){ move_to(d, SPACE_MMIO, 0x4000) }, 1, NULL, NULL), 0);
	allow_all();
	assert_int_equal(allocations, 2); /* so those were all */
	assert_ptr_equal(at(SPACE_MMIO, 0x4000), &chips[3]);
}

static void move_places_what_is_not_live(void **state)
{
	struct region *bar = init(0, SPACE_MMIO, 0, 0x1000);
	struct edit settle = move_to(bar, SPACE_MMIO, 0x7000);

	/* Settling: the guest's BAR collides, is given up, and tried again when the other has gone. */
	added(1, SPACE_MMIO, 0x7800, 0x100);
	assert_int_equal(bus_edit(bus, &settle, 1, NULL, NULL), -EEXIST);
	assert_false(bar->live);
	bus_remove(bus, &chips[1].region);
	assert_int_equal(bus_edit(bus, &settle, 1, NULL, NULL), 0);
	assert_true(bar->live);
	assert_int_equal(bar->base, 0x7000);
	assert_ptr_equal(at(SPACE_MMIO, 0x7abc), &chips[0]);
	assert_int_equal(bus_edit(bus, &settle, 1, NULL, NULL), 0); /* to where it is */
}

static void kinds_switch_while_not_live_too(void **state)
{
	struct region *r = init(0, SPACE_MMIO, 0x1000, 16);
	static uint8_t host[16];
	static struct memory mem = { .host = host, .size = 16, .refs = 1, .release = no_release };
	struct edit edit = { .op = EDIT_KIND, .region = r, .kind = REGION_ROM };

	r->memory = &mem;
	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
	assert_int_equal(r->kind, REGION_ROM);
	assert_false(r->live);
	bus_drain(bus);
	assert_int_equal(__atomic_load_n(&mem.refs, __ATOMIC_ACQUIRE), 1);
}

/* ---- removal ---- */

static void removal_needs_no_memory_and_cannot_fail(void **state)
{
	struct region *a = added(0, SPACE_MMIO, 0x1000, 0x40000), *b = added(1, SPACE_PIO, 0x60, 1);

	allow_allocations(0);
	bus_remove(bus, a);
	bus_remove(bus, b);
	bus_remove(bus, b); /* idempotent */
	assert_int_equal(allocations, 0);
	assert_null(at(SPACE_MMIO, 0x1000));
	assert_null(at(SPACE_MMIO, 0x40fff));
	assert_null(at(SPACE_PIO, 0x60));
	assert_int_equal(bus_add(bus, a), -ENOMEM);
	assert_false(a->live);
	bus_drain(bus); /* nor does it need any */
	allow_all();
	/* The hole that it left is no obstacle. */
	added(2, SPACE_MMIO, 0x2000, 0x100);
	assert_ptr_equal(at(SPACE_MMIO, 0x2000), &chips[2]);
	assert_null(at(SPACE_MMIO, 0x1000));
}

static void in_handler(struct chip *chip, struct trap *trap)
{
	struct edit swap[] = { move_to(&chips[0].region, SPACE_MMIO, 0x2000),
		move_to(&chips[1].region, SPACE_MMIO, 0x1000) };

	assert_int_equal(bus_edit(bus, swap, 2, NULL, NULL), 0);
	assert_int_equal(bus_add(bus, init(2, SPACE_PIO, 0x10, 4)), 0);
	bus_remove(bus, &chips[1].region);
	chip->hook = NULL;
}

static void all_edits_are_legal_in_the_regions_own_handler(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	init(0, SPACE_MMIO, 0x1000, 0x1000);
	chips[0].hook = in_handler;
	chips[0].region.lock = &lock;
	assert_int_equal(bus_add(bus, &chips[0].region), 0);
	added(1, SPACE_MMIO, 0x2000, 0x1000);
	assert_ptr_equal(at(SPACE_MMIO, 0x1000), &chips[0]);
	assert_null(at(SPACE_MMIO, 0x1000));
	assert_ptr_equal(at(SPACE_MMIO, 0x2000), &chips[0]);
	assert_ptr_equal(at(SPACE_PIO, 0x13), &chips[2]);
}

/* ---- where lookups are hard ---- */

static unsigned claimed_at(uint64_t addr)
{
	return bus_access(bus, &cpu, SPACE_MMIO, addr, &(uint32_t){ 0 }, 4, 1, true);
}

static void crowded_pages_and_wide_regions_are_found(void **state)
{
	static struct chip crowd[512], wide[8];

	for (unsigned i = 0; i < 512; i++) {
		chip_init(&crowd[i], "crowd", SPACE_MMIO, 0x10000 + 8 * i, 4, WIDTH_4);
		assert_int_equal(bus_add(bus, &crowd[i].region), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		/* From 1 MiB to 2^56 bytes, and each from the middle of a page of the next. */
		chip_init(&wide[i], "wide", SPACE_MMIO, (1ULL << (22 + 5 * i)) + 0x800, 1ULL << (20 + 5 * i), WIDTH_4);
		assert_int_equal(bus_add(bus, &wide[i].region), 0);
	}
	for (unsigned i = 0; i < 512; i++) {
		assert_int_equal(claimed_at(0x10000 + 8 * i), 4);
		assert_int_equal(claimed_at(0x10004 + 8 * i), 0);
		assert_int_equal(crowd[i].traps, 1);
	}
	for (unsigned i = 0; i < 8; i++) {
		const struct region *r = &wide[i].region;

		assert_int_equal(claimed_at(r->base) + claimed_at(r->base + r->size - 4) +
					 claimed_at(r->base + r->size / 3 * 2 / 4 * 4),
			12);
		assert_int_equal(claimed_at(r->base - 4) + claimed_at(r->base + r->size), 0);
		assert_int_equal(wide[i].traps, 3);
	}
	for (unsigned i = 0; i < 512; i++)
		bus_remove(bus, &crowd[i].region);
	for (unsigned i = 0; i < 8; i++)
		bus_remove(bus, &wide[i].region);
}

/* ---- waiting ---- */

static sem_t handler_entered, handler_may_go;
static unsigned drained;

static void block(struct chip *chip, struct trap *trap)
{
	sem_post(&handler_entered);
	sem_wait(&handler_may_go);
}

static void *blocked_vcpu(void *arg)
{
	struct initiator other = { .name = "other" };
	uint8_t data;

	bus_thread_enter();
	bus_attach(bus, &other);
	bus_access(bus, &other, SPACE_MMIO, 0x1000, &data, 1, 1, false);
	bus_detach(&other);
	bus_thread_leave();
	return NULL;
}

static void *drainer(void *arg)
{
	bus_thread_enter();
	bus_drain(bus);
	__atomic_store_n(&drained, 1, __ATOMIC_RELEASE);
	bus_thread_leave();
	return NULL;
}

static void drain_waits_for_handlers_in_flight_and_edits_do_not(void **state)
{
	pthread_t vcpu, drain;

	sem_init(&handler_entered, 0, 0);
	sem_init(&handler_may_go, 0, 0);
	drained = 0;
	init(0, SPACE_MMIO, 0x1000, 0x1000);
	chips[0].hook = block;
	assert_int_equal(bus_add(bus, &chips[0].region), 0);
	pthread_create(&vcpu, NULL, blocked_vcpu, NULL);
	sem_wait(&handler_entered);
	bus_remove(bus, &chips[0].region);
	added(1, SPACE_MMIO, 0x1000, 0x1000);
	assert_ptr_equal(at(SPACE_MMIO, 0x1000), &chips[1]);
	pthread_create(&drain, NULL, drainer, NULL);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	assert_int_equal(__atomic_load_n(&drained, __ATOMIC_ACQUIRE), 0);
	assert_true(bus_retired(bus) >= 1);
	sem_post(&handler_may_go);
	pthread_join(drain, NULL);
	pthread_join(vcpu, NULL);
	assert_int_equal(drained, 1);
}

static void throttle_bounds_retired_maps(void **state)
{
	struct region *bar = added(0, SPACE_MMIO, 0x10000, 0x1000);

	for (unsigned i = 0; i < 5000; i++) {
		struct edit edit = move_to(bar, SPACE_MMIO, 0x10000 + 0x1000 * (i & 0xff));

		assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
		bus_throttle(bus);
		assert_true(bus_retired(bus) <= 256);
	}
	bus_throttle(bus); /* nothing edited since: no wait, no lock */
}

/* ---- memory ---- */

static unsigned released;

static void release(struct memory *mem)
{
	__atomic_store_n(&released, 1, __ATOMIC_RELEASE);
}

static bool soon_released(void)
{
	for (unsigned i = 0; i < 3000 && !__atomic_load_n(&released, __ATOMIC_ACQUIRE); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	return __atomic_load_n(&released, __ATOMIC_ACQUIRE);
}

static void memory_goes_after_region_grace_period_and_dma(void **state)
{
	static uint8_t host[4096];
	static struct memory mem = { .host = host, .size = sizeof(host), .refs = 1, .release = release };
	struct memory *dma;
	struct region ram = {
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .base = 0x10000, .size = 4096, .memory = &mem
	};
	uint64_t len = 16;

	released = 0;
	assert_int_equal(bus_add(bus, &ram), 0);
	memory_put(&mem); /* the creator's; the live region holds one */
	assert_int_equal(bus_edit(bus, (struct edit[]){ move_to(&ram, SPACE_MMIO, 0x20000) }, 1, NULL, NULL), 0);
	bus_read_lock();
	assert_non_null(bus_memory(bus, 0x20010, &len, true, &dma));
	memory_get(dma);
	bus_read_unlock();
	bus_remove(bus, &ram);
	assert_false(released);
	bus_drain(bus);
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	assert_false(__atomic_load_n(&released, __ATOMIC_ACQUIRE));
	memory_put(dma);
	assert_true(soon_released());
}

/* ---- lists and life ---- */

static void collect(struct region *region, void *arg)
{
	struct region ***next = arg;

	*(*next)++ = region;
}

static void for_each_is_in_ascending_order(void **state)
{
	struct region *found[8] = { NULL }, **next = found;

	added(0, SPACE_MMIO, 0x3000, 0x1000);
	added(1, SPACE_PIO, 0x3000, 0x10);
	added(2, SPACE_MMIO, 0x1000, 0x1000);
	added(3, SPACE_MMIO, 0x800000000, 0x1000);
	added(4, SPACE_MMIO, 0x2000, 0x1000);
	bus_remove(bus, &chips[4].region);
	bus_for_each(bus, SPACE_MMIO, collect, &next);
	assert_ptr_equal(found[0], &chips[2].region);
	assert_ptr_equal(found[1], &chips[0].region);
	assert_ptr_equal(found[2], &chips[3].region);
	assert_null(found[3]);
}

static void two_buses_live_side_by_side(void **state)
{
	struct bus *second = bus_new();
	struct initiator visitor = { .name = "visitor" };
	struct chip chip;
	uint8_t data;

	bus_attach(second, &visitor);
	chip_init(&chip, "chip", SPACE_MMIO, 0x1000, 0x10, WIDTH_1);
	assert_int_equal(bus_add(second, &chip.region), 0);
	assert_null(at(SPACE_MMIO, 0x1000));
	assert_int_equal(bus_access(second, &visitor, SPACE_MMIO, 0x1000, &data, 1, 1, false), 1);
	bus_detach(&visitor);
	bus_free(second);
	assert_false(chip.region.live); /* what was live is let go of */
	bus_free(NULL);
}

static void new_copes_without_memory(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		allow_allocations(i);
		assert_null(bus_new());
		allow_all();
	}
}

/* ---- asserts: misuse that only our own code can commit ---- */

static void check_dies(void (*misuse)(void))
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 2);
		misuse();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void drain_hook(struct chip *chip, struct trap *trap)
{
	bus_drain(bus);
}

static void drain_in_handler(void)
{
	chips[0].hook = drain_hook;
	at(SPACE_MMIO, 0x1000);
}

static void throttle_hook(struct chip *chip, struct trap *trap)
{
	assert_int_equal(
		bus_edit(bus, (struct edit[]){ move_to(&chip->region, SPACE_MMIO, 0x9000) }, 1, NULL, NULL), 0);
	bus_throttle(bus);
}

static void throttle_in_handler(void)
{
	chips[0].hook = throttle_hook;
	at(SPACE_MMIO, 0x1000);
}

static void edit_it(struct region *region, void *arg)
{
	bus_remove(bus, region);
}

static void edit_in_for_each(void)
{
	bus_for_each(bus, SPACE_MMIO, edit_it, NULL);
}

static void leave_and_access(void)
{
	bus_thread_leave();
	at(SPACE_MMIO, 0x1000);
}

static void leave_and_edit(void)
{
	bus_thread_leave();
	bus_remove(bus, &chips[0].region);
}

static void misuse_by_our_own_code_is_caught(void **state)
{
	added(0, SPACE_MMIO, 0x1000, 0x1000);
	check_dies(drain_in_handler);
	check_dies(throttle_in_handler);
	check_dies(edit_in_for_each);
	check_dies(leave_and_access);
	check_dies(leave_and_edit);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(malformed_regions_are_refused),
		TEST(conflicts_name_both_sides),
		TEST(batches_are_judged_on_their_result),
		TEST(two_of_a_batch_can_conflict_with_each_other),
		TEST(failed_batches_change_nothing),
		TEST(move_places_what_is_not_live),
		TEST(kinds_switch_while_not_live_too),
		TEST(removal_needs_no_memory_and_cannot_fail),
		TEST(all_edits_are_legal_in_the_regions_own_handler),
		TEST(crowded_pages_and_wide_regions_are_found),
		TEST(drain_waits_for_handlers_in_flight_and_edits_do_not),
		TEST(throttle_bounds_retired_maps),
		TEST(memory_goes_after_region_grace_period_and_dma),
		TEST(for_each_is_in_ascending_order),
		TEST(two_buses_live_side_by_side),
		TEST(new_copes_without_memory),
		TEST(misuse_by_our_own_code_is_caught),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
