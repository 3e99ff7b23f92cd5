/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.c - virtqueues, split and packed, on the device's side (virtio 1.2, sections 2.6 to 2.8).
 *
 * Taking. A descriptor is copied once by mem_read(), whose copy is complete when it returns; only the copy is looked
 * at. Its bytes become pieces (struct mem_ref), each checked against the map of guest memory by being mapped. So
 * whatever the guest does to its rings meanwhile, a chain is what the checks saw. Loops end because a chain has at most
 * as many slots as the queue, and a table at most VIRTQ_MAX. What a queue may cost the host is bounded by `owed`: a
 * driver that offers slots again which it has not got back is at fault, so no more chains are ever in flight than there
 * are slots.
 *
 * Order. There are four places where it matters; the other side is a processor of the guest's, which does the mirror
 * image.
 *
 * 1. Take: the load of the index (split: avail.idx; packed: the flags of the first descriptor of a chain) acquires, the
 *    driver's store released: so what the driver wrote before it, ring entries, descriptors and buffers, is seen.
 * 2. Give back: the store of the index (split: used.idx; packed: the flags of the first used descriptor) releases:
 *    the driver that sees it sees the used elements and all that the device wrote to the buffers. Where other
 *    threads wrote to these, they handed the chain over by something that orders.
 * 3. Telling: used is stored, then the driver's wish (its event index or flags) is loaded. The driver stores its
 *    wish, then loads used. A processor may let a load overtake an earlier store to another place, x86 too; if both
 *    did, we would see the old wish and the driver the old used index: nobody tells, and the driver sleeps for ever.
 *    So a full barrier stands between the two, here (virtq_notify) and in the driver: whichever barrier is second,
 *    the load behind it sees the store before the other. The pushes may be another thread's: its store came before,
 *    by q->lock.
 * 4. Kicks: the same with the roles changed. Our wish (avail_event, flags) is stored, then the available index is
 *    loaded (virtq_kicks_on); the driver stores that index, then loads our wish.
 *
 * kicks_off needs no order: it is a hint, and a kick too many does no harm. With EVENT_IDX it does nothing: an event
 * index that the driver has passed asks for nothing.
 */
#include "virtio/queue.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define DESC_SIZE 16
/* Split: of the available and the used ring, by offset from their start. */
#define RING_IDX       2
#define RING_ENTRIES   4
#define USED_ELEM_SIZE 8
/* Packed: of a descriptor. */
#define PACKED_ID    12
#define PACKED_FLAGS 14
#define AVAIL_BIT    (1U << VRING_PACKED_DESC_F_AVAIL)
#define USED_BIT     (1U << VRING_PACKED_DESC_F_USED)

_Static_assert(sizeof(struct vring_desc) == DESC_SIZE, "a wire structure");
_Static_assert(sizeof(struct vring_packed_desc) == DESC_SIZE, "a wire structure");
_Static_assert(sizeof(struct vring_used_elem) == USED_ELEM_SIZE, "a wire structure");
_Static_assert(offsetof(struct vring_packed_desc, flags) == PACKED_FLAGS, "a wire structure");

/* A descriptor of either kind, in the host's byte order. */
struct descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next, id; /* split has no id, packed no next */
};

/* The chain being taken, and what is to be taken before all others. */
struct virtq_scratch {
	uint8_t table[VIRTQ_MAX][DESC_SIZE];
	struct mem_ref refs[VIRTQ_MAX]; /* `out` first */
	struct mem_window window;       /* the server's: rings, tables and buffers mostly lie in one piece of RAM */
	const struct memory *held;      /* to which the last piece that has a reference has it */
	unsigned nr, nr_out;
	bool in; /* a descriptor for the device to write was there */
	uint64_t out_len, in_len;
	uint16_t id, slots;
	uint16_t heads[VIRTQ_MAX]; /* inherited; those before `taken_heads` are not there any more */
	unsigned nr_heads, taken_heads;
};

/* Tells once a life. */
void virtq_break(struct virtq *q)
{
	if (__atomic_exchange_n(&q->broken, true, __ATOMIC_RELAXED))
		return;
	__atomic_fetch_add(&q->faults, 1, __ATOMIC_RELAXED);
	if (q->fault)
		q->fault(q->arg);
}

