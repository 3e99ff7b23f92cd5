/* SPDX-License-Identifier: BSD-2-Clause */
/* files.c - how many descriptors the process may have; see files.h. */
#include "host/files.h"

#include <sys/resource.h>

unsigned files_share(unsigned n, unsigned least, unsigned most)
{
	struct rlimit limit = { 1024, 1024 };
	rlim_t share;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		const struct rlimit all = { limit.rlim_max, limit.rlim_max };

		if (setrlimit(RLIMIT_NOFILE, &all) == 0)
			limit = all;
	}
	share = limit.rlim_cur / 2 / (n > 2 ? n : 2);
	if (share > most)
		return most;
	return share < least ? least : (unsigned)share;
}
