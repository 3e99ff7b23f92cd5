/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost.c - what all back ends that serve virtqueues need: where a ring lies in this process. */
#include "host/vhost.h"

#include <errno.h>
#include <string.h>

int vhost_map_set(struct vhost_map *map, const struct vhost_range *ranges, unsigned n)
{
	if (n > VHOST_RANGES)
		return -E2BIG;
	memcpy(map->range, ranges, n * sizeof(*ranges));
	map->n = n;
	return 0;
}

static void *find(const struct vhost_map *map, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < map->n; i++) {
		const struct vhost_range *r = &map->range[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->len && len <= r->len - (gpa - r->gpa))
			return (uint8_t *)r->host + (gpa - r->gpa);
	}
	return NULL;
}

/* 2.6, 2.7.13 and 2.8.10: flags, index, ring and the event's index; or an event suppression structure each. */
int vhost_map_ring(const struct vhost_map *map, const struct vhost_ring *ring, bool packed, struct vhost_parts *parts)
{
	uint64_t n = ring->size;

	parts->desc = find(map, ring->desc, 16 * n);
	parts->driver = find(map, ring->driver, packed ? 4 : 6 + 2 * n);
	parts->device = find(map, ring->device, packed ? 4 : 6 + 8 * n);
	return parts->desc && parts->driver && parts->device ? 0 : -EFAULT;
}
