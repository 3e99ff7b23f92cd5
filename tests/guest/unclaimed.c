/* SPDX-License-Identifier: BSD-2-Clause */
/* unclaimed.c - ports and memory that nobody claims: reads give all ones at every width, writes vanish. */
#include "guest.h"

static void ports(uint16_t port)
{
	outb(port, 0x12);
	outw(port, 0x1234);
	outl(port, 0x12345678);
	check("port-1", inb(port), 0xff);
	check("port-2", inw(port), 0xffff);
	check("port-4", inl(port), 0xffffffff);
	check("port-2-unaligned", inw(port + 1), 0xffff);
	check("port-4-unaligned", inl(port + 3), 0xffffffff);
}

static void memory(uint64_t addr)
{
	write8(addr, 0x12);
	write16(addr, 0x1234);
	write32(addr, 0x12345678);
	write64(addr, 0x123456789abcdef0);
	check("memory-1", read8(addr), 0xff);
	check("memory-2", read16(addr), 0xffff);
	check("memory-4", read32(addr), 0xffffffff);
	check("memory-8", read64(addr), UINT64_MAX);
	check("memory-2-unaligned", read16(addr + 1), 0xffff);
	check("memory-4-unaligned", read32(addr + 3), 0xffffffff);
	check("memory-8-unaligned", read64(addr + 5), UINT64_MAX);
}

void test(void)
{
	ports(NOBODY_IO);
	check("port-last", inb(0xffff), 0xff);
	memory(NOBODY);
	memory(0xc0000000); /* below the hole, beyond the RAM of the guests run here */
}
