/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.c - the event loop.
 *
 * One event is taken from epoll at a time: a watch that a callback has removed can then not be met again in
 * the same batch, and epoll itself goes round the ready files, so none starves. An eventfd wakes the loop
 * for posted work and quitting; a timerfd follows the clock's soonest timer.
 */
#include "core/loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Work done at a wake-up; what is left waits for the files' turn, so that work cannot starve them. */
#define LOOP_BATCH 64

/*
 * From any thread. Two threads may set the timerfd in the other order than they changed the clock, so
 * each looks again after it has set it: the last to set has seen the last change.
 */
static void loop_rearm(void *arg, uint64_t next)
{
	struct loop *loop = arg;
	uint64_t set;

	do {
		struct itimerspec when = { 0 };

		set = next;
		if (set != CLOCK_NEVER) {
			/* 0 would disarm; so would a time beyond what the kernel takes fail. */
			uint64_t ns = set ? set : 1;

			if (ns > INT64_MAX)
				ns = INT64_MAX;
			when.it_value.tv_sec = (time_t)(ns / NSEC_PER_SEC);
			when.it_value.tv_nsec = (long)(ns % NSEC_PER_SEC);
		}
		timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &when, NULL);
		next = clock_next(loop->clock);
	} while (next != set);
}

static void loop_wake(struct loop *loop)
{
	uint64_t one = 1;

	/* Fails only where the counter is full, and then the loop is awake. */
	while (write(loop->event, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static int loop_add_own(struct loop *loop, int *fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = fd };

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, *fd, &ev);
}

int loop_init(struct loop *loop, struct clock *clock)
{
	int rc;

	*loop = (struct loop){ .clock = clock, .event = -1, .timer = -1 };
	pthread_mutex_init(&loop->lock, NULL);
	loop->work_tail = &loop->work;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0)
		goto fail;
	loop->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->event < 0 || loop_add_own(loop, &loop->event) < 0)
		goto fail;
	loop->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->timer < 0 || loop_add_own(loop, &loop->timer) < 0)
		goto fail;
	if (clock) {
		clock->rearm = loop_rearm;
		clock->rearm_arg = loop;
		loop_rearm(loop, clock_next(clock));
	}
	return 0;
fail:
	rc = -errno;
	loop->clock = NULL;
	loop_fini(loop);
	return rc;
}

void loop_fini(struct loop *loop)
{
	if (loop->clock) {
		loop->clock->rearm = NULL;
		loop->clock = NULL;
	}
	if (loop->timer >= 0)
		close(loop->timer);
	if (loop->event >= 0)
		close(loop->event);
	if (loop->epoll >= 0)
		close(loop->epoll);
	loop->timer = loop->event = loop->epoll = -1;
	pthread_mutex_destroy(&loop->lock);
}

int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = watch };

	/* Errors and hang-ups are told even where nothing is asked for: a file not wanted must be out of the set. */
	if (!events) {
		loop_unwatch(loop, watch);
		return 0;
	}
	if (watch->added && watch->events == events)
		return 0;
	if (epoll_ctl(loop->epoll, watch->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &ev) < 0)
		return -errno;
	watch->added = true;
	watch->events = events;
	return 0;
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	if (!watch->added)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->added = false;
	watch->events = 0;
}

void loop_post(struct loop *loop, struct loop_work *work)
{
	bool wake;

	pthread_mutex_lock(&loop->lock);
	if (work->pending) {
		pthread_mutex_unlock(&loop->lock);
		return;
	}
	wake = !loop->work;
	work->pending = true;
	work->next = NULL;
	*loop->work_tail = work;
	loop->work_tail = &work->next;
	pthread_mutex_unlock(&loop->lock);
	if (wake)
		loop_wake(loop);
}

void loop_cancel(struct loop *loop, struct loop_work *work)
{
	struct loop_work **at = &loop->work;

	pthread_mutex_lock(&loop->lock);
	if (work->pending) {
		while (*at != work)
			at = &(*at)->next;
		*at = work->next;
		if (loop->work_tail == &work->next)
			loop->work_tail = at;
		work->pending = false;
	}
	pthread_mutex_unlock(&loop->lock);
}

static struct loop_work *loop_take(struct loop *loop)
{
	struct loop_work *work;

	pthread_mutex_lock(&loop->lock);
	work = loop->work;
	if (work) {
		loop->work = work->next;
		if (!loop->work)
			loop->work_tail = &loop->work;
		work->pending = false;
	}
	pthread_mutex_unlock(&loop->lock);
	return work;
}

static void loop_do_work(struct loop *loop)
{
	struct loop_work *work;
	uint64_t count;
	bool more;

	/* Before the list is looked at: a post after this wakes the loop again. */
	(void)!read(loop->event, &count, sizeof(count));
	for (unsigned n = 0; n < LOOP_BATCH; n++) {
		work = loop_take(loop);
		if (!work)
			return;
		work->fn(work->arg);
	}
	pthread_mutex_lock(&loop->lock);
	more = loop->work;
	pthread_mutex_unlock(&loop->lock);
	if (more)
		loop_wake(loop);
}

static void loop_do_timers(struct loop *loop)
{
	uint64_t count;

	(void)!read(loop->timer, &count, sizeof(count));
	if (!loop->clock)
		return;
	clock_run(loop->clock);
	loop_rearm(loop, clock_next(loop->clock));
}

void loop_run(struct loop *loop)
{
	while (!__atomic_exchange_n(&loop->quit, false, __ATOMIC_ACQ_REL)) {
		struct epoll_event ev;
		int n = epoll_wait(loop->epoll, &ev, 1, -1);

		if (n < 0 && errno != EINTR)
			return;
		if (n <= 0)
			continue;
		if (ev.data.ptr == &loop->event) {
			loop_do_work(loop);
		} else if (ev.data.ptr == &loop->timer) {
			loop_do_timers(loop);
		} else {
			struct loop_watch *watch = ev.data.ptr;

			watch->fn(watch->arg, ev.events);
		}
	}
}

void loop_quit(struct loop *loop)
{
	__atomic_store_n(&loop->quit, true, __ATOMIC_RELEASE);
	loop_wake(loop);
}
