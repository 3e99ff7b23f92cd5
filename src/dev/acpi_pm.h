/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * acpi_pm.h - ACPI fixed hardware (ACPI specification 6.4, section 4.8): the PM1a event and control blocks with power
 * and sleep button, the power management timer and the reset register.
 *
 * There is no SMI command port: the machine is in ACPI mode from the start. The FADT is written from where
 * the four regions stand, whose sizes are its block lengths.
 */
#ifndef TRAPLINE_DEV_ACPI_PM_H
#define TRAPLINE_DEV_ACPI_PM_H

#include <stdint.h>

#include "core/device.h"

/* Indices into the device's regions, each placed by itself. Interrupt 0 is the SCI, level. */
enum { ACPI_PM_EVENT, ACPI_PM_CONTROL, ACPI_PM_TIMER, ACPI_PM_RESET, NR_ACPI_PM_REGIONS };

#define ACPI_PM_TIMER_HZ    3579545
#define ACPI_PM_S5          5 /* SLP_TYP of \_S5: soft off */
#define ACPI_PM_RESET_VALUE 1 /* what to write to the reset register: the FADT's RESET_VALUE */

/* No config. S5 becomes vm_stop(REASON_POWER_OFF), the reset register vm_reset(); vm_press() presses its buttons. */
extern const struct device_type acpi_pm_type;

#endif
