/* SPDX-License-Identifier: BSD-2-Clause */
/* debugcon.h - the Bochs debug console. */
#ifndef TRAPLINE_DEV_DEBUGCON_H
#define TRAPLINE_DEV_DEBUGCON_H

#include "core/device.h"

extern const struct device_type debugcon_type;

#endif
