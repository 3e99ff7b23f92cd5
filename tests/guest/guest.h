/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest.h - what flat guests share. A guest says "ok NAME" or "FAIL NAME: ..." on COM1, a line each (or "skip WHY",
 * where it finds that it can tell nothing), and powers off. Each .c file here is one guest; it includes this once and
 * defines test().
 *
 * build.sh builds them all; by hand it is
 *
 *	gcc -std=gnu17 -O2 -ffreestanding -nostdlib -static -fno-pic -mno-red-zone -mgeneral-regs-only \
 *		-fno-stack-protector -fcf-protection=none -Wl,-T,guest.lds -Wl,--build-id=none \
 *		-Wl,-z,noexecstack [-DPVH] start.S NAME.c -o NAME.elf
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COM1      0x3f8
#define CMOS      0x70
#define KEYBOARD  0x60
#define PM1_CNT   0x604
#define ACPI_RST  0x60c
#define ECAM      0xd1000000UL
#define NOBODY    0xd0800000UL /* in the hole below 4 GiB, claimed by nobody */
#define NOBODY_IO 0x5000

/* start.S */
extern uint64_t boot_arg, entry_regs[4], ap_cr3;
extern char trampoline[], trampoline_end[], exception[];
extern uint64_t idt[64];
extern char idt_pointer[];

void guest_main(void);
void guest_exception(void);
void ap_main(void);
void test(void);
void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#define PORT(suffix, type)                                                                                             \
	static inline type in##suffix(uint16_t port)                                                                   \
	{                                                                                                              \
		type value;                                                                                            \
                                                                                                                       \
		__asm__ volatile("in" #suffix " %1, %0" : "=a"(value) : "Nd"(port));                                   \
		return value;                                                                                          \
	}                                                                                                              \
	static inline void out##suffix(uint16_t port, type value)                                                      \
	{                                                                                                              \
		__asm__ volatile("out" #suffix " %0, %1" : : "a"(value), "Nd"(port) : "memory");                       \
	}
PORT(b, uint8_t)
PORT(w, uint16_t)
PORT(l, uint32_t)

/* One plain load or store each, whatever the optimiser thinks: KVM must see that width. */
#define MEM(bits, suffix)                                                                                              \
	static inline uint##bits##_t read##bits(uint64_t addr)                                                         \
	{                                                                                                              \
		uint##bits##_t value = 0;                                                                              \
                                                                                                                       \
		__asm__ volatile("mov" #suffix " (%1), %0" : "=r"(value) : "r"(addr) : "memory");                      \
		return value;                                                                                          \
	}                                                                                                              \
	static inline void write##bits(uint64_t addr, uint##bits##_t value)                                            \
	{                                                                                                              \
		__asm__ volatile("mov" #suffix " %0, (%1)" : : "r"(value), "r"(addr) : "memory");                      \
	}
MEM(8, b)
MEM(16, w)
MEM(32, l)
MEM(64, q)

void *memset(void *to, int byte, size_t n)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}

static inline void put(const char *text)
{
	for (; *text; text++) {
		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, (uint8_t)*text);
	}
}

static inline void put_hex(uint64_t value)
{
	char text[19], *at = text + 18;

	*at = '\0';
	do
		*--at = "0123456789abcdef"[value & 15];
	while (value >>= 4);
	*--at = 'x';
	*--at = '0';
	put(at);
}

static inline void check(const char *name, uint64_t is, uint64_t wanted)
{
	if (is == wanted) {
		put("ok ");
		put(name);
	} else {
		put("FAIL ");
		put(name);
		put(": is ");
		put_hex(is);
		put(", not ");
		put_hex(wanted);
	}
	put("\n");
}

static inline uint8_t cmos_read(uint8_t index)
{
	outb(CMOS, index);
	return inb(CMOS + 1);
}

static inline void cmos_write(uint8_t index, uint8_t value)
{
	outb(CMOS, index);
	outb(CMOS + 1, value);
}

static inline void power_off(void)
{
	outw(PM1_CNT, 5 << 10 | 1 << 13);
	put("FAIL power-off: the guest goes on\n");
	for (;;)
		__asm__ volatile("hlt");
}

void guest_exception(void)
{
	put("FAIL exception: one that nobody expected\n");
	power_off();
}

static inline void set_idt(void)
{
	uint64_t to = (uint64_t)exception;

	for (unsigned i = 0; i < 32; i++) {
		idt[2 * i] = (to & 0xffff) | 0x10UL << 16 | 0x8e00UL << 32 | (to >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = to >> 32;
	}
}

void guest_main(void)
{
	set_idt();
	test();
	power_off();
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

/* INIT and start-up IPI to the CPU with APIC id 1, by the registers of the xAPIC or of the x2APIC. */
static inline void start_ap(bool x2apic)
{
	static const uint32_t commands[] = { 0x4500, 0x4670 };
	uint64_t cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	ap_cr3 = cr3;
	memcpy((void *)0x70000, trampoline, (size_t)(trampoline_end - trampoline));
	if (x2apic)
		wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	for (unsigned i = 0; i < 2; i++) {
		if (x2apic) {
			wrmsr(0x830, 1UL << 32 | commands[i]);
		} else {
			write32(0xfee00310, 1U << 24);
			write32(0xfee00300, commands[i]);
		}
		/* A port that nobody claims is a delay as good as any. */
		for (unsigned n = 0; n < 200; n++)
			inb(0x80);
	}
}

/* Waits, by a bound, for what the other CPU does. */
static inline bool wait_for(volatile uint32_t *flag, uint32_t value)
{
	for (unsigned n = 0; n < 1000000; n++) {
		if (*flag == value)
			return true;
		inb(0x80);
	}
	return false;
}
