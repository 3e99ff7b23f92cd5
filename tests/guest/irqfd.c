/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * irqfd.c - a level-triggered interrupt that an eventfd raises, on a line that a wire of the same device shares: it
 * comes, and comes again after each end of interrupt until its source has gone down.
 */
#include "guest.h"

#define VECTOR  48
#define PIN     17 /* slot 1, INTA */
#define PLACE   0xe0000000UL
#define INTX    (PLACE + 4)
#define WIRE    1
#define EVENTFD 2

static volatile uint32_t interrupts, down_at;
static volatile bool in_service;

static void ioapic_write(uint32_t reg, uint32_t value)
{
	write32(0xfec00000, reg);
	write32(0xfec00010, value);
}

static __attribute__((interrupt)) void handler(__attribute__((unused)) void *frame)
{
	in_service = read32(0xfee00100 + VECTOR / 32 * 16) & 1U << VECTOR % 32;
	if (++interrupts == down_at)
		write32(INTX, 0);
	write32(0xfee000b0, 0);
}

static void set_up(void)
{
	static uint64_t table[2 * (VECTOR + 1)];
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(table) - 1, (uint64_t)table };
	uint64_t to = (uint64_t)handler;

	memcpy(table, idt, 2 * 32 * sizeof(*table));
	table[2 * VECTOR] = (to & 0xffff) | 0x10UL << 16 | 0x8e00UL << 32 | (to >> 16 & 0xffff) << 48;
	table[2 * VECTOR + 1] = to >> 32;
	__asm__ volatile("lidt %0" : : "m"(pointer), "m"(table));
	outl(0xcf8, 0x80000000 | 1 << 11 | 0x10);
	outl(0xcfc, PLACE);
	outl(0xcf8, 0x80000000 | 1 << 11 | 4);
	outl(0xcfc, 2);
	write32(0xfee000f0, 0x1ff);
	/* Level-triggered, active high, physical destination 0. */
	ioapic_write(0x10 + 2 * PIN + 1, 0);
	ioapic_write(0x10 + 2 * PIN, 1 << 15 | VECTOR);
	/* The legacy controllers would put theirs on vectors of exceptions. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

/*
 * An interrupt to ourselves. Where the local APIC does not show it in service (a KVM on no virtualization hardware
 * at all was seen to call the handler first and acknowledge afterwards), level-triggered ones cannot be counted.
 */
static bool apic_works(void)
{
	interrupts = down_at = 0;
	write32(0xfee00310, 0);
	write32(0xfee00300, VECTOR);
	__asm__ volatile("sti");
	wait_for(&interrupts, 1);
	__asm__ volatile("cli");
	return interrupts == 1 && in_service;
}

/* How many interrupts there are when the handler takes the source down at the n'th. */
static void raised(const char *name, uint32_t by, uint32_t n)
{
	interrupts = 0;
	down_at = n;
	write32(INTX, by);
	__asm__ volatile("sti");
	wait_for(&interrupts, n);
	for (unsigned i = 0; i < 2000; i++)
		inb(0x80);
	__asm__ volatile("cli");
	check(name, interrupts, n);
}

void test(void)
{
	set_up();
	check("function", read32(PLACE), 0x54534554);
	if (!apic_works()) {
		put("skip this KVM's local APIC does not show an interrupt in service\n");
		return;
	}
	raised("wire-once", WIRE, 1);
	raised("wire-until-down", WIRE, 3);
	raised("eventfd-once", EVENTFD, 1);
	raised("eventfd-until-down", EVENTFD, 3);
	raised("both-until-down", WIRE | EVENTFD, 3);
}
