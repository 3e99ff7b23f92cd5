/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chardev.h - a byte stream between a chip and the host: rings on both ways, flushed by the event loop.
 *
 * Chips put bytes without ever waiting. What the host has for the guest is kept until the chip has room
 * (flow control), so pasted input is never lost to a guest that takes any. The lock is a leaf: a chip calls in
 * with its device's lock held, and the chardev never calls out with its own.
 *
 * A chip loses no output either where it asks chardev_room() before it says that its transmitter is empty.
 * Writing to a reader that has gone fails with EPIPE: the process must ignore SIGPIPE.
 */
#ifndef TRAPLINE_CORE_CHARDEV_H
#define TRAPLINE_CORE_CHARDEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/loop.h"

#define CHARDEV_OUT_SIZE (64 * 1024)
#define CHARDEV_IN_SIZE  4096
#define CHARDEV_HISTORY  (32 * 1024) /* of earlier output, that a new reader is shown */

/* Where a break is that the chip sends; see chardev_break(). */
enum chardev_line {
	CHARDEV_LINE_IDLE,
	CHARDEV_LINE_DUE,  /* bytes that the chip put before it are still in the ring */
	CHARDEV_LINE_WAIT, /* for what the host's line has yet to send of them */
	CHARDEV_LINE_LOW,  /* for as long as a break lasts at least */
	CHARDEV_LINE_HELD, /* longer, as the chip wants it */
};

struct chardev {
	pthread_mutex_t lock;
	struct loop *loop;
	int in_fd, out_fd; /* -1: none */
	struct loop_watch in_watch, out_watch;
	struct loop_watch gather; /* a timerfd that stands in for the kick where output has just been written */
	uint64_t wrote_at;        /* CLOCK_MONOTONIC ns of the last such round; under the lock */
	struct loop_work kick;    /* bytes or room appeared: adjust the watches on the loop's thread */
	uint8_t *out;             /* ring of CHARDEV_OUT_SIZE */
	size_t out_head, out_len;
	size_t out_kept;  /* bytes before out_head that were written and are still whole: what a new reader is shown */
	uint64_t dropped; /* bytes for which a reader was too slow, or that it refused */
	uint8_t in[CHARDEV_IN_SIZE];
	size_t in_head, in_len;
	int write_fd;      /* what output is written to: out_fd, or another description of the same file */
	bool own_write_fd; /* to be closed */
	bool socket;
	size_t chunk;   /* bytes that one write may carry */
	bool out_dead;  /* the reader is gone for good: output vanishes, counted; or is kept for the next one */
	bool keeps;     /* readers come and go; see chardev_keep() */
	bool want_room; /* the chip found no room and waits for `writable` */
	bool breaks;    /* the output is a serial line of the host's */
	bool breaking;  /* the chip wants its line low */
	enum chardev_line line;
	size_t line_after;       /* in LINE_DUE: bytes of the ring that come before */
	struct timer line_timer; /* of LINE_WAIT and LINE_LOW */
	bool in_always;          /* a file that epoll refuses, always ready */
	bool in_paused;          /* the ring was full: not read until the chip has taken some */
	bool in_eof;
	bool in_tty;
	bool in_stuck; /* the chip has stopped taking: what a terminal sends is read all the same, for the filter */
	uint64_t in_taken, in_taken_seen; /* bytes that the chip took; and had when a stall began to be timed */
	uint64_t in_dropped;              /* bytes for which it had no room while it was stuck */
	struct timer in_stall;            /* runs while paused, where a filter wants a terminal's keys */
	/* The chip's side: told, on the loop's thread, that chardev_get() has bytes. It takes its own lock. */
	void (*readable)(void *arg);
	void *readable_arg;
	/* Likewise, that there is room again after chardev_room() said 0. Set both before the loop runs. */
	void (*writable)(void *arg);
	void *writable_arg;
	/*
	 * Likewise, that the line was broken; `key` follows at once, before all
	 * other input. NULL: it knows no such thing.
	 */
	void (*broken)(void *arg, uint8_t key);
	void *broken_arg;
	/*
	 * The host's side may take bytes out of the stream before the guest sees them (escape keys); NULL: none.
	 * Compacts `bytes` in place and returns how many are left, at most n. On the loop's thread, no lock held. A
	 * terminal's keys come here even when the guest has long stopped reading (and drops what has no room then),
	 * or who typed much at a dead guest could not leave.
	 */
	size_t (*filter)(void *arg, uint8_t *bytes, size_t n);
	void *filter_arg;
	/* Where readers come and go: the input has ended and nobody reads any more. On the loop's thread. */
	void (*hangup)(void *arg);
	void *hangup_arg;
};

