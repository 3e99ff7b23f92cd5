/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_field.c - field tables: reset, save, load, versions, and saved states that lie. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/field.h"

struct regs {
	uint8_t lcr;
	uint16_t divisor;
	uint32_t scratch;
	uint64_t counter;
	uint8_t nvram[16];
	uint16_t table[3];
	uint32_t host_only; /* not in the table: nobody touches it */
};

static const struct field v1[] = {
	FIELD(struct regs, lcr, .reset = 0x60),
	FIELD(struct regs, divisor, .reset = 0x1234),
	FIELD_ARRAY(struct regs, nvram, .reset = 0xff, .keep = true),
	FIELD_END,
};

static const struct field v2[] = {
	FIELD(struct regs, lcr, .reset = 0x60),
	FIELD(struct regs, divisor, .reset = 0x1234),
	FIELD_ARRAY(struct regs, nvram, .reset = 0xff, .keep = true),
	FIELD(struct regs, scratch, .since = 2, .reset = 0xdeadbeef),
	FIELD(struct regs, counter, .reset = 0x0123456789abcdef, .since = 2),
	FIELD_ARRAY(struct regs, table, .reset = 0xbeef, .since = 2),
	FIELD_END,
};

static void fill(struct regs *regs)
{
	*regs = (struct regs){ .lcr = 3,
		.divisor = 0xa55a,
		.scratch = 0x11223344,
		.counter = 0x8877665544332211,
		.table = { 1, 2, 0x8003 },
		.host_only = 99 };
	for (unsigned i = 0; i < 16; i++)
		regs->nvram[i] = (uint8_t)(i * 17);
}

static void test_init_and_reset(void **state)
{
	struct regs regs;

	fill(&regs);
	field_reset(v2, &regs);
	assert_int_equal(regs.lcr, 0x60);
	assert_int_equal(regs.divisor, 0x1234);
	assert_int_equal(regs.scratch, 0xdeadbeef);
	assert_true(regs.counter == 0x0123456789abcdef);
	assert_int_equal(regs.table[2], 0xbeef);
	assert_int_equal(regs.nvram[3], 51); /* kept */
	assert_int_equal(regs.host_only, 99);
	field_init(v2, &regs);
	assert_int_equal(regs.nvram[3], 0xff);
	field_init(NULL, &regs);
}

static void test_save_load(void **state)
{
	struct regs from, to;
	uint8_t buf[512];
	long n;

	fill(&from);
	n = field_save(v2, &from, NULL, 0);
	assert_int_equal(n, 8 + 6 * 8 + 1 + 2 + 16 + 4 + 8 + 6);
	assert_int_equal(field_save(v2, &from, buf, (size_t)n - 1), -ENOSPC);
	assert_int_equal(field_save(v2, &from, buf, sizeof(buf)), n);
	/* Little-endian on any host: the divisor is the second record's element. */
	assert_int_equal(buf[8 + 8 + 1 + 8], 0x5a);
	assert_int_equal(buf[8 + 8 + 1 + 9], 0xa5);
	memset(&to, 0, sizeof(to));
	assert_int_equal(field_load(v2, &to, buf, (size_t)n), 0);
	assert_int_equal(to.lcr, from.lcr);
	assert_int_equal(to.scratch, from.scratch);
	assert_true(to.counter == from.counter);
	assert_memory_equal(to.nvram, from.nvram, 16);
	assert_memory_equal(to.table, from.table, sizeof(to.table));
	assert_int_equal(to.host_only, 0);
}

static void test_versions(void **state)
{
	struct regs from, to;
	uint8_t buf[512];
	long n;

	fill(&from);
	n = field_save(v1, &from, buf, sizeof(buf));
	memset(&to, 0x55, sizeof(to));
	assert_int_equal(field_load(v2, &to, buf, (size_t)n), 0);
	assert_int_equal(to.lcr, 3);
	assert_int_equal(to.scratch, 0xdeadbeef); /* came later */
	assert_int_equal(to.table[1], 0xbeef);
	/* A newer state in an older program is refused whole. */
	n = field_save(v2, &from, buf, sizeof(buf));
	memset(&to, 0x55, sizeof(to));
	assert_int_equal(field_load(v1, &to, buf, (size_t)n), -EINVAL);
	assert_int_equal(to.lcr, 0x55);
	/* Version 2 without a field that version 2 had. */
	n = field_save(v1, &from, buf, sizeof(buf));
	buf[4] = 2;
	assert_int_equal(field_load(v2, &to, buf, (size_t)n), -EINVAL);
	buf[4] = 0;
	assert_int_equal(field_load(v2, &to, buf, (size_t)n), -EINVAL);
}

static void test_truncated(void **state)
{
	struct regs from, to, before;
	uint8_t buf[512];
	long n;

	fill(&from);
	n = field_save(v2, &from, buf, sizeof(buf));
	memset(&to, 0x55, sizeof(to));
	before = to;
	for (long len = 0; len < n; len++) {
		/* Of exactly that size, so that AddressSanitizer sees a byte read beyond. */
		uint8_t *copy = malloc((size_t)len + !len);

		assert_non_null(copy);
		memcpy(copy, buf, (size_t)len);
		assert_int_equal(field_load(v2, &to, copy, (size_t)len), -EINVAL);
		assert_memory_equal(&to, &before, sizeof(to));
		free(copy);
	}
	buf[n] = 0;
	assert_int_equal(field_load(v2, &to, buf, (size_t)n + 1), -EINVAL);
	/* The same record twice. */
	memcpy(buf + n, buf + 8, 9);
	assert_int_equal(field_load(v2, &to, buf, (size_t)n + 9), -EINVAL);
	assert_memory_equal(&to, &before, sizeof(to));
}

/* Any one byte of the headers changed: refused, and nothing touched. Element bytes are the device's to judge. */
static void test_corrupted(void **state)
{
	struct regs from, to, before;
	uint8_t buf[512];
	long n;

	fill(&from);
	n = field_save(v1, &from, buf, sizeof(buf));
	memset(&to, 0x55, sizeof(to));
	before = to;
	for (long at = 0; at < 8 + 8; at++) {
		buf[at] ^= 0x40;
		assert_int_equal(field_load(v1, &to, buf, (size_t)n), -EINVAL);
		assert_memory_equal(&to, &before, sizeof(to));
		buf[at] ^= 0x40;
	}
	srand(7);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t noise[512];
		size_t len = (size_t)rand() % sizeof(noise);

		memcpy(noise, buf, (size_t)n);
		for (size_t k = (size_t)n; k < sizeof(noise); k++)
			noise[k] = (uint8_t)rand();
		for (unsigned k = 0; k < 4; k++)
			noise[(unsigned)rand() % sizeof(noise)] ^= (uint8_t)(1 << (rand() % 8));
		if (i & 1)
			len = (size_t)n;
		(void)field_load(v1, &to, noise, len); /* the sanitizers judge */
	}
}

static void test_dump(void **state)
{
	char *text = NULL;
	size_t size = 0;
	struct regs regs;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	fill(&regs);
	field_dump(v2, &regs, out);
	fclose(out);
	assert_non_null(strstr(text, "lcr: 03\n"));
	assert_non_null(strstr(text, "divisor: a55a\n"));
	assert_non_null(strstr(text, "counter: 8877665544332211\n"));
	assert_non_null(strstr(text, "table: 0001 0002 8003\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init_and_reset),
		cmocka_unit_test(test_save_load),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_corrupted),
		cmocka_unit_test(test_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
