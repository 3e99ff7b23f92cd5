/* SPDX-License-Identifier: BSD-2-Clause */
/* cmdline.h - a kernel's command line: the machine's default words, then the user's, which win. */
#ifndef TRAPLINE_ARCH_CMDLINE_H
#define TRAPLINE_ARCH_CMDLINE_H

#include <stddef.h>

#include "arch/arch.h"

/*
 * Words in their order with a space between, the user's text as it is; `defaults` (NULL-ended) and the root's words
 * only where config does not refuse them. They fit by themselves. 0, or -E2BIG with status USAGE: `size` bytes are too
 * few for all.
 */
int cmdline_join(char *line, size_t size, const char *const *defaults, const struct guest_config *config,
	struct error *err) __attribute__((warn_unused_result));

/*
 * Where the defaults name a root and nobody brings what mounts it, the text that a kernel which can do it by itself has
 * in it; NULL: it matters not. Of `config`, see root_needs.
 */
const char *cmdline_root_needs(const struct guest_config *config);

#endif
