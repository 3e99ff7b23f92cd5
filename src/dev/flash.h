/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flash.h - a NOR flash, kept in a file: one chip of 8 bits, or two of 16 bits side by side, 32 bits wide.
 *
 * Reads are memory, until a command asks for something else; the command set is Intel's (CFI's 0001, as in the data
 * sheet of the 28F640J3): read array, status, identifier and query, erase block, program, buffered program; blocks can
 * be locked, which has no effect. Programming clears bits, as in any NOR flash. Of a pair each chip gets its half of
 * what is written; drivers tell both the same, and what the lower one is told counts for both. What the guest has
 * programmed is written to the file by the event loop.
 */
#ifndef TRAPLINE_DEV_FLASH_H
#define TRAPLINE_DEV_FLASH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/device.h"

#define FLASH_BLOCK      4096        /* bytes that are erased at a time, and the unit in which the file is written */
#define FLASH_PAIR_BLOCK (64U << 10) /* bytes that a pair erases at a time */
#define FLASH_BUFFER     256 /* bytes of one buffered program, of each chip; they lie within FLASH_BLOCK bytes */
#define FLASH_PAIR_MIN   (128U << 10)
#define FLASH_MAX        (16U << 20) /* bytes in all */

/* Status register. A single chip's ready is cleared with the others by a command, and set when an operation ends. */
enum {
	FLASH_STATUS_READY = 0x80,
	FLASH_STATUS_ERASE_ERROR = 0x20,
	FLASH_STATUS_PROGRAM_ERROR = 0x10,
};

struct flash_config {
	const char *path; /* a multiple of FLASH_BLOCK bytes; locked, so that no other guest has it */
	bool pair;        /* two chips, and then a power of two of FLASH_PAIR_MIN bytes or more */
};

/* Region 0: the chip, of the file's size. create() says what is wrong with the file in one line. */
extern const struct device_type flash_type;

#endif
