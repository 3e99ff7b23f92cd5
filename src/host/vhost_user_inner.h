/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost_user_inner.h - what vhost_user.c (its life) and vhost_user_peer.c (what it is asked and told) share. */
#ifndef TRAPLINE_HOST_VHOST_USER_INNER_H
#define TRAPLINE_HOST_VHOST_USER_INNER_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "host/vhost_relay.h"
#include "host/vhost_user.h"
#include "host/vhost_user_wire.h"

#define BIT(n) (1ULL << (n))

struct vu_ring {
	struct vhost_user *u;
	unsigned index;
	bool on;
	struct vhost_ring ring;
	struct vhost_relay relay;
	struct loop_watch kick, call; /* of a relay */
};

struct vhost_user {
	struct vhost b;
	struct vhost_user_config config;
	struct vu_conn conn;
	uint64_t features, protocol; /* the program's, of this connection */
	unsigned queues;             /* likewise; 0: it does not say */
	uint8_t space[VHOST_USER_CONFIG];
	unsigned space_len;    /* 0: the config space is not the program's */
	unsigned least_queues; /* what the first connection had: a later one has to have as many */
	uint64_t offered;      /* likewise its features: a driver may have taken any of them */
	bool relays;           /* requests pass through us; decided by the first connection */
	bool opened;           /* vhost_user_open() is over, which says itself what it met */
	bool looped;           /* our watches may be on b.loop */
	bool listening;        /* conn's are */
	bool held;             /* it is not to come back now */
	bool mourned;          /* its going was told of */
	bool again;            /* rings go on where another connection left them */
	bool many;             /* VHOST_MANY was told last */
	unsigned turns;        /* see weigh() */
	/* How long it may keep us waiting, in ms; time gives it back. See begin(). */
	int64_t patience, rested;
	int64_t told;   /* when the last word was said, in seconds */
	unsigned words; /* said so far, of VHOST_USER_WORDS */
	/* what the owner wants */
	bool started;
	uint64_t wanted;
	struct vhost_map map;
	struct vu_ring ring[VHOST_USER_QUEUES];
	/* the account of requests that the program keeps (INFLIGHT_SHMFD); -1: none yet */
	int account;
	struct vu_inflight account_at;
	/* memory for the relays' rings, a new one for each connection; NULL: none */
	uint8_t *relay_memory;
	int relay_fd;
	int timer; /* a timerfd: to try again */
	struct loop_watch main_watch, channel_watch, timer_watch;
	struct loop_work changed, lost; /* to be told, but not from within a call */
};

static inline bool vu_has(const struct vhost_user *u, enum vu_protocol_feature feature)
{
	return u->protocol >> feature & 1;
}

/* All: 0 or -errno, after which the connection is to be dropped. */
int vu_greet(struct vhost_user *u) __attribute__((warn_unused_result)); /* learns what it is */
/* `len` bytes of the config space; *got is `len`, or 0: it has not so many. */
int vu_read_space(struct vhost_user *u, uint8_t *bytes, unsigned len, unsigned *got)
	__attribute__((warn_unused_result));
uint64_t vu_usable(const struct vhost_user *u);                         /* which of its features can be had */
int vu_share(struct vhost_user *u) __attribute__((warn_unused_result)); /* features, memory */
int vu_share_ring(struct vhost_user *u, struct vu_ring *ring) __attribute__((warn_unused_result));
/*
 * It has the ring no more, and fills in where that stood. Waits for what it had taken to be given back. -EINVAL, and
 * the connection stays: the driver has written what only the device writes.
 */
int vu_take_ring(struct vhost_user *u, struct vu_ring *ring) __attribute__((warn_unused_result));
void vu_drop_account(struct vhost_user *u);
void vu_drop_relay_memory(struct vhost_user *u);

#endif
