/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * piix.h - the functions of a PIIX south bridge that firmware looks for: ISA bridge and power management.
 *
 * Firmware knows a machine by its chips, and drives what it then expects of them. Only what these functions say about
 * the rest of the machine is here; the chips behind them are the machine's own. Registers are those of Intel's
 * 82371FB/82371SB (290550) and 82371AB (290562) data sheets.
 */
#ifndef TRAPLINE_PCI_PIIX_H
#define TRAPLINE_PCI_PIIX_H

#include "core/device.h"

/* Where firmware, which has it by heart, finds the power management function: beside the ISA bridge, in slot 1. */
#define PIIX_SLOT  1
#define PIIX_ISA   0
#define PIIX_POWER 3

struct piix_power_config {
	uint16_t pm_base; /* I/O port of the ACPI registers, a multiple of 64: does not move */
};

/* No config. Routing registers are there to be written; this machine's INTx wires lead to the IOAPIC alone. */
extern const struct device_type piix_isa_type;
/* Config: struct piix_power_config. */
extern const struct device_type piix_power_type;

#endif
