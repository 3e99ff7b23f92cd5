/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bus_model.c - the bus against a naive model of its contract: random edits, accesses, and edits in the
 * middle of accesses.
 *
 * The model is a plain array of regions. It asks, byte by byte, who answers here (a linear scan), and applies
 * the sentences of the contract to the answers. For each access it predicts every handler call, with offset,
 * width and value, each byte read, what is claimed and what is counted. Edits are judged by comparing all
 * pairs.
 *
 * BUS_MODEL_SEED and BUS_MODEL_STEPS set what is printed at the start.
 */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bus/bus.h"

#define REGIONS   24
#define MEMORY    0x800 /* bytes of host memory that each region could show */
#define MAX_COUNT 4
#define MAX_CALLS (8 * MAX_COUNT + 1)
#define MAX_BATCH 4

/* Compared as bytes, so without padding. */
struct call {
	uint32_t region, len;
	uint64_t offset, value; /* value: of a write */
	uint64_t write;
};

/* What the model knows of a region. */
struct model {
	bool live;
	enum space space;
	uint64_t base, size;
	enum region_kind kind;
	unsigned widths, incarnation;
	bool handler;
	enum space target_space;
	uint64_t target_base, memory_offset;
	uint8_t bytes[MEMORY];
	uint64_t reads, writes;
};

/* Who answers some bytes, according to the model. */
struct answer {
	int region; /* -1: nobody */
	bool wrong_width;
	uint64_t offset;
	unsigned len, incarnation;
	enum region_kind kind; /* as it was when found */
};

struct script {
	struct edit edits[MAX_BATCH];
	unsigned nr_edits, at_call;
	int result;
};

static struct bus *bus;
static struct initiator cpus[BUS_LANES + 2];
static struct region regions[REGIONS];
static struct memory memories[REGIONS];
static uint8_t host[REGIONS][MEMORY] __attribute__((aligned(64)));
static struct model models[REGIONS];
static struct call calls[MAX_CALLS], expected[MAX_CALLS];
static unsigned nr_calls, nr_expected;
static uint64_t call_serial; /* answers depend on it, so a call too many or too few shows */
static struct script script;
static bool scripted;

static uint64_t seed, state;
static unsigned long steps = 2000000;

