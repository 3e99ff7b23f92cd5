/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * balloon.c - the memory balloon: memory that the guest does not need goes back to the host (virtio 1.2, 5.5).
 *
 * What the user wants is in the config space; the driver takes pages from its own kernel and tells their numbers, and
 * the host's pages behind them are given back by mem_discard(). When the driver takes them out again there is nothing
 * to do: a page comes, zeroed, at the first touch. With free page reporting the driver also tells of pages that happen
 * to be free, and those go the same way, without anybody's asking.
 *
 * Given back is what the guest says, once; it cannot reach anything but its own RAM, and reads zeros there. The host
 * takes its time over it, so a thread of the balloon's own serves, and what one buffer may ask for is bounded.
 */
#include "virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

#define QUEUE_SIZE 128
#define PAGES      4096U /* of one buffer that are looked at; Linux sends 256 */
#define STATS      32    /* figures of one buffer, likewise */
#define PAGE_SIZE  (1ULL << VIRTIO_BALLOON_PFN_SHIFT)

/* Up to here, the rest is for features that are not offered. */
#define CONFIG_LEN offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)

_Static_assert(CONFIG_LEN == 8, "a wire structure");
_Static_assert(sizeof(struct virtio_balloon_stat) == 10, "a wire structure");

enum role { INFLATE, DEFLATE, STATISTICS, REPORTING, NO_ROLE };

struct balloon {
	struct virtio v;
	struct virtio_balloon_config config;
	uint32_t actual; /* of the config space; atomic */
	struct virtio_worker worker;
	struct loop_work ask;      /* on the worker's loop: for new figures */
	struct virtq_chain *asked; /* on its thread: the buffer that comes back when new figures are wanted; NULL */
	pthread_mutex_t lock;      /* a leaf, for `now` */
	struct vm_balloon now;
	uint32_t pages[PAGES]; /* of the buffer being served */
};

static void misbehaved(struct balloon *b)
{
	__atomic_fetch_add(&b->v.vm->guest_faults, 1, __ATOMIC_RELAXED);
}

/* Queues exist for the features that the driver took, one behind the other. */
static enum role role_of(const struct balloon *b, unsigned index)
{
	bool stats = virtio_has(&b->v, VIRTIO_BALLOON_F_STATS_VQ);

	if (index <= DEFLATE)
		return (enum role)index;
	if (index == 2 && stats)
		return STATISTICS;
	return index == (stats ? 3 : 2) && virtio_has(&b->v, VIRTIO_BALLOON_F_REPORTING) ? REPORTING : NO_ROLE;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The numbers of 4 KiB pages, as 32 bits each. Neighbours go together. */
static void inflate(struct balloon *b, struct virtq_chain *chain)
{
	size_t n = virtq_read(chain, b->pages, sizeof(b->pages)) / sizeof(*b->pages), run;

	if (n * sizeof(*b->pages) != chain->out_len)
		misbehaved(b);
	for (size_t i = 0; i < n; i++)
		b->pages[i] = le32toh(b->pages[i]);
	qsort(b->pages, n, sizeof(*b->pages), by_number);
	for (size_t i = 0; i < n; i += run) {
		for (run = 1; i + run < n && b->pages[i + run] == b->pages[i] + run; run++)
			;
		if (mem_discard(&b->v.vm->mem, b->pages[i] * PAGE_SIZE, run * PAGE_SIZE) < 0)
			misbehaved(b);
	}
}

/* 5.5.6.3: a tag and a value each; those that are not known are passed over. */
static void note_figures(struct balloon *b, struct virtq_chain *chain)
{
	struct virtio_balloon_stat stats[STATS];
	size_t n = virtq_read(chain, stats, sizeof(stats)) / sizeof(*stats);

	if (n * sizeof(*stats) != chain->out_len)
		misbehaved(b);
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < n; i++) {
		uint64_t value = le64toh(stats[i].val);

		switch (le16toh(stats[i].tag)) {
		case VIRTIO_BALLOON_S_MEMTOT:
			b->now.total = value;
			break;
		case VIRTIO_BALLOON_S_MEMFREE:
			b->now.free = value;
			break;
		case VIRTIO_BALLOON_S_AVAIL:
			b->now.available = value;
			break;
		default:
			break;
		}
	}
	b->now.told = n > 0;
	b->now.when = clock_now(&b->v.vm->clock);
	pthread_mutex_unlock(&b->lock);
}

static void give_back(struct balloon *b)
{
	struct virtq *q;

	if (!b->asked)
		return;
	q = b->asked->queue;
	virtq_push(b->asked, 0);
	b->asked = NULL;
	virtq_notify(q);
}

static void ask(void *arg)
{
	struct balloon *b = arg;

	/* A guest that stands still has nothing new to say. */
	if (b->asked && !virtq_paused(b->asked->queue))
		give_back(b);
}

