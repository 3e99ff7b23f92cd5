/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keep.h - puts a kernel that was unpacked for a start into the cache, while its guest already runs.
 *
 * Guest memory is no source for that: the guest changes its own code in its first milliseconds. So a thread unpacks the
 * kernel a second time, at the lowest priority there is: on a processor that has nothing else to do it is done before
 * the guest has booted, and it takes none from the guest. A start therefore never waits for the cache's writing, and
 * memory for the decoder is held once more for that time. What goes wrong with it is nobody's loss but the next
 * start's.
 */
#ifndef TRAPLINE_ARCH_X86_KEEP_H
#define TRAPLINE_ARCH_X86_KEEP_H

#include "arch/x86/kernel.h"

struct keeper;

/* `kernel` was loaded and stays open until keeper_stop(). NULL where there is nothing to keep, or no way. */
struct keeper *keeper_start(const struct kernel *kernel);
/* It ends soon, and what it had not finished is dropped. NULL is fine. */
void keeper_stop(struct keeper *keeper);

#endif
