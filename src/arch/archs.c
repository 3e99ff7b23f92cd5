/* SPDX-License-Identifier: BSD-2-Clause */
/* archs.c - the table of architectures. */
#include <string.h>

#include "arch/arch.h"

const struct arch *const archs[] = { &arch_x86_64, &arch_arm64, NULL };

const char *guest_arm_given(const struct guest_arm *arm)
{
	const struct {
		const char *name;
		bool given;
	} options[] = {
		{ "rtc", arm->rtc },
		{ "aarch32", arm->aarch32 },
		{ "firmware-address", arm->firmware_address },
		{ "psci", arm->psci },
		{ "nested", arm->nested },
		{ "pmu", arm->pmu },
		{ "disable-sve", arm->disable_sve },
		{ "sve-max-vl", arm->sve_max_vl },
		{ "disable-mte", arm->disable_mte },
		{ "no-pvtime", arm->no_pvtime },
		{ "kaslr-seed", arm->kaslr_seed },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (options[i].given)
			return options[i].name;
	}
	return NULL;
}

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
