/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_run.c - run states and the rendezvous, with threads that play vCPUs. */
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/list.h"
#include "core/run.h"

#define NR_VCPUS 8

/*
 * A vCPU whose guest runs until it is kicked, and for ever where a kick is lost: the alarm ends the test then.
 * `in_guest` may be true only while nobody believes the vCPU parked.
 */
struct fake {
	struct runner runner;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool kicked;       /* lock */
	unsigned in_guest; /* atomic, as all that follows */
	unsigned entries, kicks, completes;
	enum run_reason ask; /* asked for in the next handler */
	enum run_reason ask_in_complete;
	unsigned hold; /* the next handler holds */
};

static unsigned load(unsigned *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void add(unsigned *p)
{
	__atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST);
}

static void fake_kick(struct runner *runner)
{
	struct fake *fake = container_of(runner, struct fake, runner);

	add(&fake->kicks);
	pthread_mutex_lock(&fake->lock);
	fake->kicked = true;
	pthread_cond_signal(&fake->cond);
	pthread_mutex_unlock(&fake->lock);
}

static void fake_complete(struct runner *runner)
{
	struct fake *fake = container_of(runner, struct fake, runner);
	enum run_reason ask = __atomic_exchange_n(&fake->ask_in_complete, REASON_NONE, __ATOMIC_SEQ_CST);

	assert_false(runner->parked);
	add(&fake->completes);
	if (ask)
		run_request(runner->run, ask);
}

static void fake_guest(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	while (!fake->kicked)
		pthread_cond_wait(&fake->cond, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
}

static void *fake_thread(void *arg)
{
	struct fake *fake = arg;
	struct run *run = fake->runner.run;

	for (;;) {
		enum run_reason ask;

		pthread_mutex_lock(&fake->lock);
		fake->kicked = false;
		pthread_mutex_unlock(&fake->lock);
		if (!run_enter(&fake->runner))
			break;
		/* Who sees it in the guest and has it ask something means the next entry. */
		ask = __atomic_exchange_n(&fake->ask, REASON_NONE, __ATOMIC_SEQ_CST);
		add(&fake->entries);
		__atomic_store_n(&fake->in_guest, 1, __ATOMIC_SEQ_CST);
		if (__atomic_exchange_n(&fake->hold, 0, __ATOMIC_SEQ_CST))
			run_hold(run);
		else if (!ask)
			fake_guest(fake);
		__atomic_store_n(&fake->in_guest, 0, __ATOMIC_SEQ_CST);
		if (ask)
			run_request(run, ask);
	}
	run_leave(run, &fake->runner);
	return NULL;
}

struct bed {
	struct run run;
	struct fake fakes[NR_VCPUS];
	unsigned requested;
};

static void bed_requested(void *arg)
{
	struct bed *bed = arg;

	add(&bed->requested);
}

static struct bed *bed_new(unsigned n)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	assert_non_null(bed);
	run_init(&bed->run);
	bed->run.requested = bed_requested;
	bed->run.requested_arg = bed;
	for (unsigned i = 0; i < n; i++) {
		struct fake *fake = &bed->fakes[i];

		pthread_mutex_init(&fake->lock, NULL);
		pthread_cond_init(&fake->cond, NULL);
		fake->runner.kick = fake_kick;
		fake->runner.complete = fake_complete;
		run_join(&bed->run, &fake->runner);
	}
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_create(&bed->fakes[i].thread, NULL, fake_thread, &bed->fakes[i]), 0);
	return bed;
}

static void bed_join(struct bed *bed, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		pthread_join(bed->fakes[i].thread, NULL);
		pthread_cond_destroy(&bed->fakes[i].cond);
		pthread_mutex_destroy(&bed->fakes[i].lock);
	}
	assert_int_equal(bed->run.nr_runners, 0);
	assert_int_equal(bed->run.nr_parked, 0);
	assert_null(bed->run.runners);
	run_fini(&bed->run);
	free(bed);
}

static void wait_until(unsigned *p, unsigned at_least)
{
	while (load(p) < at_least)
		usleep(200);
}

/* An independent look: the vCPU says that it is in its guest, the rendezvous that it is not. */
static void check_parked(struct bed *bed, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(load(&bed->fakes[i].in_guest), 0);
}

