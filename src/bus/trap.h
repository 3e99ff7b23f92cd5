/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trap.h - one guest access that found no RAM behind it.
 *
 * This is all that a device sees of the machine around it: an offset into one of its own regions, a width
 * that the region declared, and a value. It holds no address, no space and no pointer, so a trap can be
 * logged, replayed or sent to another process unchanged.
 */
#ifndef TRAPLINE_BUS_TRAP_H
#define TRAPLINE_BUS_TRAP_H

#include <stdbool.h>
#include <stdint.h>

struct initiator;

/* The two conduits that hardware offers. A device never learns which of them brought an access. */
enum space { SPACE_PIO, SPACE_MMIO, NR_SPACES };

struct trap {
	uint64_t offset; /* bytes from the start of the region */
	uint64_t value;  /* write: what was stored; read: the answer, all ones unless the handler sets it */
	uint8_t len;     /* 1, 2, 4 or 8: a width that the region declared, aligned to itself, inside the region */
	bool write;
	struct initiator *from; /* who asks: a vCPU, a test, a replay, a debugger */
};

/*
 * The one callback prototype. It cannot fail: a guest's access always completes. It may set an interrupt,
 * put bytes to a chardev, edit the bus, touch guest memory, arm a timer, and ask for a reset or a stop. It
 * may not wait: not for host I/O, not for a grace period, not for another vCPU.
 */
typedef void trap_fn(void *dev, struct trap *trap);

#endif
