/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.c - the rendezvous of vCPUs, and requests to reset or end.
 *
 * A runner is parked while it waits in run_enter(), which it does while the state is not RUNNING, a
 * request is pending or somebody holds. The two are looked at together and change under one lock, and taking a request
 * leaves RUNNING in the same moment, so between a request and its being carried out there is no gap
 * through which a vCPU could enter the guest. A kick comes after the change that it tells of: a vCPU
 * that looked before the change finds the kick, one that looks after finds the change.
 */
#include "core/run.h"

#include <stddef.h>
#include <stdio.h>

static const char *const run_reason_names[] = {
	[REASON_NONE] = "none",
	[REASON_RESET] = "reset",
	[REASON_TRIPLE_FAULT] = "triple fault",
	[REASON_POWER_OFF] = "power-off",
	[REASON_QUIT] = "quit",
	[REASON_PANIC] = "guest panic",
	[REASON_GUEST_STATUS] = "guest's status",
	[REASON_BOOT_TIMEOUT] = "boot timeout",
	[REASON_KVM_ERROR] = "KVM error",
	[REASON_HOST_FAILURE] = "host failure",
};
_Static_assert(sizeof(run_reason_names) / sizeof(run_reason_names[0]) == NR_REASONS, "a name for each reason");

static const char *const run_state_names[] = {
	[RUN_PAUSED] = "paused",
	[RUN_RUNNING] = "running",
	[RUN_RESETTING] = "resetting",
	[RUN_STOPPED] = "stopped",
};
_Static_assert(sizeof(run_state_names) / sizeof(run_state_names[0]) == RUN_STOPPED + 1, "a name for each state");

const char *run_reason_name(enum run_reason reason)
{
	return (unsigned)reason < NR_REASONS ? run_reason_names[reason] : "unknown";
}

const char *run_state_name(enum run_state state)
{
	return (unsigned)state <= RUN_STOPPED ? run_state_names[state] : "unknown";
}

enum run_state run_state(struct run *run)
{
	return __atomic_load_n(&run->state, __ATOMIC_SEQ_CST);
}

static enum run_reason run_reason(struct run *run)
{
	return __atomic_load_n(&run->reason, __ATOMIC_SEQ_CST);
}

static void run_set_state(struct run *run, enum run_state state)
{
	__atomic_store_n(&run->state, state, __ATOMIC_SEQ_CST);
}

static void run_set_reason(struct run *run, enum run_reason reason)
{
	__atomic_store_n(&run->reason, reason, __ATOMIC_SEQ_CST);
}

bool run_reason_is_end(enum run_reason reason)
{
	return reason != REASON_NONE && reason != REASON_RESET && reason != REASON_TRIPLE_FAULT;
}

void run_init(struct run *run)
{
	*run = (struct run){ .state = RUN_PAUSED };
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->changed, NULL);
}

void run_fini(struct run *run)
{
	pthread_cond_destroy(&run->changed);
	pthread_mutex_destroy(&run->lock);
}

void run_join(struct run *run, struct runner *runner)
{
	runner->run = run;
	runner->parked = false;
	pthread_mutex_lock(&run->lock);
	runner->next = run->runners;
	run->runners = runner;
	run->nr_runners++;
	pthread_mutex_unlock(&run->lock);
}

void run_leave(struct run *run, struct runner *runner)
{
	struct runner **at;

	pthread_mutex_lock(&run->lock);
	for (at = &run->runners; *at && *at != runner; at = &(*at)->next)
		;
	if (*at) {
		*at = runner->next;
		run->nr_runners--;
	}
	/* Who waits for all the others to park may have waited for this one. */
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
}

void run_call(struct run *run, struct runner *runner)
{
	struct runner *at;

	pthread_mutex_lock(&run->lock);
	for (at = run->runners; at && at != runner; at = at->next)
		;
	if (at)
		at->kick(at);
	pthread_mutex_unlock(&run->lock);
}

bool run_interrupted(struct run *run)
{
	/*
	 * The reason first: run_take_request() leaves RUNNING before it clears the reason, so who finds it
	 * cleared finds the state changed. The other way round, both could look at rest.
	 */
	return run_reason(run) != REASON_NONE || run_state(run) != RUN_RUNNING ||
	       __atomic_load_n(&run->held, __ATOMIC_SEQ_CST);
}

