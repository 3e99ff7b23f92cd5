/* SPDX-License-Identifier: BSD-2-Clause */
/* boot_mark.h - what the guest's init and the stopwatch have agreed on. */
#ifndef TRAPLINE_BENCH_BOOT_MARK_H
#define TRAPLINE_BENCH_BOOT_MARK_H

#define BOOT_MARK     "@init"
#define BOOT_PAUSE_MS 300 /* idle after the mark, in which counters are read */

#endif
