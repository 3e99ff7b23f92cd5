/* SPDX-License-Identifier: BSD-2-Clause */
/* watch.h - descriptors of a machine's own that its event loop watches to read: signals, time. */
#ifndef TRAPLINE_MACHINE_WATCH_H
#define TRAPLINE_MACHINE_WATCH_H

#include "core/error.h"
#include "core/loop.h"

struct machine;

/*
 * Watches `fd`, with `fn(m, events)` on the loop's thread; `what` it is for, in the line. Takes it over, or closes it.
 * -1 is one that could not be had, for errno. 0, or -errno with a line in `err`.
 */
int watch_up(struct machine *m, struct loop_watch *w, int fd, void (*fn)(void *, uint32_t), const char *what,
	struct error *err) __attribute__((warn_unused_result));
void watch_down(struct machine *m, struct loop_watch *w); /* closes it too. Fine on one that is not up */

#endif
