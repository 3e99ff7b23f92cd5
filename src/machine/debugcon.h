/* SPDX-License-Identifier: BSD-2-Clause */
/* debugcon.h - where the debug console's output goes: --debugcon. */
#ifndef TRAPLINE_MACHINE_DEBUGCON_H
#define TRAPLINE_MACHINE_DEBUGCON_H

#include "core/error.h"

struct machine;

/*
 * A stage: opens what config.debugcon names, "stderr" or "file:PATH" (emptied when
 * the guest runs); NULL: no such device.
 */
int debugcon_up(struct machine *m, struct error *err) __attribute__((warn_unused_result));
void debugcon_down(struct machine *m);

#endif
