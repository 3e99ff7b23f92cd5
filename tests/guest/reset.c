/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reset.c - the guest resets itself in every way there is and finds itself as at power-on each time. Which way
 * is next is counted in CMOS RAM, which alone survives.
 */
#include "guest.h"

#define COUNT 0x40

static uint32_t in_data = 0x600d, in_bss;
static volatile uint32_t ap_ready;

/* From the second CPU, while the first is in the middle of a read. */
void ap_main(void)
{
	ap_ready = 1;
	for (unsigned n = 0; n < 500; n++)
		inb(0x80);
	outb(KEYBOARD + 4, 0xfe);
	for (;;)
		inb(0x80);
}

static void by_keyboard(void)
{
	outb(KEYBOARD + 4, 0xfe);
}

static void by_acpi(void)
{
	outb(ACPI_RST, 1);
}

static void by_triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static void by_second(bool x2apic)
{
	start_ap(x2apic);
	if (!wait_for(&ap_ready, 1))
		put("FAIL second-cpu: it does not start\n");
	/* Whichever read is interrupted, its all ones must not end in a register of the next life. */
	for (unsigned n = 0; n < 100000; n++)
		__asm__ volatile("in $0x80, %%al; mov (%0), %%rcx; mov (%0), %%rdx"
				 :
				 : "r"(NOBODY)
				 : "rax", "rcx", "rdx", "memory");
}

static void by_second_xapic(void)
{
	by_second(false);
}

static void by_second_x2apic(void)
{
	by_second(true);
}

/* The test function's BARs are where the machine placed them; it resets when it is read. */
static uint32_t bar(uint8_t reg)
{
	outl(0xcf8, 0x80000000 | 1 << 11 | 4);
	outl(0xcfc, 3);
	outl(0xcf8, 0x80000000 | 1 << 11 | reg);
	return inl(0xcfc) & ~15U;
}

static void by_port_read(void)
{
	uint16_t port = (uint16_t)bar(0x20);

	check("port-of-the-test-function", inl(port), 0x54534554);
	outl(port + 0xc, 0x54455352);
	inl(port);
}

static void by_memory_read(void)
{
	uint64_t at = bar(0x10);

	check("memory-of-the-test-function", read32(at), 0x54534554);
	write32(at + 0xc, 0x54455352);
	__asm__ volatile("mov (%0), %%rcx; mov (%0), %%rdx" : : "r"(at) : "rcx", "rdx", "memory");
}

static const struct way {
	const char *name;
	void (*reset)(void);
} ways[] = {
	{ "reset-keyboard-controller", by_keyboard },
	{ "reset-acpi", by_acpi },
	{ "reset-second-cpu", by_second_xapic },
	{ "reset-second-cpu-x2apic", by_second_x2apic },
	{ "reset-port-read", by_port_read },
	{ "reset-memory-read", by_memory_read },
	{ "reset-triple-fault", by_triple_fault },
	{ "reset-again", by_keyboard },
};

/* In this life, is everything as in the first? */
static void check_fresh(const char *name)
{
	check(name, in_data == 0x600d && in_bss == 0 && ap_ready == 0, true);
	check("fresh-registers", entry_regs[0] | entry_regs[1] | entry_regs[2] | entry_regs[3], 0);
	check("fresh-apic-base", rdmsr(0x1b), 0xfee00900);
	check("fresh-apic-timer", read32(0xfee00320), 0x10000);
	check("fresh-apic-spurious", read32(0xfee000f0) & 0x1ff, 0xff);
	check("fresh-scratch", inb(COM1 + 7), 0);
	check("fresh-msr", rdmsr(0xc0000102), 0);
}

void test(void)
{
	unsigned count = cmos_read(COUNT), n = sizeof(ways) / sizeof(ways[0]);

	check_fresh(count == 0 ? "power-on" : count <= n ? ways[count - 1].name : "lost-count");
	if (count >= n) {
		cmos_write(COUNT, 0);
		return;
	}
	in_data = 0xbad;
	in_bss = 0xbad;
	cmos_write(COUNT, (uint8_t)(count + 1));
	write32(0xfee00320, 0x20040);
	write32(0xfee000f0, 0x1f0);
	outb(COM1 + 7, 0x42);
	wrmsr(0xc0000102, 0x1234000);
	ways[count].reset();
	/* The request is carried out before the CPU that made it enters the guest again. */
	put("FAIL reset: the guest goes on after ");
	put(ways[count].name);
	put("\n");
}
