/* SPDX-License-Identifier: BSD-2-Clause */
/* debugcon.c - Bochs debug console: a byte written is a byte shown; reading tells a guest that it is there. */
#include "dev/debugcon.h"

#include <errno.h>
#include <stdlib.h>

#include "core/chardev.h"
#include "core/vm.h"

#define DEBUGCON_PRESENT 0xe9 /* what a read answers */

struct debugcon_state {
	uint32_t bytes; /* written so far */
};

struct debugcon {
	struct device dev; /* first: the two share an address */
	struct region port;
	struct debugcon_state state;
	struct chardev *out;
};

/* Called with the device's lock held, with the one width that the region declares. */
static void debugcon_trap(void *arg, struct trap *trap)
{
	struct debugcon *con = arg;

	if (!trap->write) {
		trap->value = DEBUGCON_PRESENT;
		return;
	}
	con->state.bytes++;
	chardev_put(con->out, (uint8_t)trap->value);
}

static int debugcon_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct debugcon *con = calloc(1, sizeof(*con));

	if (!con)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&con->dev, &debugcon_type, vm, name);
	con->out = vm->debugcon;
	/* Declared, not registered: no address here. The machine's table has it. */
	device_region(&con->dev, &con->port, "data", 1, WIDTH_1, debugcon_trap);
	*out = &con->dev;
	return 0;
}

static void debugcon_destroy(struct device *dev)
{
	device_fini(dev);
	free(dev);
}

/* Reset, save, load and dumps come from this table. */
static const struct field debugcon_fields[] = {
	FIELD(struct debugcon_state, bytes),
	FIELD_END,
};

const struct device_type debugcon_type = {
	.name = "debugcon",
	.state = debugcon_fields,
	.state_offset = offsetof(struct debugcon, state),
	.create = debugcon_create,
	.destroy = debugcon_destroy,
};
