/* SPDX-License-Identifier: BSD-2-Clause */
/* disk_io.h - between disk_io.c, which says call by call what an I/O needs, and the engines, which make the calls. */
#ifndef TRAPLINE_HOST_DISK_IO_H
#define TRAPLINE_HOST_DISK_IO_H

#include "host/disk.h"

/* One system call. */
struct disk_call {
	enum { CALL_READ, CALL_WRITE, CALL_SYNC, CALL_FALLOCATE } kind;
	int fd;
	int mode; /* of fallocate() */
	const struct iovec *iov;
	unsigned nr_iov;
	uint64_t offset, len;
};

struct disk_engine {
	const char *name;
	int (*open)(struct disk_lane *lane); /* 0 or -errno: not to be had here */
	void (*close)(struct disk_lane *lane);
	void (*submit)(struct disk_lane *lane, struct disk_io *io);
	void (*commit)(struct disk_lane *lane);
};

extern const struct disk_engine disk_uring, disk_threads;

void disk_io_begin(struct disk_io *io);
/* The next call. False: there is no memory for it, and the I/O ended with io->result. */
bool disk_io_call(const struct disk *disk, struct disk_io *io, struct disk_call *call);
/* What the call returned, -errno for errors. True: the I/O ended, with io->result. */
bool disk_io_step(struct disk *disk, struct disk_io *io, long result);
/* Tells the submitter. */
void disk_io_end(struct disk *disk, struct disk_io *io);

#endif
