/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci_intx.c - run in a guest whose kernel has bound the test device's functions to uio_pci_generic: raises their INTx
 * pins and tells which arrive. That driver knows its interrupt on a shared line by the status register and masks it by
 * the command register, where we unmask it again.
 */
#include "pci_guest.h"

#include <dirent.h>
#include <poll.h>

#define FUNCTIONS 8
#define SOON_MS   30000
#define NEVER_MS  300

#define INTX_DISABLE 0x400

static int uio[FUNCTIONS], config[FUNCTIONS];
static volatile uint8_t *regs[FUNCTIONS];

static int uio_open(unsigned function)
{
	char path[100], name[300];
	struct dirent *entry;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/0000:00:%02x.%x/uio", TEST_SLOT, function);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "/dev/%s", entry->d_name);
		fd = open(name, O_RDWR);
	}
	if (dir)
		closedir(dir);
	return fd;
}

static void level(unsigned function, uint32_t up)
{
	*(volatile uint32_t *)(regs[function] + REG_INTX) = up;
}

static void unmask(unsigned function)
{
	uint32_t command = config_read(config[function], COMMAND, 2);

	if (!(command & INTX_DISABLE))
		step(false, "the driver has not masked", function);
	config_write(config[function], COMMAND, 2, command & ~INTX_DISABLE);
}

/* Whether an interrupt of the function's arrives, and takes it. */
static bool arrives(unsigned function, int ms)
{
	struct pollfd poller = { .fd = uio[function], .events = POLLIN };
	uint32_t n;

	return poll(&poller, 1, ms) == 1 && read(uio[function], &n, sizeof(n)) == sizeof(n);
}

static void alone(unsigned function)
{
	char what[100];

	level(function, 1);
	snprintf(what, sizeof(what), "function %u interrupts", function);
	step(arrives(function, SOON_MS), what, 0);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (i != function && arrives(i, 0))
			step(false, "another function was told of it", i);
	level(function, 0);
	unmask(function);
}

/* Two functions of one wire. */
static void shared(unsigned a, unsigned b)
{
	level(a, 1);
	level(b, 1);
	step(arrives(a, SOON_MS), "the first of a shared line", a);
	step(arrives(b, SOON_MS), "the second of a shared line", b);
	level(a, 0);
	unmask(a);
	step(!arrives(a, NEVER_MS), "the one that went down stays silent", a);
	unmask(b);
	step(arrives(b, SOON_MS), "the one that is still up comes again", b);
	level(b, 0);
	unmask(b);
	step(!arrives(b, NEVER_MS), "and no more when it went down", b);
	level(a, 1);
	step(arrives(a, SOON_MS), "the line still works", a);
	level(a, 0);
	unmask(a);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		config[i] = config_open(TEST_SLOT, i);
		if (config[i] < 0 || config_read(config[i], 0, 4) != TEST_IDS) {
			step(false, "no test function", i);
			return 1;
		}
		step(config_read(config[i], HEADER_TYPE, 1) == (i == 0 ? 0x80 : 0), "header type",
			config_read(config[i], HEADER_TYPE, 1));
		step(config_read(config[i], INTERRUPT_LINE + 1, 1) == i % 4 + 1, "pin",
			config_read(config[i], INTERRUPT_LINE + 1, 1));
		uio[i] = uio_open(i);
		if (uio[i] < 0) {
			step(false, "no uio device", i);
			return 1;
		}
		regs[i] = map_physical(config_read(config[i], BAR0, 4) & ~15U, 4096);
		step(*(volatile uint32_t *)(regs[i] + REG_ID) == TEST_ID, "BAR0 answers", i);
	}
	for (unsigned i = 0; i < FUNCTIONS; i++)
		alone(i);
	shared(0, 4);
	shared(3, 7);
	printf("ok end\n");
	return 0;
}
