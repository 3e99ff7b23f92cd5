/* SPDX-License-Identifier: BSD-2-Clause */
/* mem.c - bounded copies to and from guest memory, and the host memory that backs guest RAM. */
#include "core/mem.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool mem_wraps(uint64_t gpa, uint64_t len)
{
	return len && gpa + (len - 1) < gpa;
}

void mem_window_open(struct mem_window *w, struct mem *mem)
{
	uint64_t changes;

	bus_read_lock();
	changes = bus_changes(mem->bus);
	if (w->mem != mem || w->changes != changes)
		*w = (struct mem_window){ .mem = mem, .changes = changes };
}

void mem_window_close(struct mem_window *w)
{
	bus_read_unlock();
}

/* The window is where `gpa` is; false: there is no such memory, and no window. */
static __attribute__((noinline)) bool window_move(struct mem_window *w, uint64_t gpa, bool write)
{
	uint64_t len = UINT64_MAX - gpa ? UINT64_MAX - gpa : 1;

	w->memory = NULL;
	/* RAM can be written, and mostly will. */
	w->host = bus_memory(w->mem->bus, gpa, &len, true, &w->memory);
	w->write = w->host;
	if (!w->host && !write) {
		len = UINT64_MAX - gpa ? UINT64_MAX - gpa : 1;
		w->host = bus_memory(w->mem->bus, gpa, &len, false, &w->memory);
	}
	w->gpa = gpa;
	w->len = w->host ? len : 0;
	return w->host;
}

/* The piece at gpa, at most *len bytes (at least 1), as many as are put there; inside a read section. */
static inline void *window_piece(struct mem_window *w, uint64_t gpa, uint64_t *len, bool write)
{
	uint64_t left;

	if ((gpa - w->gpa >= w->len || (write && !w->write)) && !window_move(w, gpa, write))
		return NULL;
	left = w->len - (gpa - w->gpa);
	if (*len > left)
		*len = left;
	return w->host + (gpa - w->gpa);
}

int mem_window_read(struct mem_window *w, uint64_t gpa, void *buf, uint64_t len)
{
	uint8_t *to = buf;

	if (mem_wraps(gpa, len))
		return -EFAULT;
	while (len) {
		uint64_t n = len;
		const void *from = window_piece(w, gpa, &n, false);

		if (!from)
			return -EFAULT;
		memcpy(to, from, n);
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int mem_read(struct mem *mem, uint64_t gpa, void *buf, uint64_t len)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_read(&w, gpa, buf, len);
	mem_window_close(&w);
	return rc;
}

/* Copies from `from`, or fills with `byte` where that is NULL. */
static int window_store(struct mem_window *w, uint64_t gpa, const uint8_t *from, uint8_t byte, uint64_t len)
{
	uint64_t done = 0;
	int rc = 0;

	if (mem_wraps(gpa, len))
		return -EFAULT;
	while (done < len) {
		uint64_t n = len - done;
		void *to = window_piece(w, gpa + done, &n, true);

		if (!to) {
			rc = -EFAULT;
			break;
		}
		if (from)
			memcpy(to, from + done, n);
		else
			memset(to, byte, n);
		done += n;
	}
	/* Also after a failure: what was written was written. */
	mem_dirty(w->mem, gpa, done);
	return rc;
}

int mem_window_write(struct mem_window *w, uint64_t gpa, const void *buf, uint64_t len)
{
	return len ? window_store(w, gpa, buf, 0, len) : 0;
}

int mem_write(struct mem *mem, uint64_t gpa, const void *buf, uint64_t len)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_write(&w, gpa, buf, len);
	mem_window_close(&w);
	return rc;
}

int mem_fill(struct mem *mem, uint64_t gpa, uint8_t byte, uint64_t len)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = window_store(&w, gpa, NULL, byte, len);
	mem_window_close(&w);
	return rc;
}

/* The word at gpa, inside a read section; NULL if it is not one access of the host's. */
static inline void *window_word(struct mem_window *w, uint64_t gpa, uint64_t width, bool write)
{
	uint64_t n = width;
	void *host = gpa % width ? NULL : window_piece(w, gpa, &n, write);

	return host && n == width && (uintptr_t)host % width == 0 ? host : NULL;
}

int mem_window_load16(struct mem_window *w, uint64_t gpa, uint16_t *value)
{
	const uint16_t *word = window_word(w, gpa, sizeof(*word), false);

	*value = word ? le16toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) : 0;
	return word ? 0 : -EFAULT;
}

int mem_load16(struct mem *mem, uint64_t gpa, uint16_t *value)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_load16(&w, gpa, value);
	mem_window_close(&w);
	return rc;
}

int mem_window_load32(struct mem_window *w, uint64_t gpa, uint32_t *value)
{
	const uint32_t *word = window_word(w, gpa, sizeof(*word), false);

	*value = word ? le32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) : 0;
	return word ? 0 : -EFAULT;
}

int mem_load32(struct mem *mem, uint64_t gpa, uint32_t *value)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_load32(&w, gpa, value);
	mem_window_close(&w);
	return rc;
}

