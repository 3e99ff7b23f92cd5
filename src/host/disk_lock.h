/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_lock.h - one who writes a disk, or many who read it, QEMU among them: locks on the whole file, and the name of
 * who has the other one.
 */
#ifndef TRAPLINE_HOST_DISK_LOCK_H
#define TRAPLINE_HOST_DISK_LOCK_H

#include <stdbool.h>

#include "core/error.h"

/*
 * Locks an open file (an open file description lock: the kernel drops it when that is closed, however we end). 0, also
 * where the file system has no locks, of which a line is said unless *told, which is set then: who locks it for each
 * life of a device says so once. Or -EBUSY with a line in `err` that names the process which has it, and its guest, as
 * far as they can be found out.
 */
int disk_lock(int fd, const char *path, bool ro, bool *told, struct error *err) __attribute__((warn_unused_result));

#endif
