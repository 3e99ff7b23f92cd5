/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost_relay.c - split virtqueues passed on to another program; see vhost_relay.h. */
#include "host/vhost_relay.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_IDX     2
#define RING_ENTRIES 4

_Static_assert(RELAY_USED >= RING_ENTRIES + 2 * RELAY_SIZE, "room for an available ring");
_Static_assert(RELAY_BYTES - RELAY_USED >= RING_ENTRIES + 8 * RELAY_SIZE, "and a used one");

/* Words that the other side touches at the same time, little-endian: acquired, released. */
static uint16_t load(const void *ring, unsigned offset)
{
	return le16toh(
		__atomic_load_n((const uint16_t *)(const void *)((const uint8_t *)ring + offset), __ATOMIC_ACQUIRE));
}

static void store(void *ring, unsigned offset, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)((uint8_t *)ring + offset), htole16(value), __ATOMIC_RELEASE);
}

static void barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (fd >= 0)
		while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
}

static void *our_used(const struct vhost_relay *r)
{
	return r->memory + RELAY_USED;
}

static unsigned slot(const struct vhost_relay *r, uint16_t index)
{
	return index & (r->size - 1U);
}

/* Into our available ring; visible with our index. */
static void offer(struct vhost_relay *r, uint16_t head)
{
	if (r->memory)
		store(r->memory, RING_ENTRIES + 2 * slot(r, r->to), head);
	r->to++;
}

static void show_offers(struct vhost_relay *r)
{
	if (!r->memory)
		return;
	store(r->memory, RING_IDX, r->to);
	barrier();
	if (!(load(our_used(r), 0) & VRING_USED_F_NO_NOTIFY))
		signal_fd(r->kick);
}

static void guest_broke(struct vhost_relay *r)
{
	r->broken = true;
	signal_fd(r->ring.error);
}

/* The guest's entries from `taken` on to `idx`; false: it broke a rule. */
static bool take_entries(struct vhost_relay *r, uint16_t idx)
{
	if ((uint16_t)(idx - r->taken) > r->size)
		return false;
	while (r->taken != idx) {
		uint16_t head = load(r->parts.driver, RING_ENTRIES + 2 * slot(r, r->taken));

		if (head >= r->size || r->in[head])
			return false;
		r->in[head] = r->next++;
		r->outstanding++;
		r->taken++;
		offer(r, head);
	}
	return true;
}

void relay_take(struct vhost_relay *r)
{
	uint16_t begin = r->to;

	while (!r->broken) {
		uint16_t idx = load(r->parts.driver, RING_IDX);

		if (idx == r->taken) {
			/* The wish to be kicked for the next one, and another look, for it may have come meanwhile. */
			if (r->event_idx)
				store(r->parts.device, RING_ENTRIES + 8U * r->size, r->taken);
			barrier();
			if (load(r->parts.driver, RING_IDX) == idx)
				break;
			continue;
		}
		if (!take_entries(r, idx))
			guest_broke(r);
	}
	if (r->to != begin)
		show_offers(r);
}

/* 2.6.7.2 */
static bool guest_wants_call(const struct vhost_relay *r, uint16_t before)
{
	if (!r->event_idx)
		return !(load(r->parts.driver, 0) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(load(r->parts.driver, RING_ENTRIES + 2U * r->size), r->given, before);
}

int relay_give(struct vhost_relay *r)
{
	uint16_t idx, before = r->given;
	int rc = 0;

	if (!r->memory)
		return 0;
	idx = load(our_used(r), RING_IDX);
	if ((uint16_t)(idx - r->from) > r->outstanding)
		return -EPROTO;
	while (r->from != idx) {
		struct vring_used_elem elem;

		memcpy(&elem, (uint8_t *)our_used(r) + RING_ENTRIES + 8U * slot(r, r->from), sizeof(elem));
		if (le32toh(elem.id) >= r->size || !r->in[le32toh(elem.id)]) {
			/* What came before it is told of all the same. */
			rc = -EPROTO;
			break;
		}
		r->in[le32toh(elem.id)] = 0;
		r->outstanding--;
		r->from++;
		memcpy((uint8_t *)r->parts.device + RING_ENTRIES + 8U * slot(r, r->given), &elem, sizeof(elem));
		/* One by one: what the other side says next may be wrong. */
		r->given++;
		store(r->parts.device, RING_IDX, r->given);
	}
	barrier();
	if (r->given != before && guest_wants_call(r, before))
		signal_fd(r->ring.call);
	return rc;
}

static int by_number(const void *a, const void *b, void *arg)
{
	const struct vhost_relay *r = arg;
	uint64_t x = r->in[*(const uint16_t *)a], y = r->in[*(const uint16_t *)b];

	return (x > y) - (x < y);
}

unsigned relay_left(struct vhost_relay *r, uint16_t *heads)
{
	unsigned n = 0;

	for (unsigned head = 0; head < r->size; head++)
		if (r->in[head])
			heads[n++] = (uint16_t)head;
	qsort_r(heads, n, sizeof(*heads), by_number, r);
	return n;
}

void relay_restart(struct vhost_relay *r, uint8_t *memory)
{
	uint16_t heads[RELAY_SIZE];
	unsigned n = relay_left(r, heads);

	r->memory = memory;
	memset(memory, 0, RELAY_BYTES);
	r->to = r->from = 0;
	for (unsigned i = 0; i < n; i++)
		offer(r, heads[i]);
	show_offers(r);
}

int relay_begin(struct vhost_relay *r, const struct vhost_ring *ring, const struct vhost_parts *parts, bool event_idx)
{
	memset(r, 0, sizeof(*r));
	if (!ring->size || ring->size > RELAY_SIZE || ring->size & (ring->size - 1))
		return -EINVAL;
	r->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->size = ring->size;
	if (r->kick < 0 || r->call < 0) {
		int e = -errno;

		relay_end(r);
		return e;
	}
	r->ring = *ring;
	r->parts = *parts;
	r->event_idx = event_idx;
	r->taken = ring->avail;
	r->given = load(parts->device, RING_IDX);
	r->next = 1;
	/* Kicks are wanted: flags of 0. */
	store(parts->device, 0, 0);
	return 0;
}

void relay_end(struct vhost_relay *r)
{
	if (r->size && r->kick >= 0)
		close(r->kick);
	if (r->size && r->call >= 0)
		close(r->call);
	memset(r, 0, sizeof(*r));
}
