/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bus.c - the one registry and the one dispatch.
 *
 * A guest moves a BAR by an access that traps, so the thread that must change the map is at that moment in the
 * middle of using it, and so may be all others. No lock can be held over a handler and taken by an edit.
 *
 * Readers. An access is an RCU read section that lasts over lookup and handler. It takes no lock but the
 * region's own, and writes no cache line that another initiator writes on its way to another device: each
 * initiator counts in itself, and by region in a lane of counters of its own, densely, so that counting hardly
 * costs cache. A counter is a region's while it is live; it is free again when no map shows it any more.
 *
 * Writers. An edit, under the edit lock, merges the live entries of the map with what changes into a new map,
 * publishes that by one store, and leaves the old one to call_rcu(), which frees it when all sections open now
 * have closed. It waits for nobody, so a handler may edit, its own region included. The edit lock is the
 * innermost: whoever holds it takes no other but the leaf that guards the count of retired maps.
 *
 * Removal needs no memory: it clears the region's pointer in the current map, and whoever looks next finds a
 * hole. Older maps still show the region, but only sections that are open already can reach those, and for them
 * bus_drain() waits. The next edit leaves the hole out.
 *
 * Who may wait. bus_drain() waits for a grace period, thus for every handler in flight; inside one it would wait
 * for itself, so it asserts that no section is open. For the same reason the brake on maps that retire faster
 * than grace periods pass (one blocked handler delays them all) is not in the edit, but in bus_throttle(), which
 * a vCPU calls with no section open, before it enters the guest again.
 *
 * Ordering. A map is written before it is published with release, and reached by a load with acquire, so a reader
 * sees it whole. entry->region goes from a pointer to NULL once and hands nothing over, so its load and store
 * need no order: a section that still loaded the pointer was open when drain's grace period began, or else that
 * period ordered the NULL before its loads. A piece loads the map anew, so it sees what its own thread changed in
 * the piece before. What handlers share is ordered by the region's lock.
 *
 * Entries are copies: a reader of an old map works with the base, the kind and the handler that were true in it.
 * Memory behind RAM and ROM is referenced by each map that shows it, so it outlives the last reader; a hole keeps
 * its reference until the next edit, or bus_drain(), leaves it out.
 */
#include "bus/map.h"
#include "bus/width.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ACCESS_MAX   8          /* bytes of one access */
#define ALIAS_DEPTH  4          /* regions on the way to an answer; what lies deeper, or in a circle, is unclaimed */
#define RETIRED_MAX  256        /* maps, and */
#define RETIRED_SIZE (16 << 20) /* bytes of them, that may await a grace period before editors do */

struct bus {
	struct map *map; /* RCU */
	pthread_mutex_t edit_lock;
	struct bus_listener *listener; /* edit_lock, as the next two */
	unsigned lanes;                /* bit set: an initiator owns it */
	bool holes;                    /* the map refers to memory of a removed region */
	uint64_t *counters;            /* by lane, region, trap.write; those of the shared lane a cache line apart */
	pthread_mutex_t retired_lock;  /* for the rest; a leaf */
	pthread_cond_t retired_fewer;
	unsigned retired;
	size_t retired_size;
	uint32_t free_counter, fresh_counter; /* a list through the first lane; from here on all are free */
};

static __thread struct {
	bool entered;       /* registered with RCU */
	bool editing;       /* holds an edit lock */
	struct bus *edited; /* has retired a map of it since the last bus_throttle() */
} self;

void bus_thread_enter(void)
{
	assert(!self.entered);
	rcu_register_thread();
	self.entered = true;
}

void bus_thread_leave(void)
{
	assert(self.entered && !rcu_read_ongoing());
	self.entered = false;
	rcu_unregister_thread();
}

void bus_read_lock(void)
{
	assert(self.entered);
	rcu_read_lock();
}

void bus_read_unlock(void)
{
	rcu_read_unlock();
}

void memory_get(struct memory *mem)
{
	__atomic_fetch_add(&mem->refs, 1, __ATOMIC_RELAXED);
}

