/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_clock.c - guest time, timers, and the event loop that drives them. */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/loop.h"

#define MS 1000000ULL

struct shot {
	struct clock *clock;
	struct timer timer;
	uint64_t at[32]; /* clock ns when it ran */
	unsigned runs;
	uint64_t period;
	unsigned *order, place;
	struct timer *victim;
};

static void shot_fn(void *arg)
{
	struct shot *shot = arg;

	if (shot->runs < 32)
		shot->at[shot->runs] = clock_now(shot->clock);
	shot->runs++;
	if (shot->order)
		shot->place = ++*shot->order;
	if (shot->victim)
		timer_cancel(shot->victim);
	if (shot->period)
		timer_arm(&shot->timer, shot->timer.deadline + shot->period);
}

static void shot_init(struct shot *shot, struct clock *clock)
{
	*shot = (struct shot){ .clock = clock };
	timer_init(&shot->timer, clock, shot_fn, shot, NULL);
}

static void test_manual_time(void **state)
{
	struct clock clock;

	clock_init(&clock, true, 1000);
	assert_int_equal(clock_now(&clock), 0);
	assert_int_equal(clock_wall(&clock), 1000);
	usleep(1000);
	assert_int_equal(clock_now(&clock), 0);
	clock_step(&clock, 250);
	assert_int_equal(clock_now(&clock), 250);
	assert_int_equal(clock_wall(&clock), 1250);
	assert_true(clock_next(&clock) == CLOCK_NEVER);
	clock_stop(&clock);
	clock_step(&clock, 250);
	assert_int_equal(clock_now(&clock), 250);
	clock_start(&clock);
	clock_step(&clock, 1);
	assert_int_equal(clock_now(&clock), 251);
	clock_step(&clock, UINT64_MAX);
	assert_true(clock_now(&clock) == UINT64_MAX - 1);
	clock_fini(&clock);
}

static void test_deadline_order(void **state)
{
	struct shot a, b, c, d;
	struct clock clock;
	unsigned order = 0;

	clock_init(&clock, true, 0);
	shot_init(&a, &clock);
	shot_init(&b, &clock);
	shot_init(&c, &clock);
	shot_init(&d, &clock);
	a.order = b.order = c.order = d.order = &order;
	timer_arm(&a.timer, 300);
	timer_arm(&b.timer, 100);
	timer_arm(&c.timer, 300);
	timer_arm(&d.timer, 301);
	clock_step(&clock, 99);
	assert_int_equal(order, 0);
	clock_step(&clock, 201);
	assert_int_equal(b.place, 1);
	assert_int_equal(b.at[0], 100);
	assert_int_equal(a.place, 2);
	assert_int_equal(c.place, 3); /* armed later, same deadline */
	assert_int_equal(a.at[0], 300);
	assert_int_equal(d.runs, 0);
	clock_step(&clock, 1);
	assert_int_equal(d.runs, 1);
	clock_fini(&clock);
}

