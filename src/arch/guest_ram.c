/* SPDX-License-Identifier: BSD-2-Clause */
/* guest_ram.c - a guest's RAM; see guest_ram.h. */
#include "arch/guest_ram.h"

#include <string.h>

int guest_ram_memory(const struct guest_config *config, struct memory **memory, struct error *err)
{
	int r;

	*memory = config->memory;
	if (*memory) {
		memory_get(*memory);
		return 0;
	}
	r = memory_new(config->ram, memory);
	return r ? error_set(err, r, "no address space for %llu MiB of guest RAM: %s",
			   (unsigned long long)(config->ram >> 20), strerror(-r))
		 : 0;
}

int guest_ram_add(struct bus *bus, struct region *ram, struct error *err)
{
	int r;

	ram->kind = REGION_RAM;
	ram->space = SPACE_MMIO;
	r = bus_add(bus, ram);
	return r ? error_set(err, r, "guest RAM at %#llx: %s", (unsigned long long)ram->base, strerror(-r)) : 0;
}