static void test_starts_paused(void **state)
{
	struct bed *bed = bed_new(2);

	usleep(20000);
	assert_int_equal(load(&bed->fakes[0].entries) + load(&bed->fakes[1].entries), 0);
	assert_true(run_interrupted(&bed->run));
	run_resume(&bed->run);
	wait_until(&bed->fakes[0].entries, 1);
	wait_until(&bed->fakes[1].entries, 1);
	assert_false(run_interrupted(&bed->run));
	run_stop(&bed->run);
	bed_join(bed, 2);
}

static void test_park_cycles(void **state)
{
	struct bed *bed = bed_new(NR_VCPUS);
	unsigned seed = 1;

	for (unsigned i = 0; i < 2000; i++) {
		unsigned before[NR_VCPUS];

		run_resume(&bed->run);
		for (unsigned spin = (unsigned)rand_r(&seed) % 3; spin; spin--)
			usleep((unsigned)rand_r(&seed) % 50);
		run_park(&bed->run, i & 1 ? RUN_RESETTING : RUN_PAUSED);
		check_parked(bed, NR_VCPUS);
		for (unsigned v = 0; v < NR_VCPUS; v++)
			before[v] = load(&bed->fakes[v].entries);
		if (i % 64 == 0)
			usleep(1000);
		check_parked(bed, NR_VCPUS);
		for (unsigned v = 0; v < NR_VCPUS; v++)
			assert_int_equal(load(&bed->fakes[v].entries), before[v]);
	}
	/* Stopped while parked: all threads end. */
	run_stop(&bed->run);
	bed_join(bed, NR_VCPUS);
}

static void test_stop_in_guest(void **state)
{
	struct bed *bed = bed_new(NR_VCPUS);

	run_resume(&bed->run);
	for (unsigned v = 0; v < NR_VCPUS; v++)
		wait_until(&bed->fakes[v].entries, 1);
	run_stop(&bed->run);
	run_park(&bed->run, RUN_PAUSED); /* does not bring it back, does not wait */
	run_resume(&bed->run);
	run_request(&bed->run, REASON_RESET);
	assert_int_equal(run_state(&bed->run), RUN_STOPPED);
	assert_int_equal(run_take_request(&bed->run), REASON_NONE);
	bed_join(bed, NR_VCPUS);
}

/* Who asked for a reset does not enter the guest again before it is made, however long the control thread takes. */
static void test_request_holds_asker(void **state)
{
	struct bed *bed = bed_new(2);
	unsigned entries, other;

	run_resume(&bed->run);
	wait_until(&bed->fakes[0].in_guest, 1);
	wait_until(&bed->fakes[1].in_guest, 1);
	__atomic_store_n(&bed->fakes[0].ask, REASON_RESET, __ATOMIC_SEQ_CST);
	fake_kick(&bed->fakes[0].runner); /* back to its next entry, whose handler asks */
	wait_until(&bed->requested, 1);
	assert_true(run_interrupted(&bed->run));
	entries = load(&bed->fakes[0].entries);
	assert_int_equal(entries, 2);
	usleep(20000); /* the control thread is slow to react */
	assert_int_equal(load(&bed->fakes[0].entries), entries);
	assert_true(load(&bed->fakes[1].kicks) >= 1);
	other = load(&bed->fakes[1].entries);
	assert_int_equal(run_take_request(&bed->run), REASON_RESET);
	assert_int_equal(run_take_request(&bed->run), REASON_NONE);
	usleep(20000); /* and between the taking and the parking */
	assert_int_equal(load(&bed->fakes[0].entries), entries);
	assert_int_equal(load(&bed->fakes[1].entries), other);
	run_park(&bed->run, RUN_RESETTING);
	check_parked(bed, 2);
	run_resume(&bed->run);
	wait_until(&bed->fakes[0].entries, entries + 1);
	run_stop(&bed->run);
	bed_join(bed, 2);
}

/* All vCPUs ask at once, again and again: each round is one reset, and nobody runs in the middle of it. */
static void test_request_storm(void **state)
{
	struct bed *bed = bed_new(NR_VCPUS);

	for (unsigned round = 0; round < 500; round++) {
		unsigned told = load(&bed->requested), entries[NR_VCPUS];

		for (unsigned v = 0; v < NR_VCPUS; v++)
			__atomic_store_n(
				&bed->fakes[v].ask, v & 1 ? REASON_RESET : REASON_TRIPLE_FAULT, __ATOMIC_SEQ_CST);
		run_resume(&bed->run);
		wait_until(&bed->requested, told + 1);
		assert_int_not_equal(run_take_request(&bed->run), REASON_NONE);
		for (unsigned v = 0; v < NR_VCPUS; v++)
			entries[v] = load(&bed->fakes[v].entries);
		run_park(&bed->run, RUN_RESETTING);
		check_parked(bed, NR_VCPUS);
		for (unsigned v = 0; v < NR_VCPUS; v++) {
			assert_true(load(&bed->fakes[v].entries) <= entries[v] + 1);
			__atomic_store_n(&bed->fakes[v].ask, REASON_NONE, __ATOMIC_SEQ_CST);
		}
	}
	run_resume(&bed->run);
	/* What others asked for in the meantime was that same reset. */
	assert_int_equal(run_take_request(&bed->run), REASON_NONE);
	run_stop(&bed->run);
	bed_join(bed, NR_VCPUS);
}

