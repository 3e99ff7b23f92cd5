/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * acpi_loader.c - cuts built ACPI tables loose from their address.
 *
 * Each pointer becomes an offset into the file that it points into, for the firmware to add that file's address to;
 * the checksums that this spoils are zero until the firmware makes them. Which fields point is the specification's
 * (ACPI 6.4, 5.2.5.3, 5.2.8, 5.2.9), so the tables are walked as a guest would walk them.
 */
#include "desc/acpi_loader.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME  56
#define COMMANDS   32
#define TABLES_AT  64 /* in what acpi_build() made: behind the RSDP, aligned as the FACS has to be */
#define RSDP_BYTES 36

enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_F_SEGMENT = 2 };

enum { /* offsets in the tables */
	RSDP_CHECKSUM = 8,
	RSDP_V1_BYTES = 20,
	RSDP_XSDT = 24,
	RSDP_EXTENDED_CHECKSUM = 32,
	HEADER_LENGTH = 4,
	HEADER_CHECKSUM = 9,
	HEADER_BYTES = 36,
	FADT_FACS = 36,
	FADT_DSDT = 40,
	FADT_X_FACS = 132,
	FADT_X_DSDT = 140,
};

struct command {
	uint32_t command;
	union {
		struct {
			char file[FILE_NAME];
			uint32_t align;
			uint8_t zone;
		} __attribute__((packed)) allocate;
		struct {
			char file[FILE_NAME], target[FILE_NAME];
			uint32_t offset;
			uint8_t size;
		} __attribute__((packed)) pointer;
		struct {
			char file[FILE_NAME];
			uint32_t offset, start, length;
		} __attribute__((packed)) checksum;
		uint8_t pad[124];
	};
} __attribute__((packed));
static_assert(sizeof(struct command) == 128, "wire structure");

struct script {
	struct acpi_loader *out;
	uint64_t base; /* the address for which the tables were built, of the tables file's first byte */
	struct command *next;
	unsigned n;
};

static struct command *add(struct script *s, uint32_t command)
{
	assert(s->n < COMMANDS);
	s->n++;
	s->next->command = htole32(command);
	return s->next++;
}

static void allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
	struct command *c = add(s, ALLOCATE);

	strcpy(c->allocate.file, file);
	c->allocate.align = htole32(align);
	c->allocate.zone = zone;
}

/* Makes the field relative. Returns it: an offset into the tables file; a pointer that is 0 stays, and is 0. */
static uint64_t point(struct script *s, const char *file, uint8_t *bytes, uint32_t offset, uint8_t size)
{
	struct command *c;
	uint64_t value = 0;

	memcpy(&value, bytes + offset, size);
	value = le64toh(value);
	if (value == 0)
		return 0;
	c = add(s, ADD_POINTER);
	strcpy(c->pointer.file, file);
	strcpy(c->pointer.target, ACPI_LOADER_TABLES);
	c->pointer.offset = htole32(offset);
	c->pointer.size = size;
	value -= s->base;
	assert(value < s->out->tables_len);
	value = htole64(value);
	memcpy(bytes + offset, &value, size);
	return le64toh(value);
}

static void sum(struct script *s, const char *file, uint8_t *bytes, uint32_t at, uint32_t start, uint32_t length)
{
	struct command *c = add(s, ADD_CHECKSUM);

	strcpy(c->checksum.file, file);
	c->checksum.offset = htole32(at);
	c->checksum.start = htole32(start);
	c->checksum.length = htole32(length);
	bytes[at] = 0;
}

static uint32_t table_length(const uint8_t *table)
{
	uint32_t length;

	memcpy(&length, table + HEADER_LENGTH, sizeof(length));
	return le32toh(length);
}

static void sum_table(struct script *s, uint32_t table)
{
	uint8_t *bytes = s->out->tables;

	sum(s, ACPI_LOADER_TABLES, bytes, table + HEADER_CHECKSUM, table, table_length(bytes + table));
}

static void cut_fadt(struct script *s, uint32_t fadt)
{
	uint8_t *bytes = s->out->tables;

	point(s, ACPI_LOADER_TABLES, bytes, fadt + FADT_FACS, 4);
	point(s, ACPI_LOADER_TABLES, bytes, fadt + FADT_DSDT, 4);
	point(s, ACPI_LOADER_TABLES, bytes, fadt + FADT_X_FACS, 8);
	point(s, ACPI_LOADER_TABLES, bytes, fadt + FADT_X_DSDT, 8);
	sum_table(s, fadt);
}

static void cut_xsdt(struct script *s, uint32_t xsdt)
{
	uint8_t *bytes = s->out->tables;
	uint32_t length = table_length(bytes + xsdt);

	for (uint32_t entry = HEADER_BYTES; entry < length; entry += 8) {
		uint32_t table = (uint32_t)point(s, ACPI_LOADER_TABLES, bytes, xsdt + entry, 8);

		if (!memcmp(bytes + table, "FACP", 4))
			cut_fadt(s, table);
	}
	sum_table(s, xsdt);
}

int acpi_loader_make(const struct acpi_tables *built, struct acpi_loader *out)
{
	uint32_t length = (uint32_t)built->length;
	uint8_t *bytes = calloc(1, length + COMMANDS * sizeof(struct command));
	struct script s = { .out = out, .base = built->gpa + TABLES_AT };

	if (!bytes)
		return -ENOMEM;
	assert(built->rsdp == built->gpa && length > TABLES_AT);
	memcpy(bytes, built->bytes, length);
	*out = (struct acpi_loader){
		.rsdp = bytes,
		.rsdp_len = RSDP_BYTES,
		.tables = bytes + TABLES_AT,
		.tables_len = length - TABLES_AT,
		.script = bytes + length,
	};
	s.next = (struct command *)out->script;
	allocate(&s, ACPI_LOADER_RSDP, 16, ZONE_F_SEGMENT);
	allocate(&s, ACPI_LOADER_TABLES, TABLES_AT, ZONE_HIGH);
	cut_xsdt(&s, (uint32_t)point(&s, ACPI_LOADER_RSDP, out->rsdp, RSDP_XSDT, 8));
	sum(&s, ACPI_LOADER_RSDP, out->rsdp, RSDP_CHECKSUM, 0, RSDP_V1_BYTES);
	sum(&s, ACPI_LOADER_RSDP, out->rsdp, RSDP_EXTENDED_CHECKSUM, 0, RSDP_BYTES);
	out->script_len = (uint32_t)(s.n * sizeof(struct command));
	return 0;
}

void acpi_loader_free(struct acpi_loader *loader)
{
	free(loader->rsdp);
	*loader = (struct acpi_loader){ 0 };
}
