/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * say.h - words to the user on standard error, which do not hold up who says them for long: nobody may be reading
 * there.
 */
#ifndef TRAPLINE_CORE_SAY_H
#define TRAPLINE_CORE_SAY_H

#include <stdarg.h>
#include <stddef.h>

#define SAY_MS      1000 /* for the last words: somebody may be slow */
#define SAY_SOON_MS 20   /* in mid-run: a terminal takes nothing while another thread writes to it */

/* Writes `n` bytes as far as the reader takes them, waiting `ms` at most each time that it does not. */
void say_text(const char *text, size_t n, int ms);
/* One line "trapline: ...", cut to fit. */
void say(int ms, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
