/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_io.c - an I/O as a row of system calls, whoever makes them.
 *
 * A call may do less than it was asked for, so an I/O is a position (offset, len, iov) that each call moves on: what
 * was done is not done again, what is missing is asked for until the host says why not. O_DIRECT wants offsets, lengths
 * and addresses aligned: where only the addresses are not, data goes through a buffer of ours; where the place on the
 * disk is not, through the page cache, which the kernel keeps coherent with direct I/O.
 */
#include "host/disk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#define BOUNCE    (256U << 10)
#define TRIES     64 /* of a call that the host put off */
#define ZERO_PAGE 4096
#define ZERO_IOVS 256

enum stage { STAGE_DATA, STAGE_PUNCH, STAGE_ZERO_RANGE, STAGE_WRITE_ZEROS, STAGE_SYNC };

static const uint8_t zeros[ZERO_PAGE] __attribute__((aligned(ZERO_PAGE)));

void disk_io_begin(struct disk_io *io)
{
	static const uint8_t first[] = {
		[DISK_READ] = STAGE_DATA,
		[DISK_WRITE] = STAGE_DATA,
		[DISK_FLUSH] = STAGE_SYNC,
		[DISK_DISCARD] = STAGE_PUNCH,
		[DISK_ZERO] = STAGE_ZERO_RANGE,
		[DISK_ZERO_UNMAP] = STAGE_PUNCH,
	};

	io->stage = first[io->op];
	io->tries = 0;
	io->bounce = NULL;
	io->bounced = false;
	io->result = 0;
}

/* ---- what to call ---- */

static bool aligned(const struct disk *disk, const struct disk_io *io)
{
	for (unsigned i = 0; i < io->nr_iov; i++) {
		if ((uintptr_t)io->iov[i].iov_base % disk->align_address || io->iov[i].iov_len % disk->align_offset)
			return false;
	}
	return true;
}

/* Between io->iov and the buffer, `n` bytes. */
static void bounce_copy(struct disk_io *io, uint64_t n, bool to_bounce)
{
	uint8_t *at = io->bounce;

	for (unsigned i = 0; n; i++) {
		uint64_t part = io->iov[i].iov_len < n ? io->iov[i].iov_len : n;

		memcpy(to_bounce ? (void *)at : io->iov[i].iov_base, to_bounce ? io->iov[i].iov_base : (void *)at,
			part);
		at += part;
		n -= part;
	}
}

static int call_bounced(const struct disk *disk, struct disk_io *io, struct disk_call *call)
{
	uint32_t align = disk->align_address > ZERO_PAGE ? disk->align_address : ZERO_PAGE;

	call->len = io->len < BOUNCE ? io->len : BOUNCE;
	if (!io->bounce && posix_memalign(&io->bounce, align, call->len)) {
		io->bounce = NULL;
		return -ENOMEM;
	}
	if (io->op == DISK_WRITE)
		bounce_copy(io, call->len, true);
	io->bounced = true;
	io->bounce_iov = (struct iovec){ io->bounce, call->len };
	call->iov = &io->bounce_iov;
	call->nr_iov = 1;
	return 0;
}

static int call_data(const struct disk *disk, struct disk_io *io, struct disk_call *call)
{
	bool direct = disk->cached >= 0;

	call->kind = io->op == DISK_READ ? CALL_READ : CALL_WRITE;
	if (direct && ((io->offset | io->len) & (disk->align_offset - 1)))
		call->fd = disk->cached;
	else if (direct && !aligned(disk, io))
		return call_bounced(disk, io, call);
	call->iov = io->iov;
	call->nr_iov = io->nr_iov < IOV_MAX ? io->nr_iov : IOV_MAX;
	return 0;
}

