/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blk.c - virtio block device (virtio 1.2, section 5.2).
 *
 * Each queue has a worker, a thread that takes requests and hands them to a lane of the disk, so what is slow on one
 * queue does not hold up another. A request lives from virtq_pop() to finish(), which gives it back with a status; how
 * many live at once is bounded, for a guest can offer a chain that it has not got back again and again.
 */
#include "virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define BLK_SIZE        512  /* descriptors of a queue: for 1 MiB in pages, in one request */
#define BLK_DEPTH       256  /* requests under way on a queue */
#define BLK_TURN        1024 /* requests taken in one go */
#define BLK_SEGMENTS    16   /* of a discard */
#define BLK_SEG_SECTORS (1U << 22)
#define BLK_LOOK_S      1 /* between two looks at the disk's size */

_Static_assert(sizeof(struct virtio_blk_outhdr) == 16, "5.2.6");
_Static_assert(sizeof(struct virtio_blk_discard_write_zeroes) == 16, "5.2.6");
_Static_assert(BLK_SERIAL == VIRTIO_BLK_ID_BYTES, "5.2.6.1");

struct blk;

struct blk_queue {
	struct blk *blk;
	unsigned index;
	struct virtio_worker worker;
	struct disk_lane lane;
	/* The worker's own. */
	unsigned under_way;
	bool leaving;    /* quiet as soon as nothing is under way */
	bool halting;    /* likewise paused */
	bool full;       /* not all was taken, for what is under way is enough */
	uint64_t errors; /* atomic: requests that did not end well */
};

struct blk {
	struct virtio v;
	struct virtio_blk_config config; /* under the transport's lock once the guest runs */
	struct disk disk;
	char serial[BLK_SERIAL + 1];
	atomic_ullong sectors; /* the disk's now */
	int timer;
	struct loop_watch timer_watch;
	unsigned nr_queues;
	struct blk_queue queues[BLK_QUEUES];
};

struct blk_request {
	struct disk_io io;
	struct blk_queue *queue;
	struct virtq_chain *chain;
	uint64_t data_in; /* bytes of the chain's `in` that a good end has written, before the status */
	unsigned segment, nr_segments;
	struct virtio_blk_discard_write_zeroes segments[BLK_SEGMENTS];
	struct iovec iov[];
};

static struct virtq *queue_of(struct blk_queue *bq)
{
	return &bq->blk->v.queues[bq->index]->q;
}

/* ---- the end of a request ---- */

/*
 * The status is the last byte of all that the device writes, so bytes before it that there is no data for are zeroed:
 * the length that the driver is told counts bytes that were written, no others (2.7.8.2).
 */
void blk_answer(struct virtq_chain *chain, uint64_t data_in, uint8_t status)
{
	static const uint8_t zeros[4096];

	if (!chain->in_len) {
		/* There is no byte to tell by. */
		__atomic_fetch_add(&chain->queue->faults, 1, __ATOMIC_RELAXED);
		virtq_push(chain, 0);
		return;
	}
	chain->in_at = data_in;
	while (chain->in_at < chain->in_len - 1) {
		uint64_t n = chain->in_len - 1 - chain->in_at;

		if (!virtq_write(chain, zeros, n < sizeof(zeros) ? n : sizeof(zeros)))
			break;
	}
	(void)virtq_write(chain, &status, 1);
	virtq_push(chain, (uint32_t)chain->in_len);
}

