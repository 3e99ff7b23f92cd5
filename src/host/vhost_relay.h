/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_relay.h - a split virtqueue that another program serves, with us between the two: so we know, whatever becomes
 * of that program, which requests it has not answered.
 *
 * The descriptors and what they point to are the guest's memory, and the other program's to read; only the available
 * ring and the used ring are ours, one of each for the other side. Requests go from the guest's available ring to ours,
 * used ones from our used ring to the guest's. What went one way and has not come back the other is outstanding. If the
 * other program dies, what it had given back by then is passed on, and then another gets the outstanding ones in a ring
 * that begins anew, in the order in which the guest made them available: none is lost, none is done again after the
 * guest was told that it is done.
 *
 * Neither side is trusted. What makes no sense on the guest's breaks the queue; on the other's, that program is at
 * fault.
 *
 * Theory of the order: as in virtio/queue.c, twice, for we are the device to the guest and the driver to the other
 * program.
 */
#ifndef TRAPLINE_HOST_VHOST_RELAY_H
#define TRAPLINE_HOST_VHOST_RELAY_H

#include "host/vhost.h"

#define RELAY_SIZE 1024 /* descriptors of a queue at most; a power of two */
/* Memory for our rings of one queue, in bytes: available first, used at RELAY_USED. */
#define RELAY_BYTES 0x4000U
#define RELAY_USED  0x1000U

struct vhost_relay {
	struct vhost_ring ring;                /* the guest's */
	struct vhost_parts parts;              /* of that, in this process */
	bool event_idx;                        /* the guest's driver has it; the other side has not */
	uint8_t *memory;                       /* RELAY_BYTES; NULL: no program has the ring */
	int kick, call;                        /* eventfds, the relay's own: between it and the other program */
	uint16_t size, taken, given, to, from; /* the guest's avail and used indices; our avail's and our used's */
	unsigned outstanding;
	uint64_t next;           /* number of the next request, from 1 on */
	uint64_t in[RELAY_SIZE]; /* by head: its number while it is outstanding, else 0 */
	bool broken;             /* the guest broke a rule */
};

/* Takes `ring` over, where it stands. 0 or -errno; relay_end() undoes it. */
int relay_begin(struct vhost_relay *r, const struct vhost_ring *ring, const struct vhost_parts *parts, bool event_idx)
	__attribute__((warn_unused_result));
void relay_end(struct vhost_relay *r); /* fine on all zeros */
/*
 * The ring for a program that starts with it, in `memory`: nothing in it but what is outstanding, to be begun at index
 * 0; and a kick. Until then the relay only listens to the guest.
 */
void relay_restart(struct vhost_relay *r, uint8_t *memory);
/*
 * The heads of what is outstanding, in the order in which it was made available;
 * `heads` has room for the ring's size. How many.
 */
unsigned relay_left(struct vhost_relay *r, uint16_t *heads);
/* The guest kicked: what it offers goes on. */
void relay_take(struct vhost_relay *r);
/* The other side called: what it has used goes back. 0, or -EPROTO: it gives back what it does not have. */
int relay_give(struct vhost_relay *r) __attribute__((warn_unused_result));

#endif
