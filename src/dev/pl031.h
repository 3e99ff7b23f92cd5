/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pl031.h - ARM's PrimeCell real-time clock (PL031; DDI 0224): a counter of seconds with one match register.
 *
 * It runs from power-on and counts seconds since 1970 (UTC), as firmware would have set it; what a guest sets it to
 * holds over a reset, as with a battery.
 */
#ifndef TRAPLINE_DEV_PL031_H
#define TRAPLINE_DEV_PL031_H

#include "core/device.h"

/* No config. Region 0: the registers, 4 KiB. Interrupt 0: the match. */
extern const struct device_type pl031_type;

#endif