static uint8_t status_of(int result)
{
	return result == 0 ? VIRTIO_BLK_S_OK : result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void finish(struct blk_request *request, int result)
{
	struct blk_queue *bq = request->queue;

	if (result)
		__atomic_fetch_add(&bq->errors, 1, __ATOMIC_RELAXED);
	blk_answer(request->chain, result ? 0 : request->data_in, status_of(result));
	free(request);
	bq->under_way--;
}

/* ---- its beginning ---- */

/* Whether all of it is on the disk; without overflow, whatever the guest says. */
static bool within(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
	uint64_t all = atomic_load_explicit(&blk->sectors, memory_order_relaxed);

	return sector <= all && sectors <= all - sector;
}

/* Writethrough is what the driver chose, or what one gets that cannot flush (5.2.5.2, 5.2.6.2). */
static bool writes_through(const struct blk *blk)
{
	if (virtio_has(&blk->v, VIRTIO_BLK_F_CONFIG_WCE))
		return !__atomic_load_n(&blk->config.wce, __ATOMIC_RELAXED);
	return !virtio_has(&blk->v, VIRTIO_BLK_F_FLUSH);
}

/* The data's pieces: those of `from` less `skip` bytes at their beginning, `len` bytes in all. */
static void take_pieces(struct blk_request *request, const struct iovec *from, unsigned n, uint64_t skip, uint64_t len)
{
	struct disk_io *io = &request->io;

	io->iov = request->iov;
	io->nr_iov = 0;
	io->len = len;
	for (unsigned i = 0; i < n && len; i++) {
		uint64_t part;

		if (skip >= from[i].iov_len) {
			skip -= from[i].iov_len;
			continue;
		}
		part = from[i].iov_len - skip < len ? from[i].iov_len - skip : len;
		request->iov[io->nr_iov++] = (struct iovec){ (uint8_t *)from[i].iov_base + skip, part };
		len -= part;
		skip = 0;
	}
}

static int begin_data(struct blk_request *request, bool write, uint64_t sector)
{
	struct virtq_chain *chain = request->chain;
	struct blk *blk = request->queue->blk;
	uint64_t len = write ? chain->out_len - chain->out_at : chain->in_len - 1;

	/* A write that wants data as well, or a read that brings some, is nothing that there is. */
	if (len % DISK_SECTOR || !within(blk, sector, len / DISK_SECTOR) || (write && blk->disk.ro))
		return -EIO;
	if (!len)
		return 0;
	request->io.op = write ? DISK_WRITE : DISK_READ;
	request->io.offset = sector * DISK_SECTOR;
	if (write) {
		take_pieces(request, chain->out, chain->nr_out, chain->out_at, len);
	} else {
		take_pieces(request, chain->in, chain->nr_in, 0, len);
		request->data_in = len;
	}
	return 1;
}

static int begin_id(struct blk_request *request)
{
	struct virtq_chain *chain = request->chain;
	uint64_t room = chain->in_len - 1;
	char id[BLK_SERIAL] = { 0 };

	memcpy(id, request->queue->blk->serial, strlen(request->queue->blk->serial));
	request->data_in = virtq_write(chain, id, room < sizeof(id) ? room : sizeof(id));
	return 0;
}

/* The next segment that is not empty. 1: it is in request->io; 0: there is none. */
static int next_segment(struct blk_request *request)
{
	while (request->segment < request->nr_segments) {
		const struct virtio_blk_discard_write_zeroes *s = &request->segments[request->segment++];

		request->io.offset = le64toh(s->sector) * DISK_SECTOR;
		request->io.len = (uint64_t)le32toh(s->num_sectors) * DISK_SECTOR;
		if (request->io.op != DISK_DISCARD)
			request->io.op =
				le32toh(s->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ? DISK_ZERO_UNMAP : DISK_ZERO;
		if (request->io.len)
			return 1;
	}
	return 0;
}

/* DISCARD and WRITE_ZEROES: nothing is done unless all of it is right. */
static int begin_segments(struct blk_request *request, bool discard)
{
	struct virtq_chain *chain = request->chain;
	struct blk *blk = request->queue->blk;
	uint64_t len = chain->out_len - chain->out_at;

	if (!virtio_has(&blk->v, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return -EOPNOTSUPP;
	if (blk->disk.ro || len % sizeof(request->segments[0]) || len > sizeof(request->segments))
		return -EIO;
	if (virtq_read(chain, request->segments, len) != len)
		return -EIO;
	request->nr_segments = (unsigned)(len / sizeof(request->segments[0]));
	for (unsigned i = 0; i < request->nr_segments; i++) {
		const struct virtio_blk_discard_write_zeroes *s = &request->segments[i];
		uint32_t flags = le32toh(s->flags);

		if (flags & ~(discard ? 0U : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return -EOPNOTSUPP;
		if (le32toh(s->num_sectors) > BLK_SEG_SECTORS ||
			!within(blk, le64toh(s->sector), le32toh(s->num_sectors)))
			return -EIO;
	}
	request->io.op = discard ? DISK_DISCARD : DISK_ZERO;
	return next_segment(request);
}

/* 1: request->io is for the disk. 0 or -errno: that is the answer. */
static int begin(struct blk_request *request)
{
	struct virtq_chain *chain = request->chain;
	struct virtio_blk_outhdr header;

	if (virtq_read(chain, &header, sizeof(header)) != sizeof(header) || !chain->in_len)
		return -EIO;
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		return begin_data(request, false, le64toh(header.sector));
	case VIRTIO_BLK_T_OUT:
		return begin_data(request, true, le64toh(header.sector));
	case VIRTIO_BLK_T_FLUSH:
		request->io.op = DISK_FLUSH;
		request->io.len = 0;
		return 1;
	case VIRTIO_BLK_T_GET_ID:
		return begin_id(request);
	case VIRTIO_BLK_T_DISCARD:
		return begin_segments(request, true);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return begin_segments(request, false);
	default:
		return -EOPNOTSUPP;
	}
}

static void io_done(struct disk_io *io, int result)
{
	struct blk_request *request = container_of(io, struct blk_request, io);

	if (result == 0 && next_segment(request)) {
		if (disk_submit(&request->queue->lane, io) == 0)
			return;
		result = -ENOMEM;
	}
	finish(request, result);
}

static void take(struct blk_queue *bq, struct virtq_chain *chain)
{
	unsigned pieces = chain->nr_in > chain->nr_out ? chain->nr_in : chain->nr_out;
	struct blk_request *request = malloc(sizeof(*request) + pieces * sizeof(request->iov[0]));
	int r;

	if (!request) {
		blk_answer(chain, 0, VIRTIO_BLK_S_IOERR);
		return;
	}
	memset(request, 0, offsetof(struct blk_request, segments));
	request->queue = bq;
	request->chain = chain;
	request->io.done = io_done;
	request->io.durable = writes_through(bq->blk);
	bq->under_way++;
	r = begin(request);
	if (r == 1 && disk_submit(&bq->lane, &request->io))
		r = -ENOMEM;
	if (r <= 0)
		finish(request, r);
}

/* ---- queues ---- */

static void blk_serve(struct virtio *v, unsigned index)
{
	struct blk *blk = container_of(v, struct blk, v);
	struct blk_queue *bq = &blk->queues[index];
	struct virtq *q = queue_of(bq);
	struct virtq_chain *chain;
	unsigned taken = 0;
	int r;

	do {
		r = 0;
		virtq_kicks_off(q);
		while (taken < BLK_TURN && bq->under_way < BLK_DEPTH && (r = virtq_pop(q, &chain)) == 1) {
			take(bq, chain);
			taken++;
		}
		disk_commit(&bq->lane);
		virtq_notify(q);
		bq->full = bq->under_way >= BLK_DEPTH;
		if (bq->full || r == -EINVAL)
			return;
	} while (r == 0 && taken < BLK_TURN && virtq_kicks_on(q));
	if (r == 0 && taken < BLK_TURN)
		return;
	/*
	 * There is more, and others have their turn first: what the disk has done, somebody who wants this queue quiet.
	 */
	if (r == -ENOMEM)
		usleep(1000); /* this thread's to wait; the chain is still there */
	virtio_kick(v, index);
}

/* After some of what was under way ended. */
static void blk_batch(void *arg)
{
	struct blk_queue *bq = arg;

	disk_commit(&bq->lane);
	virtq_notify(queue_of(bq));
	if (bq->leaving) {
		if (!bq->under_way) {
			bq->leaving = false;
			virtio_quiet(&bq->blk->v, bq->index);
		}
		return;
	}
	if (bq->halting && !bq->under_way) {
		bq->halting = false;
		virtio_paused(&bq->blk->v, bq->index);
	}
	if (bq->full)
		virtio_kick(&bq->blk->v, bq->index);
}

static bool blk_pause(struct virtio *v, unsigned index)
{
	struct blk_queue *bq = &container_of(v, struct blk, v)->queues[index];

	bq->halting = bq->under_way > 0;
	return !bq->halting;
}

static void blk_quiesce(struct virtio *v, unsigned index)
{
	struct blk *blk = container_of(v, struct blk, v);
	struct blk_queue *bq = &blk->queues[index];

	bq->full = bq->halting = false;
	if (bq->under_way)
		bq->leaving = true;
	else
		virtio_quiet(v, index);
}

/* ---- config space ---- */

/* The driver's choice between writeback and writethrough; all else is read-only. */
static void blk_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	struct blk *blk = container_of(v, struct blk, v);
	unsigned at = offsetof(struct virtio_blk_config, wce);

	if (offset <= at && at - offset < len && virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE))
		__atomic_store_n(&blk->config.wce, bytes[at - offset] != 0, __ATOMIC_RELAXED);
}

static void blk_reset(struct virtio *v)
{
	struct blk *blk = container_of(v, struct blk, v);

	__atomic_store_n(&blk->config.wce, 1, __ATOMIC_RELAXED);
	disk_forget(&blk->disk);
}

/* On the first queue's worker, now and then: the file grew or shrank. */
static void blk_look(void *arg, uint32_t events)
{
	struct blk *blk = arg;
	uint64_t ticks, sectors, capacity;

	(void)events;
	if (read(blk->timer, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	sectors = disk_size(&blk->disk) / DISK_SECTOR;
	if (!sectors || sectors == atomic_load(&blk->sectors))
		return;
	atomic_store(&blk->sectors, sectors);
	capacity = htole64(sectors);
	virtio_config_set(&blk->v, offsetof(struct virtio_blk_config, capacity), &capacity, sizeof(capacity));
}

/* A disk without a driver is not looked at; where it cannot be, its size stays. */
static void blk_ready(struct virtio *v)
{
	const struct itimerspec every = { { .tv_sec = BLK_LOOK_S }, { .tv_sec = BLK_LOOK_S } };
	struct blk *blk = container_of(v, struct blk, v);

	if (!virtio_has(v, VIRTIO_BLK_F_FLUSH))
		__atomic_store_n(&blk->config.wce, 0, __ATOMIC_RELAXED);
	if (!blk->timer_watch.added && timerfd_settime(blk->timer, 0, &every, NULL) == 0)
		(void)loop_watch(&blk->queues[0].worker.loop, &blk->timer_watch, EPOLLIN);
}

static uint8_t exponent(uint32_t n)
{
	return (uint8_t)__builtin_ctz(n);
}

static void fill_config(struct blk *blk)
{
	const struct disk *disk = &blk->disk;
	uint32_t optimal = disk->optimal / disk->logical, least = disk->physical / disk->logical;

	blk->config = (struct virtio_blk_config){
		.capacity = htole64(disk->size / DISK_SECTOR),
		.seg_max = htole32(BLK_SIZE - 2), /* header and status are descriptors too */
		.blk_size = htole32(disk->logical),
		.physical_block_exp = exponent(least),
		.min_io_size = htole16((uint16_t)(least < UINT16_MAX ? least : 1)),
		.opt_io_size = htole32(optimal),
		.wce = 1,
		.num_queues = htole16((uint16_t)blk->nr_queues),
		.max_discard_sectors = htole32(BLK_SEG_SECTORS),
		.max_discard_seg = htole32(BLK_SEGMENTS),
		.discard_sector_alignment = htole32(disk->physical / DISK_SECTOR),
		.max_write_zeroes_sectors = htole32(BLK_SEG_SECTORS),
		.max_write_zeroes_seg = htole32(BLK_SEGMENTS),
		.write_zeroes_may_unmap = disk->can_discard,
	};
	atomic_store(&blk->sectors, disk->size / DISK_SECTOR);
}

static uint64_t features(const struct blk *blk)
{
	uint64_t f = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_TOPOLOGY |
		     1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	if (blk->nr_queues > 1)
		f |= 1ULL << VIRTIO_BLK_F_MQ;
	if (blk->disk.ro)
		return f | 1ULL << VIRTIO_BLK_F_RO;
	if (blk->disk.can_discard)
		f |= 1ULL << VIRTIO_BLK_F_DISCARD;
	return f | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
}

/* ---- life ---- */

static int start_queue(struct blk *blk, unsigned index, const char *name, struct error *err)
{
	struct blk_queue *bq = &blk->queues[index];
	char thread[32];
	int r;

	bq->blk = blk;
	bq->index = index;
	snprintf(thread, sizeof(thread), "%.10s.%u", name, index);
	r = virtio_worker_start(&bq->worker, thread);
	if (r)
		return error_set(err, r, "%s: no thread for queue %u: %s", name, index, strerror(-r));
	disk_lane_init(&bq->lane, &blk->disk, &bq->worker.loop, BLK_DEPTH);
	bq->lane.batch = blk_batch;
	bq->lane.arg = bq;
	return virtio_queue(&blk->v, BLK_SIZE, &bq->worker.loop, err);
}

static void blk_destroy(struct virtio *v)
{
	struct blk *blk = container_of(v, struct blk, v);

	for (unsigned i = 0; i < BLK_QUEUES; i++) {
		virtio_worker_stop(&blk->queues[i].worker);
		disk_lane_fini(&blk->queues[i].lane);
	}
	virtio_fini(v);
	if (blk->timer >= 0)
		close(blk->timer);
	disk_close(&blk->disk);
	free(blk);
}

static int blk_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct blk_config *c = config;
	struct blk *blk = calloc(1, sizeof(*blk));
	int r;

	if (!blk)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	blk->timer = -1;
	blk->nr_queues = c->queues;
	memcpy(blk->serial, c->serial, sizeof(blk->serial));
	r = disk_open(&blk->disk, &c->disk, err);
	if (r) {
		free(blk);
		return r;
	}
	virtio_init(&blk->v, &virtio_blk_type, vm, features(blk), &blk->config, sizeof(blk->config));
	fill_config(blk);
	for (unsigned i = 0; r == 0 && i < blk->nr_queues; i++)
		r = start_queue(blk, i, name, err);
	blk->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r == 0 && blk->timer < 0)
		r = error_set(err, -errno, "%s: no timer: %s", name, strerror(errno));
	blk->timer_watch = (struct loop_watch){ .fd = blk->timer, .fn = blk_look, .arg = blk };
	if (r) {
		blk_destroy(&blk->v);
		return r;
	}
	*out = &blk->v;
	return 0;
}

static void blk_counts(struct virtio *v, virtio_count_fn *one, void *arg)
{
	const struct blk *blk = container_of(v, struct blk, v);
	uint64_t errors = 0;

	for (unsigned i = 0; i < v->nr_queues; i++)
		errors += __atomic_load_n(&blk->queues[i].errors, __ATOMIC_RELAXED);
	one(arg, "errors", errors);
}

const struct virtio_type virtio_blk_type = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = 0x010000, /* mass storage, SCSI, as transitional devices say */
	.create = blk_create,
	.destroy = blk_destroy,
	.config_write = blk_config_write,
	.ready = blk_ready,
	.serve = blk_serve,
	.quiesce = blk_quiesce,
	.pause = blk_pause,
	.reset = blk_reset,
	.counts = blk_counts,
};
