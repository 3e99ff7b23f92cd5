/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost.c - queues that somebody else serves: what a back end is told of a device's life (host/vhost.h).
 *
 * The back end is started with its first ring and stopped with its last, and holds references to guest memory in
 * between. A ring that it cannot take, or one that its driver has broken, is broken like one of our own, and the driver
 * finds that the device needs a reset. A back end that is gone is the same, unless it may come back: then its rings
 * wait.
 */
#include "virtio/vhost.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/say.h"

static void lock(struct virtio_vhost *h)
{
	pthread_mutex_lock(&h->v->transport->lock);
}

static void unlock(struct virtio_vhost *h)
{
	pthread_mutex_unlock(&h->v->transport->lock);
}

/* What the guest did is counted; what the host did a user may want to know, once. */
static void failed(struct virtio_vhost *h, unsigned index, int r)
{
	if (r != -EFAULT && r != -EINVAL && !h->told) {
		h->told = true;
		say(SAY_SOON_MS, "%s: %s: %s", h->v->transport->name, h->backend->name, strerror(-r));
	}
	virtq_break(&h->v->queues[index]->q);
}

/* ---- calls ---- */

static void used(struct virtio_vhost_ring *ring)
{
	struct virtio *v = ring->h->v;
	bool nobody;

	/* The machine may be gone, and only a host that did not answer keeps this thread. */
	lock(ring->h);
	nobody = v->abandoned;
	unlock(ring->h);
	if (nobody)
		return;
	atomic_fetch_add_explicit(&v->queues[ring->index]->interrupts, 1, memory_order_relaxed);
	v->ops->used(v, ring->index);
}

static void called(void *arg, uint32_t events)
{
	struct virtio_vhost_ring *ring = arg;
	eventfd_t n;

	if (eventfd_read(ring->call, &n) == 0)
		used(ring);
}

static void driver_erred(void *arg, uint32_t events)
{
	struct virtio_vhost_ring *ring = arg;
	struct virtio_vhost *h = ring->h;

	/* Once is enough: it stands until the queue is reset. */
	loop_unwatch(h->backend->loop, &ring->error_watch);
	virtq_break(&h->v->queues[ring->index]->q);
}

static int listen_to(struct virtio_vhost *h, struct virtio_vhost_ring *ring)
{
	eventfd_t n;
	int r;

	(void)!eventfd_read(ring->call, &n);
	(void)!eventfd_read(ring->error, &n);
	r = loop_watch(h->backend->loop, &ring->call_watch, EPOLLIN);
	if (r == 0)
		r = loop_watch(h->backend->loop, &ring->error_watch, EPOLLIN);
	if (r)
		loop_unwatch(h->backend->loop, &ring->call_watch);
	return r;
}

static void lead_call(struct virtio_vhost *h, struct virtio_vhost_ring *ring, bool on)
{
	struct virtio *v = h->v;

	lock(h);
	if (v->ops->call && !v->abandoned)
		v->ops->call(v, ring->index, on ? ring->call : -1);
	unlock(h);
}

static void listen_no_more(struct virtio_vhost *h, struct virtio_vhost_ring *ring)
{
	lead_call(h, ring, false);
	loop_unwatch(h->backend->loop, &ring->call_watch);
	loop_unwatch(h->backend->loop, &ring->error_watch);
}

/* ---- memory ---- */

struct ranges {
	struct virtio_vhost *h;
	struct vhost_range range[VHOST_RANGES];
	unsigned n;
	bool more;
};

static void add_range(struct region *region, void *arg)
{
	struct ranges *all = arg;

	if (region->kind != REGION_RAM)
		return;
	if (all->n == VHOST_RANGES) {
		all->more = true;
		return;
	}
	/* Private memory has none. */
	all->range[all->n] = (struct vhost_range){
		.gpa = region->base,
		.len = region->size,
		.host = (uint8_t *)region->memory->host + region->memory_offset,
		.fd = region->memory->shared ? region->memory->fd : -1,
		.offset = region->memory_offset,
	};
	memory_get(region->memory);
	all->h->memory[all->n++] = region->memory;
}

