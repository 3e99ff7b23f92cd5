/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtq.c - virtqueues of both kinds with all their features, against a plain driver and hostile ones.
 *
 * Guest memory: RAM at 0, and at 1 MiB more of it that adjoins in the guest and lies apart in the host, with a hole
 * behind.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "virtq_driver.h"

#define MIB      0x100000ULL
#define RAM      (2 * MIB)
#define ROM_BASE (16 * MIB)
#define RINGS    0x10000ULL
#define TABLES   0x30000ULL /* one of 0x200 bytes for each of 256 */
#define BUFFERS  0x80000ULL
#define PACKED   (1ULL << VIRTIO_F_RING_PACKED)
#define EVENT    (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define GUARD    0xa5

struct bed {
	struct bus *bus;
	struct mem mem;
	struct memory *memory, *rom_memory;
	struct region low, high, rom;
	struct virtq q;
	struct virtq_state state;
	struct vdriver d;
	unsigned faults, interrupts;
	struct mem_watch watch;
	unsigned early; /* writes after which the driver saw a chain that must not be there yet */
	uint64_t random;
};

static bool out_of_memory;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
	return out_of_memory ? NULL : __real_malloc(size);
}

static uint32_t some(struct bed *bed, uint32_t below)
{
	bed->random ^= bed->random << 13;
	bed->random ^= bed->random >> 7;
	bed->random ^= bed->random << 17;
	return (uint32_t)(bed->random * 0x2545f4914f6cdd1d >> 32) % below;
}

static void fault(void *arg)
{
	((struct bed *)arg)->faults++;
}

static void interrupt(void *arg)
{
	__atomic_fetch_add(&((struct bed *)arg)->interrupts, 1, __ATOMIC_SEQ_CST);
}

static void memory_at(struct bed *bed, struct region *region, enum region_kind kind, uint64_t base,
	struct memory *memory, uint64_t offset)
{
	*region = (struct region){ .name = "memory",
		.kind = kind,
		.space = SPACE_MMIO,
		.base = base,
		.size = MIB,
		.memory = memory,
		.memory_offset = offset };
	assert_int_equal(bus_add(bed->bus, region), 0);
}

static void bed_init(struct bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	bed->random = 88172645463325252;
	bed->bus = bus_new();
	assert_non_null(bed->bus);
	bed->mem.bus = bed->bus;
	assert_int_equal(memory_new(3 * MIB, &bed->memory), 0);
	assert_int_equal(memory_new(MIB, &bed->rom_memory), 0);
	memory_at(bed, &bed->low, REGION_RAM, 0, bed->memory, 0);
	memory_at(bed, &bed->high, REGION_RAM, MIB, bed->memory, 2 * MIB);
	memory_at(bed, &bed->rom, REGION_ROM, ROM_BASE, bed->rom_memory, 0);
	assert_int_equal(virtq_init(&bed->q, &bed->mem, &bed->state, VIRTQ_MAX), 0);
	bed->q.fault = fault;
	bed->q.interrupt = interrupt;
	bed->q.arg = bed;
}

static void bed_fini(struct bed *bed)
{
	virtq_fini(&bed->q);
	bus_remove(bed->bus, &bed->low);
	bus_remove(bed->bus, &bed->high);
	bus_remove(bed->bus, &bed->rom);
	bus_drain(bed->bus);
	bus_free(bed->bus);
	/* No chain has left a reference behind. */
	assert_int_equal(bed->memory->refs, 1);
	assert_int_equal(bed->rom_memory->refs, 1);
	memory_put(bed->memory);
	memory_put(bed->rom_memory);
}

static uint8_t *at(struct bed *bed, uint64_t gpa)
{
	return (uint8_t *)bed->memory->host + gpa;
}

/* A new life of the queue, and a driver to it. */
static void begin(struct bed *bed, uint16_t size, uint64_t features)
{
	virtq_stop(&bed->q);
	vdriver_init(&bed->d, bed->memory->host, RINGS, &bed->state, size, features);
	assert_int_equal(virtq_start(&bed->q, features), 0);
	assert_int_equal(bed->state.enabled, 1);
	bed->faults = bed->interrupts = 0;
}

static struct virtq_chain *pop(struct bed *bed)
{
	struct virtq_chain *chain = NULL;

	assert_int_equal(virtq_pop(&bed->q, &chain), 1);
	assert_non_null(chain);
	return chain;
}

static void no_more(struct bed *bed)
{
	struct virtq_chain *chain;

	assert_true(virtq_empty(&bed->q));
	assert_int_equal(virtq_pop(&bed->q, &chain), 0);
	assert_null(chain);
}

/* All of the features that the two kinds have, crossed. */
#define EACH_KIND(features)                                                                                            \
	for (uint64_t kind_ = 0, features = 0; kind_ < 8;                                                              \
		kind_++, features = (kind_ & 1 ? PACKED : 0) | (kind_ & 2 ? EVENT : 0) | (kind_ & 4 ? INDIRECT : 0))

