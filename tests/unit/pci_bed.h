/* SPDX-License-Identifier: BSD-2-Clause */
/* pci_bed.h - what the PCI tests share: a machine with RAM, a chip, a host bridge and test functions. */
#ifndef TRAPLINE_TESTS_PCI_BED_H
#define TRAPLINE_TESTS_PCI_BED_H

#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include "core/thread.h"
#include "core/vm.h"
#include "pci/host.h"
#include "pci/testdev.h"

#define BED_ECAM    0xd1000000ULL
#define BED_IO      0x6200ULL
#define BED_IO_END  0x10000ULL
#define BED_MEM32   0xd2000000ULL
#define BED_MEM64   0x8000000000ULL
#define BED_RAM     0x4000000ULL /* bytes, from 0 */
#define BED_CHIP    0xe0000000ULL
#define BED_CHIP_IO 0x7000ULL

#define BED_TESTS 3

struct bed {
	struct vm vm;
	struct initiator cpu;
	struct region ram, chip, chip_io;
	struct device *host;
	struct pci_bus *pci;
	struct device *test[BED_TESTS];
	unsigned levels[IRQ_LINES], edges; /* what the interrupt chip sees */
};

static inline void bed_set_line(void *chip, unsigned line, bool level)
{
	struct bed *bed = chip;

	bed->levels[line] = level;
	bed->edges++;
}

static const struct irqchip_ops bed_irqchip = { .set_line = bed_set_line };

static inline struct device *bed_new_test(struct bed *bed, const char *name)
{
	struct error err;
	struct device *dev;

	assert_int_equal(pci_test_type.create(&bed->vm, name, NULL, &dev, &err), 0);
	assert_int_equal(vm_add_devices(&bed->vm, &dev, 1, &err), 0);
	return dev;
}

/* Plugged into slot 1 + i, powered on. */
static inline void bed_add_test(struct bed *bed, unsigned i)
{
	static const char *const names[BED_TESTS] = { "test0", "test1", "test2" };
	struct error err;

	bed->test[i] = bed_new_test(bed, names[i]);
	assert_int_equal(pci_bus_add(bed->pci, pci_function_of(bed->test[i]), 1 + i, 0, &err), 0);
	device_power_on(bed->test[i]);
}

static inline void bed_foreign(
	struct bed *bed, struct region *region, enum region_kind kind, enum space space, uint64_t base, uint64_t size)
{
	*region = (struct region){ .name = "foreign", .kind = kind, .space = space, .base = base, .size = size };
	if (kind == REGION_RAM)
		assert_int_equal(memory_new(size, &region->memory), 0);
	assert_int_equal(bus_add(bed->vm.bus, region), 0);
}

static inline const struct pci_host_config *bed_config(void)
{
	static const struct pci_host_config config = {
		.windows = { .io = { BED_IO, BED_IO_END - BED_IO },
			.mem32 = { BED_MEM32, 0x0c000000 },
			.mem64 = { BED_MEM64, 0x100000000 } },
		.gsi = { 16, 17, 18, 19 },
		.ports = true,
		.buses = 16,
	};

	return &config;
}

static inline void bed_place_host(struct device *host)
{
	host->regions[0]->space = SPACE_PIO;
	host->regions[0]->base = 0xcf8;
	host->regions[1]->space = SPACE_PIO;
	host->regions[1]->base = 0xcfc;
	host->regions[2]->space = SPACE_MMIO;
	host->regions[2]->base = BED_ECAM;
}

