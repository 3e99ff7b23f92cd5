/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtq_torture.c - a driver's thread and a device's on one virtqueue, each asleep unless the other tells it.
 *
 * A wake-up that was lost shows as two threads that wait for each other: each waits for a bounded time, and a wait that
 * ends by time is a failure. Data is checked, in all that is in flight at once. Under ThreadSanitizer what is not
 * ordered shows as a race. The barrier before the device sleeps has a test of its own, which fails within a second
 * without it.
 */
#include "unit.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "virtq_driver.h"

#define MIB          0x100000ULL
#define RINGS        0x10000ULL
#define TABLES       0x30000ULL
#define BUFFERS      0x80000ULL
#define PACKED       (1ULL << VIRTIO_F_RING_PACKED)
#define EVENT        (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT     (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define SLOTS        64
#define REQUESTS     60000
#define DUELS        200000U
#define DUEL_SECONDS 4
#define LOST_MS      20000

struct torture {
	struct mem mem;
	struct memory *memory;
	struct region ram;
	struct virtq q;
	struct virtq_state state;
	struct vdriver d;
	int kick, call;
	unsigned kicks, calls;
	bool end; /* atomic */
	bool lost;
	/* Handed from the thread that takes to the one that gives back. */
	pthread_mutex_t lock;
	struct virtq_chain *ready[SLOTS];
	unsigned nr_ready;
	int more;
};

static void signal_fd(int fd)
{
	assert_int_equal(write(fd, &(uint64_t){ 1 }, 8), 8);
}

/* False: nobody told in all that time. */
static bool wait_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	if (poll(&p, 1, LOST_MS) != 1)
		return false;
	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void told(void *arg)
{
	struct torture *t = arg;

	__atomic_fetch_add(&t->calls, 1, __ATOMIC_RELAXED);
	signal_fd(t->call);
}

/* What is to be read, plus one, is what is to be written. */
static void answer(struct virtq_chain *chain)
{
	uint32_t value = 0;

	virtq_read(chain, &value, sizeof(value));
	value++;
	virtq_write(chain, &value, sizeof(value));
}

static void *taker(void *arg)
{
	struct torture *t = arg;
	struct virtq_chain *chain;

	do {
		virtq_kicks_off(&t->q);
		do {
			unsigned n = 0;

			while (virtq_pop(&t->q, &chain) == 1) {
				answer(chain);
				/* Every third is given back by another thread. */
				if (n++ % 3) {
					virtq_push(chain, 4);
					continue;
				}
				pthread_mutex_lock(&t->lock);
				t->ready[t->nr_ready++] = chain;
				pthread_mutex_unlock(&t->lock);
				signal_fd(t->more);
			}
			virtq_notify(&t->q);
		} while (virtq_kicks_on(&t->q));
		if (!wait_fd(t->kick))
			t->lost = true;
	} while (!t->lost && !__atomic_load_n(&t->end, __ATOMIC_ACQUIRE));
	return NULL;
}

static void *giver(void *arg)
{
	struct torture *t = arg;
	uint32_t written[SLOTS];
	struct virtq_chain *chains[SLOTS];
	unsigned n;

	for (unsigned i = 0; i < SLOTS; i++)
		written[i] = 4;
	while (wait_fd(t->more) && !__atomic_load_n(&t->end, __ATOMIC_ACQUIRE)) {
		pthread_mutex_lock(&t->lock);
		n = t->nr_ready;
		memcpy(chains, t->ready, n * sizeof(*chains));
		t->nr_ready = 0;
		pthread_mutex_unlock(&t->lock);
		virtq_push_all(chains, written, n);
		virtq_notify(&t->q);
	}
	return NULL;
}

/* Each token is a slot of its own: its place in the buffers, and what it asked. */
struct ask {
	uint32_t value;
	bool busy;
};

static void drive(struct torture *t)
{
	struct ask asks[SLOTS] = { 0 }, *ask;
	uint32_t added = 0, done = 0, len, got;

	while (done < REQUESTS) {
		unsigned burst = 1 + added % 17;

		for (unsigned i = 0; i < SLOTS && burst && added < REQUESTS; i++) {
			uint64_t gpa = BUFFERS + i * 64;
			struct vdriver_buf bufs[] = { { gpa, 4 }, { gpa + 32, 4 } };

			if (asks[i].busy)
				continue;
			asks[i] = (struct ask){ added * 7 + 1, true };
			memcpy(vdriver_at(&t->d, gpa), &asks[i].value, 4);
			if (!vdriver_add(&t->d, bufs, 2, 1, t->d.indirect ? TABLES + i * 64 : 0, &asks[i])) {
				asks[i].busy = false;
				break;
			}
			added++;
			burst--;
		}
		if (vdriver_kick(&t->d)) {
			t->kicks++;
			signal_fd(t->kick);
		}
		got = 0;
		while ((ask = vdriver_get(&t->d, &len))) {
			uint32_t value;

			got++;
			memcpy(&value, vdriver_at(&t->d, BUFFERS + (uint64_t)(ask - asks) * 64 + 32), 4);
			assert_int_equal(len, 4);
			assert_int_equal(value, ask->value + 1);
			ask->busy = false;
			done++;
		}
		if (got || done == added)
			continue;
		/* Ask to be told, look again, sleep. */
		vdriver_wish(&t->d, true, 0);
		if (vdriver_used(&t->d))
			continue;
		assert_true(wait_fd(t->call));
		vdriver_wish(&t->d, false, 0);
	}
}

