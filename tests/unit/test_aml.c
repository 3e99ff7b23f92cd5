/* SPDX-License-Identifier: BSD-2-Clause */
/* test_aml.c - the AML builder, byte by byte against the specification's encodings. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "desc/aml.h"

#define EXPECT(aml, ...)                                                                                               \
	do {                                                                                                           \
		const uint8_t want[] = { __VA_ARGS__ };                                                                \
                                                                                                                       \
		assert_true(aml_ok(aml));                                                                              \
		assert_int_equal((aml)->len, sizeof(want));                                                            \
		assert_memory_equal((aml)->buf, want, sizeof(want));                                                   \
		aml_free(aml);                                                                                         \
		aml_begin(aml, 4096);                                                                                  \
	} while (0)

static void test_integers(void **state)
{
	struct aml aml;

	aml_begin(&aml, 4096);
	aml_int(&aml, 0);
	aml_int(&aml, 1);
	aml_int(&aml, 2);
	aml_int(&aml, 0xff);
	EXPECT(&aml, 0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff);
	aml_int(&aml, 0x100);
	aml_int(&aml, 0xffff);
	EXPECT(&aml, 0x0b, 0x00, 0x01, 0x0b, 0xff, 0xff);
	aml_int(&aml, 0x10000);
	aml_int(&aml, 0xffffffff);
	EXPECT(&aml, 0x0c, 0, 0, 1, 0, 0x0c, 0xff, 0xff, 0xff, 0xff);
	aml_int(&aml, 0x100000000);
	EXPECT(&aml, 0x0e, 0, 0, 0, 0, 1, 0, 0, 0);
	aml_int(&aml, UINT64_MAX);
	EXPECT(&aml, 0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
	aml_free(&aml);
}

static void test_names(void **state)
{
	static const char *const bad[] = { "_crs", "1ABC", "TOOLONG", "A.", ".A", "A..B", "A B", "\\A.", "A\\B",
		"S1.S2.S3.S4.S5.S6.S7.S8.S9.SA.SB.SC.SD.SE.SF.SG.SH" };
	struct aml aml;

	aml_begin(&aml, 4096);
	aml_path(&aml, "_CRS");
	aml_path(&aml, "A");
	EXPECT(&aml, '_', 'C', 'R', 'S', 'A', '_', '_', '_');
	aml_path(&aml, "\\_SB");
	EXPECT(&aml, '\\', '_', 'S', 'B', '_');
	aml_path(&aml, "\\_SB.PCI0");
	EXPECT(&aml, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0');
	aml_path(&aml, "^^FOO.B1.C");
	EXPECT(&aml, '^', '^', 0x2f, 3, 'F', 'O', 'O', '_', 'B', '1', '_', '_', 'C', '_', '_', '_');
	aml_path(&aml, "\\");
	EXPECT(&aml, '\\', 0);
	aml_name(&aml, "FOO");
	aml_string(&aml, "hi");
	EXPECT(&aml, 0x08, 'F', 'O', 'O', '_', 0x0d, 'h', 'i', 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		aml_free(&aml);
		aml_begin(&aml, 4096);
		aml_path(&aml, bad[i]);
		assert_false(aml_ok(&aml));
	}
	aml_free(&aml);
}

static void test_ids(void **state)
{
	struct aml aml;

	aml_begin(&aml, 4096);
	aml_eisaid(&aml, "PNP0501");
	EXPECT(&aml, 0x0c, 0x41, 0xd0, 0x05, 0x01);
	aml_hid(&aml, "PNP0A08");
	EXPECT(&aml, 0x0c, 0x41, 0xd0, 0x0a, 0x08);
	aml_hid(&aml, "ACPI0007");
	EXPECT(&aml, 0x0d, 'A', 'C', 'P', 'I', '0', '0', '0', '7', 0);
	aml_uuid(&aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	EXPECT(&aml, 0x11, 0x13, 0x0a, 0x10, 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41,
		0xc0, 0x3d, 0xd7, 0x66);
	aml_eisaid(&aml, "PNP050");
	assert_false(aml_ok(&aml));
	aml_free(&aml);
	aml_begin(&aml, 4096);
	aml_uuid(&aml, "33db4d5b-1ff7-401c-9657-7441c03dd76x");
	assert_false(aml_ok(&aml));
	aml_free(&aml);
}

/* A buffer of n bytes: the length of its package, and what it decodes to. */
static void test_package_lengths(void **state)
{
	static const struct {
		size_t body;
		uint8_t bytes[4];
		unsigned n;
	} cases[] = {
		{ 0x3e, { 0x3f }, 1 },
		{ 0x3f, { 0x41, 0x04 }, 2 },
		{ 0xffd, { 0x4f, 0xff }, 2 },
		{ 0xffe, { 0x81, 0x00, 0x01 }, 3 },
		{ 0xffffc, { 0x8f, 0xff, 0xff }, 3 },
		{ 0xffffd, { 0xc1, 0x00, 0x00, 0x01 }, 4 },
	};
	uint8_t *zeros = calloc(1, 0x100000);

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct aml aml;

		aml_begin(&aml, 0x200000);
		aml_else(&aml);
		aml_raw(&aml, zeros, cases[i].body);
		aml_end(&aml);
		assert_true(aml_ok(&aml));
		assert_int_equal(aml.len, 1 + cases[i].n + cases[i].body);
		assert_memory_equal(aml.buf + 1, cases[i].bytes, cases[i].n);
		aml_free(&aml);
	}
	free(zeros);
}

