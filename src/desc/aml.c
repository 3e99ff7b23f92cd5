/* SPDX-License-Identifier: BSD-2-Clause */
/* aml.c - the AML builder: buffer, names, integers, and what contains other terms. */
#include "desc/aml.h"

#include <stdlib.h>
#include <string.h>

enum {
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_ARG0 = 0x68,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_OR = 0x7d,
	OP_EXT_DEVICE = 0x82,
	OP_CREATE_DWORD_FIELD = 0x8a,
	OP_EQUAL = 0x93,
	OP_IF = 0xa0,
	OP_ELSE = 0xa1,
	OP_RETURN = 0xa4,
};

enum { OPEN_TERMS, OPEN_RESOURCES };

#define END_TAG     0x79
#define PKG_MAX     0xfffffffU
#define SEGMENT     4
#define PATH_LEVELS 16

static void fail(struct aml *aml)
{
	aml->failed = true;
}

void aml_begin(struct aml *aml, size_t max)
{
	memset(aml, 0, sizeof(*aml));
	aml->max = max;
}

void aml_free(struct aml *aml)
{
	free(aml->buf);
	memset(aml, 0, sizeof(*aml));
	aml->failed = true;
}

bool aml_ok(const struct aml *aml)
{
	return !aml->failed && aml->depth == 0;
}

/* Room for `len` more bytes at the end. */
static bool reserve(struct aml *aml, size_t len)
{
	size_t size = aml->size ? aml->size : 256;
	uint8_t *buf;

	if (aml->failed)
		return false;
	if (len > aml->max || aml->len > aml->max - len) {
		fail(aml);
		return false;
	}
	if (aml->len + len <= aml->size)
		return true;
	while (size < aml->len + len)
		size *= 2;
	buf = realloc(aml->buf, size);
	if (!buf) {
		fail(aml);
		return false;
	}
	aml->buf = buf;
	aml->size = size;
	return true;
}

static void insert(struct aml *aml, size_t at, const void *bytes, size_t len)
{
	if (!len || !reserve(aml, len))
		return;
	memmove(aml->buf + at + len, aml->buf + at, aml->len - at);
	memcpy(aml->buf + at, bytes, len);
	aml->len += len;
}

void aml_raw(struct aml *aml, const void *bytes, size_t len)
{
	insert(aml, aml->len, bytes, len);
}

static void put_byte(struct aml *aml, uint8_t byte)
{
	aml_raw(aml, &byte, 1);
}

static bool segment_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

/* Parses one segment, padded to four letters. Returns what follows it, NULL if it is malformed. */
static const char *parse_segment(const char *path, char seg[SEGMENT])
{
	unsigned n = 0;

	memset(seg, '_', SEGMENT);
	while (*path && *path != '.') {
		if (n == SEGMENT || !segment_char(*path, n == 0))
			return NULL;
		seg[n++] = *path++;
	}
	return n ? path : NULL;
}

void aml_path(struct aml *aml, const char *path)
{
	char segs[PATH_LEVELS][SEGMENT];
	unsigned n = 0;

	if (*path == '\\')
		put_byte(aml, (uint8_t)*path++);
	else
		for (; *path == '^'; path++)
			put_byte(aml, '^');
	while (*path) {
		path = n < PATH_LEVELS ? parse_segment(path, segs[n++]) : NULL;
		if (!path || (*path == '.' && !path[1])) {
			fail(aml);
			return;
		}
		path += *path == '.';
	}
	if (n == 0)
		put_byte(aml, 0); /* NullName: the root or a parent itself */
	if (n == 2)
		put_byte(aml, OP_DUAL_NAME);
	if (n > 2) {
		put_byte(aml, OP_MULTI_NAME);
		put_byte(aml, (uint8_t)n);
	}
	aml_raw(aml, segs, n * SEGMENT);
}

static void open_term(struct aml *aml, uint8_t kind)
{
	if (aml->failed)
		return;
	if (aml->depth == AML_DEPTH) {
		fail(aml);
		return;
	}
	aml->open[aml->depth++] = (struct aml_open){ .at = aml->len, .kind = kind };
}

void aml_scope(struct aml *aml, const char *path)
{
	put_byte(aml, OP_SCOPE);
	open_term(aml, OPEN_TERMS);
	aml_path(aml, path);
}

void aml_device(struct aml *aml, const char *name)
{
	put_byte(aml, OP_EXT);
	put_byte(aml, OP_EXT_DEVICE);
	open_term(aml, OPEN_TERMS);
	aml_path(aml, name);
}

void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized)
{
	if (args > 7)
		fail(aml);
	put_byte(aml, OP_METHOD);
	open_term(aml, OPEN_TERMS);
	aml_path(aml, name);
	put_byte(aml, (uint8_t)(args | (unsigned)serialized << 3));
}

