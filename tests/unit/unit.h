/* SPDX-License-Identifier: BSD-2-Clause */
/* unit.h - what every test program begins with: cmocka, what its header wants before it, and a thread for the bus. */
#ifndef TRAPLINE_TESTS_UNIT_H
#define TRAPLINE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <cmocka.h>

#include "core/thread.h"

/* A group's set-up and teardown: the thread that runs its tests may access a bus. */
static inline int unit_adopt(void **state)
{
	thread_adopt();
	return 0;
}

static inline int unit_release(void **state)
{
	thread_release();
	return 0;
}

/*
 * The program is killed (SIGPROF) when it has used so much of a processor: who goes round for ever does, and who only
 * has to share the machine with others does not. Who waits for ever is bounded by meson's patience.
 */
static inline int unit_bound(time_t seconds)
{
	const struct itimerval when = { .it_value = { .tv_sec = seconds } };

	return setitimer(ITIMER_PROF, &when, NULL);
}

#endif
