/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dev_rig.h - one device on a bus of its own, with a clock that is stepped by hand and wires that are watched.
 *
 * The device's regions stand RIG_STRIDE apart in the port space, in the order of their declaration; its interrupts
 * are lines 1, 2 and so on. Accesses go through the bus, so a width that a region does not declare never arrives.
 */
#ifndef TRAPLINE_TESTS_DEV_RIG_H
#define TRAPLINE_TESTS_DEV_RIG_H

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "core/vm.h"

#define RIG_STRIDE 0x100
#define RIG_LINES  8

struct rig {
	struct vm vm;
	struct device *dev;
	struct initiator from;
	struct {
		bool level;
		unsigned rises;
	} line[RIG_LINES];
};

static inline void rig_set_line(void *chip, unsigned line, bool level)
{
	struct rig *rig = chip;

	if (level && !rig->line[line].level)
		rig->line[line].rises++;
	rig->line[line].level = level;
}

static const struct irqchip_ops rig_chip = { .set_line = rig_set_line };

/* The machine alone, at wall time `epoch` (seconds since 1970). */
static inline struct rig *rig_new(int64_t epoch)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct error err;

	assert_non_null(rig);
	assert_int_equal(vm_init(&rig->vm, true, &err), 0);
	rig->vm.clock.epoch = epoch * (int64_t)NSEC_PER_SEC;
	irq_router_chip(&rig->vm.irqs, &rig_chip, rig);
	rig->from.name = "test";
	bus_attach(rig->vm.bus, &rig->from);
	return rig;
}

static inline void rig_add(struct rig *rig, const struct device_type *type, const void *config)
{
	struct device *dev;
	struct error err;

	assert_int_equal(type->create(&rig->vm, "device0", config, &dev, &err), 0);
	for (unsigned i = 0; i < dev->nr_regions; i++) {
		dev->regions[i]->space = SPACE_PIO;
		dev->regions[i]->base = RIG_STRIDE * (i + 1);
	}
	for (unsigned i = 0; i < dev->nr_irqs; i++)
		assert_int_equal(irq_connect(&rig->vm.irqs, dev->irqs[i], i + 1), 0);
	assert_int_equal(vm_add_devices(&rig->vm, &dev, 1, &err), 0);
	device_power_on(dev);
	if (type->start)
		type->start(dev);
	rig->dev = dev;
}

static inline void rig_free(struct rig *rig)
{
	bus_detach(&rig->from);
	vm_fini(&rig->vm);
	free(rig);
}

static inline uint64_t rig_read(struct rig *rig, unsigned region, unsigned offset, unsigned len)
{
	uint64_t value = 0;

	bus_access(rig->vm.bus, &rig->from, SPACE_PIO, RIG_STRIDE * (region + 1) + offset, &value, len, 1, false);
	return value;
}

static inline void rig_write(struct rig *rig, unsigned region, unsigned offset, unsigned len, uint64_t value)
{
	bus_access(rig->vm.bus, &rig->from, SPACE_PIO, RIG_STRIDE * (region + 1) + offset, &value, len, 1, true);
}

static inline bool rig_level(struct rig *rig, unsigned irq)
{
	return rig->line[irq + 1].level;
}

static inline unsigned rig_rises(struct rig *rig, unsigned irq)
{
	return rig->line[irq + 1].rises;
}

/* Saves the device's state, spoils it by a reset, loads it again and starts the device, as a restore does. */
static inline void rig_restore(struct rig *rig)
{
	const struct device_type *type = rig->dev->type;
	void *state = (char *)rig->dev + type->state_offset, *saved;
	long size = field_save(type->state, state, NULL, 0);

	assert_true(size > 0);
	saved = malloc((size_t)size);
	assert_non_null(saved);
	assert_int_equal(field_save(type->state, state, saved, (size_t)size), size);
	device_power_on(rig->dev);
	assert_int_equal(field_load(type->state, state, saved, (size_t)size), 0);
	if (type->start)
		type->start(rig->dev);
	free(saved);
}

#endif
