/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_dies.c - a disk under load from all processors, which ends one day: each request is answered, well or with EIO.
 *
 *   disk_dies DISK THREADS
 *
 * A thread has 32 requests of many lengths under way, reads and writes: what is read is what was written there or
 * zeros. It tells when all are at it ("ok load"). Once a request has failed it asks for no new ones, but a few when all
 * others are back, which have to fail as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH    32
#define SECTOR   512
#define BLOCK    4096
#define MOST     (256U << 10)
#define ENOUGH   200 /* requests of a thread before it counts as at work */
#define PATIENCE 120 /* s without any answer */
#define LATER    8   /* requests afterwards */

struct slot {
	struct iocb iocb;
	uint8_t *buffer;
	bool under_way;
};

struct worker {
	pthread_t thread;
	unsigned cpu;
	aio_context_t aio;
	struct slot slots[DEPTH];
	uint64_t seed;
	unsigned good, failed, waiting;
	bool busy, down;
};

static int disk;
static uint64_t size;
static atomic_uint at_work;

static void wrong(const char *what, long long n)
{
	printf("wrong %s: %lld\n", what, n);
	fflush(stdout);
	exit(1);
}

static uint32_t some(struct worker *w, uint32_t below)
{
	w->seed = w->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(w->seed >> 33) % below;
}

static void submit(struct worker *w, struct slot *slot)
{
	static const uint32_t lengths[] = { BLOCK, BLOCK, BLOCK, 4 * BLOCK, 16 * BLOCK, MOST };
	uint32_t length = lengths[some(w, sizeof(lengths) / sizeof(lengths[0]))];
	uint64_t place = (uint64_t)some(w, (uint32_t)((size - MOST) / BLOCK)) * BLOCK;
	struct iocb *list = &slot->iocb;
	bool write = some(w, 2);

	/* Each sector tells where it belongs. */
	for (uint32_t at = 0; at < length; at += SECTOR) {
		uint64_t stamp = write ? place + at + 1 : ~0ULL;

		memcpy(slot->buffer + at, &stamp, sizeof(stamp));
	}
	slot->iocb = (struct iocb){ .aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)disk,
		.aio_buf = (uintptr_t)slot->buffer,
		.aio_nbytes = length,
		.aio_offset = (int64_t)place };
	slot->under_way = true;
	w->waiting++;
	if (syscall(SYS_io_submit, w->aio, 1L, &list) != 1)
		wrong("io_submit", errno);
}

static void look(const struct slot *slot)
{
	for (uint64_t at = 0; at < slot->iocb.aio_nbytes; at += SECTOR) {
		uint64_t stamp;

		memcpy(&stamp, slot->buffer + at, sizeof(stamp));
		if (stamp && stamp != (uint64_t)slot->iocb.aio_offset + at + 1)
			wrong("what is read at", (long long)((uint64_t)slot->iocb.aio_offset + at));
	}
}

static void collect(struct worker *w)
{
	struct timespec patience = { .tv_sec = PATIENCE };
	struct io_event events[DEPTH];
	long n = syscall(SYS_io_getevents, w->aio, 1L, (long)DEPTH, events, &patience);

	if (n < 1)
		wrong("requests without an answer", w->waiting);
	for (long i = 0; i < n; i++) {
		struct slot *slot = (struct slot *)(uintptr_t)events[i].obj;

		if (!slot->under_way)
			wrong("an answer to nothing", events[i].res);
		slot->under_way = false;
		w->waiting--;
		if (events[i].res == -EIO) {
			w->failed++;
			w->down = true;
		} else if (events[i].res != (int64_t)slot->iocb.aio_nbytes) {
			wrong("an answer", events[i].res);
		} else {
			if (slot->iocb.aio_lio_opcode == IOCB_CMD_PREAD)
				look(slot);
			w->good++;
		}
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned failed;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(w->cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) || syscall(SYS_io_setup, DEPTH, &w->aio) < 0)
		wrong("a thread", errno);
	while (!w->down) {
		for (unsigned i = 0; i < DEPTH; i++)
			if (!w->slots[i].under_way)
				submit(w, &w->slots[i]);
		collect(w);
		if (w->good >= ENOUGH && !w->busy) {
			w->busy = true;
			at_work++;
		}
	}
	while (w->waiting)
		collect(w);
	failed = w->failed;
	for (unsigned i = 0; i < LATER; i++)
		submit(w, &w->slots[i]);
	while (w->waiting)
		collect(w);
	if (w->failed != failed + LATER)
		wrong("requests after the end that did not fail", failed + LATER - w->failed);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned n = argc == 3 ? (unsigned)atoi(argv[2]) : 0, good = 0, failed = 0;
	struct worker *workers = calloc(n, sizeof(*workers));

	disk = argc == 3 ? open(argv[1], O_RDWR | O_DIRECT) : -1;
	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size) || size <= MOST)
		wrong("a disk", errno);
	for (unsigned i = 0; i < n; i++) {
		workers[i].cpu = i;
		workers[i].seed = i + 1;
		for (unsigned j = 0; j < DEPTH; j++)
			if (posix_memalign((void **)&workers[i].slots[j].buffer, BLOCK, MOST))
				wrong("memory", errno);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			wrong("a thread", errno);
	}
	while (at_work < n)
		usleep(10000);
	printf("ok load\n");
	fflush(stdout);
	for (unsigned i = 0; i < n; i++) {
		pthread_join(workers[i].thread, NULL);
		good += workers[i].good;
		failed += workers[i].failed - LATER;
	}
	printf("ok end %u good, %u failed\n", good, failed);
	return 0;
}
