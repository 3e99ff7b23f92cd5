/* SPDX-License-Identifier: BSD-2-Clause */
/* access.c - the readers: who looks a region up and calls its handler. bus.c has the theory. */
#include "bus/inner.h"
#include "bus/width.h"

#include <assert.h>
#include <string.h>

#define ACCESS_MAX 8 /* bytes of one access */

_Static_assert(sizeof(struct entry) == 64, "an entry fills a cache line");

static __thread bool entered; /* registered with RCU */

void bus_thread_enter(void)
{
	assert(!entered);
	rcu_register_thread();
	entered = true;
}

void bus_thread_leave(void)
{
	assert(entered && !rcu_read_ongoing());
	entered = false;
	rcu_unregister_thread();
}

bool bus_thread_entered(void)
{
	return entered;
}

void bus_read_lock(void)
{
	assert(entered);
	rcu_read_lock();
}

void bus_read_unlock(void)
{
	rcu_read_unlock();
}

/* One writer; readers elsewhere may be a little late. */
static inline void bump(uint64_t *count)
{
	STORE(count, LOAD(count) + 1);
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

	assert(entered && from->bus == bus);
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

uint64_t bus_changes(struct bus *bus)
{
	assert(rcu_read_ongoing());
	return __atomic_load_n(&bus->changes, __ATOMIC_ACQUIRE);
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
