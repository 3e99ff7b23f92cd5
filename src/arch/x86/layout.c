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

/* What the first MiB is made of, whatever the amount of RAM. */
static const struct memory_range low_fixed[] = {
	{ 0, LAYOUT_LOW_RAM_END, MEMORY_RAM },
	{ LAYOUT_LOW_RAM_END, LAYOUT_ACPI - LAYOUT_LOW_RAM_END, MEMORY_RESERVED },
	{ LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, MEMORY_ACPI },
};
static void put(struct memory_range *map, unsigned *n, uint64_t base, uint64_t size, enum memory_type type)
{
	unsigned i = (*n)++;

	for (; i > 0 && map[i - 1].base > base; i--)
		map[i] = map[i - 1];
	map[i] = (struct memory_range){ base, size, type };
}

unsigned layout_map(uint64_t ram, uint64_t ecam, struct memory_range map[static LAYOUT_MAP_RANGES])
{
	struct memory_range ranges[LAYOUT_RAM_RANGES];
	unsigned nr = layout_ram(ram, ranges), n = 0;

	for (unsigned i = 0; i < sizeof(low_fixed) / sizeof(low_fixed[0]); i++) {
		struct memory_range range = low_fixed[i];

		if (range.base >= ranges[0].size)
			break;
		if (range.size > ranges[0].size - range.base)
			range.size = ranges[0].size - range.base;
		put(map, &n, range.base, range.size, range.type);
	}
	if (ranges[0].size > LAYOUT_HIGH_RAM)
		put(map, &n, LAYOUT_HIGH_RAM, ranges[0].size - LAYOUT_HIGH_RAM, MEMORY_RAM);
	if (nr > 1)
		put(map, &n, ranges[1].base, ranges[1].size, MEMORY_RAM);
	/* The PCI firmware specification, 4.1.2, wants the ECAM window reserved here or in a motherboard resource. */
	if (ecam)
		put(map, &n, ecam, LAYOUT_ECAM_SIZE, MEMORY_RESERVED);
	put(map, &n, LAYOUT_KVM_IDENTITY, LAYOUT_KVM_END - LAYOUT_KVM_IDENTITY, MEMORY_RESERVED);
	return n;
}