void memory_put(struct memory *mem)
{
	if (__atomic_fetch_sub(&mem->refs, 1, __ATOMIC_ACQ_REL) == 1)
		mem->release(mem);
}

/* ---- access ---- */

/* One writer; readers elsewhere may be a little late. */
static inline void bump(uint64_t *count)
{
	STORE(count, LOAD(count) + 1);
}

/* In units of 8 bytes. Of all this, only pages that hold a counter in use are ever touched. */
#define LANE_SIZE     (2 * (size_t)BUS_REGIONS)
#define COUNTERS_SIZE ((BUS_LANES + 4) * LANE_SIZE)
#define COUNTERS_FEW  4096

_Static_assert(sizeof(struct entry) == 64, "an entry fills a cache line");

static uint64_t *counter_at(const struct bus *bus, unsigned lane, uint32_t counter)
{
	return bus->counters + lane * LANE_SIZE + (lane < BUS_LANES ? 2 : 8) * (size_t)counter;
}

static inline void count_piece(struct initiator *from, const struct entry *e, enum space space, bool write)
{
	if (from->lane < BUS_LANES)
		bump(&from->counters[2 * (size_t)e->counter + write]);
	else
		__atomic_fetch_add(&from->counters[8 * (size_t)e->counter + write], 1, __ATOMIC_RELAXED);
	bump(&from->served[write][space]);
}

/*
 * Counts a run of bytes that nobody claimed, by address too: "space saving", where a newcomer to a full list
 * displaces the rarest and inherits its count, so that what is hit often stays.
 */
static void count_stray(struct initiator *from, enum space space, uint64_t addr, bool wrong_width, bool write)
{
	struct stray *s = from->strays, *rarest = s, *end = s + BUS_STRAYS;

	bump(write ? &from->unclaimed_writes[space] : &from->unclaimed_reads[space]);
	if (wrong_width)
		bump(&from->wrong_width[space]);
	for (; s < end && !(s->count && s->addr == addr && s->space == space); s++)
		rarest = s->count < rarest->count ? s : rarest;
	s = s < end ? s : rarest;
	STORE(&s->addr, addr);
	STORE(&s->space, space);
	bump(&s->count);
}

static inline void call_handler(
	const struct entry *e, struct initiator *from, uint64_t offset, void *data, unsigned len, bool write)
{
	struct trap trap = { offset, write ? load_value(data, len) : UINT64_MAX, (uint8_t)len, write, from };
	pthread_mutex_t *lock = e->lock;

	if (lock)
		pthread_mutex_lock(lock);
	e->fn(e->dev, &trap);
	if (lock)
		pthread_mutex_unlock(lock);
	if (!write)
		store_value(data, trap.value, len);
}

/* Some bytes of an access and who answers them. */
struct piece {
	const struct entry *entry; /* NULL: nobody */
	struct region *region;
	uint64_t offset, len;
	unsigned removals; /* of the region, when it was found */
	bool wrong_width;  /* nobody, because no width of the region covers them */
};

static inline uint8_t *host_of(const struct piece *p)
{
	return (uint8_t *)p->entry->memory->host + p->region->memory_offset + p->offset;
}

/*
 * Who answers at `addr`, through aliases, and for how many of `len` bytes: to the end of the region or of the gap,
 * and of each alias on the way.
 */
static struct piece resolve(struct bus *bus, enum space space, uint64_t addr, uint64_t len)
{
	struct map *map = rcu_load(&bus->map);

	for (unsigned depth = 0; depth < ALIAS_DEPTH; depth++) {
		const struct entry *e = map_find(map, space, addr);
		struct region *region = e ? LOAD(&e->region) : NULL;
		uint64_t last = e ? e->extent - (addr - e->base) : map_gap(map, space, addr) - 1;

		len = len - 1 > last ? last + 1 : len;
		if (!region)
			break;
		if (e->kind != REGION_ALIAS)
			return (struct piece){ e, region, addr - e->base, len, LOAD(&region->removals), false };
		space = region->target_space;
		addr = region->target_base + (addr - e->base);
	}
	return (struct piece){ .len = len };
}

