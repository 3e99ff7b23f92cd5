/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * held.h - places that the kernel's own chips answer for.
 *
 * The bus never calls them; they are on it so that they are listed and nothing else can be put there.
 */
#ifndef TRAPLINE_DEV_HELD_H
#define TRAPLINE_DEV_HELD_H

#include <stdint.h>

#include "core/device.h"

struct held_place {
	const char *name; /* static: outlives the device */
	enum space space;
	uint64_t base, size;
};

/* Up to DEVICE_REGIONS places. The table is read in create() only. */
struct held_config {
	const struct held_place *places;
	unsigned n;
};

/*
 * One region a place, in the table's order, already placed. Config: struct held_config. create() gives -EINVAL for more
 * places than a device may have.
 */
extern const struct device_type held_type;

#endif
