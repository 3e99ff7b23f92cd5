/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bus_torture.c - vCPUs move BARs from inside the BARs' own handlers while others read them and a thread
 * hot-adds and frees devices and memory.
 *
 * A device that is freed is poisoned first, and every handler looks whether its device is sound, at its start
 * and after a pause in its middle; under AddressSanitizer, freed maps are caught too. Two builds are negative
 * controls, which pass if that finds something:
 *
 *   -DTORTURE_EARLY_FREE           devices are freed after bus_remove() without bus_drain()
 *   -DTRAPLINE_RCU_SHIM -DSHIM_NO_GRACE   no grace period is ever waited for
 *
 * TORTURE_SECONDS sets how long, 3 unless set.
 */
#include "unit.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"

#if defined(TORTURE_EARLY_FREE) || defined(SHIM_NO_GRACE)
#define CONTROL 1
#else
#define CONTROL 0
#endif

#define VCPUS   3
#define BARS    4
#define SLOTS   8                               /* where BARs can be; some are free, some moves collide */
#define SLOT(n) (0x10000 + (uint64_t)(n)*0x800) /* two of them in a page */
#define HOT     0x40000                         /* where devices are plugged in */
#define HOT_RAM 0x50000
#define SOUND   0x600dc0de

struct bar {
	struct region region;
	pthread_mutex_t lock;
	uint32_t sound;
	uint64_t calls; /* not atomic: the lock must do; not counted in hot devices, which have none */
};

struct ram {
	struct memory memory;
	uint64_t bytes[8];
};

static struct bus *bus;
static struct bar bars[BARS];
static struct initiator vcpus[VCPUS], tester;
static bool stop;
static uint64_t plugged, moved, ram_reads;

static bool stopping(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void die(const char *what)
{
	fprintf(stderr, "torture: %s\n", what);
	abort();
}

static void check_sound(const struct bar *bar)
{
	if (bar->sound != SOUND)
		die("the handler of a freed device runs");
}

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 16;
}

/* A write of n moves the BAR to slot n, in one of the ways there are; a read says where in itself it was. */
static void bar_trap(void *dev, struct trap *trap)
{
	struct bar *bar = dev;
	struct edit edit = { .op = EDIT_MOVE, .region = &bar->region, .space = SPACE_MMIO };

	check_sound(bar);
	if (bar->region.lock)
		bar->calls++;
	if (!bar->region.lock || bar->calls % 32 == 0)
		sched_yield();
	check_sound(bar);
	if (!trap->write)
		trap->value = SOUND + trap->offset;
	if (!trap->write || !bar->region.lock)
		return;
	edit.base = SLOT(trap->value % SLOTS);
	if (bar->calls % 4 == 0) {
		/* As a guest that turns decoding off and on; if the place is taken, the BAR is not live then. */
		bus_remove(bus, &bar->region);
	}
	if (bus_edit(bus, &edit, 1, NULL, NULL) == 0)
		__atomic_fetch_add(&moved, 1, __ATOMIC_RELAXED);
}

/* Reads of 8 bytes, in two pieces each of which may go elsewhere, and counts. */
static void read_somewhere(struct initiator *from, uint64_t *state)
{
	uint64_t where = rnd(state) % (SLOTS + 2);
	uint64_t base = where < SLOTS ? SLOT(where) : where == SLOTS ? HOT : HOT_RAM;
	uint64_t offset = rnd(state) % 6 * 4;
	uint32_t data[2 * 8];
	unsigned count = 1 + (unsigned)rnd(state) % 8;

	bus_access(bus, from, SPACE_MMIO, base + offset, data, 8, count, false);
	for (unsigned i = 0; i < 2 * count; i++) {
		uint32_t want = (uint32_t)(SOUND + offset + i % 2 * 4);

		if (data[i] != want && data[i] != UINT32_MAX && !(base == HOT_RAM && data[i] == SOUND))
			die("a read gave what no device says");
	}
	bus_read_lock();
	if (rnd(state) % 8 == 0) {
		uint64_t len = 64, *bytes = bus_memory(bus, HOT_RAM, &len, false, NULL);

		for (unsigned i = 0; bytes && i < 8; i++) {
			if (bytes[i] != SOUND * 0x100000001)
				die("memory is gone before its readers");
		}
		if (bytes)
			__atomic_fetch_add(&ram_reads, 1, __ATOMIC_RELAXED);
	}
	bus_read_unlock();
}

static void *vcpu(void *arg)
{
	struct initiator *from = arg;
	uint64_t state = (uintptr_t)arg * 0x9e3779b97f4a7c15 | 1;

	bus_thread_enter();
	while (!stopping()) {
		for (unsigned i = 0; i < 8; i++)
			read_somewhere(from, &state);
		bus_access(bus, from, SPACE_MMIO, SLOT(rnd(&state) % SLOTS), &(uint32_t){ (uint32_t)rnd(&state) }, 4, 1,
			true);
		bus_throttle(bus);
	}
	bus_thread_leave();
	return NULL;
}

static void ram_release(struct memory *mem)
{
	struct ram *ram = (struct ram *)((char *)mem - offsetof(struct ram, memory));

	memset(ram, 0xdd, sizeof(*ram));
	free(ram);
}

