/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arch.h - what an architecture must say of itself: where RAM lies, which devices stand where, how a kernel is
 * loaded and a CPU started. Everything else is common.
 *
 * The first half builds a machine and needs no KVM, so any architecture's machine can be built, listed and
 * driven on any host. The second half exists only where the host can run it.
 */
#ifndef TRAPLINE_ARCH_ARCH_H
#define TRAPLINE_ARCH_ARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "arch/kernel_cache.h"
#include "core/error.h"
#include "core/status.h"
#include "core/vm.h"
#include "pci/pci.h"
#include "virtio/console.h"
#include "virtio/virtio.h"

struct kvm;
struct kvm_need;
struct vcpu;

/* What carries a virtio device. */
enum virtio_transport {
	VIRTIO_ON_PCI,
	VIRTIO_ON_PCI_LEGACY,
	VIRTIO_ON_MMIO,
	VIRTIO_ON_MMIO_LEGACY,
	NR_VIRTIO_TRANSPORTS
};

/* A virtio device that the machine is to have. */
struct guest_virtio {
	char name[16]; /* "disk0": unique in the machine */
	enum virtio_transport transport;
	struct virtio_config config; /* `legacy` follows from the transport */
	const char *option;          /* "--disk a.img": what asked for it, for messages */
};

/* What only Arm machines can be asked for. All zeros: nothing was. */
struct guest_arm {
	const char *rtc; /* the clock's chip, by the name that arch.check() knows; NULL: the usual one */
	/* A number, guest-physical, where firmware is loaded and starts; NULL: RAM's begin. */
	const char *firmware_address;
	bool aarch32;     /* its processors are 32-bit */
	const char *psci; /* who answers firmware calls, by the name that arch.check() knows; NULL: KVM */
	bool nested;      /* they have EL2, for a hypervisor of the guest's */
	bool pmu;         /* they have a PMU */
	bool disable_sve, disable_mte, no_pvtime; /* without these, where KVM has them */
	const char *sve_max_vl;                   /* bits of their longest vectors; NULL: as KVM has them */
	const char *kaslr_seed; /* a number, by which a kernel chooses its place; NULL: a random one at each start */
};

/* What the user asked for. Strings are the caller's and outlive the machine. */
struct guest_config {
	const char *kernel;   /* path; NULL: none, with firmware, or in a machine that no vCPU enters */
	const char *firmware; /* path; NULL: none */
	const char *flash;    /* path; NULL: none; on x86 only with firmware */
	const char *initrd;   /* NULL: none */
	const char *params;   /* appended to the defaults; NULL: none */
	bool no_default_params;
	const char *root_params; /* a default of the command line: where the kernel's root is; NULL: nothing */
	const char *root_needs;  /* with those: a text that a kernel which can mount it by itself has in it */
	const char *root_note;   /* for the user, where it has not, and there is no initrd */
	enum kernel_cache_use kernel_cache; /* of kernels that are unpacked on the host */
	const char *boot;    /* the way to start the kernel, by the name that arch.check() knows; NULL: the best */
	const char *irqchip; /* the interrupt controller, by the name that arch.check() knows; NULL: the best */
	struct guest_arm arm;
	uint64_t ram;          /* bytes */
	struct memory *memory; /* backs all of it; NULL: anonymous memory is made */
	bool ram_foreign;      /* ... is not plain private pages: a file, shared, or huge pages that were asked for */
	bool ram_used;         /* that memory is not all zeros at the start */
	unsigned cpus;
	bool pci_test;               /* the test-only PCI function */
	unsigned pci_test_functions; /* the same as a device of so many, at most PCI_FUNCTIONS; 0: as pci_test says */
	const struct guest_virtio *virtio; /* in the order in which they get their places; the caller's */
	unsigned nr_virtio;
	struct vconsole_config hvcs; /* of the virtio console among them, where its nr_ports is not 0 */
	bool exit_port;              /* a status that the guest gives ends it */
	const char *const *place;    /* see struct place_moves in arch/place.h */
	unsigned nr_place;
};

/* An architecture's own half of a machine. */
struct board;

