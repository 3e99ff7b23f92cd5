/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reference.h - the yardstick of `make bench`: dispatch as most machine monitors do it.
 *
 * A balanced interval tree under one mutex, which an access takes twice: to look up and take a reference, and
 * to drop it after the handler. Frozen: figures are ratios to it, so it must not change.
 */
#ifndef TRAPLINE_BENCH_REFERENCE_H
#define TRAPLINE_BENCH_REFERENCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/trap.h"

struct reference;

struct reference *reference_new(void);
void reference_free(struct reference *ref);

/* Stretches do not overlap. `lock` is held around fn; it may be NULL. 0 or -ENOMEM. */
int reference_add(struct reference *ref, uint64_t base, uint64_t size, trap_fn *fn, void *dev, pthread_mutex_t *lock);

/* `len` is 1, 2, 4 or 8. False, and all ones for a read, if nobody is there. */
bool reference_access(struct reference *ref, uint64_t addr, void *data, unsigned len, bool write);

#endif
