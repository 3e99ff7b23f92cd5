/* SPDX-License-Identifier: BSD-2-Clause */
/* disk_content.h - what test disks hold, so that each byte tells where it is; and what a file holds, by other means. */
#ifndef TRAPLINE_TESTS_DISK_CONTENT_H
#define TRAPLINE_TESTS_DISK_CONTENT_H

#include "unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static inline uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 7 + (at >> 9) * 13);
}

static inline void assert_pattern(const uint8_t *data, uint64_t at, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++) {
		if (data[i] != pattern(at + i))
			fail_msg("byte %llu is %u", (unsigned long long)(at + i), data[i]);
	}
}

static inline void assert_file(const char *path, uint64_t at, const void *wanted, size_t len)
{
	int fd = open(path, O_RDONLY);
	uint8_t *got = malloc(len);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, len, (off_t)at), len);
	assert_memory_equal(got, wanted, len);
	close(fd);
	free(got);
}

#endif
