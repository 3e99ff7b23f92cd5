/* SPDX-License-Identifier: BSD-2-Clause */
/* device.c - what all devices have in common. */
#include "core/device.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void device_init(struct device *dev, const struct device_type *type, struct vm *vm, const char *name)
{
	memset(dev, 0, sizeof(*dev));
	dev->type = type;
	dev->vm = vm;
	snprintf(dev->name, sizeof(dev->name), "%s", name);
	pthread_mutex_init(&dev->lock, NULL);
	list_init(&dev->node);
}

void device_fini(struct device *dev)
{
	if (!dev->type)
		return;
	for (unsigned i = 0; i < dev->nr_irqs; i++)
		irq_disconnect(dev->irqs[i]);
	pthread_mutex_destroy(&dev->lock);
	dev->type = NULL;
}

void device_region(
	struct device *dev, struct region *region, const char *name, uint64_t size, uint8_t widths, trap_fn *fn)
{
	assert(dev->nr_regions < DEVICE_REGIONS);
	memset(region, 0, sizeof(*region));
	region->name = name;
	region->kind = REGION_TRAP;
	region->size = size;
	region->widths = widths;
	region->fn = fn;
	region->dev = dev;
	region->lock = &dev->lock;
	region->owner = dev;
	dev->regions[dev->nr_regions++] = region;
}

void device_irq(struct device *dev, struct irq *irq, const char *name, enum irq_trigger trigger)
{
	assert(dev->nr_irqs < DEVICE_IRQS);
	*irq = (struct irq){ .name = name, .trigger = trigger };
	dev->irqs[dev->nr_irqs++] = irq;
}

static void device_set_up(struct device *dev, void (*fields)(const struct field *, void *))
{
	const struct device_type *type = dev->type;

	pthread_mutex_lock(&dev->lock);
	for (unsigned i = 0; i < dev->nr_irqs; i++)
		irq_set(dev->irqs[i], false);
	if (type->state)
		fields(type->state, (char *)dev + type->state_offset);
	if (type->reset)
		type->reset(dev);
	pthread_mutex_unlock(&dev->lock);
}

void device_reset(struct device *dev)
{
	device_set_up(dev, field_reset);
}

void device_power_on(struct device *dev)
{
	device_set_up(dev, field_init);
}
