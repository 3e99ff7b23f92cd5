/* SPDX-License-Identifier: BSD-2-Clause */
/* resident.h - how much of a mapping is there. */
#ifndef TRAPLINE_TESTS_RESIDENT_H
#define TRAPLINE_TESTS_RESIDENT_H

#include <stdlib.h>
#include <sys/mman.h>

#include "core/mem.h"
#include "unit.h"

/* Pages of 4 KiB. */
static inline size_t resident(const struct memory *memory)
{
	size_t pages = memory->size / 4096, n = 0;
	unsigned char *there = malloc(pages);

	assert_non_null(there);
	assert_int_equal(mincore(memory->host, memory->size, there), 0);
	for (size_t i = 0; i < pages; i++)
		n += there[i] & 1;
	free(there);
	return n;
}

#endif