static void test_a_request_goes_and_comes(void **state)
{
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		struct vdriver_buf bufs[] = { { BUFFERS, 4 }, { BUFFERS + 8, 3 }, { BUFFERS + 16, 5 },
			{ BUFFERS + 32, 6 } };
		struct virtq_chain *chain;
		uint32_t len = 0;
		char text[16] = "";

		begin(&bed, 8, features);
		no_more(&bed);
		memset(at(&bed, BUFFERS), GUARD, 64);
		memcpy(at(&bed, BUFFERS), "trap", 4);
		memcpy(at(&bed, BUFFERS + 8), "pin", 3);
		assert_true(vdriver_add(&bed.d, bufs, 4, 2, features & INDIRECT ? TABLES : 0, &bed));
		chain = pop(&bed);
		assert_int_equal(bed.q.in_flight, 1);
		no_more(&bed);
		assert_int_equal(chain->nr_out, 2);
		assert_int_equal(chain->nr_in, 2);
		assert_int_equal(chain->out_len, 7);
		assert_int_equal(chain->in_len, 11);
		assert_ptr_equal(chain->out[1].iov_base, at(&bed, BUFFERS + 8));
		assert_int_equal(chain->in[1].iov_len, 6);
		/* Copies go on where they ended, across pieces, and end with the chain. */
		assert_int_equal(virtq_read(chain, text, 5), 5);
		assert_int_equal(virtq_read(chain, text + 5, 10), 2);
		assert_int_equal(virtq_read(chain, text + 7, 1), 0);
		assert_string_equal(text, "trappin");
		assert_int_equal(virtq_write(chain, "123", 3), 3);
		assert_int_equal(virtq_write(chain, "4567", 4), 4);
		assert_null(vdriver_get(&bed.d, &len));
		virtq_push(chain, 7);
		assert_int_equal(bed.q.in_flight, 0);
		assert_ptr_equal(vdriver_get(&bed.d, &len), &bed);
		assert_int_equal(len, 7);
		assert_memory_equal(at(&bed, BUFFERS + 16), "12345\xa5", 6);
		assert_memory_equal(at(&bed, BUFFERS + 32), "67\xa5", 3);
		assert_null(vdriver_get(&bed.d, &len));
		assert_int_equal(bed.d.nr_free, 8);
		assert_int_equal(bed.faults, 0);
	}
	bed_fini(&bed);
}

/* What one random request is, kept by the driver and found again by the device from what its bytes say. */
#define MOST_PIECES 12
#define REQUESTS    64
struct request {
	struct vdriver_buf bufs[MOST_PIECES];
	unsigned n, n_out;
	uint64_t out_len, in_len;
	uint32_t written;
	bool busy;
	uint32_t number;
};

/* Each request has 4 KiB for itself and one indirect table; its buffers lie apart, with guards between them. */
static void fill_request(struct bed *bed, struct request *all, struct request *r, uint32_t number)
{
	uint64_t base = BUFFERS + (uint64_t)(r - all) * 0x1000, next = base;
	uint8_t byte = (uint8_t)number;

	*r = (struct request){ .busy = true, .number = number, .n = 1 + some(bed, MOST_PIECES) };
	r->n_out = some(bed, r->n + 1);
	memset(at(bed, base), GUARD, 0x1000);
	for (unsigned i = 0; i < r->n; i++) {
		struct vdriver_buf *buf = &r->bufs[i];

		/* Empty ones too, but not all of them. */
		*buf = (struct vdriver_buf){ next + 1 + some(bed, 16), i ? some(bed, 128) : 1 + some(bed, 128) };
		next = buf->gpa + buf->len + 1;
		*(i < r->n_out ? &r->out_len : &r->in_len) += buf->len;
		for (uint32_t k = 0; i < r->n_out && k < buf->len; k++)
			at(bed, buf->gpa)[k] = byte++;
	}
}

/* Reads all and writes some of it, the reverse of the number's bytes. */
static uint32_t serve(struct bed *bed, struct virtq_chain *chain, struct request *all, const struct request **which)
{
	uint8_t bytes[128 * MOST_PIECES];
	uint64_t host, got;
	const struct request *r;
	uint32_t want;

	host = (uint64_t)((uint8_t *)(chain->nr_out ? chain->out : chain->in)[0].iov_base - at(bed, BUFFERS));
	*which = r = &all[host / 0x1000];
	assert_true(r->busy);
	assert_int_equal(chain->out_len, r->out_len);
	assert_int_equal(chain->in_len, r->in_len);
	got = virtq_read(chain, bytes, sizeof(bytes));
	assert_int_equal(got, r->out_len);
	for (uint64_t i = 0; i < got; i++)
		assert_int_equal(bytes[i], (uint8_t)(r->number + i));
	want = some(bed, (uint32_t)r->in_len + 1);
	for (uint32_t i = 0; i < want; i++)
		bytes[i] = (uint8_t)(r->number + 2 * i);
	assert_int_equal(virtq_write(chain, bytes, want), want);
	return want;
}

