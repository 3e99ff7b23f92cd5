/* SPDX-License-Identifier: BSD-2-Clause */
/* word.c - the nearest name for a mistyped one. */
#include "core/word.h"

#include <string.h>

#define WORD_LONGEST 48

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits (insert, delete, replace) that turn a into b; both shorter than WORD_LONGEST. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_LONGEST + 1];
	size_t n = strlen(b);

	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
			corner = above;
		}
	}
	return row[n];
}

const char *word_nearest(const char *word, const char *const *names)
{
	unsigned best = 3; /* more edits than two are no typing error */
	const char *nearest = NULL;

	if (strlen(word) >= WORD_LONGEST)
		return NULL;
	for (; *names; names++) {
		unsigned d = strlen(*names) < WORD_LONGEST ? distance(word, *names) : best;
		/* A beginning of the name is near however much is left out. */
		if (strlen(word) >= 3 && strncmp(word, *names, strlen(word)) == 0)
			d = d < 1 ? d : 1;
		if (d < best && d < strlen(word)) {
			best = d;
			nearest = *names;
		}
	}
	return nearest;
}
