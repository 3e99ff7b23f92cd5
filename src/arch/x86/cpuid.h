/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpuid.h - what CPUID tells each vCPU: what KVM supports, with this machine's topology put in.
 *
 * The machine is one package of `count` cores, one thread each, with private L1 and L2 caches and a shared
 * L3; a vCPU's APIC id is its index. References are to Intel's SDM volume 2A, CPUID, and AMD's APM volume 3,
 * appendix E.
 */
#ifndef TRAPLINE_ARCH_X86_CPUID_H
#define TRAPLINE_ARCH_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

/* Entries that cpuid_fix() may add to what it is given. */
#define CPUID_ROOM 8

/*
 * What this KVM supports, from KVM_GET_SUPPORTED_CPUID on /dev/kvm's `kvm_fd`. The caller frees *out with
 * free(). 0 or -errno.
 */
int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **out, struct error *err) __attribute__((warn_unused_result));

/*
 * Makes the `n` supported entries those of vCPU `index` of `count`, in place. `entries` has room for
 * n + CPUID_ROOM. Returns the new number of entries. Touches nothing but memory.
 */
unsigned cpuid_fix(struct kvm_cpuid_entry2 *entries, unsigned n, unsigned index, unsigned count, bool tsc_deadline);

/* cpuid_fix() on a copy of `supported`, given to the vCPU by KVM_SET_CPUID2. Before it first runs. 0 or -errno. */
int cpuid_set(int vcpu_fd, const struct kvm_cpuid2 *supported, unsigned index, unsigned count, bool tsc_deadline,
	struct error *err) __attribute__((warn_unused_result));

/* Width of a guest-physical address in bits: 36 to 52. */
unsigned cpuid_phys_bits(const struct kvm_cpuid_entry2 *entries, unsigned n);

#endif
