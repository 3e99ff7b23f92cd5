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

/* A range that no device may be moved into, though no region is there: what a bridge hands out, for one. */
struct place_window {
	const char *name;
	enum space space;
	uint64_t base, size; /* bytes; 0: there is none */
};

/* An interrupt line that somebody has who is no device of the table. */
struct place_line {
	unsigned line;
	const char *holder;
	bool shared; /* with level-triggered devices */
};

/* What the user would have elsewhere, and what the machine allows. */
struct place_moves {
	/*
	 * "DEV[.REGION]=SPACE:ADDR[,irq=N[,N...]]" each, applied in this order; the caller's. Without a region the
	 * device's first one goes to ADDR, and those that the table has in the same space keep their distance from it;
	 * those of another space stay. The interrupts are the device's in the order of its declarations.
	 */
	const char *const *text;
	unsigned n;
	uint64_t limits[NR_SPACES]; /* the first address beyond each space */
	unsigned lines;             /* interrupts 0 to lines - 1 exist */
	const struct place_window *windows;
	unsigned nr_windows;
	const struct place_line *taken;
	unsigned nr_taken;
};

/*
 * Makes every device of the table, gives each region and interrupt its place, and adds them all in one publish.
 * place_moved() first applies the user's moves: what is wrong with one of them is -errno and status USAGE.
 * 0 or -errno with a line in `err`; on failure nothing of them is left.
 */
int place_moved(struct vm *vm, const struct placement *table, unsigned n, const struct place_moves *moves,
	struct error *err) __attribute__((warn_unused_result));
int place_devices(struct vm *vm, const struct placement *table, unsigned n, struct error *err)
	__attribute__((warn_unused_result));

#endif
