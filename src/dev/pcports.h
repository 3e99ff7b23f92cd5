/* SPDX-License-Identifier: BSD-2-Clause */
/* pcports.h - single ports of a PC that its software touches without asking: POST code, and system control A. */
#ifndef TRAPLINE_DEV_PCPORTS_H
#define TRAPLINE_DEV_PCPORTS_H

#include "core/device.h"

/* One byte-wide register each; no interrupt, no config. */

/* The POST code. Writes are posted where the hypervisor can: kernels write here only to let time pass. */
extern const struct device_type post_type;
/* System control port A: fast reset (bit 0 rising: vm_reset()) and the A20 gate (bit 1: kept, not obeyed). */
extern const struct device_type syscontrol_type;

#endif