static void test_complete_before_parking(void **state)
{
	struct bed *bed = bed_new(1);
	unsigned completes;

	run_resume(&bed->run);
	wait_until(&bed->fakes[0].entries, 1);
	completes = load(&bed->fakes[0].completes);
	/* Completing the exit runs a handler that asks for power-off: legal, and not lost. */
	__atomic_store_n(&bed->fakes[0].ask_in_complete, REASON_POWER_OFF, __ATOMIC_SEQ_CST);
	run_park(&bed->run, RUN_PAUSED);
	assert_int_equal(load(&bed->fakes[0].completes), completes + 1);
	assert_int_equal(load(&bed->requested), 1);
	run_resume(&bed->run);
	usleep(5000);
	check_parked(bed, 1); /* still held by the request */
	assert_int_equal(run_take_request(&bed->run), REASON_POWER_OFF);
	run_stop(&bed->run);
	bed_join(bed, 1);
}

static void ask(struct run *run, enum run_reason reason, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void ask(struct run *run, enum run_reason reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_request_text(run, reason, fmt, ap);
	va_end(ap);
}

static void test_precedence(void **state)
{
	struct run run;

	run_init(&run);
	run_resume(&run);
	run_request(&run, REASON_NONE);
	assert_false(run_interrupted(&run));
	run_request(&run, REASON_RESET);
	run_request(&run, REASON_TRIPLE_FAULT);
	assert_int_equal(run.reason, REASON_RESET);
	ask(&run, REASON_KVM_ERROR, "exit %d", 17); /* an end overrides a reset */
	ask(&run, REASON_QUIT, "later");            /* the first end wins */
	run_request(&run, REASON_RESET);
	assert_string_equal(run.why, "exit 17");
	assert_int_equal(run_take_request(&run), REASON_KVM_ERROR);
	assert_int_equal(run_state(&run), RUN_PAUSED);
	ask(&run, REASON_PANIC, "too late");
	run_request(&run, REASON_RESET);
	assert_int_equal(run_take_request(&run), REASON_NONE);
	assert_string_equal(run.why, "exit 17");
	/* The taker lets the machine go on after all. */
	run_resume(&run);
	ask(&run, REASON_PANIC, "%s", "now");
	assert_string_equal(run.why, "now");
	run_park(&run, RUN_RESETTING);
	run_resume(&run); /* a reset answers resets, not ends */
	assert_int_equal(run_take_request(&run), REASON_PANIC);
	run_resume(&run);
	run_request(&run, REASON_RESET);
	run_park(&run, RUN_PAUSED);
	run_resume(&run); /* nor does a pause */
	assert_int_equal(run_take_request(&run), REASON_RESET);
	run_fini(&run);
}

static void *leave_thread(void *arg)
{
	struct runner *runner = arg;

	usleep(20000);
	run_leave(runner->run, runner);
	return NULL;
}

static void test_leaver_is_not_waited_for(void **state)
{
	struct runner runner = { 0 };
	pthread_t thread;
	struct run run;

	run_init(&run);
	run_join(&run, &runner);
	run_resume(&run);
	assert_int_equal(pthread_create(&thread, NULL, leave_thread, &runner), 0);
	run_park(&run, RUN_PAUSED);
	assert_int_equal(run.nr_runners, 0);
	pthread_join(thread, NULL);
	run_fini(&run);
}

static void note_kick(struct runner *runner)
{
	struct fake *fake = container_of(runner, struct fake, runner);

	add(&fake->kicks);
}

/* One is kicked, and no other; who has left is let alone. */
static void test_call(void **state)
{
	struct fake fakes[2] = { { .runner.kick = note_kick }, { .runner.kick = note_kick } };
	struct run run;

	run_init(&run);
	run_join(&run, &fakes[0].runner);
	run_join(&run, &fakes[1].runner);
	run_call(&run, &fakes[1].runner);
	assert_int_equal(fakes[0].kicks, 0);
	assert_int_equal(fakes[1].kicks, 1);
	run_leave(&run, &fakes[1].runner);
	run_call(&run, &fakes[1].runner);
	assert_int_equal(fakes[1].kicks, 1);
	run_leave(&run, &fakes[0].runner);
	run_fini(&run);
}

/* A handler holds: its vCPU and all others stay out until the release, and the handler has not waited. */
static void test_hold_in_handler(void **state)
{
	struct bed *bed = bed_new(NR_VCPUS);

	run_resume(&bed->run);
	for (unsigned round = 1; round <= 200; round++) {
		unsigned entries[NR_VCPUS];

		for (unsigned v = 0; v < NR_VCPUS; v++)
			wait_until(&bed->fakes[v].in_guest, 1);
		__atomic_store_n(&bed->fakes[round % NR_VCPUS].hold, 1, __ATOMIC_SEQ_CST);
		fake_kick(&bed->fakes[round % NR_VCPUS].runner);
		while (!load(&bed->run.held))
			usleep(50);
		assert_int_equal(run_state(&bed->run), RUN_RUNNING);
		assert_true(run_interrupted(&bed->run));
		/* It waits for nobody, so they come out in a moment. */
		for (unsigned v = 0; v < NR_VCPUS; v++)
			while (load(&bed->fakes[v].in_guest))
				usleep(50);
		for (unsigned v = 0; v < NR_VCPUS; v++)
			entries[v] = load(&bed->fakes[v].entries);
		usleep(round % 50 ? 0 : 10000);
		check_parked(bed, NR_VCPUS);
		for (unsigned v = 0; v < NR_VCPUS; v++)
			assert_int_equal(load(&bed->fakes[v].entries), entries[v]);
		run_release(&bed->run);
	}
	run_stop(&bed->run);
	bed_join(bed, NR_VCPUS);
}

static void test_holds_nest_and_hinder_nobody(void **state)
{
	struct bed *bed = bed_new(2);
	unsigned entries;

	run_resume(&bed->run);
	wait_until(&bed->fakes[0].in_guest, 1);
	run_hold(&bed->run);
	run_hold(&bed->run);
	run_release(&bed->run);
	while (load(&bed->fakes[0].in_guest) || load(&bed->fakes[1].in_guest))
		usleep(50);
	entries = load(&bed->fakes[0].entries);
	/*
	 * Parked and resumed meanwhile, and a reset asked for: no vCPU is waited for that is held, and none is let go.
	 */
	run_park(&bed->run, RUN_PAUSED);
	run_resume(&bed->run);
	run_request(&bed->run, REASON_RESET);
	assert_int_equal(run_take_request(&bed->run), REASON_RESET);
	run_park(&bed->run, RUN_RESETTING);
	run_resume(&bed->run);
	usleep(10000);
	assert_int_equal(load(&bed->fakes[0].entries), entries);
	/* Released while parked: the pause still counts. */
	run_park(&bed->run, RUN_PAUSED);
	run_release(&bed->run);
	usleep(10000);
	assert_int_equal(load(&bed->fakes[0].entries), entries);
	run_resume(&bed->run);
	wait_until(&bed->fakes[0].entries, entries + 1);
	wait_until(&bed->fakes[1].in_guest, 1);
	/* Who quits does not wait for the release. */
	run_hold(&bed->run);
	run_stop(&bed->run);
	bed_join(bed, 2);
}

static void test_names(void **state)
{
	for (int i = 0; i < NR_REASONS; i++)
		assert_true(strlen(run_reason_name((enum run_reason)i)) > 2);
	assert_string_equal(run_reason_name((enum run_reason)NR_REASONS), "unknown");
	assert_string_equal(run_state_name(RUN_RESETTING), "resetting");
	assert_false(run_reason_is_end(REASON_TRIPLE_FAULT));
	assert_true(run_reason_is_end(REASON_POWER_OFF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_paused),
		cmocka_unit_test(test_park_cycles),
		cmocka_unit_test(test_stop_in_guest),
		cmocka_unit_test(test_request_holds_asker),
		cmocka_unit_test(test_request_storm),
		cmocka_unit_test(test_complete_before_parking),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_leaver_is_not_waited_for),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_hold_in_handler),
		cmocka_unit_test(test_holds_nest_and_hinder_nobody),
		cmocka_unit_test(test_names),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
