/* SPDX-License-Identifier: BSD-2-Clause */
/* find_kernel.c - the kernel to boot when none was named. */
#include "arch/find_kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* Puts `release` for the first "%s" of `candidate`. False where it does not fit. */
static bool expand(const char *candidate, const char *release, char *path, size_t size)
{
	const char *mark = strstr(candidate, "%s");
	int n;

	if (mark)
		n = snprintf(path, size, "%.*s%s%s", (int)(mark - candidate), candidate, release, mark + 2);
	else
		n = snprintf(path, size, "%s", candidate);
	return n >= 0 && (size_t)n < size;
}

int find_kernel(const char *const *candidates, char *path, size_t size, struct error *err)
{
	char looked[sizeof(err->text) - 64] = "";
	struct utsname host;
	size_t used = 0;

	if (uname(&host) < 0)
		return error_set(err, -errno, "uname: %s", strerror(errno));
	for (; *candidates; candidates++) {
		struct stat st;

		if (!expand(*candidates, host.release, path, size))
			return error_set(err, -ENAMETOOLONG, "%s: %s", *candidates, strerror(ENAMETOOLONG));
		if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
			return 0;
		if (used < sizeof(looked))
			used += (size_t)snprintf(looked + used, sizeof(looked) - used, "%s%s", used ? ", " : "", path);
	}
	error_set(err, -ENOENT, "no kernel was named, and none found: looked at %s", looked);
	error_hint(err, "name one with -k");
	return -ENOENT;
}