void aml_if(struct aml *aml)
{
	put_byte(aml, OP_IF);
	open_term(aml, OPEN_TERMS);
}

void aml_else(struct aml *aml)
{
	put_byte(aml, OP_ELSE);
	open_term(aml, OPEN_TERMS);
}

void aml_package(struct aml *aml, unsigned elements)
{
	if (elements > UINT8_MAX)
		fail(aml);
	put_byte(aml, OP_PACKAGE);
	open_term(aml, OPEN_TERMS);
	put_byte(aml, (uint8_t)elements);
}

void aml_resources(struct aml *aml)
{
	put_byte(aml, OP_BUFFER);
	open_term(aml, OPEN_RESOURCES);
}

/* The shortest integer term; returns its bytes, 9 at most. */
static unsigned encode_int(uint8_t out[9], uint64_t value)
{
	unsigned width = value > UINT32_MAX ? 8 : value > UINT16_MAX ? 4 : value > UINT8_MAX ? 2 : 1;

	if (value <= 1) { /* ZeroOp, OneOp */
		out[0] = (uint8_t)value;
		return 1;
	}
	out[0] = width == 8 ? OP_QWORD : width == 4 ? OP_DWORD : width == 2 ? OP_WORD : OP_BYTE;
	for (unsigned i = 0; i < width; i++)
		out[1 + i] = (uint8_t)(value >> 8 * i);
	return 1 + width;
}