static struct ram *ram_new(void)
{
	struct ram *ram = calloc(1, sizeof(*ram));

	for (unsigned i = 0; i < 8; i++)
		ram->bytes[i] = SOUND * 0x100000001;
	ram->memory =
		(struct memory){ .host = ram->bytes, .size = sizeof(ram->bytes), .refs = 1, .release = ram_release };
	return ram;
}

static void bar_init(struct bar *bar, const char *name, uint64_t base)
{
	*bar = (struct bar){ .sound = SOUND };
	pthread_mutex_init(&bar->lock, NULL);
	bar->region = (struct region){ .name = name,
		.space = SPACE_MMIO,
		.base = base,
		.size = 0x40,
		.widths = WIDTH_4,
		.fn = bar_trap,
		.dev = bar,
		.lock = base == HOT ? NULL : &bar->lock };
}

/* Plugs in, lets it be found, unplugs, frees. */
static void *hotplug(void *arg)
{
	bus_thread_enter();
	while (!stopping()) {
		struct bar *bar = calloc(1, sizeof(*bar));
		struct ram *ram = ram_new();
		struct region *window = calloc(1, sizeof(*window));

		bar_init(bar, "hot", HOT);
		*window = (struct region){ .name = "ram",
			.kind = REGION_RAM,
			.space = SPACE_MMIO,
			.base = HOT_RAM,
			.size = sizeof(ram->bytes),
			.memory = &ram->memory };
		if (bus_add(bus, &bar->region) || bus_add(bus, window))
			die("cannot plug in");
		memory_put(&ram->memory);
		for (unsigned i = 0; i < 20; i++)
			sched_yield();
		bus_remove(bus, &bar->region);
		bus_remove(bus, window);
#ifndef TORTURE_EARLY_FREE
		bus_drain(bus);
#endif
		memset(bar, 0xdd, sizeof(*bar));
		free(bar);
		memset(window, 0xdd, sizeof(*window));
		free(window);
		plugged++;
		bus_throttle(bus);
	}
	bus_thread_leave();
	return NULL;
}

static void torture(void)
{
	const char *env = getenv("TORTURE_SECONDS");
	pthread_t threads[VCPUS + 1];
	uint64_t calls = 0, counted = 0, removals = 0;

	mallopt(M_PERTURB, 0xdd);
	bus_thread_enter();
	bus = bus_new();
	for (unsigned i = 0; i < BARS; i++) {
		bar_init(&bars[i], "bar", SLOT(i));
		if (bus_add(bus, &bars[i].region))
			die("cannot add");
	}
	bus_attach(bus, &tester);
	for (unsigned i = 0; i < VCPUS; i++) {
		bus_attach(bus, &vcpus[i]);
		pthread_create(&threads[i], NULL, vcpu, &vcpus[i]);
	}
	pthread_create(&threads[VCPUS], NULL, hotplug, NULL);
	sleep(env ? (unsigned)atoi(env) : 3);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i <= VCPUS; i++)
		pthread_join(threads[i], NULL);
	/* No call is counted twice, one in flight at a removal may go uncounted; what is live decodes where it says. */
	for (unsigned i = 0; i < BARS; i++) {
		struct region_count count = region_counts(&bars[i].region);

		calls += bars[i].calls;
		counted += count.reads + count.writes;
		removals += bars[i].region.removals;
		if (bars[i].region.live &&
			bus_access(bus, &tester, SPACE_MMIO, bars[i].region.base, &(uint32_t){ 0 }, 4, 1, false) != 4)
			die("a live region does not answer at its place");
	}
	if (counted > calls || calls - counted > removals)
		die("calls were lost, or counted twice");
	fprintf(stderr, "%llu calls, %llu moves, %llu devices plugged, %llu looks at memory\n",
		(unsigned long long)calls, (unsigned long long)moved, (unsigned long long)plugged,
		(unsigned long long)ram_reads);
	if (!calls || !moved || !plugged || !ram_reads)
		die("nothing happened");
	for (unsigned i = 0; i < VCPUS; i++)
		bus_detach(&vcpus[i]);
	bus_detach(&tester);
	bus_free(bus);
	bus_thread_leave();
}

static void survives(void **state)
{
	torture();
}

/* The control runs in a child that must die of it: by a signal, or with the report of a sanitizer. */
static void control_is_caught(void **state)
{
	char report[4096] = "";
	size_t n = 0;
	ssize_t got;
	int fds[2], status;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL); /* not cmocka's */
		dup2(fds[1], 2);
		alarm(120); /* to be stuck in what was freed is to be caught, too */
		torture();
		_exit(0);
	}
	close(fds[1]);
	while ((got = read(fds[0], report + n, sizeof(report) - 1 - n)) > 0)
		n += (size_t)got;
	while (read(fds[0], &got, sizeof(got)) > 0)
		continue;
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		fail_msg("the control went unnoticed: %s", report);
	if (WIFEXITED(status) && !strstr(report, "use-after-free") && !strstr(report, "AddressSanitizer"))
		fail_msg("the control died of something else: %s", report);
	print_message("caught: signal %d, %.*s\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		(int)strcspn(report, "\n"), report);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(survives) };
	static const struct CMUnitTest control[] = { cmocka_unit_test(control_is_caught) };

	return CONTROL ? cmocka_run_group_tests(control, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
