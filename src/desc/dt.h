/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dt.h - a flattened device tree (Devicetree Specification 0.4), written front to back by libfdt.
 *
 * What is a device of the machine is described by walking vm->devices: a node's `reg` and `interrupts` come from where
 * its regions and wires are. What is no device (processors, interrupt controllers, firmware calls) is for arch/ to
 * write between dt_begin() and dt_end(). Errors are kept and told by dt_finish(), so nobody in between looks for them.
 */
#ifndef TRAPLINE_DESC_DT_H
#define TRAPLINE_DESC_DT_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/irq.h"

struct device;
struct region;
struct vm;

#define DT_MAX_IRQ_CELLS 4

struct dt {
	void *bytes; /* `size` of them; whoever made it frees it */
	size_t size;
	int error; /* libfdt's first; 0: none */
};

/* What devices cannot know of the machine that they are in. */
struct dt_platform {
	uint64_t ports;         /* where in memory the port space begins, for devices that are in it */
	uint32_t clock_phandle; /* a fixed clock, for PrimeCells, which must name one */
	uint32_t gpio_phandle;  /* what the GPIO chip is to be called, for who names its pins */
	unsigned irq_cells;     /* of an interrupt specifier: DT_MAX_IRQ_CELLS at most */
	void (*irq)(unsigned line, enum irq_trigger trigger, uint32_t *cells);
};

/* Begins a tree of at most `size` bytes and its root node. 0, or -ENOMEM; dt_free() afterwards in either case. */
int dt_start(struct dt *dt, size_t size, struct error *err) __attribute__((warn_unused_result));
/* Ends the root node. 0: the tree is dt->bytes, of *length bytes; -ENOSPC it did not fit; -EINVAL it is malformed. */
int dt_finish(struct dt *dt, size_t *length, struct error *err) __attribute__((warn_unused_result));
void dt_free(struct dt *dt); /* fine on all zeros */

/* A node, until dt_end(). */
void dt_begin(struct dt *dt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dt_end(struct dt *dt);

/* Properties of the innermost node, before its first child. Cells are 32 bits, in this host's byte order. */
void dt_flag(struct dt *dt, const char *name);
void dt_u32(struct dt *dt, const char *name, uint32_t value);
void dt_u64(struct dt *dt, const char *name, uint64_t value);
void dt_cells(struct dt *dt, const char *name, const uint32_t *cells, unsigned n);
void dt_bytes(struct dt *dt, const char *name, const void *bytes, size_t n);
void dt_string(struct dt *dt, const char *name, const char *text);
/* Several strings, each ended by a '/', which none of them has: "arm,pl031/arm,primecell/". */
void dt_strings(struct dt *dt, const char *name, const char *texts);

/* Two cells each, address and size, as many as 2 * n says: `reg` where both take two cells. */
void dt_reg(struct dt *dt, const uint64_t *pairs, unsigned n);

/* A node for each device that a driver finds by one. */
void dt_devices(struct dt *dt, struct vm *vm, const struct dt_platform *platform);
/* The path of a device's node, as "stdout-path" wants it. False: it has none. */
bool dt_path(const struct device *dev, const struct dt_platform *platform, char *path, size_t size);

#endif