/* The next piece of an access: somebody's, at a width of theirs, or a run of bytes that are nobody's. */
static struct piece cut(struct bus *bus, enum space space, uint64_t addr, unsigned len, bool write)
{
	struct piece p = resolve(bus, space, addr, len);
	unsigned width, skip = 0;

	if (!p.entry || !entry_calls(p.entry, write))
		return p;
	do
		width = widest(p.entry->widths, p.offset + skip, p.len - skip);
	while (!width && ++skip < p.len);
	if (skip)
		return (struct piece){ .len = skip, .wrong_width = true };
	p.len = width;
	return p;
}

static void serve(const struct piece *p, struct initiator *from, enum space space, void *data, bool write)
{
	count_piece(from, p->entry, space, write);
	if (entry_calls(p->entry, write))
		call_handler(p->entry, from, p->offset, data, (unsigned)p->len, write);
	else if (entry_shows_memory(p->entry, write))
		copy_memory(host_of(p), data, p->len, write);
}

/*
 * The whole of the contract; bus_access() itself does the plain case. plan[] keeps the piece found at each byte of
 * the access: it serves that byte's calls for all of the count, unless its region is removed.
 */
static __attribute__((noinline)) unsigned access_pieces(struct bus *bus, struct initiator *from, enum space space,
	uint64_t addr, uint8_t *data, unsigned len, unsigned count, bool write)
{
	struct piece plan[ACCESS_MAX] = { 0 };
	unsigned claimed = 0, counted = 0;

	assert(len - 1 < ACCESS_MAX);
	if (!write)
		memset(data, 0xff, (size_t)len * count);
	for (; count--; data += len) {
		const struct piece *before = NULL;

		for (unsigned pos = 0; pos < len; pos += (unsigned)before->len) {
			struct piece *p = &plan[pos];

			if (addr + pos < addr)
				*p = (struct piece){ .len = 1 }; /* space ends; it does not wrap */
			else if (!p->entry || p->removals != LOAD(&p->region->removals))
				*p = cut(bus, space, addr + pos, len - pos, write);
			for (unsigned n = 1; !p->entry && n < p->len; n++) {
				if (plan[pos + n].entry)
					p->len = n; /* behind what is nobody's now, somebody serves on */
			}
			if (p->entry) {
				serve(p, from, space, data + pos, write);
				claimed += (unsigned)p->len;
				counted++;
			} else if (!before || before->entry || before->wrong_width != p->wrong_width) {
				count_stray(from, space, addr + pos, p->wrong_width, write);
				counted++;
			}
			before = p;
		}
	}
	STORE(&from->split, LOAD(&from->split) + counted - 1);
	return claimed;
}

unsigned bus_access(struct bus *bus, struct initiator *from, enum space space, uint64_t addr, void *data, unsigned len,
	unsigned count, bool write)
{
	const struct entry *e;

	assert(self.entered && from->bus == bus);
	rcu_read_lock();
	e = map_find(rcu_load(&bus->map), space, addr);
	/* One call of one handler for all of it is what nearly every access is. */
	if (e && (e->plain & len) && !((len | (addr - e->base)) & (len - 1)) && count == 1 && LOAD(&e->region)) {
		count_piece(from, e, space, write);
		call_handler(e, from, addr - e->base, data, len, write);
	} else {
		len = access_pieces(bus, from, space, addr, data, len, count, write);
	}
	rcu_read_unlock();
	return len;
}

void *bus_memory(struct bus *bus, uint64_t gpa, uint64_t *len, bool write, struct memory **mem)
{
	struct piece p = { 0 };

	assert(rcu_read_ongoing());
	if (*len)
		p = resolve(bus, SPACE_MMIO, gpa, *len);
	if (!p.entry || !entry_shows_memory(p.entry, write))
		return NULL;
	*len = p.len;
	if (mem)
		*mem = p.entry->memory;
	return host_of(&p);
}