static void torture_init(struct torture *t, uint64_t features)
{
	*t = (struct torture){ .kick = eventfd(0, 0), .call = eventfd(0, 0), .more = eventfd(0, 0) };
	t->mem.bus = bus_new();
	assert_non_null(t->mem.bus);
	assert_int_equal(memory_new(MIB, &t->memory), 0);
	t->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = MIB, .memory = t->memory
	};
	assert_int_equal(bus_add(t->mem.bus, &t->ram), 0);
	pthread_mutex_init(&t->lock, NULL);
	assert_int_equal(virtq_init(&t->q, &t->mem, &t->state, VIRTQ_MAX), 0);
	t->q.interrupt = told;
	t->q.arg = t;
	vdriver_init(&t->d, t->memory->host, RINGS, &t->state, SLOTS, features);
	assert_int_equal(virtq_start(&t->q, features), 0);
}

static void torture_fini(struct torture *t)
{
	assert_false(t->lost);
	assert_int_equal(t->q.faults, 0);
	assert_int_equal(t->q.in_flight, 0);
	virtq_fini(&t->q);
	bus_free(t->mem.bus);
	memory_put(t->memory);
	close(t->kick);
	close(t->call);
	close(t->more);
}

static void torture(uint64_t features)
{
	pthread_t threads[2];
	struct torture t;

	torture_init(&t, features);
	assert_int_equal(thread_start(&threads[0], "taker", taker, &t), 0);
	assert_int_equal(thread_start(&threads[1], "giver", giver, &t), 0);
	drive(&t);
	__atomic_store_n(&t.end, true, __ATOMIC_RELEASE);
	signal_fd(t.kick);
	signal_fd(t.more);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	print_message("%s%s%s: %u kicks, %u interrupts for %u requests\n", features & PACKED ? "packed" : "split",
		features & EVENT ? ", event" : "", features & INDIRECT ? ", indirect" : "", t.kicks, t.calls, REQUESTS);
	torture_fini(&t);
}

static void test_split(void **state)
{
	torture(0);
	torture(EVENT);
	torture(INDIRECT | EVENT);
}

static void test_packed(void **state)
{
	torture(PACKED);
	torture(PACKED | EVENT);
	torture(PACKED | INDIRECT | EVENT);
}

/*
 * Nothing but the race of a driver that offers with a device that goes to sleep, over and over: one of them must see
 * the other, in each round.
 */
struct duel {
	struct torture t;
	unsigned ready; /* atomic */
	bool sees;
};

static void meet(struct duel *duel, unsigned *round)
{
	++*round;
	__atomic_fetch_add(&duel->ready, 1, __ATOMIC_SEQ_CST);
	for (unsigned spins = 1; __atomic_load_n(&duel->ready, __ATOMIC_ACQUIRE) < 2 * *round; spins++)
		if (spins % 4096 == 0)
			sched_yield(); /* there may be one processor only */
}

static void *sleeper(void *arg)
{
	struct duel *duel = arg;
	struct torture *t = &duel->t;
	unsigned round = 0;

	for (;;) {
		struct virtq_chain *chain;

		meet(duel, &round);
		if (__atomic_load_n(&t->end, __ATOMIC_ACQUIRE))
			return NULL;
		duel->sees = virtq_kicks_on(&t->q);
		meet(duel, &round);
		while (virtq_pop(&t->q, &chain) == 0)
			;
		virtq_push(chain, 0);
	}
}

static void duel(uint64_t features)
{
	struct duel duel = { .ready = 0 };
	struct vdriver_buf buf = { BUFFERS, 16 };
	unsigned round = 0, rounds = 0, both = 0;
	pthread_t thread;
	uint32_t len;

	torture_init(&duel.t, features);
	assert_int_equal(thread_start(&thread, "sleeper", sleeper, &duel), 0);
	for (time_t end = time(NULL) + DUEL_SECONDS; rounds < DUELS && time(NULL) < end; rounds++) {
		bool told_them;

		meet(&duel, &round);
		assert_true(vdriver_add(&duel.t.d, &buf, 1, 0, 0, &duel));
		told_them = vdriver_kick(&duel.t.d);
		meet(&duel, &round);
		/* What the other did is seen after the meeting, and is not changed before the next one. */
		assert_true(told_them || duel.sees);
		both += told_them && duel.sees;
		while (!vdriver_get(&duel.t.d, &len))
			;
	}
	__atomic_store_n(&duel.t.end, true, __ATOMIC_RELEASE);
	meet(&duel, &round);
	pthread_join(thread, NULL);
	print_message("%u rounds, both saw in %u\n", rounds, both);
	torture_fini(&duel.t);
}

static void test_duel(void **state)
{
	duel(EVENT);
	duel(PACKED | EVENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_split), cmocka_unit_test(test_packed),
		cmocka_unit_test(test_duel) };

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
