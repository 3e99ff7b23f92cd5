/* SPDX-License-Identifier: BSD-2-Clause */
/* lost.h - memory that the host takes away under us ends the process with a line, not silently. */
#ifndef TRAPLINE_HOST_LOST_H
#define TRAPLINE_HOST_LOST_H

/*
 * From now on an access to mapped memory behind which the host has no page any more (SIGBUS: a file of RAM's was cut
 * short, a file system is full, a page is broken) restores the terminal, says a line, and ends the process with
 * STATUS_HOST.
 */
void lost_memory_ends(void);

#endif
