/* SPDX-License-Identifier: BSD-2-Clause */
/* guest_ram.h - what backs a guest's RAM, and RAM on the bus; where it lies is the machine's. */
#ifndef TRAPLINE_ARCH_GUEST_RAM_H
#define TRAPLINE_ARCH_GUEST_RAM_H

#include "arch/arch.h"

/*
 * The memory that `config` has, or anonymous memory, of all of RAM. 0, with a
 * reference that is the caller's, or -errno.
 */
int guest_ram_memory(const struct guest_config *config, struct memory **memory, struct error *err)
	__attribute__((warn_unused_result));
/*
 * Adds `ram`, which says where it lies in the guest and in that memory; it takes a reference of its own. 0 or -errno.
 */
int guest_ram_add(struct bus *bus, struct region *ram, struct error *err) __attribute__((warn_unused_result));

#endif
