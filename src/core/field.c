/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * field.c - reset, save, load and dump by table.
 *
 * Saved: magic (4 bytes), version (4: the newest `since` of the table), then for each field the FNV-1a
 * hash of its name (4), the width of an element (1), a zero (1), the number of elements (2), and the
 * elements; all little-endian, nothing padded.
 */
#include "core/field.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FIELD_MAGIC  0x31534c54 /* "TLS1" */
#define FIELD_HEADER 8
#define FIELD_RECORD 8

static uint32_t field_hash(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return hash;
}

static void field_put_le(uint8_t *to, uint64_t value, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t field_get_le(const uint8_t *from, unsigned width)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

static uint64_t field_get(const struct field *field, const void *state, unsigned index)
{
	const uint8_t *at = (const uint8_t *)state + field->offset + (size_t)index * field->width;
	uint64_t v64;
	uint32_t v32;
	uint16_t v16;

	switch (field->width) {
	case 1:
		return *at;
	case 2:
		memcpy(&v16, at, 2);
		return v16;
	case 4:
		memcpy(&v32, at, 4);
		return v32;
	default:
		memcpy(&v64, at, 8);
		return v64;
	}
}

static void field_set(const struct field *field, void *state, unsigned index, uint64_t value)
{
	uint8_t *at = (uint8_t *)state + field->offset + (size_t)index * field->width;
	uint32_t v32 = (uint32_t)value;
	uint16_t v16 = (uint16_t)value;

	switch (field->width) {
	case 1:
		*at = (uint8_t)value;
		break;
	case 2:
		memcpy(at, &v16, 2);
		break;
	case 4:
		memcpy(at, &v32, 4);
		break;
	default:
		memcpy(at, &value, 8);
		break;
	}
}

static void field_to_reset(const struct field *field, void *state)
{
	for (unsigned i = 0; i < field->count; i++)
		field_set(field, state, i, field->reset);
}

void field_init(const struct field *table, void *state)
{
	for (const struct field *f = table; f && f->name; f++)
		field_to_reset(f, state);
}

void field_reset(const struct field *table, void *state)
{
	for (const struct field *f = table; f && f->name; f++)
		if (!f->keep)
			field_to_reset(f, state);
}

static uint32_t field_version(const struct field *table)
{
	uint32_t version = 1;

	for (const struct field *f = table; f && f->name; f++)
		if (f->since > version)
			version = f->since;
	return version;
}

long field_save(const struct field *table, const void *state, void *buf, size_t size)
{
	size_t need = FIELD_HEADER;
	uint8_t *to = buf;

	for (const struct field *f = table; f && f->name; f++)
		need += FIELD_RECORD + (size_t)f->width * f->count;
	if (!buf)
		return (long)need;
	if (size < need)
		return -ENOSPC;
	field_put_le(to, FIELD_MAGIC, 4);
	field_put_le(to + 4, field_version(table), 4);
	to += FIELD_HEADER;
	for (const struct field *f = table; f && f->name; f++) {
		field_put_le(to, field_hash(f->name), 4);
		field_put_le(to + 4, f->width, 1);
		field_put_le(to + 5, 0, 1);
		field_put_le(to + 6, f->count, 2);
		to += FIELD_RECORD;
		for (unsigned i = 0; i < f->count; i++, to += f->width)
			field_put_le(to, field_get(f, state, i), f->width);
	}
	return (long)need;
}

/* The table's field that the record at `at` is of, if the record is whole and of the same size; *next is behind it. */
static const struct field *field_record(
	const struct field *table, const uint8_t *at, const uint8_t *end, const uint8_t **next)
{
	const struct field *f;
	uint32_t hash;
	size_t bytes;

	if (end - at < FIELD_RECORD)
		return NULL;
	hash = (uint32_t)field_get_le(at, 4);
	for (f = table; f && f->name && field_hash(f->name) != hash; f++)
		;
	if (!f || !f->name || at[4] != f->width || at[5] || field_get_le(at + 6, 2) != f->count)
		return NULL;
	bytes = (size_t)f->width * f->count;
	if ((size_t)(end - at) - FIELD_RECORD < bytes)
		return NULL;
	*next = at + FIELD_RECORD + bytes;
	return f;
}

/* Finds the one record of `field` in a checked state; NULL: none. */
static const uint8_t *field_find(
	const struct field *table, const struct field *field, const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		const uint8_t *next;
		const struct field *f = field_record(table, at, end, &next);

		if (!f)
			return NULL;
		if (f == field)
			return at;
		at = next;
	}
	return NULL;
}

/* 0 if each record is known and whole, none comes twice, and none that the version has is missing. */
static int field_check(const struct field *table, uint32_t version, const uint8_t *start, const uint8_t *end)
{
	const uint8_t *at = start, *next;

	while (at < end) {
		const struct field *f = field_record(table, at, end, &next);

		if (!f || field_find(table, f, start, end) != at)
			return -EINVAL;
		at = next;
	}
	for (const struct field *f = table; f && f->name; f++)
		if (f->since <= version && !field_find(table, f, start, end))
			return -EINVAL;
	return 0;
}

int field_load(const struct field *table, void *state, const void *buf, size_t size)
{
	const uint8_t *start = buf, *end = start + size;
	uint32_t version;

	if (size < FIELD_HEADER || field_get_le(start, 4) != FIELD_MAGIC)
		return -EINVAL;
	version = (uint32_t)field_get_le(start + 4, 4);
	if (version < 1 || version > field_version(table))
		return -EINVAL;
	start += FIELD_HEADER;
	if (field_check(table, version, start, end))
		return -EINVAL;
	for (const struct field *f = table; f && f->name; f++) {
		const uint8_t *at = field_find(table, f, start, end);

		if (!at) {
			field_to_reset(f, state);
			continue;
		}
		at += FIELD_RECORD;
		for (unsigned i = 0; i < f->count; i++, at += f->width)
			field_set(f, state, i, field_get_le(at, f->width));
	}
	return 0;
}

void field_dump(const struct field *table, const void *state, FILE *out)
{
	for (const struct field *f = table; f && f->name; f++) {
		fprintf(out, "%s:", f->name);
		for (unsigned i = 0; i < f->count; i++) {
			if (i && i % 16 == 0)
				fprintf(out, "\n ");
			fprintf(out, " %0*" PRIx64, 2 * f->width, field_get(f, state, i));
		}
		fputc('\n', out);
	}
}