/* ---- edits ---- */

static void edit_lock(struct bus *bus)
{
	assert(self.entered && !self.editing);
	pthread_mutex_lock(&bus->edit_lock);
	self.editing = true;
}

static void edit_unlock(struct bus *bus)
{
	self.editing = false;
	pthread_mutex_unlock(&bus->edit_lock);
}

/* Before a region leaves its place: what the listener did for it there is undone. */
static void listener_leave(struct bus *bus, struct region *region)
{
	struct bus_listener *listener = bus->listener;

	for (struct doorbell *bell = region->doorbells; bell; bell = bell->next) {
		if (bell->assigned)
			listener->doorbell_del(listener, region, bell);
		bell->assigned = false;
	}
	if (region->coalesced)
		listener->coalesce_del(listener, region);
	if (region->slotted)
		listener->memory_del(listener, region);
	region->coalesced = region->slotted = false;
}

/*
 * After the map shows regions at their places, in two steps: KVM takes long over a memory slot while what was told it
 * of a doorbell or a posted write before awaits its grace period, so all slots come first.
 */

/* -errno if its memory has no slot; the bus copies then. */
static int listener_enter_memory(struct bus *bus, struct region *region)
{
	int r;

	if (!bus->listener || (region->kind != REGION_RAM && region->kind != REGION_ROM))
		return 0;
	r = bus->listener->memory_add(bus->listener, region);
	region->slotted = !r;
	return r;
}

static void listener_enter(struct bus *bus, struct region *region)
{
	struct bus_listener *listener = bus->listener;

	if (!listener)
		return;
	if (region->coalesce && (region->kind == REGION_TRAP || region->kind == REGION_ROM))
		region->coalesced = !listener->coalesce_add(listener, region);
	for (struct doorbell *bell = region->doorbells; bell; bell = bell->next)
		bell->assigned = !listener->doorbell_add(listener, region, bell);
}

struct batch {
	struct change *changes;
	unsigned n, effective, live; /* once judged, those that end live come first, in order */
	struct region *mine, *other; /* whom a failure is about */
};

/* Applies one edit. While the batch lasts, region->pend tells the regions that it changes. */
static int batch_edit(struct batch *batch, const struct edit *edit)
{
	struct region *r = batch->mine = batch->other = edit->region;
	struct change *c = r->pend;

	if (!c) {
		c = r->pend = &batch->changes[batch->n++];
		c->live = r->live;
		c->entry = (struct entry){ .region = r,
			.base = r->base,
			.extent = r->size - 1,
			.fn = r->fn,
			.dev = r->dev,
			.lock = r->lock,
			.memory = r->memory,
			.space = r->space,
			.kind = r->kind,
			.counter = r->counter };
	}
	if (edit->op == EDIT_KIND) {
		if (edit->kind > REGION_ROM || c->entry.kind > REGION_ROM)
			return -EINVAL;
		c->entry.kind = edit->kind;
		return 0;
	}
	if (edit->op == EDIT_ADD && c->live)
		return -EEXIST;
	if (edit->op == EDIT_MOVE) {
		c->entry.space = edit->space;
		c->entry.base = edit->base;
	}
	c->live = edit->op != EDIT_REMOVE;
	return 0;
}

/* Huge pages suit the counters of thousands of regions; of a PC's few dozen they would hold one for each lane. */
static void counters_advise(struct bus *bus, int advice)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)bus->counters;
	size_t head = -begin & (page - 1);

	(void)madvise((char *)bus->counters + head, (COUNTERS_SIZE * sizeof(uint64_t) - head) & -page, advice);
}

static uint32_t counter_get(struct bus *bus)
{
	uint32_t counter;

	pthread_mutex_lock(&bus->retired_lock);
	counter = bus->free_counter;
	if (counter) {
		bus->free_counter = (uint32_t)bus->counters[2 * (size_t)counter];
		bus->counters[2 * (size_t)counter] = 0;
	} else if (bus->fresh_counter < BUS_REGIONS) {
		counter = bus->fresh_counter++;
		if (counter == COUNTERS_FEW)
			counters_advise(bus, MADV_HUGEPAGE);
	}
	pthread_mutex_unlock(&bus->retired_lock);
	return counter;
}

