/* SPDX-License-Identifier: BSD-2-Clause */
/* thread.h - the one place where threads are born: named, signals blocked, registered with the bus's RCU. */
#ifndef TRAPLINE_CORE_THREAD_H
#define TRAPLINE_CORE_THREAD_H

#include <pthread.h>
#include <signal.h>

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
/* For threads that somebody else made: main() and the tests. */
void thread_adopt(void);
void thread_release(void);

#endif
