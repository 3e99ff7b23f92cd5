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
 * Unpacks as far as the ELF headers and puts the kernel's segments into *kernel, to be checked and placed around. 0 or
 * -errno; -ENOTSUP where it cannot be unpacked here, though in the guest it may. inner_close() afterwards.
 */
int inner_open(struct inner **out, struct kernel *kernel, struct error *err) __attribute__((warn_unused_result));
/*
 * Unpacks the rest, clears what is beyond the segments' bytes unless `ram_is_zero`, and says in *kernel by which way
 * it starts, and where. 0 or -errno; -ENOTSUP as above, memory may have been written then.
 */
int inner_load(struct inner *inner, struct kernel *kernel, struct mem *mem, bool ram_is_zero, struct error *err)
	__attribute__((warn_unused_result));
void inner_close(struct inner *inner); /* NULL is fine */

#endif
