/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inner.h - the ELF kernel that is packed in a bzImage, unpacked segment by segment to where it belongs in guest
 * memory: it never lies whole in the host's.
 *
 * This spares the guest the bzImage's own program, and with it the address randomisation that only that program does.
 */
#ifndef TRAPLINE_ARCH_X86_INNER_H
#define TRAPLINE_ARCH_X86_INNER_H

#include "arch/x86/kernel.h"
#include "core/mem.h"

struct inner;

/*
 * Where the kernel is in the cache (kernel_cache.h) and `use_cache`, it is read from there and nothing unpacked; else
 * it unpacks as far as the ELF headers and puts the kernel's segments into *kernel, to be checked and placed around. 0
 * or -errno; -ENOTSUP where it cannot be unpacked here, though in the guest it may. inner_close() afterwards.
 */
int inner_open(struct inner **out, struct kernel *kernel, bool use_cache, struct error *err)
	__attribute__((warn_unused_result));
/*
 * Unpacks the rest, clears what is beyond the segments' bytes unless `ram_is_zero`, and says in *kernel by which way
 * it starts, and where. 0 or -errno; -ENOTSUP as above, memory may have been written then; -ESTALE where what the cache
 * had turned out to be damaged: then it can be opened again, without the cache, and loaded into memory that is not
 * zero.
 */
int inner_load(struct inner *inner, struct kernel *kernel, struct mem *mem, bool ram_is_zero, struct error *err)
	__attribute__((warn_unused_result));
/* The same file once more, for inner_copy(): its decoder is loaded. 0 or -errno. inner_close() afterwards. */
int inner_copy_open(struct inner **out, const struct kernel *kernel) __attribute__((warn_unused_result));
/* Unpacks all of it into a file of the cache that was just begun, and keeps that; until *stop. 0 or -errno. */
int inner_copy(struct inner *inner, struct kernel *kernel, struct kernel_cache *cache, const bool *stop);
void inner_close(struct inner *inner); /* NULL is fine */

#endif
