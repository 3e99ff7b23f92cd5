/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtq_driver.h - the driver's side of a virtqueue, split or packed, as plain as can be: for tests of the queue and of
 * devices. It has the guest's memory at a host address, and its rings at one place in it, VDRIVER_RINGS bytes.
 */
#ifndef TRAPLINE_TESTS_VIRTQ_DRIVER_H
#define TRAPLINE_TESTS_VIRTQ_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "virtio/queue.h"

#define VDRIVER_RINGS 0x10000 /* room for the rings of 1,024 slots */
#define VDRIVER_AVAIL 0x5000
#define VDRIVER_USED  0x8000

struct vdriver_buf {
	uint64_t gpa;
	uint32_t len;
};

struct vdriver {
	uint8_t *host; /* of gpa 0 */
	uint64_t desc, avail, used;
	bool packed, event_idx, indirect;
	uint16_t size;
	uint16_t avail_idx, last_used; /* split: free-running; packed: slots */
	bool avail_wrap, used_wrap;
	uint16_t old;      /* split: avail_idx at the last kick */
	unsigned unkicked; /* slots since then */
	unsigned nr_free;
	uint16_t free[VIRTQ_MAX];  /* ids; split: descriptors too */
	uint16_t slots[VIRTQ_MAX]; /* by id: how many; 0: free */
	uint16_t chain[VIRTQ_MAX]; /* split, by descriptor: the next */
	void *token[VIRTQ_MAX];    /* by id */
};

static inline void *vdriver_at(struct vdriver *d, uint64_t gpa)
{
	return d->host + gpa;
}

/* Rings at `rings` (zeroed), and the queue's state told of them; the caller starts the queue. */
static inline void vdriver_init(
	struct vdriver *d, void *host, uint64_t rings, struct virtq_state *state, uint16_t size, uint64_t features)
{
	memset(d, 0, sizeof(*d));
	d->host = host;
	d->desc = rings;
	d->avail = rings + VDRIVER_AVAIL;
	d->used = rings + VDRIVER_USED;
	d->packed = features >> VIRTIO_F_RING_PACKED & 1;
	d->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	d->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	d->size = size;
	d->avail_wrap = d->used_wrap = true;
	d->nr_free = size;
	for (unsigned i = 0; i < size; i++)
		d->free[i] = (uint16_t)(size - 1 - i);
	memset(vdriver_at(d, rings), 0, VDRIVER_RINGS);
	state->desc = d->desc;
	state->driver = d->avail;
	state->device = d->used;
	state->size = size;
}

/* Split and packed descriptors differ in their last four bytes. */
static inline void vdriver_desc(struct vdriver *d, uint64_t gpa, struct vdriver_buf buf, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = { .addr = buf.gpa, .len = buf.len, .flags = flags, .next = next };

	memcpy(vdriver_at(d, gpa), &desc, sizeof(desc));
}

/* The last word of a packed descriptor is its flags; `publish` has it seen, and all before it. */
static inline void vdriver_packed(
	struct vdriver *d, uint64_t gpa, struct vdriver_buf buf, uint16_t id, uint16_t flags, bool publish)
{
	struct vring_packed_desc *desc = vdriver_at(d, gpa);

	desc->addr = buf.gpa;
	desc->len = buf.len;
	desc->id = id;
	__atomic_store_n(&desc->flags, flags, publish ? __ATOMIC_RELEASE : __ATOMIC_RELAXED);
}

static inline uint16_t vdriver_flags(unsigned i, unsigned n, unsigned n_out)
{
	return (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) | (i >= n_out ? VRING_DESC_F_WRITE : 0));
}

static inline void vdriver_add_split(
	struct vdriver *d, const struct vdriver_buf *bufs, unsigned n, unsigned n_out, uint64_t table, uint16_t head)
{
	struct vring_avail *avail = vdriver_at(d, d->avail);
	unsigned slots = table ? 1 : n;
	uint16_t slot = head;

