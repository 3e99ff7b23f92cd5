/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layout.h - where things lie in an x86 machine's guest-physical memory.
 *
 * RAM starts at 0. A hole below 4 GiB belongs to devices; RAM that does not fit below it goes on at 4 GiB.
 * The rest of this file is what the boot loader, the ACPI tables and the machine's table must agree on.
 *
 *	00001000  GDT			one page each; free for the guest's use once it has its own
 *	00002000  PVH start info	with module list and memory map
 *	00003000  zero page		struct boot_params
 *	00004000  page tables		PML4, PDPT, 4 page directories: 4 GiB mapped one to one
 *	00010000  command line		64 KiB
 *	00020000  free
 *	0009fc00  reserved		where a PC's firmware keeps its data
 *	000e0000  ACPI tables		the RSDP stands first: it is searched for there on 16-byte bounds
 *	00100000  kernel and everything else
 */
#ifndef TRAPLINE_ARCH_X86_LAYOUT_H
#define TRAPLINE_ARCH_X86_LAYOUT_H

#include <stdint.h>

#define LAYOUT_GDT           0x00001000ULL
#define LAYOUT_START_INFO    0x00002000ULL
#define LAYOUT_ZERO_PAGE     0x00003000ULL
#define LAYOUT_PAGE_TABLES   0x00004000ULL
#define LAYOUT_CMDLINE       0x00010000ULL
#define LAYOUT_CMDLINE_SIZE  0x00010000ULL
#define LAYOUT_BOOT_DATA_END 0x00020000ULL /* a kernel may be loaded from here on */

#define LAYOUT_LOW_RAM_END 0x0009fc00ULL
#define LAYOUT_ACPI        0x000e0000ULL
#define LAYOUT_ACPI_END    0x00100000ULL
#define LAYOUT_HIGH_RAM    0x00100000ULL

#define LAYOUT_HOLE      0xd0000000ULL
#define LAYOUT_HOLE_END  0x100000000ULL
#define LAYOUT_ECAM      0xd1000000ULL
#define LAYOUT_ECAM_SIZE 0x00100000ULL /* one bus; room for 15 more follows */

/*
 * Where KVM keeps what it needs to run real mode on Intel CPUs that cannot do it themselves: an identity
 * map (one page) and a TSS (three). The guest must not use it. Below the place where firmware lies.
 */
#define LAYOUT_KVM_IDENTITY 0xfeffc000ULL
#define LAYOUT_KVM_TSS      0xfeffd000ULL
#define LAYOUT_KVM_END      0xff000000ULL

/* Types as in e820 (ACPI 6.5, table 15.3) and in PVH's memory map alike. */
enum memory_type { MEMORY_RAM = 1, MEMORY_RESERVED = 2, MEMORY_ACPI = 3 };

struct memory_range {
	uint64_t base, size; /* bytes */
	enum memory_type type;
};

#define LAYOUT_RAM_RANGES 2
#define LAYOUT_MAP_RANGES 8

/*
 * Where `ram` bytes of guest RAM lie: the regions to put on the bus. Returns how many, 1 or 2. `ram` is at
 * least 1 and small enough that nothing wraps (the caller checks it against the CPU's address width).
 */
unsigned layout_ram(uint64_t ram, struct memory_range ranges[static LAYOUT_RAM_RANGES]);
/*
 * The map that the guest is told, in ascending order without overlaps. ECAM is at `ecam`, outside of RAM and of KVM's
 * own pages; 0: there is none. Returns how many entries.
 */
unsigned layout_map(uint64_t ram, uint64_t ecam, struct memory_range map[static LAYOUT_MAP_RANGES]);

#endif