int mem_window_store16(struct mem_window *w, uint64_t gpa, uint16_t value)
{
	uint16_t *word = window_word(w, gpa, sizeof(*word), true);

	if (!word)
		return -EFAULT;
	__atomic_store_n(word, htole16(value), __ATOMIC_RELEASE);
	mem_dirty(w->mem, gpa, sizeof(*word));
	return 0;
}

int mem_store16(struct mem *mem, uint64_t gpa, uint16_t value)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_store16(&w, gpa, value);
	mem_window_close(&w);
	return rc;
}

int mem_window_store32(struct mem_window *w, uint64_t gpa, uint32_t value)
{
	uint32_t *word = window_word(w, gpa, sizeof(*word), true);

	if (!word)
		return -EFAULT;
	__atomic_store_n(word, htole32(value), __ATOMIC_RELEASE);
	mem_dirty(w->mem, gpa, sizeof(*word));
	return 0;
}

int mem_store32(struct mem *mem, uint64_t gpa, uint32_t value)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_store32(&w, gpa, value);
	mem_window_close(&w);
	return rc;
}

int mem_window_map(
	struct mem_window *w, uint64_t gpa, uint64_t len, bool write, const struct memory *held, struct mem_ref *ref)
{
	void *host;

	*ref = (struct mem_ref){ .gpa = gpa };
	if (!len || mem_wraps(gpa, len))
		return -EFAULT;
	host = window_piece(w, gpa, &len, write);
	if (!host || !w->memory)
		return -EFAULT;
	ref->host = host;
	ref->len = len;
	if (w->memory != held) {
		memory_get(w->memory);
		ref->memory = w->memory;
	}
	return 0;
}

int mem_map_some(struct mem *mem, uint64_t gpa, uint64_t len, bool write, struct mem_ref *ref)
{
	struct mem_window w = { 0 };
	int rc;

	mem_window_open(&w, mem);
	rc = mem_window_map(&w, gpa, len, write, NULL, ref);
	mem_window_close(&w);
	return rc;
}

int mem_map(struct mem *mem, uint64_t gpa, uint64_t len, bool write, struct mem_ref *ref)
{
	int rc = mem_map_some(mem, gpa, len, write, ref);

	if (rc == 0 && ref->len != len) {
		mem_unmap(ref);
		rc = -EFAULT;
	}
	return rc;
}

int mem_discard(struct mem *mem, uint64_t gpa, uint64_t len)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	while (len) {
		uintptr_t begin, end;
		struct mem_ref ref;

		/*
		 * By reference: the host takes its time, which must not hold up those who wait for readers of the bus.
		 */
		if (mem_map_some(mem, gpa, len, true, &ref) < 0)
			return -EFAULT;
		begin = ((uintptr_t)ref.host + page - 1) & ~(page - 1);
		end = ((uintptr_t)ref.host + ref.len) & ~(page - 1);
		if (begin < end)
			(void)madvise((uint8_t *)ref.host + (begin - (uintptr_t)ref.host), end - begin,
				ref.memory->shared ? MADV_REMOVE : MADV_DONTNEED);
		mem_dirty(mem, ref.gpa, ref.len);
		gpa += ref.len;
		len -= ref.len;
		mem_unmap(&ref);
	}
	return 0;
}

void mem_dirty(struct mem *mem, uint64_t gpa, uint64_t len)
{
	if (mem->watch && len)
		mem->watch->wrote(mem->watch, gpa, len);
}

void mem_unmap(struct mem_ref *ref)
{
	if (ref->memory)
		memory_put(ref->memory);
	*ref = (struct mem_ref){ 0 };
}

bool mem_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len >= 128) {
		uint64_t words[16], any = 0;

		memcpy(words, p, sizeof(words));
		for (unsigned i = 0; i < 16; i++)
			any |= words[i];
		if (any)
			return false;
		p += sizeof(words);
		len -= sizeof(words);
	}
	while (len && !*p) {
		p++;
		len--;
	}
	return len == 0;
}

static void memory_release(struct memory *mem)
{
	munmap(mem->host, mem->size);
	free(mem);
}

int memory_new(uint64_t size, struct memory **out)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), head, tail;
	struct memory *mem;
	uint8_t *map;

	*out = NULL;
	if (!size)
		return -EINVAL;
	if (size > SIZE_MAX / 2)
		return -ENOMEM;
	size = (size + page - 1) & ~(page - 1);
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	map = mmap(
		NULL, size + MEMORY_ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		int rc = -errno;

		free(mem);
		return rc;
	}
	/* mmap() promises page alignment only: map more and give the ends back. */
	head = -(uint64_t)(uintptr_t)map & (MEMORY_ALIGN - 1);
	tail = MEMORY_ALIGN - head;
	if (head)
		munmap(map, head);
	munmap(map + head + size, tail);
	mem->host = map + head;
	mem->size = size;
	mem->fd = -1;
	mem->refs = 1;
	mem->release = memory_release;
	/* A wish: a kernel without huge pages serves small ones. */
	(void)madvise(mem->host, size, MADV_HUGEPAGE);
	*out = mem;
	return 0;
}
