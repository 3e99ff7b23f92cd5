/* SPDX-License-Identifier: BSD-2-Clause */
/* keep.c - the thread that writes the cache of unpacked kernels. */
#include "arch/x86/keep.h"

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>

#include "arch/x86/inner.h"
#include "core/thread.h"

struct keeper {
	pthread_t thread;
	bool stop;
	sem_t over;           /* nobody needs the thread any more */
	struct kernel kernel; /* a copy: the machine's changes with each reset. The open file is the machine's. */
};

static void *keep(void *arg)
{
	static const struct sched_param none = { 0 };
	struct keeper *keeper = arg;
	struct kernel *kernel = &keeper->kernel;
	struct inner *inner = NULL;
	struct kernel_cache cache;
	int r = kernel_cache_create(&cache, &kernel->image, kernel->payload, kernel->payload_size);

	r = r ? r : inner_copy_open(&inner, kernel);
	/* Only now: on a busy host it would keep the lock of the loader of libraries from others for long. */
	(void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
	if (r == 0)
		(void)inner_copy(inner, kernel, &cache, &keeper->stop);
	inner_close(inner);
	kernel_cache_close(&cache);
	/* The first decoder's buffers are gone as mappings; by then the allocator takes such sizes from the heap. */
	malloc_trim(0);
	/*
	 * To end a thread glibc touches 150 KiB of itself, which stay resident: it waits for the guest's end instead.
	 */
	while (sem_wait(&keeper->over) && errno == EINTR)
		;
	return NULL;
}

struct keeper *keeper_start(const struct kernel *kernel)
{
	struct keeper *keeper;

	if (kernel->cache != KERNEL_CACHE_KEEP || kernel->from != KERNEL_FROM_FILE_CACHED_NEXT)
		return NULL;
	keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return NULL;
	keeper->kernel = *kernel;
	sem_init(&keeper->over, 0, 0);
	if (thread_start(&keeper->thread, "kernel-cache", keep, keeper) == 0)
		return keeper;
	sem_destroy(&keeper->over);
	free(keeper);
	return NULL;
}

void keeper_stop(struct keeper *keeper)
{
	static const struct sched_param none = { 0 };

	if (!keeper)
		return;
	__atomic_store_n(&keeper->stop, true, __ATOMIC_RELAXED);
	/* Or it may have to wait for its turn on a busy host, and we for it. */
	(void)pthread_setschedparam(keeper->thread, SCHED_OTHER, &none);
	sem_post(&keeper->over);
	pthread_join(keeper->thread, NULL);
	sem_destroy(&keeper->over);
	free(keeper);
}
