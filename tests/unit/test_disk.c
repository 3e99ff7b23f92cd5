/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_disk.c - disks of the host, by io_uring and by threads: what is refused, that all of a transfer is done once and
 * in its place, what happens where the host does less than asked, fails or is slow.
 *
 * The system calls of the threads are wrapped (-Wl,--wrap), so that a test can have them be short, late or wrong.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/list.h"
#include "host/disk.h"
#include "disk_content.h"

#define IOS  64
#define SIZE (1U << 20)

/* ---- faults ---- */

static struct {
	atomic_uint reads, writes, syncs, falls;
	size_t most;         /* bytes of a transfer at most; 0: all */
	atomic_int failures; /* so many of the next calls fail */
	int with;
	int sync_with;          /* what the next fdatasync fails with, once */
	atomic_bool sync_waits; /* until this is false again */
	int fall_with;          /* what fallocate of `fall_mode` fails with */
	int fall_mode;
	unsigned slow_us;       /* what a write takes longer */
	int uring_with;         /* what io_uring_setup() fails with */
	unsigned enters_failed; /* so many of the next io_uring_enter() fail, */
	int enter_with;         /* with this */
} fault;

ssize_t __real_preadv64(int fd, const struct iovec *iov, int n, off64_t at);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off64_t at);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off64_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off64_t at);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off64_t at, off64_t len);
int __wrap_fallocate64(int fd, int mode, off64_t at, off64_t len);
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

static bool fails(void)
{
	if (atomic_load(&fault.failures) <= 0 || atomic_fetch_sub(&fault.failures, 1) <= 0)
		return false;
	errno = fault.with;
	return true;
}

ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off64_t at)
{
	struct iovec one = iov[0];

	fault.reads++;
	if (fails())
		return -1;
	if (!fault.most)
		return __real_preadv64(fd, iov, n, at);
	one.iov_len = one.iov_len < fault.most ? one.iov_len : fault.most;
	return __real_preadv64(fd, &one, 1, at);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
{
	struct iovec one = iov[0];

	fault.writes++;
	if (fails())
		return -1;
	usleep(fault.slow_us);
	if (!fault.most)
		return __real_pwritev64(fd, iov, n, at);
	one.iov_len = one.iov_len < fault.most ? one.iov_len : fault.most;
	return __real_pwritev64(fd, &one, 1, at);
}

int __wrap_fdatasync(int fd)
{
	int with = fault.sync_with;

	fault.syncs++;
	while (atomic_load(&fault.sync_waits))
		usleep(1000);
	fault.sync_with = 0;
	errno = with;
	return with ? -1 : __real_fdatasync(fd);
}

int __wrap_fallocate64(int fd, int mode, off64_t at, off64_t len)
{
	fault.falls++;
	if (fault.fall_with && (mode & fault.fall_mode)) {
		errno = fault.fall_with;
		return -1;
	}
	return __real_fallocate64(fd, mode, at, len);
}

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_io_uring_setup && fault.uring_with) {
		errno = fault.uring_with;
		return -1;
	}
	if (number == SYS_io_uring_enter && fault.enters_failed) {
		fault.enters_failed--;
		errno = fault.enter_with;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, e, f);
}

/* ---- a disk and a lane, whose loop runs in the test's own thread ---- */

struct bed {
	char path[64];
	struct disk_config config;
	struct disk disk;
	struct loop loop;
	struct disk_lane lane;
	unsigned batches, done, wanted;
	struct one {
		struct disk_io io;
		struct bed *bed;
		bool done;
		int result;
		struct iovec iov[IOS];
	} ios[IOS];
	unsigned nr_ios;
};

static void batch(void *arg)
{
	struct bed *bed = arg;

	bed->batches++;
	if (bed->done >= bed->wanted)
		loop_quit(&bed->loop);
}

static void new_file(struct bed *bed, const void *content, size_t n)
{
	int fd;

	strcpy(bed->path, "/tmp/disk-XXXXXX");
	fd = mkstemp(bed->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, n), n);
	close(fd);
	bed->config = (struct disk_config){ .path = bed->path };
}

