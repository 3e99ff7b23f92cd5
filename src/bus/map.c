/* SPDX-License-Identifier: BSD-2-Clause */
/* map.c - building, searching and freeing maps; see map.h for what they are. */
#include "bus/map.h"
#include "bus/width.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL_BITS 4
#define NEAR       8 /* entries from a hint on that are tried */

static bool in_space(enum space space, uint64_t base, uint64_t extent)
{
	return space < NR_SPACES && base + extent >= base && (space != SPACE_PIO || base + extent <= UINT16_MAX);
}

/* Widths beyond the region's size can never be used, and so do not count. */
bool entry_well_formed(struct entry *e)
{
	const struct region *r = e->region;

	if (!r->size || r->widths > WIDTH_ANY || !in_space(e->space, e->base, e->extent))
		return false;
	e->widths = (r->widths ? r->widths : WIDTH_ANY) & (highest_bit(r->size) * 2 - 1);
	e->plain = e->kind == REGION_TRAP ? e->widths & ((r->size & -r->size) * 2 - 1) : 0;
	if (entry_calls(e, true) && (!e->widths || e->base & (highest_bit(e->widths) - 1)))
		return false;
	switch (e->kind) {
	case REGION_TRAP:
		return e->fn;
	case REGION_RAM:
	case REGION_ROM:
		return e->memory && r->memory_offset <= e->memory->size &&
		       r->size <= e->memory->size - r->memory_offset;
	case REGION_HELD:
		return true;
	case REGION_ALIAS:
		return in_space(r->target_space, r->target_base, e->extent);
	}
	return false;
}

/* A page of level 0 is 8 ports, or 4 KiB of memory. */
static unsigned page_shift(unsigned space, unsigned level)
{
	return (space == SPACE_PIO ? 3 : 12) + level * LEVEL_BITS;
}

/* How many pages of `level` an entry touches, less one. */
static uint64_t more_pages(const struct entry *e, unsigned level)
{
	unsigned shift = page_shift(e->space, level);

	return ((e->base + e->extent) >> shift) - (e->base >> shift);
}

static unsigned level_of(const struct entry *e)
{
	unsigned level = 0;

	while (more_pages(e, level) >> LEVEL_BITS)
		level++;
	return level;
}

static uint32_t pages_of(const struct entry *e)
{
	return (uint32_t)more_pages(e, level_of(e)) + 1;
}

static int entry_order(const struct entry *a, const struct entry *b)
{
	if (a->space != b->space)
		return a->space < b->space ? -1 : 1;
	return a->base < b->base ? -1 : a->base > b->base;
}

static int change_order(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return x->live != y->live ? y->live - x->live : entry_order(&x->entry, &y->entry);
}

void map_sort(struct change *changes, unsigned n)
{
	qsort(changes, n, sizeof(*changes), change_order);
}

/* One allocation: the map, its entries, its hints, of which half or more stay empty. */
struct map *map_new(struct bus *bus, uint32_t n, uint32_t pages)
{
	size_t hints = 16, head = sizeof(struct map) + (n + 1) * sizeof(struct entry);
	struct map *map;

	while (hints < 2 * (size_t)pages)
		hints *= 2;
	map = aligned_alloc(_Alignof(struct map), head + hints * sizeof(*map->hints));
	if (!map)
		return NULL;
	*map = (struct map){ .bus = bus, .n = 1, .hash_shift = (uint8_t)(64 - __builtin_ctzl(hints)) };
	for (unsigned space = 0; space < NR_SPACES; space++)
		map->finest[space] = (uint8_t)page_shift(space, 0);
	map->entries[0] = (struct entry){ .space = NR_SPACES };
	map->bytes = head + hints * sizeof(*map->hints);
	map->hints = memset((char *)map + head, 0, hints * sizeof(*map->hints));
	return map;
}

/* Of two pages with one hash, the second takes the place beside; a third goes without. */
static uint32_t *beside(const struct map *map, const uint32_t *hint)
{
	return &map->hints[(size_t)(hint - map->hints) ^ 1];
}

