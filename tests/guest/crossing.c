/* SPDX-License-Identifier: BSD-2-Clause */
/* crossing.c - accesses that cross a page, which KVM delivers in pieces, and the end of RAM. */
#include "guest.h"

/* The end of RAM below 4 GiB, from the memory map at boot. */
static uint64_t ram_end(void)
{
	uint64_t end = 0;
	unsigned n = read8(boot_arg + 0x1e8);

	for (unsigned i = 0; i < n; i++) {
		uint64_t entry = boot_arg + 0x2d0 + i * 20, top = read64(entry) + read64(entry + 8);

		if (read32(entry + 16) == 1 && top < 1UL << 32 && top > end)
			end = top;
	}
	return end;
}

void test(void)
{
	uint64_t page = NOBODY + 0x1000, end = ram_end();

	check("cross-2", read16(page - 1), 0xffff);
	for (unsigned i = 1; i < 4; i++)
		check("cross-4", read32(page - i), 0xffffffff);
	for (unsigned i = 1; i < 8; i++)
		check("cross-8", read64(page - i), UINT64_MAX);
	write64(page - 3, 0x1122334455667788);
	check("cross-write", read64(page - 3), UINT64_MAX);

	for (unsigned i = 1; i < 8; i++) {
		uint64_t mask = (1UL << 8 * i) - 1, value = 0x1122334455667788;

		/* The part in RAM is stored and read back; the rest is nobody's. */
		write64(end - i, value);
		check("ram-end", read64(end - i), (value & mask) | ~mask);
	}
	check("port-beyond-last", inl(0xfffe), 0xffffffff);
}