static void test_periodic(void **state)
{
	struct clock clock;
	struct shot tick;

	clock_init(&clock, true, 0);
	shot_init(&tick, &clock);
	tick.period = 10;
	timer_arm(&tick.timer, 10);
	clock_step(&clock, 105);
	assert_int_equal(tick.runs, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(tick.at[i], 10 * (i + 1));
	assert_int_equal(clock_now(&clock), 105);
	timer_cancel(&tick.timer);
	timer_cancel(&tick.timer);
	clock_step(&clock, 1000);
	assert_int_equal(tick.runs, 10);
	clock_fini(&clock);
}

static void test_move_cancel_past(void **state)
{
	struct clock clock;
	struct shot a, b;

	clock_init(&clock, true, 0);
	shot_init(&a, &clock);
	shot_init(&b, &clock);
	timer_arm(&a.timer, 100);
	timer_arm(&a.timer, 200);
	clock_step(&clock, 150);
	assert_int_equal(a.runs, 0);
	timer_arm(&a.timer, 20); /* past */
	assert_int_equal(a.runs, 0);
	clock_run(&clock);
	assert_int_equal(a.runs, 1);
	assert_int_equal(a.at[0], 150); /* time does not go back */
	/* One timer's function cancels another that is due in the same step. */
	a.victim = &b.timer;
	timer_arm(&a.timer, 200);
	timer_arm(&b.timer, 200);
	clock_step(&clock, 100);
	assert_int_equal(a.runs, 2);
	assert_int_equal(b.runs, 0);
	clock_fini(&clock);
}

static void test_real_time(void **state)
{
	struct timespec ts;
	struct clock clock;
	uint64_t t0, t1;
	int64_t wall;

	clock_init(&clock, false, 77);
	t0 = clock_now(&clock);
	assert_true(t0 < 1000 * MS);
	usleep(2000);
	t1 = clock_now(&clock);
	assert_true(t1 >= t0 + 2 * MS);
	wall = clock_wall(&clock);
	clock_gettime(CLOCK_REALTIME, &ts);
	assert_true(llabs((long long)ts.tv_sec * 1000000000LL + ts.tv_nsec - wall) < 1000000000LL);
	clock_stop(&clock);
	t0 = clock_now(&clock);
	usleep(2000);
	assert_true(clock_now(&clock) == t0);
	clock_stop(&clock); /* again: nothing */
	clock_start(&clock);
	t1 = clock_now(&clock);
	assert_true(t1 >= t0 && t1 < t0 + 1000 * MS);
	clock_start(&clock);
	assert_true(clock_now(&clock) >= t1);
	clock_fini(&clock);
}

static void test_stopped_keeps_timers(void **state)
{
	struct clock clock;
	struct shot a;

	clock_init(&clock, false, 0);
	shot_init(&a, &clock);
	clock_stop(&clock);
	timer_arm(&a.timer, 0);
	assert_true(clock_next(&clock) == CLOCK_NEVER);
	clock_run(&clock);
	assert_int_equal(a.runs, 0);
	clock_start(&clock);
	assert_true(clock_next(&clock) != CLOCK_NEVER);
	clock_run(&clock);
	assert_int_equal(a.runs, 1);
	timer_arm(&a.timer, CLOCK_NEVER);
	assert_true(clock_next(&clock) == CLOCK_NEVER);
	clock_fini(&clock);
}

/* A timer that always falls due again at once does not keep clock_run() for ever. */
static void relentless_fn(void *arg)
{
	struct shot *shot = arg;

	shot->runs++;
	timer_arm(&shot->timer, 0);
}

static void test_run_is_bounded(void **state)
{
	struct clock clock;
	struct shot a;

	clock_init(&clock, false, 0);
	shot_init(&a, &clock);
	a.timer.fn = relentless_fn;
	timer_arm(&a.timer, 0);
	clock_run(&clock);
	assert_true(a.runs >= 1 && a.runs < 1000);
	clock_fini(&clock);
}

static unsigned rearms;
static uint64_t rearm_next;

static void note_rearm(void *arg, uint64_t next)
{
	rearms++;
	rearm_next = next;
}

static void test_rearm_only_sooner(void **state)
{
	struct clock clock;
	struct shot a, b;

	clock_init(&clock, false, 0);
	clock.rearm = note_rearm;
	rearms = 0;
	shot_init(&a, &clock);
	shot_init(&b, &clock);
	timer_arm(&a.timer, 1000 * NSEC_PER_SEC);
	assert_int_equal(rearms, 1);
	assert_true(rearm_next == clock_next(&clock));
	timer_arm(&b.timer, 2000 * NSEC_PER_SEC);
	assert_int_equal(rearms, 1);
	timer_arm(&b.timer, 500 * NSEC_PER_SEC);
	assert_int_equal(rearms, 2);
	assert_true(rearm_next == clock_next(&clock));
	clock_stop(&clock);
	clock_start(&clock);
	assert_int_equal(rearms, 3);
	assert_true(rearm_next == clock_next(&clock));
	clock_fini(&clock);
}

/*
 * Exact cancellation: the other thread has taken the timer and waits for the lock; after the lock's holder has
 * cancelled, the function does not run.
 */
struct exact {
	pthread_mutex_t lock;
	struct clock clock;
	struct timer timer;
	bool forbidden, quit;
	unsigned fired, violations, rounds;
};

static void exact_fn(void *arg)
{
	struct exact *exact = arg;

	exact->fired++;
	exact->violations += exact->forbidden;
}

static void *exact_runner(void *arg)
{
	struct exact *exact = arg;

	while (!__atomic_load_n(&exact->quit, __ATOMIC_ACQUIRE)) {
		clock_run(&exact->clock);
		__atomic_fetch_add(&exact->rounds, 1, __ATOMIC_ACQ_REL);
		sched_yield();
	}
	return NULL;
}

static bool exact_taken(struct exact *exact)
{
	bool taken;

	pthread_mutex_lock(&exact->clock.lock);
	taken = !exact->timer.armed;
	pthread_mutex_unlock(&exact->clock.lock);
	return taken;
}

static void test_exact_cancel(void **state)
{
	struct exact exact = { 0 };
	unsigned cancels = 500;
	pthread_t thread;

	pthread_mutex_init(&exact.lock, NULL);
	clock_init(&exact.clock, false, 0);
	timer_init(&exact.timer, &exact.clock, exact_fn, &exact, &exact.lock);
	assert_int_equal(pthread_create(&thread, NULL, exact_runner, &exact), 0);
	for (unsigned i = 0; i < cancels; i++) {
		unsigned rounds;

		pthread_mutex_lock(&exact.lock);
		timer_arm(&exact.timer, 0);
		while (!exact_taken(&exact))
			sched_yield();
		/* Half the time it is moved instead, far away. */
		if (i & 1)
			timer_arm(&exact.timer, CLOCK_NEVER - 1);
		else
			timer_cancel(&exact.timer);
		exact.forbidden = true;
		rounds = __atomic_load_n(&exact.rounds, __ATOMIC_ACQUIRE);
		pthread_mutex_unlock(&exact.lock);
		/* Until the runner has been past its lock. */
		while (__atomic_load_n(&exact.rounds, __ATOMIC_ACQUIRE) < rounds + 2)
			sched_yield();
		pthread_mutex_lock(&exact.lock);
		timer_cancel(&exact.timer);
		exact.forbidden = false;
		pthread_mutex_unlock(&exact.lock);
	}
	assert_int_equal(exact.violations, 0);
	assert_int_equal(exact.fired, 0);
	/* Not cancelled, it runs: the same set-up can see it. */
	timer_arm(&exact.timer, 0);
	for (bool fired = false; !fired; sched_yield()) {
		pthread_mutex_lock(&exact.lock);
		fired = exact.fired == 1;
		pthread_mutex_unlock(&exact.lock);
	}
	__atomic_store_n(&exact.quit, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	clock_fini(&exact.clock);
	pthread_mutex_destroy(&exact.lock);
}

static void *loop_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

struct late {
	struct loop *loop;
	struct clock *clock;
	struct timer timer;
	uint64_t at;
};

static void late_fn(void *arg)
{
	struct late *late = arg;

	late->at = clock_now(late->clock);
	loop_quit(late->loop);
}

static void test_loop_runs_timers(void **state)
{
	struct clock clock;
	struct loop loop;
	struct late late = { .loop = &loop, .clock = &clock };
	uint64_t deadline;

	clock_init(&clock, false, 0);
	assert_int_equal(loop_init(&loop, &clock), 0);
	timer_init(&late.timer, &clock, late_fn, &late, NULL);
	deadline = clock_now(&clock) + 5 * MS;
	timer_arm(&late.timer, deadline);
	loop_run(&loop);
	assert_true(late.at >= deadline);
	timer_arm(&late.timer, 0);
	loop_run(&loop);
	assert_true(late.at > deadline);
	/* A thread that tells of an older deadline after another has told of a sooner one does no harm. */
	timer_arm(&late.timer, clock_now(&clock) + 5 * MS);
	clock.rearm(clock.rearm_arg, clock_next(&clock) + 3600 * NSEC_PER_SEC);
	loop_run(&loop);
	loop_fini(&loop);
	assert_null(clock.rearm);
	clock_fini(&clock);
}

static void test_loop_pause(void **state)
{
	struct clock clock;
	struct loop loop;
	struct late late = { .loop = &loop, .clock = &clock };
	pthread_t thread;
	uint64_t deadline, now;

	clock_init(&clock, false, 0);
	assert_int_equal(loop_init(&loop, &clock), 0);
	timer_init(&late.timer, &clock, late_fn, &late, NULL);
	deadline = clock_now(&clock) + 10 * MS;
	timer_arm(&late.timer, deadline);
	clock_stop(&clock);
	now = clock_now(&clock);
	assert_int_equal(pthread_create(&thread, NULL, loop_thread, &loop), 0);
	usleep(40000);
	assert_true(clock_now(&clock) == now);
	clock_start(&clock);
	pthread_join(thread, NULL);
	assert_true(late.at >= deadline);
	loop_fini(&loop);
	clock_fini(&clock);
}

/* Threads that arm sooner and sooner timers at once: each of them runs, soon, or the test hangs. */
#define STORM_THREADS 4
#define STORM_TIMERS  400

struct storm {
	struct loop *loop;
	struct clock *clock;
	unsigned *left;
	struct timer timers[STORM_TIMERS];
};

static void storm_fn(void *arg)
{
	struct storm *storm = arg;

	if (__atomic_sub_fetch(storm->left, 1, __ATOMIC_ACQ_REL) == 0)
		loop_quit(storm->loop);
}

static void *storm_thread(void *arg)
{
	struct storm *storm = arg;
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < STORM_TIMERS; i++) {
		timer_init(&storm->timers[i], storm->clock, storm_fn, storm, NULL);
		timer_arm(&storm->timers[i], clock_now(storm->clock) + (unsigned)rand_r(&seed) % 2000000);
		if (i % 8 == 0)
			usleep(100);
	}
	return NULL;
}

static void test_loop_timer_storm(void **state)
{
	struct storm *storms = calloc(STORM_THREADS, sizeof(*storms));
	unsigned left = STORM_THREADS * STORM_TIMERS;
	pthread_t threads[STORM_THREADS];
	struct clock clock;
	struct loop loop;

	assert_non_null(storms);
	clock_init(&clock, false, 0);
	assert_int_equal(loop_init(&loop, &clock), 0);
	for (unsigned i = 0; i < STORM_THREADS; i++) {
		storms[i] = (struct storm){ .loop = &loop, .clock = &clock, .left = &left };
		assert_int_equal(pthread_create(&threads[i], NULL, storm_thread, &storms[i]), 0);
	}
	loop_run(&loop);
	assert_int_equal(left, 0);
	for (unsigned i = 0; i < STORM_THREADS; i++)
		pthread_join(threads[i], NULL);
	loop_fini(&loop);
	clock_fini(&clock);
	free(storms);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manual_time),
		cmocka_unit_test(test_deadline_order),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_move_cancel_past),
		cmocka_unit_test(test_real_time),
		cmocka_unit_test(test_stopped_keeps_timers),
		cmocka_unit_test(test_run_is_bounded),
		cmocka_unit_test(test_rearm_only_sooner),
		cmocka_unit_test(test_exact_cancel),
		cmocka_unit_test(test_loop_runs_timers),
		cmocka_unit_test(test_loop_pause),
		cmocka_unit_test(test_loop_timer_storm),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
