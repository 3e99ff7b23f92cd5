/* SPDX-License-Identifier: BSD-2-Clause */
/* place.c - from a machine's table to devices on the bus. */
#include "arch/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int place_one(struct vm *vm, const struct placement *line, struct device *dev, struct error *err)
{
	for (unsigned i = 0; i < dev->nr_regions; i++) {
		if (!line->at[i].given)
			continue;
		dev->regions[i]->space = line->at[i].space;
		dev->regions[i]->base = line->at[i].base;
	}
	for (unsigned i = 0; i < dev->nr_irqs; i++) {
		int r = line->irqs[i] == IRQ_NONE ? 0 : irq_connect(&vm->irqs, dev->irqs[i], line->irqs[i]);

		if (r)
			return error_set(err, r, "%s: cannot connect '%s' to interrupt %u: %s", line->name,
				dev->irqs[i]->name, line->irqs[i], strerror(-r));
	}
	return 0;
}

/* _UID tells devices of one kind apart, in the order of the table. */
static unsigned count_of_kind(struct device **devices, unsigned n, const struct device_type *type)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++)
		count += devices[i]->type == type;
	return count;
}

int place_devices(struct vm *vm, const struct placement *table, unsigned n, struct error *err)
{
	struct device **devices = calloc(n, sizeof(*devices));
	unsigned made = 0;
	int r = 0;

	if (!devices)
		return error_set(err, -ENOMEM, "no memory for %u devices", n);
	while (r == 0 && made < n) {
		const struct placement *line = &table[made];

		r = line->type->create(vm, line->name, line->config, &devices[made], err);
		if (r)
			break;
		devices[made]->uid = count_of_kind(devices, made, line->type);
		r = place_one(vm, line, devices[made++], err);
	}
	if (r == 0)
		r = vm_add_devices(vm, devices, n, err);
	while (r && made > 0) {
		made--;
		devices[made]->type->destroy(devices[made]);
	}
	free(devices);
	return r;
}
