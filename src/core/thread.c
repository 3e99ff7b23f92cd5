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

static void *early_main(void *data)
{
	struct early_thread *early = data;
	void *(*fn)(void *);
	void *arg;

	(void)early->fn(early->arg);
	pthread_mutex_lock(&early->lock);
	early->fn = NULL;
	pthread_cond_signal(&early->changed);
	while (!early->fn && !early->over)
		pthread_cond_wait(&early->changed, &early->lock);
	fn = early->fn;
	arg = early->arg;
	pthread_mutex_unlock(&early->lock);
	if (!fn)
		return NULL;
	(void)pthread_setname_np(pthread_self(), early->name);
	return fn(arg);
}

int early_start(struct early_thread *early, const char *name, void *(*fn)(void *), void *arg)
{
	int r;

	pthread_mutex_init(&early->lock, NULL);
	pthread_cond_init(&early->changed, NULL);
	early->fn = fn;
	early->arg = arg;
	r = thread_start(&early->thread, name, early_main, early);
	early->up = r == 0;
	return r;
}

void early_wait(struct early_thread *early)
{
	pthread_mutex_lock(&early->lock);
	while (early->fn)
		pthread_cond_wait(&early->changed, &early->lock);
	pthread_mutex_unlock(&early->lock);
}

void early_go_on(struct early_thread *early, const char *name, void *(*fn)(void *), void *arg, pthread_t *thread)
{
	*thread = early->thread;
	early->up = false;
	pthread_mutex_lock(&early->lock);
	early->name = name;
	early->fn = fn;
	early->arg = arg;
	pthread_cond_signal(&early->changed);
	pthread_mutex_unlock(&early->lock);
}

void early_end(struct early_thread *early)
{
	if (!early->up)
		return;
	early_wait(early);
	pthread_mutex_lock(&early->lock);
	early->over = true;
	pthread_cond_signal(&early->changed);
	pthread_mutex_unlock(&early->lock);
	pthread_join(early->thread, NULL);
	early->up = false;
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