bool virtq_is_broken(const struct virtq *q)
{
	return __atomic_load_n(&q->broken, __ATOMIC_RELAXED);
}

/* `slots` on from a place in a packed ring. */
static void packed_advance(const struct virtq *q, uint16_t *slot, uint8_t *wrap, unsigned slots)
{
	unsigned to = *slot + slots;

	if (to >= q->state->size) {
		to -= q->state->size;
		*wrap ^= 1;
	}
	*slot = (uint16_t)to;
}

/* ---- taking ---- */

static struct descriptor decode(const struct virtq *q, const uint8_t raw[DESC_SIZE])
{
	struct vring_packed_desc packed;
	struct vring_desc split;

	if (q->packed) {
		memcpy(&packed, raw, sizeof(packed));
		return (struct descriptor){ .addr = le64toh(packed.addr),
			.len = le32toh(packed.len),
			.flags = le16toh(packed.flags),
			.id = le16toh(packed.id) };
	}
	memcpy(&split, raw, sizeof(split));
	return (struct descriptor){ .addr = le64toh(split.addr),
		.len = le32toh(split.len),
		.flags = le16toh(split.flags),
		.next = le16toh(split.next) };
}

/* The queue's own descriptor in `slot`. */
static bool copy_descriptor(struct virtq *q, unsigned slot, struct descriptor *d)
{
	uint8_t raw[DESC_SIZE];

	if (mem_window_read(&q->scratch->window, q->state->desc + (uint64_t)slot * DESC_SIZE, raw, sizeof(raw)) < 0)
		return false;
	*d = decode(q, raw);
	return true;
}

/*
 * Its bytes, in as many pieces as memory has there. A descriptor without bytes is nothing, and allowed: drivers may
 * well send one for a part of a request that is empty. A chain without any bytes is refused by who has seen all of it.
 */
static bool take_bytes(struct virtq *q, const struct descriptor *d)
{
	struct virtq_scratch *s = q->scratch;
	bool in = d->flags & VRING_DESC_F_WRITE;
	uint64_t gpa = d->addr, left = d->len;

	if (!in && s->in)
		return false;
	s->in = in;
	*(in ? &s->in_len : &s->out_len) += left;
	if (s->in_len + s->out_len > UINT32_MAX)
		return false;
	while (left) {
		struct mem_ref *ref = &s->refs[s->nr];

		if (s->nr == VIRTQ_MAX || mem_window_map(&s->window, gpa, left, in, s->held, ref) < 0)
			return false;
		/* Pieces of one memory behind each other have one reference, which goes when the chain does. */
		if (ref->memory)
			s->held = ref->memory;
		s->nr++;
		s->nr_out += !in;
		gpa += ref->len;
		left -= ref->len;
	}
	return true;
}

/* An indirect table (2.6.5.3, 2.8.7): split's is linked like the ring, packed's goes from first to last. */
static bool take_table(struct virtq *q, const struct descriptor *indirect)
{
	struct virtq_scratch *s = q->scratch;
	unsigned n = indirect->len / DESC_SIZE, i = 0;

	if (!q->indirect || (indirect->flags & VRING_DESC_F_NEXT) || indirect->len % DESC_SIZE || !n || n > VIRTQ_MAX)
		return false;
	if (mem_window_read(&s->window, indirect->addr, s->table, indirect->len) < 0)
		return false;
	for (unsigned seen = 0; seen < n; seen++) {
		struct descriptor d = decode(q, s->table[i]);

		if ((d.flags & VRING_DESC_F_INDIRECT) || !take_bytes(q, &d))
			return false;
		if (q->packed) {
			i++; /* NEXT means nothing here */
			continue;
		}
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		i = d.next;
		if (i >= n)
			return false;
	}
	return q->packed; /* split: linked for longer than the table is, a loop */
}

/* Split: descriptors linked from `head`; the last may be an indirect one, whose WRITE means nothing (2.6.5.3.2). */
static bool take_split(struct virtq *q, unsigned head)
{
	struct virtq_scratch *s = q->scratch;
	unsigned slot = head;
	struct descriptor d;

	s->id = (uint16_t)head;
	while (slot < q->state->size && s->slots < q->state->size && copy_descriptor(q, slot, &d)) {
		s->slots++;
		if (d.flags & VRING_DESC_F_INDIRECT)
			return take_table(q, &d);
		if (!take_bytes(q, &d))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		slot = d.next;
	}
	return false;
}