/* A page of zeros many times over. */
static int call_zeros(const struct disk *disk, struct disk_io *io, struct disk_call *call)
{
	uint64_t n = io->len < ZERO_IOVS * ZERO_PAGE ? io->len : ZERO_IOVS * ZERO_PAGE;
	unsigned pages = (unsigned)((n + ZERO_PAGE - 1) / ZERO_PAGE);
	struct iovec *iov;

	if (!io->bounce)
		io->bounce = malloc(ZERO_IOVS * sizeof(*iov));
	if (!io->bounce)
		return -ENOMEM;
	iov = io->bounce;
	for (unsigned i = 0; i < pages; i++)
		iov[i] = (struct iovec){ (void *)(uintptr_t)zeros, ZERO_PAGE };
	iov[pages - 1].iov_len = n - (uint64_t)(pages - 1) * ZERO_PAGE;
	call->kind = CALL_WRITE;
	if (disk->cached >= 0)
		call->fd = disk->cached;
	call->iov = iov;
	call->nr_iov = pages;
	call->len = n;
	return 0;
}

bool disk_io_call(const struct disk *disk, struct disk_io *io, struct disk_call *call)
{
	int r = 0;

	io->bounced = false;
	*call = (struct disk_call){ .fd = disk->fd, .offset = io->offset, .len = io->len };
	switch ((enum stage)io->stage) {
	case STAGE_DATA:
		r = call_data(disk, io, call);
		break;
	case STAGE_PUNCH:
		call->kind = CALL_FALLOCATE;
		call->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		break;
	case STAGE_ZERO_RANGE:
		call->kind = CALL_FALLOCATE;
		call->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
		break;
	case STAGE_WRITE_ZEROS:
		r = call_zeros(disk, io, call);
		break;
	case STAGE_SYNC:
		call->kind = CALL_SYNC;
		break;
	}
	io->asked = call->len;
	io->result = r;
	return r == 0;
}

/* ---- what came of it ---- */

/* Moves on by n bytes. */
static void advance(struct disk_io *io, uint64_t n)
{
	io->offset += n;
	io->len -= n;
	while (n && io->nr_iov) {
		uint64_t part = io->iov->iov_len < n ? io->iov->iov_len : n;

		io->iov->iov_base = (uint8_t *)io->iov->iov_base + part;
		io->iov->iov_len -= part;
		n -= part;
		if (!io->iov->iov_len) {
			io->iov++;
			io->nr_iov--;
		}
	}
}

static bool ended(struct disk_io *io, long result)
{
	io->result = result;
	return true;
}

/* The content is as it should be. */
static bool content_done(struct disk_io *io)
{
	if (!io->durable || io->op == DISK_READ)
		return ended(io, 0);
	io->stage = STAGE_SYNC;
	return false;
}

static bool data_done(struct disk_io *io, long result)
{
	/* Zero: beyond the end, since the file became shorter. More than was asked for cannot be. */
	if (result <= 0 || (uint64_t)result > io->asked)
		return ended(io, result < 0 ? result : -EIO);
	if (io->bounced && io->op == DISK_READ)
		bounce_copy(io, (uint64_t)result, false);
	advance(io, (uint64_t)result);
	return io->len ? false : content_done(io);
}

static bool unsupported(long result)
{
	return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -ENODEV;
}

static bool fallocate_done(struct disk_io *io, long result)
{
	if (result == 0)
		return content_done(io);
	if (!unsupported(result))
		return ended(io, result);
	if (io->op == DISK_DISCARD)
		return ended(io, -EOPNOTSUPP);
	io->stage = io->stage == STAGE_PUNCH ? STAGE_ZERO_RANGE : STAGE_WRITE_ZEROS;
	return false;
}

bool disk_io_step(struct disk *disk, struct disk_io *io, long result)
{
	if ((result == -EAGAIN || result == -EINTR) && ++io->tries < TRIES)
		return false;
	switch ((enum stage)io->stage) {
	case STAGE_DATA:
	case STAGE_WRITE_ZEROS:
		return data_done(io, result);
	case STAGE_PUNCH:
	case STAGE_ZERO_RANGE:
		return fallocate_done(io, result);
	case STAGE_SYNC:
		break;
	}
	/* Whoever asked first was told of the loss; nobody else may think that there was none. */
	if (result < 0)
		atomic_store(&disk->lost, (int)result);
	return ended(io, result < 0 ? result : atomic_load(&disk->lost));
}

void disk_io_end(struct disk *disk, struct disk_io *io)
{
	free(io->bounce);
	io->bounce = NULL;
	io->done(io, (int)io->result);
}