/* What was written is there, in order, and nothing around it was touched. */
static void judge(struct bed *bed, const struct request *all, struct request *r, uint32_t len)
{
	uint64_t gpa = BUFFERS + (uint64_t)(r - all) * 0x1000, end = gpa + 0x1000;
	uint32_t seen = 0;

	assert_true(r->busy);
	assert_int_equal(len, r->written);
	for (unsigned i = 0; i < r->n; i++) {
		for (; gpa < r->bufs[i].gpa; gpa++)
			assert_int_equal(*at(bed, gpa), GUARD);
		for (uint32_t k = 0; k < r->bufs[i].len; k++, gpa++)
			if (i >= r->n_out)
				assert_int_equal(*at(bed, gpa), seen < len ? (uint8_t)(r->number + 2 * seen) : GUARD),
					seen++;
	}
	for (; gpa < end; gpa++)
		assert_int_equal(*at(bed, gpa), GUARD);
	r->busy = false;
}

/* The device side of the random run: takes some, gives some back in any order, alone or together. */
struct held {
	struct virtq_chain *chains[REQUESTS];
	uint32_t written[REQUESTS];
	unsigned n;
};

static void take_some(struct bed *bed, struct held *held, struct request *all)
{
	struct virtq_chain *chain;
	const struct request *r;

	for (unsigned n = some(bed, 8); n-- > 0 && virtq_pop(&bed->q, &chain) == 1;) {
		if (some(bed, 8) == 0) {
			virtq_unpop(chain);
			chain = pop(bed);
		}
		held->written[held->n] = serve(bed, chain, all, &r);
		all[r - all].written = held->written[held->n];
		held->chains[held->n++] = chain;
	}
}

static void give_some(struct bed *bed, struct held *held)
{
	unsigned n = some(bed, held->n + 1);

	for (unsigned i = 0; i < held->n; i++) {
		unsigned k = some(bed, held->n);
		struct virtq_chain *chain = held->chains[i];
		uint32_t written = held->written[i];

		held->chains[i] = held->chains[k], held->written[i] = held->written[k];
		held->chains[k] = chain, held->written[k] = written;
	}
	held->n -= n;
	if (some(bed, 2))
		virtq_push_all(held->chains + held->n, held->written + held->n, n);
	else
		for (unsigned i = 0; i < n; i++)
			virtq_push(held->chains[held->n + i], held->written[held->n + i]);
	virtq_notify(&bed->q);
}

static void random_run(struct bed *bed, uint16_t size, uint64_t features, uint32_t requests)
{
	struct request all[REQUESTS] = { 0 }, *r;
	struct held held = { 0 };
	uint32_t added = 0, done = 0, len;

	begin(bed, size, features);
	while (done < requests) {
		for (unsigned n = some(bed, 8); n-- > 0 && added < requests;) {
			unsigned i = some(bed, REQUESTS);
			uint64_t table = features & INDIRECT && some(bed, 3) ? TABLES + i * 0x200 : 0;

			if (all[i].busy)
				continue;
			fill_request(bed, all, &all[i], added);
			if (!vdriver_add(&bed->d, all[i].bufs, all[i].n, all[i].n_out, table, &all[i])) {
				all[i].busy = false;
				if (all[i].n > size && !(features & INDIRECT))
					continue;
				break;
			}
			added++;
		}
		take_some(bed, &held, all);
		give_some(bed, &held);
		while ((r = vdriver_get(&bed->d, &len))) {
			judge(bed, all, r, len);
			done++;
		}
	}
	assert_int_equal(bed->faults, 0);
	assert_int_equal(bed->q.in_flight, 0);
	assert_int_equal(bed->d.nr_free, size);
	no_more(bed);
}

static void test_random_chains(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 16, 64, 1024 };
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		for (unsigned i = 0; i < 5; i++)
			random_run(&bed, sizes[i], features, 1500);
		/* Packed rings have any size. */
		random_run(&bed, features & PACKED ? 13 : 32, features, 1500);
	}
	bed_fini(&bed);
}

/* Indices and event indices go around at 65536, and the interrupts that were asked for come, no fewer and no more. */
static void test_indices_wrap(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		begin(&bed, 4, features);
		for (uint32_t i = 0; i < 45000; i++) {
			unsigned batch = 1 + i % 3, before = bed.interrupts;
			bool want = i % 7 < 3;
			struct virtq_chain *chain;
			uint32_t len;

			/* With an event index: when the last of this batch is used. */
			vdriver_wish(&bed.d, want || features & EVENT, (uint16_t)(want ? batch - 1 : batch));
			assert_false(virtq_kicks_on(&bed.q));
			for (unsigned k = 0; k < batch; k++)
				assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
			assert_true(vdriver_kick(&bed.d));
			virtq_kicks_off(&bed.q);
			for (unsigned k = 0; k < batch; k++) {
				chain = pop(&bed);
				virtq_push(chain, 1);
				if (features & EVENT) {
					virtq_notify(&bed.q);
					assert_int_equal(bed.interrupts - before, want && k == batch - 1);
				}
				assert_ptr_equal(vdriver_get(&bed.d, &len), &bed);
			}
			virtq_notify(&bed.q);
			assert_int_equal(bed.interrupts - before, want);
			/* Nothing new, nothing to tell. */
			virtq_notify(&bed.q);
			assert_int_equal(bed.interrupts - before, want);
		}
		assert_int_equal(bed.faults, 0);
	}
	bed_fini(&bed);
}

