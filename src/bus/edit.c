/* SPDX-License-Identifier: BSD-2-Clause */
/* edit.c - the writers: who changes the map, and waits for those who still read an older one. bus.c has the theory. */
#include "bus/inner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define RETIRED_MAX  256        /* maps, and */
#define RETIRED_SIZE (16 << 20) /* bytes of them, that may await a grace period before editors do */

static __thread struct {
	bool editing;       /* holds an edit lock */
	struct bus *edited; /* has retired a map of it since the last bus_throttle() */
} self;

void bus_edit_lock(struct bus *bus)
{
	assert(bus_thread_entered() && !self.editing);
	pthread_mutex_lock(&bus->edit_lock);
	self.editing = true;
}

void bus_edit_unlock(struct bus *bus)
{
	self.editing = false;
	pthread_mutex_unlock(&bus->edit_lock);
}

/* Whether the guest's accesses to a space begin elsewhere, and aliases lead there. */
static bool is_hidden(const struct bus *bus, enum space space)
{
	return bus->listener && bus->listener->hidden >> space & 1;
}

/*
 * Where the guest writes to reach the `len` bytes at *addr of *space in this map, in which the alias `gone` counts no
 * more. False: it does not get there.
 */
static bool find_way(const struct bus *bus, const struct map *map, const struct region *gone, unsigned len,
	enum space *space, uint64_t *addr, unsigned depth)
{
	const struct region *alias;

	if (!is_hidden(bus, *space))
		return true;
	for (uint32_t i = 0; depth && (alias = map_next(map, &i));) {
		const struct entry *e = &map->entries[i];
		uint64_t offset = *addr - alias->target_base, at = e->base + offset;
		enum space from = (enum space)e->space;

		if (e->kind != REGION_ALIAS || alias == gone || alias->target_space != *space || offset > e->extent ||
			len - 1 > e->extent - offset || !find_way(bus, map, gone, len, &from, &at, depth - 1))
			continue;
		*space = from;
		*addr = at;
		return true;
	}
	return false;
}

static void bell_leave(struct bus *bus, struct region *region, struct doorbell *bell)
{
	if (bell->assigned)
		bus->listener->doorbell_del(bus->listener, region, bell);
	bell->assigned = false;
}

/* `space` and `base` are the region's in that map. */
static bool bell_place(const struct bus *bus, const struct map *map, const struct region *gone,
	const struct region *region, const struct doorbell *bell, enum space *space, uint64_t *addr)
{
	*space = region->space;
	*addr = region->base + bell->offset;
	return find_way(bus, map, gone, bell->len ? bell->len : 1, space, addr, ALIAS_DEPTH - 1);
}

/* A region that the map shows. */
static void bell_enter(struct bus *bus, struct region *region, struct doorbell *bell)
{
	if (!bell->assigned && bell_place(bus, bus->map, NULL, region, bell, &bell->space, &bell->addr))
		bell->assigned = !bus->listener->doorbell_add(bus->listener, region, bell);
}

/*
 * Before aliases change: doorbells that the guest will reach elsewhere, or no more, are let go of. Of regions that
 * change themselves, that is done already.
 */
static void aliased_leave(struct bus *bus, const struct map *next, const struct region *gone)
{
	struct region *region;
	enum space space;
	uint64_t addr;

	for (uint32_t i = 0; (region = map_next(bus->map, &i));) {
		if (!is_hidden(bus, region->space))
			continue;
		for (struct doorbell *bell = region->doorbells; bell; bell = bell->next) {
			if (!bell_place(bus, next, gone, region, bell, &space, &addr) || space != bell->space ||
				addr != bell->addr)
				bell_leave(bus, region, bell);
		}
	}
}

/* Afterwards. */
static void aliased_enter(struct bus *bus)
{
	struct region *region;

	for (uint32_t i = 0; (region = map_next(bus->map, &i));) {
		for (struct doorbell *bell = region->doorbells; bell && is_hidden(bus, region->space);
			bell = bell->next)
			bell_enter(bus, region, bell);
	}
}

/* Before a region leaves its place: what the listener did for it there is undone. */
static void listener_leave(struct bus *bus, struct region *region)
{
	struct bus_listener *listener = bus->listener;

	for (struct doorbell *bell = region->doorbells; bell; bell = bell->next)
		bell_leave(bus, region, bell);
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
	if (region->coalesce && (region->kind == REGION_TRAP || region->kind == REGION_ROM) &&
		!is_hidden(bus, region->space))
		region->coalesced = !listener->coalesce_add(listener, region);
	for (struct doorbell *bell = region->doorbells; bell; bell = bell->next)
		bell_enter(bus, region, bell);
}

