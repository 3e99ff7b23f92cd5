/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - an arm64 kernel file (the kernel's Documentation/arm64/booting.rst): a flat Image, as it is or packed, by
 * gzip as a file of its own, or in an EFI program that unpacks itself (zboot). Packed ones are unpacked here, on the
 * way to the guest. Or a 32-bit kernel: a zImage, which unpacks itself in the guest.
 */
#ifndef TRAPLINE_ARCH_ARM64_KERNEL_H
#define TRAPLINE_ARCH_ARM64_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"
#include "core/mem.h"

/* What an Image begins with; little-endian. */
struct image_header {
	uint32_t code0, code1;
	uint64_t text_offset, image_size, flags;
	uint64_t reserved[3];
	uint32_t magic, pe_header;
};

struct kernel {
	struct image image;
	const char *kind;               /* "Image": for people */
	bool aarch32;                   /* a zImage; the rest are 64-bit kernels */
	const char *packed;             /* "gzip": the format that it is packed in; NULL: it is not */
	uint64_t payload, payload_size; /* bytes in the file, of the packed or the flat Image */
	uint64_t size;                  /* bytes of the flat Image, or of the zImage */
	uint64_t text_offset;           /* where it is to be, from the beginning of RAM on */
	uint64_t mem_size;              /* bytes that it takes there, its bss included */
};

/*
 * Opens and checks a kernel file, of a 32-bit kernel or a 64-bit one, and where it is packed unpacks its header. 0 or
 * -errno (-ENOEXEC: damaged, not a kernel, not for this machine). arm64_kernel_close() afterwards in either case.
 * `path` stays the caller's and outlives the kernel.
 */
int arm64_kernel_open(struct kernel *kernel, const char *path, bool aarch32, struct error *err)
	__attribute__((warn_unused_result));
void arm64_kernel_close(struct kernel *kernel);
/* Loads it to `gpa`, where mem_size bytes of RAM are. 0 or -errno. */
int arm64_kernel_load(const struct kernel *kernel, struct mem *mem, uint64_t gpa, struct error *err)
	__attribute__((warn_unused_result));

/*
 * zimage.c: whether the file that begins with these `n` bytes is a zImage; if so, the rest of opening it. 0 or -errno.
 */
bool arm64_zimage_is(const uint8_t *head, uint64_t n);
int arm64_zimage_open(struct kernel *kernel, const uint8_t *head, struct error *err)
	__attribute__((warn_unused_result));

#endif
