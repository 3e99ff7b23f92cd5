/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * acpi.h - ACPI tables (specification 6.4) of a machine, made from its devices.
 *
 * The DSDT is written by walking vm->devices: each device whose type has an acpi_hid becomes a Device with
 * _HID, _UID, _DDN (its name here), _STA, and a _CRS of its regions and interrupts as they are placed, followed by
 * what its type's acpi() adds. A type with acpi() and no acpi_hid writes whole objects of its own into \_SB.
 * What is no device (processors, interrupt controllers, fixed hardware) is said by struct acpi_platform.
 */
#ifndef TRAPLINE_DESC_ACPI_H
#define TRAPLINE_DESC_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/trap.h"
#include "core/error.h"

struct vm;
struct device;
struct aml;

/* Where a fixed register block is. len in bytes; 0: there is none. */
struct acpi_block {
	enum space space;
	uint64_t base;
	uint8_t len;
};

/* IA-PC boot architecture flags (table 5.11). */
enum {
	ACPI_BOOT_LEGACY_DEVICES = 1 << 0, /* ISA devices beside those of the DSDT */
	ACPI_BOOT_8042 = 1 << 1,
	ACPI_BOOT_NO_VGA = 1 << 2,
	ACPI_BOOT_NO_MSI = 1 << 3,
	ACPI_BOOT_NO_ASPM = 1 << 4,
	ACPI_BOOT_NO_CMOS = 1 << 5,
};

/* What arch/ knows and no device says. Zeroed fields mean: none. */
struct acpi_platform {
	const uint32_t *apic_ids; /* one a vCPU, ascending, the boot CPU first; the caller's */
	unsigned nr_cpus;
	uint32_t lapic_base;
	uint32_t ioapic_base;
	uint8_t ioapic_id;
	bool pic;           /* a pair of 8259s too */
	uint32_t timer_gsi; /* the GSI of ISA interrupt 0; 2 on a PC */
	uint32_t sci;       /* level-triggered, active high; below 16 */

	struct acpi_block pm1_event, pm1_control, pm_timer, reset;
	uint8_t reset_value;
	uint8_t s5;         /* SLP_TYP of power-off */
	uint8_t century;    /* index of the century byte in CMOS */
	uint16_t boot_arch; /* ACPI_BOOT_* */

	const struct device *console; /* a UART by its first region and interrupt: for the SPCR; NULL: none */

	uint64_t ecam_base; /* 0: none */
	uint8_t ecam_first_bus, ecam_last_bus;

	uint32_t max_size; /* bytes that all tables may take; 0: ACPI_MAX_SIZE */
};

#define ACPI_MAX_SIZE 0x100000

struct acpi_tables {
	uint8_t *bytes; /* to be copied to `gpa` */
	size_t length;
	uint64_t gpa;
	uint64_t rsdp; /* guest-physical; the first byte of all */
};

/*
 * Makes all tables as they will lie at `gpa`, which is a multiple of 64. Devices must be placed, since the
 * tables hold their addresses, and must not change meanwhile. 0, or -errno with nothing to free: -EINVAL for what
 * the platform says, -ENOSPC beyond max_size, -ENOMEM.
 */
int acpi_build(const struct acpi_platform *platform, struct vm *vm, uint64_t gpa, struct acpi_tables *out,
	struct error *err) __attribute__((warn_unused_result));
void acpi_free(struct acpi_tables *tables);

/* The DSDT's terms, without a table header. For acpi.c. */
void acpi_dsdt(struct aml *aml, const struct acpi_platform *platform, struct vm *vm);
/* The resource descriptors of a device's regions and connected interrupts, inside aml_resources(). */
void acpi_resources(struct aml *aml, const struct device *dev);

#endif
