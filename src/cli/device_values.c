/* SPDX-License-Identifier: BSD-2-Clause */
/* device_values.c - values of keys that more than one kind of device has. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/devices.h"

int device_mac(const char *text, uint8_t mac[6], struct error *err)
{
	static const uint8_t none[6] = { 0 };

	for (unsigned i = 0; i < 18; i++) {
		bool good = i == 17 ? !text[i] : i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char)text[i]);

		if (!good)
			return error_set(err, -EINVAL, "mac=%.40s: not of the form 52:54:00:12:34:56", text);
		if (i % 3 == 0)
			mac[i / 3] = (uint8_t)strtoul(text + i, NULL, 16);
	}
	if ((mac[0] & 1) || memcmp(mac, none, 6) == 0)
		return error_set(err, -EINVAL, "mac=%s: no address of one device%s", text,
			mac[0] & 1 ? ": its first byte is odd, as those of groups are" : "");
	return 0;
}

int device_number(const char *key, const char *text, unsigned least, unsigned most, unsigned *value, struct error *err)
{
	char *end;
	unsigned long n = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : ULONG_MAX;

	if (n == ULONG_MAX || *end || n < least || n > most)
		return error_set(err, -EINVAL, "%s=%.40s: not a number from %u to %u", key, text, least, most);
	*value = (unsigned)n;
	return 0;
}