/* 20.2.4: the length counts its own bytes. Returns them, 4 at most. */
static unsigned encode_pkg_length(uint8_t out[4], size_t body)
{
	unsigned n = body + 1 <= 0x3f ? 1 : body + 2 <= 0xfff ? 2 : body + 3 <= 0xfffff ? 3 : 4;
	size_t total = body + n;

	if (n == 1) {
		out[0] = (uint8_t)total;
		return 1;
	}
	out[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
	for (unsigned i = 1; i < n; i++)
		out[i] = (uint8_t)(total >> (8 * i - 4));
	return n;
}

void aml_end(struct aml *aml)
{
	static const uint8_t end_tag[] = { END_TAG, 0 }; /* a checksum of 0 is not checked */
	uint8_t prefix[9];
	struct aml_open *open;

	if (aml->failed)
		return;
	if (aml->depth == 0) {
		fail(aml);
		return;
	}
	open = &aml->open[--aml->depth];
	if (open->kind == OPEN_RESOURCES) {
		aml_raw(aml, end_tag, sizeof(end_tag));
		insert(aml, open->at, prefix, encode_int(prefix, aml->len - open->at));
	}
	if (aml->len - open->at > PKG_MAX - 4)
		fail(aml);
	insert(aml, open->at, prefix, encode_pkg_length(prefix, aml->len - open->at));
}

void aml_name(struct aml *aml, const char *name)
{
	put_byte(aml, OP_NAME);
	aml_path(aml, name);
}

void aml_int(struct aml *aml, uint64_t value)
{
	uint8_t bytes[9];

	aml_raw(aml, bytes, encode_int(bytes, value));
}

void aml_string(struct aml *aml, const char *text)
{
	for (const char *c = text; *c; c++)
		if ((signed char)*c <= 0) /* AsciiChar: 0x01 to 0x7f */
			fail(aml);
	put_byte(aml, OP_STRING);
	aml_raw(aml, text, strlen(text) + 1);
}

void aml_buffer(struct aml *aml, const void *bytes, size_t len)
{
	put_byte(aml, OP_BUFFER);
	open_term(aml, OPEN_TERMS);
	aml_int(aml, len);
	aml_raw(aml, bytes, len);
	aml_end(aml);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Three letters of 5 bits, four hexadecimal digits, most significant first. False: `id` has another form. */
static bool encode_eisaid(const char *id, uint8_t out[4])
{
	uint32_t value = 0;

	if (strlen(id) != 7)
		return false;
	for (unsigned i = 0; i < 3; i++) {
		if (id[i] < 'A' || id[i] > 'Z')
			return false;
		value = value << 5 | (uint32_t)(id[i] - '@');
	}
	for (unsigned i = 3; i < 7; i++) {
		if (hex_digit(id[i]) < 0)
			return false;
		value = value << 4 | (uint32_t)hex_digit(id[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		out[i] = (uint8_t)(value >> (24 - 8 * i));
	return true;
}

void aml_eisaid(struct aml *aml, const char *id)
{
	uint8_t bytes[4];

	if (!encode_eisaid(id, bytes)) {
		fail(aml);
		return;
	}
	put_byte(aml, OP_DWORD);
	aml_raw(aml, bytes, sizeof(bytes));
}

void aml_hid(struct aml *aml, const char *hid)
{
	uint8_t bytes[4];

	if (encode_eisaid(hid, bytes))
		aml_eisaid(aml, hid);
	else
		aml_string(aml, hid);
}

void aml_uuid(struct aml *aml, const char *uuid)
{
	/* Where in the text each byte's two digits stand: the first three fields are little-endian. */
	static const uint8_t digits[16] = { 6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34 };
	uint8_t bytes[16];

	if (strlen(uuid) != 36) {
		fail(aml);
		return;
	}
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		int high = hex_digit(uuid[digits[i]]), low = hex_digit(uuid[digits[i] + 1]);

		if (high < 0 || low < 0) {
			fail(aml);
			return;
		}
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	aml_buffer(aml, bytes, sizeof(bytes));
}

void aml_name_int(struct aml *aml, const char *name, uint64_t value)
{
	aml_name(aml, name);
	aml_int(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
	aml_name(aml, name);
	aml_string(aml, text);
}

void aml_arg(struct aml *aml, unsigned n)
{
	if (n > 6)
		fail(aml);
	put_byte(aml, (uint8_t)(OP_ARG0 + n));
}

void aml_local(struct aml *aml, unsigned n)
{
	if (n > 7)
		fail(aml);
	put_byte(aml, (uint8_t)(OP_LOCAL0 + n));
}

void aml_return(struct aml *aml)
{
	put_byte(aml, OP_RETURN);
}

void aml_equal(struct aml *aml)
{
	put_byte(aml, OP_EQUAL);
}

void aml_or(struct aml *aml)
{
	put_byte(aml, OP_OR);
}

void aml_and(struct aml *aml)
{
	put_byte(aml, OP_AND);
}

void aml_store(struct aml *aml)
{
	put_byte(aml, OP_STORE);
}

void aml_create_dword_field(struct aml *aml, unsigned arg, uint64_t offset, const char *name)
{
	put_byte(aml, OP_CREATE_DWORD_FIELD);
	aml_arg(aml, arg);
	aml_int(aml, offset);
	aml_path(aml, name);
}

/* Appends `n` little-endian fields of `width` bytes. */
static void put_fields(struct aml *aml, unsigned width, const uint64_t *values, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned b = 0; b < width; b++)
			put_byte(aml, (uint8_t)(values[i] >> 8 * b));
}

void aml_res_io(struct aml *aml, uint16_t base, uint8_t len)
{
	const uint64_t range[] = { base, base };

	put_byte(aml, 0x47);
	put_byte(aml, 1); /* decodes 16 bits */
	put_fields(aml, 2, range, 2);
	put_byte(aml, 1); /* alignment */
	put_byte(aml, len);
}

void aml_res_irq(struct aml *aml, unsigned line)
{
	const uint64_t mask = 1ULL << (line & 15);

	if (line > 15)
		fail(aml);
	put_byte(aml, 0x22);
	put_fields(aml, 2, &mask, 1);
}

void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len)
{
	const uint64_t length = 9, range[] = { base, len };

	put_byte(aml, 0x86);
	put_fields(aml, 2, &length, 1);
	put_byte(aml, 1); /* writable */
	put_fields(aml, 4, range, 2);
}

void aml_res_window(struct aml *aml, enum aml_window kind, bool producer, uint64_t base, uint64_t len)
{
	static const uint8_t type_flags[] = {
		[AML_MEMORY] = 1, /* writable, not cacheable */
		[AML_IO] = 3,     /* the whole range, ISA's and others */
		[AML_BUS_NUMBERS] = 0,
	};
	const uint64_t last = base + (len - 1), range[] = { 0 /* granularity */, base, last, 0 /* translation */, len };
	unsigned width = last > UINT32_MAX ? 8 : kind == AML_MEMORY || last > UINT16_MAX ? 4 : 2;
	const uint64_t length = 3 + 5 * width;

	if (len == 0 || last < base || (kind == AML_BUS_NUMBERS && width != 2))
		fail(aml);
	put_byte(aml, width == 8 ? 0x8a : width == 4 ? 0x87 : 0x88);
	put_fields(aml, 2, &length, 1);
	put_byte(aml, (uint8_t)kind);
	put_byte(aml, (uint8_t)(0x0c | !producer)); /* both ends fixed */
	put_byte(aml, type_flags[kind]);
	put_fields(aml, width, range, 5);
}

void aml_res_interrupt(struct aml *aml, uint32_t gsi, bool level, bool shared)
{
	const uint64_t length = 6, number = gsi;

	put_byte(aml, 0x89);
	put_fields(aml, 2, &length, 1);
	put_byte(aml, (uint8_t)(1 | !level << 1 | shared << 3)); /* consumer, active high */
	put_byte(aml, 1);                                        /* one interrupt */
	put_fields(aml, 4, &number, 1);
}