/* Packed: neighbours; the last has the buffer's id. An indirect one stands alone (2.8.19). */
static bool take_packed(struct virtq *q, unsigned head)
{
	struct virtq_scratch *s = q->scratch;
	unsigned slot = head;
	struct descriptor d;

	while (s->slots < q->state->size && copy_descriptor(q, slot, &d)) {
		s->slots++;
		s->id = d.id;
		if (d.flags & VRING_DESC_F_INDIRECT)
			return s->slots == 1 && take_table(q, &d);
		if (!take_bytes(q, &d))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (++slot == q->state->size)
			slot = 0;
	}
	return false;
}

static bool inherits(const struct virtq *q)
{
	return q->scratch->taken_heads < q->scratch->nr_heads;
}

/* The slot where the next chain begins. 1, 0: there is none, -EINVAL: the ring is wrong. */
static int next_head(struct virtq *q, struct mem_window *w, unsigned *head)
{
	const struct virtq_state *s = q->state;
	uint16_t word, ahead;

	if (inherits(q)) {
		*head = q->scratch->heads[q->scratch->taken_heads];
		return 1;
	}
	if (q->packed) {
		if (mem_window_load16(w, s->desc + (uint64_t)s->avail * DESC_SIZE + PACKED_FLAGS, &word) < 0)
			return -EINVAL;
		*head = s->avail;
		return !!(word & AVAIL_BIT) == s->avail_wrap && !!(word & USED_BIT) != s->avail_wrap;
	}
	if (mem_window_load16(w, s->driver + RING_IDX, &word) < 0)
		return -EINVAL;
	ahead = (uint16_t)(word - s->avail);
	if (!ahead)
		return 0;
	if (ahead > s->size)
		return -EINVAL;
	if (mem_window_load16(w, s->driver + RING_ENTRIES + 2ULL * (s->avail & (s->size - 1U)), &word) < 0)
		return -EINVAL;
	*head = word;
	return 1;
}

static void forget_scratch(struct virtq_scratch *s)
{
	for (unsigned i = 0; i < s->nr; i++)
		mem_unmap(&s->refs[i]);
	s->nr = 0;
}

static struct virtq_chain *chain_of_scratch(struct virtq *q)
{
	struct virtq_scratch *s = q->scratch;
	size_t refs = s->nr * sizeof(struct mem_ref);
	struct virtq_chain *chain = malloc(sizeof(*chain) + refs + s->nr * sizeof(struct iovec));

	if (!chain)
		return NULL;
	*chain = (struct virtq_chain){ .queue = q,
		.nr_out = s->nr_out,
		.nr_in = s->nr - s->nr_out,
		.out_len = s->out_len,
		.in_len = s->in_len,
		.id = s->id,
		.slots = s->slots,
		.generation = q->generation,
		.inherited = inherits(q),
		.refs = (struct mem_ref *)(void *)(chain + 1) };
	chain->out = (struct iovec *)(void *)(chain->refs + s->nr);
	chain->in = chain->out + s->nr_out;
	memcpy(chain->refs, s->refs, refs);
	for (unsigned i = 0; i < s->nr; i++)
		chain->out[i] = (struct iovec){ .iov_base = s->refs[i].host, .iov_len = s->refs[i].len };
	return chain;
}

/* The next chain into the scratch. 1, 0: there is none, -EINVAL: it is wrong. */
static int take(struct virtq *q)
{
	struct virtq_scratch *s = q->scratch;
	unsigned head;
	int rc;

	s->nr = s->nr_out = s->slots = 0;
	s->in = false;
	s->in_len = s->out_len = 0;
	s->held = NULL;
	mem_window_open(&s->window, q->mem);
	rc = next_head(q, &s->window, &head);
	if (rc > 0 && !(q->packed ? take_packed(q, head) : take_split(q, head)))
		rc = -EINVAL;
	mem_window_close(&s->window);
	return rc;
}

