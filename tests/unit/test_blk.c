/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_blk.c - the virtio disk, driven by a driver's side of its queues: what requests do, what hostile ones get, and
 * what the guest is told where the host is slow, fails or has no room.
 *
 * The system calls of the disk's threads are wrapped (-Wl,--wrap), so that a test can have them be late or wrong.
 */
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "virtio/blk.h"
#include "virtio_hostile.h"
#include "virtq_driver.h"
#include "disk_content.h"

/* clang's way to say what gcc defines. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#define RAM     (8ULL << 20)
#define RINGS   0x10000
#define HEADERS 0x80000 /* of requests, 64 bytes each; the status is behind the header */
#define DATA    0x100000
#define DISK    (1U << 20)
#define SECTORS (DISK / 512)
#define SERIAL  "serial-of-20-letters"

#define WAIT_MS 20000

/* ---- faults ---- */

static struct {
	atomic_uint syncs;
	atomic_bool sync_waits;
	atomic_int sync_with; /* fails with, once */
	atomic_int write_with;
} fault;

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off64_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off64_t at);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
{
	int with = atomic_exchange(&fault.write_with, 0);

	errno = with;
	return with ? -1 : __real_pwritev64(fd, iov, n, at);
}

int __wrap_fdatasync(int fd)
{
	int with = atomic_exchange(&fault.sync_with, 0);

	fault.syncs++;
	while (atomic_load(&fault.sync_waits))
		usleep(1000);
	errno = with;
	return with ? -1 : __real_fdatasync(fd);
}

/* ---- a transport that is none, and a driver ---- */

struct bed {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	uint8_t *host;
	struct device transport;
	struct virtio *v;
	struct vdriver driver[BLK_QUEUES];
	struct blk_config config;
	char path[64];
	atomic_uint used, changed, broken;
	unsigned next;    /* header */
	uint32_t written; /* as the device told with what came back last */
};

static struct bed *bed_of(struct virtio *v)
{
	return container_of(v->transport, struct bed, transport);
}

static void used(struct virtio *v, unsigned index)
{
	bed_of(v)->used++;
}

static void changed(struct virtio *v)
{
	bed_of(v)->changed++;
}

static void broken(struct virtio *v)
{
	bed_of(v)->broken++;
}

static const struct virtio_transport_ops ops = { .used = used, .config = changed, .broken = broken };
static const struct device_type transport_type = { .name = "transport" };

static struct bed *bed_new(void)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	uint8_t *content = malloc(DISK);
	struct error err;
	int fd;

	assert_non_null(bed);
	assert_non_null(content);
	memset(&fault, 0, sizeof(fault));
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(memory_new(RAM, &bed->memory), 0);
	bed->host = bed->memory->host;
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM, .memory = bed->memory
	};
	assert_int_equal(bus_add(bed->vm.bus, &bed->ram), 0);
	strcpy(bed->path, "/tmp/blk-XXXXXX");
	fd = mkstemp(bed->path);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < DISK; i++)
		content[i] = pattern(i);
	assert_int_equal(write(fd, content, DISK), DISK);
	close(fd);
	free(content);
	bed->config = (struct blk_config){ .disk = { .path = bed->path, .way = DISK_THREADS }, .queues = 1 };
	strcpy(bed->config.serial, SERIAL);
	return bed;
}

static void locked_status(struct bed *bed, uint8_t status)
{
	pthread_mutex_lock(&bed->transport.lock);
	virtio_set_status(bed->v, status);
	pthread_mutex_unlock(&bed->transport.lock);
}

static uint8_t status_now(struct bed *bed)
{
	uint8_t status;

	pthread_mutex_lock(&bed->transport.lock);
	status = virtio_status(bed->v);
	pthread_mutex_unlock(&bed->transport.lock);
	return status;
}

