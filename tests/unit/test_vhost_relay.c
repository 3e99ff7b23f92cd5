/* SPDX-License-Identifier: BSD-2-Clause */
/* test_vhost_relay.c - queues passed on: nobody sleeps for ever, and noise on either side stays where it is allowed. */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "host/vhost_relay.h"
#include "virtq_driver.h"

#define RAM   0x40000U
#define RINGS 0x10000U
#define WAIT  20000 /* ms: who waits so long was not told */

struct bed {
	uint8_t *ram, *shadow;
	struct vhost_ring ring;
	struct vhost_parts parts;
	struct vhost_relay relay;
	struct vdriver d;
	struct virtq_state state;
	atomic_bool quit, slept; /* slept: somebody was not told */
	unsigned requests;
};

static struct bed *bed_new(uint16_t size, uint64_t features)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	bed->ram = aligned_alloc(4096, RAM);
	bed->shadow = aligned_alloc(4096, RELAY_BYTES);
	memset(bed->ram, 0, RAM);
	vdriver_init(&bed->d, bed->ram, RINGS, &bed->state, size, features);
	bed->ring = (struct vhost_ring){ .size = size,
		.kick = eventfd(0, EFD_NONBLOCK),
		.call = eventfd(0, EFD_NONBLOCK),
		.error = eventfd(0, EFD_NONBLOCK) };
	bed->parts = (struct vhost_parts){ bed->ram + bed->state.desc, bed->ram + bed->state.driver,
		bed->ram + bed->state.device };
	assert_int_equal(relay_begin(&bed->relay, &bed->ring, &bed->parts, features >> VIRTIO_RING_F_EVENT_IDX & 1), 0);
	relay_restart(&bed->relay, bed->shadow);
	return bed;
}

static void bed_free(struct bed *bed)
{
	relay_end(&bed->relay);
	close(bed->ring.kick);
	close(bed->ring.call);
	close(bed->ring.error);
	free(bed->ram);
	free(bed->shadow);
	free(bed);
}

/* Sleeps until the eventfd is signalled, and takes that. False: the test is over, or it was not told. */
static bool sleep_on(struct bed *bed, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint64_t n;

	for (unsigned ms = 0; !bed->quit; ms += 10) {
		if (poll(&pfd, 1, 10) > 0)
			return read(fd, &n, sizeof(n)) == sizeof(n);
		if (ms >= WAIT) {
			bed->slept = bed->quit = true;
			return false;
		}
	}
	return false;
}

static void *relay_thread(void *arg)
{
	struct bed *bed = arg;

	while (!bed->quit) {
		struct pollfd fds[] = { { .fd = bed->ring.kick, .events = POLLIN },
			{ .fd = bed->relay.call, .events = POLLIN } };
		uint64_t n;

		if (poll(fds, 2, 10) <= 0)
			continue;
		if (fds[0].revents && read(bed->ring.kick, &n, sizeof(n)) > 0)
			relay_take(&bed->relay);
		if (fds[1].revents && read(bed->relay.call, &n, sizeof(n)) > 0 && relay_give(&bed->relay))
			abort();
	}
	return NULL;
}

/* The program: it sleeps when there is nothing, and asks not to be kicked while it is awake. */
static void *server_thread(void *arg)
{
	struct bed *bed = arg;
	struct vring_avail *avail = (struct vring_avail *)(void *)bed->shadow;
	struct vring_used *used = (struct vring_used *)(void *)(bed->shadow + RELAY_USED);
	uint16_t taken = 0, idx;
	uint64_t one = 1;

	while (!bed->quit) {
		__atomic_store_n(&used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELEASE);
		idx = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
		if (idx == taken) {
			__atomic_store_n(&used->flags, 0, __ATOMIC_RELEASE);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			if (__atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) == taken)
				sleep_on(bed, bed->relay.kick);
			continue;
		}
		for (; taken != idx; taken++) {
			uint16_t head = __atomic_load_n(&avail->ring[taken % bed->ring.size], __ATOMIC_RELAXED);

			used->ring[taken % bed->ring.size] = (struct vring_used_elem){ head, 1 };
		}
		__atomic_store_n(&used->idx, taken, __ATOMIC_RELEASE);
		(void)!write(bed->relay.call, &one, sizeof(one));
	}
	return NULL;
}

