/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_format.h - formats of disk images that are not raw, told apart by how a file begins and by its name.
 *
 * Both have to agree. How a raw disk begins is up to the guest that writes it: one that writes there what a QCOW2 image
 * begins with, naming a file of the host's as what lies below it, must not get that file in its next run. Its name is
 * not up to the guest. So what looks like an image and is not called so, or the other way round, is neither until the
 * user says which (format=).
 */
#ifndef TRAPLINE_HOST_DISK_FORMAT_H
#define TRAPLINE_HOST_DISK_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

#define DISK_FORMAT_HEAD 512 /* bytes of a file's begin that tell */

struct disk_format {
	const char *name;          /* "qcow2": in format=, and for qemu-storage-daemon */
	const char *title;         /* "QCOW2" */
	const char *extensions[3]; /* of the files, without the dot; NULL-ended */
	bool ro;                   /* it can only be read */
};

extern const struct disk_format disk_formats[]; /* ends with one without a name */

/* What begins so, n bytes at most DISK_FORMAT_HEAD; NULL: raw, as far as can be seen. */
const struct disk_format *disk_format_of(const uint8_t *head, size_t n);
/* What a file of this name is; NULL: raw. */
const struct disk_format *disk_format_called(const char *path);
/* Of that name; NULL: there is none ("raw" is none). */
const struct disk_format *disk_format_named(const char *name);

/*
 * What the file is: *out, NULL for raw. `format`: as the user says, "raw" too; NULL: by begin and name. 0, or -errno
 * with a line in `err`: they disagree, there is no such format, or the file cannot be read. What is no regular file or
 * block device is raw here, for others to judge.
 */
int disk_format_find(const char *path, const char *format, const struct disk_format **out, struct error *err)
	__attribute__((warn_unused_result));
/*
 * `size` bytes of the file from `offset` on, fewer where it ends; none where it is no regular file or block device. How
 * many, or -errno.
 */
ssize_t disk_format_head(const char *path, uint64_t offset, void *head, size_t size);

#endif
