/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpuid.c - CPUID for each vCPU.
 *
 * KVM's supported set is the host CPU's, its topology leaves included: APIC ids, core counts and cache sharing
 * in it are those of whichever host CPU answered. Those are rewritten; features are left as KVM gives them.
 */
#include "arch/x86/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define CPUID_MAX 1024 /* entries; KVM itself stops at 256 */

#define LEAF1_ECX_X2APIC       (1U << 21)
#define LEAF1_ECX_TSC_DEADLINE (1U << 24)
#define LEAF1_ECX_HYPERVISOR   (1U << 31)
#define LEAF1_EDX_HTT          (1U << 28)
#define EXT1_ECX_CMP_LEGACY    (1U << 1)

#define LEVEL_SMT  1U /* level types of leaf 0xb */
#define LEVEL_CORE 2U

struct table {
	struct kvm_cpuid_entry2 *entries;
	unsigned n, max;
};

/* Bits that hold 0 to count - 1. */
static unsigned id_bits(unsigned count)
{
	unsigned bits = 0;

	while (bits < 31 && (1U << bits) < count)
		bits++;
	return bits;
}

static uint32_t at_most(uint32_t value, uint32_t max)
{
	return value < max ? value : max;
}

static struct kvm_cpuid_entry2 *find(struct table *t, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == function && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

/* The highest basic or extended leaf; 0 where there is none. */
static uint32_t max_leaf(struct table *t, uint32_t first)
{
	const struct kvm_cpuid_entry2 *e = find(t, first, 0);

	return e ? e->eax : 0;
}

static void remove_leaf(struct table *t, uint32_t function)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < t->n; i++) {
		if (t->entries[i].function != function)
			t->entries[kept++] = t->entries[i];
	}
	t->n = kept;
}

/* AMD, and Hygon, whose leaves are AMD's. */
static bool is_amd(struct table *t)
{
	const struct kvm_cpuid_entry2 *e = find(t, 0, 0);

	if (!e)
		return false;
	return (e->ebx == 0x68747541 && e->edx == 0x69746e65 && e->ecx == 0x444d4163) || /* AuthenticAMD */
	       (e->ebx == 0x6f677948 && e->edx == 0x6e65476e && e->ecx == 0x656e6975);   /* HygonGenuine */
}

static void fix_leaf_1(struct table *t, unsigned index, unsigned count, bool tsc_deadline)
{
	struct kvm_cpuid_entry2 *e = find(t, 1, 0);

	if (!e)
		return;
	/*
	 * Initial APIC id; addressable ids in the package, of which the field can tell 255 at most; CLFLUSH line kept.
	 */
	e->ebx = (e->ebx & 0xffff) | at_most(1U << id_bits(count), 255) << 16 | (index & 0xff) << 24;
	e->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
	/* KVM serves the deadline timer in the kernel, but leaves it to us to announce it. */
	if (tsc_deadline)
		e->ecx |= LEAF1_ECX_TSC_DEADLINE;
	else
		e->ecx &= ~LEAF1_ECX_TSC_DEADLINE;
	if (count > 1)
		e->edx |= LEAF1_EDX_HTT;
	else
		e->edx &= ~LEAF1_EDX_HTT;
}

/* Leaf 4 and AMD's 0x8000001d, which have one form but for the core count in leaf 4. */
static void fix_caches(struct table *t, unsigned count)
{
	uint32_t ids = 1U << id_bits(count);

	for (unsigned i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];
		unsigned level = (e->eax >> 5) & 7;

		if ((e->function != 4 && e->function != 0x8000001d) || (e->eax & 0x1f) == 0)
			continue;
		e->eax &= 0x3fff;
		if (level >= 3)
			e->eax |= at_most(ids - 1, 0xfff) << 14;
		if (e->function == 4)
			e->eax |= at_most(ids - 1, 0x3f) << 26;
	}
}

static void add_level(
	struct table *t, uint32_t leaf, uint32_t sub, uint32_t type, uint32_t shift, uint32_t cpus, uint32_t id)
{
	if (t->n == t->max)
		return;
	t->entries[t->n++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = sub,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = shift,
		.ebx = at_most(cpus, 0xffff),
		.ecx = sub | type << 8,
		.edx = id,
	};
}

