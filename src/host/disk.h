/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk.h - raw images and block devices of the host, read and written without waiting for them.
 *
 * A disk is a file that this process alone writes (an OFD lock sees to that); lanes are ways to it, each used by one
 * thread, the one that runs the lane's loop, and independent of each other. What an I/O asks for is done whole or told
 * as an error: what the kernel did in part is continued, so nothing is lost, and nothing is done twice.
 */
#ifndef TRAPLINE_HOST_DISK_H
#define TRAPLINE_HOST_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/error.h"
#include "core/loop.h"

#define DISK_SECTOR 512

enum disk_way {
	DISK_AUTO,    /* io_uring; threads where the kernel refuses it */
	DISK_THREADS, /* threads, which wait for system calls */
};

struct disk_config {
	const char *path;
	bool ro;
	bool direct; /* past the host's page cache */
	bool raw;    /* also what looks like another format */
	enum disk_way way;
};

struct disk {
	bool open;
	int fd;           /* O_DIRECT where that was asked for */
	int cached;       /* the same file without O_DIRECT, for what is not aligned; -1: fd is that */
	bool ro, device;  /* a block device */
	bool can_discard; /* the host can give space back */
	enum disk_way way;
	uint64_t size;                        /* when opened, in bytes: whole sectors */
	uint32_t logical, physical, optimal;  /* block sizes in bytes; optimal: 0 where none is known */
	uint32_t align_offset, align_address; /* what O_DIRECT wants; 1 without it */
	/*
	 * A flush failed, of which the host tells once and forgets what was not written: flushes fail from then on,
	 * until disk_forget(). 0 or -errno.
	 */
	atomic_int lost;
};

enum disk_op {
	DISK_READ,
	DISK_WRITE,
	DISK_FLUSH,      /* all that was done before it was submitted is on the medium */
	DISK_DISCARD,    /* the content is not needed; reads as zeros or as before. -EOPNOTSUPP where the host cannot */
	DISK_ZERO,       /* reads as zeros, the space stays */
	DISK_ZERO_UNMAP, /* reads as zeros, the space goes where it can */
};

struct disk_io {
	/* The submitter's; the last four are used up. */
	enum disk_op op;
	bool durable; /* done only when it is on the medium */
	void (*done)(struct disk_io *io,
		int result);  /* 0 or -errno; on the lane's loop or in disk_commit(), never in disk_submit() */
	uint64_t offset, len; /* of the disk; within it */
	struct iovec *iov;    /* reads and writes: `len` bytes in all; the array is written to */
	unsigned nr_iov;
	/* disk.c's own */
	unsigned stage, tries;
	uint64_t asked; /* bytes of the call under way */
	void *bounce;   /* a buffer of ours */
	bool bounced;   /* the call under way uses it for data */
	struct iovec bounce_iov;
	struct disk_io *next;
	long result;
};

struct disk_engine;

struct disk_lane {
	struct disk *disk;
	struct loop *loop;
	unsigned depth;
	void (*batch)(void *arg); /* after some done() */
	void *arg;
	/* disk.c's own */
	const struct disk_engine *engine; /* NULL before the first I/O */
	void *state;                      /* the engine's */
};

/* Opens, locks, measures. 0, or -errno with one line, and nothing is left open. */
int disk_open(struct disk *disk, const struct disk_config *config, struct error *err)
	__attribute__((warn_unused_result));
void disk_close(struct disk *disk); /* copes with one that failed to open or is all zeros */
/* The size now, in bytes, whole sectors; 0 where it cannot be told. May wait. */
uint64_t disk_size(const struct disk *disk);
void disk_forget(struct disk *disk); /* what was lost; whoever was told of it begins anew */

/* At most `depth` I/Os are under way in it. batch and arg are the caller's to set. */
void disk_lane_init(struct disk_lane *lane, struct disk *disk, struct loop *loop, unsigned depth);
/* Nothing is under way, and its loop is over: it is not touched any more. Copes with all zeros. */
void disk_lane_fini(struct disk_lane *lane);
/*
 * On the thread that runs the loop; `io` is the lane's until its done(), and begins at disk_commit() at the latest. 0,
 * or -ENOMEM: not taken.
 */
int disk_submit(struct disk_lane *lane, struct disk_io *io) __attribute__((warn_unused_result));
void disk_commit(struct disk_lane *lane);
const char *disk_lane_way(const struct disk_lane *lane); /* "io_uring", "threads"; NULL: not yet known */

#endif
