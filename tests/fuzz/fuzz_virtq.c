/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_virtq.c - a virtqueue whose driver is made of bytes: rings and tables that are wrong in every way, and right
 * often enough to get far. For libFuzzer (-Dfuzz=true with clang); without it, a program that runs the files that it is
 * given, or makes so many inputs itself: `fuzz_virtq -20000`.
 *
 * The first two bytes choose kind, features and size. Then each step is a byte and its particulars; where the input
 * ends, zeros follow. After each step all of the guest's memory is compared with what it may be: the device changes its
 * own side of the rings, and bytes that a descriptor with WRITE is about, and nothing else.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/thread.h"
#include "fuzz_main.h"
#include "virtio/queue.h"

#define PIECE 0x1000U
#define RAM   (2 * PIECE) /* two memories that adjoin in the guest and lie the other way round in the host */
#define SLOTS 16U
#define DESC  0x0U /* the rings of 16 slots, and what follows */
#define AVAIL 0x100U
#define USED  0x140U
#define TABLE 0x200U
#define HELD  32

struct fuzz {
	struct mem mem;
	struct memory *memory;
	struct region low, high;
	struct virtq q;
	struct virtq_state state;
	uint8_t before[RAM]; /* by gpa, as before the step */
	bool may[RAM];       /* the step may write it */
	bool allowed;        /* any of it */
	struct virtq_chain *held[HELD];
	unsigned nr_held;
	struct virtq_chain *last; /* taken, and no other since */
	unsigned faults;
	const uint8_t *data;
	size_t size;
};

static uint64_t take(struct fuzz *f, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && f->size; i++, f->data++, f->size--)
		value |= (uint64_t)*f->data << 8 * i;
	return value;
}

static void fault(void *arg)
{
	((struct fuzz *)arg)->faults++;
}

static void interrupt(void *arg)
{
}

static uint8_t *host(struct fuzz *f, unsigned gpa)
{
	return (uint8_t *)f->memory->host + (gpa ^ PIECE);
}

static unsigned gpa_of(struct fuzz *f, const void *at)
{
	size_t offset = (size_t)((const uint8_t *)at - (const uint8_t *)f->memory->host);

	assert(offset < RAM);
	return (unsigned)offset ^ PIECE;
}

static void put(struct fuzz *f, unsigned gpa, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*host(f, (gpa + i) % RAM) = (uint8_t)(value >> 8 * i);
}

static uint64_t get(struct fuzz *f, unsigned gpa, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)*host(f, (gpa + i) % RAM) << 8 * i;
	return value;
}

static void allow(struct fuzz *f, uint64_t gpa, unsigned len)
{
	for (unsigned i = 0; i < len && gpa < RAM && gpa + i < RAM; i++)
		f->may[gpa + i] = f->allowed = true;
}

/* Where the device's side of the rings is, wherever the input has put it. */
static void allow_rings(struct fuzz *f)
{
	if (f->q.packed) {
		allow(f, f->state.desc, 16 * f->state.size);
		allow(f, f->state.device, 4);
	} else {
		allow(f, f->state.device, 4 + 8 * f->state.size + 2);
	}
}

static void check(struct fuzz *f)
{
	for (unsigned i = 0; i < RAM; i++) {
		if (i % PIECE == 0 && !memcmp(host(f, i), f->before + i, PIECE)) {
			i += PIECE - 1;
			continue;
		}
		assert(*host(f, i) == f->before[i] || f->may[i]);
	}
	if (f->allowed)
		memset(f->may, 0, sizeof(f->may));
	f->allowed = false;
}

static void begin_step(struct fuzz *f)
{
	memcpy(f->before, host(f, 0), PIECE);
	memcpy(f->before + PIECE, host(f, PIECE), PIECE);
}

/* Some descriptor in memory, wherever it may be, says so. */
static bool is_written_to(struct fuzz *f, unsigned gpa, uint64_t len)
{
	for (unsigned at = 0; at + 16 <= RAM; at++) {
		uint16_t flags = (uint16_t)get(f, at + (f->q.packed ? 14 : 12), 2);
		uint64_t addr = get(f, at, 8), n = get(f, at + 8, 4);

		if (flags & VRING_DESC_F_WRITE && addr <= gpa && gpa - addr + len <= n)
			return true;
	}
	return false;
}

