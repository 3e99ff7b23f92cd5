/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * output.h - a file that a run writes, named by an option. That it cannot be written is told before the guest runs, but
 * what it holds is lost only when the guest does run: a start that fails leaves no trace.
 */
#ifndef TRAPLINE_HOST_OUTPUT_H
#define TRAPLINE_HOST_OUTPUT_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/error.h"

struct output {
	int fd;           /* -1: none */
	const char *path; /* the caller's, which outlives it */
	bool made;        /* by us, and it goes with us: not begun yet */
	dev_t dev;        /* with ino: what was made */
	ino_t ino;
};

/*
 * Opens `path` to write, and makes the file if there is none; what is in it stays so far. `flags`: O_NONBLOCK or 0, of
 * writing; a pipe that nobody reads is an error at once either way. `what` names the option or port in the line. 0, or
 * -errno with a line in `err`, its status where the path is to blame, and fd -1.
 */
int output_open(struct output *output, const char *path, int flags, const char *what, struct error *err)
	__attribute__((warn_unused_result));
/*
 * The guest runs: the file is emptied (what is no regular file is left alone), and
 * stays. Fine where fd is -1, and twice.
 */
void output_begin(struct output *output);
/* Closes it, and removes a file that was made and not begun. Fine where fd is -1. */
void output_close(struct output *output);

#endif
