/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * p9.h - a file server that speaks 9P2000.L: one folder of the host's, one connection, no sockets. Who carries the
 * messages hands each one over with room for its reply.
 *
 * Nothing above the folder can be reached. A fid is a file descriptor (O_PATH), a name is one component that is
 * opened below its directory's descriptor and never followed, and the only way up, "..", asks the kernel to resolve the
 * parent's path below the folder (openat2, RESOLVE_BENEATH). Symbolic links are the client's to follow. Devices,
 * FIFOs and sockets can be seen, made (but for devices) and removed, and are never opened.
 *
 * Owners: who made a file at the client owns it if this process is root; otherwise all that is made belongs to this
 * process's user, and changing an owner is refused as the kernel refuses it (p9_config.lax: is taken as done).
 */
#ifndef TRAPLINE_HOST_P9_P9_H
#define TRAPLINE_HOST_P9_P9_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/error.h"

#define P9_MSIZE_MAX (512U << 10) /* bytes of a message at most, both ways */

struct p9_config {
	const char *path; /* a folder */
	bool ro;          /* what would change anything is refused with EROFS */
	bool lax;         /* a change of owner that this process is not permitted succeeds, without effect */
	unsigned max_fds; /* descriptors to hold at most; 0: by RLIMIT_NOFILE, of which so many devices have a share: */
	unsigned sharers; /* see files_share() */
};

/* A message and where its reply goes, in pieces of the carrier's. */
struct p9_io {
	const struct iovec *out, *in;
	unsigned nr_out, nr_in;
	uint64_t out_len, in_len; /* bytes in all */
};

struct p9;

/* 0, or -errno with a line in `err`: the folder cannot be opened, is none, or the host lacks what is needed. */
int p9_open(const struct p9_config *config, struct p9 **out, struct error *err) __attribute__((warn_unused_result));
void p9_close(struct p9 *p9); /* fine with NULL */
/* As a new connection finds it: no fids. */
void p9_reset(struct p9 *p9);
/*
 * Serves one message; returns the reply's bytes, 0 where not even an error fits. Waits for the file system and nothing
 * else. One thread at a time.
 */
uint32_t p9_serve(struct p9 *p9, const struct p9_io *io);
uint64_t p9_faults(const struct p9 *p9); /* messages so far that were no messages */

#endif
