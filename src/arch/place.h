/* SPDX-License-Identifier: BSD-2-Clause */
/* place.h - a machine's table: which device stands where, and what its wires are soldered to. */
#ifndef TRAPLINE_ARCH_PLACE_H
#define TRAPLINE_ARCH_PLACE_H

#include "core/device.h"
#include "core/vm.h"

struct place {
	enum space space;
	uint64_t base;
	bool given; /* false: the type places this region itself */
};

#define PIO(port)                                                                                                      \
	{                                                                                                              \
		SPACE_PIO, (port), true                                                                                \
	}
#define MMIO(addr)                                                                                                     \
	{                                                                                                              \
		SPACE_MMIO, (addr), true                                                                               \
	}

/* One line of a board's data sheet. */
struct placement {
	const char *name; /* unique in the machine: "serial0" */
	const struct device_type *type;
	const void *config;              /* the type's own; NULL where it has none */
	struct place at[DEVICE_REGIONS]; /* one for each region, in the order in which the type declares them */
	uint32_t irqs[DEVICE_IRQS];      /* likewise; IRQ_NONE: not connected */
};

/*
 * Makes every device of the table, gives each region and interrupt its place, and adds them all in one publish.
 * 0 or -errno with a line in `err`; on failure nothing of them is left.
 */
int place_devices(struct vm *vm, const struct placement *table, unsigned n, struct error *err)
	__attribute__((warn_unused_result));

#endif
