/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tree.c - an arm64 machine's device tree: processors, interrupt controller, timers
 * and firmware; the rest is its devices.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arm64/board.h"
#include "arch/pci_node.h"
#include "desc/dt.h"

#define PHANDLE_GIC   1
#define PHANDLE_MSI   2
#define PHANDLE_CLOCK 3
#define PHANDLE_GPIO  4

#define APB_HZ 24000000

#define KEY_POWER 116 /* linux/input-event-codes.h */

/* Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml: kind, number, flags. */
enum { SPI, PPI };
#define FLAG_RISING 1
#define FLAG_HIGH   4
#define FLAG_LOW    8

/* PPIs of the timers: secure and non-secure physical, virtual, the hypervisor's physical, and with EL2 its virtual. */
static const uint32_t timers[] = { 13, 14, 11, 10, 12 };
#define NR_TIMERS 5

static void interrupt(unsigned line, enum irq_trigger trigger, uint32_t *cells)
{
	cells[0] = SPI;
	cells[1] = line;
	cells[2] = trigger == IRQ_EDGE ? FLAG_RISING : FLAG_HIGH;
}

static const struct dt_platform platform = {
	.ports = LAYOUT_PORTS,
	.clock_phandle = PHANDLE_CLOCK,
	.gpio_phandle = PHANDLE_GPIO,
	.irq_cells = 3,
	.irq = interrupt,
};

static void write_chosen(struct dt *dt, const struct board *board)
{
	char path[64];

	dt_begin(dt, "chosen");
	if (!board->config.firmware)
		dt_string(dt, "bootargs", board->cmdline);
	if (board->places.initrd_size) {
		dt_u64(dt, "linux,initrd-start", board->places.initrd);
		dt_u64(dt, "linux,initrd-end", board->places.initrd + board->places.initrd_size);
	}
	if (!board->config.arm.aarch32 && (board->random || board->config.arm.kaslr_seed))
		dt_u64(dt, "kaslr-seed", board->kaslr_seed);
	if (board->random)
		dt_bytes(dt, "rng-seed", board->rng_seed, sizeof(board->rng_seed));
	/*
	 * The last: EDK2 (of 2022, for kvmtool's machine) looks for this path's end in what
	 * follows, and finds some in random bytes.
	 */
	if (dt_path(vm_device(board->vm, "serial0"), &platform, path, sizeof(path)))
		dt_string(dt, "stdout-path", path);
	dt_end(dt);
}

static void write_memory(struct dt *dt, const struct board *board)
{
	const uint64_t reg[] = { board->ram.base, board->ram.size };

	dt_begin(dt, "memory@%llx", (unsigned long long)board->ram.base);
	dt_string(dt, "device_type", "memory");
	dt_reg(dt, reg, 1);
	dt_end(dt);
}

static void write_cpus(struct dt *dt, const struct board *board)
{
	dt_begin(dt, "cpus");
	dt_u32(dt, "#address-cells", 1);
	dt_u32(dt, "#size-cells", 0);
	for (unsigned i = 0; i < board->config.cpus; i++) {
		uint32_t affinity = (uint32_t)arm64_affinity(i);

		dt_begin(dt, "cpu@%x", affinity);
		dt_string(dt, "device_type", "cpu");
		/* As the binding has it, and as EDK2 knows it from kvmtool. */
		dt_strings(dt, "compatible", "arm,armv8/arm,arm-v8/");
		dt_u32(dt, "reg", affinity);
		if (board->config.cpus > 1)
			dt_string(dt, "enable-method", "psci");
		dt_end(dt);
	}
	dt_end(dt);
	dt_begin(dt, "psci");
	dt_strings(dt, "compatible", "arm,psci-1.0/arm,psci-0.2/");
	/* In EL2 HVC is a call of the guest's own hypervisor. */
	dt_string(dt, "method", board->config.arm.nested ? "smc" : "hvc");
	dt_end(dt);
}

/* Whom messages are sent to, below the GIC. An ITS wants to know the sender (1 cell); a GICv2's frame does not. */
static void write_msi(struct dt *dt, const char *compatible, bool sender, uint64_t base, uint64_t size)
{
	dt_begin(dt, "msi-controller@%llx", (unsigned long long)base);
	dt_string(dt, "compatible", compatible);
	dt_flag(dt, "msi-controller");
	if (sender)
		dt_u32(dt, "#msi-cells", 1);
	dt_reg(dt, (uint64_t[]){ base, size }, 1);
	dt_u32(dt, "phandle", PHANDLE_MSI);
	dt_end(dt);
}

