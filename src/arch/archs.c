/* SPDX-License-Identifier: BSD-2-Clause */
/* archs.c - the table of architectures. */
#include <string.h>

#include "arch/arch.h"

const struct arch *const archs[] = { &arch_x86_64, &arch_arm64, NULL };

const struct arch *arch_host(void)
{
	for (const struct arch *const *arch = archs; *arch; arch++) {
		if ((*arch)->kvm)
			return *arch;
	}
	return archs[0];
}

const struct arch *arch_find(const char *name)
{
	for (const struct arch *const *arch = archs; *arch; arch++) {
		if (strcmp((*arch)->name, name) == 0)
			return *arch;
	}
	return NULL;
}
