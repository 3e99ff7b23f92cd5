/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - what an x86 kernel file is: checked once when it is opened, then only loaded.
 *
 * Three ways to start one, none of which runs 16-bit code: by PVH (an ELF file's note names a 32-bit entry;
 * Xen's docs/misc/pvh.pandoc), a 64-bit ELF file by its own entry, and a bzImage by its 64-bit entry; the
 * latter two as in the kernel's Documentation/arch/x86/boot.rst, "64-bit Boot Protocol". The file need not
 * be Linux.
 */
#ifndef TRAPLINE_ARCH_X86_KERNEL_H
#define TRAPLINE_ARCH_X86_KERNEL_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"

enum boot_way { BOOT_PVH, BOOT_ELF64, BOOT_BZIMAGE64, NR_BOOT_WAYS };

#define KERNEL_SEGMENTS 32

/* A piece of the file and its place. [gpa, gpa + mem_size) does not wrap and mem_size >= file_size. */
struct kernel_segment {
	uint64_t offset, file_size; /* bytes in the file, all of which are there */
	uint64_t gpa, mem_size;
};

struct kernel {
	struct image image;
	enum boot_way way;
	const char *kind; /* "ELF with a PVH note": for people */
	uint64_t entry;   /* guest-physical, inside a segment */
	struct kernel_segment segments[KERNEL_SEGMENTS];
	unsigned nr_segments;
	bool zero_rest;          /* what a segment has beyond its bytes in the file must read as zeros (ELF) */
	uint64_t initrd_max;     /* highest address that the initrd's last byte may have */
	uint64_t cmdline_max;    /* longest command line in bytes, without its NUL */
	struct setup_header hdr; /* bzImage: from the file; else zeros */
};

/*
 * Opens and checks a kernel file. 0 or -errno (-ENOEXEC: damaged, not a kernel, or not for this machine).
 * kernel_close() afterwards in either case. `path` stays the caller's and outlives the kernel.
 */
int kernel_open(struct kernel *kernel, const char *path, struct error *err) __attribute__((warn_unused_result));
void kernel_close(struct kernel *kernel);

#endif