static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t n)
{
	return (rnd() >> 16) % n;
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

static uint64_t reply(unsigned region, uint64_t offset, uint64_t serial)
{
	return (serial + 1) * 0x9e3779b97f4a7c15 ^ offset << 32 ^ region;
}

/* ---- the real side ---- */

static void handler(void *dev, struct trap *trap)
{
	unsigned i = (unsigned)((struct region *)dev - regions);

	assert_in_range(nr_calls, 0, MAX_CALLS - 1);
	calls[nr_calls] = (struct call){ i, trap->len, trap->offset, trap->write ? trap->value : 0, trap->write };
	if (!trap->write) {
		assert_int_equal(trap->value, UINT64_MAX);
		trap->value = reply(i, trap->offset, call_serial + nr_calls);
	}
	if (scripted && nr_calls == script.at_call)
		assert_int_equal(bus_edit(bus, script.edits, script.nr_edits, NULL, NULL), script.result);
	nr_calls++;
}

/* ---- the model ---- */

static uint64_t last_of(const struct model *m)
{
	return m->base + (m->size - 1);
}

static int find(enum space space, uint64_t addr)
{
	for (int i = 0; i < REGIONS; i++) {
		const struct model *m = &models[i];

		if (m->live && m->space == space && addr >= m->base && addr <= last_of(m))
			return i;
	}
	return -1;
}

/* One byte: through at most four regions, all but the last of them windows, each of them noted in path[]. */
static struct answer answer_byte(enum space space, uint64_t addr, int path[4])
{
	struct answer a = { .region = -1, .len = 1 };

	for (int depth = 0; depth < 4; depth++)
		path[depth] = -1;
	for (int depth = 0; depth < 4; depth++) {
		int i = find(space, addr);
		const struct model *m = &models[i < 0 ? 0 : i];

		if (i < 0)
			return a;
		path[depth] = i;
		if (m->kind != REGION_ALIAS) {
			a.region = i;
			a.offset = addr - m->base;
			a.kind = m->kind;
			a.incarnation = m->incarnation;
			return a;
		}
		addr = addr - m->base + m->target_base;
		space = m->target_space;
	}
	return a;
}

static bool calls_handler(const struct answer *a, bool write)
{
	return a->kind == REGION_TRAP || (a->kind == REGION_ROM && write && models[a->region].handler);
}

/* The next piece: all bytes of this access with the same answer, cut to a width if somebody is called. */
static struct answer answer_piece(enum space space, uint64_t addr, unsigned pos, unsigned len, bool write)
{
	int path[4], next[4];
	struct answer a = { .region = -1, .len = 1 };

	if (addr + pos < addr)
		return a;
	a = answer_byte(space, addr + pos, path);
	if (a.region < 0)
		return a;
	while (pos + a.len < len && addr + pos + a.len > addr) {
		struct answer b = answer_byte(space, addr + pos + a.len, next);

		if (b.region != a.region || b.offset != a.offset + a.len || memcmp(path, next, sizeof(path)))
			break;
		a.len++;
	}
	if (calls_handler(&a, write)) {
		unsigned width = 8;

		while (width && !((models[a.region].widths & width) && a.offset % width == 0 && width <= a.len))
			width /= 2;
		if (width)
			a.len = width;
		else
			a = (struct answer){ .region = -1, .wrong_width = true, .len = 1 };
	}
	return a;
}

static bool malformed(const struct model *m)
{
	bool called = m->kind == REGION_TRAP || (m->kind == REGION_ROM && m->handler);
	unsigned widest = 0;

	for (unsigned w = 1; w <= 8; w *= 2) {
		if ((m->widths & w) && w <= m->size)
			widest = w;
	}
	if (last_of(m) < m->base || (m->space == SPACE_PIO && last_of(m) > 0xffff))
		return true;
	if (called && (!widest || m->base % widest))
		return true;
	if (m->kind == REGION_TRAP && !m->handler)
		return true;
	if (m->kind == REGION_RAM || m->kind == REGION_ROM)
		return m->size > MEMORY - m->memory_offset;
	if (m->kind == REGION_ALIAS) {
		uint64_t last = m->target_base + (m->size - 1);

		return last < m->target_base || (m->target_space == SPACE_PIO && last > 0xffff);
	}
	return false;
}

static bool overlap(const struct model *a, const struct model *b)
{
	return a->live && b->live && a->space == b->space && a->base <= last_of(b) && b->base <= last_of(a);
}

/* Judges and, if it may be, applies a batch. */
static int model_edit(const struct edit *edits, unsigned n)
{
	static struct model old[REGIONS];
	bool touched[REGIONS] = { false };
	int r = 0;

	memcpy(old, models, sizeof(old));
	for (unsigned i = 0; i < n && !r; i++) {
		unsigned which = (unsigned)(edits[i].region - regions);
		struct model *m = &models[which];

		touched[which] = true;
		if (edits[i].op == EDIT_ADD) {
			r = m->live ? -EEXIST : 0;
			m->live = true;
		} else if (edits[i].op == EDIT_MOVE) {
			m->space = edits[i].space;
			m->base = edits[i].base;
			m->live = true;
		} else if (edits[i].op == EDIT_REMOVE) {
			m->live = false;
		} else {
			r = edits[i].kind > REGION_ROM || m->kind > REGION_ROM ? -EINVAL : 0;
			m->kind = edits[i].kind;
		}
	}
	for (unsigned i = 0; i < REGIONS && !r; i++)
		r = touched[i] && models[i].live && malformed(&models[i]) ? -EINVAL : 0;
	for (unsigned i = 0; i < REGIONS && !r; i++) {
		for (unsigned j = 0; j < i && !r; j++)
			r = overlap(&models[i], &models[j]) ? -EEXIST : 0;
	}
	for (unsigned i = 0; i < REGIONS; i++) {
		if (r)
			models[i] = old[i];
		else if (old[i].live && !models[i].live)
			models[i].incarnation++;
	}
	return r;
}

/* A piece is served: a call is expected, or bytes are copied. */
static void model_serve(const struct answer *a, uint8_t *data, bool write)
{
	struct model *m = &models[a->region];
	uint64_t value = 0;

	write ? m->writes++ : m->reads++;
	if (calls_handler(a, write)) {
		if (write)
			memcpy(&value, data, a->len);
		expected[nr_expected] = (struct call){ (unsigned)a->region, a->len, a->offset, value, write };
		value = reply((unsigned)a->region, a->offset, call_serial + nr_expected);
		if (!write)
			memcpy(data, &value, a->len);
		if (scripted && nr_expected == script.at_call)
			script.result = model_edit(script.edits, script.nr_edits);
		nr_expected++;
	} else if (a->kind == REGION_RAM || (a->kind == REGION_ROM && !write)) {
		uint8_t *bytes = m->bytes + m->memory_offset + a->offset;

		memcpy(write ? bytes : data, write ? data : bytes, a->len);
	}
}

static unsigned model_access(struct initiator *from, enum space space, uint64_t addr, uint8_t *data, unsigned len,
	unsigned count, bool write)
{
	struct answer found[8];
	bool known[8] = { false };
	unsigned claimed = 0;

	if (!write)
		memset(data, 0xff, len * count);
	for (; count--; data += len) {
		int run = 0; /* of unclaimed bytes: 1 nobody there, 2 wrong width */

		for (unsigned pos = 0; pos < len; pos += found[pos].len) {
			struct answer *a = &found[pos];

			/* The region found first serves all of the count, unless it was removed. */
			if (!known[pos] || a->region < 0 || a->incarnation != models[a->region].incarnation)
				*a = answer_piece(space, addr, pos, len, write);
			known[pos] = true;
			if (a->region >= 0) {
				model_serve(a, data + pos, write);
				claimed += a->len;
				from->served[write][space]++;
				run = 0;
			} else if (run != 1 + a->wrong_width) {
				run = 1 + a->wrong_width;
				write ? from->unclaimed_writes[space]++ : from->unclaimed_reads[space]++;
				from->wrong_width[space] += a->wrong_width;
			}
		}
	}
	return claimed;
}

/* ---- random things ---- */

/* Few places, so that regions meet; among them both ends of both spaces, and far ones for the wide. */
static uint64_t random_base(enum space space, uint64_t size)
{
	uint64_t base;

	if (space == SPACE_PIO)
		base = one_in(3) ? 0x10000 - size - below(16) : below(0x80);
	else if (one_in(8))
		base = one_in(2) ? 0 : UINT64_MAX - below(0x40) - size + 1;
	else if (one_in(4))
		base = below(0x40) << 20;
	else
		base = below(one_in(2) ? 0x100 : 0x6000);
	return one_in(8) ? base : base & -8ULL;
}

static uint64_t random_size(enum region_kind kind, enum space space)
{
	uint64_t size = 1 + below(one_in(2) ? 8 : 64);

	if (one_in(2))
		size = 1ULL << below(8);
	if (kind == REGION_RAM || kind == REGION_ROM)
		return size;
	if (space == SPACE_MMIO && one_in(4))
		size = (1 + below(5)) << 12;
	if (space == SPACE_MMIO && one_in(6))
		size = (1 + below(8)) << (12 + below(14));
	return size;
}

/* Gives a region that is not live new properties; only after a drain may they change. */
static void reshape(unsigned i)
{
	static const enum region_kind kinds[] = { REGION_TRAP, REGION_TRAP, REGION_TRAP, REGION_TRAP, REGION_RAM,
		REGION_ROM, REGION_ROM, REGION_HELD, REGION_ALIAS };
	struct region *r = &regions[i];
	struct model *m = &models[i];

	m->kind = kinds[below(sizeof(kinds) / sizeof(kinds[0]))];
	m->space = one_in(3) ? SPACE_PIO : SPACE_MMIO;
	m->size = random_size(m->kind, m->space);
	m->base = random_base(m->space, m->size);
	m->widths = (unsigned)below(16);
	m->handler = m->kind != REGION_ROM || one_in(2);
	m->target_space = one_in(3) ? SPACE_PIO : SPACE_MMIO;
	m->target_base = random_base(m->target_space, m->size);
	m->memory_offset = below(64);
	*r = (struct region){ .name = "region",
		.kind = m->kind,
		.space = m->space,
		.base = m->base,
		.size = m->size,
		.widths = (uint8_t)m->widths,
		.fn = m->handler ? handler : NULL,
		.dev = r,
		.memory = &memories[i],
		.memory_offset = m->memory_offset,
		.target_space = m->target_space,
		.target_base = m->target_base };
	m->widths = m->widths ? m->widths : WIDTH_ANY;
	m->reads = m->writes = 0;
}

static struct edit random_edit(void)
{
	unsigned i = (unsigned)below(REGIONS);
	struct edit edit = { .op = EDIT_MOVE, .region = &regions[i], .space = models[i].space };

	edit.base = models[i].base;
	if (one_in(3)) {
		edit.op = one_in(2) ? EDIT_REMOVE : EDIT_ADD;
	} else if (one_in(5)) {
		edit.op = EDIT_KIND;
		edit.kind = (enum region_kind)below(NR_REGION_KINDS);
	} else if (!one_in(8)) {
		edit.space = one_in(8) ? (enum space)below(NR_SPACES) : edit.space;
		edit.base = one_in(3) ? models[below(REGIONS)].base : random_base(edit.space, models[i].size);
	}
	return edit;
}

static void random_script(void)
{
	script.nr_edits = 1 + (one_in(2) ? (unsigned)below(MAX_BATCH) : 0);
	script.at_call = (unsigned)below(6);
	script.result = 0;
	for (unsigned i = 0; i < script.nr_edits; i++)
		script.edits[i] = random_edit();
	/* Swaps would be rare by chance. */
	if (one_in(8)) {
		unsigned a = (unsigned)below(REGIONS), b = (unsigned)below(REGIONS);

		script.nr_edits = 2;
		script.edits[0] = (struct edit){
			.op = EDIT_MOVE, .region = &regions[a], .space = models[b].space, .base = models[b].base
		};
		script.edits[1] = (struct edit){
			.op = EDIT_MOVE, .region = &regions[b], .space = models[a].space, .base = models[a].base
		};
	}
}

static uint64_t random_addr(enum space *space)
{
	const struct model *m = &models[below(REGIONS)];

	*space = m->space;
	if (one_in(16)) {
		*space = one_in(2) ? SPACE_PIO : SPACE_MMIO;
		return one_in(2) ? rnd() : (*space == SPACE_PIO ? 0xffff : UINT64_MAX) - below(8);
	}
	return one_in(2) ? m->base + below(m->size) : (one_in(2) ? m->base : last_of(m)) + below(16) - 8;
}

/* ---- steps ---- */

static void check_fields(void)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		assert_int_equal(regions[i].live, models[i].live);
		assert_int_equal(regions[i].kind, models[i].kind);
		assert_int_equal(regions[i].space, models[i].space);
		assert_int_equal(regions[i].base, models[i].base);
	}
}

