/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.c - the x86-64 machine's data sheet: which device, which space, which address, which interrupt.
 *
 * docs/memory-map.md shows the same to users. Addresses of RAM and of what the kernel answers are in layout.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/guest_devices.h"
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
 * Registers of virtio devices that are not on PCI; with firmware, which has BARs anywhere below the IOAPIC, above that.
 * One has an interrupt of its own as far as there are any, and they share theirs beyond.
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
	const struct virtio_room room = {
		.base = board->config.firmware ? VIRTIO_MMIO_FIRMWARE : VIRTIO_MMIO,
		.step = VIRTIO_MMIO_SIZE,
		.devices = VIRTIO_MMIO_DEVICES,
		.lines = virtio_lines,
		.nr_lines = sizeof(virtio_lines) / sizeof(virtio_lines[0]),
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

	return guest_place(board->vm, &board->config, &room, table, n, &moves, err);
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

int board_build(struct board *board, struct error *err)
{
	const bool firmware = board->config.firmware;
	const struct piix_power_config power = { .pm_base = PM_EVENT };
	const struct pci_placement bridge[] = {
		{ "south-bridge", &piix_isa_type, PIIX_SLOT, PIIX_ISA, NULL },
		{ "south-bridge-pm", &piix_power_type, PIIX_SLOT, PIIX_POWER, &power },
	};
	int r = build_legacy(board, err);

	if (r == 0)
		r = check_moved(board, err);
	if (r)
		return r;
	board->pci = pci_host_bus(vm_device(board->vm, "pci"));
	if (firmware)
		r = firmware_build(board, err);
	for (size_t i = 0; r == 0 && firmware && i < sizeof(bridge) / sizeof(bridge[0]); i++)
		r = guest_place_function(board->vm, board->pci, &bridge[i], err);
	if (r == 0)
		r = guest_place_functions(board->vm, board->pci, &board->config, firmware ? PIIX_SLOT + 1 : 1, err);
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
