/* SPDX-License-Identifier: BSD-2-Clause */
/* word.c - the nearest name for a mistyped one. */
#include "core/word.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define WORD_LONGEST 48

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/*
 * Edits (insert, delete, replace, swap neighbours) that turn a into b, whichever case its
 * letters have; both shorter than WORD_LONGEST.
 */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];
	size_t n = strlen(b);

	for (unsigned j = 0; j <= n; j++)
		last[j] = before[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned *free = before;

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			row[j] = min3(last[j] + 1, row[j - 1] + 1, last[j - 1] + !same(a[i - 1], b[j - 1]));
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) &&
				before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = last;
		last = row;
		row = free;
	}
	return last[n];
}

/* One is the beginning of the other, which is near however much is left out or too much. */
static bool begins(const char *a, const char *b)
{
	size_t len = strlen(a) < strlen(b) ? strlen(a) : strlen(b);

	return len >= 3 && strncasecmp(a, b, len) == 0;
}

const char *word_nearest(const char *word, const char *const *names)
{
	unsigned best = 3; /* more edits than two are no typing error */
	const char *nearest = NULL;
	size_t len = strlen(word);

	if (len >= WORD_LONGEST)
		return NULL;
	for (; *names; names++) {
		size_t longer = strlen(*names) > len ? strlen(*names) : len;
		unsigned d = longer < WORD_LONGEST ? distance(word, *names) : best;

		if (begins(word, *names))
			d = d < 1 ? d : 1;
		/* Nor are more than a third of the word: 'rw' is no 'ro'. */
		if (d < best && 3 * d <= longer) {
			best = d;
			nearest = *names;
		}
	}
	return nearest;
}
