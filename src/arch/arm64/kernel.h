/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - an arm64 kernel file (the kernel's Documentation/arm64/booting.rst): a flat Image, as it is or packed, by gzip as
 * a file of its own, or in an EFI program that unpacks itself (zboot). Packed ones are unpacked here, on the way to the guest.
 */
#ifndef TRAPLINE_ARCH_ARM64_KERNEL_H
#define TRAPLINE_ARCH_ARM64_KERNEL_H

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
	const char *packed;             /* "gzip": the format that it is packed in; NULL: it is not */
	uint64_t payload, payload_size; /* bytes in the file, of the packed or the flat Image */
	uint64_t size;                  /* bytes of the flat Image */
	uint64_t text_offset;           /* where it wants to be, from a 2 MiB bound on */
	uint64_t mem_size;              /* bytes that it takes there, its bss included */
};

/*
 * Opens and checks a kernel file, and where it is packed unpacks its header. 0 or -errno (-ENOEXEC: damaged, not a kernel,
 * not for this machine). arm64_kernel_close() afterwards in either case. `path` stays the caller's and outlives the kernel.
 */
int arm64_kernel_open(struct kernel *kernel, const char *path, struct error *err) __attribute__((warn_unused_result));
void arm64_kernel_close(struct kernel *kernel);
/* Loads it to `gpa`, where mem_size bytes of RAM are. 0 or -errno. */
int arm64_kernel_load(const struct kernel *kernel, struct mem *mem, uint64_t gpa, struct error *err)
	__attribute__((warn_unused_result));

#endif
