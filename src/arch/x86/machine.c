/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.c - the x86-64 machine's data sheet: which device, which space, which address, which interrupt.
 *
 * docs/memory-map.md shows the same to users. Addresses of RAM and of what the kernel answers are in layout.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/place.h"
#include "arch/x86/board.h"
#include "desc/acpi.h"
#include "dev/acpi_pm.h"
#include "dev/cmos.h"
#include "dev/debugcon.h"
#include "dev/held.h"
#include "dev/i8042.h"
#include "dev/pcports.h"
#include "dev/report.h"
#include "dev/serial.h"
#include "pci/host.h"
#include "pci/piix.h"
#include "pci/testdev.h"

#define IOAPIC_BASE 0xfec00000
#define LAPIC_BASE  0xfee00000
#define SCI         9
#define ISA_LINES   16
/*
 * As many as there are: no bridge leads to another, and Linux asks each slot of each bus that ECAM has, by two port
 * accesses. The layout keeps room for more.
 */
#define ECAM_BUSES (LAYOUT_ECAM_SIZE / PCI_ECAM_BUS_SIZE)

#define PM_EVENT   0x600
#define PM_CONTROL 0x604
#define PM_TIMER   0x608
#define PM_RESET   0x60c

#define PCI_ADDRESS 0xcf8
#define PCI_DATA    0xcfc

/*
 * Registers of virtio devices that are not on PCI; with firmware, which has BARs anywhere below the IOAPIC, above that. One
 * has an interrupt of its own as far as there are any, and they share theirs beyond.
 */
#define VIRTIO_MMIO          0xd0000000ULL
#define VIRTIO_MMIO_FIRMWARE 0xfed00000ULL
#define VIRTIO_MMIO_SIZE     0x200
#define VIRTIO_MMIO_DEVICES  64
static const uint32_t virtio_lines[] = { 20, 21, 22, 23, 5, 10, 11, 14, 15 };

#define PCI_MEM32          0xd2000000ULL
#define PCI_MEM32_END      0xfec00000ULL
#define PCI_MEM32_FIRMWARE 0x80000000ULL
#define PCI_IO             0x6200ULL
#define PCI_IO_END         0x10000ULL
/* 64-bit BARs lie above all RAM, on a bound that suits large BARs. */
#define PCI_MEM64_ALIGN (1ULL << 30)
#define PCI_MEM64_SIZE  (16ULL << 30)

/* The kernel's chips: nothing of ours answers there, and nothing else may stand there. */
static const struct held_place kernel_chips[] = {
	{ "pic1", SPACE_PIO, 0x20, 2 },
	{ "pit", SPACE_PIO, 0x40, 4 },
	{ "speaker", SPACE_PIO, 0x61, 1 },
	{ "pic2", SPACE_PIO, 0xa0, 2 },
	{ "elcr", SPACE_PIO, 0x4d0, 2 },
	{ "ioapic", SPACE_MMIO, IOAPIC_BASE, 0x1000 },
	{ "lapic and msi", SPACE_MMIO, LAPIC_BASE, 0x100000 },
	{ "kvm's own", SPACE_MMIO, LAYOUT_KVM_IDENTITY, LAYOUT_KVM_END - LAYOUT_KVM_IDENTITY },
};
static const struct held_config kernel_config = { .places = kernel_chips,
	.n = sizeof(kernel_chips) / sizeof(kernel_chips[0]) };

/* KVM's IOAPIC has 24 inputs. The PIT's interrupt is input 0 or 2, and 2 of the PICs is their cascade. */
#define IRQ_INPUTS 24
static const struct place_line lines_taken[] = {
	{ 0, "the timer", false },
	{ 2, "the timer", false },
	{ BOARD_GSI_PCI, "PCI", true },
	{ BOARD_GSI_PCI + 1, "PCI", true },
	{ BOARD_GSI_PCI + 2, "PCI", true },
	{ BOARD_GSI_PCI + 3, "PCI", true },
};

#define SERIAL(n)                                                                                                      \
	{                                                                                                              \
		.line = (n), .trigger = IRQ_EDGE, .out2_gates_irq = true                                               \
	}
