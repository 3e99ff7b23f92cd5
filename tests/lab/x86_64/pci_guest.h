/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci_guest.h - for programs that run in a guest: the test functions' config space
 * and memory, behind the kernel's back.
 */
#ifndef PCI_GUEST_H
#define PCI_GUEST_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __x86_64__
#include <sys/io.h>
#endif

/* As in src/pci/testdev.h, said again because a guest's driver would. */
enum { TEST_IDS = 0x7e571234, TEST_ID = 0x54534554, TEST_SLOT = 1 };
enum { REG_ID = 0, REG_INTX = 4, REG_LIVE = 0xc, REG_MOVE_LO = 0x10, REG_MOVE = 0x18, REG_SCRATCH = 0x1c };
enum { MEMORY0 = 0x800, COMMAND = 4, HEADER_TYPE = 0xe, BAR0 = 0x10, BAR2 = 0x18, BAR4 = 0x20, INTERRUPT_LINE = 0x3c };

static inline void step(bool good, const char *what, uint64_t got)
{
	printf("%s %s (%#llx)\n", good ? "ok" : "wrong", what, (unsigned long long)got);
}

static inline void *map_physical(uint64_t base, size_t size)
{
	int mem = open("/dev/mem", O_RDWR | O_SYNC);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, mem, (off_t)base);

	if (at == MAP_FAILED) {
		printf("wrong mmap of %#llx\n", (unsigned long long)base);
		exit(1);
	}
	close(mem);
	return at;
}

#ifdef __x86_64__
static inline bool ports_open(void)
{
	return iopl(3) == 0;
}
#else
/* Ports are behind a window in memory: arm64's is at 0. */
static volatile uint8_t *port_window;

static inline bool ports_open(void)
{
	if (!port_window)
		port_window = map_physical(0, 0x10000);
	return true;
}

static inline uint32_t inl(uint16_t port)
{
	return *(volatile uint32_t *)(port_window + port);
}
#endif

/* A function's config space in sysfs; -1: there is no such function. */
static inline int config_open(unsigned slot, unsigned function)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/0000:00:%02x.%x/config", slot, function);
	return open(path, O_RDWR);
}

static inline uint32_t config_read(int config, unsigned reg, unsigned len)
{
	uint32_t value = 0;

	if (pread(config, &value, len, reg) != (ssize_t)len)
		perror("config read");
	return value;
}

static inline void config_write(int config, unsigned reg, unsigned len, uint32_t value)
{
	if (pwrite(config, &value, len, reg) != (ssize_t)len)
		perror("config write");
}

#endif