/* With retired_lock held. */
static void counter_put(struct bus *bus, uint32_t counter)
{
	for (unsigned lane = 0; lane <= BUS_LANES; lane++)
		memset(counter_at(bus, lane, counter), 0, 2 * sizeof(uint64_t));
	bus->counters[2 * (size_t)counter] = bus->free_counter;
	bus->free_counter = counter;
}

/* Each region by itself; map_merge() judges them together. */
static int batch_judge(struct bus *bus, struct batch *batch)
{
	for (unsigned i = 0; i < batch->n; i++) {
		struct change *c = &batch->changes[i];
		struct entry *e = &c->entry;
		const struct region *r = batch->mine = e->region;

		if (c->live && !entry_well_formed(e))
			return -EINVAL;
		if (c->live && !e->counter)
			e->counter = counter_get(bus);
		if (c->live && !e->counter)
			return -ENOMEM;
		batch->live += c->live;
		c->effective = c->live != r->live || e->kind != r->kind || e->base != r->base || e->space != r->space;
		batch->effective += c->effective;
	}
	map_sort(batch->changes, batch->n);
	return 0;
}

/* No reader is left in the map; so what it has a hole for, no map shows any more. */
static void map_retired(struct rcu_head *head)
{
	struct map *map = (struct map *)((char *)head - offsetof(struct map, rcu));
	struct bus *bus = map->bus;
	size_t bytes = map->bytes;

	pthread_mutex_lock(&bus->retired_lock);
	for (const struct entry *e = map->entries + 1; e < map->entries + map->n; e++) {
		if (!e->region)
			counter_put(bus, e->counter);
	}
	pthread_mutex_unlock(&bus->retired_lock);
	map_free(map);
	pthread_mutex_lock(&bus->retired_lock);
	bus->retired--;
	bus->retired_size -= bytes;
	pthread_cond_broadcast(&bus->retired_fewer);
	pthread_mutex_unlock(&bus->retired_lock);
}

static void retire(struct bus *bus, struct map *old)
{
	pthread_mutex_lock(&bus->retired_lock);
	bus->retired++;
	bus->retired_size += old->bytes;
	pthread_mutex_unlock(&bus->retired_lock);
	self.edited = bus;
	call_rcu(&old->rcu, map_retired);
}

/* Makes the hole that a live region leaves in a map, and takes its counts home. */
static void make_hole(struct bus *bus, struct map *map, struct region *region)
{
	STORE(&map_find(map, region->space, region->base)->region, NULL);
	region->past = region_counts(region);
	region->counter = 0;
	STORE(&region->live, false);
	__atomic_fetch_add(&region->removals, 1, __ATOMIC_RELAXED);
	bus->holes |= region->memory != NULL;
}

/* Deassign, publish, assign. None of it can fail. */
static void commit(struct bus *bus, const struct batch *batch, struct map *map)
{
	const struct change *c, *end = batch->changes + batch->n;
	struct map *old = bus->map;

	for (c = batch->changes; c < end; c++) {
		if (c->effective)
			listener_leave(bus, c->entry.region);
	}
	rcu_publish(&bus->map, map);
	for (c = batch->changes; c < end; c++) {
		struct region *region = c->entry.region;

		if (region->live && !c->live)
			make_hole(bus, old, region);
		region->space = c->entry.space;
		region->base = c->entry.base;
		region->kind = c->entry.kind;
		region->bus = bus;
		region->counter = c->live ? c->entry.counter : 0;
		STORE(&region->live, c->live);
	}
	bus->holes = false;
	retire(bus, old);
	for (c = batch->changes; c < end; c++) {
		if (c->effective && c->live)
			(void)listener_enter_memory(bus, c->entry.region);
	}
	for (c = batch->changes; c < end; c++) {
		if (c->effective && c->live)
			listener_enter(bus, c->entry.region);
	}
}

