/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_uring.c - disks by io_uring, by its system calls: what is submitted goes to the kernel in one call for all. What
 * the kernel did in that call (reads of what is in its cache) is told when it returns; of the rest the lane's loop
 * hears, which watches the ring's descriptor: readable while there are completions.
 *
 * An I/O has one entry in the rings at a time, and the submission ring has one for each I/O that can be under way, so
 * neither ring can be full.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "host/disk_io.h"

/* Linux 5.6, which brought fallocate(); and rings that lie together and lose nothing. */
#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS)

#define RETRY_MS 1
#define RETRIES  2000

#define AT_ONCE_MAX    (1U << 20) /* bytes: what is copied meanwhile keeps the queue's others waiting */
#define SLOW_NS        1000000ULL /* longer than a copy takes */
#define PAUSE_LEAST_NS 1000000000ULL
#define PAUSE_MOST_NS  60000000000ULL

struct uring {
	struct disk_lane *lane;
	int fd;
	struct loop_watch watch;
	void *rings;
	size_t rings_size, sqes_size;
	unsigned *sq_head, *sq_tail, *sq_array, sq_mask;
	unsigned *cq_head, *cq_tail, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned tail;                 /* of the submission ring; the kernel sees it at the next commit */
	struct disk_io *ended;         /* without the ring, not told of yet */
	uint64_t slow_until, slow_for; /* see at_once(); ns */
};

static void uring_free(struct uring *u)
{
	if (u->sqes)
		munmap(u->sqes, u->sqes_size);
	if (u->rings)
		munmap(u->rings, u->rings_size);
	if (u->fd >= 0)
		close(u->fd);
	free(u);
}

/* ---- to the kernel ---- */

static void put(struct uring *u, struct disk_io *io, const struct disk_call *call)
{
	static const uint8_t codes[] = {
		[CALL_READ] = IORING_OP_READV,
		[CALL_WRITE] = IORING_OP_WRITEV,
		[CALL_SYNC] = IORING_OP_FSYNC,
		[CALL_FALLOCATE] = IORING_OP_FALLOCATE,
	};
	unsigned slot = u->tail++ & u->sq_mask;
	struct io_uring_sqe *sqe = &u->sqes[slot];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = codes[call->kind];
	sqe->fd = call->fd;
	sqe->user_data = (uintptr_t)io;
	switch (call->kind) {
	case CALL_READ:
	case CALL_WRITE:
		sqe->off = call->offset;
		sqe->addr = (uintptr_t)call->iov;
		sqe->len = call->nr_iov;
		break;
	case CALL_SYNC:
		sqe->fsync_flags = IORING_FSYNC_DATASYNC;
		break;
	case CALL_FALLOCATE:
		sqe->off = call->offset;
		sqe->addr = call->len;
		sqe->len = (uint32_t)call->mode;
		break;
	}
	u->sq_array[slot] = slot;
}

