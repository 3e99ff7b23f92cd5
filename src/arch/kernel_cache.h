/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel_cache.h - kernels that were unpacked before, a file each in the user's cache folder, so that the next start
 * of the same kernel only reads.
 *
 * A file is found by the kernel's device and inode, and taken only if the kernel's size and times, and where in it the
 * packed part lies, are what they were; a kernel whose last change is too recent for its times to tell the next one is
 * not kept. What is read is compared with checksums, so nothing is flushed to disk: a file that a crash or a full disk
 * left short or empty is as if it was not there. They are no seal: whoever can write the folder is the user.
 *
 * A file is written under another name, locked meanwhile, and renamed when it is whole. So each kernel has one writer
 * at a time, and a half-written file that is not locked is of a run that was killed: the next writer takes it over, or
 * removes it.
 */
#ifndef TRAPLINE_ARCH_KERNEL_CACHE_H
#define TRAPLINE_ARCH_KERNEL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"

#define KERNEL_CACHE_PIECES 33           /* at most, in one file */
#define KERNEL_CACHE_FILES  8            /* that many are kept, those used last */
#define KERNEL_CACHE_BYTES  (1ULL << 30) /* and of these no more than fit into this */
#define KERNEL_CACHE_CHUNK  (128U << 10) /* read, and best written, at once: what a near cache holds */
#define KERNEL_CACHE_AGE    2            /* seconds since a kernel's last change before it is kept */

/* What a machine does with the cache. */
enum kernel_cache_use { KERNEL_CACHE_OFF, KERNEL_CACHE_LOOK, KERNEL_CACHE_KEEP };

/* Which kernel: that of a file that has not changed. Times are ns since 1970. */
struct kernel_cache_key {
	uint64_t dev, ino, size, mtime, ctime;
	uint64_t payload, payload_size; /* bytes in it */
};

/* `size` bytes of the unpacked kernel from byte `offset`, at byte `at` of the cache's file. */
struct kernel_cache_piece {
	uint64_t offset, size, at, sum;
};

/* What a file begins with. Of this host's byte order, as a folder of another's cannot be. */
struct kernel_cache_head {
	char magic[8]; /* its last byte is the format's version */
	struct kernel_cache_key key;
	char format[8];    /* "xz", padded with zeros */
	uint64_t unpacked; /* bytes of the whole kernel, of which pieces are there */
	uint64_t nr_pieces;
	struct kernel_cache_piece pieces[KERNEL_CACHE_PIECES];
	uint64_t sum; /* of all above */
};

struct kernel_cache_sum {
	uint64_t lanes[2][4];
};

/* One file of the cache: open to be read, or being written. */
struct kernel_cache {
	int folder, fd; /* -1: not open */
	char name[48];
	struct kernel_cache_head head;
	/* While it is written. */
	uint64_t at;
	struct kernel_cache_sum sum;
};

/*
 * Opens what is kept of this kernel: 0, and its head is right. -ENOENT: nothing, or nothing that could be used; any
 * other -errno: there is no cache, and `err` says why. `path` is the file's, there or not; "" where there is no cache.
 * kernel_cache_close() afterwards in any case.
 */
int kernel_cache_open(struct kernel_cache *cache, const struct image *image, uint64_t payload, uint64_t payload_size,
	char *path, size_t path_size, struct error *err) __attribute__((warn_unused_result));
/* A piece of it, whole. 0, or -EIO: it is not what was written, or cannot be read. */
int kernel_cache_read(struct kernel_cache *cache, unsigned piece, void *buf) __attribute__((warn_unused_result));
/* It was of use: it is among the last to be removed. */
void kernel_cache_used(struct kernel_cache *cache);

/*
 * Begins a file for this kernel, and makes the folder. 0 or -errno: -EBUSY another run is writing it, -EAGAIN the
 * kernel has only just changed. kernel_cache_close() afterwards in any case; it removes a file that was not kept.
 */
int kernel_cache_create(struct kernel_cache *cache, const struct image *image, uint64_t payload, uint64_t payload_size)
	__attribute__((warn_unused_result));
/* Begins the next piece, of what the unpacked kernel has from `offset`. 0 or -ENOSPC: no more pieces. */
int kernel_cache_piece(struct kernel_cache *cache, uint64_t offset) __attribute__((warn_unused_result));
/* More of this piece; all but its last bytes in multiples of 32. 0 or -errno. */
int kernel_cache_write(struct kernel_cache *cache, const void *buf, uint64_t len) __attribute__((warn_unused_result));
/* So many zeros more of this piece, a multiple of 32: no bytes of the disk's. 0 or -errno. */
int kernel_cache_zeros(struct kernel_cache *cache, uint64_t len) __attribute__((warn_unused_result));
/* Finishes the file, if the kernel is still what it was, and removes others that are too many. 0 or -errno. */
int kernel_cache_keep(struct kernel_cache *cache, const struct image *image, const char *format, uint64_t unpacked)
	__attribute__((warn_unused_result));

void kernel_cache_close(struct kernel_cache *cache);

#endif