static struct bed *bed_new(enum disk_way way)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	uint8_t *content = malloc(SIZE);

	assert_non_null(bed);
	assert_non_null(content);
	memset(&fault, 0, sizeof(fault));
	for (unsigned i = 0; i < SIZE; i++)
		content[i] = pattern(i);
	new_file(bed, content, SIZE);
	free(content);
	bed->config.way = way;
	return bed;
}

static void bed_open(struct bed *bed)
{
	struct error err;

	assert_int_equal(disk_open(&bed->disk, &bed->config, &err), 0);
	assert_int_equal(loop_init(&bed->loop, NULL), 0);
	disk_lane_init(&bed->lane, &bed->disk, &bed->loop, IOS);
	bed->lane.batch = batch;
	bed->lane.arg = bed;
}

static void bed_free(struct bed *bed)
{
	loop_fini(&bed->loop);
	disk_lane_fini(&bed->lane);
	disk_close(&bed->disk);
	unlink(bed->path);
	free(bed);
}

static void done(struct disk_io *io, int result)
{
	struct one *one = container_of(io, struct one, io);

	assert_false(one->done);
	one->done = true;
	one->result = result;
	one->bed->done++;
}

/* One more I/O, with all of it in one piece; begun by go(). */
static struct one *prepare(struct bed *bed, enum disk_op op, uint64_t offset, void *data, uint64_t len)
{
	struct one *one = &bed->ios[bed->nr_ios++];

	assert_true(bed->nr_ios <= IOS);
	*one = (struct one){ .bed = bed };
	one->iov[0] = (struct iovec){ data, len };
	one->io = (struct disk_io){
		.op = op, .done = done, .offset = offset, .len = len, .iov = one->iov, .nr_iov = data ? 1 : 0
	};
	return one;
}

static struct one *go(struct one *one)
{
	assert_int_equal(disk_submit(&one->bed->lane, &one->io), 0);
	assert_false(one->done);
	return one;
}

static struct one *submit(struct bed *bed, enum disk_op op, uint64_t offset, void *data, uint64_t len)
{
	return go(prepare(bed, op, offset, data, len));
}

static void wait_for(struct bed *bed, unsigned n)
{
	bed->wanted = n;
	disk_commit(&bed->lane);
	if (bed->done < n)
		loop_run(&bed->loop);
	assert_true(bed->done >= n);
}

static void wait_all(struct bed *bed)
{
	wait_for(bed, bed->nr_ios);
	bed->nr_ios = bed->done = 0;
}

/* One I/O from beginning to end; its result. */
static int run_op(struct bed *bed, enum disk_op op, uint64_t offset, void *data, uint64_t len)
{
	const struct one *one = submit(bed, op, offset, data, len);

	wait_all(bed);
	assert_true(one->done);
	return one->result;
}

/* ---- transfers ---- */

static void pieces_go_where_they_belong(enum disk_way way, bool direct)
{
	struct bed *bed = bed_new(way);
	uint8_t *data = aligned_alloc(4096, 64 << 10), *more = aligned_alloc(4096, 64 << 10);
	struct one *one;

	bed->config.direct = direct;
	bed_open(bed);
	/* Pieces of odd sizes at odd addresses, last first in memory. */
	one = prepare(bed, DISK_READ, 512 * 3, data, 0);
	for (unsigned i = 0; i < 7; i++) {
		one->iov[i] = (struct iovec){ data + 9000U * (6 - i) + i, i == 6 ? 2744 : 1000 };
		one->io.len += one->iov[i].iov_len;
	}
	one->io.nr_iov = 7;
	go(one);
	wait_all(bed);
	assert_int_equal(one->result, 0);
	for (unsigned i = 0; i < 7; i++)
		assert_pattern(data + 9000U * (6 - i) + i, 512 * 3 + 1000 * i, i == 6 ? 2744 : 1000);

	memset(data, 0x5a, 64 << 10);
	assert_int_equal(run_op(bed, DISK_WRITE, 4096 * 5, data + 1, 4096 * 3), 0);
	assert_int_equal(run_op(bed, DISK_WRITE, 4096 * 9 + 512, data, 512), 0);
	assert_int_equal(run_op(bed, DISK_FLUSH, 0, NULL, 0), 0);
	assert_file(bed->path, 4096 * 5, data, 4096 * 3);
	assert_file(bed->path, 4096 * 9 + 512, data, 512);
	assert_int_equal(run_op(bed, DISK_READ, 4096 * 4, more, 4096 * 6), 0);
	assert_pattern(more, 4096 * 4, 4096);
	assert_memory_equal(more + 4096, data, 4096 * 3);
	assert_pattern(more + 4096 * 4, 4096 * 8, 4096 + 512);
	assert_memory_equal(more + 4096 * 5 + 512, data, 512);
	assert_pattern(more + 4096 * 5 + 1024, 4096 * 9 + 1024, 4096 - 1024);
	bed_free(bed);
	free(data);
	free(more);
}

