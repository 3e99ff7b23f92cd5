/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child.h - another program that works for us as long as we live: passt, qemu-storage-daemon, virtiofsd.
 *
 * It gets the descriptors that it needs and no others, ends when it is told to, and is killed where it does not; what
 * it says on standard error is kept for the line that tells of its end. When trapline itself is killed the kernel sends
 * it a SIGTERM.
 */
#ifndef TRAPLINE_HOST_CHILD_H
#define TRAPLINE_HOST_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/loop.h"

#define CHILD_FDS      8
#define CHILD_FIRST_FD 3   /* its number of the first one */
#define CHILD_HOW      256 /* bytes of a text that tells how it ended */

struct child;

struct child_config {
	const char *const
		*argv; /* ends with NULL; the program is looked for in PATH, and called by the name it has there */
	const char *const *also; /* where else it may be, ends with NULL; NULL: nowhere */
	const char *name;        /* in messages: "passt" */
	const char *package;     /* Debian's, that brings it */
	const char *otherwise;   /* what does without it: "--network tap"; NULL: nothing */
	const int *fds;  /* these become 3, 4, ... in it; they stay the caller's too. -1: that number is closed */
	unsigned nr_fds; /* at most CHILD_FDS */
	unsigned end_ms; /* how long it has to end once it was told to; 0: a second */
};

/*
 * Starts it, with standard input and output on /dev/null, in a process group of its own: what the terminal's keys or a
 * shell send to ours is for us, and the guest, to end by. 0, or -errno with a line in `err`: -ENOENT says which package
 * has it.
 *
 * To be called on a thread that lives as long as the program is wanted, main()'s or a device's worker: the kernel takes
 * the end of the thread for that of the parent. A program that changes its user loses that tie (prctl(2),
 * PR_SET_PDEATHSIG); passt, which does when root starts it, ends with its socket then.
 */
int child_start(const struct child_config *config, struct child **out, struct error *err)
	__attribute__((warn_unused_result));
/*
 * Waits `ms` until there is something to read on `fd`, by which it says that it is ready. 0, or -errno with a line in
 * `err`: -EIO: it ended instead, and the line has its last words; -ETIMEDOUT; -EINTR: the user wants to leave
 * (core/leave.h), with status QUIT. May come again, for something else. For set-up.
 */
int child_await(struct child *child, int fd, unsigned ms, struct error *err) __attribute__((warn_unused_result));
/*
 * From now on gone() is called once on the loop's thread when it ends without having been told to; `how` is
 * "killed by signal 9 (Killed)" or "ended with status 1: its last words". It is for gone() to tell the user, in one
 * line with what follows. 0 or -errno.
 */
int child_watch(struct child *child, struct loop *loop, void (*gone)(void *arg, const char *how), void *arg)
	__attribute__((warn_unused_result));
/*
 * For who learns of its end otherwise, by a socket that was closed: waits `ms` for the end. True: it has ended, and
 * `how` says how. One thread at a time, and not while it is watched.
 */
bool child_ended(struct child *child, unsigned ms, char how[CHILD_HOW]);
/*
 * Kills it, at once and whatever it does, where it has not ended, and waits 10 s for the end: then it touches nothing
 * any more. Only one that the kernel does not let go, in the midst of a request to a disk that does not answer, takes
 * longer, and until then such a request may still reach the memory that it maps. child_end() comes all the same. As
 * child_ended().
 */
void child_kill(struct child *child);
/*
 * Sends `signal` (0: none, what it ends by has happened, such as a socket closed), waits for its end, kills it when its
 * time is over, and reaps it. Frees. NULL is fine. Where it is watched: on the loop's thread, or while that does not
 * run.
 */
void child_end(struct child *child, int signal);

#endif
