/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * boot.h - puts a kernel, its initrd and what it is told about the machine into guest memory, and says in
 * which state the boot CPU must start. It plays the boot loader's part; there is no firmware.
 */
#ifndef TRAPLINE_ARCH_X86_BOOT_H
#define TRAPLINE_ARCH_X86_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"
#include "arch/x86/kernel.h"
#include "arch/x86/layout.h"
#include "core/error.h"
#include "core/mem.h"

/* Selectors in the GDT that boot_load() writes: those of the boot protocol, which names __BOOT_CS and __BOOT_DS. */
#define BOOT_CS 0x10 /* 64-bit code, or 32-bit, as the way wants it */
#define BOOT_DS 0x18
#define BOOT_TR 0x20

/* The files, open from start to end. A zeroed one is closed. */
struct boot {
	struct kernel kernel;
	struct image initrd; /* path NULL: none */
};

/* What the guest is told. */
struct boot_config {
	const char *cmdline;
	const struct memory_range *map; /* ascending, without overlaps; its RAM is really there */
	unsigned nr_map;                /* at most 64 */
	uint64_t rsdp;                  /* guest-physical; 0: no ACPI */
	bool ram_is_zero;               /* nobody has written RAM yet, so a kernel's bss need not be cleared */
};

/* How the boot CPU starts. Interrupts off, segments flat, GDT as given. */
struct boot_entry {
	enum boot_way way;
	bool long_mode; /* else 32-bit protected mode without paging */
	uint64_t rip;
	uint64_t arg; /* BOOT_PVH: ebx, the start info; else rsi, the zero page */
	uint64_t cr3; /* long mode: maps the first 4 GiB one to one */
	uint64_t gdt_base;
	uint16_t gdt_limit;
	uint64_t initrd, initrd_size; /* where it went; size 0: none */
};

/*
 * Opens and checks the files; `initrd` may be NULL, `way` BOOT_AUTO. 0 or -errno. boot_close() afterwards in either
 * case. Paths stay the caller's and outlive `boot`.
 */
int boot_open(struct boot *boot, const char *kernel, enum boot_way way, const char *initrd, struct error *err)
	__attribute__((warn_unused_result));
void boot_close(struct boot *boot);

/*
 * Checks the kernel's and the initrd's places against the memory map, then loads them and writes the boot
 * data (layout.h says where). A bzImage is unpacked on the way where it can be; which way that gave is known after
 * it, in boot->kernel. Can be repeated, and costs the same each time: nothing unpacked is kept. 0 or -errno: -ENOSPC
 * too little RAM, -E2BIG the command line is too long, -EFAULT the map promised RAM that is not there, or what reading
 * the files gave.
 */
int boot_load(struct boot *boot, struct mem *mem, const struct boot_config *config, struct boot_entry *entry,
	struct error *err) __attribute__((warn_unused_result));
/*
 * Whether the kernel that boot_load() has just loaded has this text in it. True also where nobody knows: it unpacks
 * itself in the guest.
 */
bool boot_holds(const struct boot *boot, struct mem *mem, const char *text);

#endif
