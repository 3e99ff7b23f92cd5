/* SPDX-License-Identifier: BSD-2-Clause */
/* pci_agree.c - run in a guest: CF8/CFC and ECAM show the same config space, bit by bit, and take the same writes. */
#include "pci_guest.h"

#include <string.h>

#define DEVFNS 256

static volatile uint8_t *ecam;

static uint16_t latch(unsigned devfn, unsigned reg)
{
	outl(0x80000000 | devfn << 8 | (reg & 0xfc), 0xcf8);
	return (uint16_t)(0xcfc + (reg & 3));
}

static uint32_t by_ports(unsigned devfn, unsigned reg, unsigned len)
{
	uint16_t port = latch(devfn, reg);

	return len == 1 ? inb(port) : len == 2 ? inw(port) : inl(port);
}

static void write_ports(unsigned devfn, unsigned reg, uint32_t value)
{
	outl(value, latch(devfn, reg));
}

static uint32_t by_ecam(unsigned devfn, unsigned reg, unsigned len)
{
	volatile uint8_t *at = ecam + devfn * 4096 + reg;

	return len == 1 ? *at : len == 2 ? *(volatile uint16_t *)at : *(volatile uint32_t *)at;
}

static void write_ecam(unsigned devfn, unsigned reg, uint32_t value)
{
	*(volatile uint32_t *)(ecam + devfn * 4096 + reg) = value;
}

/* Every register of a function, at every width. Returns how many bytes differ. */
static unsigned compare(unsigned devfn)
{
	unsigned wrong = 0;

	for (unsigned reg = 0; reg < 256; reg += 4)
		wrong += by_ports(devfn, reg, 4) != by_ecam(devfn, reg, 4);
	for (unsigned reg = 0; reg < 64; reg++) {
		wrong += by_ports(devfn, reg, 1) != by_ecam(devfn, reg, 1);
		wrong += reg % 2 == 0 && by_ports(devfn, reg, 2) != by_ecam(devfn, reg, 2);
	}
	return wrong;
}

int main(int argc, char **argv)
{
	static const uint32_t patterns[] = { 0xffffffff, 0, 0xaaaaaaaa, 0x55555555, 0xdeadbeef };
	unsigned functions = 0, wrong = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || iopl(3)) {
		printf("wrong no place of ECAM, or no ports\n");
		return 1;
	}
	ecam = map_physical(strtoull(argv[1], NULL, 0), DEVFNS * 4096);
	for (unsigned devfn = 0; devfn < DEVFNS; devfn++) {
		wrong += by_ports(devfn, 0, 4) != by_ecam(devfn, 0, 4);
		if (by_ecam(devfn, 0, 4) == UINT32_MAX)
			continue;
		functions++;
		wrong += compare(devfn);
		if (by_ecam(devfn, 0, 4) != TEST_IDS)
			continue;
		/* Every register of the header, written one way and read the other. */
		write_ports(devfn, COMMAND, 0);
		for (unsigned reg = 0; reg < 64; reg += 4) {
			uint32_t was = by_ecam(devfn, reg, 4);

			for (unsigned i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
				/* No decoding: BARs pass over all kinds of places. */
				uint32_t value = reg == COMMAND ? patterns[i] & ~3U : patterns[i], ports;

				write_ports(devfn, reg, value);
				ports = by_ports(devfn, reg, 4);
				wrong += ports != by_ecam(devfn, reg, 4);
				write_ports(devfn, reg, ~value & (reg == COMMAND ? ~3U : UINT32_MAX));
				write_ecam(devfn, reg, value);
				wrong += by_ports(devfn, reg, 4) != ports;
			}
			write_ecam(devfn, reg, was);
			wrong += by_ports(devfn, reg, 4) != was;
		}
	}
	step(functions == 9, "functions", functions);
	step(wrong == 0, "differences between the two ways", wrong);
	printf("ok end\n");
	return 0;
}
