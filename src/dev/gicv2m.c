/* SPDX-License-Identifier: BSD-2-Clause */
/* gicv2m.c - a GICv2's frame for messages; see gicv2m.h. */
#include "dev/gicv2m.h"

#include <errno.h>
#include <stdlib.h>

#include "core/vm.h"

#define SIZE 0x1000

enum { MSI_TYPER = 0x008, MSI_IIDR = 0xfcc };

/*
 * Of SETSPI_NS: the interrupt is bits 9 to 0, others are reserved and say nothing, in a guest's write as in a message.
 */
#define SETSPI_SPI 0x3ff

#define IIDR_ARM 0x43b /* the implementer, as JEP106 has it */

struct gicv2m {
	struct device dev;
	struct region page;
	struct gicv2m_config config;
};

static void gicv2m_trap(void *arg, struct trap *trap)
{
	struct gicv2m *frame = arg;
	const struct gicv2m_config *c = &frame->config;
	struct vm *vm = frame->dev.vm;
	uint32_t intid = (uint32_t)trap->value & SETSPI_SPI;

	if (!trap->write)
		trap->value = trap->offset == MSI_TYPER  ? c->intid << 16 | c->n
			      : trap->offset == MSI_IIDR ? IIDR_ARM
							 : 0;
	else if (trap->offset == GICV2M_SETSPI && intid - c->intid < c->n)
		irq_msi(&vm->irqs, (struct irq_message){ .addr = frame->page.base + GICV2M_SETSPI, .data = intid });
	else
		__atomic_add_fetch(&vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static void gicv2m_start(struct device *dev)
{
	struct gicv2m *frame = container_of(dev, struct gicv2m, dev);
	const struct gicv2m_config *c = &frame->config;

	irq_router_frame(&dev->vm->irqs, &(struct irq_frame){ .addr = frame->page.base + GICV2M_SETSPI,
						 .mask = SETSPI_SPI,
						 .first = c->intid,
						 .line = c->line,
						 .n = c->n });
}

static int gicv2m_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct gicv2m *frame = calloc(1, sizeof(*frame));

	if (!frame)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&frame->dev, &gicv2m_type, vm, name);
	frame->config = *(const struct gicv2m_config *)config;
	device_region(&frame->dev, &frame->page, "messages", SIZE, WIDTH_2 | WIDTH_4, gicv2m_trap);
	*out = &frame->dev;
	return 0;
}

static void gicv2m_destroy(struct device *dev)
{
	irq_router_frame(&dev->vm->irqs, NULL);
	device_fini(dev);
	free(container_of(dev, struct gicv2m, dev));
}

const struct device_type gicv2m_type = {
	.name = "gicv2m",
	.create = gicv2m_create,
	.start = gicv2m_start,
	.destroy = gicv2m_destroy,
};
