/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.h - virtqueues, split and packed: what a driver offers is taken once, checked, and given back
 * (virtio 1.2, sections 2.6 to 2.8).
 *
 * A guest is not trusted with anything: each descriptor is copied, and the copy is what is checked and used; what the
 * checks refuse breaks the queue (virtq.broken), is counted, and touches nothing else. Every access to a ring passes
 * the gateway to guest memory (core/mem.h), so no pointer into the guest outlives a chain, and a chain holds references
 * to the memory behind its pieces until it is given back.
 *
 * Threads: virtq_pop() and the kick calls are made by one thread at a time, the one that serves the queue; virtq_push()
 * and virtq_drop() come from any. The ring's used side is under virtq.lock, a leaf.
 */
#ifndef TRAPLINE_VIRTIO_QUEUE_H
#define TRAPLINE_VIRTIO_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/mem.h"

#define VIRTQ_MAX 1024 /* descriptors of a queue at most, and pieces of a chain; a power of two */

/* Guest-visible, for the owner's field table. The first five are the transport's to write while `enabled` is 0. */
struct virtq_state {
	uint64_t desc, driver,
		device; /* guest-physical: descriptors, available ring or driver area, used or device area */
	uint16_t size;  /* descriptors; split: a power of two; 1 to virtq.max */
	uint8_t enabled;
	uint16_t avail, used;          /* split: free-running indices; packed: slots, below size */
	uint8_t avail_wrap, used_wrap; /* packed: the wrap counters, 1 at first */
	uint16_t vector;               /* the transport's: MSI-X; VIRTIO_MSI_NO_VECTOR */
};

struct virtq {
	struct virtq_state *state;
	struct mem *mem;
	uint16_t max;                     /* what the device offers; at most VIRTQ_MAX */
	bool packed, event_idx, indirect; /* negotiated; final while state->enabled */
	bool paused;                      /* atomic: see virtq_pause() */
	bool broken;        /* atomic: the driver broke a rule; nothing is taken any more until virtq_stop() */
	uint64_t faults;    /* atomic: how often, over all lives */
	uint64_t taken;     /* atomic: chains, over all lives */
	unsigned in_flight; /* atomic: chains that were taken and neither pushed nor dropped */
	/*
	 * Called when the queue breaks, from whatever thread finds it, and for used buffers that the driver wants told.
	 */
	void (*fault)(void *arg);
	void (*interrupt)(void *arg);
	void *arg;
	/* queue.c's own */
	pthread_mutex_t lock;
	struct mem_window giving; /* the used ring and the driver's wish, under `lock` */
	unsigned fresh;           /* slots that became used since the driver was last asked whether it wants to know */
	unsigned owed;            /* atomic: slots that the driver has not got back */
	unsigned generation;      /* of the queue's life: a chain of an earlier one is not given back but dropped */
	struct virtq_scratch *scratch; /* for the chain being taken */
};

/* What the driver offered in one go. `out`: the device reads (comes first), `in`: the device writes. */
struct virtq_chain {
	struct virtq *queue;
	struct iovec *out, *in;
	unsigned nr_out, nr_in;
	uint64_t out_len, in_len; /* bytes in all; each below 4 GiB */
	uint64_t out_at, in_at;   /* how far virtq_read() and virtq_write() are */
	/* queue.c's own */
	uint16_t id, slots;
	unsigned generation;
	bool inherited;
	struct mem_ref *refs;
};

/* `max` descriptors at most; state, fault and interrupt are the caller's and stay. 0 or -ENOMEM. */
int virtq_init(struct virtq *q, struct mem *mem, struct virtq_state *state, uint16_t max)
	__attribute__((warn_unused_result));
void virtq_fini(struct virtq *q); /* nothing in flight; copes with one that is all zeros */
/*
 * The driver enabled it: checks size and alignment (2.6, 2.8.10.1) and begins at the state's indices. 0, or -EINVAL: it
 * is broken, which fault() was told in here, and not enabled. state->enabled is set by this, and the features are
 * final.
 */
int virtq_start(struct virtq *q, uint64_t features) __attribute__((warn_unused_result));
/*
 * Ends its life: nothing is taken, and chains in flight are dropped when their owners push them. State as at power-on
 * (size = max). Called where no thread is in virtq_pop().
 */
void virtq_stop(struct virtq *q);

/*
 * Takes the next chain. 1: *out is the caller's until pushed or dropped. 0: there is none. -EINVAL: the queue is broken
 * (now or before). -ENOMEM: the host has no memory, the chain is still there.
 */
int virtq_pop(struct virtq *q, struct virtq_chain **out) __attribute__((warn_unused_result));
/*
 * Split: n chains, in this order, that who served the queue in our place took, before state->avail, and has not given
 * back, nor will: virtq_pop() gives them first. By the serving thread; at most max; forgotten by virtq_stop().
 */
void virtq_inherit(struct virtq *q, const uint16_t *heads, unsigned n);
/* Puts the chain that was taken last back, as if it had not been; nothing was popped since. */
void virtq_unpop(struct virtq_chain *chain);
/*
 * Gives it back with `written` bytes from the start of `in` (no more than in_len), and frees it. Tells nobody: see
 * virtq_notify(). For chains of an earlier life this is virtq_drop().
 */
void virtq_push(struct virtq_chain *chain, uint32_t written);
/* n chains that become visible to the driver at once, as mergeable receive buffers must (5.1.6.4). */
void virtq_push_all(struct virtq_chain **chains, const uint32_t *written, unsigned n);
void virtq_drop(struct virtq_chain *chain); /* frees it, not given back */
/* After pushes: calls interrupt() if the driver wants to be told of them (2.6.7.2, 2.6.10, 2.7.10). */
void virtq_notify(struct virtq *q);

/*
 * Who serves it in our place has found that the driver broke a rule. From any
 * thread, not with a lock of the queue's held.
 */
void virtq_break(struct virtq *q);
bool virtq_is_broken(const struct virtq *q);
/*
 * While it is paused it looks empty, and neither pops nor the kick calls touch the guest's memory. Chains in flight are
 * their owners' to hold back. From any thread; a pop that has begun goes on, and after the end the server looks at it
 * again. A new life begins unpaused.
 */
void virtq_pause(struct virtq *q, bool on);
bool virtq_paused(const struct virtq *q);

/* While the server is at work it needs no kicks; hints, both. */
void virtq_kicks_off(struct virtq *q);
/* Asks for kicks again. True: a chain came meanwhile, which will not be told of: go on serving. */
bool virtq_kicks_on(struct virtq *q) __attribute__((warn_unused_result));
bool virtq_empty(struct virtq *q); /* nothing to take now */

/* mem_discard() of all of `in`: the pages wholly in a piece of it. They, and what is around them, stay the driver's. */
void virtq_discard(struct virtq_chain *chain);

/* Copies on from where the last call ended; how many bytes there were, at most n. */
uint64_t virtq_read(struct virtq_chain *chain, void *buf, uint64_t n);
uint64_t virtq_write(struct virtq_chain *chain, const void *buf, uint64_t n);

#endif