static const struct serial_config serials[] = { SERIAL(0), SERIAL(1), SERIAL(2), SERIAL(3) };

/*
 * Above RAM, where the guest's addresses go that far: a window that the CPU cannot reach would be worse than none.
 */
static struct pci_window mem64_window(const struct board *board)
{
	const struct region *last = &board->ram[board->nr_ram - 1];
	uint64_t base = last->base + last->size, limit = 1ULL << board_phys_bits();

	if (base < LAYOUT_HOLE_END)
		base = LAYOUT_HOLE_END;
	base = (base + PCI_MEM64_ALIGN - 1) & ~(PCI_MEM64_ALIGN - 1);
	if (base >= limit || limit - base < PCI_MEM64_SIZE)
		return (struct pci_window){ 0 };
	return (struct pci_window){ base, PCI_MEM64_SIZE };
}

/*
 * Firmware places BARs itself, by its own knowledge of the chips: anywhere between RAM and the IOAPIC. It has no place
 * for an ECAM window, which a 440FX does not have either.
 */
static struct pci_window mem32_window(const struct board *board)
{
	uint64_t base = board->config.firmware ? board->ram[0].size : PCI_MEM32;

	if (board->config.firmware && base < PCI_MEM32_FIRMWARE)
		base = PCI_MEM32_FIRMWARE;
	return (struct pci_window){ base, PCI_MEM32_END - base };
}

/* The type of what carries a virtio device. */
static const struct device_type *const virtio_carriers[NR_VIRTIO_TRANSPORTS] = {
	[VIRTIO_ON_PCI] = &virtio_pci_type,
	[VIRTIO_ON_PCI_LEGACY] = &virtio_pci_type,
	[VIRTIO_ON_MMIO] = &virtio_mmio_type,
	[VIRTIO_ON_MMIO_LEGACY] = &virtio_mmio_type,
};

static bool on_pci(const struct guest_virtio *device)
{
	return device->transport == VIRTIO_ON_PCI || device->transport == VIRTIO_ON_PCI_LEGACY;
}

static int too_many(const struct guest_virtio *device, const char *what, struct error *err)
{
	err->status = STATUS_USAGE;
	error_set(err, -ENOSPC, "%.200s: %s", device->option, what);
	error_hint(err, "the key transport=%s puts a device elsewhere", on_pci(device) ? "mmio" : "pci");
	return -ENOSPC;
}

/* The machine's own devices, and virtio devices on MMIO, which can be moved like them. */
static int place_all(struct board *board, const struct placement *own, unsigned nr_own, const struct place_moves *moves,
	struct error *err)
{
	const struct guest_config *config = &board->config;
	const uint64_t base = config->firmware ? VIRTIO_MMIO_FIRMWARE : VIRTIO_MMIO;
	struct placement *table = calloc(nr_own + config->nr_virtio, sizeof(*table));
	unsigned n = 0;
	int r = 0;

	if (!table)
		return error_set(err, -ENOMEM, "no memory for the machine's table");
	memcpy(table, own, nr_own * sizeof(*table));
	for (unsigned i = 0; r == 0 && i < config->nr_virtio; i++) {
		const struct guest_virtio *device = &config->virtio[i];

		if (on_pci(device))
			continue;
		if (n == VIRTIO_MMIO_DEVICES)
			r = too_many(device, "this machine has no place for another virtio device on MMIO", err);
		else
			table[nr_own + n] = (struct placement){
				.name = device->name,
				.type = virtio_carriers[device->transport],
				.config = &device->config,
				.at = { MMIO(base + (uint64_t)n * VIRTIO_MMIO_SIZE) },
				.irqs = { virtio_lines[n % (sizeof(virtio_lines) / sizeof(virtio_lines[0]))] },
			};
		n++;
	}
	if (r == 0)
		r = place_moved(board->vm, table, nr_own + n, moves, err);
	free(table);
	return r;
}