static void test_kicks(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct virtq_chain *chain;
	struct bed bed;
	uint32_t len;

	bed_init(&bed);
	EACH_KIND(features)
	{
		begin(&bed, 8, features);
		/*
		 * The first is told: zeros ask for it. An event index in a packed ring is there after the first round.
		 */
		assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		assert_true(vdriver_kick(&bed.d));
		virtq_kicks_off(&bed.q);
		if (features & EVENT)
			assert_true(virtq_kicks_on(&bed.q));
		assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		assert_false(vdriver_kick(&bed.d));
		/* Both wait, and kicks_on says so. */
		assert_true(virtq_kicks_on(&bed.q));
		virtq_push(pop(&bed), 0);
		chain = pop(&bed);
		assert_false(virtq_kicks_on(&bed.q));
		virtq_push(chain, 0);
		assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		assert_true(vdriver_kick(&bed.d));
		virtq_push(pop(&bed), 0);
		for (unsigned i = 0; i < 3; i++)
			assert_ptr_equal(vdriver_get(&bed.d, &len), &bed);
	}
	bed_fini(&bed);
}

static void test_bytes_across_two_memories(void **state)
{
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		struct vdriver_buf bufs[] = { { MIB - 3, 5 }, { MIB - 2, 6 } };
		struct virtq_chain *chain;
		uint8_t bytes[8];
		uint32_t len;

		begin(&bed, 8, features);
		memcpy(at(&bed, MIB - 3), "abc", 3);
		memcpy(at(&bed, 2 * MIB), "de", 2);
		assert_true(vdriver_add(&bed.d, bufs, 2, 1, 0, &bed));
		chain = pop(&bed);
		assert_int_equal(chain->nr_out, 2);
		assert_int_equal(chain->nr_in, 2);
		assert_int_equal(chain->in_len, 6);
		assert_int_equal(virtq_read(chain, bytes, 8), 5);
		assert_memory_equal(bytes, "abcde", 5);
		assert_int_equal(virtq_write(chain, "123456789", 9), 6);
		virtq_push(chain, 6);
		assert_memory_equal(at(&bed, MIB - 2), "12", 2);
		assert_memory_equal(at(&bed, 2 * MIB), "3456", 4);
		assert_ptr_equal(vdriver_get(&bed.d, &len), &bed);
	}
	bed_fini(&bed);
}

static void sees_nothing(struct mem_watch *watch, uint64_t gpa, uint64_t len)
{
	struct bed *bed = (struct bed *)(void *)((char *)watch - offsetof(struct bed, watch));
	struct vdriver d = bed->d;
	uint32_t n;

	if (vdriver_get(&d, &n))
		bed->early++;
}

static void test_pushed_together_is_seen_together(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct bed bed;

	bed_init(&bed);
	bed.watch.wrote = sees_nothing;
	EACH_KIND(features)
	{
		struct virtq_chain *chains[3];
		uint32_t written[3] = { 1, 16, 17 }, len;

		begin(&bed, 4, features);
		for (unsigned i = 0; i < 3; i++) {
			assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
			chains[i] = pop(&bed);
		}
		/* Guest memory as it was before each write of three pushes, the last one's excepted. */
		bed.early = 0;
		bed.mem.watch = &bed.watch;
		virtq_push_all(chains, written, 3);
		bed.mem.watch = NULL;
		/* One write made it visible, and three were told after it, of what the device had written. */
		assert_int_equal(bed.early, 4);
		for (unsigned i = 0; i < 3; i++) {
			assert_ptr_equal(vdriver_get(&bed.d, &len), &bed);
			assert_int_equal(len, i < 2 ? written[i] : 16); /* never more than there was room for */
		}
	}
	bed_fini(&bed);
}

static void test_lives(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		struct virtq_chain *chain, *other;
		uint32_t len;

		begin(&bed, 4, features);
		for (unsigned i = 0; i < 2; i++)
			assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		chain = pop(&bed);
		other = pop(&bed);
		virtq_stop(&bed.q);
		assert_int_equal(bed.state.size, VIRTQ_MAX);
		assert_int_equal(bed.state.enabled, 0);
		assert_int_equal(bed.state.vector, 0xffff);
		assert_int_equal(bed.state.avail_wrap, 1);
		no_more(&bed);
		assert_false(virtq_kicks_on(&bed.q));
		virtq_kicks_off(&bed.q);
		/* Given back after its life: the ring of the next one is not touched. */
		begin(&bed, 4, features);
		virtq_push(chain, 5);
		virtq_drop(other);
		virtq_notify(&bed.q);
		assert_int_equal(bed.interrupts, 0);
		assert_null(vdriver_get(&bed.d, &len));
		assert_int_equal(bed.state.used, 0);
		assert_int_equal(bed.q.in_flight, 0);
		/* Dropped: not given back. */
		assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		virtq_drop(pop(&bed));
		assert_null(vdriver_get(&bed.d, &len));
		virtq_stop(&bed.q);
	}
	bed_fini(&bed);
}

