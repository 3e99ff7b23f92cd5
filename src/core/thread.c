/* SPDX-License-Identifier: BSD-2-Clause */
/* thread.c - births of threads. */
#include "core/thread.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"

/* Handlers go a few KiB deep; a sanitizer makes that some tens. Less than a huge page is what matters. */
#define STACK_SIZE (512 << 10)

struct thread_birth {
	void *(*fn)(void *);
	void *arg;
	char name[16];
};

static void *thread_main(void *arg)
{
	struct thread_birth *birth = arg;
	void *(*fn)(void *) = birth->fn;
	void *fn_arg = birth->arg, *ret;

	(void)pthread_setname_np(pthread_self(), birth->name);
	free(birth);
	bus_thread_enter();
	ret = fn(fn_arg);
	bus_thread_leave();
	return ret;
}

/* Faults of the thread itself stay deliverable: blocked, they kill without a handler's report. */
static void thread_mask(sigset_t *set)
{
	static const int open[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };

	sigfillset(set);
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		sigdelset(set, open[i]);
	sigdelset(set, KICK_SIGNAL);
}

int thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg)
{
	struct thread_birth *birth = calloc(1, sizeof(*birth));
	sigset_t mask, old;
	int rc;

	if (!birth)
		return -ENOMEM;
	birth->fn = fn;
	birth->arg = arg;
	strncpy(birth->name, name, sizeof(birth->name) - 1);
	/* The mask is inherited, so no signal finds the thread before it is in place. */
	thread_mask(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, &old);
	rc = pthread_create(thread, NULL, thread_main, birth);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		free(birth);
	return -rc;
}

void thread_small(void)
{
	pthread_attr_t attr;

	/* Threads allocate next to nothing, and what is shared they change under a lock anyway. */
	(void)mallopt(M_ARENA_MAX, 1);
	if (pthread_attr_init(&attr))
		return;
	/* A C library that refuses leaves its own size, which works too. */
	if (pthread_attr_setstacksize(&attr, STACK_SIZE) == 0)
		(void)pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

void thread_adopt(void)
{
	bus_thread_enter();
}

void thread_release(void)
{
	bus_thread_leave();
}
