/* SPDX-License-Identifier: BSD-2-Clause */
/* thread.h - the one place where threads are born: named, signals blocked, registered with the bus's RCU. */
#ifndef TRAPLINE_CORE_THREAD_H
#define TRAPLINE_CORE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

/* The signal that makes a vCPU leave KVM_RUN. Its handler does nothing. */
#define KICK_SIGNAL SIGRTMIN

/*
 * Small stacks for all threads that come, those that libraries start included: in main(), first. The 8 MiB that glibc
 * gives are a room in which the kernel finds place for a huge page, and then a stack of 12 KiB is 2 MiB resident. Nor
 * does each thread get 64 MiB of address space for a heap of its own, which costs four system calls and two pages.
 */
void thread_small(void);
/* 0 or -errno. fn's thread is joinable; all signals but KICK_SIGNAL are blocked in it. Name: up to 15 bytes. */
int thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg)
	__attribute__((warn_unused_result));
/*
 * A thread that has something to do before what it is for is there: it does its first work, and waits for its second.
 * For what takes part of a start: a thread more that ended would leave 150 KiB of the C library resident, which glibc
 * touches to end one.
 */
struct early_thread {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	void *(*fn)(void *); /* the work at hand, or to come; NULL: none */
	void *arg;
	const char *name;
	bool up, over; /* there is such a thread; it gets no more work */
};
/* As thread_start(), with the first work. `early` is zeroed, and stays where it is. */
int early_start(struct early_thread *early, const char *name, void *(*fn)(void *), void *arg)
	__attribute__((warn_unused_result));
/* Until the first work is done. */
void early_wait(struct early_thread *early);
/*
 * After that wait: the second work, and its name, which is kept. The thread is the
 * caller's to join, as one of thread_start().
 */
void early_go_on(struct early_thread *early, const char *name, void *(*fn)(void *), void *arg, pthread_t *thread);
/* Where there is no second work: waits for the first, and ends it. Nothing where none was started, or it went on. */
void early_end(struct early_thread *early);

/* For threads that somebody else made: main() and the tests. */
void thread_adopt(void);
void thread_release(void);

#endif