/* One line a device; `at` in the order in which the type declares its regions. */
static int build_legacy(struct board *board, struct error *err)
{
	const struct cmos_config cmos_config = {
		.ram_low = board->ram[0].size,
		.ram_high = board->nr_ram > 1 ? board->ram[1].size : 0,
	};
	const struct pci_host_config host_config = {
		.windows = {
			.io = { PCI_IO, PCI_IO_END - PCI_IO },
			.mem32 = mem32_window(board),
			.mem64 = mem64_window(board),
		},
		.ports = true,
		.i440fx = board->config.firmware,
		.buses = board->config.firmware ? 0 : ECAM_BUSES,
		.gsi = { BOARD_GSI_PCI, BOARD_GSI_PCI + 1, BOARD_GSI_PCI + 2, BOARD_GSI_PCI + 3 },
	};
	const struct place_window windows[] = {
		{ "PCI's I/O window", SPACE_PIO, host_config.windows.io.base, host_config.windows.io.size },
		{ "PCI's 32-bit window", SPACE_MMIO, host_config.windows.mem32.base, host_config.windows.mem32.size },
		{ "PCI's 64-bit window", SPACE_MMIO, host_config.windows.mem64.base, host_config.windows.mem64.size },
	};
	const struct place_moves moves = {
		.text = board->config.place,
		.n = board->config.nr_place,
		.limits = { [SPACE_PIO] = 0x10000, [SPACE_MMIO] = 1ULL << board_phys_bits() },
		.lines = IRQ_INPUTS,
		.windows = windows,
		.nr_windows = sizeof(windows) / sizeof(windows[0]),
		.taken = lines_taken,
		.nr_taken = sizeof(lines_taken) / sizeof(lines_taken[0]),
	};
	const struct report_config report_config = { .exit = board->config.exit_port };
	const struct placement table[] = {
		{ "kernel", &held_type, &kernel_config },
		{ "i8042", &i8042_type, NULL, .at = { PIO(0x60), PIO(0x64) }, .irqs = { 1, 12 } },
		{ "rtc", &cmos_type, &cmos_config, .at = { PIO(0x70) }, .irqs = { 8 } },
		{ "post", &post_type, NULL, .at = { PIO(0x80) } },
		{ "syscontrol", &syscontrol_type, NULL, .at = { PIO(0x92) } },
		{ "serial0", &serial_type, &serials[0], .at = { PIO(0x3f8) }, .irqs = { 4 } },
		{ "serial1", &serial_type, &serials[1], .at = { PIO(0x2f8) }, .irqs = { 3 } },
		{ "serial2", &serial_type, &serials[2], .at = { PIO(0x3e8) }, .irqs = { 4 } },
		{ "serial3", &serial_type, &serials[3], .at = { PIO(0x2e8) }, .irqs = { 3 } },
		{ "acpi-pm", &acpi_pm_type, NULL,
			.at = { PIO(PM_EVENT), PIO(PM_CONTROL), PIO(PM_TIMER), PIO(PM_RESET) }, .irqs = { SCI } },
		{ "pvpanic", &pvpanic_type, NULL, .at = { PIO(0x505) } },
		{ "report", &report_type, &report_config, .at = { PIO(0xf4), PIO(0x3f0) } },
		{ "pci", &pci_host_type, &host_config, .at = { PIO(PCI_ADDRESS), PIO(PCI_DATA), MMIO(LAYOUT_ECAM) } },
		/* The last, because only who asks for it has one: a guest that finds it talks to it. */
		{ "debugcon", &debugcon_type, NULL, .at = { PIO(0xe9) } },
	};
	const unsigned n = sizeof(table) / sizeof(table[0]) - !board->vm->debugcon;

	return place_all(board, table, n, &moves, err);
}

/* NULL: none, in a machine with firmware. */
static const struct region *ecam_of(const struct board *board)
{
	return board->config.firmware ? NULL : vm_device(board->vm, "pci")->regions[2];
}

uint64_t board_ecam(const struct board *board)
{
	const struct region *ecam = ecam_of(board);

	return ecam ? ecam->base : 0;
}

static bool stands_at(const struct board *board, const char *name, unsigned region, uint64_t port)
{
	const struct region *r = vm_device(board->vm, name)->regions[region];

	return r->space == SPACE_PIO && r->base == port;
}

