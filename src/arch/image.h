/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image.h - a kernel or initrd file: open for the machine's whole life, because a reset loads it again.
 *
 * Bytes go by pread() straight from the file into guest memory; the host never holds a second copy. Each
 * message names the image and the part of it that is wrong.
 */
#ifndef TRAPLINE_ARCH_IMAGE_H
#define TRAPLINE_ARCH_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/mem.h"

struct image {
	const char *what; /* "kernel", "initrd": for messages */
	const char *path; /* the caller's, outlives the image; NULL: not open */
	int fd;
	uint64_t size; /* bytes, at least 1 */
};

/*
 * Opens a regular, non-empty file. 0 or -errno; `image` is then closed. A device or a pipe is refused: it
 * could not be read again at a reset.
 */
int image_open(struct image *image, const char *what, const char *path, struct error *err)
	__attribute__((warn_unused_result));
/* A zeroed image, or one whose opening failed, is fine. */
void image_close(struct image *image);

/* Sets "what 'path': ..." and returns `code`, a negative errno. */
int image_error(const struct image *image, struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * 0, or -ENOEXEC where [offset, offset + len) is not all inside the file. `part` says what lies there, for
 * the message: "the ELF header".
 */
int image_has(const struct image *image, uint64_t offset, uint64_t len, const char *part, struct error *err)
	__attribute__((warn_unused_result));
/* image_has(), then reads all of it. 0 or -errno. */
int image_read(const struct image *image, uint64_t offset, void *buf, uint64_t len, const char *part, struct error *err)
	__attribute__((warn_unused_result));
/* The same into guest memory at `gpa`. Length 0 is fine. 0 or -errno. */
int image_load(const struct image *image, uint64_t offset, uint64_t len, struct mem *mem, uint64_t gpa,
	struct error *err) __attribute__((warn_unused_result));

/*
 * What a file that starts with these `n` bytes is, where it is no kernel of this architecture but known all
 * the same ("a flat arm64 Image"); NULL if unknown. `n` of 64 or more recognises all it can.
 */
const char *image_recognise(const uint8_t *head, uint64_t n);
/* An ELF machine number's name ("aarch64"); NULL if unknown. */
const char *image_elf_machine(uint16_t machine);

#endif
