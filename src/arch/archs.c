/* SPDX-License-Identifier: BSD-2-Clause */
/* archs.c - the table of architectures. */
#include <string.h>

#include "arch/arch.h"

const struct arch *const archs[] = { &arch_x86_64, NULL };

const struct arch *arch_find(const char *name)
{
	for (const struct arch *const *arch = archs; *arch; arch++) {
		if (strcmp((*arch)->name, name) == 0)
			return *arch;
	}
	return NULL;
}