/*
 * 0 or -errno. fds are the caller's and stay open until chardev_fini(); their flags are not changed. They may be the
 * same one. A regular file or /dev/null is always readable; at its end, watching ends. loop may be NULL: then bytes
 * move by chardev_feed() and chardev_flush() only.
 */
int chardev_init(struct chardev *dev, struct loop *loop, int in_fd, int out_fd) __attribute__((warn_unused_result));

/*
 * For a far end that comes and goes (a socket's clients, a pseudo-terminal's), after an init with no file for output,
 * before the loop runs. While nobody is attached output is not lost but kept: the last CHARDEV_HISTORY bytes of it, and
 * of what earlier readers have had, are what the next one gets first, from the beginning of a line.
 */
void chardev_keep(struct chardev *dev);
/*
 * On the loop's thread, or when it does not run; both may be one file. 0 or -errno, and then nothing is attached.
 * Detaching keeps what the guest has not read yet, and calls `writable` if the chip waits for it.
 */
int chardev_attach_in(struct chardev *dev, int fd) __attribute__((warn_unused_result));
int chardev_attach_out(struct chardev *dev, int fd) __attribute__((warn_unused_result));
void chardev_detach_in(struct chardev *dev);
void chardev_detach_out(struct chardev *dev);

/*
 * Writes out what is left, also what the chip still has to put. Gives up when the reader has taken nothing for
 * `timeout_ms`, or after CHARDEV_FLUSH_MAX times as long; what then is left is dropped and counted. On the loop's
 * thread, or when it does not run, with the chip at rest.
 */
#define CHARDEV_FLUSH_MAX 15
void chardev_flush(struct chardev *dev, int timeout_ms);
/* On the loop's thread, or when it does not run. Does not flush. Fine on one that is all zeros. */
void chardev_fini(struct chardev *dev);

/* The chip's side; all legal in handlers. */
void chardev_put(struct chardev *dev, uint8_t byte); /* never waits; full: dropped, counted; NULL dev: dropped */
/* Bytes that chardev_put() will take now; 0 arms one call of `writable`. NULL dev: any number. */
size_t chardev_room(struct chardev *dev);
/*
 * The line goes low, for a break, or is let go. What was put before is sent before. Where the output is a serial line
 * of the host's, that is low for as long, but for a quarter of a second at least; elsewhere nothing happens. NULL dev:
 * nothing
 */
void chardev_break(struct chardev *dev, bool low);
size_t chardev_get(struct chardev *dev, uint8_t *buf, size_t n); /* bytes taken; 0: none now; NULL dev: 0 */
bool chardev_has_input(struct chardev *dev);

/*
 * Input that comes from no file (a display's keys, a replay, tests): past the filter, straight to the ring. Returns
 * how many bytes it had room for. On the loop's thread, or when it does not run; calls `readable`.
 */
size_t chardev_feed(struct chardev *dev, const uint8_t *bytes, size_t n);

/* The last bytes that the chip put, read already or not; returns how many, at most n. From any thread. NULL dev: 0 */
size_t chardev_last(struct chardev *dev, uint8_t *buf, size_t n);

#endif
