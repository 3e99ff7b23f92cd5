/* SPDX-License-Identifier: BSD-2-Clause */
/* unit.h - what every test program begins with: cmocka, what its header wants before it, and a thread for the bus. */
#ifndef TRAPLINE_TESTS_UNIT_H
#define TRAPLINE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

#endif
