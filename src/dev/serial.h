/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serial.h - a 16550A's attachment: a device of eight byte-wide registers and one interrupt, whose wire is a
 * chardev.
 */
#ifndef TRAPLINE_DEV_SERIAL_H
#define TRAPLINE_DEV_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/device.h"

struct chardev;

#define SERIAL_CLOCK_HZ 1843200 /* a PC's; what drivers assume where nobody tells them */

struct serial_config {
	unsigned line;            /* talks to vm->ports[line], as it is when the device is made, */
	struct chardev *chardev;  /* or to this one. Where both are NULL output vanishes. Outlives the device */
	enum irq_trigger trigger; /* how the interrupt input is wired: IRQ_EDGE on a PC */
	bool out2_gates_irq;      /* as on a PC: MCR's OUT2 lets the interrupt through */
	uint32_t clock_hz;        /* of the baud generator; 0: SERIAL_CLOCK_HZ */
};

/* Region 0: the registers. Interrupt 0. Config: struct serial_config, read in create() only. */
extern const struct device_type serial_type;

#endif