static void check_chain(struct fuzz *f, struct virtq_chain *chain)
{
	uint64_t out = 0, in = 0;

	assert(chain->nr_out + chain->nr_in <= VIRTQ_MAX && chain->nr_out + chain->nr_in);
	for (unsigned i = 0; i < chain->nr_out; i++) {
		unsigned gpa = gpa_of(f, chain->out[i].iov_base);

		assert(chain->out[i].iov_len && gpa % PIECE + chain->out[i].iov_len <= PIECE);
		out += chain->out[i].iov_len;
	}
	for (unsigned i = 0; i < chain->nr_in; i++) {
		unsigned gpa = gpa_of(f, chain->in[i].iov_base);

		assert(chain->in[i].iov_len && gpa % PIECE + chain->in[i].iov_len <= PIECE);
		/* The first few are enough: a table has up to 512 that say much the same. */
		assert(i >= 4 || is_written_to(f, gpa, chain->in[i].iov_len));
		in += chain->in[i].iov_len;
	}
	assert(out == chain->out_len && in == chain->in_len && out + in <= UINT32_MAX);
}

/* Two in three are in memory. */
static uint64_t some_addr(struct fuzz *f)
{
	uint8_t how = (uint8_t)take(f, 1);

	switch (how & 7) {
	case 0:
		return RAM - 1 - (how >> 3);
	case 1:
		return PIECE - 1 - (how >> 3);
	case 2:
		return take(f, 8);
	case 3:
		return how >> 3; /* the rings themselves */
	case 4:
		return TABLE + 16U * (how >> 3);
	default:
		return take(f, 2) % RAM;
	}
}

static uint32_t some_len(struct fuzz *f)
{
	uint8_t how = (uint8_t)take(f, 1);

	if (how >= 0xf0)
		return (uint32_t)take(f, 4);
	return how & 1 ? 16U * (how >> 4) : how >> 1;
}

/* A descriptor at `gpa`; packed, with an available flag that may be right. */
static void some_descriptor(struct fuzz *f, unsigned gpa)
{
	uint8_t how = (uint8_t)take(f, 1);
	uint16_t flags = how & 7, last = (uint16_t)(how >> 4);

	put(f, gpa, some_addr(f), 8);
	put(f, gpa + 8, some_len(f), 4);
	if (how & 8)
		last = (uint16_t)take(f, 2);
	if (!f->q.packed) {
		put(f, gpa + 12, flags, 2);
		put(f, gpa + 14, last, 2);
		return;
	}
	if (f->state.avail_wrap != (how == 0x77))
		flags |= 1U << VRING_PACKED_DESC_F_AVAIL;
	else
		flags |= 1U << VRING_PACKED_DESC_F_USED;
	put(f, gpa + 12, last, 2);
	put(f, gpa + 14, flags, 2);
}

static void drop_all(struct fuzz *f)
{
	while (f->nr_held)
		virtq_drop(f->held[--f->nr_held]);
	f->last = NULL;
}

static void start(struct fuzz *f, uint8_t features, uint8_t size)
{
	virtq_stop(&f->q);
	f->state.desc = DESC;
	f->state.driver = AVAIL;
	f->state.device = USED;
	f->state.size = (uint16_t)(1 + size % SLOTS);
	if (!(features & 1))
		f->state.size = (uint16_t)(1U << size % 5);
	/* Rings that lie elsewhere: on each other, half in memory. */
	if (features & 8) {
		f->state.driver = some_addr(f);
		f->state.device = some_addr(f);
	}
	if (virtq_start(&f->q, (features & 1 ? 1ULL << VIRTIO_F_RING_PACKED : 0) |
				       (features & 2 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0) |
				       (features & 4 ? 1ULL << VIRTIO_RING_F_INDIRECT_DESC : 0)) < 0)
		assert(f->q.broken && !f->state.enabled);
}

static void pop(struct fuzz *f)
{
	struct virtq_chain *chain = NULL;
	unsigned faults = f->faults;
	int rc = f->nr_held < HELD ? virtq_pop(&f->q, &chain) : 0;

	check(f); /* taking changes nothing */
	if (rc == 1) {
		check_chain(f, chain);
		f->held[f->nr_held++] = f->last = chain;
	}
	assert(rc == 1 || !chain);
	assert(rc != -EINVAL || f->q.broken);
	assert(f->faults - faults <= 1 && f->q.faults == f->faults);
}

static void give(struct fuzz *f, uint8_t how)
{
	struct virtq_chain *chain;
	uint8_t bytes[64];
	uint64_t n;

	if (!f->nr_held)
		return;
	chain = f->held[--f->nr_held];
	f->last = NULL;
	for (unsigned i = 0; i < chain->nr_in; i++)
		allow(f, gpa_of(f, chain->in[i].iov_base), (unsigned)chain->in[i].iov_len);
	if (how & 1) {
		do {
			n = virtq_read(chain, bytes, sizeof(bytes));
			virtq_write(chain, bytes, n);
		} while (n);
	}
	allow_rings(f);
	if (how & 2)
		virtq_push(chain, (uint32_t)take(f, 2));
	else if (how & 4)
		virtq_drop(chain);
	else
		virtq_push(chain, (uint32_t)chain->in_len);
}