/* For --dry-run and messages. */
struct board_info {
	const char *kernel_kind; /* "bzImage" */
	const char *unpacked;    /* "xz": the format from which the kernel was unpacked on the host; NULL: it was not */
	bool cached;             /* ... in an earlier run: it came from the cache */
	const char *
		cache_path; /* its file there, whether or not there is one; NULL: the cache has nothing to do with it */
	const char *cache_note;                /* why there is no cache for it; NULL: nothing to tell */
	const char *boot_way;                  /* "pvh": the name in guest_config */
	const char *boot_text;                 /* "PVH" */
	const char *boot_note;                 /* why it is no better way; NULL: nothing to tell */
	bool own_kaslr;                        /* the kernel can place itself at random */
	uint64_t entry;                        /* guest-physical address of the first instruction */
	uint64_t firmware_base, firmware_size; /* size 0: none, and then there is a kernel */
	const char *cmdline;
	bool rootless;             /* nobody can mount that root: see root_needs in guest_config */
	const struct pci_bus *pci; /* NULL: this machine has none */
};

/* What needs KVM, and with it the architecture's own CPU. */
struct arch_kvm {
	const struct kvm_need *needs;
	bool no_ports; /* its CPUs have no instructions for them: the port space is reached by an alias in memory */
	/* What KVM_CREATE_VM is to be asked for. 0 or -errno; NULL: 0, the usual kind. */
	int (*vm_type)(struct board *board, const struct kvm *kvm, unsigned long *type, struct error *err);
	int (*make_chips)(struct board *board, struct kvm *kvm, struct error *err); /* before vCPUs, after memory */
	/* Once each: CPUID, power-on state. */
	int (*make_vcpu)(struct board *board, struct vcpu *vcpu, struct error *err);
	/*
	 * Chips and every vCPU back to their power-on state, which they have when they are made: at reset, *before*
	 * load(). KVM writes into guest memory for a vCPU (kvmclock, stolen time) where the guest's last life asked it
	 * to, until that is undone.
	 */
	int (*reset)(struct board *board, struct kvm *kvm, struct error *err);
	int (*enter)(struct board *board, struct kvm *kvm, struct error *err); /* after load(): the boot CPU's start */
	/* Where a parked vCPU is, in a line; `whole`: all registers, and the code there. For people. */
	void (*describe)(struct board *board, struct vcpu *vcpu, bool whole, FILE *out);
};

struct arch {
	const char *name;                        /* "x86_64" */
	const char *const *kernel_candidates;    /* where a kernel is sought without -k; NULL-ended; %s: uname -r */
	const char *const *kernel_candidates_32; /* with --aarch32; NULL: such a machine there is not */

	/* 0 or -errno with `status` USAGE: RAM or vCPU numbers that this machine cannot have on any host. */
	int (*check)(const struct guest_config *config, struct error *err);
	/* A board with its RAM on the bus and nothing else. */
	int (*create)(struct vm *vm, const struct guest_config *config, struct board **out, struct error *err);
	void (*destroy)(struct board *board); /* NULL is fine */
	/* The machine table: makes, places and adds every device. */
	int (*build)(struct board *board, struct error *err);
	/* Opens and checks kernel and initrd, and keeps them open: a reset loads them again. */
	int (*open_images)(struct board *board, struct error *err);
	/* Writes kernel, initrd, tables and command line to guest memory, or tables alone where no kernel was opened.
	 * At start-up and at each reset. */
	int (*load)(struct board *board, struct error *err);
	/* Once, when the guest runs: what was put off for its start. Ended by destroy(). */
	void (*started)(struct board *board);
	void (*info)(struct board *board, struct board_info *info);
	/*
	 * The device tree that a guest gets, of *size bytes, which the caller frees; NULL: it gets none. 0 or -errno.
	 */
	int (*tree)(struct board *board, void **bytes, size_t *size, struct error *err);

	const struct arch_kvm *kvm; /* NULL: the host's CPU is another, and has no guests of this one */
};

extern const struct arch arch_x86_64, arch_arm64;

/* The name of the first option among these that was given, or NULL: for machines that have none of them. */
const char *guest_arm_given(const struct guest_arm *arm);

/* All of them, NULL-ended. Any architecture's machine is built on any host; only the host's own runs. */
extern const struct arch *const archs[];
/* The host's own; on a host that has guests of none, the first. */
const struct arch *arch_host(void);
/* The one of that name, or NULL. */
const struct arch *arch_find(const char *name);

#endif
