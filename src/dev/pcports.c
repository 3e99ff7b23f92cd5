/* SPDX-License-Identifier: BSD-2-Clause */
/* pcports.c - single ports of a PC; see pcports.h. */
#include "dev/pcports.h"

#include <errno.h>
#include <stdlib.h>

#include "core/vm.h"

enum {
	SYSCONTROL_RESET = 0x01,
	SYSCONTROL_A20 = 0x02,
	SYSCONTROL_KEPT = SYSCONTROL_RESET | SYSCONTROL_A20 | 0xc8, /* disk lights and the CMOS's password lock */
};

struct pcport {
	struct device dev;
	struct region region;
	struct {
		uint8_t value;
	} state;
};

static const struct field post_fields[] = {
	{ .name = "value", .width = 1, .count = 1, .since = 1 },
	FIELD_END,
};

static const struct field syscontrol_fields[] = {
	{ .name = "value", .width = 1, .count = 1, .since = 1, .reset = SYSCONTROL_A20 },
	FIELD_END,
};

static int pcport_create(struct vm *vm, const char *name, const struct device_type *type, trap_fn *fn,
	struct pcport **out, struct error *err)
{
	struct pcport *port = calloc(1, sizeof(*port));

	if (!port)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&port->dev, type, vm, name);
	device_region(&port->dev, &port->region, type->name, 1, WIDTH_1, fn);
	*out = port;
	return 0;
}

static void pcport_destroy(struct device *dev)
{
	device_fini(dev);
	free(container_of(dev, struct pcport, dev));
}

static void post_trap(void *arg, struct trap *trap)
{
	struct pcport *port = arg;

	if (trap->write)
		port->state.value = trap->value;
	else
		trap->value = port->state.value;
}

static int post_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct pcport *port = NULL;
	int rc = pcport_create(vm, name, &post_type, post_trap, &port, err);

	if (rc)
		return rc;
	port->region.coalesce = 1;
	*out = &port->dev;
	return 0;
}

static void syscontrol_trap(void *arg, struct trap *trap)
{
	struct pcport *port = arg;
	uint8_t was = port->state.value;

	if (!trap->write) {
		trap->value = was;
		return;
	}
	port->state.value = trap->value & SYSCONTROL_KEPT;
	if (port->state.value & ~was & SYSCONTROL_RESET)
		vm_reset(port->dev.vm);
}

static int syscontrol_create(
	struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct pcport *port = NULL;
	int rc = pcport_create(vm, name, &syscontrol_type, syscontrol_trap, &port, err);

	if (rc)
		return rc;
	*out = &port->dev;
	return 0;
}

const struct device_type post_type = {
	.name = "post",
	.state = post_fields,
	.state_offset = offsetof(struct pcport, state),
	.create = post_create,
	.destroy = pcport_destroy,
};

const struct device_type syscontrol_type = {
	.name = "system-control",
	.state = syscontrol_fields,
	.state_offset = offsetof(struct pcport, state),
	.create = syscontrol_create,
	.destroy = pcport_destroy,
};