static void step(struct fuzz *f)
{
	uint8_t what = (uint8_t)take(f, 1), how = what >> 4;

	/* A driver would reset it; and there is more to see in one that works. */
	if (f->q.broken && what & 7) {
		memset(host(f, 0), 0, TABLE);
		start(f, how, (uint8_t)take(f, 1));
		return;
	}
	switch (what & 15) {
	case 0:
	case 1:
		some_descriptor(f, (unsigned)f->state.desc + 16 * (how % SLOTS));
		break;
	case 2:
		some_descriptor(f, TABLE + 16U * how);
		break;
	case 3: /* one descriptor, made available in order */
	case 4:
		some_descriptor(f, f->q.packed ? DESC + 16U * f->state.avail : DESC + 16U * (how % f->state.size));
		if (!f->q.packed) {
			put(f, AVAIL + 4 + 2U * (f->state.avail % f->state.size), how, 2);
			put(f, AVAIL + 2, f->state.avail + 1U, 2);
		}
		break;
	case 5:
		put(f, AVAIL + 2, f->state.avail + how, 2);
		break;
	case 6:
		put(f, (unsigned)take(f, 2) % RAM, take(f, 2), 2);
		break;
	case 7:
		put(f, AVAIL + 4 + 2U * how, take(f, 1), 2);
		break;
	default:
		break;
	}
	begin_step(f);
	switch (what & 15) {
	case 3:
	case 8:
	case 9:
		pop(f);
		break;
	case 10:
	case 11:
		give(f, how);
		break;
	case 12:
		virtq_notify(&f->q);
		break;
	case 13:
		allow_rings(f);
		if (how & 1)
			virtq_kicks_off(&f->q);
		else
			(void)!virtq_kicks_on(&f->q);
		break;
	case 14:
		if (f->nr_held && f->held[f->nr_held - 1] == f->last) {
			virtq_unpop(f->held[--f->nr_held]);
			f->last = NULL;
		}
		break;
	case 15:
		if (how >= 12)
			start(f, (uint8_t)take(f, 1), (uint8_t)take(f, 1));
		else
			(void)!virtq_empty(&f->q);
		break;
	default:
		break;
	}
	check(f);
	assert(f->q.in_flight == f->nr_held);
}

static void memory_at(struct fuzz *f, struct region *region, uint64_t base)
{
	*region = (struct region){ .name = "ram",
		.kind = REGION_RAM,
		.space = SPACE_MMIO,
		.base = base,
		.size = PIECE,
		.memory = f->memory,
		.memory_offset = base ^ PIECE };
	if (bus_add(f->mem.bus, region) < 0)
		abort();
}

static struct fuzz *fuzz_new(void)
{
	struct fuzz *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->mem.bus = bus_new();
	if (!f->mem.bus || memory_new(RAM, &f->memory) < 0 || virtq_init(&f->q, &f->mem, &f->state, VIRTQ_MAX) < 0)
		abort();
	memory_at(f, &f->low, 0);
	memory_at(f, &f->high, PIECE);
	/* An earlier map has references as well. */
	while (bus_retired(f->mem.bus))
		sched_yield();
	f->q.fault = fault;
	f->q.interrupt = interrupt;
	f->q.arg = f;
	return f;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	thread_adopt();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz *f;

	if (!f)
		f = fuzz_new();
	f->data = data;
	f->size = size;
	f->faults = 0;
	f->q.faults = 0;
	memset(f->memory->host, 0, RAM);
	memset(f->may, 0, sizeof(f->may));
	start(f, (uint8_t)take(f, 1), (uint8_t)take(f, 1));
	while (f->size)
		step(f);
	drop_all(f);
	assert(!f->q.in_flight);
	/* The owner's, and the two regions': no chain has kept any. */
	assert(f->memory->refs == 3);
	return 0;
}

#ifndef WITH_LIBFUZZER
/* The same ones in each run. */
static void run_random(unsigned long inputs)
{
	uint64_t state = FUZZ_SEED;
	uint8_t bytes[512];

	for (unsigned long i = 0; i < inputs; i++) {
		for (unsigned k = 0; k < sizeof(bytes); k++) {
			uint64_t random = fuzz_random(&state);

			bytes[k] = (uint8_t)(random >> 32);
		}
		/* Most have their rings where they belong. */
		bytes[0] &= i % 8 ? 7 : 15;
		LLVMFuzzerTestOneInput(bytes, sizeof(bytes));
	}
}

int main(int argc, char **argv)
{
	int status = fuzz_main(argc, argv, run_random);

	thread_release();
	return status;
}
#endif