int virtq_pop(struct virtq *q, struct virtq_chain **out)
{
	struct virtq_scratch *s = q->scratch;
	struct virtq_state *state = q->state;
	int rc;

	*out = NULL;
	if (virtq_is_broken(q))
		return -EINVAL;
	if (!state->enabled || virtq_paused(q))
		return 0;
	rc = take(q);
	if (rc == 0)
		return 0;
	if (rc < 0 || !s->nr || __atomic_load_n(&q->owed, __ATOMIC_RELAXED) + s->slots > state->size) {
		forget_scratch(s);
		virtq_break(q);
		return -EINVAL;
	}
	*out = chain_of_scratch(q);
	if (!*out) {
		forget_scratch(s);
		return -ENOMEM;
	}
	__atomic_fetch_add(&q->owed, s->slots, __ATOMIC_RELAXED);
	__atomic_fetch_add(&q->in_flight, 1, __ATOMIC_RELAXED);
	/* One thread pops. */
	__atomic_store_n(&q->taken, q->taken + 1, __ATOMIC_RELAXED);
	if ((*out)->inherited)
		s->taken_heads++;
	else if (q->packed)
		packed_advance(q, &state->avail, &state->avail_wrap, s->slots);
	else
		state->avail++;
	return 1;
}

void virtq_inherit(struct virtq *q, const uint16_t *heads, unsigned n)
{
	struct virtq_scratch *s = q->scratch;

	assert(!q->packed && n <= q->max);
	memcpy(s->heads, heads, n * sizeof(*heads));
	s->nr_heads = n;
	s->taken_heads = 0;
}

bool virtq_empty(struct virtq *q)
{
	struct mem_window *w = &q->scratch->window;
	unsigned head;
	int rc;

	if (virtq_is_broken(q) || !q->state->enabled || virtq_paused(q))
		return true;
	mem_window_open(w, q->mem);
	rc = next_head(q, w, &head);
	mem_window_close(w);
	if (rc < 0)
		virtq_break(q);
	return rc <= 0;
}

/* ---- giving back ---- */

/* The last that is done with a chain: when in_flight falls, nothing of it is touched any more. */
static void chain_free(struct virtq_chain *chain)
{
	struct virtq *q = chain->queue;

	/* All that the device may have written, whatever it says that it has. */
	for (unsigned i = 0; q->mem->watch && i < chain->nr_in; i++) {
		const struct mem_ref *ref = &chain->refs[chain->nr_out + i];

		mem_dirty(q->mem, ref->gpa, ref->len);
	}
	for (unsigned i = 0; i < chain->nr_out + chain->nr_in; i++) {
		if (chain->refs[i].memory)
			mem_unmap(&chain->refs[i]);
	}
	free(chain);
	__atomic_fetch_sub(&q->in_flight, 1, __ATOMIC_RELEASE);
}

void virtq_drop(struct virtq_chain *chain)
{
	chain_free(chain);
}

void virtq_unpop(struct virtq_chain *chain)
{
	struct virtq *q = chain->queue;
	struct virtq_state *state = q->state;

	__atomic_store_n(&q->taken, q->taken - 1, __ATOMIC_RELAXED);
	if (chain->generation == q->generation) {
		__atomic_fetch_sub(&q->owed, chain->slots, __ATOMIC_RELAXED);
		if (chain->inherited) {
			q->scratch->taken_heads--;
		} else if (!q->packed) {
			state->avail--;
		} else {
			if (state->avail < chain->slots) {
				state->avail = (uint16_t)(state->avail + state->size);
				state->avail_wrap ^= 1;
			}
			state->avail = (uint16_t)(state->avail - chain->slots);
		}
	}
	chain_free(chain);
}

/* All but what makes it visible. */
static int put_used(struct virtq *q, uint16_t slot, const struct virtq_chain *chain, uint32_t written)
{
	struct vring_used_elem elem = { .id = htole32(chain->id), .len = htole32(written) };
	struct vring_packed_desc desc = { .len = htole32(written), .id = htole16(chain->id) };

	if (!q->packed)
		return mem_window_write(&q->giving, q->state->device + RING_ENTRIES + (uint64_t)slot * USED_ELEM_SIZE,
			&elem, sizeof(elem));
	/* Length and id lie side by side; the flags behind them come later and by themselves. */
	return mem_window_write(&q->giving,
		q->state->desc + (uint64_t)slot * DESC_SIZE + offsetof(struct vring_packed_desc, len), &desc.len,
		PACKED_FLAGS - offsetof(struct vring_packed_desc, len));
}

