/* SPDX-License-Identifier: BSD-2-Clause */
/* files.h - how many descriptors the process may have, and whose they are to be. */
#ifndef TRAPLINE_HOST_FILES_H
#define TRAPLINE_HOST_FILES_H

/*
 * For a device whose guest decides how many descriptors it holds: a quarter of what the process may have, since there are other
 * devices; at least `least`, at most `most`. The soft limit is raised to the hard one: nothing here calls select(2).
 */
unsigned files_share(unsigned least, unsigned most);

#endif