/* Where firmware has these by heart. */
static int check_firmware_places(const struct board *board, struct error *err)
{
	const struct {
		const char *device;
		unsigned region;
		uint64_t port;
	} places[] = {
		{ "acpi-pm", ACPI_PM_EVENT, PM_EVENT },
		{ "acpi-pm", ACPI_PM_CONTROL, PM_CONTROL },
		{ "acpi-pm", ACPI_PM_TIMER, PM_TIMER },
		{ "pci", 0, PCI_ADDRESS },
		{ "pci", 1, PCI_DATA },
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (!stands_at(board, places[i].device, places[i].region, places[i].port))
			return error_set(err, -EINVAL,
				"--place %s: with --firmware it stays at its ports, %#llx and on", places[i].device,
				(unsigned long long)places[i].port);
	}
	return 0;
}

/* What the tables cannot say of a machine whose devices were moved. */
static int check_moved(struct board *board, struct error *err)
{
	const struct device *pm = vm_device(board->vm, "acpi-pm");
	const struct region *ecam = ecam_of(board);

	err->status = STATUS_USAGE;
	if (pm->irqs[0]->line >= ISA_LINES)
		return error_set(err, -EINVAL, "--place acpi-pm: interrupt %u: the SCI is one of 0 to %d",
			pm->irqs[0]->line, ISA_LINES - 1);
	if (ecam && ecam->base % PCI_ECAM_BUS_SIZE)
		return error_set(err, -EINVAL, "--place pci: '%s' at %#llx is not aligned to 1 MiB", ecam->name,
			(unsigned long long)ecam->base);
	if (board->config.firmware && check_firmware_places(board, err))
		return -EINVAL;
	err->status = 0;
	return 0;
}

/* PCI functions have a slot instead of addresses: their BARs are placed from the bridge's windows. */
struct pci_placement {
	const char *name;
	const struct device_type *type;
	unsigned slot, function;
	bool wanted;
	const void *config;
};

static int add_function(struct board *board, const struct pci_placement *line, struct error *err)
{
	/* The bus connects the wire, by slot and pin. */
	const struct placement made = {
		.name = line->name, .type = line->type, .config = line->config, .irqs = { IRQ_NONE }
	};
	struct device *dev;
	int r = place_devices(board->vm, &made, 1, err);

	if (r)
		return r;
	dev = vm_device(board->vm, line->name);
	r = pci_bus_add(board->pci, container_of(dev, struct pci_function, dev), line->slot, line->function, err);
	if (r)
		vm_remove_device(dev);
	return r;
}

/* Each in a slot of its own, from `slot` on. */
static int add_virtio(struct board *board, unsigned slot, struct error *err)
{
	const struct guest_config *config = &board->config;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < config->nr_virtio; i++) {
		const struct guest_virtio *device = &config->virtio[i];
		const struct pci_placement line = { device->name, virtio_carriers[device->transport], slot, 0, true,
			&device->config };

		if (!on_pci(device))
			continue;
		if (slot == PCI_SLOTS)
			return too_many(device, "all slots of the PCI bus are taken", err);
		r = add_function(board, &line, err);
		slot++;
	}
	return r;
}