static int put_flags(struct virtq *q, uint16_t slot, uint8_t wrap, uint32_t written)
{
	uint16_t flags = (wrap ? AVAIL_BIT | USED_BIT : 0) | (written ? VRING_DESC_F_WRITE : 0);

	return mem_window_store16(&q->giving, q->state->desc + (uint64_t)slot * DESC_SIZE + PACKED_FLAGS, flags);
}

static uint32_t written_to(const struct virtq_chain *chain, uint32_t written)
{
	return written < chain->in_len ? written : (uint32_t)chain->in_len;
}

/*
 * Writes them to the used side. The driver may offer slots again as soon as it sees them used, and the thread that
 * takes may see that at once: so they are no longer owed before they are visible.
 */
static int give_split(struct virtq *q, struct virtq_chain **chains, const uint32_t *written, unsigned n)
{
	struct virtq_state *s = q->state;

	for (unsigned i = 0; i < n; i++) {
		if (put_used(q, (uint16_t)((s->used + i) & (s->size - 1U)), chains[i],
			    written_to(chains[i], written[i])) < 0)
			return -EINVAL;
		__atomic_fetch_sub(&q->owed, chains[i]->slots, __ATOMIC_RELAXED);
	}
	s->used = (uint16_t)(s->used + n);
	q->fresh += n;
	return mem_window_store16(&q->giving, s->device + RING_IDX, s->used);
}

/* The first one's flags come last: until they do, the driver looks at none of them. */
static int give_packed(struct virtq *q, struct virtq_chain **chains, const uint32_t *written, unsigned n)
{
	struct virtq_state *s = q->state;
	uint16_t first = s->used;
	uint8_t wrap = s->used_wrap;

	for (unsigned i = 0; i < n; i++) {
		uint32_t len = written_to(chains[i], written[i]);

		if (put_used(q, s->used, chains[i], len) < 0 || (i && put_flags(q, s->used, s->used_wrap, len) < 0))
			return -EINVAL;
		__atomic_fetch_sub(&q->owed, chains[i]->slots, __ATOMIC_RELAXED);
		packed_advance(q, &s->used, &s->used_wrap, chains[i]->slots);
		q->fresh += chains[i]->slots;
	}
	return put_flags(q, first, wrap, written_to(chains[0], written[0]));
}

void virtq_push_all(struct virtq_chain **chains, const uint32_t *written, unsigned n)
{
	struct virtq *q;
	int rc = 0;

	if (!n)
		return;
	q = chains[0]->queue;
	/* Taken in one life, all of them: by one thread, between whose calls a life does not end. */
	pthread_mutex_lock(&q->lock);
	if (chains[0]->generation == q->generation && !virtq_is_broken(q)) {
		mem_window_open(&q->giving, q->mem);
		rc = q->packed ? give_packed(q, chains, written, n) : give_split(q, chains, written, n);
		mem_window_close(&q->giving);
	}
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		virtq_break(q);
	for (unsigned i = 0; i < n; i++)
		chain_free(chains[i]);
}

void virtq_push(struct virtq_chain *chain, uint32_t written)
{
	virtq_push_all(&chain, &written, 1);
}

/* ---- telling each other ---- */

/* Whether the driver, that asked for one when `event` is used, is to be told now that all before `now` is. */
static bool passed(const struct virtq *q, uint16_t event, uint16_t now)
{
	return (uint16_t)(now - event - 1) < q->fresh;
}

static int split_wish(struct virtq *q, bool *wish)
{
	const struct virtq_state *s = q->state;
	uint16_t word;
	int rc;

	if (q->event_idx) {
		rc = mem_window_load16(&q->giving, s->driver + RING_ENTRIES + 2ULL * s->size, &word);
		*wish = passed(q, word, s->used);
	} else {
		rc = mem_window_load16(&q->giving, s->driver, &word);
		*wish = !(word & VRING_AVAIL_F_NO_INTERRUPT);
	}
	return rc;
}