static void pieces_by_uring(void **state)
{
	pieces_go_where_they_belong(DISK_AUTO, false);
}

static void pieces_by_threads(void **state)
{
	pieces_go_where_they_belong(DISK_THREADS, false);
}

/* Whether a write of `data` was made by the lane's own thread. */
static bool written_here(struct bed *bed, uint64_t offset, uint8_t *data)
{
	unsigned before = fault.writes;

	assert_int_equal(run_op(bed, DISK_WRITE, offset, data, 4096), 0);
	assert_file(bed->path, offset, data, 4096);
	return fault.writes != before;
}

/* A busy host may make any write slow, so each thing is waited for, and both must come. */
static void a_write_that_waits_sends_others_to_the_ring(void **state)
{
	struct bed *bed = bed_new(DISK_AUTO);
	uint8_t data[4096];
	bool ring = false;

	bed_open(bed);
	memset(data, 1, sizeof(data));
	(void)written_here(bed, 0, data);
	if (strcmp(disk_lane_way(&bed->lane), "io_uring") != 0) {
		bed_free(bed);
		skip();
	}
	for (unsigned i = 0; i < 100 && !ring; i++) {
		fault.slow_us = 3000;
		data[0] = (uint8_t)i;
		(void)written_here(bed, 4096, data);
		fault.slow_us = 0;
		ring = !written_here(bed, 8192, data);
	}
	assert_true(ring);
	/* Not for ever. */
	for (unsigned i = 0; i < 600 && ring; i++) {
		usleep(100000);
		ring = !written_here(bed, 12288, data);
	}
	assert_false(ring);
	bed_free(bed);
}

static bool can_direct(void)
{
	struct bed *bed = bed_new(DISK_AUTO);
	struct error err;
	bool can;

	bed->config.direct = true;
	can = disk_open(&bed->disk, &bed->config, &err) == 0;
	if (!can) {
		assert_non_null(strstr(err.text, "no direct I/O"));
		assert_non_null(strstr(err.hint, ",direct"));
	}
	disk_close(&bed->disk);
	unlink(bed->path);
	free(bed);
	return can;
}

static void pieces_direct(void **state)
{
	if (!can_direct())
		skip();
	pieces_go_where_they_belong(DISK_AUTO, true);
	pieces_go_where_they_belong(DISK_THREADS, true);
}