static void let_go(struct virtio_vhost *h)
{
	while (h->nr_memory > 0)
		memory_put(h->memory[--h->nr_memory]);
}

static int start(struct virtio_vhost *h)
{
	struct ranges all = { .h = h };
	int r;

	if (h->started)
		return 0;
	bus_for_each(h->v->vm->bus, SPACE_MMIO, add_range, &all);
	h->nr_memory = all.n;
	r = all.more ? -E2BIG : 0;
	if (r == 0)
		r = h->backend->ops->start(h->backend, h->v->state.features & h->features, all.range, all.n);
	if (r)
		let_go(h);
	h->started = r == 0;
	return r;
}

static void stop_if_idle(struct virtio_vhost *h)
{
	int r;

	if (h->nr_running)
		return;
	lock(h);
	/* A reset ends a rest, too. */
	h->backend->resting = !h->v->resetting && (h->started || h->backend->resting);
	unlock(h);
	if (!h->started)
		return;
	r = h->backend->ops->stop(h->backend);
	if (r && !h->told) {
		h->told = true;
		say(SAY_SOON_MS, "%s: %s: %s", h->v->transport->name, h->backend->name, strerror(-r));
	}
	h->started = false;
	let_go(h);
}

/* ---- rings ---- */

static struct vhost_ring ring_of(struct virtio_vhost *h, const struct virtio_vhost_ring *ring)
{
	const struct virtio_queue *vq = h->v->queues[ring->index];
	const struct virtq_state *s = &vq->state;
	struct vhost_ring at;

	lock(h);
	at = (struct vhost_ring){
		.size = s->size,
		.desc = s->desc,
		.driver = s->driver,
		.device = s->device,
		.avail = s->avail,
		.used = s->used,
		.avail_wrap = s->avail_wrap,
		.used_wrap = s->used_wrap,
		.kick = vq->kick,
		.call = ring->call,
		.error = ring->error,
	};
	unlock(h);
	return at;
}

static int run(struct virtio_vhost *h, struct virtio_vhost_ring *ring)
{
	const struct vhost_ring at = ring_of(h, ring);
	int r = start(h);

	if (r == 0)
		r = listen_to(h, ring);
	if (r)
		return r;
	lead_call(h, ring, true);
	r = h->backend->ops->start_ring(h->backend, ring->index, &at);
	if (r) {
		listen_no_more(h, ring);
		return r;
	}
	ring->running = true;
	h->nr_running++;
	return 0;
}

bool virtio_vhost_start(struct virtio_vhost *h, unsigned index)
{
	struct virtio_vhost_ring *ring = &h->ring[index];
	int r;

	if (!h->backend || ring->running || virtq_is_broken(&h->v->queues[index]->q))
		return true;
	ring->waiting = h->gone && h->backend->returns;
	if (ring->waiting)
		return true;
	r = h->gone && !h->backend->restarts ? -EPIPE : run(h, ring);
	if (r && r != -EFAULT && r != -EINVAL && h->serves)
		return !h->gone_for_good(h);
	if (r)
		failed(h, index, r);
	else
		h->gone = false;
	return true;
}

/*
 * Where the ring stood, for who is next. A back end that is gone may not know (`lost`, or 0). Then a split ring tells
 * by what the driver got back, if it got all; else, for who may `guess`, what it did not get in that order is served
 * again.
 */
static int keep_place(struct virtio_vhost *h, unsigned index, const struct vhost_ring *at, int lost, bool guess)
{
	struct virtq_state *s = &h->v->queues[index]->state;
	bool packed = virtio_has(h->v, VIRTIO_F_RING_PACKED), known = lost == 0;
	uint16_t used = at->used, offered;
	int r = packed && !known ? -EPIPE : 0;

	if (!packed)
		r = mem_load16(&h->v->vm->mem, s->device + offsetof(struct vring_used, idx), &used);
	if (r == 0 && !known && !guess)
		r = mem_load16(&h->v->vm->mem, s->driver + offsetof(struct vring_avail, idx), &offered);
	if (r)
		return r;
	if (!known && !guess && offered != used)
		return lost;
	s->avail = known ? at->avail : used;
	s->used = used;
	if (packed) {
		s->avail_wrap = at->avail_wrap;
		s->used_wrap = at->used_wrap;
	}
	return 0;
}

