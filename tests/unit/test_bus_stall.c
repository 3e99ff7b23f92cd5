/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bus_stall.c - one vCPU's handler blocks for two seconds while another vCPU storms BARs.
 *
 * No grace period passes in that time, so no map that the storm retires can be freed. The brake must hold the
 * storm before memory is eaten up, it must hold nobody else, and all must go on afterwards.
 */
#include "unit.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"
#include "bus_chip.h"

#define DEVICES   64
#define STALL_S   2
#define MAX_MAPS  300        /* the bound of the bus, and some */
#define MAX_GROWN (16 << 20) /* bytes; unchecked, it was some hundred MiB */

enum { BLOCKED, STORMING, READING, NR_VCPUS };

static struct bus *bus;
static struct chip chips[DEVICES];
static struct initiator vcpus[NR_VCPUS];
static bool blocked, released, stop;
static uint64_t moves, reads;

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool get(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

static uint64_t count_of(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void block(struct chip *chip, struct trap *trap)
{
	set(&blocked);
	sleep(STALL_S);
	set(&released);
}

/* A BAR's register: a write moves the BAR there. */
static void move(struct chip *chip, struct trap *trap)
{
	struct edit edit = { .op = EDIT_MOVE, .region = &chip->region, .space = SPACE_MMIO, .base = trap->value };

	if (trap->write && bus_edit(bus, &edit, 1, NULL, NULL) == 0)
		__atomic_fetch_add(&moves, 1, __ATOMIC_RELAXED);
}

static void access_from(unsigned cpu, uint64_t addr, uint32_t value, bool write)
{
	bus_access(bus, &vcpus[cpu], SPACE_MMIO, addr, &value, 4, 1, write);
	bus_throttle(bus);
}

static void *blocked_vcpu(void *arg)
{
	bus_thread_enter();
	access_from(BLOCKED, chips[0].region.base, 0, true);
	bus_thread_leave();
	return NULL;
}

static void *storming_vcpu(void *arg)
{
	bus_thread_enter();
	for (uint32_t i = 0; !get(&stop); i++)
		access_from(STORMING, 0x20000000 + 0x1000 * (i % 256), 0x20000000 + 0x1000 * ((i + 1) % 256), true);
	bus_thread_leave();
	return NULL;
}

static void *reading_vcpu(void *arg)
{
	bus_thread_enter();
	while (!get(&stop)) {
		access_from(READING, chips[2].region.base, 0, false);
		__atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
	}
	bus_thread_leave();
	return NULL;
}

static size_t in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void populate(void)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		chip_init(&chips[i], "device", SPACE_MMIO, i == 1 ? 0x20000000 : 0x10000000 + 0x1000 * i, 0x1000,
			WIDTH_4);
		assert_int_equal(bus_add(bus, &chips[i].region), 0);
	}
	chips[0].hook = block;
	chips[1].hook = move;
}

static void one_blocked_handler_eats_no_memory_and_stalls_only_editors(void **state)
{
	static void *(*const work[])(void *) = { blocked_vcpu, storming_vcpu, reading_vcpu };
	pthread_t threads[NR_VCPUS];
	unsigned peak = 0;
	size_t grown = 0, before;
	uint64_t reads_then, moves_then;

	bus = bus_new();
	assert_non_null(bus);
	populate();
	before = in_use();
	for (unsigned i = 0; i < NR_VCPUS; i++) {
		bus_attach(bus, &vcpus[i]);
		pthread_create(&threads[i], NULL, work[i], NULL);
	}
	while (!get(&blocked))
		usleep(1000);
	reads_then = count_of(&reads);
	while (!get(&released)) {
		unsigned retired = bus_retired(bus);
		size_t now = in_use();

		peak = retired > peak ? retired : peak;
		grown = now > before && now - before > grown ? now - before : grown;
		usleep(1000);
	}
	moves_then = count_of(&moves);
	assert_true(count_of(&reads) - reads_then > 100000); /* who does not edit is not held up */
	for (double end = now_s() + 30; now_s() < end && count_of(&moves) < moves_then + 1000;)
		usleep(1000);
	assert_true(count_of(&moves) >= moves_then + 1000); /* the storm goes on */
	set(&stop);
	for (unsigned i = 0; i < NR_VCPUS; i++) {
		pthread_join(threads[i], NULL);
		bus_detach(&vcpus[i]);
	}
	printf("held after %llu moves; at most %u retired maps, %zu KiB; %llu reads meanwhile\n",
		(unsigned long long)moves_then, peak, grown / 1024,
		(unsigned long long)(count_of(&reads) - reads_then));
	bus_free(bus);
	assert_true(peak >= 1 && peak <= MAX_MAPS);
	assert_true(grown <= MAX_GROWN);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_blocked_handler_eats_no_memory_and_stalls_only_editors),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
