/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * testdev.h - a PCI function for tests: BARs of every kind, memory behind them, and a register by which a
 * driver makes it move its own BARs from inside its own handler.
 *
 * Ids 1234:7e57: 1234 is nobody's, emulators' test devices use it, and no Linux driver claims this
 * device. Class 0xff0000 (no class).
 *
 * BAR 0: 4 KiB of 32-bit memory: registers at 0, memory (PCI_TEST_MEMORY bytes) at PCI_TEST_MEMORY.
 * BAR 2: 64 KiB of 64-bit prefetchable memory: memory throughout.
 * BAR 4: 32 ports: the registers once more.
 * BAR 5: MSI-X of one vector, where it has that.
 *
 * Registers are 4 bytes; accesses of other widths reach their bytes. Memory takes all widths.
 */
#ifndef TRAPLINE_PCI_TESTDEV_H
#define TRAPLINE_PCI_TESTDEV_H

#include "core/device.h"
#include "pci/pci.h"

#define PCI_TEST_VENDOR 0x1234
#define PCI_TEST_DEVICE 0x7e57

#define PCI_TEST_ID_VALUE 0x54534554 /* "TEST" */
#define PCI_TEST_ARM      0x54455352 /* "RSET" */

enum pci_test_register {
	PCI_TEST_ID = 0x00, /* reads PCI_TEST_ID_VALUE */
	/*
	 * Bit 0: level of the INTx pin; bit 1: the same, but by an eventfd, as from another process. Written: bit 2
	 * sends the vector, bit 3 does so by an eventfd. Read: bit 3: that goes to the guest without us, at present.
	 */
	PCI_TEST_INTX = 0x04,
	PCI_TEST_COUNT = 0x08, /* accesses to all BARs since reset, this one not included; any write clears it */
	PCI_TEST_LIVE = 0x0c,  /* bit n: BAR n decodes; PCI_TEST_ARM written: the next register read asks for a reset */
	PCI_TEST_MOVE_LO = 0x10, /* what PCI_TEST_MOVE puts into BAR n */
	PCI_TEST_MOVE_HI = 0x14, /* and, if it has 64 bits, into BAR n + 1 */
	PCI_TEST_MOVE = 0x18,    /* write n, 0-5: moves BAR n, in the handler. Reads how often that was done */
	PCI_TEST_SCRATCH = 0x1c,
	PCI_TEST_REGISTERS = 0x20, /* bytes of them */
};

#define PCI_TEST_MEMORY     0x800
#define PCI_TEST_BAR0_SIZE  0x1000
#define PCI_TEST_BAR2_SIZE  0x10000
#define PCI_TEST_BAR0_BYTES (PCI_TEST_BAR0_SIZE - PCI_TEST_MEMORY)

struct pci_test_config {
	unsigned pin; /* 1-4: INTA-INTD */
	bool msix;
};

/* Config: struct pci_test_config, read in create() only; NULL: INTA, no MSI-X. */
extern const struct device_type pci_test_type;

#endif