/* Undoes what a batch took, if it failed. */
static void batch_close(struct bus *bus, struct batch *batch, bool failed)
{
	for (unsigned i = 0; i < batch->n; i++) {
		struct change *c = &batch->changes[i];

		c->entry.region->pend = NULL;
		if (failed && c->entry.counter && !c->entry.region->live) {
			pthread_mutex_lock(&bus->retired_lock);
			counter_put(bus, c->entry.counter);
			pthread_mutex_unlock(&bus->retired_lock);
		}
	}
	free(batch->changes);
}

int bus_edit(struct bus *bus, const struct edit *edits, unsigned n, struct region **mine, struct region **other)
{
	struct batch batch = { .changes = calloc(n + 1, sizeof(*batch.changes)) };
	struct map *map = NULL;
	int r = batch.changes ? 0 : -ENOMEM;

	edit_lock(bus);
	for (unsigned i = 0; i < n && !r; i++)
		r = batch_edit(&batch, &edits[i]);
	if (!r)
		r = batch_judge(bus, &batch);
	if (!r && batch.effective) {
		r = map_merge(bus->map, batch.changes, batch.live, &map, &batch.mine, &batch.other);
		if (!r)
			commit(bus, &batch, map);
	}
	batch_close(bus, &batch, r != 0);
	edit_unlock(bus);
	if (mine)
		*mine = r == -EEXIST || r == -EINVAL ? batch.mine : NULL;
	if (other)
		*other = r == -EEXIST ? batch.other : NULL;
	return r;
}

int bus_add(struct bus *bus, struct region *region)
{
	return bus_edit(bus, &(struct edit){ .op = EDIT_ADD, .region = region }, 1, NULL, NULL);
}

void bus_remove(struct bus *bus, struct region *region)
{
	edit_lock(bus);
	if (region->live) {
		listener_leave(bus, region);
		make_hole(bus, bus->map, region);
	}
	edit_unlock(bus);
}

void bus_drain(struct bus *bus)
{
	struct map *map, *old;

	assert(!rcu_read_ongoing());
	edit_lock(bus);
	old = bus->map;
	/* So that memory goes even if no edit follows; if there is none for a map, it goes with the next. */
	if (bus->holes && map_merge(old, NULL, 0, &map, NULL, NULL) == 0) {
		rcu_publish(&bus->map, map);
		bus->holes = false;
		retire(bus, old);
	}
	edit_unlock(bus);
	synchronize_rcu();
}

void bus_throttle(struct bus *bus)
{
	if (self.edited != bus)
		return;
	assert(!rcu_read_ongoing() && !self.editing);
	self.edited = NULL;
	pthread_mutex_lock(&bus->retired_lock);
	while (bus->retired > RETIRED_MAX || (bus->retired > 1 && bus->retired_size > RETIRED_SIZE))
		pthread_cond_wait(&bus->retired_fewer, &bus->retired_lock);
	pthread_mutex_unlock(&bus->retired_lock);
}

unsigned bus_retired(struct bus *bus)
{
	unsigned retired;

	pthread_mutex_lock(&bus->retired_lock);
	retired = bus->retired;
	pthread_mutex_unlock(&bus->retired_lock);
	return retired;
}

/* ---- listener and doorbells ---- */

int bus_listen(struct bus *bus, struct bus_listener *listener)
{
	struct region *region;
	int r = 0;

	edit_lock(bus);
	for (uint32_t i = 0; (region = map_next(bus->map, &i));)
		listener_leave(bus, region);
	bus->listener = listener;
	for (uint32_t i = 0; !r && (region = map_next(bus->map, &i));)
		r = listener_enter_memory(bus, region);
	for (uint32_t i = 0; !r && (region = map_next(bus->map, &i));)
		listener_enter(bus, region);
	for (uint32_t i = 0; r && (region = map_next(bus->map, &i));)
		listener_leave(bus, region);
	if (r)
		bus->listener = NULL;
	edit_unlock(bus);
	return r;
}