static void step_access(void)
{
	static struct initiator want;
	struct initiator *from = &cpus[below(sizeof(cpus) / sizeof(cpus[0]))];
	uint8_t data[8 * MAX_COUNT], model_data[sizeof(data)];
	unsigned len = 1 + (unsigned)below(8), count = one_in(3) ? 1 + (unsigned)below(MAX_COUNT) : 1;
	bool write = one_in(2);
	enum space space;
	uint64_t addr = random_addr(&space);
	unsigned claimed;

	for (unsigned i = 0; i < sizeof(data); i += 8)
		memcpy(data + i, &(uint64_t){ rnd() }, 8);
	memcpy(model_data, data, sizeof(data));
	want = *from;
	nr_calls = nr_expected = 0;
	scripted = one_in(6);
	if (scripted)
		random_script();
	claimed = model_access(&want, space, addr, model_data, len, count, write);
	assert_int_equal(bus_access(bus, from, space, addr, data, len, count, write), claimed);
	assert_memory_equal(data, model_data, sizeof(data));
	assert_int_equal(nr_calls, nr_expected);
	if (nr_calls)
		assert_memory_equal(calls, expected, nr_calls * sizeof(calls[0]));
	assert_memory_equal(from->served, want.served, sizeof(want.served));
	assert_memory_equal(from->unclaimed_reads, want.unclaimed_reads, sizeof(want.unclaimed_reads));
	assert_memory_equal(from->unclaimed_writes, want.unclaimed_writes, sizeof(want.unclaimed_writes));
	assert_memory_equal(from->wrong_width, want.wrong_width, sizeof(want.wrong_width));
	call_serial += nr_calls;
	if (scripted && script.at_call < nr_calls)
		check_fields();
	scripted = false;
}

