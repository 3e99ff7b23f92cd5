/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.c - the arm64 machine's data sheet: which device, which address, which interrupt. Addresses are in layout.h.
 */
#include <errno.h>
#include <string.h>

#include "arch/arm64/board.h"
#include "arch/guest_devices.h"
#include "dev/cmos.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/gicv2m.h"
#include "dev/held.h"
#include "dev/pl031.h"
#include "dev/pl061.h"
#include "dev/report.h"
#include "dev/serial.h"
#include "pci/host.h"

/* Of a port; what is below belongs to devices that a PC has there. */
#define PCI_IO      0x6200ULL
#define PCI_IO_SIZE (LAYOUT_PORTS_SIZE - PCI_IO)

#define SERIAL(n)                                                                                                      \
	{                                                                                                              \
		.line = (n), .trigger = IRQ_LEVEL                                                                      \
	}
static const struct serial_config serials[] = { SERIAL(0), SERIAL(1), SERIAL(2), SERIAL(3) };

static const struct cmos_config cmos_config = { .trigger = IRQ_LEVEL };

static const struct placement rtcs[] = {
	[RTC_PL031] = { "rtc", &pl031_type, NULL, .at = { MMIO(LAYOUT_RTC) }, .irqs = { LAYOUT_LINE_RTC } },
	[RTC_MC146818] = { "rtc", &cmos_type, &cmos_config, .at = { MMIO(LAYOUT_RTC) }, .irqs = { LAYOUT_LINE_RTC } },
};
_Static_assert(sizeof(rtcs) / sizeof(rtcs[0]) == NR_RTCS, "a line for each chip");

static const struct pl061_config gpio_config = { .power = LAYOUT_PIN_POWER };

static const struct place_line lines_taken[] = {
	{ LAYOUT_LINE_PCI, "PCI", true },
	{ LAYOUT_LINE_PCI + 1, "PCI", true },
	{ LAYOUT_LINE_PCI + 2, "PCI", true },
	{ LAYOUT_LINE_PCI + 3, "PCI", true },
};

static const struct place_window windows[] = {
	{ "PCI's I/O window", SPACE_PIO, PCI_IO, PCI_IO_SIZE },
	{ "PCI's 32-bit window", SPACE_MMIO, LAYOUT_PCI_MEM, LAYOUT_PCI_MEM_SIZE },
	/* Whether there is one is known only when KVM is asked. */
	{ "the GICv2m frame", SPACE_MMIO, LAYOUT_MSI, 0x1000 },
	/* The last: where there is a flash. */
	{ "the flash", SPACE_MMIO, LAYOUT_FLASH, FLASH_MAX },
};

uint64_t arm64_redist(unsigned cpus)
{
	return LAYOUT_GIC_DIST - cpus * LAYOUT_REDIST_SIZE;
}

uint64_t arm64_its(unsigned cpus)
{
	return arm64_redist(cpus) - LAYOUT_ITS_SIZE;
}

/* Up to 16 in a cluster, as GICv3's messages to other CPUs want it. */
uint64_t arm64_affinity(unsigned cpu)
{
	return (cpu & 0xf) | (uint64_t)(cpu >> 4 & 0xff) << 8 | (uint64_t)(cpu >> 12 & 0xff) << 16;
}

/* The guest reaches ports by memory accesses, and devices that are in them or in BARs do not know. */
static int add_ports(struct board *board, struct error *err)
{
	int r;

	board->ports = (struct region){
		.name = "ports",
		.kind = REGION_ALIAS,
		.space = SPACE_MMIO,
		.base = LAYOUT_PORTS,
		.size = LAYOUT_PORTS_SIZE,
		.target_space = SPACE_PIO,
		.target_base = 0,
	};
	r = bus_add(board->vm->bus, &board->ports);
	return r ? error_set(err, r, "the window on ports: %s", strerror(-r)) : 0;
}

/* Memory that belongs to none of the guest's: KVM writes there, and the guest reads. */
static int add_pvtime(struct board *board, struct error *err)
{
	struct memory *memory;
	int r = memory_new(LAYOUT_PVTIME_SIZE, &memory);

	if (r)
		return error_set(err, r, "no memory for stolen time: %s", strerror(-r));
	board->pvtime = (struct region){
		.name = "stolen time",
		.kind = REGION_RAM,
		.space = SPACE_MMIO,
		.base = LAYOUT_PVTIME,
		.size = LAYOUT_PVTIME_SIZE,
		.memory = memory,
	};
	r = bus_add(board->vm->bus, &board->pvtime);
	/* The region has a reference of its own now, or nobody has one. */
	memory_put(memory);
	return r ? error_set(err, r, "stolen time at %#llx: %s", LAYOUT_PVTIME, strerror(-r)) : 0;
}