/* 0xb, and 0x1f where the CPU goes that far: threads, cores, end. */
static void fix_extended_topology(struct table *t, unsigned index, unsigned count)
{
	static const uint32_t leaves[] = { 0xb, 0x1f };

	for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		if (max_leaf(t, 0) < leaves[i])
			continue;
		remove_leaf(t, leaves[i]);
		add_level(t, leaves[i], 0, LEVEL_SMT, 0, 1, index);
		add_level(t, leaves[i], 1, LEVEL_CORE, id_bits(count), count, index);
		add_level(t, leaves[i], 2, 0, 0, 0, index);
	}
}

static void fix_extended(struct table *t, unsigned index, unsigned count)
{
	struct kvm_cpuid_entry2 *e = find(t, 0x80000001, 0);
	bool amd = is_amd(t);

	if (e && amd) {
		if (count > 1)
			e->ecx |= EXT1_ECX_CMP_LEGACY;
		else
			e->ecx &= ~EXT1_ECX_CMP_LEGACY;
	}
	e = find(t, 0x80000008, 0);
	if (e && amd) {
		/* Cores less one; bits of an APIC id that number them. Its upper half is not topology. */
		e->ecx &= 0xffff0f00;
		e->ecx |= at_most(count - 1, 0xff) | at_most(id_bits(count), 0xf) << 12;
	} else if (e) {
		e->ecx = 0; /* reserved on Intel CPUs */
	}
	e = find(t, 0x8000001e, 0);
	if (e && amd) {
		e->eax = index;        /* extended APIC id */
		e->ebx = index & 0xff; /* core; one thread in it */
		e->ecx = 0;            /* node 0 of one */
		e->edx = 0;
	}
	/* AMD's newer topology leaf; without it guests use 0xb, which says the same. */
	e = find(t, 0x80000026, 0);
	if (e)
		remove_leaf(t, 0x80000026);
}

unsigned cpuid_fix(struct kvm_cpuid_entry2 *entries, unsigned n, unsigned index, unsigned count, bool tsc_deadline)
{
	struct table t = { entries, n, n + CPUID_ROOM };

	fix_leaf_1(&t, index, count, tsc_deadline);
	fix_caches(&t, count);
	fix_extended(&t, index, count);
	fix_extended_topology(&t, index, count);
	return t.n;
}

unsigned cpuid_phys_bits(const struct kvm_cpuid_entry2 *entries, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned bits = entries[i].eax & 0xff;

		if (entries[i].function == 0x80000008 && bits >= 36)
			return bits < 52 ? bits : 52;
	}
	return 36;
}

int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **out, struct error *err)
{
	for (uint32_t n = 128; n <= CPUID_MAX; n *= 2) {
		struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));

		if (!cpuid)
			return error_set(err, -ENOMEM, "no memory for the CPUID table");
		cpuid->nent = n;
		if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) {
			*out = cpuid;
			return 0;
		}
		free(cpuid);
		if (errno != E2BIG)
			return error_set(err, -errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	}
	return error_set(err, -E2BIG, "KVM_GET_SUPPORTED_CPUID: more than %u entries", CPUID_MAX);
}

/* KVM leaves the processor's name out; the guest shows the host's. */
static void name_processor(struct kvm_cpuid_entry2 *entries, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct kvm_cpuid_entry2 *e = &entries[i];

		if (e->function >= 0x80000002 && e->function <= 0x80000004 && !(e->eax | e->ebx | e->ecx | e->edx))
			__get_cpuid(e->function, &e->eax, &e->ebx, &e->ecx, &e->edx);
	}
}

int cpuid_set(int vcpu_fd, const struct kvm_cpuid2 *supported, unsigned index, unsigned count, bool tsc_deadline,
	struct error *err)
{
	size_t entry = sizeof(supported->entries[0]);
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + (supported->nent + CPUID_ROOM) * entry);
	int r = 0;

	if (!cpuid)
		return error_set(err, -ENOMEM, "no memory for the CPUID table");
	memcpy(cpuid->entries, supported->entries, supported->nent * entry);
	cpuid->nent = cpuid_fix(cpuid->entries, supported->nent, index, count, tsc_deadline);
	name_processor(cpuid->entries, cpuid->nent);
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0)
		r = error_set(err, -errno, "vCPU %u: KVM_SET_CPUID2: %s", index, strerror(errno));
	free(cpuid);
	return r;
}
