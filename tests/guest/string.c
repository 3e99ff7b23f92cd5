/* SPDX-License-Identifier: BSD-2-Clause */
/* string.c - REP INS and REP OUTS, of bytes and wider, upward and downward, across a page. */
#include "guest.h"

#define SCRATCH (COM1 + 7)

static uint8_t buf[3 * 4096] __attribute__((aligned(4096)));

#define REP_IN(suffix)                                                                                                 \
	static void ins##suffix(uint16_t port, void *to, size_t n)                                                     \
	{                                                                                                              \
		__asm__ volatile("rep ins" #suffix : "+D"(to), "+c"(n) : "d"(port) : "memory");                        \
	}
#define REP_OUT(suffix)                                                                                                \
	static void outs##suffix(uint16_t port, const void *from, size_t n)                                            \
	{                                                                                                              \
		__asm__ volatile("rep outs" #suffix : "+S"(from), "+c"(n) : "d"(port) : "memory");                     \
	}
REP_IN(b)
REP_IN(w)
REP_IN(l)
REP_OUT(b)
REP_OUT(w)

static unsigned count(const uint8_t *at, uint8_t byte, size_t n)
{
	unsigned found = 0;

	for (size_t i = 0; i < n; i++)
		found += at[i] == byte;
	return found;
}

static void ins(void)
{
	uint8_t *at = buf + 4096 - 100;

	outb(SCRATCH, 0x3c);
	insb(SCRATCH, at, 300);
	check("ins-byte", count(at, 0x3c, 300), 300);
	check("ins-byte-before", at[-1], 0);
	check("ins-byte-behind", at[300], 0);
	insb(SCRATCH, at, 0);
	insw(COM1 + 6, buf, 50);
	check("ins-word", count(buf, 0x3c, 100) >= 50, true);
	check("ins-word-high", buf[99], 0x3c);
	insl(NOBODY_IO, buf, 1000);
	check("ins-long-unclaimed", count(buf, 0xff, 4000), 4000);

	memset(buf, 0, 64);
	{
		uint8_t *to = buf + 31;
		size_t n = 16;

		__asm__ volatile("std; rep insb; cld" : "+D"(to), "+c"(n) : "d"((uint16_t)SCRATCH) : "memory");
	}
	check("ins-down", count(buf, 0x3c, 64), 16);
	check("ins-down-first", buf[31], 0x3c);
	check("ins-down-last", buf[16], 0x3c);
}

static void outs(void)
{
	static const char text[] = "ok outs-byte, said by one instruction\n";
	static const char back[] = "\nnoitcurtsni eno yb dias ,nwod-stuo ko";
	const char *from = back + sizeof(back) - 2;
	size_t n = sizeof(back) - 1;

	outsb(COM1, text, sizeof(text) - 1);
	__asm__ volatile("std; rep outsb; cld" : "+S"(from), "+c"(n) : "d"((uint16_t)COM1) : "memory");

	for (unsigned i = 0; i < 256; i++)
		buf[4096 - 128 + i] = (uint8_t)i;
	outsb(SCRATCH, buf + 4096 - 128, 200);
	check("outs-last", inb(SCRATCH), 199);
	outsw(COM1 + 6, buf + 4096 - 128, 50);
	check("outs-word-last", inb(SCRATCH), 99);
}

/* A string instruction on memory that nobody claims. */
static void movs(void)
{
	memset(buf, 0, 64);
	memcpy(buf, (const void *)NOBODY, 33);
	check("movs-unclaimed", count(buf, 0xff, 64), 33);
}

void test(void)
{
	ins();
	outs();
	movs();
}