/* What another one had taken comes first, in the order that is told, and does not move the ring. */
static void test_inherited(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct bed bed;

	bed_init(&bed);
	for (uint64_t features = 0; features < 2; features++) {
		struct virtq_chain *chain;
		uint16_t heads[2], ids[] = { 0, 2 };
		uint32_t len;

		begin(&bed, 4, features << VIRTIO_RING_F_EVENT_IDX);
		for (uintptr_t i = 1; i <= 4; i++)
			assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, (void *)i));
		/* The other one took three, and gave the second back. */
		for (unsigned i = 0; i < 2; i++)
			memcpy(&heads[i], at(&bed, bed.state.driver + 4 + 2ULL * ids[i]), 2);
		bed.state.avail = 3;
		virtq_inherit(&bed.q, heads, 2);
		assert_false(virtq_empty(&bed.q));
		virtq_unpop(pop(&bed));
		chain = pop(&bed);
		assert_int_equal(chain->id, heads[0]);
		assert_int_equal(chain->in_len, 16);
		virtq_push(pop(&bed), 2);
		virtq_push(chain, 1);
		assert_int_equal(bed.state.avail, 3);
		virtq_push(pop(&bed), 4);
		assert_int_equal(bed.state.avail, 4);
		no_more(&bed);
		assert_ptr_equal(vdriver_get(&bed.d, &len), (void *)3);
		assert_int_equal(len, 2);
		assert_ptr_equal(vdriver_get(&bed.d, &len), (void *)1);
		assert_ptr_equal(vdriver_get(&bed.d, &len), (void *)4);
		assert_null(vdriver_get(&bed.d, &len));
		assert_int_equal(bed.q.in_flight, 0);
		/* It is of this life only, and may be nonsense: the descriptors are the driver's. */
		virtq_inherit(&bed.q, heads, 2);
		begin(&bed, 4, features << VIRTIO_RING_F_EVENT_IDX);
		no_more(&bed);
		heads[0] = 4;
		virtq_inherit(&bed.q, heads, 1);
		assert_int_equal(virtq_pop(&bed.q, &chain), -EINVAL);
		assert_int_equal(bed.faults, 1);
	}
	bed_fini(&bed);
}

static void test_host_without_memory(void **state)
{
	struct vdriver_buf buf = { BUFFERS, 16 };
	struct virtq_chain *chain;
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		begin(&bed, 4, features);
		assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
		out_of_memory = true;
		assert_int_equal(virtq_pop(&bed.q, &chain), -ENOMEM);
		out_of_memory = false;
		assert_null(chain);
		assert_int_equal(bed.q.in_flight, 0);
		virtq_push(pop(&bed), 0);
		assert_int_equal(bed.faults, 0);
	}
	bed_fini(&bed);
}

static void test_start_refuses(void **state)
{
	static const struct {
		uint64_t desc, driver, device, features;
		uint16_t size;
	} wrong[] = {
		{ RINGS + 8, RINGS, RINGS, 0, 8 },
		{ RINGS, RINGS + 1, RINGS, 0, 8 },
		{ RINGS, RINGS, RINGS + 2, 0, 8 },
		{ RINGS, RINGS, RINGS, 0, 0 },
		{ RINGS, RINGS, RINGS, 0, 12 },
		{ RINGS, RINGS, RINGS, 0, 2048 },
		{ UINT64_MAX - 127 + 16, RINGS, RINGS, 0, 8 }, /* around the end of all addresses */
		{ RINGS, UINT64_MAX - 19, RINGS, 0, 8 },
		{ RINGS, RINGS, UINT64_MAX - 67, 0, 8 },
		{ RINGS + 8, RINGS, RINGS, PACKED, 8 },
		{ RINGS, RINGS + 2, RINGS, PACKED, 8 },
		{ RINGS, RINGS, RINGS + 2, PACKED, 8 },
		{ RINGS, RINGS, RINGS, PACKED, 0 },
		{ RINGS, RINGS, RINGS, PACKED, 1025 },
		{ UINT64_MAX - 127 + 16, RINGS, RINGS, PACKED, 8 },
	};
	struct virtq_chain *chain;
	struct bed bed;

	bed_init(&bed);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		virtq_stop(&bed.q);
		bed.state.desc = wrong[i].desc;
		bed.state.driver = wrong[i].driver;
		bed.state.device = wrong[i].device;
		bed.state.size = wrong[i].size;
		assert_int_equal(virtq_start(&bed.q, wrong[i].features), -EINVAL);
		assert_int_equal(bed.faults, i + 1);
		assert_int_equal(bed.q.faults, i + 1);
		assert_int_equal(bed.state.enabled, 0);
		assert_int_equal(virtq_pop(&bed.q, &chain), -EINVAL);
		assert_false(virtq_kicks_on(&bed.q));
	}
	bed_fini(&bed);
}

