/* SPDX-License-Identifier: BSD-2-Clause */
/* smp.c - a second CPU, started by the first, works on the bus at the same time. */
#include "guest.h"

#define ROUNDS 2000

static volatile uint32_t started, done, ap_id, ap_wrong;

static uint32_t wrong(uint8_t scratch)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		n += inb(NOBODY_IO) != 0xff;
		n += read32(NOBODY) != UINT32_MAX;
		n += inb(COM1 + 7) != scratch;
	}
	return n;
}

void ap_main(void)
{
	uint32_t r[4];

	cpuid(0xb, 0, r);
	ap_id = r[3];
	cpuid(1, 0, r);
	if (r[1] >> 24 != 1)
		ap_id = r[1] >> 24;
	started = 1;
	ap_wrong = wrong(0x77);
	done = 1;
	for (;;)
		__asm__ volatile("cli; hlt");
}

void test(void)
{
	uint32_t r[4];

	outb(COM1 + 7, 0x77);
	start_ap(false);
	if (!wait_for(&started, 1)) {
		put("FAIL second-cpu: it does not start\n");
		return;
	}
	check("first-wrong", wrong(0x77), 0);
	wait_for(&done, 1);
	check("second-done", done, 1);
	check("second-wrong", ap_wrong, 0);
	cpuid(0, 0, r);
	if (r[0] >= 0xb)
		check("second-id", ap_id, 1);
}