static inline int bed_setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct error err;

	thread_adopt();
	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	irq_router_fini(&bed->vm.irqs);
	irq_router_init(&bed->vm.irqs, &bed_irqchip, bed);
	bed->cpu.name = "test";
	bus_attach(bed->vm.bus, &bed->cpu);
	bed_foreign(bed, &bed->ram, REGION_RAM, SPACE_MMIO, 0, BED_RAM);
	bed_foreign(bed, &bed->chip, REGION_HELD, SPACE_MMIO, BED_CHIP, 0x1000);
	bed_foreign(bed, &bed->chip_io, REGION_HELD, SPACE_PIO, BED_CHIP_IO, 8);
	assert_int_equal(pci_host_type.create(&bed->vm, "pci0", bed_config(), &bed->host, &err), 0);
	bed_place_host(bed->host);
	assert_int_equal(vm_add_devices(&bed->vm, &bed->host, 1, &err), 0);
	device_power_on(bed->host);
	bed->pci = pci_host_bus(bed->host);
	for (unsigned i = 0; i < BED_TESTS; i++)
		bed_add_test(bed, i);
	*state = bed;
	return 0;
}

static inline int bed_teardown(void **state)
{
	struct bed *bed = *state;

	bus_remove(bed->vm.bus, &bed->ram);
	bus_drain(bed->vm.bus);
	memory_put(bed->ram.memory);
	bus_remove(bed->vm.bus, &bed->chip);
	bus_remove(bed->vm.bus, &bed->chip_io);
	bus_detach(&bed->cpu);
	vm_fini(&bed->vm);
	free(bed);
	thread_release();
	return 0;
}

static inline uint64_t bed_read(struct bed *bed, enum space space, uint64_t addr, unsigned len)
{
	uint64_t value = 0;

	bus_access(bed->vm.bus, &bed->cpu, space, addr, &value, len, 1, false);
	return value;
}

static inline void bed_write(struct bed *bed, enum space space, uint64_t addr, unsigned len, uint64_t value)
{
	bus_access(bed->vm.bus, &bed->cpu, space, addr, &value, len, 1, true);
}

static inline bool bed_claimed(struct bed *bed, enum space space, uint64_t addr)
{
	uint8_t byte;

	return bus_access(bed->vm.bus, &bed->cpu, space, addr, &byte, 1, 1, false) == 1;
}

static inline uint64_t ecam(unsigned slot, unsigned function, unsigned reg)
{
	return BED_ECAM + ((uint64_t)pci_devfn(slot, function) << 12) + reg;
}

static inline uint32_t cfg_read(struct bed *bed, unsigned slot, unsigned reg, unsigned len)
{
	return (uint32_t)bed_read(bed, SPACE_MMIO, ecam(slot, 0, reg), len);
}

static inline void cfg_write(struct bed *bed, unsigned slot, unsigned reg, unsigned len, uint32_t value)
{
	bed_write(bed, SPACE_MMIO, ecam(slot, 0, reg), len, value);
}

static inline uint32_t port_read(struct bed *bed, unsigned slot, unsigned reg, unsigned len)
{
	bed_write(bed, SPACE_PIO, 0xcf8, 4, 1U << 31 | slot << 11 | (reg & 0xfc));
	return (uint32_t)bed_read(bed, SPACE_PIO, 0xcfc + (reg & 3), len);
}

static inline void port_write(struct bed *bed, unsigned slot, unsigned reg, unsigned len, uint32_t value)
{
	bed_write(bed, SPACE_PIO, 0xcf8, 4, 1U << 31 | slot << 11 | (reg & 0xfc));
	bed_write(bed, SPACE_PIO, 0xcfc + (reg & 3), len, value);
}

static inline unsigned bar_reg(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* What the guest sees as BAR 0's, 2's or 4's address. */
static inline uint64_t bar_address(struct bed *bed, unsigned slot, unsigned bar)
{
	uint64_t addr = cfg_read(bed, slot, bar_reg(bar), 4);

	if (bar == 4)
		return addr & ~3ULL;
	if (bar == 2)
		addr |= (uint64_t)cfg_read(bed, slot, bar_reg(3), 4) << 32;
	return addr & ~0xfULL;
}

static inline void enable(struct bed *bed, unsigned slot)
{
	cfg_write(bed, slot, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

static inline uint32_t test_reg(struct bed *bed, uint64_t base, unsigned reg)
{
	return (uint32_t)bed_read(bed, SPACE_MMIO, base + reg, 4);
}

#endif
