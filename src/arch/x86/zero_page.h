/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zero_page.h - what a kernel and its loader tell each other by the x86 boot protocol: the setup header, which is in
 * the kernel's file, and the zero page with it in it.
 *
 * The kernel's own header has them too, but only where the host is an x86. Multi-byte fields are little-endian.
 */
#ifndef TRAPLINE_ARCH_X86_ZERO_PAGE_H
#define TRAPLINE_ARCH_X86_ZERO_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define HDR_LOADED_HIGH 0x01 /* of loadflags */
#define HDR_KERNEL_64   0x01 /* of xloadflags */

#define ZERO_PAGE_RANGES 128

struct boot_header {
	uint8_t setup_sects;
	uint16_t root_flags;
	uint32_t syssize;
	uint16_t ram_size;
	uint16_t vid_mode;
	uint16_t root_dev;
	uint16_t boot_flag;
	uint16_t jump;
	uint32_t header;
	uint16_t version;
	uint32_t realmode_swtch;
	uint16_t start_sys_seg;
	uint16_t kernel_version;
	uint8_t type_of_loader;
	uint8_t loadflags;
	uint16_t setup_move_size;
	uint32_t code32_start;
	uint32_t ramdisk_image;
	uint32_t ramdisk_size;
	uint32_t bootsect_kludge;
	uint16_t heap_end_ptr;
	uint8_t ext_loader_ver;
	uint8_t ext_loader_type;
	uint32_t cmd_line_ptr;
	uint32_t initrd_addr_max;
	uint32_t kernel_alignment;
	uint8_t relocatable_kernel;
	uint8_t min_alignment;
	uint16_t xloadflags;
	uint32_t cmdline_size;
	uint32_t hardware_subarch;
	uint64_t hardware_subarch_data;
	uint32_t payload_offset;
	uint32_t payload_length;
	uint64_t setup_data;
	uint64_t pref_address;
	uint32_t init_size;
	uint32_t handover_offset;
	uint32_t kernel_info_offset;
} __attribute__((packed));

struct zero_page_range {
	uint64_t base, size;
	uint32_t type;
} __attribute__((packed));

struct zero_page {
	uint8_t screen[0x70];
	uint64_t acpi_rsdp;
	uint8_t disks[0x48];
	uint32_t ramdisk_image_high;
	uint32_t ramdisk_size_high;
	uint8_t firmware[0x120];
	uint8_t nr_ranges;
	uint8_t drives[0x08];
	struct boot_header hdr;
	uint8_t reserved[0x2d0 - 0x1f1 - sizeof(struct boot_header)];
	struct zero_page_range ranges[ZERO_PAGE_RANGES];
	uint8_t rest[0x330];
} __attribute__((packed));

_Static_assert(offsetof(struct zero_page, acpi_rsdp) == 0x70, "the protocol's offset");
_Static_assert(offsetof(struct zero_page, ramdisk_image_high) == 0xc0, "the protocol's offset");
_Static_assert(offsetof(struct zero_page, nr_ranges) == 0x1e8, "the protocol's offset");
_Static_assert(offsetof(struct zero_page, hdr) == 0x1f1, "the protocol's offset");
_Static_assert(offsetof(struct zero_page, ranges) == 0x2d0, "the protocol's offset");
_Static_assert(sizeof(struct zero_page) == 4096, "the zero page is a page");

#endif
