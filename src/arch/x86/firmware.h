/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * firmware.h - a machine that starts as a PC does, by firmware in a ROM at the end of 4 GiB, instead of by a kernel.
 *
 * What firmware then needs is here: the ROM and its shadow below 1 MiB, and what fw_cfg tells it. The chips by which it
 * knows the machine are lines of the machine's table. docs/firmware.md says who needs what.
 */
#ifndef TRAPLINE_ARCH_X86_FIRMWARE_H
#define TRAPLINE_ARCH_X86_FIRMWARE_H

#include "arch/image.h"
#include "bus/bus.h"
#include "core/error.h"

struct board;

/* A zeroed one is none. */
struct firmware {
	struct image image;
	struct region rom;
};

/*
 * The ROM, from its file, and the devices that only a machine with firmware has. 0 or -errno; firmware_close()
 * afterwards in either case.
 */
int firmware_build(struct board *board, struct error *err) __attribute__((warn_unused_result));
void firmware_close(struct board *board); /* the bus is drained afterwards, by the caller */
/* What a power-on or a reset finds: the shadow, and fw_cfg's items. 0 or -errno. */
int firmware_load(struct board *board, struct error *err) __attribute__((warn_unused_result));

#endif
