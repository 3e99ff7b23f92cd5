/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flash.c - the two flash chips through /dev/mem, by the steps of Linux's cfi_cmdset_0001 and of EDK2's
 * VirtNorFlashDxe: found by their query, erased, programmed by words and by the buffer. Each chip has 16 bits of the
 * 32. "check": what an earlier life wrote.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BASE    0x02000000
#define SIZE    (1U << 20)
#define BLOCK   (64U << 10)
#define BUFFER  512U
#define BOTH(x) ((x)*0x00010001U)
#define READY   BOTH(0x80)

static volatile uint32_t *flash;

static void step(int good, const char *what, uint32_t got)
{
	if (good)
		printf("ok %s\n", what);
	else
		printf("wrong %s: 0x%08x\n", what, got);
	fflush(stdout);
}

static void put(uint32_t at, uint32_t value)
{
	flash[at / 4] = value;
}

static uint32_t get(uint32_t at)
{
	return flash[at / 4];
}

static uint32_t wait_ready(uint32_t at)
{
	uint32_t status;

	put(at, BOTH(0x70));
	do
		status = get(at);
	while ((status & READY) != READY);
	return status;
}

static uint32_t pattern(uint32_t at)
{
	return at * 2654435761U ^ 0x5a5a5a5a;
}

static void query(void)
{
	put(0x55 * 4, BOTH(0x98));
	step(get(0x10 * 4) == BOTH('Q') && get(0x11 * 4) == BOTH('R') && get(0x12 * 4) == BOTH('Y'), "query",
		get(0x10 * 4));
	step(get(0x13 * 4) == BOTH(1), "command set", get(0x13 * 4));
	step(get(0x27 * 4) == BOTH(19), "size of each", get(0x27 * 4));
	step(get(0x31 * 4) == BOTH('P'), "extended query", get(0x31 * 4));
	put(0, BOTH(0xff));
}

static void erase(uint32_t at)
{
	put(at, BOTH(0x60));
	put(at, BOTH(0xd0));
	wait_ready(at);
	put(at, BOTH(0x20));
	put(at, BOTH(0xd0));
	step(wait_ready(at) == READY, "erase", get(at));
	put(at, BOTH(0xff));
	for (uint32_t i = 0; i < BLOCK; i += 4) {
		if (get(at + i) != UINT32_MAX)
			step(0, "erased word", get(at + i));
	}
}

static void program(uint32_t at)
{
	put(at, BOTH(0x40));
	put(at, pattern(at));
	step(wait_ready(at) == READY, "program", get(at));
	for (uint32_t from = BUFFER; from < BLOCK; from += BUFFER) {
		put(at + from, BOTH(0xe8));
		while ((get(at + from) & READY) != READY)
			;
		put(at + from, BOTH(BUFFER / 4 - 1));
		for (uint32_t i = 0; i < BUFFER; i += 4)
			put(at + from + i, pattern(at + from + i));
		put(at + from, BOTH(0xd0));
		if (wait_ready(at + from) != READY)
			step(0, "buffered program", get(at + from));
	}
	put(at, BOTH(0xff));
}

static void check(uint32_t at)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < BLOCK; i += i ? 4 : BUFFER)
		bad += get(at + i) != pattern(at + i);
	step(!bad, "what was programmed", bad);
	for (uint32_t i = 4; i < BUFFER; i += 4)
		bad += get(at + i) != UINT32_MAX;
	step(!bad, "what was left", bad);
}

int main(int argc, char **argv)
{
	const int again = argc > 1 && strcmp(argv[1], "check") == 0;
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
	uint32_t sum = 0;

	flash = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, BASE);
	if (flash == MAP_FAILED) {
		perror("wrong /dev/mem");
		return 1;
	}
	step(get(0) == 0x64636261, "array", get(0));
	query();
	if (!again) {
		erase(3 * BLOCK);
		program(3 * BLOCK);
	}
	check(3 * BLOCK);
	/* All of it, as memory: none of that is an exit. */
	for (uint32_t i = 0; i < SIZE; i += 4)
		sum += get(i);
	step(sum != 0, "sum", sum);
	step(get(0) == 0x64636261, "end", get(0));
	return 0;
}
