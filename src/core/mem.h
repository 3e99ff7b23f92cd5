/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.h - the gateway through which devices touch guest memory (DMA).
 *
 * Bounded copies between host buffers and guest-physical memory, over the RAM and ROM regions of the bus. It
 * never reaches a handler, so devices cannot re-enter each other. All DMA passes here, so what must see it
 * (dirty logging, recording) hangs a watch on it.
 */
#ifndef TRAPLINE_CORE_MEM_H
#define TRAPLINE_CORE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

struct mem_watch {
	void (*wrote)(struct mem_watch *watch, uint64_t gpa, uint64_t len);
};

struct mem {
	struct bus *bus;
	struct mem_watch *watch; /* NULL, or told of each write after it; set while no vCPU runs */
};

/* A piece of guest memory that stays valid, even when its region moves away, until mem_unmap(). */
struct mem_ref {
	void *host;
	uint64_t gpa, len;
	struct memory *memory;
};

/*
 * The last look-up, kept for those that follow: RAM is few regions, and what belongs together mostly lies in one. Used
 * between mem_window_open() and mem_window_close() only; from one time to the next it keeps what is still true. By one
 * thread at a time. Begins as all zeros.
 */
struct mem_window {
	/* mem.c's own */
	struct mem *mem;
	uint64_t changes; /* of the bus, when it was opened */
	uint64_t gpa, len;
	uint8_t *host;
	struct memory *memory;
	bool write;
};

/* A read section of the bus's around all that is done by the window. */
void mem_window_open(struct mem_window *w, struct mem *mem);
void mem_window_close(struct mem_window *w);
/* What the calls of the same names without `window` do, which are these with a window of their own. */
int mem_window_read(struct mem_window *w, uint64_t gpa, void *buf, uint64_t len) __attribute__((warn_unused_result));
int mem_window_write(struct mem_window *w, uint64_t gpa, const void *buf, uint64_t len)
	__attribute__((warn_unused_result));
int mem_window_load16(struct mem_window *w, uint64_t gpa, uint16_t *value) __attribute__((warn_unused_result));
int mem_window_load32(struct mem_window *w, uint64_t gpa, uint32_t *value) __attribute__((warn_unused_result));
int mem_window_store16(struct mem_window *w, uint64_t gpa, uint16_t value) __attribute__((warn_unused_result));
int mem_window_store32(struct mem_window *w, uint64_t gpa, uint32_t value) __attribute__((warn_unused_result));
/*
 * As mem_map_some(), but where the memory is `held`, to which the caller has a reference that outlives this one, none
 * is taken, and ref->memory is NULL.
 */
int mem_window_map(struct mem_window *w, uint64_t gpa, uint64_t len, bool write, const struct memory *held,
	struct mem_ref *ref) __attribute__((warn_unused_result));

/* 0, or -EFAULT if any byte has no RAM behind it; then bytes before it may have been written. */
int mem_read(struct mem *mem, uint64_t gpa, void *buf, uint64_t len) __attribute__((warn_unused_result));
int mem_write(struct mem *mem, uint64_t gpa, const void *buf, uint64_t len) __attribute__((warn_unused_result));
int mem_fill(struct mem *mem, uint64_t gpa, uint8_t byte, uint64_t len) __attribute__((warn_unused_result));
/*
 * For words that a guest's processors touch at the same time: one access of the host's, never torn, little-endian.
 * Loads acquire, stores release. 0, or -EFAULT: no RAM, or not aligned to the width (in the guest or behind it).
 */
int mem_load16(struct mem *mem, uint64_t gpa, uint16_t *value) __attribute__((warn_unused_result));
int mem_load32(struct mem *mem, uint64_t gpa, uint32_t *value) __attribute__((warn_unused_result));
int mem_store16(struct mem *mem, uint64_t gpa, uint16_t value) __attribute__((warn_unused_result));
int mem_store32(struct mem *mem, uint64_t gpa, uint32_t value) __attribute__((warn_unused_result));
/* As much of [gpa, gpa + len) as lies in one piece of host memory: at least a byte, in ref->len. 0 or -EFAULT. */
int mem_map_some(struct mem *mem, uint64_t gpa, uint64_t len, bool write, struct mem_ref *ref)
	__attribute__((warn_unused_result));
/* 0 or -EFAULT: all of [gpa, gpa + len) in one piece of host memory. A writer calls mem_dirty() when done. */
int mem_map(struct mem *mem, uint64_t gpa, uint64_t len, bool write, struct mem_ref *ref)
	__attribute__((warn_unused_result));
/*
 * Gives the host's pages that lie wholly in [gpa, gpa + len) back to it: where it takes them (not parts of its huge
 * pages) they read as zeros from now on. 0, or -EFAULT: there is not RAM all over; what is before that was given back.
 */
int mem_discard(struct mem *mem, uint64_t gpa, uint64_t len) __attribute__((warn_unused_result));
void mem_dirty(struct mem *mem, uint64_t gpa, uint64_t len);
void mem_unmap(struct mem_ref *ref);

/* Guest RAM's place in the host: where it has a huge page, so has the host. */
#define MEMORY_ALIGN (2ULL << 20)

/* Whether it is. Looks no further than the first that is not, and not a library that is not in memory yet. */
bool mem_is_zero(const void *buf, size_t len);

/*
 * Anonymous host memory for guest RAM: 2 MiB aligned, no page touched, no swap reserved, THP wanted.
 * 0 or -errno; the caller owns one reference.
 */
int memory_new(uint64_t size, struct memory **out) __attribute__((warn_unused_result));

#endif
