/* SPDX-License-Identifier: BSD-2-Clause */
/* options.c - what the user may ask of an Arm machine: checked as far as no KVM is needed for that. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arm64/board.h"
#include "core/word.h"

/* With the long descriptors of LPAE. */
#define AARCH32_PHYS_BITS 40

/* strtoull() would take a sign, and spaces. */
static bool number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	return isdigit((unsigned char)text[0]) && isxdigit((unsigned char)end[-1]) && !*end && !errno;
}

int arm64_kaslr_seed(const struct guest_config *config, uint64_t *seed, struct error *err)
{
	const char *text = config->arm.kaslr_seed;

	if (!text || number(text, seed))
		return 0;
	return error_set(err, -EINVAL, "--kaslr-seed '%.100s': not a number of 64 bits, decimal or with 0x", text);
}

int arm64_rtc(const struct guest_config *config, enum rtc *rtc, struct error *err)
{
	static const char *const names[] = { [RTC_PL031] = "pl031", [RTC_MC146818] = "mc146818", NULL };
	const char *text = config->arm.rtc, *nearest;

	*rtc = RTC_PL031;
	for (unsigned i = 0; text && i < NR_RTCS; i++) {
		if (strcmp(text, names[i]) == 0) {
			*rtc = (enum rtc)i;
			return 0;
		}
	}
	if (!text)
		return 0;
	nearest = word_nearest(text, names);
	error_set(err, -EINVAL, "--rtc '%.100s': there are pl031 and mc146818", text);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return -EINVAL;
}

int arm64_psci_user(const struct guest_config *config, bool *user, struct error *err)
{
	const char *text = config->arm.psci;

	*user = text && strcmp(text, "user") == 0;
	if (!text || *user || strcmp(text, "kvm") == 0)
		return 0;
	return error_set(err, -EINVAL, "--psci '%.100s': there are kvm and user", text);
}

#define VECTOR_STEP 128
#define VECTOR_MAX  2048

int arm64_sve_max_vl(const struct guest_config *config, unsigned *bits, struct error *err)
{
	const char *text = config->arm.sve_max_vl;
	uint64_t value;

	*bits = 0;
	if (!text)
		return 0;
	if (!number(text, &value) || !value || value > VECTOR_MAX || value % VECTOR_STEP)
		return error_set(err, -EINVAL, "--sve-max-vl '%.100s': not a multiple of %d from %d to %d bits", text,
			VECTOR_STEP, VECTOR_STEP, VECTOR_MAX);
	*bits = (unsigned)value;
	return 0;
}

static int check_aarch32(const struct guest_config *config, struct error *err)
{
	if (config->arm.nested)
		return error_set(err, -EINVAL, "--nested does not go with --aarch32: 32-bit guests have no EL2");
	if (config->firmware)
		return error_set(err, -EINVAL, "--firmware does not go with --aarch32: it starts in 64-bit code");
	if (config->arm.sve_max_vl)
		return error_set(
			err, -EINVAL, "--sve-max-vl does not go with --aarch32: 32-bit processors have no SVE");
	if (config->arm.kaslr_seed)
		return error_set(
			err, -EINVAL, "--kaslr-seed does not go with --aarch32: a 32-bit kernel stays in its place");
	if (config->ram > (1ULL << AARCH32_PHYS_BITS) - LAYOUT_RAM)
		return error_set(err, -ERANGE,
			"-m: %llu GiB is beyond the %d bits of address of --aarch32: at most %llu GiB",
			(unsigned long long)(config->ram >> 30), AARCH32_PHYS_BITS,
			(unsigned long long)(((1ULL << AARCH32_PHYS_BITS) - LAYOUT_RAM) >> 30));
	return 0;
}

/* Code that finds what is near it by pages (ADRP) wants to lie at one's begin. */
int arm64_firmware_address(const struct guest_config *config, uint64_t *address, struct error *err)
{
	const char *text = config->arm.firmware_address;

	*address = LAYOUT_RAM;
	if (!text)
		return 0;
	if (!config->firmware)
		return error_set(err, -EINVAL, "--firmware-address goes with --firmware");
	if (!number(text, address))
		return error_set(err, -EINVAL, "--firmware-address '%.100s': not a number, decimal or with 0x", text);
	if (*address % 4096)
		return error_set(err, -EINVAL, "--firmware-address %.100s: not a multiple of 4 KiB", text);
	if (*address - LAYOUT_RAM >= config->ram)
		return error_set(err, -EINVAL, "--firmware-address %.100s: not in RAM, which is 0x%llx-0x%llx", text,
			LAYOUT_RAM, (unsigned long long)(LAYOUT_RAM + config->ram - 1));
	return 0;
}

int arm64_check_options(const struct guest_config *config, struct error *err)
{
	uint64_t value;
	enum rtc rtc;
	unsigned bits;
	bool user;
	int r = config->arm.aarch32 ? check_aarch32(config, err) : 0;

	if (config->arm.sve_max_vl && config->arm.disable_sve)
		return error_set(err, -EINVAL, "--sve-max-vl does not go with --disable-sve: leave one of them out");
	if (r == 0)
		r = arm64_psci_user(config, &user, err);
	if (r == 0)
		r = arm64_sve_max_vl(config, &bits, err);
	if (r == 0)
		r = arm64_kaslr_seed(config, &value, err);
	if (r == 0)
		r = arm64_rtc(config, &rtc, err);
	return r ? r : arm64_firmware_address(config, &value, err);
}