/* Appends a copy; entries come in order. */
static void push(struct map *map, const struct entry *entry)
{
	unsigned space = entry->space, level = level_of(entry), shift = page_shift(space, level);
	uint32_t pages = pages_of(entry);

	for (uint64_t page = entry->base >> shift, end = page + pages; page < end; page++) {
		uint32_t *hint = map_hint(map, page);
		uint32_t first = *hint >> PLACE_BITS;
		const struct entry *e = &map->entries[first];

		if (first && e->space == space && (e->base + e->extent) >> shift == page) {
			if (first + 1 == map->n) /* our place is the first behind the byte before us */
				*hint = ((first + 1) << PLACE_BITS) - 1 - place_in_page(entry->base - 1, shift);
			continue;
		}
		if (first)
			hint = beside(map, hint);
		if (!*hint)
			*hint = map->n << PLACE_BITS;
	}
	map->levels[space] |= (uint16_t)(1U << level);
	map->finest[space] = (uint8_t)page_shift(space, (unsigned)__builtin_ctz(map->levels[space]));
	map->pages += pages;
	map->entries[map->n++] = *entry;
	if (entry->memory)
		memory_get(entry->memory);
}

int map_merge(struct map *map, const struct change *changes, unsigned n, struct map **out, struct region **mine,
	struct region **other)
{
	const struct entry *old = map->entries + 1, *old_end = map->entries + map->n;
	uint32_t pages = map->pages, i;

	for (i = 0; i < n; i++)
		pages += pages_of(&changes[i].entry);
	map = *out = map_new(map->bus, map->n + n, pages);
	if (!map)
		return -ENOMEM;
	i = 0;
	for (const struct entry *e, *prev = map->entries;; prev = e) {
		while (old < old_end && (!old->region || old->region->pend))
			old++;
		if (i < n && (old == old_end || entry_order(&changes[i].entry, old) < 0))
			e = &changes[i++].entry;
		else if (old < old_end)
			e = old++;
		else
			return 0;
		if (prev->space == e->space && prev->extent >= e->base - prev->base) {
			*mine = e->region->pend ? e->region : prev->region;
			*other = e->region->pend ? prev->region : e->region;
			map_free(map);
			return -EEXIST;
		}
		push(map, e);
	}
}

struct region *map_next(const struct map *map, uint32_t *i)
{
	while (++*i < map->n) {
		if (map->entries[*i].region)
			return map->entries[*i].region;
	}
	return NULL;
}

/* The last that does not lie behind `addr`; the sentinel if all do. */
static struct entry *map_floor(struct map *map, unsigned space, uint64_t addr)
{
	struct entry *e = map->entries;

	for (uint32_t n = map->n; n > 1; n -= n / 2) {
		struct entry *half = e + n / 2;

		e = half->space < space || (half->space == space && half->base <= addr) ? half : e;
	}
	return e;
}

struct entry *map_search(struct map *map, unsigned space, uint64_t addr)
{
	struct entry *e, *first, *end = &map->entries[map->n];

	for (unsigned levels = map->levels[space]; levels; levels &= levels - 1) {
		const uint32_t *hint = map_hint(map, addr >> page_shift(space, (unsigned)__builtin_ctz(levels)));

		for (int i = 0; i < 2; i++, hint = beside(map, hint)) {
			first = &map->entries[*hint >> PLACE_BITS];
			for (e = first; e < end && e < first + NEAR && e->base <= addr; e++) {
				if (entry_decodes(e, space, addr))
					return e;
			}
		}
	}
	e = map_floor(map, space, addr);
	return entry_decodes(e, space, addr) ? e : NULL;
}

uint64_t map_gap(struct map *map, unsigned space, uint64_t addr)
{
	const struct entry *e = map_floor(map, space, addr) + 1;

	return e < &map->entries[map->n] && e->space == space ? e->base - addr : UINT64_MAX;
}

void map_free(struct map *map)
{
	for (uint32_t i = 1; map && i < map->n; i++) {
		if (map->entries[i].memory)
			memory_put(map->entries[i].memory);
	}
	free(map);
}