int bus_arm(struct bus *bus, struct region *region, struct doorbell *bell)
{
	unsigned len = bell->len ? bell->len : 1;
	int r = bell->region ? -EEXIST : 0;

	if (bell->fd < 0 || len > 8 || (len & (len - 1)) || (bell->offset & (len - 1)) ||
		bell->offset >= region->size || len > region->size - bell->offset || (bell->match && !bell->len))
		return -EINVAL;
	edit_lock(bus);
	if (!r) {
		bell->region = region;
		bell->next = region->doorbells;
		region->doorbells = bell;
		bell->assigned =
			bus->listener && region->live && !bus->listener->doorbell_add(bus->listener, region, bell);
	}
	edit_unlock(bus);
	return r;
}

void bus_disarm(struct bus *bus, struct doorbell *bell)
{
	edit_lock(bus);
	if (bell->region) {
		struct doorbell **link = &bell->region->doorbells;

		while (*link != bell)
			link = &(*link)->next;
		*link = bell->next;
		if (bell->assigned)
			bus->listener->doorbell_del(bus->listener, bell->region, bell);
		bell->region = NULL;
		bell->assigned = false;
	}
	edit_unlock(bus);
}

/* ---- initiators, lists, life ---- */

void bus_attach(struct bus *bus, struct initiator *from)
{
	edit_lock(bus);
	from->bus = bus;
	from->lane = 0;
	while (from->lane < BUS_LANES && bus->lanes & 1U << from->lane)
		from->lane++;
	from->counters = counter_at(bus, from->lane, 0);
	bus->lanes |= 1U << from->lane;
	edit_unlock(bus);
}

void bus_detach(struct initiator *from)
{
	edit_lock(from->bus);
	if (from->lane < BUS_LANES)
		from->bus->lanes &= ~(1U << from->lane);
	edit_unlock(from->bus);
	from->bus = NULL;
}

void bus_for_each(struct bus *bus, enum space space, void (*fn)(struct region *region, void *arg), void *arg)
{
	struct region *region;

	edit_lock(bus);
	for (uint32_t i = 0; (region = map_next(bus->map, &i));) {
		if (region->space == space)
			fn(region, arg);
	}
	edit_unlock(bus);
}

struct region_count region_counts(const struct region *region)
{
	struct region_count sum = region->past;

	for (unsigned lane = 0; lane <= BUS_LANES && region->counter; lane++) {
		const uint64_t *count = counter_at(region->bus, lane, region->counter);

		sum.reads += LOAD(&count[false]);
		sum.writes += LOAD(&count[true]);
	}
	return sum;
}

struct bus *bus_new(void)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return NULL;
	bus->map = map_new(bus, 0, 0);
	bus->counters = calloc(COUNTERS_SIZE, sizeof(uint64_t));
	bus->fresh_counter = 1;
	if (!bus->map || !bus->counters) {
		map_free(bus->map);
		free(bus->counters);
		free(bus);
		return NULL;
	}
	counters_advise(bus, MADV_NOHUGEPAGE);
	pthread_mutex_init(&bus->edit_lock, NULL);
	pthread_mutex_init(&bus->retired_lock, NULL);
	pthread_cond_init(&bus->retired_fewer, NULL);
	rcu_start_worker();
	return bus;
}

void bus_free(struct bus *bus)
{
	struct region *region;

	if (!bus)
		return;
	bus_listen(bus, NULL);
	for (uint32_t i = 0; (region = map_next(bus->map, &i));)
		make_hole(bus, bus->map, region);
	pthread_mutex_lock(&bus->retired_lock);
	while (bus->retired)
		pthread_cond_wait(&bus->retired_fewer, &bus->retired_lock);
	pthread_mutex_unlock(&bus->retired_lock);
	map_free(bus->map);
	free(bus->counters);
	pthread_cond_destroy(&bus->retired_fewer);
	pthread_mutex_destroy(&bus->retired_lock);
	pthread_mutex_destroy(&bus->edit_lock);
	free(bus);
}
