/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bar.c - the test function's BARs: sized, placed, read and written at every width, across pages and ends, by
 * string instructions, and moved from inside their own handler.
 */
#include "guest.h"

#define PLACE0   0xe0000000UL
#define PLACE0_B 0xe0100000UL
#define PLACE2   0xe0200000UL
#define PLACE4   0x7000
#define SIZE2    0x10000
#define MEMORY0  0x800 /* in BAR 0 */
#define TEST_ID  0x54534554
#define SCRATCH  0x1c

static uint32_t function; /* its address for CF8 */

static uint32_t cfg_read(uint8_t reg)
{
	outl(0xcf8, function | reg);
	return inl(0xcfc);
}

static void cfg_write(uint8_t reg, uint32_t value)
{
	outl(0xcf8, function | reg);
	outl(0xcfc, value);
}

static bool find(void)
{
	for (uint32_t dev = 0; dev < 32; dev++) {
		function = 0x80000000 | dev << 11;
		if (cfg_read(0) == 0x7e571234)
			return true;
	}
	return false;
}

static uint32_t size(uint8_t reg)
{
	cfg_write(reg, UINT32_MAX);
	return cfg_read(reg);
}

static void place(void)
{
	cfg_write(4, 0);
	check("bar0-size", size(0x10), 0xfffff000);
	check("bar2-size", size(0x18), 0xffff000c);
	check("bar2-size-high", size(0x1c), UINT32_MAX);
	check("bar4-size", size(0x20) & 0xffff, 0xffe1);
	cfg_write(0x10, PLACE0);
	cfg_write(0x18, PLACE2);
	cfg_write(0x1c, 0);
	cfg_write(0x20, PLACE4);
	check("off-memory", read32(PLACE0), UINT32_MAX);
	check("off-port", inl(PLACE4), UINT32_MAX);
	cfg_write(4, 3);
	check("on-memory", read32(PLACE0), TEST_ID);
	check("on-port", inl(PLACE4), TEST_ID);
	check("on-memory-byte", read8(PLACE0 + 1), TEST_ID >> 8 & 0xff);
	check("on-port-word", inw(PLACE4 + 2), TEST_ID >> 16);
}

static void widths(uint64_t at)
{
	write64(at, 0x1122334455667788);
	check("read-8", read64(at), 0x1122334455667788);
	check("read-4", read32(at + 4), 0x11223344);
	check("read-2", read16(at + 2), 0x5566);
	check("read-1", read8(at + 7), 0x11);
	write8(at, 0xaa);
	write16(at + 2, 0xbbcc);
	write32(at + 4, 0xddeeff00);
	check("written", read64(at), 0xddeeff00bbcc77aa);
	for (unsigned i = 1; i < 8; i++) {
		write64(at + i, 0x0102030405060708);
		check("unaligned-8", read64(at + i), 0x0102030405060708);
		check("unaligned-4", read32(at + i), 0x05060708);
		check("unaligned-2", read16(at + i), 0x0708);
	}
}

static void edges(void)
{
	static uint8_t buf[256];

	for (unsigned i = 1; i < 8; i++) {
		uint64_t page = PLACE2 + 0x1000 - i, end = PLACE2 + SIZE2 - i, mask = (1UL << 8 * i) - 1;
		uint64_t value = 0x8877665544332211;

		write64(page, value);
		check("cross-page", read64(page), value);
		write64(end, value);
		check("cross-end", read64(end), (value & mask) | ~mask);
	}
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i ^ 0x5a);
	memcpy((void *)(PLACE2 + 0x1f80), buf, sizeof(buf));
	memset(buf, 0, sizeof(buf));
	memcpy(buf, (const void *)(PLACE2 + 0x1f80), sizeof(buf));
	check("movs-first", buf[0], 0x5a);
	check("movs-last", buf[255], 255 ^ 0x5a);
}

static void strings(void)
{
	static uint32_t buf[64];
	void *to = buf;
	const void *from = buf;
	size_t n = 64;

	outl(PLACE4 + SCRATCH, 0x12345678);
	check("scratch-shared", read32(PLACE0 + SCRATCH), 0x12345678);
	__asm__ volatile("rep insl" : "+D"(to), "+c"(n) : "d"((uint16_t)(PLACE4 + SCRATCH)) : "memory");
	check("insl-first", buf[0], 0x12345678);
	check("insl-last", buf[63], 0x12345678);
	for (unsigned i = 0; i < 64; i++)
		buf[i] = i;
	n = 64;
	__asm__ volatile("rep outsl" : "+S"(from), "+c"(n) : "d"((uint16_t)(PLACE4 + SCRATCH)) : "memory");
	check("outsl-last", read32(PLACE0 + SCRATCH), 63);
}

/* BAR 0 moves itself, in the handler of the write that asks for it. */
static void moves(void)
{
	write32(PLACE0 + 0x10, PLACE0_B);
	write32(PLACE0 + 0x14, 0);
	write32(PLACE0 + 0x18, 0);
	check("moved-from", read32(PLACE0), UINT32_MAX);
	check("moved-to", read32(PLACE0_B), TEST_ID);
	check("moved-config", cfg_read(0x10), PLACE0_B);
	check("moved-kept", read32(PLACE0_B + SCRATCH), 63);
	write32(PLACE0_B + 0x10, PLACE0);
	write32(PLACE0_B + 0x18, 0);
	check("moved-back", read32(PLACE0), TEST_ID);
	check("moved-count", read32(PLACE0 + 0x18), 2);
	cfg_write(4, 0);
	check("off-again", read32(PLACE0), UINT32_MAX);
}

void test(void)
{
	check("test-function", find(), true);
	place();
	widths(PLACE2);
	widths(PLACE0 + MEMORY0);
	edges();
	strings();
	moves();
}
