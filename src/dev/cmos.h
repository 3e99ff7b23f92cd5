/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmos.h - the MC146818 real-time clock with 128 bytes of CMOS memory, behind an index and a data register.
 *
 * The time of day is the clock's wall time plus what the guest has set. Register semantics are those of
 * Motorola's MC146818 data sheet; the bytes beyond the clock follow the PC/AT's use.
 */
#ifndef TRAPLINE_DEV_CMOS_H
#define TRAPLINE_DEV_CMOS_H

#include <stdint.h>

#include "core/device.h"

#define CMOS_CENTURY 0x32 /* index of the century; what the ACPI FADT's CENTURY field names */

/* Config; NULL is one of zeros. Copied by create(). Sizes of 0: the bytes that a PC's firmware writes stay 0. */
struct cmos_config {
	uint64_t ram_low;         /* bytes of guest RAM below 4 GiB, from address 0 */
	uint64_t ram_high;        /* bytes from 4 GiB on */
	enum irq_trigger trigger; /* how the interrupt input is wired: IRQ_EDGE on a PC */
};

/* Region 0: index (offset 0) and data (offset 1). Interrupt 0. */
extern const struct device_type cmos_type;

#endif