	for (unsigned i = 0; table && i < n; i++)
		vdriver_desc(d, table + 16 * i, bufs[i], vdriver_flags(i, n, n_out), (uint16_t)(i + 1));
	if (table)
		vdriver_desc(d, d->desc + 16 * slot, (struct vdriver_buf){ table, 16 * n }, VRING_DESC_F_INDIRECT, 0);
	for (unsigned i = 0; !table && i < n; i++) {
		uint16_t next = i + 1 < n ? d->free[--d->nr_free] : 0;

		vdriver_desc(d, d->desc + 16 * slot, bufs[i], vdriver_flags(i, n, n_out), next);
		d->chain[slot] = next;
		slot = next;
	}
	d->slots[head] = (uint16_t)slots;
	avail->ring[d->avail_idx % d->size] = head;
	d->avail_idx++;
	__atomic_store_n(&avail->idx, d->avail_idx, __ATOMIC_RELEASE);
	d->unkicked++;
}

/* From the last to the first, whose flags publish the chain. */
static inline void vdriver_add_packed(
	struct vdriver *d, const struct vdriver_buf *bufs, unsigned n, unsigned n_out, uint64_t table, uint16_t id)
{
	unsigned slots = table ? 1 : n;

	for (unsigned i = 0; table && i < n; i++)
		vdriver_packed(d, table + 16 * i, bufs[i], 0, vdriver_flags(i, 0, n_out), false);
	for (unsigned i = slots; i-- > 0;) {
		unsigned slot = d->avail_idx + i;
		bool wrap = slot < d->size ? d->avail_wrap : !d->avail_wrap;
		uint16_t flags = (uint16_t)(wrap ? 1U << VRING_PACKED_DESC_F_AVAIL : 1U << VRING_PACKED_DESC_F_USED);

		flags |= table ? VRING_DESC_F_INDIRECT : vdriver_flags(i, n, n_out);
		vdriver_packed(d, d->desc + 16 * (slot % d->size),
			table ? (struct vdriver_buf){ table, 16 * n } : bufs[i], id, flags, i == 0);
	}
	/* Ids are taken one a chain, but as many count as it has slots. */
	d->nr_free -= slots - 1;
	d->slots[id] = (uint16_t)slots;
	d->unkicked += slots;
	d->avail_idx = (uint16_t)(d->avail_idx + slots);
	if (d->avail_idx >= d->size) {
		d->avail_idx = (uint16_t)(d->avail_idx - d->size);
		d->avail_wrap = !d->avail_wrap;
	}
}

/*
 * Offers n buffers, the first n_out of them for the device to read; in a table at `table` unless that is 0. False: no
 * room. The token comes back from vdriver_get().
 */
static inline bool vdriver_add(
	struct vdriver *d, const struct vdriver_buf *bufs, unsigned n, unsigned n_out, uint64_t table, void *token)
{
	uint16_t id = 0;

	if ((table ? 1 : n) > d->nr_free)
		return false;
	if (d->packed) {
		while (d->slots[id])
			id++;
		d->nr_free--;
	} else {
		id = d->free[--d->nr_free];
	}
	d->token[id] = token;
	if (d->packed)
		vdriver_add_packed(d, bufs, n, n_out, table, id);
	else
		vdriver_add_split(d, bufs, n, n_out, table, id);
	return true;
}

/* Whether the device wants a kick for what was added since the last call. */
static inline bool vdriver_kick(struct vdriver *d)
{
	struct vring_used *used = vdriver_at(d, d->used);
	unsigned unkicked = d->unkicked;
	uint32_t word;
	uint16_t event;

	if (!unkicked)
		return false;
	d->unkicked = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!d->packed && d->event_idx) {
		event = __atomic_load_n((uint16_t *)(void *)&used->ring[d->size], __ATOMIC_ACQUIRE);
		return (uint16_t)(d->avail_idx - event - 1) < unkicked;
	}
	if (!d->packed)
		return !(__atomic_load_n(&used->flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY);
	word = __atomic_load_n((uint32_t *)(void *)used, __ATOMIC_ACQUIRE);
	if (word >> 16 != VRING_PACKED_EVENT_FLAG_DESC)
		return word >> 16 != VRING_PACKED_EVENT_FLAG_DISABLE;
	event = word & 0x7fff;
	if ((word >> 15 & 1) != d->avail_wrap)
		event = (uint16_t)(event - d->size);
	return (uint16_t)(d->avail_idx - event - 1) < unkicked;
}

