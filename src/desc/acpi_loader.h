/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * acpi_loader.h - ACPI tables for firmware to place: bytes without addresses, and a script that puts the addresses in.
 *
 * The script is that of fw_cfg's file etc/table-loader (QEMU's docs/specs and its ABI, 128 bytes a command): allocate a
 * file's bytes, add its address to a pointer in another, make a checksum.
 */
#ifndef TRAPLINE_DESC_ACPI_LOADER_H
#define TRAPLINE_DESC_ACPI_LOADER_H

#include <stdint.h>

#include "desc/acpi.h"

#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"
#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_SCRIPT "etc/table-loader"

struct acpi_loader {
	uint8_t *rsdp, *tables, *script; /* rsdp starts the one allocation */
	uint32_t rsdp_len, tables_len, script_len;
};

/* From tables that acpi_build() made, which stay as they are. 0 or -ENOMEM; acpi_loader_free() afterwards. */
int acpi_loader_make(const struct acpi_tables *built, struct acpi_loader *out) __attribute__((warn_unused_result));
void acpi_loader_free(struct acpi_loader *loader);

#endif
