/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci_race.c - run in a guest with two vCPUs: one moves the test function's BARs about, the other reads where they
 * are and where they were. What it sees is the device's or all ones, never anything else.
 */
#include "pci_guest.h"

#include <pthread.h>
#include <sched.h>

#define PLACES     2
#define PATTERN    0x1122334455667788ULL
#define MOVES      3000
#define PORT_APART 0x400

struct seen {
	uint64_t device, ones, other, bad;
};

static volatile uint8_t *memory[PLACES], *wide[PLACES];
static uint16_t ports[PLACES];
static int done;
static struct seen seen_memory, seen_wide, seen_ports;

static void on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		printf("wrong no processor %d\n", cpu);
}

static void count(struct seen *seen, uint64_t got, uint64_t device, uint64_t ones)
{
	if (got == device) {
		seen->device++;
	} else if (got == ones) {
		seen->ones++;
	} else {
		seen->other++;
		seen->bad = got;
	}
}

static void *reader(void *arg)
{
	on_cpu(1);
	ports_open();
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < PLACES; i++) {
			count(&seen_memory, *(volatile uint32_t *)(memory[i] + REG_ID), TEST_ID, UINT32_MAX);
			count(&seen_wide, *(volatile uint64_t *)wide[i], PATTERN, UINT64_MAX);
			count(&seen_ports, inl(ports[i]), TEST_ID, UINT32_MAX);
		}
	}
	return NULL;
}

static void verdict(const struct seen *seen, const char *what)
{
	printf("%s %s: the device %llu times, all ones %llu times, other %llu times (%#llx)\n",
		seen->other == 0 && seen->device && seen->ones ? "ok" : "wrong", what, (unsigned long long)seen->device,
		(unsigned long long)seen->ones, (unsigned long long)seen->other, (unsigned long long)seen->bad);
}

static void move_about(int config, const uint64_t at[PLACES], const uint64_t wide_at[PLACES])
{
	for (int i = 0; i < MOVES; i++) {
		int to = i % PLACES;

		/*
		 * By config space; by the device itself, from inside the handler of what it moves; and by the command.
		 */
		if (i % 3 == 0) {
			config_write(config, BAR0, 4, (uint32_t)at[to]);
			config_write(config, BAR2, 4, (uint32_t)wide_at[to]);
		} else if (i % 3 == 1) {
			int from = (config_read(config, BAR0, 4) & ~15U) == (uint32_t)at[1];

			*(volatile uint32_t *)(memory[from] + REG_MOVE_LO) = (uint32_t)at[to];
			*(volatile uint32_t *)(memory[from] + REG_MOVE) = 0;
			config_write(config, BAR4, 4, ports[to]);
		} else {
			config_write(config, COMMAND, 2, 0);
			config_write(config, COMMAND, 2, 3);
		}
	}
}

int main(void)
{
	uint64_t at[PLACES], wide_at[PLACES];
	int config = config_open(TEST_SLOT, 0);
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (config < 0 || config_read(config, 0, 4) != TEST_IDS || !ports_open()) {
		printf("wrong no test function\n");
		return 1;
	}
	on_cpu(0);
	at[0] = config_read(config, BAR0, 4) & ~15U;
	at[1] = at[0] + 0x100000;
	wide_at[0] = at[0] + 0x200000;
	wide_at[1] = at[0] + 0x300000;
	ports[0] = config_read(config, BAR4, 4) & ~3U;
	ports[1] = ports[0] + PORT_APART;
	/* Below 4 GiB for the time of this test, so that one register moves it. */
	config_write(config, BAR2, 4, (uint32_t)wide_at[0]);
	config_write(config, BAR2 + 4, 4, 0);
	config_write(config, COMMAND, 2, 3);
	for (int i = 0; i < PLACES; i++) {
		memory[i] = map_physical(at[i], 4096);
		wide[i] = map_physical(wide_at[i], 4096);
	}
	*(volatile uint64_t *)wide[0] = PATTERN;
	pthread_create(&thread, NULL, reader, NULL);
	move_about(config, at, wide_at);
	__atomic_store_n(&done, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	verdict(&seen_memory, "32-bit BAR");
	verdict(&seen_wide, "64-bit BAR");
	verdict(&seen_ports, "I/O BAR");
	config_write(config, BAR0, 4, (uint32_t)at[0]);
	config_write(config, BAR2, 4, (uint32_t)wide_at[0]);
	config_write(config, BAR4, 4, ports[0]);
	step(*(volatile uint32_t *)(memory[0] + REG_ID) == TEST_ID, "BAR0 is back", 0);
	step(*(volatile uint64_t *)wide[0] == PATTERN, "BAR2 is back", 0);
	step(inl(ports[0]) == TEST_ID, "BAR4 is back", 0);
	config_write(config, COMMAND, 2, 0);
	printf("ok end\n");
	return 0;
}
