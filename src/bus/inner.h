/* SPDX-License-Identifier: BSD-2-Clause */
/* inner.h - what the bus consists of, for the files that it is made of: bus.c, access.c and edit.c. */
#ifndef TRAPLINE_BUS_INNER_H
#define TRAPLINE_BUS_INNER_H

#include "bus/map.h"

#define ALIAS_DEPTH 4 /* regions on the way to an answer; what lies deeper, or in a circle, is unclaimed */

struct bus {
	struct map *map;  /* RCU */
	uint64_t changes; /* atomic: see bus_changes() */
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

/* Whether this thread may access and edit: bus_thread_enter(). */
bool bus_thread_entered(void);

/* Around whatever needs the map to stay as it is. They do not nest. */
void bus_edit_lock(struct bus *bus);
void bus_edit_unlock(struct bus *bus);
/* With the edit lock held: makes the hole that a live region leaves in a map, and takes its counts home. */
void bus_make_hole(struct bus *bus, struct map *map, struct region *region);

/* A counter that reads 0, for a region; 0: there is none left. */
uint32_t bus_counter_get(struct bus *bus);
/* Gives it back, when no map shows it any more. With retired_lock held. */
void bus_counter_put(struct bus *bus, uint32_t counter);

#endif
