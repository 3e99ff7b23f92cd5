/* SPDX-License-Identifier: BSD-2-Clause */
/* pci_node.c - a PCI host bridge in a device tree; see pci_node.h. */
#include "arch/pci_node.h"

/* IEEE 1275's PCI bus binding, 2.2.1.1: the kind of space, in an address's first cell. */
#define SPACE_IO    0x01000000U
#define SPACE_MEM32 0x02000000U
#define SPACE_MEM64 0x03000000U

#define SLOT_SHIFT 11 /* of a device number in that cell */
#define WINDOWS    3
#define RANGE      7 /* cells: three of PCI's, two of the parent's, two of size */

static unsigned add_range(uint32_t *cells, uint32_t kind, uint64_t pci, uint64_t cpu, uint64_t size)
{
	const uint32_t range[RANGE] = { kind, (uint32_t)(pci >> 32), (uint32_t)pci, (uint32_t)(cpu >> 32),
		(uint32_t)cpu, (uint32_t)(size >> 32), (uint32_t)size };

	for (unsigned i = 0; size && i < RANGE; i++)
		cells[i] = range[i];
	return size ? RANGE : 0;
}

static void write_ranges(struct dt *dt, const struct pci_windows *w, uint64_t ports)
{
	uint32_t cells[WINDOWS * RANGE];
	unsigned n = 0;

	/* All of it, whatever the page size by which a guest maps it; BARs are where the window is. */
	n += add_range(cells + n, SPACE_IO, 0, ports, w->io.base + w->io.size);
	n += add_range(cells + n, SPACE_MEM32, w->mem32.base, w->mem32.base, w->mem32.size);
	n += add_range(cells + n, SPACE_MEM64, w->mem64.base, w->mem64.base, w->mem64.size);
	dt_cells(dt, "ranges", cells, n);
}

/* The interrupts of slots s and s + PCI_PINS are the same, and so the map's mask has two bits of the slot. */
static void write_interrupts(struct dt *dt, const struct pci_node *node, const struct dt_platform *platform)
{
	static const uint32_t mask[] = { (PCI_PINS - 1) << SLOT_SHIFT, 0, 0, 7 };
	uint32_t map[PCI_PINS * PCI_PINS * (6 + DT_MAX_IRQ_CELLS * 2)];
	unsigned n = 0;

	for (unsigned slot = 0; slot < PCI_PINS; slot++) {
		for (unsigned pin = 1; pin <= PCI_PINS; pin++) {
			uint32_t line = pci_gsi(node->bus, slot, pin);

			if (line == IRQ_NONE)
				continue;
			map[n++] = slot << SLOT_SHIFT;
			map[n++] = 0;
			map[n++] = 0;
			map[n++] = pin;
			map[n++] = node->irq_phandle;
			for (unsigned i = 0; i < node->irq_address_cells; i++)
				map[n++] = 0;
			platform->irq(line, IRQ_LEVEL, &map[n]);
			n += platform->irq_cells;
		}
	}
	dt_cells(dt, "interrupt-map-mask", mask, 4);
	dt_cells(dt, "interrupt-map", map, n);
}

void pci_node_write(struct dt *dt, const struct pci_node *node, const struct dt_platform *platform)
{
	const uint64_t reg[] = { node->ecam->base, node->ecam->size };

	dt_begin(dt, "pcie@%llx", (unsigned long long)node->ecam->base);
	dt_string(dt, "compatible", "pci-host-ecam-generic");
	dt_string(dt, "device_type", "pci");
	dt_reg(dt, reg, 1);
	dt_cells(dt, "bus-range", (uint32_t[]){ 0, node->buses - 1 }, 2);
	dt_u32(dt, "#address-cells", 3);
	dt_u32(dt, "#size-cells", 2);
	dt_u32(dt, "#interrupt-cells", 1);
	dt_flag(dt, "dma-coherent");
	write_ranges(dt, &node->bus->windows, platform->ports);
	write_interrupts(dt, node, platform);
	/* A function's number on the bus is its number to the interrupt controller. */
	if (node->msi_phandle)
		dt_cells(dt, "msi-map", (uint32_t[]){ 0, node->msi_phandle, 0, 0x10000 }, 4);
	dt_end(dt);
}
