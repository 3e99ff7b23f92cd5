/* SPDX-License-Identifier: BSD-2-Clause */
/* pci_node.h - a PCI host bridge in a device tree: the generic one that is reached by ECAM. */
#ifndef TRAPLINE_ARCH_PCI_NODE_H
#define TRAPLINE_ARCH_PCI_NODE_H

#include "desc/dt.h"
#include "pci/pci.h"

struct pci_node {
	const struct region *ecam;
	const struct pci_bus *bus;
	unsigned buses;       /* that ECAM has room for */
	uint32_t irq_phandle; /* the interrupt controller's, whose node has address cells of `irq_address_cells` */
	unsigned irq_address_cells;
	uint32_t msi_phandle; /* whom functions send messages to; 0: nobody */
};

/*
 * "pci-host-ecam-generic" (Documentation/devicetree/bindings/pci/host-generic-pci.yaml): configuration space, the
 * windows of `bus` (that of ports lies at platform->ports), and which interrupt each slot's pins have.
 */
void pci_node_write(struct dt *dt, const struct pci_node *node, const struct dt_platform *platform);

#endif