static void step_edit(void)
{
	struct region *mine, *other;
	int r;

	random_script();
	r = model_edit(script.edits, script.nr_edits);
	assert_int_equal(bus_edit(bus, script.edits, script.nr_edits, &mine, &other), r);
	if (r == -EEXIST)
		assert_true(mine && other);
	if (r == -EINVAL)
		assert_non_null(mine);
	check_fields();
}

static void step_remove(void)
{
	unsigned i = (unsigned)below(REGIONS);

	models[i].incarnation += models[i].live;
	models[i].live = false;
	bus_remove(bus, &regions[i]);
	check_fields();
}

static void step_memory(void)
{
	enum space space;
	uint64_t addr = random_addr(&space), len = 1 + below(64);
	bool write = one_in(2);
	int path[4], next[4];
	struct answer a = answer_byte(SPACE_MMIO, addr, path);
	uint8_t *want = NULL;
	uint64_t want_len = 1;
	struct memory *mem = NULL;

	if (a.region >= 0 && (a.kind == REGION_RAM || (a.kind == REGION_ROM && !write))) {
		want = host[a.region] + models[a.region].memory_offset + a.offset;
		for (; want_len < len && addr + want_len > addr; want_len++) {
			struct answer b = answer_byte(SPACE_MMIO, addr + want_len, next);

			if (b.region != a.region || b.offset != a.offset + want_len || memcmp(path, next, sizeof(path)))
				break;
		}
	}
	bus_read_lock();
	assert_ptr_equal(bus_memory(bus, addr, &len, write, &mem), want);
	if (want) {
		assert_int_equal(len, want_len);
		assert_ptr_equal(mem, &memories[a.region]);
	}
	bus_read_unlock();
}

