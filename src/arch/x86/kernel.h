/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - what an x86 kernel file is: checked once when it is opened, then only loaded.
 *
 * Four ways to start one, none of which runs 16-bit code: by PVH (an ELF file's note names a 32-bit entry; Xen's
 * docs/misc/pvh.pandoc), a 64-bit ELF file by its own entry, and a bzImage by its 64-bit or its 32-bit entry; the
 * latter three as in the kernel's Documentation/arch/x86/boot.rst. The file need not be Linux.
 *
 * A bzImage is a small program with a compressed ELF kernel in it. Where that can be unpacked here (inner.h), it is,
 * and started by one of the first two ways; else the program unpacks it in the guest.
 */
#ifndef TRAPLINE_ARCH_X86_KERNEL_H
#define TRAPLINE_ARCH_X86_KERNEL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"
#include "arch/kernel_cache.h"
#include "arch/x86/elf.h"
#include "arch/x86/zero_page.h"

/* Where a packed kernel came from, once it is loaded. */
enum kernel_from { KERNEL_FROM_FILE, KERNEL_FROM_CACHE, KERNEL_FROM_FILE_CACHED_NEXT };

enum boot_way { BOOT_AUTO, BOOT_PVH, BOOT_ELF64, BOOT_BZIMAGE64, BOOT_BZIMAGE32, NR_BOOT_WAYS };

struct kernel {
	struct image image;
	enum boot_way wanted; /* BOOT_AUTO: the best that it has */
	enum boot_way way;    /* of a bzImage that is unpacked here: once it is loaded */
	const char *kind;     /* "ELF": for people */
	const char *packed;   /* "xz": the format from which it was unpacked here; NULL: it was not */
	uint64_t entry;       /* guest-physical, inside a segment */
	struct kernel_segment segments[ELF_SEGMENTS];
	unsigned nr_segments;
	bool zero_rest;         /* what a segment has beyond its bytes in the file must read as zeros (ELF) */
	uint64_t initrd_max;    /* highest address that the initrd's last byte may have */
	uint64_t cmdline_max;   /* longest command line in bytes, without its NUL */
	struct boot_header hdr; /* bzImage: from the file; else zeros */

	/* bzImage: the program, and what is packed in it. */
	struct kernel_segment outer;
	uint64_t payload, payload_size; /* bytes in the file; size 0: not to be unpacked here */
	char note[256];                 /* why not, where that was not asked for; "": nothing to tell */

	/* Whether it may be in the cache: set by who opened it. Then, once it is loaded, whether it was. */
	enum kernel_cache_use cache;
	enum kernel_from from;
	char cache_path[PATH_MAX]; /* its file in the cache, there or not; "": there is no cache */
	char cache_note[256];      /* why there is none; "": nothing to tell */
};

/*
 * Opens and checks a kernel file, for one way or BOOT_AUTO. 0 or -errno (-ENOEXEC: damaged, not a kernel, not for
 * this machine, or not to be started so). kernel_close() afterwards in either case. `path` stays the caller's and
 * outlives the kernel.
 */
int kernel_open(struct kernel *kernel, const char *path, enum boot_way wanted, struct error *err)
	__attribute__((warn_unused_result));
void kernel_close(struct kernel *kernel);

/* The way for a kernel whose ELF file is known: 0, or -ENOEXEC where `wanted` is impossible, -ENOTSUP none is left. */
int kernel_choose_elf(struct kernel *kernel, const struct elf *elf, const struct elf_source *source, struct error *err)
	__attribute__((warn_unused_result));
/* A bzImage is to be loaded as it is and unpacks itself in the guest. */
void kernel_choose_outer(struct kernel *kernel);

const char *boot_way_name(enum boot_way way); /* as an option: "pvh" */
const char *boot_way_text(enum boot_way way); /* for people: "PVH" */
/* The way of that name, or NR_BOOT_WAYS. */
enum boot_way boot_way_find(const char *name);

#endif