/*
 * The back end has it no more. -errno: where the ring stood is not known. `left`
 * has room for VIRTQ_MAX heads, or is NULL.
 */
static int take(struct virtio_vhost *h, struct virtio_vhost_ring *ring, uint16_t *left, struct vhost_ring *at)
{
	int r;

	*at = ring_of(h, ring);
	at->left = left;
	r = h->backend->ops->stop_ring(h->backend, ring->index, at);
	listen_no_more(h, ring);
	ring->running = false;
	h->nr_running--;
	return r;
}

static void take_back(struct virtio_vhost *h, unsigned index, bool guess)
{
	struct virtio_vhost_ring *ring = &h->ring[index];
	uint16_t left[VIRTQ_MAX];
	struct vhost_ring at;
	eventfd_t n;
	int r;

	ring->waiting = false;
	if (!ring->running)
		return;
	r = take(h, ring, left, &at);
	r = keep_place(h, index, &at, r, guess);
	if (r)
		failed(h, index, r);
	else if (at.nr_left)
		virtq_inherit(&h->v->queues[index]->q, left, at.nr_left);
	/* The driver hears of what was used last. */
	if (eventfd_read(ring->call, &n) == 0)
		used(ring);
	stop_if_idle(h);
}

void virtio_vhost_take_back(struct virtio_vhost *h, unsigned index)
{
	take_back(h, index, false);
}

void virtio_vhost_quiesce(struct virtio_vhost *h, unsigned index)
{
	struct virtio_vhost_ring *ring = &h->ring[index];
	struct vhost_ring at;

	ring->waiting = false;
	if (ring->running)
		(void)take(h, ring, NULL, &at);
	if (h->backend)
		stop_if_idle(h);
	virtio_quiet(h->v, index);
}

bool virtio_vhost_pause(struct virtio_vhost *h, unsigned index)
{
	virtio_vhost_take_back(h, index);
	return true;
}

/* ---- what the back end tells ---- */

static void gone(struct virtio_vhost *h)
{
	bool ours = false;

	h->gone = true;
	if (!h->backend->returns && h->gone_for_good) {
		ours = h->gone_for_good(h);
	} else if (!h->told && !h->backend->returns) {
		h->told = true;
		say(SAY_SOON_MS, "%s: %s is gone", h->v->transport->name, h->backend->name);
	}
	for (unsigned i = 0; i < h->v->nr_queues; i++) {
		struct virtio_vhost_ring *ring = &h->ring[i];

		if (!ring->running)
			continue;
		take_back(h, i, ours || h->backend->returns);
		ring->waiting = h->backend->returns;
		if (ours)
			virtio_enter(h->v, i);
		else if (!ring->waiting)
			virtq_break(&h->v->queues[i]->q);
	}
}

static void back(struct virtio_vhost *h)
{
	h->gone = false;
	for (unsigned i = 0; i < h->v->nr_queues; i++) {
		if (!h->ring[i].waiting)
			continue;
		h->ring[i].waiting = false;
		virtio_enter(h->v, i);
	}
}

static void write_config(void *arg)
{
	struct virtio_vhost *h = arg;
	uint8_t bytes[256];
	unsigned from, len;

	lock(h);
	from = h->write_from;
	len = h->write_to - from;
	len = len < sizeof(bytes) ? len : sizeof(bytes);
	memcpy(bytes, h->v->config + from, len);
	h->write_from = h->write_to = 0;
	unlock(h);
	if (len && h->backend->ops->config_write)
		(void)h->backend->ops->config_write(h->backend, from, len, bytes);
}

