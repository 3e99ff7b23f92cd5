/* SPDX-License-Identifier: BSD-2-Clause */
/* word.h - what a user may have meant. */
#ifndef TRAPLINE_CORE_WORD_H
#define TRAPLINE_CORE_WORD_H

/*
 * The name in `names` (NULL-ended) that `word`, in letters of whichever case, may
 * have meant, or NULL when none is near.
 */
const char *word_nearest(const char *word, const char *const *names);

#endif