struct batch {
	struct change *changes;
	unsigned n, effective, live; /* once judged, those that end live come first, in order */
	bool aliases;                /* some of the effective are */
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
			e->counter = bus_counter_get(bus);
		if (c->live && !e->counter)
			return -ENOMEM;
		batch->live += c->live;
		c->effective = c->live != r->live || e->kind != r->kind || e->base != r->base || e->space != r->space;
		batch->effective += c->effective;
		batch->aliases |= c->effective && e->kind == REGION_ALIAS && bus->listener && bus->listener->hidden;
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
			bus_counter_put(bus, e->counter);
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

/* After the change, and before the grace period for what it has left behind begins. */
static void count_change(struct bus *bus)
{
	__atomic_fetch_add(&bus->changes, 1, __ATOMIC_RELEASE);
}

void bus_make_hole(struct bus *bus, struct map *map, struct region *region)
{
	STORE(&map_find(map, region->space, region->base)->region, NULL);
	region->past = region_counts(region);
	region->counter = 0;
	STORE(&region->live, false);
	__atomic_fetch_add(&region->removals, 1, __ATOMIC_RELAXED);
	bus->holes |= region->memory != NULL;
	count_change(bus);
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
	if (batch->aliases)
		aliased_leave(bus, map, NULL);
	rcu_publish(&bus->map, map);
	for (c = batch->changes; c < end; c++) {
		struct region *region = c->entry.region;

		if (region->live && !c->live)
			bus_make_hole(bus, old, region);
		region->space = c->entry.space;
		region->base = c->entry.base;
		region->kind = c->entry.kind;
		region->bus = bus;
		region->counter = c->live ? c->entry.counter : 0;
		STORE(&region->live, c->live);
	}
	bus->holes = false;
	count_change(bus);
	retire(bus, old);
	for (c = batch->changes; c < end; c++) {
		if (c->effective && c->live)
			(void)listener_enter_memory(bus, c->entry.region);
	}
	for (c = batch->changes; c < end; c++) {
		if (c->effective && c->live)
			listener_enter(bus, c->entry.region);
	}
	if (batch->aliases)
		aliased_enter(bus);
}

/* Undoes what a batch took, if it failed. */
static void batch_close(struct bus *bus, struct batch *batch, bool failed)
{
	for (unsigned i = 0; i < batch->n; i++) {
		struct change *c = &batch->changes[i];

		c->entry.region->pend = NULL;
		if (failed && c->entry.counter && !c->entry.region->live) {
			pthread_mutex_lock(&bus->retired_lock);
			bus_counter_put(bus, c->entry.counter);
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

	bus_edit_lock(bus);
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
	bus_edit_unlock(bus);
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
	bus_edit_lock(bus);
	if (region->live) {
		listener_leave(bus, region);
		if (region->kind == REGION_ALIAS)
			aliased_leave(bus, bus->map, region);
		bus_make_hole(bus, bus->map, region);
		if (region->kind == REGION_ALIAS)
			aliased_enter(bus);
	}
	bus_edit_unlock(bus);
}

void bus_drain(struct bus *bus)
{
	struct map *map, *old;

	assert(!rcu_read_ongoing());
	bus_edit_lock(bus);
	old = bus->map;
	/* So that memory goes even if no edit follows; if there is none for a map, it goes with the next. */
	if (bus->holes && map_merge(old, NULL, 0, &map, NULL, NULL) == 0) {
		rcu_publish(&bus->map, map);
		bus->holes = false;
		count_change(bus);
		retire(bus, old);
	}
	bus_edit_unlock(bus);
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

	bus_edit_lock(bus);
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
	bus_edit_unlock(bus);
	return r;
}

int bus_arm(struct bus *bus, struct region *region, struct doorbell *bell)
{
	unsigned len = bell->len ? bell->len : 1;
	int r = bell->region ? -EEXIST : 0;

	if (bell->fd < 0 || len > 8 || (len & (len - 1)) || (bell->offset & (len - 1)) ||
		bell->offset >= region->size || len > region->size - bell->offset || (bell->match && !bell->len))
		return -EINVAL;
	bus_edit_lock(bus);
	if (!r) {
		bell->region = region;
		bell->next = region->doorbells;
		region->doorbells = bell;
		bell->assigned = false;
		if (bus->listener && region->live)
			bell_enter(bus, region, bell);
	}
	bus_edit_unlock(bus);
	return r;
}

void bus_disarm(struct bus *bus, struct doorbell *bell)
{
	bus_edit_lock(bus);
	if (bell->region) {
		struct doorbell **link = &bell->region->doorbells;

		while (*link != bell)
			link = &(*link)->next;
		*link = bell->next;
		bell_leave(bus, bell->region, bell);
		bell->region = NULL;
	}
	bus_edit_unlock(bus);
}