static void check_next(struct region *region, void *arg)
{
	uint64_t *next = arg;
	unsigned i = (unsigned)(region - regions);

	assert_true(models[i].live && models[i].base >= *next);
	*next = last_of(&models[i]) + 1;
	assert_int_equal(region_counts(region).reads, models[i].reads);
	assert_int_equal(region_counts(region).writes, models[i].writes);
}

/* Now and then: memory, lists, and other shapes for what is not live. */
static void step_rest(void)
{
	for (int space = 0; space < NR_SPACES; space++)
		bus_for_each(bus, (enum space)space, check_next, &(uint64_t){ 0 });
	for (unsigned i = 0; i < REGIONS; i++)
		assert_memory_equal(host[i], models[i].bytes, MEMORY);
	bus_drain(bus);
	for (unsigned i = 0; i < REGIONS; i++) {
		if (!models[i].live)
			reshape(i);
	}
	if (bus_retired(bus) > 10000)
		bus_throttle(bus);
}

static void keep(struct memory *mem)
{
}

static void bus_agrees_with_the_model(void **unused)
{
	bus = bus_new();
	assert_non_null(bus);
	for (unsigned i = 0; i < sizeof(cpus) / sizeof(cpus[0]); i++)
		bus_attach(bus, &cpus[i]);
	for (unsigned i = 0; i < REGIONS; i++) {
		memories[i] = (struct memory){ .host = host[i], .size = MEMORY, .refs = 1, .release = keep };
		reshape(i);
	}
	for (unsigned long i = 0; i < steps; i++) {
		unsigned what = (unsigned)below(64);

		if (i % 2048 == 0)
			step_rest();
		if (what < 6)
			step_edit();
		else if (what < 8)
			step_remove();
		else if (what < 10)
			step_memory();
		else
			step_access();
	}
	step_rest();
	for (unsigned i = 0; i < sizeof(cpus) / sizeof(cpus[0]); i++)
		bus_detach(&cpus[i]);
	bus_free(bus);
	for (unsigned i = 0; i < REGIONS; i++)
		assert_int_equal(memories[i].refs, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(bus_agrees_with_the_model) };
	const char *env = getenv("BUS_MODEL_SEED");

	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15;
	state = seed ? seed : 1;
	env = getenv("BUS_MODEL_STEPS");
	steps = env ? strtoul(env, NULL, 0) : steps;
	printf("BUS_MODEL_SEED=%#llx BUS_MODEL_STEPS=%lu\n", (unsigned long long)seed, steps);
	fflush(stdout);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
