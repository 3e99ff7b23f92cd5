/* SPDX-License-Identifier: BSD-2-Clause */
/* layout.c - an x86 machine's RAM, and the map of it that a guest is told. */
#include "arch/x86/layout.h"

unsigned layout_ram(uint64_t ram, struct memory_range ranges[static LAYOUT_RAM_RANGES])
{
	uint64_t low = ram < LAYOUT_HOLE ? ram : LAYOUT_HOLE;

	ranges[0] = (struct memory_range){ 0, low, MEMORY_RAM };
	if (ram == low)
		return 1;
	ranges[1] = (struct memory_range){ LAYOUT_HOLE_END, ram - low, MEMORY_RAM };
	return 2;
}

/* What the first MiB, and the hole, are made of, whatever the amount of RAM. */
static const struct memory_range low_fixed[] = {
	{ 0, LAYOUT_LOW_RAM_END, MEMORY_RAM },
	{ LAYOUT_LOW_RAM_END, LAYOUT_ACPI - LAYOUT_LOW_RAM_END, MEMORY_RESERVED },
	{ LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, MEMORY_ACPI },
};
static const struct memory_range hole_fixed[] = {
	/* The PCI firmware specification, 4.1.2, wants the ECAM window reserved here or in a motherboard resource. */
	{ LAYOUT_ECAM, LAYOUT_ECAM_SIZE, MEMORY_RESERVED },
	{ LAYOUT_KVM_IDENTITY, LAYOUT_KVM_END - LAYOUT_KVM_IDENTITY, MEMORY_RESERVED },
};

unsigned layout_map(uint64_t ram, struct memory_range map[static LAYOUT_MAP_RANGES])
{
	struct memory_range ranges[LAYOUT_RAM_RANGES];
	unsigned nr = layout_ram(ram, ranges), n = 0;

	for (unsigned i = 0; i < sizeof(low_fixed) / sizeof(low_fixed[0]); i++) {
		struct memory_range range = low_fixed[i];

		if (range.base >= ranges[0].size)
			break;
		if (range.size > ranges[0].size - range.base)
			range.size = ranges[0].size - range.base;
		map[n++] = range;
	}
	if (ranges[0].size > LAYOUT_HIGH_RAM)
		map[n++] = (struct memory_range){ LAYOUT_HIGH_RAM, ranges[0].size - LAYOUT_HIGH_RAM, MEMORY_RAM };
	for (unsigned i = 0; i < sizeof(hole_fixed) / sizeof(hole_fixed[0]); i++)
		map[n++] = hole_fixed[i];
	if (nr > 1)
		map[n++] = ranges[1];
	return n;
}