static bool drive(struct bed *bed, unsigned *asked, unsigned *got)
{
	const struct vdriver_buf buf = { 0x1000, 16 };
	uint64_t one = 1;
	uint32_t len;

	while (*asked < bed->requests && vdriver_add(&bed->d, &buf, 1, 0, 0, bed)) {
		++*asked;
		if (*asked % 3 == 0 && vdriver_kick(&bed->d))
			(void)!write(bed->ring.kick, &one, sizeof(one));
	}
	if (vdriver_kick(&bed->d))
		(void)!write(bed->ring.kick, &one, sizeof(one));
	while (vdriver_get(&bed->d, &len))
		++*got;
	if (*got == bed->requests)
		return false;
	/* There is room for more. */
	if (*got == *asked)
		return true;
	vdriver_wish(&bed->d, true, 0);
	return vdriver_used(&bed->d) || sleep_on(bed, bed->ring.call) || !bed->quit;
}

static void nobody_sleeps_for_ever(void **state)
{
	for (unsigned way = 0; way < 4; way++) {
		struct bed *bed = bed_new(way & 2 ? 4 : 256, way & 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		unsigned asked = 0, got = 0;
		pthread_t relay, server;

		bed->requests = 5000;
		assert_int_equal(pthread_create(&relay, NULL, relay_thread, bed), 0);
		assert_int_equal(pthread_create(&server, NULL, server_thread, bed), 0);
		while (drive(bed, &asked, &got))
			;
		bed->quit = true;
		pthread_join(relay, NULL);
		pthread_join(server, NULL);
		assert_false(bed->slept);
		assert_int_equal(got, bed->requests);
		bed_free(bed);
	}
}

static uint32_t some(uint64_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (uint32_t)(*random * 0x2545f4914f6cdd1d >> 32) % below;
}

/* Right, nearly right, or noise. */
static void scribble(uint8_t *ring, unsigned entry, unsigned size, uint64_t *random)
{
	uint16_t *idx = (uint16_t *)(void *)(ring + 2);

	for (unsigned i = 0; i < size; i++) {
		uint32_t value = some(random, 20) ? some(random, size) : some(random, 0x10000);

		memset(ring + 4 + entry * i, 0, entry);
		memcpy(ring + 4 + entry * i, &value, entry < 4 ? entry : 4);
	}
	*idx = (uint16_t)(*idx + (some(random, 10) ? some(random, 4) : some(random, 0x10000)));
	ring[0] = (uint8_t)some(random, 4);
}

static void noise_stays_where_it_is_allowed(void **state)
{
	uint64_t random = 88172645463325252ULL;
	unsigned broken = 0, wrong = 0, passed = 0;
	uint8_t *before = malloc(RAM);

	for (unsigned life = 0; life < 600; life++) {
		uint16_t size = (uint16_t)(1U << some(&random, 11));
		bool event_idx = some(&random, 2);
		struct bed *bed = bed_new(size, event_idx ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		uint64_t used = bed->state.device, used_end = used + 4 + 8ULL * size + 2;

		for (unsigned turn = 0; turn < 12; turn++) {
			scribble(bed->parts.driver, 2, size, &random);
			memcpy(before, bed->ram, RAM);
			relay_take(&bed->relay);
			scribble(bed->shadow + RELAY_USED, 8, size, &random);
			if (some(&random, 4) == 0)
				*(uint16_t *)(void *)(bed->shadow + RELAY_USED + 2) = bed->relay.from;
			passed += bed->relay.outstanding;
			if (relay_give(&bed->relay)) {
				wrong++;
				relay_restart(&bed->relay, bed->shadow);
			}
			broken += bed->relay.broken;
			assert_true(bed->relay.outstanding <= size);
			assert_memory_equal(before, bed->ram, used);
			assert_memory_equal(before + used_end, bed->ram + used_end, RAM - used_end);
		}
		bed_free(bed);
	}
	free(before);
	assert_true(broken > 100 && wrong > 100 && passed > 1000);
}

/* A program at fault has answered others before that, and the guest hears of them. */
static void what_came_before_nonsense_is_told(void **state)
{
	for (unsigned event = 0; event < 2; event++) {
		struct bed *bed = bed_new(16, event ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		struct vring_used *used = (struct vring_used *)(void *)(bed->shadow + RELAY_USED);
		const struct vring_avail *avail = (struct vring_avail *)(void *)bed->shadow;
		const struct vdriver_buf buf = { 0x100, 64 };
		uint64_t n;
		uint32_t len;

		for (unsigned i = 0; i < 2; i++)
			assert_true(vdriver_add(&bed->d, &buf, 1, 0, 0, bed));
		vdriver_wish(&bed->d, true, 0);
		relay_take(&bed->relay);
		assert_int_equal(bed->relay.outstanding, 2);
		used->ring[0].id = avail->ring[0];
		used->ring[1].id = 999;
		used->idx = 2;
		assert_int_equal(relay_give(&bed->relay), -EPROTO);
		assert_int_equal(read(bed->ring.call, &n, sizeof(n)), sizeof(n));
		assert_non_null(vdriver_get(&bed->d, &len));
		assert_null(vdriver_get(&bed->d, &len));
		assert_int_equal(bed->relay.outstanding, 1);
		bed_free(bed);
	}
}

/* Whatever the order of its answers, what it leaves is what it has not answered, in the order of the guest's. */
static void what_is_left_is_known(void **state)
{
	const struct vdriver_buf buf = { 0x100, 64 };
	uint64_t random = 0x853c49e6748fea9bULL;
	uint16_t left[RELAY_SIZE];

	for (unsigned life = 0; life < 300; life++) {
		struct bed *bed = bed_new(16, life & 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		struct vring_used *used = (struct vring_used *)(void *)(bed->shadow + RELAY_USED);
		const struct vring_avail *guests = bed->parts.driver;
		uint16_t held[16], n = 0, seen = 0;
		uint32_t len;

		for (unsigned turn = 0; turn < 20; turn++) {
			/* Some come, some go, and the ring is far behind itself when the oldest does. */
			while (some(&random, 4) && vdriver_add(&bed->d, &buf, 1, 0, 0, bed))
				;
			relay_take(&bed->relay);
			for (; seen != guests->idx; seen++)
				held[n++] = guests->ring[seen % 16];
			assert_int_equal(relay_left(&bed->relay, left), n);
			assert_memory_equal(left, held, n * sizeof(*held));
			for (unsigned answers = some(&random, n + 1); answers; answers--) {
				unsigned which = some(&random, n);

				used->ring[used->idx % 16] = (struct vring_used_elem){ held[which], 1 };
				used->idx++;
				memmove(held + which, held + which + 1, (--n - which) * sizeof(*held));
			}
			assert_int_equal(relay_give(&bed->relay), 0);
			while (vdriver_get(&bed->d, &len))
				;
		}
		assert_int_equal(relay_left(&bed->relay, left), n);
		assert_memory_equal(left, held, n * sizeof(*held));
		bed_free(bed);
	}
}

static void sizes_that_are_none(void **state)
{
	uint8_t memory[64] __attribute__((aligned(8))) = { 0 };
	const struct vhost_parts parts = { memory, memory, memory };
	struct vhost_relay *relay = calloc(1, sizeof(*relay));

	for (unsigned i = 0; i < 3; i++) {
		const struct vhost_ring ring = { .size = (uint16_t[]){ 0, 3, 2048 }[i] };

		assert_true(relay_begin(relay, &ring, &parts, false) < 0);
		relay_end(relay);
	}
	free(relay);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_sleeps_for_ever),
		cmocka_unit_test(noise_stays_where_it_is_allowed),
		cmocka_unit_test(what_came_before_nonsense_is_told),
		cmocka_unit_test(what_is_left_is_known),
		cmocka_unit_test(sizes_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
