/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unpack.h - a compressed piece of a file, read as a stream: gzip, xz, lzma, zstd, bzip2, and LZ4 in the legacy
 * framing that kernels are packed with.
 *
 * The decoders are the system's libraries, loaded when a stream is opened and dropped when it is closed, so that
 * nobody else pays for them. Bytes are unpacked straight to where the caller wants them. Beside that a stream holds
 * what its format needs: a dictionary (xz, zstd: tens of MiB, as the packer chose), or two blocks (LZ4).
 */
#ifndef TRAPLINE_ARCH_UNPACK_H
#define TRAPLINE_ARCH_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"

struct unpack;

/*
 * Opens the `len` bytes at `offset`, which must be in the file and whose last 4 tell the unpacked size
 * (little-endian), as a gzip file ends by itself and as Linux's build ends the others. 0 or -errno: -ENOTSUP where
 * no decoder is to be had, because the format is unknown or its library is missing; -ENOEXEC too short to be one.
 */
int unpack_open(struct unpack **out, const struct image *image, uint64_t offset, uint64_t len, struct error *err)
	__attribute__((warn_unused_result));
/* The next `len` bytes to `buf`, or away where that is NULL. 0 or -errno: -ENOEXEC damaged, or it ends before. */
int unpack_read(struct unpack *u, void *buf, uint64_t len, struct error *err) __attribute__((warn_unused_result));
/*
 * What is read from now on goes to memory that is all zeros, or not (as at first). Zeros need not be written to such,
 * and where they are not, the host need not give it pages.
 */
void unpack_onto_zeros(struct unpack *u, bool zeros);
/* Reads what is left and judges the whole: its checksum, where the format has one, and its size. 0 or -errno. */
int unpack_finish(struct unpack *u, struct error *err) __attribute__((warn_unused_result));
void unpack_close(struct unpack *u); /* NULL is fine */

uint64_t unpack_size(const struct unpack *u);      /* unpacked, as the file promises */
const char *unpack_format(const struct unpack *u); /* "xz" */
/* The same for a name that was kept: what unpack_format() gave, or NULL. */
const char *unpack_format_named(const char *name);

#endif