/* More than a bounce buffer holds, from an address that is not aligned. */
static void long_transfers_direct(void **state)
{
	struct bed *bed;
	uint8_t *data;

	if (!can_direct())
		skip();
	bed = bed_new(DISK_AUTO);
	bed->config.direct = true;
	bed_open(bed);
	data = aligned_alloc(4096, SIZE + 4096);
	assert_int_equal(run_op(bed, DISK_READ, 0, data + 3, SIZE), 0);
	assert_pattern(data + 3, 0, SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		data[3 + i] = (uint8_t)(i >> 8);
	assert_int_equal(run_op(bed, DISK_WRITE, 0, data + 3, SIZE), 0);
	assert_file(bed->path, 0, data + 3, SIZE);
	bed_free(bed);
	free(data);
}

/* Whether it was done the way that was meant. */
static bool many_at_once(enum disk_way way)
{
	bool used;
	struct bed *bed = bed_new(way);
	uint8_t *data = malloc(SIZE);

	bed_open(bed);
	for (unsigned round = 0; round < 20; round++) {
		memset(data, 0, SIZE);
		for (unsigned i = 0; i < IOS; i++)
			submit(bed, DISK_READ, (IOS - 1 - i) * 16384, data + (IOS - 1 - i) * 16384, 16384);
		wait_all(bed);
		assert_pattern(data, 0, SIZE);
	}
	used = strcmp(disk_lane_way(&bed->lane), way == DISK_AUTO ? "io_uring" : "threads") == 0;
	bed_free(bed);
	free(data);
	return used;
}

static void many_by_uring(void **state)
{
	if (!many_at_once(DISK_AUTO))
		skip(); /* a host that refuses io_uring */
}

static void many_by_threads(void **state)
{
	assert_true(many_at_once(DISK_THREADS));
}

/* Containers and administrators refuse io_uring in more than one way. */
static void threads_where_uring_is_refused(void **state)
{
	static const int codes[] = { ENOSYS, EPERM, ENOMEM };
	uint8_t data[512];

	for (unsigned i = 0; i < 3; i++) {
		struct bed *bed = bed_new(DISK_AUTO);

		fault.uring_with = codes[i];
		bed_open(bed);
		assert_int_equal(run_op(bed, DISK_READ, 1024, data, 512), 0);
		assert_pattern(data, 1024, 512);
		assert_string_equal(disk_lane_way(&bed->lane), "threads");
		bed_free(bed);
	}
}

/*
 * A host that is short of memory is asked again; one that refuses is told of, and the next I/O is tried all the same.
 */
static void a_ring_that_does_not_take_it(void **state)
{
	struct bed *bed = bed_new(DISK_AUTO);
	struct one *one, *other;
	uint8_t data[1024];

	bed_open(bed);
	assert_int_equal(run_op(bed, DISK_READ, 512, data, 512), 0);
	if (strcmp(disk_lane_way(&bed->lane), "io_uring") != 0) {
		bed_free(bed);
		skip();
	}
	fault.enter_with = EAGAIN;
	fault.enters_failed = 20;
	assert_int_equal(run_op(bed, DISK_READ, 1024, data, 512), 0);
	assert_pattern(data, 1024, 512);
	assert_int_equal(fault.enters_failed, 0);
	fault.enter_with = EBADF;
	fault.enters_failed = 1;
	one = submit(bed, DISK_READ, 0, data, 512);
	other = submit(bed, DISK_READ, 512, data + 512, 512);
	wait_all(bed);
	assert_int_equal(one->result, -EBADF);
	assert_int_equal(other->result, -EBADF);
	assert_int_equal(run_op(bed, DISK_READ, 0, data, 1024), 0);
	assert_pattern(data, 0, 1024);
	bed_free(bed);
}

/* ---- less than asked for ---- */

static void short_transfers_are_continued(void **state)
{
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t *data = malloc(65536);

	bed_open(bed);
	fault.most = 1000;
	memset(data, 0, 65536);
	assert_int_equal(run_op(bed, DISK_READ, 512, data, 65536), 0);
	assert_pattern(data, 512, 65536);
	assert_int_equal(fault.reads, 66);
	for (unsigned i = 0; i < 65536; i++)
		data[i] = (uint8_t)(i >> 7);
	assert_int_equal(run_op(bed, DISK_WRITE, 1024, data, 65536), 0);
	assert_int_equal(fault.writes, 66);
	assert_file(bed->path, 1024, data, 65536);
	bed_free(bed);
	free(data);
}

static void what_was_put_off_is_tried_again(void **state)
{
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t data[512];

	bed_open(bed);
	fault.with = EAGAIN;
	fault.failures = 5;
	assert_int_equal(run_op(bed, DISK_READ, 512, data, 512), 0);
	assert_pattern(data, 512, 512);
	assert_int_equal(fault.reads, 6);
	/* But not for ever. */
	fault.failures = 1000000;
	assert_int_equal(run_op(bed, DISK_READ, 512, data, 512), -EAGAIN);
	bed_free(bed);
}

static void errors_are_told_and_pass(void **state)
{
	static const int codes[] = { EIO, ENOSPC, EDQUOT, EFBIG };
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t data[4096];

	bed_open(bed);
	memset(data, 0xee, sizeof(data));
	for (unsigned i = 0; i < 4; i++) {
		/* The third call of the transfer: what was written before stays, nothing is written twice. */
		fault.most = 1024;
		fault.with = codes[i];
		fault.failures = 1;
		assert_int_equal(run_op(bed, DISK_WRITE, 4096, data, 4096), -codes[i]);
		assert_int_equal(run_op(bed, DISK_WRITE, 4096, data, 4096), 0);
		assert_file(bed->path, 4096, data, 4096);
		fault.failures = 1;
		assert_int_equal(run_op(bed, DISK_READ, 4096, data, 4096), -codes[i]);
		assert_int_equal(run_op(bed, DISK_READ, 4096, data, 4096), 0);
	}
	bed_free(bed);
}

/* The host's own limit cuts a write short, by io_uring too: the part is kept, the rest is an error. */
static void a_write_beyond_the_limit(enum disk_way way)
{
	struct rlimit was, limit;
	struct bed *bed = bed_new(way);
	uint8_t *data = malloc(16384);

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	limit = was;
	limit.rlim_cur = SIZE - 4096;
	bed_open(bed);
	memset(data, 0x33, 16384);
	/* The ring's kernel threads take the limit when they start, so it comes first. */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(run_op(bed, DISK_WRITE, SIZE - 16384, data, 16384), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_file(bed->path, SIZE - 16384, data, 12288);
	assert_int_equal(run_op(bed, DISK_READ, SIZE - 4096, data, 4096), 0);
	assert_pattern(data, SIZE - 4096, 4096);
	bed_free(bed);
	free(data);
}

static void limit_by_uring(void **state)
{
	a_write_beyond_the_limit(DISK_AUTO);
}

static void limit_by_threads(void **state)
{
	a_write_beyond_the_limit(DISK_THREADS);
}

static void a_file_that_shrank(enum disk_way way)
{
	struct bed *bed = bed_new(way);
	uint8_t data[8192];

	bed_open(bed);
	assert_int_equal(truncate(bed->path, SIZE / 2), 0);
	assert_int_equal(run_op(bed, DISK_READ, SIZE / 2 + 4096, data, 4096), -EIO);
	assert_int_equal(run_op(bed, DISK_READ, SIZE / 2 - 4096, data, 8192), -EIO);
	assert_int_equal(run_op(bed, DISK_READ, SIZE / 2 - 4096, data, 4096), 0);
	assert_int_equal(disk_size(&bed->disk), SIZE / 2);
	assert_int_equal(truncate(bed->path, SIZE * 3 + 100), 0);
	assert_int_equal(disk_size(&bed->disk), SIZE * 3);
	bed_free(bed);
}

static void shrunk_by_uring(void **state)
{
	a_file_that_shrank(DISK_AUTO);
}

static void shrunk_by_threads(void **state)
{
	a_file_that_shrank(DISK_THREADS);
}

/* ---- flushes ---- */

static void a_flush_ends_after_the_sync(void **state)
{
	struct bed *bed = bed_new(DISK_THREADS);
	const struct one *flush;
	uint8_t data[10][512];

	bed_open(bed);
	fault.sync_waits = true;
	flush = submit(bed, DISK_FLUSH, 0, NULL, 0);
	/* Others go on meanwhile. */
	for (unsigned i = 0; i < 10; i++)
		submit(bed, DISK_READ, 512, data[i], 512);
	wait_for(bed, 10);
	assert_false(flush->done);
	fault.sync_waits = false;
	wait_for(bed, 11);
	assert_true(flush->done);
	assert_int_equal(flush->result, 0);
	assert_int_equal(fault.syncs, 1);
	bed_free(bed);
}

/* The kernel tells of a loss once; here it is remembered. */
static void a_failed_flush_is_not_forgotten(void **state)
{
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t data[512] = { 1 };

	bed_open(bed);
	fault.sync_with = EIO;
	assert_int_equal(run_op(bed, DISK_WRITE, 0, data, 512), 0);
	assert_int_equal(run_op(bed, DISK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(run_op(bed, DISK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(run_op(bed, DISK_WRITE, 0, data, 512), 0);
	disk_forget(&bed->disk);
	assert_int_equal(run_op(bed, DISK_FLUSH, 0, NULL, 0), 0);
	bed_free(bed);
}

static void durable_writes_are_synced(void **state)
{
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t data[512] = { 1 }, more[512];
	struct one *one;

	bed_open(bed);
	assert_int_equal(run_op(bed, DISK_WRITE, 0, data, 512), 0);
	assert_int_equal(fault.syncs, 0);
	fault.sync_waits = true;
	one = prepare(bed, DISK_WRITE, 0, data, 512);
	one->io.durable = true;
	go(one);
	submit(bed, DISK_READ, 512, more, 512);
	wait_for(bed, 1);
	assert_false(one->done);
	fault.sync_waits = false;
	wait_for(bed, 2);
	assert_int_equal(one->result, 0);
	assert_int_equal(fault.syncs, 1);
	bed_free(bed);
}

/* ---- discard and zeroes ---- */

static unsigned long long blocks_of(const struct bed *bed)
{
	struct stat st;

	assert_int_equal(stat(bed->path, &st), 0);
	return (unsigned long long)st.st_blocks;
}

static void zeroes(enum disk_way way)
{
	static uint8_t zero[SIZE];
	struct bed *bed = bed_new(way);
	unsigned long long before;

	bed_open(bed);
	assert_int_equal(run_op(bed, DISK_FLUSH, 0, NULL, 0), 0);
	before = blocks_of(bed);
	assert_int_equal(run_op(bed, DISK_ZERO, 512 * 3, NULL, SIZE / 2), 0);
	assert_file(bed->path, 512 * 3, zero, SIZE / 2);
	assert_int_equal(run_op(bed, DISK_ZERO_UNMAP, 512 * 5, NULL, SIZE / 2), 0);
	assert_file(bed->path, 512 * 3, zero, SIZE / 2 + 1024);
	if (bed->disk.can_discard) {
		assert_true(blocks_of(bed) < before);
		assert_int_equal(run_op(bed, DISK_DISCARD, 0, NULL, SIZE), 0);
		assert_int_equal(blocks_of(bed), 0);
	}
	assert_int_equal(disk_size(&bed->disk), SIZE);
	bed_free(bed);
}

static void zeroes_by_uring(void **state)
{
	zeroes(DISK_AUTO);
}

static void zeroes_by_threads(void **state)
{
	zeroes(DISK_THREADS);
}

/* A file system that can do neither: zeros are written, and a discard is refused. */
static void zeroes_without_fallocate(void **state)
{
	static uint8_t zero[SIZE];
	struct bed *bed = bed_new(DISK_THREADS);
	uint8_t data[1024];

	fault.fall_with = EOPNOTSUPP;
	fault.fall_mode = 0xff;
	bed_open(bed);
	assert_false(bed->disk.can_discard);
	fault.most = 3000;
	assert_int_equal(run_op(bed, DISK_ZERO_UNMAP, 512, NULL, SIZE - 1024), 0);
	assert_file(bed->path, 512, zero, SIZE - 1024);
	for (unsigned i = 0; i < 512; i++) {
		data[i] = pattern(i);
		data[512 + i] = pattern(SIZE - 512 + i);
	}
	assert_file(bed->path, 0, data, 512);
	assert_file(bed->path, SIZE - 512, data + 512, 512);
	assert_int_equal(run_op(bed, DISK_DISCARD, 0, NULL, 4096), -EOPNOTSUPP);
	fault.fall_with = ENOSPC;
	assert_int_equal(run_op(bed, DISK_ZERO, 0, NULL, 4096), -ENOSPC);
	bed_free(bed);
}

/* ---- what is refused ---- */

static int try_open(struct bed *bed, struct error *err)
{
	int r = disk_open(&bed->disk, &bed->config, err);

	disk_close(&bed->disk);
	return r;
}

static void refused(struct bed *bed, int code, const char *words)
{
	struct error err;

	assert_int_equal(try_open(bed, &err), code);
	if (!strstr(err.text, words) || !strstr(err.text, bed->config.path))
		fail_msg("'%s'", err.text);
}

static void what_is_no_disk(void **state)
{
	struct bed *bed = bed_new(DISK_AUTO);
	struct error err;

	assert_int_equal(try_open(bed, &err), 0);
	bed->config.path = "/tmp";
	refused(bed, -EINVAL, "a directory");
	bed->config.path = "/dev/null";
	refused(bed, -EINVAL, "neither a file nor a block device");
	bed->config.path = "/nonexistent/x";
	refused(bed, -ENOENT, "No such file");
	bed->config.path = bed->path;
	assert_int_equal(truncate(bed->path, 0), 0);
	refused(bed, -EINVAL, "empty");
	assert_int_equal(truncate(bed->path, 511), 0);
	refused(bed, -EINVAL, "smaller than a sector");
	assert_int_equal(truncate(bed->path, 1535), 0);
	assert_int_equal(disk_open(&bed->disk, &bed->config, &err), 0);
	assert_int_equal(bed->disk.size, 1024);
	disk_close(&bed->disk);
	disk_close(&bed->disk);
	unlink(bed->path);
	free(bed);
}

static void other_formats(void **state)
{
	static const struct {
		const char *magic, *name;
		unsigned len, offset;
	} heads[] = {
		{ "QFI\xfb", "QCOW", 4, 0 },
		{ "KDMV", "VMDK", 4, 0 },
		{ "# Disk DescriptorFile\n", "VMDK", 22, 0 },
		{ "\x7f\x10\xda\xbe", "VDI", 4, 64 },
		{ "vhdxfile", "VHDX", 8, 0 },
		{ "conectix", "VHD", 8, 0 },
	};

	for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct bed *bed = calloc(1, sizeof(*bed));
		char content[1024] = { 0 };
		struct error err;

		memcpy(content + heads[i].offset, heads[i].magic, heads[i].len);
		new_file(bed, content, sizeof(content));
		refused(bed, -EINVAL, heads[i].name);
		bed->config.raw = true;
		assert_int_equal(try_open(bed, &err), 0);
		unlink(bed->path);
		free(bed);
	}
}

static void one_writer(void **state)
{
	struct bed *bed = bed_new(DISK_AUTO);
	struct disk other, third;
	struct error err;

	assert_int_equal(disk_open(&other, &bed->config, &err), 0);
	refused(bed, -EBUSY, "in use");
	bed->config.ro = true;
	refused(bed, -EBUSY, "named twice");
	disk_close(&other);
	/* Readers share. */
	assert_int_equal(disk_open(&other, &bed->config, &err), 0);
	assert_int_equal(disk_open(&third, &bed->config, &err), 0);
	bed->config.ro = false;
	refused(bed, -EBUSY, "in use");
	disk_close(&other);
	disk_close(&third);
	assert_int_equal(try_open(bed, &err), 0);
	unlink(bed->path);
	free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_by_uring),
		cmocka_unit_test(a_write_that_waits_sends_others_to_the_ring),
		cmocka_unit_test(pieces_by_threads),
		cmocka_unit_test(pieces_direct),
		cmocka_unit_test(long_transfers_direct),
		cmocka_unit_test(many_by_uring),
		cmocka_unit_test(many_by_threads),
		cmocka_unit_test(threads_where_uring_is_refused),
		cmocka_unit_test(a_ring_that_does_not_take_it),
		cmocka_unit_test(short_transfers_are_continued),
		cmocka_unit_test(what_was_put_off_is_tried_again),
		cmocka_unit_test(errors_are_told_and_pass),
		cmocka_unit_test(limit_by_uring),
		cmocka_unit_test(limit_by_threads),
		cmocka_unit_test(shrunk_by_uring),
		cmocka_unit_test(shrunk_by_threads),
		cmocka_unit_test(a_flush_ends_after_the_sync),
		cmocka_unit_test(a_failed_flush_is_not_forgotten),
		cmocka_unit_test(durable_writes_are_synced),
		cmocka_unit_test(zeroes_by_uring),
		cmocka_unit_test(zeroes_by_threads),
		cmocka_unit_test(zeroes_without_fallocate),
		cmocka_unit_test(what_is_no_disk),
		cmocka_unit_test(other_formats),
		cmocka_unit_test(one_writer),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