static void serve_one(struct virtio *v, unsigned index, struct virtq_chain *chain)
{
	struct balloon *b = container_of(v, struct balloon, v);

	switch (role_of(b, index)) {
	case INFLATE:
		inflate(b, chain);
		break;
	case STATISTICS:
		note_figures(b, chain);
		/* There is one of them; a driver that sends more gets the earlier ones back. */
		give_back(b);
		b->asked = chain;
		return;
	case REPORTING:
		if (chain->out_len)
			misbehaved(b);
		virtq_discard(chain);
		break;
	case DEFLATE:
	case NO_ROLE:
		break;
	}
	virtq_push(chain, 0);
}

static void balloon_serve(struct virtio *v, unsigned index)
{
	virtio_take(v, index, serve_one);
}

static void balloon_quiesce(struct virtio *v, unsigned index)
{
	struct balloon *b = container_of(v, struct balloon, v);

	if (b->asked && b->asked->queue == &v->queues[index]->q) {
		virtq_drop(b->asked);
		b->asked = NULL;
	}
	virtio_quiet(v, index);
}

/* What is the driver's to write is how large the balloon is now. */
static void balloon_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	struct balloon *b = container_of(v, struct balloon, v);
	uint8_t *config = (uint8_t *)&b->config;

	for (unsigned i = 0; i < len; i++) {
		unsigned at = offset + i;

		if (at >= offsetof(struct virtio_balloon_config, actual) && at < CONFIG_LEN)
			config[at] = bytes[i];
	}
	__atomic_store_n(&b->actual, le32toh(b->config.actual), __ATOMIC_RELAXED);
}

/* What the user wants stays; the next driver begins with nothing. */
static void balloon_reset(struct virtio *v)
{
	struct balloon *b = container_of(v, struct balloon, v);

	b->config.actual = 0;
	__atomic_store_n(&b->actual, 0, __ATOMIC_RELAXED);
	pthread_mutex_lock(&b->lock);
	b->now.told = false;
	pthread_mutex_unlock(&b->lock);
}

/* vm_balloon(). */
static void balloon_control(void *arg, const uint64_t *want, struct vm_balloon *now)
{
	struct balloon *b = arg;

	if (want) {
		uint32_t pages = htole32((uint32_t)(*want / PAGE_SIZE));

		pthread_mutex_lock(&b->lock);
		b->now.want = *want;
		pthread_mutex_unlock(&b->lock);
		virtio_config_set(&b->v, offsetof(struct virtio_balloon_config, num_pages), &pages, sizeof(pages));
	}
	pthread_mutex_lock(&b->lock);
	*now = b->now;
	pthread_mutex_unlock(&b->lock);
	now->has = __atomic_load_n(&b->actual, __ATOMIC_RELAXED) * PAGE_SIZE;
	loop_post(&b->worker.loop, &b->ask);
}

static void balloon_destroy(struct virtio *v)
{
	struct balloon *b = container_of(v, struct balloon, v);

	if (v->vm->balloon_arg == b) {
		v->vm->balloon = NULL;
		v->vm->balloon_arg = NULL;
	}
	virtio_worker_stop(&b->worker);
	virtio_fini(v);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static int balloon_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct balloon_config *c = config;
	struct balloon *b;
	int r;

	if (vm->balloon) {
		err->status = STATUS_USAGE;
		return error_set(err, -EEXIST, "%s: a machine has one balloon, and this one has it already", name);
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	virtio_init(&b->v, &virtio_balloon_type, vm,
		1ULL << VIRTIO_BALLOON_F_STATS_VQ | 1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
			1ULL << VIRTIO_BALLOON_F_REPORTING,
		&b->config, CONFIG_LEN);
	pthread_mutex_init(&b->lock, NULL);
	b->ask = (struct loop_work){ .fn = ask, .arg = b };
	b->now.want = c ? c->want : 0;
	b->config.num_pages = htole32((uint32_t)(b->now.want / PAGE_SIZE));
	r = virtio_worker_start(&b->worker, name);
	if (r)
		error_set(err, r, "%s: no thread: %s", name, strerror(-r));
	for (unsigned i = INFLATE; r == 0 && i <= REPORTING; i++)
		r = virtio_queue(&b->v, QUEUE_SIZE, &b->worker.loop, err);
	if (r) {
		balloon_destroy(&b->v);
		return r;
	}
	vm->balloon = balloon_control;
	vm->balloon_arg = b;
	*out = &b->v;
	return 0;
}

const struct virtio_type virtio_balloon_type = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.pci_class = 0x00ff00, /* none of the classes fits */
	.create = balloon_create,
	.destroy = balloon_destroy,
	.config_write = balloon_config_write,
	.serve = balloon_serve,
	.quiesce = balloon_quiesce,
	.reset = balloon_reset,
};