/* Whether there is something to get. */
static inline bool vdriver_used_split(struct vdriver *d)
{
	const struct vring_used *used = vdriver_at(d, d->used);

	return __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) != d->last_used;
}

static inline bool vdriver_used_packed(struct vdriver *d)
{
	const struct vring_packed_desc *desc = vdriver_at(d, d->desc + 16 * d->last_used);
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

	return (flags >> VRING_PACKED_DESC_F_AVAIL & 1) == d->used_wrap &&
	       (flags >> VRING_PACKED_DESC_F_USED & 1) == d->used_wrap;
}

static inline bool vdriver_used(struct vdriver *d)
{
	return d->packed ? vdriver_used_packed(d) : vdriver_used_split(d);
}

static inline void vdriver_get_split(struct vdriver *d, uint16_t *id, uint32_t *len)
{
	struct vring_used *used = vdriver_at(d, d->used);
	const struct vring_used_elem *elem = &used->ring[d->last_used % d->size];
	uint16_t slot;

	*id = slot = (uint16_t)elem->id;
	*len = elem->len;
	d->last_used++;
	for (unsigned i = 0; i < d->slots[*id]; i++) {
		d->free[d->nr_free++] = slot;
		slot = d->chain[slot];
	}
}

static inline void vdriver_get_packed(struct vdriver *d, uint16_t *id, uint32_t *len)
{
	const struct vring_packed_desc *desc = vdriver_at(d, d->desc + 16 * d->last_used);

	*id = desc->id;
	*len = desc->len;
	d->nr_free += d->slots[*id];
	d->last_used = (uint16_t)(d->last_used + d->slots[*id]);
	if (d->last_used >= d->size) {
		d->last_used = (uint16_t)(d->last_used - d->size);
		d->used_wrap = !d->used_wrap;
	}
}

/* The next that the device gave back: its token, how much it wrote. NULL: none. */
static inline void *vdriver_get(struct vdriver *d, uint32_t *len)
{
	uint16_t id;

	if (!vdriver_used(d))
		return NULL;
	if (d->packed)
		vdriver_get_packed(d, &id, len);
	else
		vdriver_get_split(d, &id, len);
	if (!d->slots[id])
		return NULL; /* nothing that was offered */
	d->slots[id] = 0;
	return d->token[id];
}

/*
 * Whether to be interrupted: when the `after`th from the next used slot (0: the next itself) is used, which without
 * EVENT_IDX is any. The caller looks again.
 */
static inline void vdriver_wish(struct vdriver *d, bool on, uint16_t after)
{
	struct vring_avail *avail = vdriver_at(d, d->avail);
	unsigned slot = d->last_used + after;
	bool wrap = slot >= d->size ? !d->used_wrap : d->used_wrap;
	uint32_t word = on ? 0 : VRING_PACKED_EVENT_FLAG_DISABLE << 16;

	if (d->packed) {
		if (on && d->event_idx)
			word = VRING_PACKED_EVENT_FLAG_DESC << 16 | slot % d->size | (uint32_t)wrap << 15;
		__atomic_store_n((uint32_t *)(void *)avail, word, __ATOMIC_RELEASE);
	} else if (d->event_idx) {
		if (on)
			__atomic_store_n(&avail->ring[d->size], (uint16_t)(d->last_used + after), __ATOMIC_RELEASE);
	} else {
		__atomic_store_n(&avail->flags, on ? 0 : VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELEASE);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
