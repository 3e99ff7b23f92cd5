/* SPDX-License-Identifier: BSD-2-Clause */
/* files.h - how many descriptors the process may have, and whose they are to be. */
#ifndef TRAPLINE_HOST_FILES_H
#define TRAPLINE_HOST_FILES_H

/*
 * For each of `n` devices whose guest decides how many descriptors they hold: a quarter of what the process may have,
 * or its part of a half where they are more than two; at least `least`, at most `most`. The soft limit is raised to the
 * hard one: nothing here calls select(2).
 */
unsigned files_share(unsigned n, unsigned least, unsigned most);

#endif