static void write_gic(struct dt *dt, const struct board *board)
{
	const unsigned cpus = board->config.cpus;
	const uint32_t maintenance[] = { PPI, LAYOUT_PPI_MAINTENANCE, FLAG_HIGH };
	uint64_t reg[] = { LAYOUT_GIC_DIST, LAYOUT_GIC_DIST_SIZE, arm64_redist(cpus), cpus * LAYOUT_REDIST_SIZE };

	if (gic_is_v2(board->gic)) {
		reg[2] = LAYOUT_GICV2_CPU;
		reg[3] = LAYOUT_GICV2_SIZE;
	}
	dt_begin(dt, "interrupt-controller@%llx", (unsigned long long)reg[0]);
	dt_string(dt, "compatible", gic_is_v2(board->gic) ? "arm,cortex-a15-gic" : "arm,gic-v3");
	dt_flag(dt, "interrupt-controller");
	dt_u32(dt, "#interrupt-cells", 3);
	dt_reg(dt, reg, 2);
	if (board->config.arm.nested)
		dt_cells(dt, "interrupts", maintenance, 3);
	dt_u32(dt, "phandle", PHANDLE_GIC);
	dt_u32(dt, "#address-cells", 2);
	dt_u32(dt, "#size-cells", 2);
	dt_flag(dt, "ranges");
	if (board->gic == GIC_V3_ITS)
		write_msi(dt, "arm,gic-v3-its", true, arm64_its(cpus), LAYOUT_ITS_SIZE);
	if (board->gic == GIC_V2M) {
		const struct region *frame = vm_device(board->vm, "msi")->regions[0];

		write_msi(dt, "arm,gic-v2m-frame", false, frame->base, frame->size);
	}
	dt_end(dt);
}

/* The last cell of a private interrupt: a GICv2's PPIs say for which of its 8 CPUs they are. */
static uint32_t ppi_flags(const struct board *board, uint32_t flags)
{
	return flags | (gic_is_v2(board->gic) ? ((1U << board->config.cpus) - 1) << 8 & 0xff00 : 0);
}

static void write_pmu(struct dt *dt, const struct board *board)
{
	const uint32_t cells[] = { PPI, LAYOUT_PPI_PMU, ppi_flags(board, FLAG_HIGH) };

	if (!board->config.arm.pmu)
		return;
	dt_begin(dt, "pmu");
	dt_string(dt, "compatible", "arm,armv8-pmuv3");
	dt_cells(dt, "interrupts", cells, 3);
	dt_end(dt);
}

static void write_timer(struct dt *dt, const struct board *board)
{
	const unsigned n = board->config.arm.nested ? NR_TIMERS : NR_TIMERS - 1;
	uint32_t cells[3 * NR_TIMERS];

	for (unsigned i = 0; i < n; i++) {
		cells[3 * i] = PPI;
		cells[3 * i + 1] = timers[i];
		cells[3 * i + 2] = ppi_flags(board, FLAG_LOW);
	}
	dt_begin(dt, "timer");
	dt_strings(dt, "compatible", "arm,armv8-timer/arm,armv7-timer/");
	dt_cells(dt, "interrupts", cells, 3 * n);
	dt_flag(dt, "always-on");
	dt_end(dt);
}

static void write_clock(struct dt *dt)
{
	dt_begin(dt, "apb-clock");
	dt_string(dt, "compatible", "fixed-clock");
	dt_u32(dt, "#clock-cells", 0);
	dt_u32(dt, "clock-frequency", APB_HZ);
	dt_string(dt, "clock-output-names", "apb_pclk");
	dt_u32(dt, "phandle", PHANDLE_CLOCK);
	dt_end(dt);
}

/* Documentation/devicetree/bindings/input/gpio-keys.yaml */
static void write_keys(struct dt *dt)
{
	dt_begin(dt, "gpio-keys");
	dt_string(dt, "compatible", "gpio-keys");
	dt_begin(dt, "button-power");
	dt_string(dt, "label", "Power Button");
	dt_u32(dt, "linux,code", KEY_POWER);
	dt_cells(dt, "gpios", (uint32_t[]){ PHANDLE_GPIO, LAYOUT_PIN_POWER, 0 }, 3);
	dt_end(dt);
	dt_end(dt);
}

static int write_tree(const struct board *board, struct dt *dt, size_t *length, struct error *err)
{
	const struct device *host = vm_device(board->vm, "pci");
	const struct pci_node pci = {
		.ecam = host->regions[0],
		.bus = board->pci,
		.buses = LAYOUT_ECAM_BUSES,
		.irq_phandle = PHANDLE_GIC,
		.irq_address_cells = 2,
		.msi_phandle = board->gic == GIC_V3_ITS || board->gic == GIC_V2M ? PHANDLE_MSI : 0,
	};

	dt_string(dt, "compatible", "linux,dummy-virt");
	dt_string(dt, "model", "trapline");
	dt_u32(dt, "#address-cells", 2);
	dt_u32(dt, "#size-cells", 2);
	dt_u32(dt, "interrupt-parent", PHANDLE_GIC);
	write_chosen(dt, board);
	write_memory(dt, board);
	write_cpus(dt, board);
	write_gic(dt, board);
	write_timer(dt, board);
	write_pmu(dt, board);
	write_clock(dt);
	write_keys(dt);
	dt_devices(dt, board->vm, &platform);
	pci_node_write(dt, &pci, &platform);
	return dt_finish(dt, length, err);
}

int arm64_tree(struct board *board, void **bytes, size_t *size, struct error *err)
{
	struct dt dt = { 0 };
	int r = dt_start(&dt, LAYOUT_DT_SIZE, err);

	if (r == 0)
		r = write_tree(board, &dt, size, err);
	if (r)
		dt_free(&dt);
	*bytes = dt.bytes;
	return r;
}

int arm64_describe(struct board *board, struct error *err)
{
	void *bytes;
	size_t size;
	int r = arm64_tree(board, &bytes, &size, err);

	if (r == 0) {
		r = mem_write(&board->vm->mem, board->places.tree, bytes, size);
		if (r)
			error_set(
				err, r, "no RAM for the device tree at %#llx", (unsigned long long)board->places.tree);
	}
	free(bytes);
	return r;
}
