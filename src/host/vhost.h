/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost.h - back ends that serve virtqueues in our place: the host's kernel, or another program (vhost-user).
 *
 * Which queues, where they lie and which eventfds go with them is told here; virtio/vhost.c is the other side. A back
 * end reads and writes guest memory on its own, so between start_ring() and the return of stop_ring() a ring is its.
 *
 * Threads: all calls come from one thread at a time, that of the device's own loop, and may wait, though not for ever:
 * who talks to another program gives up after a while, and returns -ETIMEDOUT. Calls return 0 or -errno; -EFAULT and
 * -EINVAL are the driver's doing. After VHOST_GONE stop_ring() only tells where the ring stood, if that is known, and
 * stop() forgets the memory.
 */
#ifndef TRAPLINE_HOST_VHOST_H
#define TRAPLINE_HOST_VHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/loop.h"

/* A piece of guest memory. Ranges do not overlap, and stay mapped from start() until stop() returned. */
struct vhost_range {
	uint64_t gpa, len;
	void *host;
	int fd; /* of the file that is mapped (a memfd), the owner's; -1: memory that only this process can map */
	uint64_t offset; /* of `host` in that file */
};

/* A virtqueue: split, or packed if that was negotiated. */
struct vhost_ring {
	uint16_t size;                 /* descriptors */
	uint64_t desc, driver, device; /* guest-physical: as struct virtq_state has them */
	/*
	 * Where the device stands. Split: `avail` is the index of the next available entry, and the used index is read
	 * from the ring. Packed: slots, with the wrap counters (2.8.1).
	 */
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	/* eventfds, the caller's, open until stop_ring() returned */
	int kick;  /* the driver signals it; nobody else reads it meanwhile */
	int call;  /* the back end signals it for used buffers that the driver wants told */
	int error; /* it signals this one when the driver broke a rule; -1: nobody wants to know */
	/*
	 * For stop_ring(): what a back end that is gone had taken, all of it before `avail`, and has not given back:
	 * the chains' heads, in the order of the available ring. Room for `size` of them, the caller's; NULL: nobody
	 * wants to know.
	 */
	uint16_t *left;
	unsigned nr_left;
};

enum vhost_event {
	VHOST_CONFIG, /* the config space changed */
	VHOST_GONE,   /* it serves nothing any more; rings are as it left them */
	VHOST_BACK,   /* and again: to be started as from power-on */
	/*
	 * Requests pass through the loop's thread, and many are under way, or few again: its wake-ups may wait, or not.
	 */
	VHOST_MANY,
	VHOST_FEW,
};

struct vhost;

struct vhost_ops {
	/*
	 * What it can: the device's bits and the ring's (those of VIRTIO_F_* and
	 * VIRTIO_RING_F_*), none of a protocol's.
	 */
	int (*features)(struct vhost *b, uint64_t *features);
	/*
	 * The driver is ready, with `features`, a part of the above; before the
	 * first start_ring(). The ranges are copied.
	 */
	int (*start)(struct vhost *b, uint64_t features, const struct vhost_range *ranges, unsigned n);
	int (*start_ring)(struct vhost *b, unsigned index, const struct vhost_ring *ring);
	/*
	 * When it returns, whatever it says, the back end touches the ring no more; what it had taken it has given
	 * back. (But a program that does not answer, and that is not ours to kill, keeps the memory that it has mapped,
	 * and may do as it likes with it: who is given a guest's memory is trusted with it.) Fills in where the ring
	 * stood (avail, and for packed ones used and the wraps); -errno: that is not known. Of one that `accounts` it
	 * always is, and what is left is told.
	 */
	int (*stop_ring)(struct vhost *b, unsigned index, struct vhost_ring *ring);
	/*
	 * All rings are stopped. Back to before start(), with no use of guest memory; but where b->resting, the device
	 * was not reset, only paused, and what the driver has told it holds for the next start(), if b->resting still
	 * then.
	 */
	int (*stop)(struct vhost *b);
	/*
	 * The device's config space, where that is the back end's; NULL: it is ours. Within its bytes. The last one
	 * fills `bytes` from `offset` on, the other takes them from there.
	 */
	int (*config_write)(struct vhost *b, unsigned offset, unsigned len, const uint8_t *bytes);
	int (*config_read)(struct vhost *b, unsigned offset, unsigned len, uint8_t *bytes);
	/*
	 * Patient, who serves ring `index` takes no processor from who is at work there (virtio_worker_be_patient());
	 * not so at first. -errno: that cannot be told, and will not. NULL: likewise.
	 */
	int (*be_patient)(struct vhost *b, unsigned index, bool yes);
	void (*close)(struct vhost *b); /* frees */
};

struct vhost {
	const struct vhost_ops *ops;
	char name[128];    /* for messages: "/dev/vhost-vsock", "vhost-user socket '/run/blk'" */
	bool shared;       /* needs guest memory that others can map: ranges with an fd */
	bool resting;      /* the owner's, for stop() and start() */
	bool returns;      /* VHOST_GONE is not the end: VHOST_BACK may follow */
	bool restarts;     /* start() may be tried again after VHOST_GONE, in another life */
	bool accounts;     /* it is always known where a ring stood, and what is left; for split rings only */
	uint64_t losses;   /* atomic: how often who serves it was lost */
	struct loop *loop; /* that events come on, and calls; set by the owner before start() */
	/*
	 * Called on the loop's thread, not from within a call. Set by the owner before start(); NULL: nobody listens.
	 */
	void (*event)(void *arg, enum vhost_event event);
	void *arg;
};

/* A back end's copy of the ranges. */
#define VHOST_RANGES 64
struct vhost_map {
	struct vhost_range range[VHOST_RANGES];
	unsigned n;
};

/* 0, or -E2BIG: more than VHOST_RANGES. */
int vhost_map_set(struct vhost_map *map, const struct vhost_range *ranges, unsigned n)
	__attribute__((warn_unused_result));

/* Where a ring's three parts lie in this process. */
struct vhost_parts {
	void *desc, *driver, *device;
};

/* 0, or -EFAULT: not each part is in one piece of memory. `packed`: the ring's kind. */
int vhost_map_ring(const struct vhost_map *map, const struct vhost_ring *ring, bool packed, struct vhost_parts *parts)
	__attribute__((warn_unused_result));

static inline void vhost_close(struct vhost *b)
{
	if (b)
		b->ops->close(b);
}

#endif
