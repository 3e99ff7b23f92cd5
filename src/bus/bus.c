/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bus.c - the one registry and the one dispatch: their theory, what is counted, and who takes part. The readers that
 * it tells of are in access.c, the writers in edit.c.
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
 * Who keeps what a section told for a later one (bus_changes()) relies on this: each change is counted behind it and
 * before the grace period for what it leaves behind. A section that still finds the old count was open when that period
 * began, or it would have been ordered behind the counting; so the map that the kept answer is from, which the same
 * count was read before, is not freed until the section ends. And it is no older than a section may see.
 *
 * Entries are copies: a reader of an old map works with the base, the kind and the handler that were true in it.
 * Memory behind RAM and ROM is referenced by each map that shows it, so it outlives the last reader; a hole keeps
 * its reference until the next edit, or bus_drain(), leaves it out.
 */
#include "bus/inner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void memory_get(struct memory *mem)
{
	__atomic_fetch_add(&mem->refs, 1, __ATOMIC_RELAXED);
}

void memory_put(struct memory *mem)
{
	if (__atomic_fetch_sub(&mem->refs, 1, __ATOMIC_ACQ_REL) == 1)
		mem->release(mem);
}

/* ---- counters ---- */

/* In units of 8 bytes. Of all this, only pages that hold a counter in use are ever touched. */
#define LANE_SIZE     (2 * (size_t)BUS_REGIONS)
#define COUNTERS_SIZE ((BUS_LANES + 4) * LANE_SIZE)
#define COUNTERS_FEW  4096

static uint64_t *counter_at(const struct bus *bus, unsigned lane, uint32_t counter)
{
	return bus->counters + lane * LANE_SIZE + (lane < BUS_LANES ? 2 : 8) * (size_t)counter;
}

/* Huge pages suit the counters of thousands of regions; of a PC's few dozen they would hold one for each lane. */
static void counters_advise(struct bus *bus, int advice)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)bus->counters;
	size_t head = -begin & (page - 1);

	(void)madvise((char *)bus->counters + head, (COUNTERS_SIZE * sizeof(uint64_t) - head) & -page, advice);
}

uint32_t bus_counter_get(struct bus *bus)
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

void bus_counter_put(struct bus *bus, uint32_t counter)
{
	for (unsigned lane = 0; lane <= BUS_LANES; lane++)
		memset(counter_at(bus, lane, counter), 0, 2 * sizeof(uint64_t));
	bus->counters[2 * (size_t)counter] = bus->free_counter;
	bus->free_counter = counter;
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

/* ---- initiators, lists, life ---- */

void bus_attach(struct bus *bus, struct initiator *from)
{
	bus_edit_lock(bus);
	from->bus = bus;
	from->lane = 0;
	while (from->lane < BUS_LANES && bus->lanes & 1U << from->lane)
		from->lane++;
	from->counters = counter_at(bus, from->lane, 0);
	bus->lanes |= 1U << from->lane;
	bus_edit_unlock(bus);
}

void bus_detach(struct initiator *from)
{
	bus_edit_lock(from->bus);
	if (from->lane < BUS_LANES)
		from->bus->lanes &= ~(1U << from->lane);
	bus_edit_unlock(from->bus);
	from->bus = NULL;
}

void bus_for_each(struct bus *bus, enum space space, void (*fn)(struct region *region, void *arg), void *arg)
{
	struct region *region;

	bus_edit_lock(bus);
	for (uint32_t i = 0; (region = map_next(bus->map, &i));) {
		if (region->space == space)
			fn(region, arg);
	}
	bus_edit_unlock(bus);
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
		bus_make_hole(bus, bus->map, region);
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
