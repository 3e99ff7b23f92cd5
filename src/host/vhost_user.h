/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user.h - another program serves a device's virtqueues: the vhost-user protocol, its front end, as a back end in
 * the sense of host/vhost.h.
 *
 * A program that goes (it ended, stalled, or does not keep to the protocol) takes its connection with it and nothing
 * else. Without `reconnect` its owner is told (VHOST_GONE), and start() of the device's next life connects again. With
 * it, nobody is told: it is connected to again as soon as it is there, and gets the rings where they are. Which
 * requests its last life had not answered is then known in one of two ways: by a buffer that it shares with us
 * (INFLIGHT_SHMFD), in which it keeps account; or, where it has no such, because all requests pass through us
 * (host/vhost_relay.h). They do so, too, where the owner is to have an `account`: without `reconnect` what it had not
 * answered is then for the owner to answer.
 */
#ifndef TRAPLINE_HOST_VHOST_USER_H
#define TRAPLINE_HOST_VHOST_USER_H

#include "core/error.h"
#include "host/vhost.h"

#define VHOST_USER_QUEUES 64
#define VHOST_USER_CONFIG 256 /* bytes of a config space at most */
/*
 * Words about its program's going and what it does wrong, for all lives: a guest
 * can be why it goes. Behind the last of them:
 */
#define VHOST_USER_WORDS 16
#define VHOST_USER_LAST  "; no more is said of it"

struct vhost_user_config {
	const char *path; /* of the socket, on which the program listens; the caller's, and outlives the back end */
	bool reconnect;
	bool account; /* of what it has not answered when it goes, for stop_ring(): vhost.accounts. Split rings only */
	/*
	 * A driver of before virtio 1.0 is a newer one to the program, which may know no others: for devices whose
	 * requests are the same for both where bytes are in our order. Where the rings lie is told anyway.
	 */
	bool modern;
	unsigned wait;       /* seconds in which it may begin to listen, for vhost_user_open() */
	unsigned config_len; /* of the device's config space; VHOST_USER_CONFIG: not known, and found out */
	unsigned limit_ms;   /* how long an answer may take; 0: 10 s for vhost_user_open(), 2 s afterwards */
	/*
	 * Instead of connecting to `path`: a connected socket, or -errno with a
	 * line. May start the program. NULL: path.
	 */
	int (*connect)(void *arg, struct error *err);
	/*
	 * It does not answer or keep to the protocol, or was of no use when it came back, and is connected no more, but
	 * it may still map guest memory: this takes that from it, before the call of ours returns in which it was
	 * found. NULL: it cannot be done, for it is not our program.
	 */
	void (*revoke)(void *arg);
	void *arg;
};

/*
 * Connects, and learns what it is. 0, or -errno with a line in `err`; with status QUIT where the user wants to leave
 * (core/leave.h). *out->config_len bytes of config space are read by vhost_user_config(), 0 where the program has none.
 */
int vhost_user_open(const struct vhost_user_config *config, struct vhost **out, struct error *err)
	__attribute__((warn_unused_result));
/* How many queues it has; 0: it does not say. */
unsigned vhost_user_queues(const struct vhost *b);
/* How long its config space is, as far as was asked; 0: that is not its own. */
unsigned vhost_user_config_len(const struct vhost *b);
/*
 * A pause, on the loop's thread. True: it is away, and does not come back before it is let; so the rings rest, with
 * what is outstanding. False: it is there, and rings are stopped as always.
 */
bool vhost_user_hold(struct vhost *b);
void vhost_user_let(struct vhost *b);
/* How many words may be said yet, for one that is said now; 0: not that one either. */
unsigned vhost_user_word(struct vhost *b);
/* Requests pass through us: for listings and tests. */
bool vhost_user_relays(const struct vhost *b);

#endif
