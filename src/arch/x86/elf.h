/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * elf.h - takes an ELF kernel apart, from wherever its bytes come: a file, or a stream that is being unpacked.
 *
 * Nothing in it is believed: each offset and length is checked against the size before it is used, and each sum for
 * overflow. Whether the places suit the guest's RAM is boot.c's business.
 */
#ifndef TRAPLINE_ARCH_X86_ELF_H
#define TRAPLINE_ARCH_X86_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/image.h"

#define ELF_SEGMENTS 32
#define ELF_NOTES    4 /* PT_NOTE segments that are looked through */

/* A piece of the file and its place. [gpa, gpa + mem_size) does not wrap and mem_size >= file_size. */
struct kernel_segment {
	uint64_t offset, file_size; /* bytes in the file, all of which are there */
	uint64_t gpa, mem_size;
};

/* Where the bytes are. */
struct elf_source {
	const struct image *image; /* for messages */
	/* 0 where [offset, offset + len) is in the file, else an error that names `part`. */
	int (*has)(const struct elf_source *source, uint64_t offset, uint64_t len, const char *part, struct error *err);
	/* has(), then all of it to `buf`. 0 or -errno. */
	int (*read)(const struct elf_source *source, uint64_t offset, void *buf, uint64_t len, const char *part,
		struct error *err);
};

struct elf_note_place {
	uint64_t offset, size, align;
};

struct elf {
	bool is64;
	uint16_t machine;
	uint64_t entry; /* guest-physical where a segment tells how, else as the file says */
	struct kernel_segment segments[ELF_SEGMENTS];
	unsigned nr_segments; /* at least 1 */
	struct elf_note_place notes[ELF_NOTES];
	unsigned nr_notes;
	/* It names an interpreter: a program, or a kernel that a boot loader links, such as FreeBSD's. */
	bool interpreted;
};

/* Headers and program headers. 0 or -errno (-ENOEXEC: damaged, or for another machine). */
int elf_parse(struct elf *elf, const struct elf_source *source, struct error *err) __attribute__((warn_unused_result));
/* PVH's note: 1 and *entry, which lies in a segment; 0: it has none; -errno: damaged. */
int elf_find_pvh(const struct elf *elf, const struct elf_source *source, uint64_t *entry, struct error *err)
	__attribute__((warn_unused_result));
/* Whether [gpa] is in a segment. */
bool elf_covers(const struct elf *elf, uint64_t gpa);

#endif