/* Waits out pauses and requests, with the lock held; whether to enter the guest. */
static bool run_wait(struct run *run, struct runner *runner)
{
	while (run_state(run) != RUN_STOPPED && run_interrupted(run)) {
		if (!runner->parked) {
			runner->parked = true;
			run->nr_parked++;
			pthread_cond_broadcast(&run->changed);
		}
		pthread_cond_wait(&run->changed, &run->lock);
	}
	if (runner->parked) {
		runner->parked = false;
		run->nr_parked--;
	}
	return run_state(run) != RUN_STOPPED;
}

bool run_enter(struct runner *runner)
{
	struct run *run = runner->run;
	bool enter;

	if (!run_interrupted(run))
		return true;
	if (run_state(run) == RUN_STOPPED)
		return false;
	/* Without the lock: completing may run handlers, and these may ask for a reset or an end. */
	if (runner->complete)
		runner->complete(runner);
	pthread_mutex_lock(&run->lock);
	enter = run_wait(run, runner);
	pthread_mutex_unlock(&run->lock);
	return enter;
}

/* With the lock held, which keeps the runners from going away. */
static void run_kick(struct run *run)
{
	for (struct runner *runner = run->runners; runner; runner = runner->next)
		if (!runner->parked && runner->kick)
			runner->kick(runner);
}

void run_request_text(struct run *run, enum run_reason reason, const char *fmt, va_list ap)
{
	bool end = run_reason_is_end(reason);

	if (reason == REASON_NONE)
		return;
	pthread_mutex_lock(&run->lock);
	if (run_state(run) == RUN_STOPPED || run->ending || (!end && run_reason(run) != REASON_NONE)) {
		pthread_mutex_unlock(&run->lock);
		return;
	}
	run->ending = end;
	run->why[0] = '\0';
	if (fmt)
		vsnprintf(run->why, sizeof(run->why), fmt, ap);
	run_set_reason(run, reason);
	run_kick(run);
	pthread_mutex_unlock(&run->lock);
	if (run->requested)
		run->requested(run->requested_arg);
}

static void run_request_fmt(struct run *run, enum run_reason reason, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void run_request_fmt(struct run *run, enum run_reason reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_request_text(run, reason, fmt, ap);
	va_end(ap);
}

void run_request(struct run *run, enum run_reason reason)
{
	run_request_fmt(run, reason, "%s", "");
}

void run_hold(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	if (__atomic_fetch_add(&run->held, 1, __ATOMIC_SEQ_CST) == 0)
		run_kick(run);
	pthread_mutex_unlock(&run->lock);
}

void run_release(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	if (__atomic_sub_fetch(&run->held, 1, __ATOMIC_SEQ_CST) == 0)
		pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
}

enum run_reason run_take_request(struct run *run)
{
	enum run_reason reason;

	pthread_mutex_lock(&run->lock);
	reason = run_reason(run);
	if (reason != REASON_NONE) {
		/* State first: see run_interrupted(). */
		if (run_state(run) == RUN_RUNNING)
			run_set_state(run, RUN_PAUSED);
		run_set_reason(run, REASON_NONE);
	}
	pthread_mutex_unlock(&run->lock);
	return reason;
}

void run_park(struct run *run, enum run_state state)
{
	pthread_mutex_lock(&run->lock);
	if (run_state(run) != RUN_STOPPED) {
		run_set_state(run, state);
		run_kick(run);
	}
	while (run_state(run) != RUN_STOPPED && run->nr_parked < run->nr_runners)
		pthread_cond_wait(&run->changed, &run->lock);
	pthread_mutex_unlock(&run->lock);
}

void run_resume(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	if (run_state(run) != RUN_STOPPED) {
		/* A second vCPU's request for the reset that has just been made is answered by it. */
		if (run_state(run) == RUN_RESETTING && !run_reason_is_end(run_reason(run)))
			run_set_reason(run, REASON_NONE);
		run->ending = run_reason_is_end(run_reason(run));
		run_set_state(run, RUN_RUNNING);
		pthread_cond_broadcast(&run->changed);
	}
	pthread_mutex_unlock(&run->lock);
}

void run_stop(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	run_set_state(run, RUN_STOPPED);
	run_kick(run);
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
}
