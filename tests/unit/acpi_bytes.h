/* SPDX-License-Identifier: BSD-2-Clause */
/* acpi_bytes.h - ACPI's tables as bytes: their numbers and their sums. */
#ifndef TRAPLINE_TESTS_ACPI_BYTES_H
#define TRAPLINE_TESTS_ACPI_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* A little-endian number of `len` bytes, 8 at most. */
static inline uint64_t le(const uint8_t *at, unsigned len)
{
	uint64_t value = 0;

	while (len--)
		value = value << 8 | at[len];
	return value;
}

/* Of a good table it is 0. */
static inline uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *bytes++);
	return s;
}

#endif