static void test_nesting(void **state)
{
	struct aml aml;

	aml_begin(&aml, 4096);
	aml_scope(&aml, "\\_SB");
	aml_device(&aml, "FOO");
	aml_name_int(&aml, "_UID", 1);
	aml_end(&aml);
	aml_end(&aml);
	EXPECT(&aml, 0x10, 0x13, '\\', '_', 'S', 'B', '_', 0x5b, 0x82, 0x0b, 'F', 'O', 'O', '_', 0x08, '_', 'U', 'I',
		'D', 0x01);
	aml_package(&aml, 2);
	aml_int(&aml, 5);
	aml_package(&aml, 0);
	aml_end(&aml);
	aml_end(&aml);
	EXPECT(&aml, 0x12, 0x07, 0x02, 0x0a, 0x05, 0x12, 0x02, 0x00);
	aml_method(&aml, "M", 2, true);
	aml_store(&aml);
	aml_arg(&aml, 0);
	aml_local(&aml, 7);
	aml_if(&aml);
	aml_equal(&aml);
	aml_arg(&aml, 1);
	aml_int(&aml, 0);
	aml_return(&aml);
	aml_local(&aml, 7);
	aml_end(&aml);
	aml_end(&aml);
	EXPECT(&aml, 0x14, 0x10, 'M', '_', '_', '_', 0x0a, 0x70, 0x68, 0x67, 0xa0, 0x06, 0x93, 0x69, 0x00, 0xa4, 0x67);
	aml_free(&aml);
}

