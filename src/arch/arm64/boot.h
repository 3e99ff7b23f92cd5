/* SPDX-License-Identifier: BSD-2-Clause */
/* boot.h - puts a kernel and its initrd into an arm64 guest's memory, and says where its device tree has room. */
#ifndef TRAPLINE_ARCH_ARM64_BOOT_H
#define TRAPLINE_ARCH_ARM64_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/arm64/kernel.h"
#include "arch/image.h"
#include "core/mem.h"

/* The files, open from start to end. A zeroed one is closed. */
struct boot {
	struct kernel kernel;
	struct image initrd;   /* path NULL: none */
	struct image firmware; /* likewise; then there is no kernel */
};

/* Guest-physical. */
struct boot_places {
	uint64_t kernel; /* its first byte, or firmware's, where the boot CPU starts */
	uint64_t initrd, initrd_size;
	uint64_t tree; /* LAYOUT_DT_SIZE bytes */
};

/*
 * `initrd` may be NULL; `aarch32`: a 32-bit kernel. 0 or -errno; arm64_boot_close() afterwards in either case. Paths
 * stay the caller's and outlive `boot`.
 */
int arm64_boot_open(struct boot *boot, const char *kernel, const char *initrd, bool aarch32, struct error *err)
	__attribute__((warn_unused_result));
void arm64_boot_close(struct boot *boot);
/* Where all lies in `ram` bytes of RAM. 0, or -ENOSPC: the kernel, or the initrd beside it, does not fit. */
int arm64_boot_place(const struct boot *boot, uint64_t ram, struct boot_places *places, struct error *err)
	__attribute__((warn_unused_result));
/* Loads kernel and initrd. Can be repeated. 0 or -errno. */
int arm64_boot_load(const struct boot *boot, struct mem *mem, const struct boot_places *places, struct error *err)
	__attribute__((warn_unused_result));
/*
 * Whether the kernel that is loaded has this text in it, as far as can be seen: one that unpacks itself may have any.
 */
bool arm64_boot_holds(const struct boot *boot, struct mem *mem, const struct boot_places *places, const char *text);

#endif
