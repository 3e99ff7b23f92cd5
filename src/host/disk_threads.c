/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_threads.c - disks by threads that wait for system calls, where the kernel has no io_uring or refuses it (sysctl
 * kernel.io_uring_disabled, seccomp of containers). Threads start when there is work for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/thread.h"
#include "host/disk_io.h"

#define THREADS 8

struct pool {
	struct disk_lane *lane;
	pthread_mutex_t lock; /* a leaf: all below but the threads' ids and tell */
	pthread_cond_t work;
	struct disk_io *todo, **todo_tail;
	struct disk_io *done, **done_tail;
	unsigned nr_todo, idle;
	bool quit;
	unsigned nr_threads; /* the loop's thread's */
	pthread_t threads[THREADS];
	struct loop_work tell;
};

static long make_call(const struct disk_call *call)
{
	ssize_t r = -1;

	switch (call->kind) {
	case CALL_READ:
		r = preadv(call->fd, call->iov, (int)call->nr_iov, (off_t)call->offset);
		break;
	case CALL_WRITE:
		r = pwritev(call->fd, call->iov, (int)call->nr_iov, (off_t)call->offset);
		break;
	case CALL_SYNC:
		r = fdatasync(call->fd);
		break;
	case CALL_FALLOCATE:
		r = fallocate(call->fd, call->mode, (off_t)call->offset, (off_t)call->len);
		break;
	}
	return r < 0 ? -errno : r;
}

static void work_through(struct disk *disk, struct disk_io *io)
{
	struct disk_call call;

	while (disk_io_call(disk, io, &call)) {
		if (disk_io_step(disk, io, make_call(&call)))
			return;
	}
}

static struct disk_io *take_todo(struct pool *pool)
{
	struct disk_io *io = pool->todo;

	if (io) {
		pool->todo = io->next;
		pool->nr_todo--;
		if (!pool->todo)
			pool->todo_tail = &pool->todo;
	}
	return io;
}

static void put_done(struct pool *pool, struct disk_io *io)
{
	io->next = NULL;
	*pool->done_tail = io;
	pool->done_tail = &io->next;
	loop_post(pool->lane->loop, &pool->tell);
}

static void *worker(void *arg)
{
	struct pool *pool = arg;

	pthread_mutex_lock(&pool->lock);
	while (!pool->quit) {
		struct disk_io *io = take_todo(pool);

		if (!io) {
			pool->idle++;
			pthread_cond_wait(&pool->work, &pool->lock);
			pool->idle--;
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		work_through(pool->lane->disk, io);
		pthread_mutex_lock(&pool->lock);
		put_done(pool, io);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void threads_submit(struct disk_lane *lane, struct disk_io *io)
{
	struct pool *pool = lane->state;
	bool more;

	pthread_mutex_lock(&pool->lock);
	io->next = NULL;
	*pool->todo_tail = io;
	pool->todo_tail = &io->next;
	more = ++pool->nr_todo > pool->idle && pool->nr_threads < THREADS;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	if (more && thread_start(&pool->threads[pool->nr_threads], "disk", worker, pool) == 0)
		pool->nr_threads++;
	if (!pool->nr_threads)
		loop_post(lane->loop, &pool->tell);
}

static void threads_commit(struct disk_lane *lane)
{
	(void)lane; /* they have begun */
}

/* On the loop's thread. Where the host has no thread for us, this one does the work. */
static void threads_tell(void *arg)
{
	struct pool *pool = arg;
	struct disk *disk = pool->lane->disk;
	struct disk_io *io, *next;

	pthread_mutex_lock(&pool->lock);
	while (!pool->nr_threads && (io = take_todo(pool))) {
		pthread_mutex_unlock(&pool->lock);
		work_through(disk, io);
		pthread_mutex_lock(&pool->lock);
		put_done(pool, io);
	}
	io = pool->done;
	pool->done = NULL;
	pool->done_tail = &pool->done;
	pthread_mutex_unlock(&pool->lock);
	for (; io; io = next) {
		next = io->next;
		disk_io_end(disk, io);
	}
	pool->lane->batch(pool->lane->arg);
}

static int threads_open(struct disk_lane *lane)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->lane = lane;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pool->todo_tail = &pool->todo;
	pool->done_tail = &pool->done;
	pool->tell = (struct loop_work){ .fn = threads_tell, .arg = pool };
	lane->state = pool;
	return 0;
}

static void threads_close(struct disk_lane *lane)
{
	struct pool *pool = lane->state;

	pthread_mutex_lock(&pool->lock);
	pool->quit = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->nr_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

const struct disk_engine disk_threads = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.submit = threads_submit,
	.commit = threads_commit,
};
