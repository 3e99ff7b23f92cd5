/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.c - guest time and timers.
 *
 * A timer's function runs with the timer's lock (its device's) held and the clock's lock free, since
 * devices arm timers with their own lock held. So a timer that falls due is first taken off the list
 * and marked `due` under the clock's lock, then its own lock is taken, then the mark is looked at again:
 * whoever held the device's lock in between and cancelled or moved the timer has cleared it.
 */
#include "core/clock.h"

#include <stddef.h>
#include <time.h>

/* Timers run by one clock_run(): one that keeps falling due must not starve the event loop's files. */
#define CLOCK_BATCH 64

static uint64_t clock_host(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* With the clock's lock held. */
static uint64_t clock_read(const struct clock *clock)
{
	if (clock->manual || clock->stopped)
		return clock->now;
	return clock_host(CLOCK_MONOTONIC) - (uint64_t)clock->offset;
}

/* Host time of the soonest timer, with the clock's lock held. */
static uint64_t clock_soonest(const struct clock *clock)
{
	uint64_t next;

	if (clock->manual || clock->stopped || !clock->timers)
		return CLOCK_NEVER;
	/* An offset is negative only where a clock was set ahead of the host's. */
	if (clock->offset < 0) {
		uint64_t ahead = -(uint64_t)clock->offset;

		return clock->timers->deadline > ahead ? clock->timers->deadline - ahead : 0;
	}
	if (__builtin_add_overflow(clock->timers->deadline, (uint64_t)clock->offset, &next))
		return CLOCK_NEVER;
	return next;
}

void clock_init(struct clock *clock, bool manual, int64_t epoch)
{
	*clock = (struct clock){ .manual = manual, .epoch = epoch };
	pthread_mutex_init(&clock->lock, NULL);
	if (!manual)
		clock->offset = (int64_t)clock_host(CLOCK_MONOTONIC);
}

void clock_fini(struct clock *clock)
{
	pthread_mutex_destroy(&clock->lock);
}

uint64_t clock_now(struct clock *clock)
{
	uint64_t now;

	pthread_mutex_lock(&clock->lock);
	now = clock_read(clock);
	pthread_mutex_unlock(&clock->lock);
	return now;
}

int64_t clock_wall(struct clock *clock)
{
	int64_t wall;

	if (!clock->manual)
		return (int64_t)clock_host(CLOCK_REALTIME);
	pthread_mutex_lock(&clock->lock);
	wall = clock->epoch + (int64_t)clock->now;
	pthread_mutex_unlock(&clock->lock);
	return wall;
}

void clock_stop(struct clock *clock)
{
	pthread_mutex_lock(&clock->lock);
	if (!clock->stopped) {
		clock->now = clock_read(clock);
		clock->stopped = true;
	}
	pthread_mutex_unlock(&clock->lock);
}

void clock_start(struct clock *clock)
{
	uint64_t next;

	pthread_mutex_lock(&clock->lock);
	if (clock->stopped) {
		if (!clock->manual)
			clock->offset = (int64_t)(clock_host(CLOCK_MONOTONIC) - clock->now);
		clock->stopped = false;
	}
	next = clock_soonest(clock);
	pthread_mutex_unlock(&clock->lock);
	if (clock->rearm && next != CLOCK_NEVER)
		clock->rearm(clock->rearm_arg, next);
}

uint64_t clock_next(struct clock *clock)
{
	uint64_t next;

	pthread_mutex_lock(&clock->lock);
	next = clock_soonest(clock);
	pthread_mutex_unlock(&clock->lock);
	return next;
}

/* With the clock's lock held. Equal deadlines keep the order in which they were armed. */
static void timer_insert(struct clock *clock, struct timer *timer)
{
	struct timer **at = &clock->timers;

	while (*at && (*at)->deadline <= timer->deadline)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
	timer->armed = true;
}

/* With the clock's lock held. */
static void timer_unlink(struct clock *clock, struct timer *timer)
{
	struct timer **at = &clock->timers;

	timer->due = false;
	if (!timer->armed)
		return;
	while (*at != timer)
		at = &(*at)->next;
	*at = timer->next;
	timer->next = NULL;
	timer->armed = false;
}

/* Takes the soonest timer off the list if it is due by `limit`. A manual clock's time moves to its deadline. */
static struct timer *clock_take(struct clock *clock, uint64_t limit)
{
	struct timer *timer;

	pthread_mutex_lock(&clock->lock);
	timer = clock->timers;
	if (clock->stopped || !timer || timer->deadline > limit) {
		timer = NULL;
	} else {
		timer_unlink(clock, timer);
		timer->due = true;
		if (clock->manual && clock->now < timer->deadline)
			clock->now = timer->deadline;
	}
	pthread_mutex_unlock(&clock->lock);
	return timer;
}

static void clock_fire(struct clock *clock, struct timer *timer)
{
	bool run;

	if (timer->lock)
		pthread_mutex_lock(timer->lock);
	pthread_mutex_lock(&clock->lock);
	run = timer->due;
	timer->due = false;
	if (run && clock->stopped) {
		/* Time was stopped after the timer was taken: it waits for time to go on. */
		timer_insert(clock, timer);
		run = false;
	}
	pthread_mutex_unlock(&clock->lock);
	if (run)
		timer->fn(timer->arg);
	if (timer->lock)
		pthread_mutex_unlock(timer->lock);
}

void clock_run(struct clock *clock)
{
	uint64_t limit = clock_now(clock);
	struct timer *timer;

	for (unsigned n = 0; n < CLOCK_BATCH && (timer = clock_take(clock, limit)); n++)
		clock_fire(clock, timer);
}

void clock_step(struct clock *clock, uint64_t ns)
{
	struct timer *timer;
	uint64_t end;

	pthread_mutex_lock(&clock->lock);
	if (!clock->manual || clock->stopped) {
		pthread_mutex_unlock(&clock->lock);
		return;
	}
	if (__builtin_add_overflow(clock->now, ns, &end))
		end = CLOCK_NEVER - 1;
	pthread_mutex_unlock(&clock->lock);

	while ((timer = clock_take(clock, end)))
		clock_fire(clock, timer);

	pthread_mutex_lock(&clock->lock);
	if (!clock->stopped && clock->now < end)
		clock->now = end;
	pthread_mutex_unlock(&clock->lock);
}

void clock_jump(struct clock *clock, int64_t ns)
{
	pthread_mutex_lock(&clock->lock);
	clock->epoch += ns;
	pthread_mutex_unlock(&clock->lock);
}

void timer_init(struct timer *timer, struct clock *clock, void (*fn)(void *), void *arg, pthread_mutex_t *lock)
{
	*timer = (struct timer){ .clock = clock, .fn = fn, .arg = arg, .lock = lock };
}

void timer_arm(struct timer *timer, uint64_t deadline)
{
	struct clock *clock = timer->clock;
	uint64_t before, next;

	pthread_mutex_lock(&clock->lock);
	before = clock_soonest(clock);
	timer_unlink(clock, timer);
	timer->deadline = deadline;
	timer_insert(clock, timer);
	next = clock_soonest(clock);
	pthread_mutex_unlock(&clock->lock);
	/* Where the soonest moved back, the expiry already asked for comes early and finds nothing: cheaper. */
	if (clock->rearm && next < before)
		clock->rearm(clock->rearm_arg, next);
}

void timer_cancel(struct timer *timer)
{
	struct clock *clock = timer->clock;

	if (!clock)
		return;
	pthread_mutex_lock(&clock->lock);
	timer_unlink(clock, timer);
	pthread_mutex_unlock(&clock->lock);
}