/* One line a device; `at` in the order in which the type declares its regions. */
static int build_own(struct board *board, enum rtc rtc, struct error *err)
{
	/* Redistributors, or a GICv2's CPU interface, which lies where the first of them would. */
	const uint64_t its = arm64_its(board->config.cpus), redist = arm64_redist(board->config.cpus);
	const struct held_place chips[] = {
		{ "gic its", SPACE_MMIO, its, LAYOUT_ITS_SIZE },
		{ "gic cpus", SPACE_MMIO, redist, LAYOUT_GIC_DIST - redist },
		{ "gic distributor", SPACE_MMIO, LAYOUT_GIC_DIST, LAYOUT_GIC_DIST_SIZE },
	};
	const struct held_config held_config = { .places = chips, .n = sizeof(chips) / sizeof(chips[0]) };
	const struct pci_host_config host_config = {
		.windows = {
			.io = { PCI_IO, PCI_IO_SIZE },
			.mem32 = { LAYOUT_PCI_MEM, LAYOUT_PCI_MEM_SIZE },
		},
		.unseen = true,
		.buses = LAYOUT_ECAM_BUSES,
		.gsi = { LAYOUT_LINE_PCI, LAYOUT_LINE_PCI + 1, LAYOUT_LINE_PCI + 2, LAYOUT_LINE_PCI + 3 },
	};
	const struct place_moves moves = {
		.text = board->config.place,
		.n = board->config.nr_place,
		.limits = { [SPACE_PIO] = LAYOUT_PORTS_SIZE, [SPACE_MMIO] = LAYOUT_RAM },
		.lines = LAYOUT_LINE_MSI,
		.windows = windows,
		.nr_windows = sizeof(windows) / sizeof(windows[0]) - !board->config.flash,
		.taken = lines_taken,
		.nr_taken = sizeof(lines_taken) / sizeof(lines_taken[0]),
	};
	const struct report_config report_config = { .exit = board->config.exit_port };
	const struct placement table[] = {
		{ "kernel", &held_type, &held_config },
		{ "serial0", &serial_type, &serials[0], .at = { MMIO(LAYOUT_UART) }, .irqs = { LAYOUT_LINE_UART } },
		{ "serial1", &serial_type, &serials[1], .at = { MMIO(LAYOUT_UART + LAYOUT_UART_STEP) },
			.irqs = { LAYOUT_LINE_UART + 1 } },
		{ "serial2", &serial_type, &serials[2], .at = { MMIO(LAYOUT_UART + 2 * LAYOUT_UART_STEP) },
			.irqs = { LAYOUT_LINE_UART + 2 } },
		{ "serial3", &serial_type, &serials[3], .at = { MMIO(LAYOUT_UART + 3 * LAYOUT_UART_STEP) },
			.irqs = { LAYOUT_LINE_UART + 3 } },
		rtcs[rtc],
		{ "gpio", &pl061_type, &gpio_config, .at = { MMIO(LAYOUT_GPIO) }, .irqs = { LAYOUT_LINE_GPIO } },
		{ "pvpanic", &pvpanic_type, NULL, .at = { MMIO(LAYOUT_PVPANIC) } },
		{ "report", &report_type, &report_config, .at = { MMIO(LAYOUT_REPORT), MMIO(LAYOUT_READY) } },
		{ "pci", &pci_host_type, &host_config, .at = { MMIO(LAYOUT_ECAM) } },
		/* The last, because only who asks for it has one. */
		{ "debugcon", &debugcon_type, NULL, .at = { MMIO(LAYOUT_DEBUGCON) } },
	};
	const unsigned n = sizeof(table) / sizeof(table[0]) - !board->vm->debugcon;
	uint32_t lines[LAYOUT_VIRTIO_LINES];
	const struct virtio_room room = {
		.base = LAYOUT_VIRTIO,
		.step = LAYOUT_VIRTIO_STEP,
		.devices = LAYOUT_VIRTIO_LINES,
		.lines = lines,
		.nr_lines = LAYOUT_VIRTIO_LINES,
	};

	for (unsigned i = 0; i < LAYOUT_VIRTIO_LINES; i++)
		lines[i] = LAYOUT_LINE_VIRTIO + i;
	return guest_place(board->vm, &board->config, &room, table, n, &moves, err);
}

int arm64_add_frame(struct board *board, struct error *err)
{
	static const struct gicv2m_config config = {
		.intid = 32 + LAYOUT_LINE_MSI, .line = LAYOUT_LINE_MSI, .n = LAYOUT_MSI_LINES
	};
	static const struct placement table[] = { { "msi", &gicv2m_type, &config, .at = { MMIO(LAYOUT_MSI) } } };

	return place_devices(board->vm, table, 1, err);
}

/* It begins where its window does, which has room for the largest. */
static int add_flash(struct board *board, struct error *err)
{
	const struct flash_config config = { .path = board->config.flash, .pair = true };
	const struct placement table[] = { { "flash", &flash_type, &config, .at = { MMIO(LAYOUT_FLASH) } } };

	return place_devices(board->vm, table, 1, err);
}

int arm64_build(struct board *board, struct error *err)
{
	enum rtc rtc;
	int r = arm64_rtc(&board->config, &rtc, err);

	if (r == 0)
		r = add_ports(board, err);
	if (r == 0 && !board->config.arm.no_pvtime)
		r = add_pvtime(board, err);
	if (r == 0)
		r = build_own(board, rtc, err);
	/* Where the best is asked for, it is known when KVM has been asked. */
	if (r == 0 && board->gic == GIC_V2M)
		r = arm64_add_frame(board, err);
	if (r == 0 && board->config.flash)
		r = add_flash(board, err);
	if (r == 0 && board->config.firmware)
		r = arm64_firmware_open(board, err);
	if (r)
		return r;
	board->pci = pci_host_bus(vm_device(board->vm, "pci"));
	return guest_place_functions(board->vm, board->pci, &board->config, 1, err);
}
