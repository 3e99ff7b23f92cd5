/* SPDX-License-Identifier: BSD-2-Clause */
/* test_cpuid.c - topology in CPUID, on tables shaped like an Intel CPU's and an AMD CPU's. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "arch/x86/cpuid.h"

#define SUB KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* As KVM hands them out: the host's ids and counts, here those of thread 0x2a of a large machine, are in them. */
static const struct kvm_cpuid_entry2 intel[] = {
	{ .function = 0, .eax = 0x1f, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
	{ .function = 1, .eax = 0x606a6, .ebx = 0x2a400800, .ecx = 0xf6fa3203, .edx = 0x1f8bfbff },
	{ .function = 4, .index = 0, .flags = SUB, .eax = 0x7c004121, .ebx = 0x02c0003f, .ecx = 63 },
	{ .function = 4, .index = 1, .flags = SUB, .eax = 0x7c004122, .ebx = 0x01c0003f, .ecx = 63 },
	{ .function = 4, .index = 2, .flags = SUB, .eax = 0x7c004143, .ebx = 0x04c0003f, .ecx = 1023 },
	{ .function = 4, .index = 3, .flags = SUB, .eax = 0x7c0fc163, .ebx = 0x02c0003f, .ecx = 65535, .edx = 4 },
	{ .function = 4, .index = 4, .flags = SUB },
	{ .function = 7, .index = 0, .flags = SUB, .ebx = 0xf1bf27eb },
	{ .function = 0xb, .index = 0, .flags = SUB, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x2a },
	{ .function = 0xb, .index = 1, .flags = SUB, .eax = 7, .ebx = 128, .ecx = 0x201, .edx = 0x2a },
	{ .function = 0x1f, .index = 0, .flags = SUB, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x2a },
	{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d },
	{ .function = 0x40000001, .eax = 0x01007efb },
	{ .function = 0x80000000, .eax = 0x80000008 },
	{ .function = 0x80000001, .ecx = 0x121, .edx = 0x2c100800 },
	{ .function = 0x80000008, .eax = 0x302e },
};
static const struct kvm_cpuid_entry2 amd[] = {
	{ .function = 0, .eax = 0x10, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65 },
	{ .function = 1, .eax = 0x800f12, .ebx = 0x07080800, .ecx = 0x76d83203, .edx = 0x178bfbff },
	{ .function = 4, .index = 0, .flags = SUB },
	{ .function = 0xb, .index = 0, .flags = SUB, .ecx = 0, .edx = 7 },
	{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d },
	{ .function = 0x40000001, .eax = 0x01007efb },
	{ .function = 0x80000000, .eax = 0x80000026 },
	{ .function = 0x80000001, .ecx = 0x004003f1, .edx = 0x2fd3fbff },
	{ .function = 0x80000008, .eax = 0x3030, .ebx = 0x1000, .ecx = 0x7003 },
	{ .function = 0x8000001d, .index = 0, .flags = SUB, .eax = 0x00004121 },
	{ .function = 0x8000001d, .index = 1, .flags = SUB, .eax = 0x00004122 },
	{ .function = 0x8000001d, .index = 2, .flags = SUB, .eax = 0x00004143 },
	{ .function = 0x8000001d, .index = 3, .flags = SUB, .eax = 0x0001c163 },
	{ .function = 0x8000001d, .index = 4, .flags = SUB },
	{ .function = 0x8000001e, .eax = 0x2a, .ebx = 0x107, .ecx = 0x301 },
	{ .function = 0x80000026, .index = 0, .flags = SUB, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x2a },
};

#define NR(a) (sizeof(a) / sizeof((a)[0]))

struct result {
	struct kvm_cpuid_entry2 entries[NR(intel) + NR(amd) + CPUID_ROOM + 1];
	unsigned n;
};

static struct result fix(const struct kvm_cpuid_entry2 *table, unsigned n, unsigned index, unsigned count)
{
	struct result r;

	memset(&r, 0, sizeof(r));
	memcpy(r.entries, table, n * sizeof(*table));
	r.entries[n + CPUID_ROOM].function = 0xdead; /* not ours to touch */
	r.n = cpuid_fix(r.entries, n, index, count, true);
	assert_true(r.n <= n + CPUID_ROOM);
	assert_int_equal(r.entries[n + CPUID_ROOM].function, 0xdead);
	return r;
}

/* The one entry for a leaf; fails where there is none, or more. */
static const struct kvm_cpuid_entry2 *leaf(const struct result *r, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < r->n; i++) {
		if (r->entries[i].function != function || r->entries[i].index != index)
			continue;
		assert_null(found);
		found = &r->entries[i];
	}
	if (!found)
		fail_msg("no leaf 0x%x.%u", function, index);
	return found;
}

static unsigned shared_by(const struct kvm_cpuid_entry2 *e)
{
	return (e->eax >> 14 & 0xfff) + 1;
}

static void expect_levels(const struct result *r, uint32_t function, unsigned index, unsigned count, unsigned bits)
{
	const struct kvm_cpuid_entry2 *e = leaf(r, function, 0);

	assert_int_equal(e->eax, 0);
	assert_int_equal(e->ebx, 1);
	assert_int_equal(e->ecx, 0x100); /* threads */
	assert_int_equal(e->edx, index);
	assert_int_equal(e->flags, SUB);
	e = leaf(r, function, 1);
	assert_int_equal(e->eax, bits);
	assert_int_equal(e->ebx, count);
	assert_int_equal(e->ecx, 0x201); /* cores */
	assert_int_equal(e->edx, index);
	e = leaf(r, function, 2);
	assert_int_equal(e->ebx, 0);
	assert_int_equal(e->ecx, 2); /* the end */
	assert_int_equal(e->edx, index);
}