static void test_resources(void **state)
{
	struct aml aml;

	aml_begin(&aml, 4096);
	aml_resources(&aml);
	aml_end(&aml);
	EXPECT(&aml, 0x11, 0x05, 0x0a, 0x02, 0x79, 0x00);
	aml_resources(&aml);
	aml_res_io(&aml, 0x3f8, 8);
	aml_res_irq(&aml, 4);
	aml_end(&aml);
	EXPECT(&aml, 0x11, 0x10, 0x0a, 0x0d, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x22, 0x10, 0x00, 0x79,
		0x00);
	aml_res_memory32(&aml, 0xd1000000, 0x1000000);
	EXPECT(&aml, 0x86, 0x09, 0x00, 0x01, 0, 0, 0, 0xd1, 0, 0, 0, 0x01);
	aml_res_window(&aml, AML_BUS_NUMBERS, true, 0, 16);
	EXPECT(&aml, 0x88, 0x0d, 0, 2, 0x0c, 0, 0, 0, 0, 0, 15, 0, 0, 0, 16, 0);
	aml_res_window(&aml, AML_IO, true, 0x6200, 0x9e00);
	EXPECT(&aml, 0x88, 0x0d, 0, 1, 0x0c, 3, 0, 0, 0, 0x62, 0xff, 0xff, 0, 0, 0, 0x9e);
	aml_res_window(&aml, AML_MEMORY, false, 0xfff00000, 0x100000);
	EXPECT(&aml, 0x87, 0x17, 0, 0, 0x0d, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
		0x10, 0);
	aml_res_window(&aml, AML_MEMORY, true, 0x8000000000, 0x100000000);
	EXPECT(&aml, 0x8a, 0x2b, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0xff, 0xff, 0xff,
		0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0);
	aml_res_interrupt(&aml, 0x123, true, true);
	EXPECT(&aml, 0x89, 0x06, 0x00, 0x09, 0x01, 0x23, 0x01, 0x00, 0x00);
	aml_res_interrupt(&aml, 17, false, false);
	EXPECT(&aml, 0x89, 0x06, 0x00, 0x03, 0x01, 17, 0, 0, 0);
	aml_free(&aml);
}

static void bad_irq(struct aml *aml)
{
	aml_res_irq(aml, 16);
}

static void bad_window(struct aml *aml)
{
	aml_res_window(aml, AML_MEMORY, true, 0x1000, 0);
}

static void bad_wrap(struct aml *aml)
{
	aml_res_window(aml, AML_MEMORY, true, UINT64_MAX, 2);
}

static void bad_buses(struct aml *aml)
{
	aml_res_window(aml, AML_BUS_NUMBERS, true, 0, 0x10001);
}

static void bad_end(struct aml *aml)
{
	aml_end(aml);
}

static void bad_open(struct aml *aml)
{
	aml_else(aml);
}

static void bad_depth(struct aml *aml)
{
	for (unsigned i = 0; i <= AML_DEPTH; i++)
		aml_else(aml);
	for (unsigned i = 0; i <= AML_DEPTH; i++)
		aml_end(aml);
}

static void bad_package(struct aml *aml)
{
	aml_package(aml, 256);
	aml_end(aml);
}

static void bad_arg(struct aml *aml)
{
	aml_arg(aml, 7);
}

static void bad_string(struct aml *aml)
{
	aml_string(aml, "\xc3\xa4");
}

static void bad_size(struct aml *aml)
{
	static const uint8_t bytes[1001];

	aml_raw(aml, bytes, sizeof(bytes));
}

/* Failure sticks: whatever comes after is ignored, and nothing is written beyond the bound. */
static void test_failures(void **state)
{
	static void (*const cases[])(struct aml *) = { bad_irq, bad_window, bad_wrap, bad_buses, bad_end, bad_open,
		bad_depth, bad_package, bad_arg, bad_string, bad_size };

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct aml aml;

		aml_begin(&aml, 1000);
		aml_int(&aml, 7);
		cases[i](&aml);
		assert_false(aml_ok(&aml));
		if (cases[i] != bad_open) {
			aml_scope(&aml, "\\_SB");
			aml_end(&aml);
			assert_false(aml_ok(&aml));
		}
		assert_true(aml.len <= 1000);
		aml_free(&aml);
		assert_false(aml_ok(&aml));
	}
}

/* The bound may be met by what is put in front when something is closed. */
static void test_bound(void **state)
{
	static const uint8_t bytes[64];

	for (size_t max = 60; max < 70; max++) {
		struct aml aml;

		aml_begin(&aml, max);
		aml_else(&aml);
		aml_raw(&aml, bytes, 63);
		aml_end(&aml);
		assert_int_equal(aml_ok(&aml), max >= 1 + 2 + 63);
		assert_true(aml.len <= max);
		aml_free(&aml);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_package_lengths),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_resources),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests_name("aml", tests, NULL, NULL);
}