int board_build(struct board *board, struct error *err)
{
	const struct guest_config *config = &board->config;
	const bool firmware = config->firmware;
	const struct piix_power_config power = { .pm_base = PM_EVENT };
	const unsigned tests = config->pci_test_functions ? config->pci_test_functions : config->pci_test;
	const unsigned slot = firmware ? PIIX_SLOT + 1 : 1;
	static const struct pci_test_config first = { .pin = 1, .msix = true };
	static const struct pci_test_config pins[PCI_PINS] = { { 1 }, { 2 }, { 3 }, { 4 } };
	/* Test functions have their pins in turn, so that some share a wire and others do not. */
	const struct pci_placement functions[] = {
		{ "south-bridge", &piix_isa_type, PIIX_SLOT, PIIX_ISA, firmware, NULL },
		{ "south-bridge-pm", &piix_power_type, PIIX_SLOT, PIIX_POWER, firmware, &power },
		{ "pci-test", &pci_test_type, slot, 0, tests > 0, &first },
		{ "pci-test1", &pci_test_type, slot, 1, tests > 1, &pins[1] },
		{ "pci-test2", &pci_test_type, slot, 2, tests > 2, &pins[2] },
		{ "pci-test3", &pci_test_type, slot, 3, tests > 3, &pins[3] },
		{ "pci-test4", &pci_test_type, slot, 4, tests > 4, &pins[0] },
		{ "pci-test5", &pci_test_type, slot, 5, tests > 5, &pins[1] },
		{ "pci-test6", &pci_test_type, slot, 6, tests > 6, &pins[2] },
		{ "pci-test7", &pci_test_type, slot, 7, tests > 7, &pins[3] },
	};
	int r = build_legacy(board, err);

	if (r == 0)
		r = check_moved(board, err);
	if (r)
		return r;
	board->pci = pci_host_bus(vm_device(board->vm, "pci"));
	if (firmware)
		r = firmware_build(board, err);
	for (size_t i = 0; r == 0 && i < sizeof(functions) / sizeof(functions[0]); i++) {
		if (functions[i].wanted)
			r = add_function(board, &functions[i], err);
	}
	if (r == 0)
		r = add_virtio(board, slot + (tests > 0), err);
	return r;
}

static struct acpi_block block_of(const struct device *dev, unsigned region)
{
	const struct region *r = dev->regions[region];

	return (struct acpi_block){ .space = r->space, .base = r->base, .len = (uint8_t)r->size };
}

int board_tables(struct board *board, uint64_t gpa, struct acpi_tables *tables, struct error *err)
{
	const struct device *pm = vm_device(board->vm, "acpi-pm");
	uint32_t *apic_ids = calloc(board->config.cpus, sizeof(*apic_ids));
	struct acpi_platform platform = {
		.apic_ids = apic_ids,
		.nr_cpus = board->config.cpus,
		.lapic_base = LAPIC_BASE,
		.ioapic_base = IOAPIC_BASE,
		.pic = true,
		.timer_gsi = 2,
		.sci = pm->irqs[0]->line,
		.pm1_event = block_of(pm, ACPI_PM_EVENT),
		.pm1_control = block_of(pm, ACPI_PM_CONTROL),
		.pm_timer = block_of(pm, ACPI_PM_TIMER),
		.reset = block_of(pm, ACPI_PM_RESET),
		.reset_value = ACPI_PM_RESET_VALUE,
		.s5 = ACPI_PM_S5,
		.century = CMOS_CENTURY,
		.boot_arch = ACPI_BOOT_LEGACY_DEVICES | ACPI_BOOT_NO_VGA | ACPI_BOOT_NO_ASPM,
		.console = vm_device(board->vm, "serial0"),
		.ecam_base = board_ecam(board),
		.ecam_last_bus = ECAM_BUSES - 1,
		.max_size = LAYOUT_ACPI_END - LAYOUT_ACPI,
	};
	int r;

	if (!apic_ids)
		return error_set(err, -ENOMEM, "no memory for the ACPI tables");
	for (unsigned i = 0; i < board->config.cpus; i++)
		apic_ids[i] = i;
	/* These flags are about the ports of a PC, not about the chips. */
	if (stands_at(board, "i8042", 0, 0x60) && stands_at(board, "i8042", 1, 0x64))
		platform.boot_arch |= ACPI_BOOT_8042;
	if (!stands_at(board, "rtc", 0, 0x70))
		platform.boot_arch |= ACPI_BOOT_NO_CMOS;
	r = acpi_build(&platform, board->vm, gpa, tables, err);
	free(apic_ids);
	return r ? error_prefix(err, r, "ACPI tables") : 0;
}

int board_describe(struct board *board, uint64_t *rsdp, struct error *err)
{
	struct acpi_tables tables;
	int r = board_tables(board, LAYOUT_ACPI, &tables, err);

	if (r)
		return r;
	*rsdp = tables.rsdp;
	r = mem_write(&board->vm->mem, tables.gpa, tables.bytes, tables.length);
	acpi_free(&tables);
	return r ? error_set(err, r, "no RAM for the ACPI tables") : 0;
}
