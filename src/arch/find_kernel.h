/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * find_kernel.h - the kernel to boot when none was named: that of a build tree first, then the host's own.
 */
#ifndef TRAPLINE_ARCH_FIND_KERNEL_H
#define TRAPLINE_ARCH_FIND_KERNEL_H

#include <stddef.h>

#include "core/error.h"

/*
 * The first of `candidates` (paths, NULL-ended; "%s" in one stands for the host's kernel release) that is a
 * file. One that exists but may not be read is taken too, so that opening it says so. Writes its path to
 * `path`. 0, or -ENOENT with a message that lists where it looked, or -ENAMETOOLONG.
 */
int find_kernel(const char *const *candidates, char *path, size_t size, struct error *err)
	__attribute__((warn_unused_result));

#endif
