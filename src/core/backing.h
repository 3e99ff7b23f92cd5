/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backing.h - what the host backs guest RAM with: anonymous memory, huge pages, a file; filled at once or not; from
 * which NUMA node; and whether another process can map it.
 */
#ifndef TRAPLINE_CORE_BACKING_H
#define TRAPLINE_CORE_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/bus.h"
#include "core/error.h"

struct backing_config {
	/* At most one of the three; strings are the caller's. */
	const char *file;      /* keeps RAM: made, or, when it is there, of RAM's size */
	const char *hugetlbfs; /* a mount of that file system, whose page size is used */
	bool huge;             /* huge pages without a mount, of huge_page bytes; 0: the host's default */
	uint64_t huge_page;

	/* Others are to map it, by memory->fd: what would be anonymous memory is a file without a name (memfd). */
	bool shared;
	bool prefault;
	bool (*interrupted)(struct error *err); /* asked meanwhile: true ends it, with a line. NULL: nothing does */
	bool bind;                              /* to NUMA node `node` */
	unsigned node;
};

struct backing {
	struct memory *memory; /* NULL: none, or given back */
	const char *made;      /* the file that backing_new() made, until backing_keep(); else NULL */
	bool used;             /* memory is not all zeros: an older file's */
};

/*
 * What can be known without touching anything, in a dry run too: 0, or -errno with a line in `err`; usage errors set
 * its status. Fills in huge_page.
 */
int backing_check(struct backing_config *config, uint64_t size, struct error *err) __attribute__((warn_unused_result));
/*
 * `size` bytes, a whole number of pages, aligned to 2 MiB and to the pages. 0, or -errno with a
 * line in `err`, and nothing is left behind.
 */
int backing_new(const struct backing_config *config, uint64_t size, struct backing *backing, struct error *err)
	__attribute__((warn_unused_result));
/* From now on a file that was made stays: the guest has run. */
void backing_keep(struct backing *backing);
/* Drops the reference to the memory, and removes a file that was made but not kept. Fine on all zeros. */
void backing_free(struct backing *backing);

/* "file /x", "huge pages of 2 MiB from /dev/hugepages", "anonymous memory"; then ", filled at start" and so on. */
void backing_text(const struct backing_config *config, char *text, size_t size);

#endif