/* Over, with io->result, and told in the next commit. */
static void end(struct uring *u, struct disk_io *io)
{
	io->next = u->ended;
	u->ended = io;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/*
 * Most kernels give a write to a file's cache to a thread of theirs, one after the other, which costs more than the
 * copy that it is: so it is made here. While the host is short of clean memory such a write waits, though, and what is
 * behind it must not: where one took long, the next go by the ring, for longer each time that it happens again.
 */
static bool at_once(struct uring *u, const struct disk_call *call)
{
	const struct disk *disk = u->lane->disk;

	return call->kind == CALL_WRITE && call->len <= AT_ONCE_MAX && disk->cached < 0 && !disk->device &&
	       (!u->slow_until || now_ns() >= u->slow_until);
}

static long write_now(struct uring *u, const struct disk_call *call)
{
	uint64_t begin = now_ns(), end;
	ssize_t r = pwritev(call->fd, call->iov, (int)call->nr_iov, (off_t)call->offset);

	if (r < 0)
		r = -errno;
	end = now_ns();
	if (end - begin > SLOW_NS) {
		u->slow_for = u->slow_for < PAUSE_LEAST_NS  ? PAUSE_LEAST_NS
			      : u->slow_for < PAUSE_MOST_NS ? 2 * u->slow_for
							    : u->slow_for;
		u->slow_until = end + u->slow_for;
	} else if (u->slow_until) {
		u->slow_for /= 2;
		u->slow_until = 0;
	}
	return r;
}

static void uring_submit(struct disk_lane *lane, struct disk_io *io)
{
	struct uring *u = lane->state;
	struct disk_call call;

	while (disk_io_call(lane->disk, io, &call)) {
		if (!at_once(u, &call)) {
			put(u, io, &call);
			return;
		}
		if (disk_io_step(lane->disk, io, write_now(u, &call)))
			break;
	}
	end(u, io);
}

/* Takes back what the kernel did not take. */
static void take_back(struct uring *u, long result)
{
	while (u->tail != __atomic_load_n(u->sq_head, __ATOMIC_ACQUIRE)) {
		const struct io_uring_sqe *sqe = &u->sqes[--u->tail & u->sq_mask];
		struct disk_io *io = (struct disk_io *)(uintptr_t)sqe->user_data;

		io->result = result;
		end(u, io);
	}
	__atomic_store_n(u->sq_tail, u->tail, __ATOMIC_RELEASE);
}

/* All that was put goes to the kernel. */
static void enter(struct uring *u)
{
	const struct timespec nap = { .tv_nsec = RETRY_MS * 1000000L };
	unsigned tries = 0;

	/* The entries are written before the kernel sees the tail. */
	__atomic_store_n(u->sq_tail, u->tail, __ATOMIC_RELEASE);
	for (;;) {
		unsigned n = u->tail - __atomic_load_n(u->sq_head, __ATOMIC_ACQUIRE);
		long r;

		if (!n)
			return;
		r = syscall(SYS_io_uring_enter, u->fd, n, 0, 0, NULL, 0);
		if (r > 0 || (r < 0 && errno == EINTR))
			continue;
		/* A host that is short of memory; this thread is the lane's own, so it may wait for better times. */
		if ((r == 0 || errno == EAGAIN || errno == EBUSY || errno == ENOMEM) && ++tries < RETRIES) {
			nanosleep(&nap, NULL);
			continue;
		}
		take_back(u, r == 0 ? -EIO : -errno);
		return;
	}
}

/* ---- and back ---- */

static void one_done(struct uring *u, struct disk_io *io, long result)
{
	struct disk *disk = u->lane->disk;
	struct disk_call call;

	if (!disk_io_step(disk, io, result) && disk_io_call(disk, io, &call))
		put(u, io, &call);
	else
		disk_io_end(disk, io);
}

/* What is done. */
static void reap(struct uring *u)
{
	unsigned head = *u->cq_head;

	while (head != __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE)) {
		const struct io_uring_cqe *cqe = &u->cqes[head++ & u->cq_mask];
		struct disk_io *io = (struct disk_io *)(uintptr_t)cqe->user_data;
		long result = cqe->res;

		__atomic_store_n(u->cq_head, head, __ATOMIC_RELEASE);
		one_done(u, io, result);
	}
}

static void tell(struct uring *u)
{
	struct disk_io *io = u->ended;

	u->ended = NULL;
	while (io) {
		struct disk_io *next = io->next;

		disk_io_end(u->lane->disk, io);
		io = next;
	}
}

static void uring_commit(struct disk_lane *lane)
{
	struct uring *u = lane->state;

	/* Again for what an I/O that was done in part, or that a sync follows, needs now. */
	do {
		enter(u);
		reap(u);
		tell(u);
	} while (u->ended || u->tail != __atomic_load_n(u->sq_head, __ATOMIC_ACQUIRE));
}

static void uring_event(void *arg, uint32_t events)
{
	struct uring *u = arg;

	(void)events;
	reap(u);
	uring_commit(u->lane);
	u->lane->batch(u->lane->arg);
}

/* ---- life ---- */

static int uring_map(struct uring *u, const struct io_uring_params *p)
{
	size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	void *map;
	char *at;

	u->rings_size = sq > cq ? sq : cq;
	map = mmap(NULL, u->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQ_RING);
	if (map == MAP_FAILED)
		return -errno;
	u->rings = at = map;
	u->sqes_size = p->sq_entries * sizeof(struct io_uring_sqe);
	map = mmap(NULL, u->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQES);
	if (map == MAP_FAILED)
		return -errno;
	u->sqes = map;
	u->sq_head = (unsigned *)(void *)(at + p->sq_off.head);
	u->sq_tail = (unsigned *)(void *)(at + p->sq_off.tail);
	u->sq_array = (unsigned *)(void *)(at + p->sq_off.array);
	u->sq_mask = p->sq_entries - 1;
	u->cq_head = (unsigned *)(void *)(at + p->cq_off.head);
	u->cq_tail = (unsigned *)(void *)(at + p->cq_off.tail);
	u->cqes = (struct io_uring_cqe *)(void *)(at + p->cq_off.cqes);
	u->cq_mask = p->cq_entries - 1;
	u->tail = *u->sq_tail;
	return 0;
}

static int uring_open(struct disk_lane *lane)
{
	struct io_uring_params p = { 0 };
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->lane = lane;
	u->fd = (int)syscall(SYS_io_uring_setup, lane->depth, &p);
	u->watch = (struct loop_watch){ .fd = u->fd, .fn = uring_event, .arg = u };
	r = u->fd < 0 ? -errno : (p.features & FEATURES) != FEATURES ? -ENOSYS : uring_map(u, &p);
	if (r == 0)
		r = loop_watch(lane->loop, &u->watch, EPOLLIN);
	if (r) {
		uring_free(u);
		return r;
	}
	lane->state = u;
	return 0;
}

static void uring_close(struct disk_lane *lane)
{
	uring_free(lane->state);
}

const struct disk_engine disk_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.submit = uring_submit,
	.commit = uring_commit,
};
