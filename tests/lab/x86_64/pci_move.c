/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci_move.c - run in a guest: sizes, moves, disables and overlaps the test function's BARs behind the kernel's back
 * and checks where its registers answer. Prints a line for each step, "ok ..." or "wrong ...".
 */
#include "pci_guest.h"

#include <string.h>

static int config = -1;

static volatile uint8_t *map(uint64_t base, size_t size)
{
	return map_physical(base, size);
}

static uint32_t read32(uint64_t base, unsigned reg)
{
	volatile uint8_t *at = map(base, 4096);
	uint32_t value = *(volatile uint32_t *)(at + reg);

	munmap((void *)at, 4096);
	return value;
}

static void write32(uint64_t base, unsigned reg, uint32_t value)
{
	volatile uint8_t *at = map(base, 4096);

	*(volatile uint32_t *)(at + reg) = value;
	munmap((void *)at, 4096);
}

static uint32_t size_of(unsigned bar, uint32_t flags)
{
	uint32_t saved = config_read(config, bar, 4), size;

	config_write(config, bar, 4, UINT32_MAX);
	size = ~(config_read(config, bar, 4) & ~flags) + 1;
	config_write(config, bar, 4, saved);
	return size;
}

static void widths(uint64_t base, unsigned offset, const char *what)
{
	volatile uint8_t *at = map(base, 4096) + offset;
	bool good;

	*(volatile uint64_t *)at = 0x8877665544332211;
	good = at[0] == 0x11 && at[7] == 0x88 && *(volatile uint16_t *)(at + 2) == 0x4433 &&
	       *(volatile uint32_t *)(at + 4) == 0x88776655;
	*(volatile uint16_t *)(at + 2) = 0xbeef;
	at[7] = 0x99;
	step(good && *(volatile uint64_t *)at == 0x99776655beef2211, what, *(volatile uint64_t *)at);
	munmap((void *)(at - offset), 4096);
}

int main(void)
{
	uint64_t bar0, bar2, to;
	uint32_t bar4, command;

	setvbuf(stdout, NULL, _IOLBF, 0);
	config = config_open(TEST_SLOT, 0);
	if (config < 0 || config_read(config, 0, 4) != TEST_IDS || !ports_open()) {
		printf("wrong no test function, or no ports\n");
		return 1;
	}
	command = config_read(config, COMMAND, 2);
	config_write(config, COMMAND, 2, command & ~3U);
	step(size_of(BAR0, 15) == 4096, "size of BAR0", size_of(BAR0, 15));
	step(size_of(BAR2, 15) == 65536, "size of BAR2", size_of(BAR2, 15));
	step(size_of(BAR4, 3) == 32, "size of BAR4", size_of(BAR4, 3));
	step((config_read(config, BAR2, 4) & 7) == 4, "BAR2 has 64 bits", config_read(config, BAR2, 4));
	bar0 = config_read(config, BAR0, 4) & ~15U;
	bar2 = (config_read(config, BAR2, 4) & ~15U) | (uint64_t)config_read(config, BAR2 + 4, 4) << 32;
	bar4 = config_read(config, BAR4, 4) & ~3U;
	step(bar0 && bar2 && bar4, "all have a place", bar0);
	step(read32(bar0, REG_ID) == UINT32_MAX, "disabled memory is all ones", read32(bar0, REG_ID));
	step(inl((uint16_t)bar4) == UINT32_MAX, "disabled ports are all ones", inl((uint16_t)bar4));
	config_write(config, COMMAND, 2, command | 3);
	step(read32(bar0, REG_ID) == TEST_ID, "BAR0 answers", read32(bar0, REG_ID));
	step(inl((uint16_t)(bar4 + REG_ID)) == TEST_ID, "BAR4 answers", inl((uint16_t)(bar4 + REG_ID)));
	step((inl((uint16_t)(bar4 + REG_LIVE)) & 0x15) == 0x15, "all decode", inl((uint16_t)(bar4 + REG_LIVE)));
	widths(bar0, MEMORY0, "memory behind BAR0, all widths");
	widths(bar2, 0x10, "memory behind BAR2, all widths");

	to = bar0 + 0x100000;
	write32(bar0, REG_SCRATCH, 0x12345678);
	config_write(config, BAR0, 4, (uint32_t)to);
	step(read32(bar0, REG_ID) == UINT32_MAX, "BAR0 left its old place", read32(bar0, REG_ID));
	step(read32(to, REG_ID) == TEST_ID, "BAR0 answers at its new place", read32(to, REG_ID));
	step(read32(to, REG_SCRATCH) == 0x12345678, "and is the same device", read32(to, REG_SCRATCH));
	bar0 = to;

	to = bar0 + 0x100000;
	write32(bar0, REG_MOVE_LO, (uint32_t)to);
	write32(bar0, REG_MOVE, 0);
	step(read32(bar0, REG_ID) == UINT32_MAX, "BAR0 moved by itself left its place", read32(bar0, REG_ID));
	step(read32(to, REG_ID) == TEST_ID, "and answers at the new one", read32(to, REG_ID));
	bar0 = to;

	to = 0x800000000; /* 32 GiB: no RAM of ours, and below every processor's limit */
	config_write(config, BAR2, 4, (uint32_t)to);
	config_write(config, BAR2 + 4, 4, (uint32_t)(to >> 32));
	step(read32(bar2, 0x10) == UINT32_MAX, "BAR2 left its old place", read32(bar2, 0x10));
	step(read32(to, 0x10) == 0xbeef2211, "BAR2 answers above 4 GiB with what it held", read32(to, 0x10));
	widths(to, 0x20, "memory above 4 GiB, all widths");
	config_write(config, BAR2, 4, (uint32_t)bar2);
	config_write(config, BAR2 + 4, 4, (uint32_t)(bar2 >> 32));

	config_write(config, BAR4, 4, bar4 + 0x400);
	step(inl((uint16_t)bar4) == UINT32_MAX, "BAR4 left its old ports", inl((uint16_t)bar4));
	bar4 += 0x400;
	step(inl((uint16_t)bar4) == TEST_ID, "BAR4 answers at its new ports", inl((uint16_t)bar4));

	/* Two BARs at one place: one of them decodes, and when they part both do. */
	config_write(config, BAR0, 4, (uint32_t)bar2);
	step((inl((uint16_t)(bar4 + REG_LIVE)) & 5) != 5, "of two BARs at one place one decodes",
		inl((uint16_t)(bar4 + REG_LIVE)));
	config_write(config, BAR0, 4, (uint32_t)bar0);
	step((inl((uint16_t)(bar4 + REG_LIVE)) & 5) == 5, "apart, both do", inl((uint16_t)(bar4 + REG_LIVE)));
	step(read32(bar0, REG_ID) == TEST_ID && read32(bar2, 0x10) == 0xbeef2211, "and answer", read32(bar2, 0x10));
	config_write(config, COMMAND, 2, command);
	printf("ok end\n");
	return 0;
}
