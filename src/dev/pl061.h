/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pl061.h - ARM's PrimeCell GPIO (PL061; DDI 0190): eight pins, one of them with the machine's power button.
 *
 * A button is held until the guest has seen it down, and a moment longer, so that a guest which is slow, or samples its
 * keys some time after the interrupt as Linux does, does not miss it. Who presses it once more lets go of it first.
 */
#ifndef TRAPLINE_DEV_PL061_H
#define TRAPLINE_DEV_PL061_H

#include "core/device.h"

#define PL061_PINS 8

/* Copied by create(). */
struct pl061_config {
	unsigned power; /* the pin of the power button, high while it is down: 0 to PL061_PINS - 1 */
};

/* Region 0: the registers, 4 KiB. Interrupt 0: that of all pins. It becomes the machine's vm->press_dev. */
extern const struct device_type pl061_type;

#endif
