/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.h - the event loop (epoll): host file descriptors, the clock's timers, and calls posted from vCPUs.
 */
#ifndef TRAPLINE_CORE_LOOP_H
#define TRAPLINE_CORE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "core/clock.h"

struct loop_watch {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT; 0: not watched now */
	void (*fn)(void *arg, uint32_t events);
	void *arg;
	bool added; /* the loop's own */
};

/* Work to do on the loop's thread. Embedded in its owner; posting a pending one again does nothing. */
struct loop_work {
	void (*fn)(void *arg);
	void *arg;
	bool pending; /* the loop's own, under its lock */
	struct loop_work *next;
};

struct loop {
	int epoll, event, timer; /* fds */
	struct clock *clock;
	pthread_mutex_t lock; /* a leaf: protects the work list only */
	struct loop_work *work, **work_tail;
	bool quit; /* atomic */
};

/* 0 or -errno. The clock's timers run on the loop's thread from now on; clock may be NULL. */
int loop_init(struct loop *loop, struct clock *clock) __attribute__((warn_unused_result));
void loop_fini(struct loop *loop);
/*
 * 0 or -errno; with events 0 the fd is not watched. -EPERM: a regular file, which is always ready and cannot be
 * polled. From any thread, one at a time for a watch; removal takes effect at once when called on the loop's
 * thread, and a watch may be freed only then, or while the loop does not run.
 */
int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events);
void loop_unwatch(struct loop *loop, struct loop_watch *watch);
void loop_post(struct loop *loop, struct loop_work *work); /* from any thread, legal in handlers */
/* Takes posted work back; on the loop's thread, or while it does not run, it is not called afterwards. */
void loop_cancel(struct loop *loop, struct loop_work *work);
/* Runs until loop_quit(), which may come before it; may be run again then. */
void loop_run(struct loop *loop);
void loop_quit(struct loop *loop); /* from any thread, legal in handlers */

#endif
