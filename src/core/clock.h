/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h - the only time that devices know.
 *
 * A clock counts nanoseconds of the guest's running time from the machine's start; it stands still while the
 * machine is paused. It either follows the host (the event loop calls clock_run() when clock_next() is due)
 * or is stepped by hand (tests, replay), so everything that a device does about time can be repeated.
 */
#ifndef TRAPLINE_CORE_CLOCK_H
#define TRAPLINE_CORE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NSEC_PER_SEC 1000000000ULL
#define CLOCK_NEVER  UINT64_MAX

struct timer;

struct clock {
	pthread_mutex_t lock; /* a leaf: nothing else is taken under it */
	bool manual;
	bool stopped;
	int64_t offset;       /* host monotonic ns minus clock ns, while running */
	uint64_t now;         /* while stopped or manual */
	int64_t epoch;        /* wall clock ns since 1970 at clock 0; manual clocks only move with `now` */
	struct timer *timers; /* armed, soonest first */
	/*
	 * There is a sooner deadline than before: `next` host ns, as of
	 * clock_next(). From any thread, without the lock.
	 */
	void (*rearm)(void *arg, uint64_t next);
	void *rearm_arg;
};

/* Embedded in its device. fn runs on the thread that calls clock_run(), with `lock` held around it. */
struct timer {
	struct clock *clock;
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t *lock; /* usually the device's; NULL: fn protects itself */
	uint64_t deadline;     /* clock ns */
	bool armed, due;
	struct timer *next;
};

/*
 * Starts at 0 and runs. Not manual: the wall clock is the host's, and epoch unused. manual: starts at 0 with wall time
 * `epoch` ns since 1970 and moves by clock_step() only.
 */
void clock_init(struct clock *clock, bool manual, int64_t epoch);
void clock_fini(struct clock *clock);
uint64_t clock_now(struct clock *clock); /* ns since the machine's start */
int64_t clock_wall(struct clock *clock); /* ns since 1970, UTC */
void clock_stop(struct clock *clock);    /* pause: time stands still, timers wait */
void clock_start(struct clock *clock);
void clock_step(struct clock *clock, uint64_t ns); /* manual clocks: move on and run what falls due, in order */
void clock_jump(struct clock *clock, int64_t ns);  /* manual clocks: the wall clock alone is set, as a host's may be */

uint64_t clock_next(struct clock *clock); /* host CLOCK_MONOTONIC ns of the soonest timer, or CLOCK_NEVER */
/* Runs timers that are due: a bounded number, so look at clock_next() again. The caller holds no device's lock. */
void clock_run(struct clock *clock);

void timer_init(struct timer *timer, struct clock *clock, void (*fn)(void *), void *arg, pthread_mutex_t *lock);
/*
 * Both are legal in handlers. A timer that its lock's holder cancels does not run afterwards; but it may be freed
 * only on the thread that runs the clock, or while none does, and not by its own fn: clock_run() may be at its lock.
 * deadline: clock ns; moves an armed timer; one that is past runs at the next clock_run().
 */
void timer_arm(struct timer *timer, uint64_t deadline);
void timer_cancel(struct timer *timer);

#endif
