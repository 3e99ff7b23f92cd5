/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bus_chip.h - a device for tests of the bus: it logs the traps that it gets, answers what it is told, and may
 * do something else meanwhile.
 */
#ifndef TRAPLINE_TEST_BUS_CHIP_H
#define TRAPLINE_TEST_BUS_CHIP_H

#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"

#define CHIP_LOG 64

struct chip {
	struct region region;
	unsigned traps; /* how many so far; the first CHIP_LOG of them are kept */
	struct trap log[CHIP_LOG];
	bool answers;
	uint64_t answer;
	void (*hook)(struct chip *chip, struct trap *trap); /* runs in the handler */
	void *arg;
};

static void chip_trap(void *dev, struct trap *trap)
{
	struct chip *chip = dev;

	if (chip->traps < CHIP_LOG)
		chip->log[chip->traps] = *trap;
	chip->traps++;
	if (chip->hook)
		chip->hook(chip, trap);
	if (chip->answers && !trap->write)
		trap->value = chip->answer;
}

static void chip_init(
	struct chip *chip, const char *name, enum space space, uint64_t base, uint64_t size, unsigned widths)
{
	memset(chip, 0, sizeof(*chip));
	chip->region = (struct region){
		.name = name,
		.kind = REGION_TRAP,
		.space = space,
		.base = base,
		.size = size,
		.widths = (uint8_t)widths,
		.fn = chip_trap,
		.dev = chip,
	};
}

#endif
