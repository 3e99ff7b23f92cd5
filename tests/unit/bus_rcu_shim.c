/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bus_rcu_shim.c - RCU that ThreadSanitizer can follow: readers counted in plain sight, frees quarantined.
 *
 * A reader counts itself in under the current phase. A grace period starts a new phase and waits until nobody
 * is left in the old one. What call_rcu() gets lies in quarantine until a worker has seen a grace period pass.
 * All of it is atomics and a mutex, so each edge that the real thing promises is one that TSan sees - and no
 * more than those: readers hand nothing on to each other but by a grace period.
 *
 * With SHIM_NO_GRACE no grace period is waited for: the negative control of the torture test.
 */
#include "bus/rcu.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define QUARANTINE_NS 5000000

static unsigned long phase, readers[2];
#ifndef SHIM_NO_GRACE
static pthread_mutex_t grace_lock __attribute__((unused)) = PTHREAD_MUTEX_INITIALIZER;
#endif
static pthread_mutex_t quarantine_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rcu_head *quarantine;
static pthread_once_t worker_once = PTHREAD_ONCE_INIT;
static __thread unsigned nesting;
static __thread unsigned long entered;

void rcu_register_thread(void)
{
}

void rcu_unregister_thread(void)
{
}

void rcu_read_lock(void)
{
	if (nesting++)
		return;
	/* Counted in, and the phase still the same: whoever ends the phase from now on waits for us. */
	for (;;) {
		entered = __atomic_load_n(&phase, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&readers[entered & 1], 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&phase, __ATOMIC_SEQ_CST) == entered)
			return;
		__atomic_fetch_sub(&readers[entered & 1], 1, __ATOMIC_SEQ_CST);
	}
}

void rcu_read_unlock(void)
{
	if (--nesting == 0)
		__atomic_fetch_sub(&readers[entered & 1], 1, __ATOMIC_RELEASE);
}

int rcu_read_ongoing(void)
{
	return nesting != 0;
}

void synchronize_rcu(void)
{
#ifndef SHIM_NO_GRACE
	unsigned long old;

	pthread_mutex_lock(&grace_lock);
	old = __atomic_fetch_add(&phase, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&readers[old & 1], __ATOMIC_ACQUIRE))
		sched_yield();
	pthread_mutex_unlock(&grace_lock);
#endif
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
#ifdef SHIM_NO_GRACE
	func(head);
#else
	head->func = func;
	pthread_mutex_lock(&quarantine_lock);
	head->next = quarantine;
	quarantine = head;
	pthread_mutex_unlock(&quarantine_lock);
#endif
}

static void *work(void *arg)
{
	for (;;) {
		struct rcu_head *head;

		nanosleep(&(struct timespec){ .tv_nsec = QUARANTINE_NS }, NULL);
		pthread_mutex_lock(&quarantine_lock);
		head = quarantine;
		quarantine = NULL;
		pthread_mutex_unlock(&quarantine_lock);
		if (head)
			synchronize_rcu();
		while (head) {
			struct rcu_head *next = head->next;

			head->func(head);
			head = next;
		}
	}
	return NULL;
}

static void start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, work, NULL) || pthread_detach(thread))
		abort();
}

void rcu_start_worker(void)
{
	pthread_once(&worker_once, start);
}
