/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unix.h - Unix stream sockets to listen on, at a path: one that somebody uses is left alone, a stale one replaced,
 * and none of ours stays behind.
 */
#ifndef TRAPLINE_HOST_UNIX_H
#define TRAPLINE_HOST_UNIX_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/error.h"

struct unix_listener {
	int fd;           /* non-blocking; -1: none */
	const char *path; /* the caller's */
	dev_t dev;        /* with ino: the socket's file, as it was made */
	ino_t ino;
};

/* Whether a path can be a socket's address: 0, or -errno with a line in `err`. */
int unix_check(const char *path, struct error *err) __attribute__((warn_unused_result));
/*
 * Listens at `path`, which outlives the listener. A socket there that nobody listens on is replaced. 0, or -errno with
 * a line in `err`, its status where the path is to blame: -EADDRINUSE somebody listens there, -EEXIST it is no socket.
 */
int unix_listen(struct unix_listener *listener, const char *path, struct error *err)
	__attribute__((warn_unused_result));
/*
 * For who connects: 0, or -ENOTSOCK with a line in `err` and its status where something else stands at the path, which
 * no waiting makes a socket. Nothing there is fine.
 */
int unix_check_socket(const char *path, struct error *err) __attribute__((warn_unused_result));
/* Where unix_pair() has a folder for a moment, for messages. */
#define UNIX_PAIR_IN "/tmp"
/*
 * For a program that wants a socket which listens: a socket that is connected to *listener, where nobody else can reach
 * it and nothing is left of it. Both close on exec; the first does not block. Returns it, or -errno.
 */
int unix_pair(int *listener) __attribute__((warn_unused_result));
/* Closes, and removes the file if it is still the one that was made. Fine where fd is -1. */
void unix_unlisten(struct unix_listener *listener);

#endif