static void read_config(struct virtio_vhost *h)
{
	uint8_t bytes[256];
	unsigned len = h->v->config_len;

	/* What the driver wrote meanwhile goes first, or it would be lost. */
	write_config(h);
	if (h->backend->ops->config_read && len <= sizeof(bytes) &&
		h->backend->ops->config_read(h->backend, 0, len, bytes) == 0)
		virtio_config_set(h->v, 0, bytes, len);
}

static void event(void *arg, enum vhost_event what)
{
	struct virtio_vhost *h = arg;

	switch (what) {
	case VHOST_CONFIG:
		read_config(h);
		break;
	case VHOST_GONE:
		gone(h);
		break;
	case VHOST_MANY:
	case VHOST_FEW:
		virtio_worker_be_patient(&h->worker, what == VHOST_MANY);
		break;
	default:
		back(h);
	}
}

/* ---- config space ---- */

void virtio_vhost_config_write(struct virtio_vhost *h, unsigned offset, unsigned len, const uint8_t *bytes)
{
	if (!h->backend || !h->backend->ops->config_write)
		return;
	memcpy(h->v->config + offset, bytes, len);
	if (h->write_from == h->write_to) {
		h->write_from = offset;
		h->write_to = offset + len;
	} else {
		h->write_from = offset < h->write_from ? offset : h->write_from;
		h->write_to = offset + len > h->write_to ? offset + len : h->write_to;
	}
	loop_post(&h->worker.loop, &h->write);
}

/* ---- life ---- */

static int learn(struct virtio_vhost *h, uint64_t ours)
{
	struct virtio *v = h->v;
	struct vhost *b = h->backend;
	int r = b->ops->features(b, &h->features);

	if (r)
		return r;
	/* One queue's reset is ours: the back end stops one ring. */
	v->offered &= h->features | ours | 1ULL << VIRTIO_F_RING_RESET;
	return b->ops->config_read ? b->ops->config_read(b, 0, v->config_len, v->config) : 0;
}

int virtio_vhost_init(struct virtio_vhost *h, struct virtio *v, struct vhost *backend, uint64_t ours,
	const char *thread, struct error *err)
{
	int r;

	memset(h, 0, sizeof(*h));
	h->v = v;
	h->backend = backend;
	h->write = (struct loop_work){ .fn = write_config, .arg = h };
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		h->ring[i] = (struct virtio_vhost_ring){ .h = h, .index = i, .call = -1, .error = -1 };
	if (!backend)
		return 0;
	r = virtio_worker_start(&h->worker, thread);
	if (r)
		return error_set(err, r, "%s: no thread: %s", thread, strerror(-r));
	backend->loop = &h->worker.loop;
	backend->event = event;
	backend->arg = h;
	r = learn(h, ours);
	return r ? error_set(err, r, "%s: %s: %s", thread, backend->name, strerror(-r)) : 0;
}

int virtio_vhost_queue(struct virtio_vhost *h, uint16_t max, struct error *err)
{
	unsigned index = h->v->nr_queues;
	struct virtio_vhost_ring *ring;
	int r = virtio_queue(h->v, max, h->backend ? &h->worker.loop : &h->v->vm->loop, err);

	if (r || !h->backend)
		return r;
	ring = &h->ring[index];
	ring->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->call >= 0)
		ring->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->error < 0)
		return error_set(err, -errno, "virtio %s: no queue: %s", h->v->type->name, strerror(errno));
	ring->call_watch = (struct loop_watch){ .fd = ring->call, .fn = called, .arg = ring };
	ring->error_watch = (struct loop_watch){ .fd = ring->error, .fn = driver_erred, .arg = ring };
	return 0;
}

void virtio_vhost_fini(struct virtio_vhost *h)
{
	if (!h->v)
		return;
	virtio_worker_stop(&h->worker);
	virtio_fini(h->v);
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
		if (h->ring[i].call >= 0)
			close(h->ring[i].call);
		if (h->ring[i].error >= 0)
			close(h->ring[i].error);
	}
	vhost_close(h->backend);
	h->backend = NULL;
	h->v = NULL;
}
