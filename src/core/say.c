/* SPDX-License-Identifier: BSD-2-Clause */
/* say.c - words to the user; see say.h. */
#include "core/say.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a terminal or a pipe takes without blocking when poll says that it is writable. */
#define SAY_CHUNK 256
#define SAY_LINE  1024

void say_text(const char *text, size_t n, int ms)
{
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };

	while (n) {
		ssize_t done;

		/* A signal is no reader: it costs the words, which is better than to wait anew. */
		if (poll(&pfd, 1, ms) <= 0)
			return;
		done = write(STDERR_FILENO, text, n < SAY_CHUNK ? n : SAY_CHUNK);
		if (done <= 0 && errno != EINTR)
			return;
		if (done > 0) {
			text += done;
			n -= (size_t)done;
		}
	}
}

void say(int ms, const char *fmt, ...)
{
	static const char before[] = "trapline: ";
	char line[SAY_LINE];
	size_t at = sizeof(before) - 1;
	va_list ap;
	int n;

	memcpy(line, before, at);
	va_start(ap, fmt);
	n = vsnprintf(line + at, sizeof(line) - at - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	at = (size_t)n < sizeof(line) - at - 1 ? at + (size_t)n : sizeof(line) - 2;
	line[at++] = '\n';
	say_text(line, at, ms);
}