/* As a driver does, without the features in `leave`. */
static void bring_up(struct bed *bed, uint64_t leave)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	uint64_t features = bed->v->offered & ~leave & ~(1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_ANY_LAYOUT);

	locked_status(bed, status);
	pthread_mutex_lock(&bed->transport.lock);
	virtio_set_features(bed->v, 0, (uint32_t)features);
	virtio_set_features(bed->v, 1, (uint32_t)(features >> 32));
	pthread_mutex_unlock(&bed->transport.lock);
	locked_status(bed, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(status_now(bed), status);
	pthread_mutex_lock(&bed->transport.lock);
	for (unsigned i = 0; i < bed->v->nr_queues; i++) {
		vdriver_init(&bed->driver[i], bed->host, RINGS * (i + 1), &bed->v->queues[i]->state, 256, features);
		virtio_enable_queue(bed->v, i);
	}
	pthread_mutex_unlock(&bed->transport.lock);
	locked_status(bed, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void bed_start(struct bed *bed)
{
	struct error err;

	device_init(&bed->transport, &transport_type, &bed->vm, "disk0");
	assert_int_equal(virtio_blk_type.create(&bed->vm, "disk0", &bed->config, &bed->v, &err), 0);
	pthread_mutex_lock(&bed->transport.lock);
	virtio_attach(bed->v, &bed->transport, &ops);
	pthread_mutex_unlock(&bed->transport.lock);
	bring_up(bed, 0);
}

static void bed_free(struct bed *bed)
{
	virtio_stop(bed->v);
	assert_true(virtio_destroy(bed->v));
	device_fini(&bed->transport);
	bus_remove(bed->vm.bus, &bed->ram);
	memory_put(bed->memory);
	vm_fini(&bed->vm);
	unlink(bed->path);
	free(bed);
}

/* ---- requests ---- */

static uint64_t new_header(struct bed *bed, uint32_t type, uint64_t sector)
{
	uint64_t gpa = HEADERS + 64 * (bed->next++ % 1024);
	struct virtio_blk_outhdr header = { .type = htole32(type), .sector = htole64(sector) };

	memcpy(bed->host + gpa, &header, sizeof(header));
	bed->host[gpa + 16] = 0xee;
	return gpa;
}

/* Offers it; the token is where the status will be. */
static void offer(struct bed *bed, unsigned q, const struct vdriver_buf *bufs, unsigned n, unsigned n_out, void *token)
{
	assert_true(vdriver_add(&bed->driver[q], bufs, n, n_out, 0, token));
	if (vdriver_kick(&bed->driver[q]))
		virtio_kick(bed->v, q);
}

static uint8_t *offer_plain(
	struct bed *bed, unsigned q, uint32_t type, uint64_t sector, uint64_t data, uint32_t len, bool in)
{
	uint64_t gpa = new_header(bed, type, sector);
	const struct vdriver_buf bufs[] = { { gpa, 16 }, { data, len }, { gpa + 16, 1 } };
	const struct vdriver_buf bare[] = { { gpa, 16 }, { gpa + 16, 1 } };

	if (len)
		offer(bed, q, bufs, 3, in ? 1 : 2, bed->host + gpa + 16);
	else
		offer(bed, q, bare, 2, 1, bed->host + gpa + 16);
	return bed->host + gpa + 16;
}

static void *wait_used(struct bed *bed, unsigned q)
{
	for (unsigned i = 0; i < WAIT_MS * 10; i++) {
		void *token = vdriver_get(&bed->driver[q], &bed->written);

		if (token)
			return token;
		usleep(100);
	}
	fail_msg("nothing came back");
	return NULL;
}

/* From beginning to end: the status. */
static uint8_t request(struct bed *bed, uint32_t type, uint64_t sector, uint64_t data, uint32_t len, bool in)
{
	const uint8_t *status = offer_plain(bed, 0, type, sector, data, len, in);

	assert_ptr_equal(wait_used(bed, 0), status);
	return *status;
}

static uint8_t read_sectors(struct bed *bed, uint64_t sector, uint32_t len)
{
	return request(bed, VIRTIO_BLK_T_IN, sector, DATA, len, true);
}

static uint8_t write_sectors(struct bed *bed, uint64_t sector, uint32_t len)
{
	return request(bed, VIRTIO_BLK_T_OUT, sector, DATA, len, false);
}

static uint8_t flush(struct bed *bed)
{
	return request(bed, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false);
}

/* ---- what they do ---- */

static void data_by(enum disk_way way)
{
	struct bed *bed = bed_new();

	bed->config.disk.way = way;
	bed_start(bed);
	assert_int_equal(read_sectors(bed, 3, 65536), VIRTIO_BLK_S_OK);
	assert_int_equal(bed->written, 65537);
	assert_pattern(bed->host + DATA, 512 * 3, 65536);
	memset(bed->host + DATA, 0x11, 65536);
	assert_int_equal(write_sectors(bed, 100, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(bed->written, 1);
	assert_int_equal(flush(bed), VIRTIO_BLK_S_OK);
	assert_file(bed->path, 51200, bed->host + DATA, 8192);
	/* To the last byte and no further. */
	assert_int_equal(read_sectors(bed, SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, DISK - 512, 512);
	assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
	assert_true(bed->used > 0);
	bed_free(bed);
}

static void data_by_uring(void **state)
{
	data_by(DISK_AUTO);
}

static void data_by_threads(void **state)
{
	data_by(DISK_THREADS);
}

static void the_serial(void **state)
{
	struct bed *bed = bed_new();

	bed_start(bed);
	memset(bed->host + DATA, 0xff, 64);
	assert_int_equal(request(bed, VIRTIO_BLK_T_GET_ID, 0, DATA, 20, true), VIRTIO_BLK_S_OK);
	assert_int_equal(bed->written, 21);
	assert_memory_equal(bed->host + DATA, SERIAL "\xff", 21);
	/* Less room, and more. */
	memset(bed->host + DATA, 0xff, 64);
	assert_int_equal(request(bed, VIRTIO_BLK_T_GET_ID, 0, DATA, 6, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(bed->host + DATA, "serial\xff", 7);
	assert_int_equal(request(bed, VIRTIO_BLK_T_GET_ID, 0, DATA, 40, true), VIRTIO_BLK_S_OK);
	assert_int_equal(bed->written, 41);
	assert_memory_equal(bed->host + DATA, SERIAL "\0", 21);
	bed_free(bed);
}

/* Header, data and status need not begin or end where descriptors do (2.7.4). */
static void any_layout(void **state)
{
	struct bed *bed = bed_new();
	uint64_t gpa;

	bed_start(bed);
	gpa = new_header(bed, VIRTIO_BLK_T_IN, 7);
	{
		const struct vdriver_buf bufs[] = { { gpa, 1 }, { gpa + 1, 8 }, { gpa + 9, 7 }, { DATA + 1, 1000 },
			{ DATA + 5000, 25 } };

		offer(bed, 0, bufs, 5, 3, bed->host);
		wait_used(bed, 0);
		assert_int_equal(bed->written, 1025);
		assert_int_equal(bed->host[DATA + 5024], VIRTIO_BLK_S_OK);
		assert_pattern(bed->host + DATA + 1, 7 * 512, 1000);
		assert_pattern(bed->host + DATA + 5000, 7 * 512 + 1000, 24);
	}
	/* The data begins in the header's descriptor. */
	new_header(bed, VIRTIO_BLK_T_OUT, 9);
	gpa = new_header(bed, VIRTIO_BLK_T_OUT, 9);
	memcpy(bed->host + DATA, bed->host + gpa, 16);
	for (unsigned i = 0; i < 1024; i++)
		bed->host[DATA + 16 + i] = (uint8_t)(i * 3);
	{
		const struct vdriver_buf bufs[] = { { DATA, 16 + 700 }, { DATA + 716, 324 }, { gpa + 16, 1 } };

		offer(bed, 0, bufs, 3, 2, bed->host);
		wait_used(bed, 0);
		assert_int_equal(bed->host[gpa + 16], VIRTIO_BLK_S_OK);
		assert_file(bed->path, 9 * 512, bed->host + DATA + 16, 1024);
	}
	bed_free(bed);
}

static void segment(struct bed *bed, unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes s = {
		.sector = htole64(sector), .num_sectors = htole32(n), .flags = htole32(flags)
	};

	memcpy(bed->host + DATA + i * sizeof(s), &s, sizeof(s));
}

static uint8_t segments(struct bed *bed, uint32_t type, uint32_t len)
{
	return request(bed, type, 0, DATA, len, false);
}

static void zeroes(void **state)
{
	static uint8_t zero[8192];
	struct bed *bed = bed_new();

	bed_start(bed);
	segment(bed, 0, 8, 16, 0);
	segment(bed, 1, 77, 0, 0);
	segment(bed, 2, 32, 3, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(segments(bed, VIRTIO_BLK_T_WRITE_ZEROES, 48), VIRTIO_BLK_S_OK);
	assert_file(bed->path, 4096, zero, 8192);
	assert_file(bed->path, 32 * 512, zero, 3 * 512);
	assert_int_equal(read_sectors(bed, 24, 4096), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 24 * 512, 4096);
	assert_int_equal(read_sectors(bed, 35, 4096), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 35 * 512, 4096);
	if (bed->v->offered & 1ULL << VIRTIO_BLK_F_DISCARD) {
		segment(bed, 0, 64, 64, 0);
		assert_int_equal(segments(bed, VIRTIO_BLK_T_DISCARD, 16), VIRTIO_BLK_S_OK);
	}
	assert_int_equal(read_sectors(bed, 128, 4096), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 128 * 512, 4096);
	bed_free(bed);
}

/* ---- what hostile ones get ---- */

static void places_that_are_not(void **state)
{
	static const uint64_t sectors[] = { SECTORS, SECTORS - 1, UINT64_MAX, UINT64_MAX / 512, UINT64_MAX / 512 + 1,
		1ULL << 55, UINT64_MAX - 1, 1ULL << 63 };
	struct bed *bed = bed_new();

	bed_start(bed);
	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		memset(bed->host + DATA, 0xaa, 1024);
		assert_int_equal(write_sectors(bed, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(read_sectors(bed, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
		/* What was not read is not told as written with what was there. */
		assert_int_equal(bed->written, 1025);
		assert_int_equal(bed->host[DATA], 0);
	}
	assert_int_equal(read_sectors(bed, 0, 1000), VIRTIO_BLK_S_IOERR);
	assert_int_equal(write_sectors(bed, 0, 511), VIRTIO_BLK_S_IOERR);
	assert_int_equal(read_sectors(bed, SECTORS, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 0, DISK);
	bed_free(bed);
}

static void requests_that_are_none(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 0x80000000, 0x80000001, UINT32_MAX };
	struct bed *bed = bed_new();
	uint64_t gpa;

	bed_start(bed);
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(request(bed, types[i], 0, DATA, 512, true), VIRTIO_BLK_S_UNSUPP);
	/* A header that is too short. */
	gpa = new_header(bed, VIRTIO_BLK_T_IN, 0);
	offer(bed, 0, (struct vdriver_buf[]){ { gpa, 15 }, { gpa + 16, 1 } }, 2, 1, bed->host);
	wait_used(bed, 0);
	assert_int_equal(bed->host[gpa + 16], VIRTIO_BLK_S_IOERR);
	/* None at all. */
	offer(bed, 0, (struct vdriver_buf[]){ { gpa, 32 } }, 1, 0, bed->host);
	wait_used(bed, 0);
	assert_int_equal(bed->written, 32);
	assert_int_equal(bed->host[gpa + 31], VIRTIO_BLK_S_IOERR);
	/* No byte for the status: nothing is done. */
	gpa = new_header(bed, VIRTIO_BLK_T_OUT, 0);
	memset(bed->host + DATA, 0xaa, 512);
	offer(bed, 0, (struct vdriver_buf[]){ { gpa, 16 }, { DATA, 512 } }, 2, 2, bed->host);
	wait_used(bed, 0);
	assert_int_equal(bed->written, 0);
	assert_true(bed->v->queues[0]->q.faults > 0);
	/* A read that has no room for anything but the status. */
	assert_int_equal(request(bed, VIRTIO_BLK_T_IN, 0, 0, 0, true), VIRTIO_BLK_S_OK);
	assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 0, DISK);
	bed_free(bed);
}

static void segments_that_are_wrong(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t n, flags;
		uint8_t status;
	} wrong[] = {
		{ SECTORS, 1, 0, VIRTIO_BLK_S_IOERR },
		{ SECTORS - 8, 9, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 1, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX - 7, 8, 0, VIRTIO_BLK_S_IOERR },
		{ 1, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ 0, 8, 0x80000000, VIRTIO_BLK_S_UNSUPP },
	};
	static const uint32_t kinds[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct bed *bed = bed_new();

	bed_start(bed);
	for (unsigned kind = 0; kind < 2; kind++) {
		if (kind == 0 && !(bed->v->offered & 1ULL << VIRTIO_BLK_F_DISCARD))
			continue;
		for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
			/* A good one before it is not done either. */
			segment(bed, 0, 0, 8, 0);
			segment(bed, 1, wrong[i].sector, wrong[i].n, wrong[i].flags);
			assert_int_equal(segments(bed, kinds[kind], 32), wrong[i].status);
		}
		segment(bed, 0, 0, 8, 0);
		assert_int_equal(segments(bed, kinds[kind], 15), VIRTIO_BLK_S_IOERR);
		assert_int_equal(segments(bed, kinds[kind], 17), VIRTIO_BLK_S_IOERR);
		memset(bed->host + DATA, 0, 17 * 16);
		assert_int_equal(segments(bed, kinds[kind], 17 * 16), VIRTIO_BLK_S_IOERR);
		assert_int_equal(segments(bed, kinds[kind], 16 * 16), VIRTIO_BLK_S_OK);
	}
	/* A discard has no flags. */
	segment(bed, 0, 0, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(segments(bed, VIRTIO_BLK_T_DISCARD, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 0, DISK);
	bed_free(bed);
}

static void read_only(void **state)
{
	struct bed *bed = bed_new();

	bed->config.disk.ro = true;
	bed_start(bed);
	assert_true(bed->v->offered & 1ULL << VIRTIO_BLK_F_RO);
	assert_int_equal(write_sectors(bed, 0, 512), VIRTIO_BLK_S_IOERR);
	segment(bed, 0, 0, 8, 0);
	assert_int_equal(segments(bed, VIRTIO_BLK_T_DISCARD, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(segments(bed, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
	assert_pattern(bed->host + DATA, 0, DISK);
	assert_int_equal(flush(bed), VIRTIO_BLK_S_OK);
	bed_free(bed);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(random_state >> 4) * n >> 28);
}

/* Anything in any shape; each comes back once, and the machine lives. */
static void random_requests(void **state)
{
	struct bed *bed = bed_new();

	bed_start(bed);
	for (unsigned round = 0; round < 4000; round++) {
		static const uint32_t types[] = { 0, 1, 4, 8, 11, 13, 0, 1 };
		uint64_t gpa = new_header(bed, types[random_below(8)] + (random_below(10) ? 0 : 1U << random_below(32)),
			random_below(4) ? random_below(SECTORS + 8) : 1ULL << random_below(64));
		struct vdriver_buf bufs[8];
		unsigned n = 1 + random_below(8), n_out = random_below(n + 1);

		for (unsigned i = 0; i < n; i++)
			bufs[i] = (struct vdriver_buf){ DATA + random_below(1 << 20),
				1 + random_below(random_below(4) ? 512 : 65536) };
		if (random_below(8))
			bufs[0] = (struct vdriver_buf){ gpa, 16 };
		for (unsigned i = 1; i < n; i++) {
			if (random_below(3))
				bufs[i].len = i + 1 == n ? 1 : 512 * (1 + random_below(16));
		}
		offer(bed, 0, bufs, n, n_out, bed->host);
		wait_used(bed, 0);
		assert_true(status_now(bed) & VIRTIO_CONFIG_S_DRIVER_OK);
	}
	assert_int_equal(read_sectors(bed, 0, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(bed->broken, 0);
	bed_free(bed);
}

static void hostile_request(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct virtio_blk_outhdr header = { .type = htole32(types[hostile_some(h, 7)]),
		.sector = htole64(hostile_some(h, SECTORS + 4)) };

	memcpy(bytes, &header, n < sizeof(header) ? n : sizeof(header));
}

/* Rings that are made up, on two queues. */
static void hostile_rings(enum disk_way way)
{
	struct bed *bed;

#ifdef __SANITIZE_THREAD__
	skip(); /* a hostile guest's memory is written by all at once, as it wanted */
#endif
	bed = bed_new();
	bed->config.disk.way = way;
	bed->config.queues = 2;
	assert_int_equal(virtio_hostile(&virtio_blk_type, &bed->config, 500, 1, hostile_request), 0);
	bus_remove(bed->vm.bus, &bed->ram);
	memory_put(bed->memory);
	vm_fini(&bed->vm);
	unlink(bed->path);
	free(bed);
}

static void hostile_by_uring(void **state)
{
	hostile_rings(DISK_AUTO);
}

static void hostile_by_threads(void **state)
{
	hostile_rings(DISK_THREADS);
}

/* Sectors written and read in disorder on two queues are what a memory of them says. */
static void a_model(void **state)
{
	uint8_t *model = malloc(DISK);
	struct bed *bed = bed_new();

	bed->config.queues = 2;
	bed->config.disk.way = DISK_AUTO;
	bed_start(bed);
	for (unsigned i = 0; i < DISK; i++)
		model[i] = pattern(i);
	for (unsigned round = 0; round < 300; round++) {
		unsigned n = 1 + random_below(16);

		/* Requests of a round have a sixteenth of the disk each, so their order does not matter. */
		for (unsigned i = 0; i < n; i++) {
			uint64_t part = i * (DISK / 16), sector = part / 512 + random_below(64);
			uint32_t len = 512 * (1 + random_below(64));
			bool in = random_below(2);

			if (!in) {
				memset(bed->host + DATA + part, (int)random_below(256), len);
				memcpy(model + sector * 512, bed->host + DATA + part, len);
			}
			offer_plain(bed, i % 2, in ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, sector, DATA + part, len, in);
		}
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(*(uint8_t *)wait_used(bed, i % 2), VIRTIO_BLK_S_OK);
		assert_int_equal(read_sectors(bed, 0, DISK), VIRTIO_BLK_S_OK);
		assert_memory_equal(bed->host + DATA, model, DISK);
	}
	bed_free(bed);
	free(model);
}

/* ---- a host that is slow, fails or has no room ---- */

static void errors_are_told_and_pass(void **state)
{
	static const int codes[] = { EIO, ENOSPC, EDQUOT };
	struct bed *bed = bed_new();

	bed_start(bed);
	memset(bed->host + DATA, 0x44, 4096);
	for (unsigned i = 0; i < 3; i++) {
		atomic_store(&fault.write_with, codes[i]);
		assert_int_equal(write_sectors(bed, 8, 4096), VIRTIO_BLK_S_IOERR);
		assert_int_equal(write_sectors(bed, 8, 4096), VIRTIO_BLK_S_OK);
		assert_file(bed->path, 4096, bed->host + DATA, 4096);
	}
	bed_free(bed);
}

static void a_flush_waits_for_the_host(void **state)
{
	struct bed *bed = bed_new();
	const uint8_t *status;
	uint32_t len;

	bed->config.queues = 2;
	bed_start(bed);
	atomic_store(&fault.sync_waits, true);
	status = offer_plain(bed, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false);
	/* Others on the same queue and on another one are not held up. */
	for (unsigned i = 0; i < 20; i++) {
		const uint8_t *other = offer_plain(bed, i % 2, VIRTIO_BLK_T_IN, i, DATA, 512, true);

		assert_ptr_equal(wait_used(bed, i % 2), other);
		assert_int_equal(*other, VIRTIO_BLK_S_OK);
	}
	assert_null(vdriver_get(&bed->driver[0], &len));
	atomic_store(&fault.sync_waits, false);
	assert_ptr_equal(wait_used(bed, 0), status);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 1);
	bed_free(bed);
}

static void *sync_later(void *arg)
{
	usleep(50000);
	atomic_store(&fault.sync_waits, false);
	return NULL;
}

static void a_pause_waits_for_the_host(void **state)
{
	struct bed *bed = bed_new();
	const uint8_t *status, *other;
	pthread_t thread;
	uint32_t len;

	bed_start(bed);
	atomic_store(&fault.sync_waits, true);
	status = offer_plain(bed, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false);
	while (!atomic_load(&fault.syncs))
		usleep(1000);
	assert_int_equal(pthread_create(&thread, NULL, sync_later, NULL), 0);
	assert_true(virtio_pause(bed->v));
	pthread_join(thread, NULL);
	assert_ptr_equal(vdriver_get(&bed->driver[0], &len), status);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	other = offer_plain(bed, 0, VIRTIO_BLK_T_IN, 0, DATA, 512, true);
	usleep(20000);
	assert_null(vdriver_get(&bed->driver[0], &len));
	virtio_resume(bed->v);
	assert_ptr_equal(wait_used(bed, 0), other);
	assert_int_equal(*other, VIRTIO_BLK_S_OK);
	bed_free(bed);
}

static void a_failed_flush(void **state)
{
	struct bed *bed = bed_new();

	bed_start(bed);
	atomic_store(&fault.sync_with, EIO);
	assert_int_equal(flush(bed), VIRTIO_BLK_S_IOERR);
	/* What was lost stays lost, until a driver begins anew. */
	assert_int_equal(flush(bed), VIRTIO_BLK_S_IOERR);
	assert_int_equal(read_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	locked_status(bed, 0);
	for (unsigned i = 0; status_now(bed) && i < WAIT_MS; i++)
		usleep(1000);
	bring_up(bed, 0);
	assert_int_equal(flush(bed), VIRTIO_BLK_S_OK);
	bed_free(bed);
}

static void writethrough(void **state)
{
	const uint8_t off = 0, on = 1;
	struct bed *bed = bed_new();
	uint8_t now = 9;

	bed_start(bed);
	assert_int_equal(write_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 0);
	/* By the driver's choice. */
	pthread_mutex_lock(&bed->transport.lock);
	virtio_config_write(bed->v, offsetof(struct virtio_blk_config, wce), 1, &off);
	virtio_config_read(bed->v, offsetof(struct virtio_blk_config, wce), 1, &now);
	pthread_mutex_unlock(&bed->transport.lock);
	assert_int_equal(now, 0);
	assert_int_equal(write_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 1);
	pthread_mutex_lock(&bed->transport.lock);
	virtio_config_write(bed->v, offsetof(struct virtio_blk_config, wce), 1, &on);
	pthread_mutex_unlock(&bed->transport.lock);
	assert_int_equal(write_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 1);
	/* By a driver that cannot flush. */
	locked_status(bed, 0);
	for (unsigned i = 0; status_now(bed) && i < WAIT_MS; i++)
		usleep(1000);
	bring_up(bed, 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE);
	assert_int_equal(write_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 2);
	segment(bed, 0, 0, 8, 0);
	assert_int_equal(segments(bed, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(fault.syncs, 3);
	bed_free(bed);
}

/* It is over only when nothing of the life before can touch the guest's memory any more. */
static void a_reset_waits(void **state)
{
	static uint8_t before[DATA - RINGS];
	struct bed *bed = bed_new();

	bed_start(bed);
	atomic_store(&fault.sync_waits, true);
	for (unsigned i = 0; i < 4; i++)
		offer_plain(bed, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0, false);
	while (fault.syncs < 4)
		usleep(1000);
	locked_status(bed, 0);
	usleep(50000);
	assert_int_not_equal(status_now(bed), 0);
	atomic_store(&fault.sync_waits, false);
	for (unsigned i = 0; status_now(bed) && i < WAIT_MS; i++)
		usleep(1000);
	assert_int_equal(status_now(bed), 0);
	memcpy(before, bed->host + RINGS, sizeof(before));
	usleep(20000);
	assert_memory_equal(before, bed->host + RINGS, sizeof(before));
	bring_up(bed, 0);
	assert_int_equal(read_sectors(bed, 0, 512), VIRTIO_BLK_S_OK);
	bed_free(bed);
}

static uint64_t capacity(struct bed *bed)
{
	uint64_t n;

	pthread_mutex_lock(&bed->transport.lock);
	virtio_config_read(bed->v, 0, sizeof(n), (uint8_t *)&n);
	pthread_mutex_unlock(&bed->transport.lock);
	return le64toh(n);
}

static void the_size_changes(void **state)
{
	struct bed *bed = bed_new();

	bed_start(bed);
	assert_int_equal(capacity(bed), SECTORS);
	assert_int_equal(read_sectors(bed, SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(truncate(bed->path, 2 * DISK + 100), 0);
	for (unsigned i = 0; !bed->changed && i < WAIT_MS; i++)
		usleep(1000);
	assert_int_equal(capacity(bed), 2 * SECTORS);
	assert_int_equal(read_sectors(bed, 2 * SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(read_sectors(bed, 2 * SECTORS, 512), VIRTIO_BLK_S_IOERR);
	bed_free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_by_uring),
		cmocka_unit_test(data_by_threads),
		cmocka_unit_test(the_serial),
		cmocka_unit_test(any_layout),
		cmocka_unit_test(zeroes),
		cmocka_unit_test(places_that_are_not),
		cmocka_unit_test(requests_that_are_none),
		cmocka_unit_test(segments_that_are_wrong),
		cmocka_unit_test(read_only),
		cmocka_unit_test(random_requests),
		cmocka_unit_test(hostile_by_uring),
		cmocka_unit_test(hostile_by_threads),
		cmocka_unit_test(a_model),
		cmocka_unit_test(errors_are_told_and_pass),
		cmocka_unit_test(a_flush_waits_for_the_host),
		cmocka_unit_test(a_pause_waits_for_the_host),
		cmocka_unit_test(a_failed_flush),
		cmocka_unit_test(writethrough),
		cmocka_unit_test(a_reset_waits),
		cmocka_unit_test(the_size_changes),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
