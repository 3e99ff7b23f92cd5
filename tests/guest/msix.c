/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msix.c - a message that an eventfd sends: in the kernel while its vector may be sent, pending while it is masked,
 * with a new message when the vector changes, and by the device itself beside it.
 */
#include "guest.h"

#define VECTOR  48 /* and the next */
#define PLACE   0xe0000000UL
#define TABLE   0xe0010000UL
#define PENDING (TABLE + 0x800)
#define INTX    (PLACE + 4)
#define SEND    4
#define EVENTFD 8 /* written: signals it; read: the kernel has it */
#define CAP     0x40
#define ENABLE  (1U << 31)
#define MASKALL (1U << 30)

static volatile uint32_t interrupts, others;

static __attribute__((interrupt)) void handler(__attribute__((unused)) void *frame)
{
	interrupts++;
	write32(0xfee000b0, 0);
}

static __attribute__((interrupt)) void other(__attribute__((unused)) void *frame)
{
	others++;
	write32(0xfee000b0, 0);
}

static void gate(uint64_t *table, unsigned vector, uint64_t to)
{
	table[2 * vector] = (to & 0xffff) | 0x10UL << 16 | 0x8e00UL << 32 | (to >> 16 & 0xffff) << 48;
	table[2 * vector + 1] = to >> 32;
}

static void cfg_write(uint8_t reg, uint32_t value)
{
	outl(0xcf8, 0x80000000 | 1 << 11 | reg);
	outl(0xcfc, value);
}

static void set_up(void)
{
	static uint64_t table[2 * (VECTOR + 2)];
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(table) - 1, (uint64_t)table };

	memcpy(table, idt, 2 * 32 * sizeof(*table));
	gate(table, VECTOR, (uint64_t)handler);
	gate(table, VECTOR + 1, (uint64_t)other);
	__asm__ volatile("lidt %0" : : "m"(pointer), "m"(table));
	cfg_write(0x10, PLACE);
	cfg_write(0x24, TABLE);
	cfg_write(4, 2);
	write32(0xfee000f0, 0x1ff);
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

/* How many interrupts come, when `n` are waited for and then some time. */
static uint32_t count(uint32_t n)
{
	__asm__ volatile("sti");
	wait_for(&interrupts, n);
	for (unsigned i = 0; i < 2000; i++)
		inb(0x80);
	__asm__ volatile("cli");
	n = interrupts;
	interrupts = 0;
	return n;
}

static uint32_t raised(uint32_t by, uint32_t n)
{
	write32(INTX, by);
	return count(n);
}

void test(void)
{
	set_up();
	check("function", read32(PLACE), 0x54534554);
	check("starts-masked", read32(TABLE + 12), 1);
	write64(TABLE, 0xfee00000);
	write32(TABLE + 8, VECTOR);
	write32(TABLE + 12, 0);
	check("off", raised(SEND, 0), 0);
	cfg_write(CAP, ENABLE);
	check("the-kernel-has-it", read32(INTX) & EVENTFD, EVENTFD);
	check("device", raised(SEND, 1), 1);
	check("eventfd", raised(EVENTFD, 1), 1);
	check("both", raised(SEND, 1) + raised(EVENTFD, 1), 2);
	for (unsigned i = 0; i < 3; i++) {
		write32(TABLE + 12, 1);
		check("masked", read32(INTX) & EVENTFD, 0);
		check("masked-eventfd", raised(EVENTFD, 0), 0);
		check("pending", read32(PENDING), 1);
		write32(TABLE + 12, 0);
		check("unmasked", count(1), 1);
		check("not-pending", read32(PENDING), 0);
		check("the-kernel-has-it-again", read32(INTX) & EVENTFD, EVENTFD);
	}
	cfg_write(CAP, ENABLE | MASKALL);
	check("function-masked", raised(EVENTFD, 0), 0);
	check("function-pending", read32(PENDING), 1);
	cfg_write(CAP, ENABLE);
	check("function-unmasked", count(1), 1);
	write32(TABLE + 8, VECTOR + 1);
	write32(INTX, EVENTFD);
	__asm__ volatile("sti");
	wait_for(&others, 1);
	__asm__ volatile("cli");
	check("another-message", others, 1);
	check("not-the-old-one", count(0), 0);
	write32(TABLE + 8, VECTOR);
	check("and-back", raised(EVENTFD, 1), 1);
	cfg_write(CAP, 0);
	check("off-again", raised(EVENTFD | SEND, 0), 0);
}
