/* SPDX-License-Identifier: BSD-2-Clause */
/* cmdline.c - puts a kernel's command line together. */
#include "arch/cmdline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One more word, which fits. Returns the new length. */
static size_t add_word(char *line, size_t size, size_t n, const char *word)
{
	return n + (size_t)snprintf(line + n, size - n, "%s%s", n ? " " : "", word);
}

int cmdline_join(
	char *line, size_t size, const char *const *defaults, const struct guest_config *config, struct error *err)
{
	size_t n = 0, max = size - 1, len = config->params ? strlen(config->params) : 0;

	line[0] = '\0';
	for (; !config->no_default_params && *defaults; defaults++)
		n = add_word(line, size, n, *defaults);
	if (config->root_params && !config->no_default_params)
		n = add_word(line, size, n, config->root_params);
	if (len > max - n - 1) {
		err->status = STATUS_USAGE;
		return error_set(
			err, -E2BIG, "-p: %zu bytes of command line are too many: at most %zu", n + 1 + len, max);
	}
	if (len)
		add_word(line, size, n, config->params);
	return 0;
}

const char *cmdline_root_needs(const struct guest_config *config)
{
	if (config->initrd || config->no_default_params || (config->params && strstr(config->params, "root=")))
		return NULL;
	return config->root_needs;
}
