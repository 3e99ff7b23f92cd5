/* SPDX-License-Identifier: BSD-2-Clause */
/* chardev_inner.h - what the files of chardev share. */
#ifndef TRAPLINE_CORE_CHARDEV_INNER_H
#define TRAPLINE_CORE_CHARDEV_INNER_H

#include "core/chardev.h"

/* On the loop's thread, or when it does not run: lets go of the host's line. */
void chardev_line_up(struct chardev *dev);
/* On the loop's thread: takes the break a step on, where it need not wait. */
void chardev_line_step(struct chardev *dev);
/* The timer, on the loop's thread. */
void chardev_line_tick(void *arg);

#endif
