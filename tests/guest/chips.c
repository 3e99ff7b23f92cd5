/* SPDX-License-Identifier: BSD-2-Clause */
/* chips.c - registers behind ports: a UART's scratch register, the CMOS by index and data, the PCI host bridge. */
#include "guest.h"

#define SCRATCH       (COM1 + 7)
#define PM_TIMER      0x608
#define SPEAKER_COUNT 65536

/* Ticks of the timer's since `from`, a count of the ACPI timer: it runs three times as fast and has 24 bits. */
static uint32_t ticks_since(uint32_t from)
{
	return ((inl(PM_TIMER) - from) & 0xffffff) / 3;
}

/* The timer's second channel by the speaker's gate, as old loops measure time: mode 0, the longest count there is. */
static void speaker(void)
{
	uint8_t was = inb(0x61);
	unsigned n = 0;
	uint32_t from;
	bool low;

	outb(0x61, (uint8_t)((was & ~3) | 1));
	outb(0x43, 0xb0);
	outb(0x42, 0);
	from = inl(PM_TIMER);
	outb(0x42, 0);
	check("speaker-gate", inb(0x61) & 3, 1);
	low = !(inb(0x61) & 0x20);
	/* On a busy host it may be over before it was looked at. */
	check("speaker-low", low || ticks_since(from) >= SPEAKER_COUNT, true);
	while (!(inb(0x61) & 0x20) && n < 1000000)
		n++;
	check("speaker-high", inb(0x61) & 0x20, 0x20);
	check("speaker-time", ticks_since(from) >= SPEAKER_COUNT - SPEAKER_COUNT / 16, true);
	outb(0x61, (uint8_t)(was & ~3));
}

void test(void)
{
	uint32_t id, pm;

	for (unsigned i = 0; i < 256; i += 51) {
		outb(SCRATCH, (uint8_t)i);
		check("uart-scratch", inb(SCRATCH), i);
	}
	/* A wider access is cut into what the chip has: modem status and scratch. */
	outb(SCRATCH, 0x5a);
	check("uart-word", inw(COM1 + 6) >> 8, 0x5a);
	outw(COM1 + 6, 0xa500);
	check("uart-word-write", inb(SCRATCH), 0xa5);

	cmos_write(0x40, 0x12);
	cmos_write(0x41, 0x34);
	check("cmos-first", cmos_read(0x40), 0x12);
	check("cmos-second", cmos_read(0x41), 0x34);
	check("cmos-valid", cmos_read(0x0d) & 0x80, 0x80);
	cmos_write(0x40, 0);
	cmos_write(0x41, 0);

	/* One configuration space, two ways to it. */
	outl(0xcf8, 0x80000000);
	id = inl(0xcfc);
	check("pci-bridge", id != UINT32_MAX && id != 0, true);
	check("pci-ecam", read32(ECAM), id);
	check("pci-ecam-word", read16(ECAM + 2), id >> 16);
	check("pci-port-word", inw(0xcfe), id >> 16);
	check("pci-port-byte", inb(0xcfd), id >> 8 & 0xff);
	outl(0xcf8, 0x80000000 | 31 << 11);
	check("pci-no-device", inl(0xcfc), UINT32_MAX);
	check("pci-no-device-ecam", read32(ECAM + (31 << 15)), UINT32_MAX);

	speaker();
	/* A POST code is read back; A20 is on, and asking for that again resets nothing. */
	outb(0x80, 0x3c);
	check("post", inb(0x80), 0x3c);
	check("a20", inb(0x92) & 3, 2);
	outb(0x92, 2);

	pm = inl(PM_TIMER);
	for (unsigned n = 0; n < 100000 && inl(PM_TIMER) == pm; n++)
		;
	check("pm-timer-runs", inl(PM_TIMER) != pm, true);
}
