/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * field.h - tables that describe a device's guest-visible state.
 *
 * One table a device: reset, save, load and dumps are derived from it, so a register that is added to it
 * takes part in all of them. Saved state is little-endian, of fixed widths, field by field with its name's
 * hash and size, so a reader knows a field that it does not know and one that is missing.
 */
#ifndef TRAPLINE_CORE_FIELD_H
#define TRAPLINE_CORE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct field {
	const char *name;
	uint32_t offset; /* in the state struct */
	uint8_t width;   /* bytes of one element: 1, 2, 4 or 8 */
	uint8_t since;   /* table version that brought it (0 is 1); older saved states leave it as reset */
	uint16_t count;  /* elements */
	uint64_t reset;  /* every element's value after reset */
	bool keep;       /* survives a reset (battery-backed) */
};

#define FIELD(type, member, ...)                                                                                       \
	{                                                                                                              \
		.name = #member, .offset = offsetof(type, member), .width = sizeof(((type *)0)->member), .count = 1,   \
		__VA_ARGS__                                                                                            \
	}
#define FIELD_ARRAY(type, member, ...)                                                                                 \
	{                                                                                                              \
		.name = #member, .offset = offsetof(type, member), .width = sizeof(((type *)0)->member[0]),            \
		.count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), __VA_ARGS__                     \
	}
#define FIELD_END                                                                                                      \
	{                                                                                                              \
		.name = NULL                                                                                           \
	}

void field_init(const struct field *table, void *state);  /* power-on: all to their reset values */
void field_reset(const struct field *table, void *state); /* all but those that survive */
/* Bytes needed or written; with buf NULL only counts. -ENOSPC if `size` is too small. */
long field_save(const struct field *table, const void *state, void *buf, size_t size);
/*
 * 0, or -EINVAL: truncated, of a newer version, a field unknown, twice, missing though its version had it, or of
 * another size; `state` is then unchanged. Values are not judged: the device does that.
 */
int field_load(const struct field *table, void *state, const void *buf, size_t size);
void field_dump(const struct field *table, const void *state, FILE *out);

#endif