static void expect_common(const struct result *r, unsigned index, unsigned count, unsigned bits)
{
	const struct kvm_cpuid_entry2 *e = leaf(r, 1, 0);

	assert_int_equal(e->ebx >> 24, index & 0xff);
	assert_int_equal(e->ebx >> 16 & 0xff, bits < 8 ? 1U << bits : 255);
	assert_int_equal(e->ebx & 0xffff, 0x0800);
	assert_true(e->ecx & 1U << 31);
	assert_true(e->ecx & 1U << 24);
	assert_true(e->ecx & 1U << 21);
	assert_int_equal(e->edx >> 28 & 1, count > 1);
	expect_levels(r, 0xb, index, count, bits);
	/* kvmclock and its like stay. */
	assert_int_equal(leaf(r, 0x40000000, 0)->ebx, 0x4b4d564b);
	assert_int_equal(leaf(r, 0x40000001, 0)->eax, 0x01007efb);
}

static const struct {
	unsigned count, bits;
} counts[] = { { 1, 0 }, { 2, 1 }, { 3, 2 }, { 4, 2 }, { 8, 3 }, { 9, 4 }, { 255, 8 }, { 256, 8 }, { 1000, 10 } };

static void on_intel(void **state)
{
	for (unsigned c = 0; c < NR(counts); c++) {
		unsigned count = counts[c].count, bits = counts[c].bits, ids = 1U << bits;

		for (unsigned index = 0; index<count; index += count> 8 ? 7 : 1) {
			struct result r = fix(intel, NR(intel), index, count);

			expect_common(&r, index, count, bits);
			expect_levels(&r, 0x1f, index, count, bits);
			for (unsigned i = 0; i < 4; i++) {
				const struct kvm_cpuid_entry2 *e = leaf(&r, 4, i);

				assert_int_equal(shared_by(e), i < 3 ? 1 : ids);
				assert_int_equal((e->eax >> 26) + 1, ids < 64 ? ids : 64);
				assert_int_equal(e->eax & 0x3fff, intel[2 + i].eax & 0x3fff);
				assert_int_equal(e->ebx, intel[2 + i].ebx);
				assert_int_equal(e->ecx, intel[2 + i].ecx);
			}
			assert_int_equal(leaf(&r, 4, 4)->eax, 0);
			assert_int_equal(leaf(&r, 0x80000008, 0)->ecx, 0);
			assert_int_equal(leaf(&r, 0x80000001, 0)->ecx, 0x121);
			assert_int_equal(leaf(&r, 7, 0)->ebx, 0xf1bf27eb);
		}
	}
}

static void on_amd(void **state)
{
	for (unsigned c = 0; c < NR(counts); c++) {
		unsigned count = counts[c].count, bits = counts[c].bits;

		for (unsigned index = 0; index<count; index += count> 8 ? 7 : 1) {
			struct result r = fix(amd, NR(amd), index, count);
			const struct kvm_cpuid_entry2 *e;

			expect_common(&r, index, count, bits);
			for (unsigned i = 0; i < r.n; i++) {
				assert_int_not_equal(r.entries[i].function, 0x1f);
				assert_int_not_equal(r.entries[i].function, 0x80000026);
			}
			for (unsigned i = 0; i < 4; i++)
				assert_int_equal(shared_by(leaf(&r, 0x8000001d, i)), i < 3 ? 1 : 1U << bits);
			assert_int_equal(leaf(&r, 0x8000001d, 4)->eax, 0);
			assert_int_equal(leaf(&r, 4, 0)->eax, 0);
			e = leaf(&r, 0x80000008, 0);
			assert_int_equal(e->ecx & 0xff, count <= 256 ? count - 1 : 255);
			assert_int_equal(e->ecx >> 12 & 0xf, bits);
			assert_int_equal(e->ebx, 0x1000);
			e = leaf(&r, 0x8000001e, 0);
			assert_int_equal(e->eax, index);
			assert_int_equal(e->ebx, index & 0xff);
			assert_int_equal(e->ecx, 0);
			assert_int_equal(leaf(&r, 0x80000001, 0)->ecx >> 1 & 1, count > 1);
		}
	}
}

/* Old or odd CPUs: no leaf that is missing is made up, none is needed. */
static void sparse(void **state)
{
	struct kvm_cpuid_entry2 old[2 + CPUID_ROOM] = {
		{ .function = 0, .eax = 0xa, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
		{ .function = 1, .ecx = 1U << 24 },
	};
	struct kvm_cpuid_entry2 none[CPUID_ROOM] = { 0 };

	assert_int_equal(cpuid_fix(old, 2, 1, 2, false), 2);
	assert_int_equal(old[1].ecx, 1U << 31 | 1U << 21);
	assert_int_equal(old[1].ebx, 1U << 24 | 2U << 16);
	assert_int_equal(cpuid_fix(none, 0, 0, 1, true), 0);
}

static void phys_bits(void **state)
{
	struct kvm_cpuid_entry2 odd = { .function = 0x80000008, .eax = 0xff };

	assert_int_equal(cpuid_phys_bits(intel, NR(intel)), 46);
	assert_int_equal(cpuid_phys_bits(amd, NR(amd)), 48);
	assert_int_equal(cpuid_phys_bits(intel, 3), 36);
	assert_int_equal(cpuid_phys_bits(&odd, 1), 52);
	odd.eax = 0;
	assert_int_equal(cpuid_phys_bits(&odd, 1), 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_intel),
		cmocka_unit_test(on_amd),
		cmocka_unit_test(sparse),
		cmocka_unit_test(phys_bits),
	};

	return cmocka_run_group_tests_name("cpuid", tests, NULL, NULL);
}
