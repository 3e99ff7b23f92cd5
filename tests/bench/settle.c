/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * settle.c - what a full PCI bus costs: 255 functions of six BARs beside the host bridge, plugged in, enabled, put all
 * at one place and parted again. Prints microseconds: how many config writes, all of them together, the slowest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/thread.h"
#include "core/vm.h"
#include "pci/host.h"

#define FUNCTIONS (PCI_SLOTS * PCI_FUNCTIONS)
#define BAR_SIZE  0x1000
#define MEM32     0xd2000000
#define MEM32_END 0xfec00000
#define APART     0xe0000000

struct full {
	struct pci_function fn; /* first */
	struct region bars[PCI_BARS];
	struct {
		uint8_t config[PCI_CONFIG_SIZE];
	} state;
};

struct cost {
	unsigned n;
	double sum, most;
};

static const struct pci_ids ids = { .vendor = 0x1234, .device = 1, .class = 0xff0000 };

static void nothing(void *dev, struct trap *trap)
{
}

static void full_destroy(struct device *dev)
{
	struct full *full = container_of(dev, struct full, fn.dev);

	pci_function_fini(&full->fn);
	device_fini(dev);
	free(full);
}

static const struct device_type full_type = { .name = "full", .destroy = full_destroy };

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void add(struct cost *cost, double begin)
{
	double us = now_us() - begin;

	cost->n++;
	cost->sum += us;
	cost->most = us > cost->most ? us : cost->most;
}

static void write_config(struct pci_bus *bus, struct cost *cost, unsigned devfn, unsigned reg, uint32_t value)
{
	double begin = now_us();

	pci_config_write(bus, (uint8_t)devfn, reg, 4, value);
	add(cost, begin);
	bus_throttle(bus->vm->bus);
}

static void die(const char *what)
{
	fprintf(stderr, "bench_settle: %s\n", what);
	exit(1);
}

static void plug(struct vm *vm, struct pci_bus *bus, unsigned devfn, struct cost *cost)
{
	struct full *full = calloc(1, sizeof(*full));
	struct device *dev = &full->fn.dev;
	struct error err = { 0 };
	char name[16];
	double begin;

	if (!full)
		die("no memory");
	snprintf(name, sizeof(name), "full%u", devfn);
	device_init(dev, &full_type, vm, name);
	pci_function_init(&full->fn, &ids, full->state.config);
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (pci_bar_init(
			    &full->fn, i, PCI_BAR_MEM32, false, &full->bars[i], "full", BAR_SIZE, WIDTH_ANY, nothing))
			die("no BAR");
	if (vm_add_devices(vm, &dev, 1, &err))
		die(err.text);
	begin = now_us();
	if (pci_bus_add(bus, &full->fn, devfn / PCI_FUNCTIONS, devfn % PCI_FUNCTIONS, &err))
		die(err.text);
	add(cost, begin);
}

static void show(const char *what, const struct cost *cost)
{
	printf("%-10s %5u %12.0f %9.1f\n", what, cost->n, cost->sum, cost->most);
}

static void measure(struct vm *vm, struct pci_bus *bus)
{
	struct cost plugged = { 0 }, enabled = { 0 }, piled = { 0 }, parted = { 0 };

	for (unsigned devfn = 1; devfn < FUNCTIONS; devfn++)
		if (devfn % PCI_FUNCTIONS == 0 || bus->functions[devfn & ~(PCI_FUNCTIONS - 1U)])
			plug(vm, bus, devfn, &plugged);
	for (unsigned devfn = 1; devfn < FUNCTIONS; devfn++)
		write_config(bus, &enabled, devfn, PCI_COMMAND, PCI_COMMAND_MEMORY);
	/*
	 * From the last, who then has the place, while those before are looked at
	 * first; and parted the other way round.
	 */
	for (unsigned devfn = FUNCTIONS - 1; devfn > 0; devfn--)
		for (unsigned i = PCI_BARS; i-- > 0;)
			write_config(bus, &piled, devfn, PCI_BASE_ADDRESS_0 + 4 * i, APART);
	for (unsigned devfn = 1; devfn < FUNCTIONS; devfn++)
		for (unsigned i = 0; i < PCI_BARS; i++)
			write_config(bus, &parted, devfn, PCI_BASE_ADDRESS_0 + 4 * i,
				APART + BAR_SIZE * (devfn * PCI_BARS + i));
	for (unsigned devfn = 1; devfn < FUNCTIONS; devfn++)
		if (pci_bars_live(bus->functions[devfn]) != (1U << PCI_BARS) - 1)
			die("a BAR does not decode");
	show("plugged", &plugged);
	show("enabled", &enabled);
	show("piled", &piled);
	show("parted", &parted);
}

int main(void)
{
	const struct pci_host_config config = { .windows = { .mem32 = { MEM32, MEM32_END - MEM32 } } };
	struct error err = { 0 };
	struct device *host = NULL;
	struct vm vm;

	thread_adopt();
	if (vm_init(&vm, true, &err) || pci_host_type.create(&vm, "pci", &config, &host, &err) ||
		vm_add_devices(&vm, &host, 1, &err))
		die(err.text);
	device_power_on(host);
	measure(&vm, pci_host_bus(host));
	vm_fini(&vm);
	thread_release();
	return 0;
}
