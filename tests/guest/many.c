/* SPDX-License-Identifier: BSD-2-Clause */
/* many.c - more CPUs than a one-byte APIC id can name, each started by its x2APIC id; run.sh gives it 260. */
#include "guest.h"

#define CPUS 260

uint32_t started;

/* No stack: it is one for all. */
__attribute__((naked)) void ap_main(void)
{
	__asm__ volatile("lock incl started\n1: cli\nhlt\njmp 1b");
}

static bool start_cpu(uint32_t id)
{
	uint32_t before = *(volatile uint32_t *)&started;

	wrmsr(0x830, (uint64_t)id << 32 | 0x4500); /* INIT */
	wrmsr(0x830, (uint64_t)id << 32 | 0x4670); /* start-up at 0x70000 */
	return wait_for(&started, before + 1);
}

void test(void)
{
	uint32_t r[4], failed = 0;
	uint64_t cr3;

	cpuid(1, 0, r);
	if (!(r[2] & 1U << 21)) {
		put("skip no x2APIC\n");
		return;
	}
	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	ap_cr3 = cr3;
	memcpy((void *)0x70000, trampoline, (size_t)(trampoline_end - trampoline));
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	for (uint32_t id = 1; id < CPUS && !failed; id++) {
		if (!start_cpu(id))
			failed = id;
	}
	check("first-that-does-not-start", failed, 0);
	check("started", started, CPUS - 1);
}
