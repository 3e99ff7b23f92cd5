/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flash.h - a NOR flash chip, 8 bits wide, kept in a file.
 *
 * Reads are memory, until a command asks for something else; the command set is Intel's (CFI's 0001, as in the data sheet
 * of the 28F640J3): read array, status, identifier and query, erase block, program, buffered program. Programming clears
 * bits, as in any NOR flash. What the guest has programmed is written to the file by the event loop.
 */
#ifndef TRAPLINE_DEV_FLASH_H
#define TRAPLINE_DEV_FLASH_H

#include <stdint.h>

#include "core/device.h"

#define FLASH_BLOCK  4096        /* bytes that are erased at a time */
#define FLASH_BUFFER 256         /* bytes of one buffered program */
#define FLASH_MAX    (16U << 20) /* bytes of a chip */

/* Status register. Ready is cleared with the others by a command, and set when an operation ends. */
enum {
	FLASH_STATUS_READY = 0x80,
	FLASH_STATUS_ERASE_ERROR = 0x20,
	FLASH_STATUS_PROGRAM_ERROR = 0x10,
};

struct flash_config {
	const char *path; /* a multiple of FLASH_BLOCK bytes; locked, so that no other guest has it */
};

/* Region 0: the chip, of the file's size. create() says what is wrong with the file in one line. */
extern const struct device_type flash_type;

#endif
