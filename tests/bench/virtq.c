/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtq.c - what a virtqueue costs the device, without KVM: taking a request of a disk's (a header, a page, a status)
 * and giving it back. Prints, for each kind of ring, nanoseconds a chain, the fastest of many rounds:
 *
 *     split|packed direct|indirect SINGLY BATCHED
 *
 * Singly: each is given back, and the driver told, before the next is taken. Batched: 32 at a time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../unit/virtq_driver.h"
#include "core/thread.h"

#define RAM     (4ULL << 20)
#define TABLES  0x20000ULL /* 64 bytes a chain */
#define HEADERS 0x40000ULL
#define PAGES   0x100000ULL
#define CHAINS  256 /* a round */
#define SIZE    1024
#define BATCH   32
#define ROUNDS  2000

struct bed {
	struct bus *bus;
	struct mem mem;
	struct memory *memory;
	struct region ram;
	struct virtq q;
	struct virtq_state state;
	struct vdriver d;
	unsigned long interrupts;
};

static void interrupt(void *arg)
{
	((struct bed *)arg)->interrupts++;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "error: %s\n", what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void bed_init(struct bed *bed)
{
	bed->bus = bus_new();
	must(bed->bus && memory_new(RAM, &bed->memory) == 0, "no memory");
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM, .memory = bed->memory
	};
	must(bus_add(bed->bus, &bed->ram) == 0, "no RAM");
	bed->mem.bus = bed->bus;
	bed->q.interrupt = interrupt;
	bed->q.arg = bed;
	must(virtq_init(&bed->q, &bed->mem, &bed->state, SIZE) == 0, "no queue");
}

static void offer(struct bed *bed, bool indirect)
{
	for (unsigned i = 0; i < CHAINS; i++) {
		const struct vdriver_buf bufs[] = {
			{ HEADERS + 32 * i, 16 },
			{ PAGES + 4096 * i, 4096 },
			{ HEADERS + 32 * i + 16, 1 },
		};

		must(vdriver_add(&bed->d, bufs, 3, 1, indirect ? TABLES + 64 * i : 0, bed), "no room in the ring");
	}
	/* Told when the first is used, so that each notify has something to do. */
	vdriver_wish(&bed->d, true, 0);
}

static void serve(struct virtq *q, unsigned batch)
{
	struct virtq_chain *chains[BATCH];
	uint32_t written[BATCH];

	for (unsigned done = 0; done < CHAINS; done += batch) {
		for (unsigned i = 0; i < batch; i++) {
			must(virtq_pop(q, &chains[i]) == 1, "no chain");
			written[i] = 4097;
		}
		virtq_push_all(chains, written, batch);
		virtq_notify(q);
	}
}

static double fastest(struct bed *bed, bool packed, bool indirect, unsigned batch)
{
	uint64_t features = 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
			    (uint64_t)packed << VIRTIO_F_RING_PACKED;
	double best = 0;

	vdriver_init(&bed->d, bed->memory->host, 0, &bed->state, SIZE, features);
	must(virtq_start(&bed->q, features) == 0, "the queue does not start");
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t len;
		double ns;

		offer(bed, indirect);
		ns = now_ns();
		serve(&bed->q, batch);
		ns = (now_ns() - ns) / CHAINS;
		if (best == 0 || ns < best)
			best = ns;
		for (unsigned i = 0; i < CHAINS; i++)
			must(vdriver_get(&bed->d, &len) && len == 4097, "not what was given back");
	}
	virtq_stop(&bed->q);
	return best;
}

static void *run(void *arg)
{
	struct bed *bed = arg;

	bed_init(bed);
	for (unsigned packed = 0; packed < 2; packed++) {
		for (unsigned indirect = 0; indirect < 2; indirect++) {
			printf("%s %s", packed ? "packed" : "split", indirect ? "indirect" : "direct");
			printf(" %.1f", fastest(bed, packed, indirect, 1));
			printf(" %.1f\n", fastest(bed, packed, indirect, BATCH));
		}
	}
	must(bed->interrupts > 0, "no interrupt");
	virtq_fini(&bed->q);
	bus_remove(bed->bus, &bed->ram);
	bus_free(bed->bus);
	memory_put(bed->memory);
	return NULL;
}

int main(void)
{
	static struct bed bed;
	pthread_t thread;

	/* A thread of ours, as devices have. */
	must(thread_start(&thread, "queue", run, &bed) == 0, "no thread");
	pthread_join(thread, NULL);
	return 0;
}
