/* SPDX-License-Identifier: BSD-2-Clause */
/* held.c - a device that only holds places; see held.h. */
#include "dev/held.h"

#include <errno.h>
#include <stdlib.h>

struct held {
	struct device dev;
	struct region regions[DEVICE_REGIONS];
};

static int held_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct held_config *c = config;
	struct held *held;

	if (c->n > DEVICE_REGIONS)
		return error_set(
			err, -EINVAL, "%s: %u places, of %u that a device may have", name, c->n, DEVICE_REGIONS);
	held = calloc(1, sizeof(*held));
	if (!held)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&held->dev, &held_type, vm, name);
	for (unsigned i = 0; i < c->n; i++) {
		const struct held_place *place = &c->places[i];
		struct region *region = &held->regions[i];

		device_region(&held->dev, region, place->name, place->size, WIDTH_1, NULL);
		region->kind = REGION_HELD;
		region->space = place->space;
		region->base = place->base;
	}
	*out = &held->dev;
	return 0;
}

static void held_destroy(struct device *dev)
{
	device_fini(dev);
	free(container_of(dev, struct held, dev));
}

const struct device_type held_type = {
	.name = "held",
	.create = held_create,
	.destroy = held_destroy,
};
