/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * map.h - what the bus looked like at one moment: the structure that lookups walk.
 *
 * A map is built, published, and never changed again but for one word: a removal clears entry->region. The
 * entries of both spaces lie sorted in one array. A table of hints, hashed by page, names for each page the
 * first entry that touches it, and where in the page the second begins. Choosing between the two takes no
 * branch: one that is predicted wrongly waits for a cache miss to be told so, and costs more than the lookup.
 * Whether a hint is right, the entry itself tells; so the table needs no keys, stays small, and may be
 * incomplete: what no hint leads to is found by binary search. Pages come in levels, each 16 times as coarse;
 * an entry is hinted at on the finest at which it touches no more than 16 pages, and a lookup tries the levels
 * in use, the finest first. So the cost hardly depends on how many regions there are, nor on how wide they are.
 */
#ifndef TRAPLINE_BUS_MAP_H
#define TRAPLINE_BUS_MAP_H

#include "bus/bus.h"
#include "bus/rcu.h"

/*
 * A cache line with all that a call of the handler needs, copied from the region: a lookup touches nothing of
 * the region but its counter, and a reader of an old map sees a place and a kind that belong together while
 * the region is being moved or switched.
 */
struct entry {
	uint64_t base, extent; /* extent: of the last byte, from base */
	struct region *region; /* atomic; NULL once removed */
	trap_fn *fn;
	void *dev;
	pthread_mutex_t *lock;
	struct memory *memory; /* its map holds a reference */
	uint8_t space, kind, widths;
	uint8_t plain;    /* widths at which any aligned access is one call of the handler */
	uint32_t counter; /* kept through moves */
};

/* What an edit makes of one region, however many lines of it name it. */
struct change {
	struct entry entry;
	bool live, effective; /* effective: not all is as it was */
};

struct map {
	uint32_t *hints; /* index of a page's first entry << PLACE_BITS, + 4096 - the second's place; 0: none */
	uint8_t finest[NR_SPACES];  /* log2 of a page, at the finest level in use */
	uint8_t hash_shift;         /* 64 - log2 of how many hints */
	uint16_t levels[NR_SPACES]; /* bit set: in use */
	uint32_t n;                 /* entries, the sentinel at 0 among them, which decodes nothing */
	uint32_t pages;             /* hinted at, or would be */
	size_t bytes;
	struct bus *bus;
	struct rcu_head rcu;
	_Alignas(64) struct entry entries[]; /* from 1 on; sorted by space and base */
};

/* A place in a page, in units of 1/4096 of it. */
#define PLACE_BITS 12

_Static_assert(BUS_REGIONS < 1U << (32 - PLACE_BITS), "an index fits in a hint");

static inline uint32_t place_in_page(uint64_t addr, unsigned page_shift)
{
	return (uint32_t)(addr << (64 - page_shift) >> (64 - PLACE_BITS));
}

/* Multiplication by the golden ratio spreads consecutive pages evenly. */
static inline uint32_t *map_hint(const struct map *map, uint64_t page)
{
	return &map->hints[page * 0x9e3779b97f4a7c15 >> map->hash_shift];
}

static inline bool entry_decodes(const struct entry *e, unsigned space, uint64_t addr)
{
	return addr - e->base <= e->extent && e->space == space;
}

/* Does an access call a handler? Or does the entry show memory to it? Or neither. */
static inline bool entry_calls(const struct entry *e, bool write)
{
	return e->kind == REGION_TRAP || (e->kind == REGION_ROM && write && e->fn);
}

static inline bool entry_shows_memory(const struct entry *e, bool write)
{
	return e->kind == REGION_RAM || (e->kind == REGION_ROM && !write);
}

/* Fills in the widths. False if the entry is none that the contract of bus_add() allows. */
bool entry_well_formed(struct entry *e);

/* The rest of map_find(): crowded pages, coarser levels, colliding hints; and where nobody is. */
struct entry *map_search(struct map *map, unsigned space, uint64_t addr);

/* The entry that decodes `addr`, even if it was removed (entry->region is NULL then); or NULL. */
static inline struct entry *map_find(struct map *map, unsigned space, uint64_t addr)
{
	unsigned shift = map->finest[space];
	/* From the place of the second entry on, the sum carries into the index. */
	struct entry *e = &map->entries[(*map_hint(map, addr >> shift) + place_in_page(addr, shift)) >> PLACE_BITS];

	return __builtin_expect(entry_decodes(e, space, addr), true) ? e : map_search(map, space, addr);
}

/* How far it is from `addr`, where nobody is, to the next entry; UINT64_MAX: there is none. */
uint64_t map_gap(struct map *map, unsigned space, uint64_t addr);

/* The live region behind the i'th entry, in order of space and base; NULL behind the last. */
struct region *map_next(const struct map *map, uint32_t *i);

/* An empty map with room for `n` entries that are hinted at on `pages` pages in all. NULL: no memory. */
struct map *map_new(struct bus *bus, uint32_t n, uint32_t pages);
/* Puts those that are live first, and in a map's order. */
void map_sort(struct change *changes, unsigned n);
/*
 * A new map: the live entries of `map` but for those whose region has `pend` set, and of the changes the first
 * `n`, which are live and in order. 0, -ENOMEM, or -EEXIST and the two sides of a conflict.
 */
int map_merge(struct map *map, const struct change *changes, unsigned n, struct map **out, struct region **mine,
	struct region **other);
/* Gives its references back. For a map that no reader can see: never published, or a grace period ago. */
void map_free(struct map *map);

#endif