/* Flags and event of the driver's are one word, so they fit each other. */
static int packed_wish(struct virtq *q, bool *wish)
{
	const struct virtq_state *s = q->state;
	uint16_t flags, event;
	uint32_t word;
	int rc = mem_window_load32(&q->giving, s->driver, &word);

	flags = word >> 16 & 3;
	event = word & ((1U << VRING_PACKED_EVENT_F_WRAP_CTR) - 1);
	/* Of the round before ours, seen from this one. */
	if ((word >> VRING_PACKED_EVENT_F_WRAP_CTR & 1) != s->used_wrap)
		event = (uint16_t)(event - s->size);
	if (q->event_idx && flags == VRING_PACKED_EVENT_FLAG_DESC)
		*wish = passed(q, event, s->used);
	else
		*wish = flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	return rc;
}

void virtq_notify(struct virtq *q)
{
	bool wish = false;
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	if (q->fresh && !virtq_is_broken(q)) {
		/* Point 3 above: what was pushed is visible before the wish is read. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		mem_window_open(&q->giving, q->mem);
		rc = q->packed ? packed_wish(q, &wish) : split_wish(q, &wish);
		mem_window_close(&q->giving);
		q->fresh = 0;
	}
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		virtq_break(q);
	else if (wish && q->interrupt)
		q->interrupt(q->arg);
}

static int put_wish(struct virtq *q, struct mem_window *w, bool kicks)
{
	const struct virtq_state *s = q->state;
	uint32_t flags = kicks ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE, event = 0;

	if (!q->packed && q->event_idx)
		return mem_window_store16(w, s->device + RING_ENTRIES + (uint64_t)s->size * USED_ELEM_SIZE, s->avail);
	if (!q->packed)
		return mem_window_store16(w, s->device, kicks ? 0 : VRING_USED_F_NO_NOTIFY);
	if (q->event_idx) {
		flags = VRING_PACKED_EVENT_FLAG_DESC;
		event = s->avail | (uint32_t)s->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;
	}
	return mem_window_store32(w, s->device, flags << 16 | event);
}

/* False: the ring is where there is no memory, and the queue broken. */
static bool make_wish(struct virtq *q, bool kicks)
{
	struct mem_window *w = &q->scratch->window;
	int rc;

	mem_window_open(w, q->mem);
	rc = put_wish(q, w, kicks);
	mem_window_close(w);
	if (rc < 0)
		virtq_break(q);
	return rc == 0;
}

void virtq_kicks_off(struct virtq *q)
{
	if (q->event_idx || !q->state->enabled || virtq_is_broken(q) || virtq_paused(q))
		return;
	(void)make_wish(q, false);
}

bool virtq_kicks_on(struct virtq *q)
{
	if (!q->state->enabled || virtq_is_broken(q) || virtq_paused(q))
		return false;
	if (!make_wish(q, true))
		return false;
	/* Point 4 above: the wish is visible before the ring is looked at. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !virtq_empty(q);
}

void virtq_pause(struct virtq *q, bool on)
{
	__atomic_store_n(&q->paused, on, __ATOMIC_RELEASE);
}

bool virtq_paused(const struct virtq *q)
{
	return __atomic_load_n(&q->paused, __ATOMIC_ACQUIRE);
}

/* ---- life ---- */

static void power_on(struct virtq *q)
{
	*q->state =
		(struct virtq_state){ .size = q->max, .avail_wrap = 1, .used_wrap = 1, .vector = VIRTIO_MSI_NO_VECTOR };
}

int virtq_init(struct virtq *q, struct mem *mem, struct virtq_state *state, uint16_t max)
{
	assert(max && max <= VIRTQ_MAX);
	q->scratch = malloc(sizeof(*q->scratch));
	if (!q->scratch)
		return -ENOMEM;
	q->scratch->nr = q->scratch->nr_heads = q->scratch->taken_heads = 0;
	q->scratch->window = (struct mem_window){ 0 };
	q->state = state;
	q->mem = mem;
	q->max = max;
	q->packed = q->event_idx = q->indirect = q->paused = q->broken = false;
	q->faults = 0;
	q->giving = (struct mem_window){ 0 };
	q->in_flight = q->fresh = q->owed = q->generation = 0;
	pthread_mutex_init(&q->lock, NULL);
	power_on(q);
	return 0;
}

void virtq_fini(struct virtq *q)
{
	if (!q->scratch)
		return;
	assert(!__atomic_load_n(&q->in_flight, __ATOMIC_ACQUIRE));
	free(q->scratch);
	q->scratch = NULL;
	pthread_mutex_destroy(&q->lock);
}

/* Aligned, and not around the end of the address space, so that sums of addresses and offsets are what they seem. */
static bool area_fits(uint64_t gpa, uint64_t align, uint64_t len)
{
	return gpa % align == 0 && gpa + (len - 1) >= gpa;
}

static bool rings_fit(const struct virtq *q)
{
	const struct virtq_state *s = q->state;
	uint64_t n = s->size;

	if (!n || n > q->max)
		return false;
	if (q->packed)
		return s->avail < n && s->used < n && s->avail_wrap <= 1 && s->used_wrap <= 1 &&
		       area_fits(s->desc, 16, n * DESC_SIZE) && area_fits(s->driver, 4, 4) &&
		       area_fits(s->device, 4, 4);
	return !(n & (n - 1)) && area_fits(s->desc, 16, n * DESC_SIZE) &&
	       area_fits(s->driver, 2, RING_ENTRIES + n * 2 + 2) &&
	       area_fits(s->device, 4, RING_ENTRIES + n * USED_ELEM_SIZE + 2);
}

int virtq_start(struct virtq *q, uint64_t features)
{
	bool fit;

	/* Threads that still push chains of an earlier life look on. */
	pthread_mutex_lock(&q->lock);
	q->packed = features >> VIRTIO_F_RING_PACKED & 1;
	q->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	q->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	q->fresh = 0;
	__atomic_store_n(&q->owed, 0, __ATOMIC_RELAXED);
	fit = rings_fit(q);
	q->state->enabled = fit;
	pthread_mutex_unlock(&q->lock);
	if (!fit)
		virtq_break(q);
	return fit ? 0 : -EINVAL;
}

void virtq_stop(struct virtq *q)
{
	/* Whoever pushes has done so, or will find its chain to be of an earlier life. */
	pthread_mutex_lock(&q->lock);
	q->generation++;
	__atomic_store_n(&q->broken, false, __ATOMIC_RELAXED);
	virtq_pause(q, false);
	q->fresh = 0;
	q->scratch->nr_heads = q->scratch->taken_heads = 0;
	power_on(q);
	pthread_mutex_unlock(&q->lock);
}

/* ---- copying ---- */

/* The bytes of `iov` from `at` on, to or from buf, at most n. */
static uint64_t copy(const struct iovec *iov, unsigned nr, uint64_t at, void *to, const void *from, uint64_t n)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < nr && done < n; i++) {
		uint64_t part = iov[i].iov_len;

		if (at >= part) {
			at -= part;
			continue;
		}
		part = part - at < n - done ? part - at : n - done;
		if (to)
			memcpy((uint8_t *)to + done, (const uint8_t *)iov[i].iov_base + at, part);
		else
			memcpy((uint8_t *)iov[i].iov_base + at, (const uint8_t *)from + done, part);
		done += part;
		at = 0;
	}
	return done;
}

void virtq_discard(struct virtq_chain *chain)
{
	for (unsigned i = 0; i < chain->nr_in; i++) {
		const struct mem_ref *ref = &chain->refs[chain->nr_out + i];

		/* It was memory when it was taken; where it has gone since, there is nothing to give. */
		(void)!mem_discard(chain->queue->mem, ref->gpa, ref->len);
	}
}

uint64_t virtq_read(struct virtq_chain *chain, void *buf, uint64_t n)
{
	uint64_t done = copy(chain->out, chain->nr_out, chain->out_at, buf, NULL, n);

	chain->out_at += done;
	return done;
}

uint64_t virtq_write(struct virtq_chain *chain, const void *buf, uint64_t n)
{
	uint64_t done = copy(chain->in, chain->nr_in, chain->in_at, NULL, buf, n);

	chain->in_at += done;
	return done;
}
