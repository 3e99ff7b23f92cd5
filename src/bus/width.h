/* SPDX-License-Identifier: BSD-2-Clause */
/* width.h - widths, which are bits in a set of themselves, and little-endian values of a width in memory. */
#ifndef TRAPLINE_BUS_WIDTH_H
#define TRAPLINE_BUS_WIDTH_H

#include <endian.h>

#include "bus/bus.h"

static inline uint64_t highest_bit(uint64_t x)
{
	return 1ULL << (63 - __builtin_clzll(x));
}

/* The widest of a set of widths that is aligned at `offset` and fits in `len`; or 0. Sizes are bits in the set. */
static inline unsigned widest(unsigned widths, uint64_t offset, uint64_t len)
{
	uint64_t limit = highest_bit(len), align = offset & -offset;

	widths &= (align && align < limit ? align : limit) * 2 - 1;
	return widths ? (unsigned)highest_bit(widths) : 0;
}

/* Values in memory, wherever they lie. */
typedef uint16_t value16 __attribute__((aligned(1)));
typedef uint32_t value32 __attribute__((aligned(1)));
typedef uint64_t value64 __attribute__((aligned(1)));

static inline uint64_t load_value(const void *from, unsigned len)
{
	switch (len) {
	case 1:
		return *(const uint8_t *)from;
	case 2:
		return le16toh(*(const value16 *)from);
	case 4:
		return le32toh(*(const value32 *)from);
	default:
		return le64toh(*(const value64 *)from);
	}
}

static inline void store_value(void *to, uint64_t value, unsigned len)
{
	switch (len) {
	case 1:
		*(uint8_t *)to = (uint8_t)value;
		break;
	case 2:
		*(value16 *)to = htole16((uint16_t)value);
		break;
	case 4:
		*(value32 *)to = htole32((uint32_t)value);
		break;
	default:
		*(value64 *)to = htole64(value);
	}
}

/* In aligned powers of two, each a single access: no other vCPU sees half of a pointer. */
static inline void copy_memory(uint8_t *host, uint8_t *data, uint64_t len, bool write)
{
	for (unsigned n; len; host += n, data += n, len -= n) {
		n = widest(WIDTH_ANY, (uintptr_t)host, len);
		if (write)
			store_value(host, load_value(data, n), n);
		else
			store_value(data, load_value(host, n), n);
	}
}

#endif
