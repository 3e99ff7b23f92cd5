/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_chain.h - the files that an image names as lying below it, all the way down,
 * looked at before a program opens them.
 */
#ifndef TRAPLINE_HOST_DISK_CHAIN_H
#define TRAPLINE_HOST_DISK_CHAIN_H

#include <stdbool.h>

#include "host/disk_format.h"

#define DISK_CHAIN_MOST 64 /* images that lie on each other */

/*
 * Whether what lies below the image `path`, which is of that format, can be served: each file is there, can be read, is
 * what the one above says of it, and lies not below itself; no format is left to be guessed. The file that has a QCOW2
 * image's data is looked at likewise. `locks`, unless it is NULL: and nobody writes one of them, told as disk_lock()
 * tells it with *locks for *told. For its server to judge are what is named by something else than a path (nbd:,
 * json:), and the files that a VMDK names, the one below it and those of its data; other formats name none. 0, or
 * -errno with a line in `err` that says which file names which: -EINVAL, -ELOOP, -E2BIG, -EBUSY, or what the host says
 * of the file.
 */
int disk_chain_check(const char *path, const struct disk_format *format, bool *locks, struct error *err)
	__attribute__((warn_unused_result));

#endif
