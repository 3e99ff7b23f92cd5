/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h - the PCI host bridge: the bus, and the guest's ways to its config space.
 *
 * Regions, in this order, each only if the config asks for it: the address register (a PC's port 0xcf8), the
 * data register (0xcfc), and ECAM. Both ways lead to the same config space. The bridge is function 0 of slot 0
 * of its own bus, unless it is `unseen`: a guest that is told of the bus by a device tree looks for no such function,
 * for which no driver is, and to find that out reads and sizes all of it: 63 accesses of Linux's.
 */
#ifndef TRAPLINE_PCI_HOST_H
#define TRAPLINE_PCI_HOST_H

#include "core/device.h"
#include "pci/pci.h"

struct pci_host_config {
	struct pci_windows windows;
	uint32_t gsi[PCI_PINS]; /* slot s, pin p (INTA is 0) raises gsi[(s + p) % 4]; IRQ_NONE: none */
	bool ports;             /* address and data registers, which are the processor's own ports */
	bool unseen;            /* no function on the bus; slot 0 is empty */
	bool i440fx;            /* shows the ids of Intel's 82441FX, which firmware knows, and its PAM registers */
	unsigned buses;         /* of ECAM, 1 MiB each, 0-256, of which bus 0 is populated; 0: no ECAM */
};

extern const struct device_type pci_host_type;

/* The bus behind a device of pci_host_type. Lives as long as the device. */
struct pci_bus *pci_host_bus(struct device *dev);

#endif