/* Rings that are where no memory is, or none that can be written. */
static void test_rings_without_memory(void **state)
{
	struct virtq_chain *chain;
	struct bed bed;

	bed_init(&bed);
	EACH_KIND(features)
	{
		for (unsigned i = 0; i < 3; i++) {
			struct vdriver_buf buf = { BUFFERS, 16 };
			int rc;

			begin(&bed, 8, features);
			assert_true(vdriver_add(&bed.d, &buf, 1, 0, 0, &bed));
			*(i == 0         ? &bed.state.desc
				: i == 1 ? &bed.state.driver
					 : &bed.state.device) = i == 2 ? ROM_BASE : 8 * MIB;
			rc = virtq_pop(&bed.q, &chain);
			if (rc == 1) {
				virtq_push(chain, 0);
				virtq_notify(&bed.q);
				assert_false(virtq_kicks_on(&bed.q));
			}
			assert_int_equal(bed.faults, 1);
			assert_int_equal(bed.interrupts, features & PACKED && i == 2);
			assert_true(bed.q.broken);
			assert_int_equal(virtq_pop(&bed.q, &chain), -EINVAL);
			assert_true(virtq_empty(&bed.q));
		}
	}
	bed_fini(&bed);
}

/* One descriptor of a hostile chain; in a table where `where` is 1. */
struct bad_desc {
	uint8_t where, slot;
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

#define NEXT  VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT

struct bad {
	const char *what;
	unsigned kinds; /* 1: split, 2: packed */
	struct bad_desc d[4];
	unsigned head; /* split */
	bool without;  /* INDIRECT not negotiated */
	bool good;     /* a control: this is fine */
};

static const struct bad bad_chains[] = {
	{ "control: one to read", 3, { { 0, 0, BUFFERS, 16, 0, 0 } }, .good = true },
	{ "control: in a table", 3, { { 0, 0, TABLES, 16, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } }, .good = true },
	{ "control: WRITE on the table means nothing", 3,
		{ { 0, 0, TABLES, 16, TABLE | WRITE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } }, .good = true },
	{ "control: an empty one", 3, { { 0, 0, 0, 0, NEXT, 1 }, { 0, 1, BUFFERS, 16, WRITE, 0 } }, .good = true },
	{ "control: a table after one", 1,
		{ { 0, 0, BUFFERS, 16, NEXT, 1 }, { 0, 1, TABLES, 16, TABLE, 0 }, { 1, 0, BUFFERS, 16, WRITE, 0 } },
		.good = true },
	{ "control: from a ROM", 3, { { 0, 0, ROM_BASE, 16, 0, 0 } }, .good = true },
	{ "a table after one", 2,
		{ { 0, 0, BUFFERS, 16, NEXT, 1 }, { 0, 1, TABLES, 16, TABLE, 0 }, { 1, 0, BUFFERS, 16, WRITE, 0 } } },
	{ "into a ROM", 3, { { 0, 0, ROM_BASE, 16, WRITE, 0 } } },
	{ "a head out of range", 1, { { 0, 0, BUFFERS, 16, 0, 0 } }, .head = 8 },
	{ "a head far out of range", 1, { { 0, 0, BUFFERS, 16, 0, 0 } }, .head = 0xffff },
	{ "next out of range", 1, { { 0, 0, BUFFERS, 16, NEXT, 8 } } },
	{ "a loop of one", 1, { { 0, 0, BUFFERS, 16, NEXT, 0 } } },
	{ "a loop of two", 1, { { 0, 0, BUFFERS, 16, NEXT, 1 }, { 0, 1, BUFFERS, 16, NEXT, 0 } } },
	{ "beyond memory", 3, { { 0, 0, RAM - 8, 9, 0, 0 } } },
	{ "in a hole", 3, { { 0, 0, 8 * MIB, 1, 0, 0 } } },
	{ "at the end of all addresses", 3, { { 0, 0, UINT64_MAX, 2, WRITE, 0 } } },
	{ "long", 3, { { 0, 0, BUFFERS, UINT32_MAX, 0, 0 } } },
	{ "no bytes", 3, { { 0, 0, BUFFERS, 0, 0, 0 } } },
	{ "no bytes in two", 3, { { 0, 0, BUFFERS, 0, NEXT, 1 }, { 0, 1, BUFFERS, 0, WRITE, 0 } } },
	{ "to read after to write", 3, { { 0, 0, BUFFERS, 16, WRITE | NEXT, 1 }, { 0, 1, BUFFERS, 16, 0, 0 } } },
	{ "empty to read after empty to write", 3,
		{ { 0, 0, BUFFERS, 16, NEXT, 1 }, { 0, 1, BUFFERS, 0, WRITE | NEXT, 2 }, { 0, 2, BUFFERS, 0, 0, 0 } } },
	{ "a table that was not negotiated", 3, { { 0, 0, TABLES, 16, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } },
		.without = true },
	{ "a table with NEXT", 3,
		{ { 0, 0, TABLES, 16, TABLE | NEXT, 1 }, { 0, 1, BUFFERS, 16, 0, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "an odd table", 3, { { 0, 0, TABLES, 17, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "half a table", 3, { { 0, 0, TABLES, 8, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "an empty table", 3, { { 0, 0, TABLES, 0, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "a table too long", 3, { { 0, 0, TABLES, 16 * (VIRTQ_MAX + 1), TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "a table of 4 GiB", 3, { { 0, 0, TABLES, 0xfffffff0, TABLE, 0 }, { 1, 0, BUFFERS, 16, 0, 0 } } },
	{ "a table in a hole", 3, { { 0, 0, 8 * MIB, 16, TABLE, 0 } } },
	{ "a table in a table", 3, { { 0, 0, TABLES, 16, TABLE, 0 }, { 1, 0, TABLES, 16, TABLE, 0 } } },
	{ "next beyond the table", 1, { { 0, 0, TABLES, 32, TABLE, 0 }, { 1, 0, BUFFERS, 16, NEXT, 2 } } },
	{ "a loop in a table", 1,
		{ { 0, 0, TABLES, 32, TABLE, 0 }, { 1, 0, BUFFERS, 16, NEXT, 1 }, { 1, 1, BUFFERS, 16, NEXT, 0 } } },
	{ "to read after to write, in a table", 3,
		{ { 0, 0, TABLES, 32, TABLE, 0 }, { 1, 0, BUFFERS, 16, WRITE | NEXT, 1 },
			{ 1, 1, BUFFERS, 16, 0, 0 } } },
	{ "to write before a table, to read in it", 1,
		{ { 0, 0, BUFFERS, 16, WRITE | NEXT, 1 }, { 0, 1, TABLES, 16, TABLE, 0 },
			{ 1, 0, BUFFERS, 16, 0, 0 } } },
};

static void write_bad(struct bed *bed, const struct bad *bad, bool packed)
{
	for (unsigned i = 0; i < 4; i++) {
		const struct bad_desc *b = &bad->d[i];
		struct vdriver_buf buf = { b->addr, b->len };
		uint64_t gpa = (b->where ? TABLES : RINGS) + 16 * b->slot;

		if (i && !b->addr && !b->flags)
			break;
		if (packed)
			vdriver_packed(&bed->d, gpa, buf, 0,
				(uint16_t)(b->flags | (b->where ? 0 : 1U << VRING_PACKED_DESC_F_AVAIL)), true);
		else
			vdriver_desc(&bed->d, gpa, buf, b->flags, b->next);
	}
	if (!packed) {
		struct vring_avail *avail = vdriver_at(&bed->d, bed->d.avail);

		avail->ring[0] = (uint16_t)bad->head;
		avail->idx = 1;
	}
}

static void test_hostile_chains(void **state)
{
	uint8_t *before = malloc(RAM + MIB);
	struct bed bed;

	assert_non_null(before);
	bed_init(&bed);
	for (unsigned i = 0; i < 2 * sizeof(bad_chains) / sizeof(*bad_chains); i++) {
		const struct bad *bad = &bad_chains[i / 2];
		struct virtq_chain *chain;
		bool packed = i & 1;
		int rc;

		if (!(bad->kinds & (packed ? 2 : 1)))
			continue;
		begin(&bed, 8, (packed ? PACKED : 0) | (bad->without ? 0 : INDIRECT));
		write_bad(&bed, bad, packed);
		memcpy(before, bed.memory->host, RAM + MIB);
		rc = virtq_pop(&bed.q, &chain);
		if (rc != (bad->good ? 1 : -EINVAL))
			fail_msg("%s, %s: %d", bad->what, packed ? "packed" : "split", rc);
		/* Nothing was touched, nothing is held, and it is told once. */
		assert_memory_equal(before, bed.memory->host, RAM + MIB);
		assert_int_equal(bed.q.in_flight, bad->good);
		if (bad->good)
			virtq_drop(chain);
		assert_int_equal(bed.faults, !bad->good);
		assert_int_equal(virtq_pop(&bed.q, &chain), bad->good ? 0 : -EINVAL);
		assert_int_equal(bed.faults, !bad->good);
	}
	bed_fini(&bed);
	free(before);
}

static void test_sums_of_4_gib(void **state)
{
	struct memory *large;
	struct region region;
	struct bed bed;

	bed_init(&bed);
	assert_int_equal(memory_new(2ULL << 30, &large), 0);
	region = (struct region){ .name = "large",
		.kind = REGION_RAM,
		.space = SPACE_MMIO,
		.base = 4ULL << 30,
		.size = 2ULL << 30,
		.memory = large };
	assert_int_equal(bus_add(bed.bus, &region), 0);
	EACH_KIND(features)
	{
		for (unsigned n_out = 0; n_out < 3; n_out++) {
			struct vdriver_buf bufs[] = { { 4ULL << 30, 2U << 30 }, { 4ULL << 30, 0x7fffffff } };
			struct virtq_chain *chain;

			begin(&bed, 8, features);
			assert_true(vdriver_add(&bed.d, bufs, 2, n_out, features & INDIRECT ? TABLES : 0, &bed));
			chain = pop(&bed);
			assert_true(chain->out_len + chain->in_len == UINT32_MAX);
			virtq_push(chain, 0);
			bufs[1].len++;
			assert_true(vdriver_add(&bed.d, bufs, 2, n_out, features & INDIRECT ? TABLES : 0, &bed));
			assert_int_equal(virtq_pop(&bed.q, &chain), -EINVAL);
			assert_int_equal(bed.faults, 1);
		}
	}
	bus_remove(bed.bus, &region);
	bed_fini(&bed);
	assert_int_equal(large->refs, 1);
	memory_put(large);
}

/* As many pieces as may be, and one more: by a descriptor that needs two, or by one before the table. */
static void test_most_pieces(void **state)
{
	static struct vdriver_buf bufs[VIRTQ_MAX];
	struct bed bed;

	bed_init(&bed);
	for (unsigned packed = 0; packed < 2; packed++) {
		for (unsigned more = 0; more < (packed ? 2 : 3); more++) {
			struct virtq_chain *chain;

			begin(&bed, 8, INDIRECT | (packed ? PACKED : 0));
			for (unsigned i = 0; i < VIRTQ_MAX; i++)
				bufs[i] = (struct vdriver_buf){ BUFFERS, 1 };
			if (more == 1)
				bufs[5] = (struct vdriver_buf){ MIB - 1, 2 };
			assert_true(vdriver_add(&bed.d, bufs, VIRTQ_MAX, 3, TABLES, &bed));
			if (more == 2) {
				vdriver_desc(&bed.d, RINGS + 16 * 6, bufs[0], NEXT, 0);
				((struct vring_avail *)vdriver_at(&bed.d, bed.d.avail))->ring[0] = 6;
			}
			assert_int_equal(virtq_pop(&bed.q, &chain), more ? -EINVAL : 1);
			assert_int_equal(bed.faults, !!more);
			if (!more)
				assert_int_equal(chain->nr_in, VIRTQ_MAX - 3);
			if (!more)
				virtq_push(chain, 1);
		}
	}
	bed_fini(&bed);
}

static void test_index_runs_ahead(void **state)
{
	static const uint16_t ahead[] = { 9, 0x7fff, 0x8000, 0xffff };
	struct bed bed;

	bed_init(&bed);
	for (unsigned i = 0; i < 4; i++) {
		struct vring_avail *avail;
		struct virtq_chain *chain;

		begin(&bed, 8, 0);
		avail = vdriver_at(&bed.d, bed.d.avail);
		vdriver_desc(&bed.d, RINGS, (struct vdriver_buf){ BUFFERS, 4 }, 0, 0);
		avail->idx = ahead[i];
		if (i & 1) {
			assert_true(virtq_empty(&bed.q));
			assert_int_equal(bed.faults, 1);
		}
		assert_int_equal(virtq_pop(&bed.q, &chain), -EINVAL);
		assert_int_equal(bed.faults, 1);
	}
	bed_fini(&bed);
}

/* Offered again while the device still has it: what is in flight stays bounded by the size. */
static void test_offered_twice(void **state)
{
	struct bed bed;

	bed_init(&bed);
	for (unsigned packed = 0; packed < 2; packed++) {
		struct virtq_chain *chains[9];
		unsigned n = 0;

		begin(&bed, 8, packed ? PACKED : 0);
		for (unsigned i = 0; i < 9; i++) {
			if (packed) {
				vdriver_packed(&bed.d, RINGS + 16 * (i % 8), (struct vdriver_buf){ BUFFERS, 4 }, 1,
					(uint16_t)(1U
						   << (i < 8 ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED)),
					true);
			} else {
				vdriver_desc(&bed.d, RINGS, (struct vdriver_buf){ BUFFERS, 4 }, 0, 0);
				((struct vring_avail *)vdriver_at(&bed.d, bed.d.avail))->idx = (uint16_t)(i + 1);
			}
			n += virtq_pop(&bed.q, &chains[n]) == 1;
		}
		assert_int_equal(n, 8);
		assert_int_equal(bed.faults, 1);
		/* A broken queue gives nothing back. */
		while (n)
			virtq_push(chains[--n], 0);
		virtq_notify(&bed.q);
		assert_int_equal(bed.state.used, 0);
		assert_int_equal(bed.interrupts, 0);
	}
	bed_fini(&bed);
}

static void test_nothing_at_all(void **state)
{
	struct virtq none = { 0 };

	virtq_fini(&none);
	virtq_push_all(NULL, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_goes_and_comes),
		cmocka_unit_test(test_random_chains),
		cmocka_unit_test(test_indices_wrap),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_bytes_across_two_memories),
		cmocka_unit_test(test_pushed_together_is_seen_together),
		cmocka_unit_test(test_lives),
		cmocka_unit_test(test_inherited),
		cmocka_unit_test(test_host_without_memory),
		cmocka_unit_test(test_start_refuses),
		cmocka_unit_test(test_rings_without_memory),
		cmocka_unit_test(test_hostile_chains),
		cmocka_unit_test(test_sums_of_4_gib),
		cmocka_unit_test(test_most_pieces),
		cmocka_unit_test(test_index_runs_ahead),
		cmocka_unit_test(test_offered_twice),
		cmocka_unit_test(test_nothing_at_all),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
