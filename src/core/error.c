/* SPDX-License-Identifier: BSD-2-Clause */
/* error.c - one-line errors with context. */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "core/status.h"

/* One line it is, whatever a path holds. */
static void one_line(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	one_line(err->text);
	err->hint[0] = '\0';
	return code;
}

int error_prefix(struct error *err, int code, const char *fmt, ...)
{
	char text[sizeof(err->text)], what[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* Cut what does not fit: the innermost words, which stand first, are the ones that matter. */
	snprintf(text, sizeof(text), "%s: %.*s", what, (int)(sizeof(text) - sizeof(what) - 3), err->text);
	snprintf(err->text, sizeof(err->text), "%s", text);
	one_line(err->text);
	return code;
}

int error_of_option(struct error *err, int code)
{
	static const int hosts[] = { ENOMEM, ENOBUFS, EMFILE, ENFILE, ENOSPC, EDQUOT, EIO, EBUSY, EADDRINUSE, EINTR };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		if (code == -hosts[i])
			return code;
	}
	if (!err->status)
		err->status = STATUS_USAGE;
	return code;
}

void error_hint(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
}
