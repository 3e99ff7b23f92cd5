/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * i8042.h - the keyboard and mouse controller of PCs, with a keyboard and a mouse at its two ports.
 *
 * Semantics are those of IBM's PS/2 hardware interface technical reference, "Keyboard and Auxiliary Device
 * Controller", as firmware leaves it: self-tested, translating, the keyboard on and the mouse off.
 */
#ifndef TRAPLINE_DEV_I8042_H
#define TRAPLINE_DEV_I8042_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/device.h"

/* Indices into the device's regions and interrupts. */
enum { I8042_REGION_DATA, I8042_REGION_COMMAND };
enum { I8042_IRQ_KEYBOARD, I8042_IRQ_MOUSE };

/* No config. A CPU reset that the guest asks for becomes vm_reset(). The A20 gate is remembered, not obeyed. */
extern const struct device_type i8042_type;

/*
 * Input from the host, on any thread. One key's event, n bytes of scan code set 2, make or break: queued whole, or
 * false (nobody scans, or the queue is full and the guest is told of an overrun).
 */
bool i8042_key(struct device *dev, const uint8_t *codes, size_t n);
/*
 * Likewise movement in counts, right and up positive; buttons: 1 left, 2 right, 4 middle. False: the guest has the
 * mouse off and is told of none of it, but for how the buttons are when it turns it on.
 */
bool i8042_mouse(struct device *dev, int dx, int dy, uint8_t buttons);

#endif
