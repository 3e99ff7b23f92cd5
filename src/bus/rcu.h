/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rcu.h - the few calls of RCU that the bus makes, by the names that the kernel made familiar.
 *
 * It is liburcu's memb flavour: a reader executes no barrier, the rare writer issues one for everybody by
 * membarrier(2). Its read side is inlined; functions this short may be, whatever the caller's licence. What
 * ThreadSanitizer cannot follow there, it follows in a shim of counted readers (tests/unit/bus_rcu_shim.c).
 */
#ifndef TRAPLINE_BUS_RCU_H
#define TRAPLINE_BUS_RCU_H

#ifdef TRAPLINE_RCU_SHIM

struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};

void rcu_start_worker(void);
void rcu_register_thread(void);
void rcu_unregister_thread(void);
void rcu_read_lock(void);
void rcu_read_unlock(void);
int rcu_read_ongoing(void);
void synchronize_rcu(void);
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));

#else

#include <urcu/urcu-memb.h>
#include <urcu/static/urcu-memb.h>

#define rcu_start_worker()    ((void)urcu_memb_get_default_call_rcu_data())
#define rcu_register_thread   urcu_memb_register_thread
#define rcu_unregister_thread urcu_memb_unregister_thread
#define rcu_read_lock         _urcu_memb_read_lock
#define rcu_read_unlock       _urcu_memb_read_unlock
#define rcu_read_ongoing      _urcu_memb_read_ongoing
#define synchronize_rcu       urcu_memb_synchronize_rcu
#define call_rcu              urcu_memb_call_rcu

#endif

/* Acquire where a dependency would do: free on x86, cheap elsewhere, and compilers and sanitizers know it. */
#define rcu_load(p)       __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define rcu_publish(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
/* What is read elsewhere while it is written, and orders nothing. */
#define LOAD(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

#endif
