/* SPDX-License-Identifier: BSD-2-Clause */
/* mode.c - what a guest is told at its start: boot parameters or PVH start info, memory map, command line, RSDP. */
#include "guest.h"

static bool contains(const char *text, const char *word)
{
	for (; *text; text++) {
		size_t i = 0;

		while (word[i] && text[i] == word[i])
			i++;
		if (!word[i])
			return true;
	}
	return false;
}

static void check_rsdp(uint64_t rsdp)
{
	uint8_t sum = 0;

	check("rsdp-signature", read64(rsdp), 0x2052545020445352); /* "RSD PTR " */
	for (unsigned i = 0; i < 20; i++)
		sum = (uint8_t)(sum + read8(rsdp + i));
	check("rsdp-checksum", sum, 0);
}

#ifdef PVH
static void check_boot(void)
{
	check("start-info-magic", read32(boot_arg), 0x336ec578);
	check("start-info-version", read32(boot_arg + 4), 1);
	check("start-info-map", read64(read64(boot_arg + 40) + 8), 0x9fc00);
	check("command-line", contains((const char *)read64(boot_arg + 24), "console"), true);
	check_rsdp(read64(boot_arg + 32));
}
#else
static void check_boot(void)
{
	check("zero-page-magic", read32(boot_arg + 0x202), 0x53726448);
	check("e820-base", read64(boot_arg + 0x2d0), 0);
	check("e820-size", read64(boot_arg + 0x2d8), 0x9fc00);
	check("e820-entries", read8(boot_arg + 0x1e8) >= 4, true);
	check("command-line", contains((const char *)(uint64_t)read32(boot_arg + 0x228), "console"), true);
	check_rsdp(read64(boot_arg + 0x70));
}
#endif

void test(void)
{
	uint64_t efer = rdmsr(0xc0000080), flags;
	uint32_t r[4];

	__asm__ volatile("pushfq; pop %0" : "=r"(flags));
	check("long-mode", efer & 0x500, 0x500);
	check("interrupts-off", flags & 0x200, 0);
	check_boot();
	cpuid(1, 0, r);
	check("cpuid-hypervisor", r[2] >> 31, 1);
	check("cpuid-x2apic", r[2] >> 21 & 1, 1);
	check("cpuid-apic-id", r[1] >> 24, 0);
	check("cpuid-cpus", r[1] >> 16 & 0xff, 2);
}
