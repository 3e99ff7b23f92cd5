/* SPDX-License-Identifier: BSD-2-Clause */
/* board.h - an x86 machine: its table of devices (machine.c), its images and its KVM side (arch.c). */
#ifndef TRAPLINE_ARCH_X86_BOARD_H
#define TRAPLINE_ARCH_X86_BOARD_H

#include "arch/arch.h"
#include "arch/x86/boot.h"
#include "arch/x86/firmware.h"
#include "arch/x86/keep.h"
#include "arch/x86/vcpu_state.h"
#include "desc/acpi.h"
#include "pci/pci.h"

/* In IOAPIC input numbers, which are GSIs. The first 16 are ISA's. */
#define BOARD_GSI_PCI 16

struct board {
	struct vm *vm;
	struct guest_config config;
	struct region ram[LAYOUT_RAM_RANGES];
	unsigned nr_ram;
	struct pci_bus *pci; /* the host bridge's */
	char cmdline[LAYOUT_CMDLINE_SIZE];

	struct boot boot;
	struct firmware firmware; /* instead of a kernel */
	struct boot_entry entry;
	struct keeper *keeper;
	bool rootless; /* see struct board_info */
	bool loaded;   /* at least once: RAM may hold what an earlier life wrote */

	struct kvm_cpuid2 *supported;
	struct chip_state *chips;
};

/* arch.c: bits of a guest-physical address; an x86 host's own, since a guest's cannot be wider. */
unsigned board_phys_bits(void);

/* machine.c */
int board_build(struct board *board, struct error *err) __attribute__((warn_unused_result));
uint64_t board_ecam(const struct board *board); /* guest-physical; 0: none */
/* The ACPI tables, made from the devices, for `gpa`; acpi_free() afterwards. */
int board_tables(struct board *board, uint64_t gpa, struct acpi_tables *tables, struct error *err)
	__attribute__((warn_unused_result));
/* Writes the ACPI tables, made from the devices, to guest memory; *rsdp is where they start. */
int board_describe(struct board *board, uint64_t *rsdp, struct error *err) __attribute__((warn_unused_result));

/* kvm.c; where the host is an x86. */
extern const struct arch_kvm board_kvm;
/* dump.c: its describe(). */
void board_describe_vcpu(struct board *board, struct vcpu *vcpu, bool whole, FILE *out);

#endif
