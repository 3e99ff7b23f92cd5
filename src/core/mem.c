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

/* The piece at gpa, at most `len` bytes (at least 1); inside a read section. */
static void *mem_piece(struct mem *mem, uint64_t gpa, uint64_t *len, bool write, struct memory **memory)
{
	uint64_t want = *len;
	void *host = bus_memory(mem->bus, gpa, len, write, memory);

	if (!host || !*len)
		return NULL;
	if (*len > want)
		*len = want;
	return host;
}

int mem_read(struct mem *mem, uint64_t gpa, void *buf, uint64_t len)
{
	uint8_t *to = buf;
	int rc = 0;

	if (mem_wraps(gpa, len))
		return -EFAULT;
	bus_read_lock();
	while (len) {
		uint64_t n = len;
		const void *from = mem_piece(mem, gpa, &n, false, NULL);

		if (!from) {
			rc = -EFAULT;
			break;
		}
		memcpy(to, from, n);
		to += n;
		gpa += n;
		len -= n;
	}
	bus_read_unlock();
	return rc;
}

/* Copies from `from`, or fills with `byte` where that is NULL. */
static int mem_store(struct mem *mem, uint64_t gpa, const uint8_t *from, uint8_t byte, uint64_t len)
{
	uint64_t done = 0;
	int rc = 0;

	if (mem_wraps(gpa, len))
		return -EFAULT;
	bus_read_lock();
	while (done < len) {
		uint64_t n = len - done;
		void *to = mem_piece(mem, gpa + done, &n, true, NULL);

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
	bus_read_unlock();
	/* Also after a failure: what was written was written. */
	mem_dirty(mem, gpa, done);
	return rc;
}

int mem_write(struct mem *mem, uint64_t gpa, const void *buf, uint64_t len)
{
	return len ? mem_store(mem, gpa, buf, 0, len) : 0;
}

int mem_fill(struct mem *mem, uint64_t gpa, uint8_t byte, uint64_t len)
{
	return mem_store(mem, gpa, NULL, byte, len);
}

/* The word at gpa, inside a read section; NULL if it is not one access of the host's. */
static void *mem_word(struct mem *mem, uint64_t gpa, uint64_t width, bool write)
{
	uint64_t n = width;
	void *host = gpa % width ? NULL : mem_piece(mem, gpa, &n, write, NULL);

	return host && n == width && (uintptr_t)host % width == 0 ? host : NULL;
}

int mem_load16(struct mem *mem, uint64_t gpa, uint16_t *value)
{
	const uint16_t *word;

	bus_read_lock();
	word = mem_word(mem, gpa, sizeof(*word), false);
	*value = word ? le16toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) : 0;
	bus_read_unlock();
	return word ? 0 : -EFAULT;
}

int mem_load32(struct mem *mem, uint64_t gpa, uint32_t *value)
{
	const uint32_t *word;

	bus_read_lock();
	word = mem_word(mem, gpa, sizeof(*word), false);
	*value = word ? le32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE)) : 0;
	bus_read_unlock();
	return word ? 0 : -EFAULT;
}

int mem_store16(struct mem *mem, uint64_t gpa, uint16_t value)
{
	uint16_t *word;

	bus_read_lock();
	word = mem_word(mem, gpa, sizeof(*word), true);
	if (word)
		__atomic_store_n(word, htole16(value), __ATOMIC_RELEASE);
	bus_read_unlock();
	if (!word)
		return -EFAULT;
	mem_dirty(mem, gpa, sizeof(*word));
	return 0;
}

int mem_store32(struct mem *mem, uint64_t gpa, uint32_t value)
{
	uint32_t *word;

	bus_read_lock();
	word = mem_word(mem, gpa, sizeof(*word), true);
	if (word)
		__atomic_store_n(word, htole32(value), __ATOMIC_RELEASE);
	bus_read_unlock();
	if (!word)
		return -EFAULT;
	mem_dirty(mem, gpa, sizeof(*word));
	return 0;
}

int mem_map_some(struct mem *mem, uint64_t gpa, uint64_t len, bool write, struct mem_ref *ref)
{
	struct memory *memory = NULL;
	void *host;

	*ref = (struct mem_ref){ .gpa = gpa };
	if (!len || mem_wraps(gpa, len))
		return -EFAULT;
	bus_read_lock();
	host = mem_piece(mem, gpa, &len, write, &memory);
	if (!host || !memory) {
		bus_read_unlock();
		return -EFAULT;
	}
	memory_get(memory);
	bus_read_unlock();
	ref->host = host;
	ref->len = len;
	ref->memory = memory;
	return 0;
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

		/* By reference: the host takes its time, which must not hold up those who wait for readers of the bus. */
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
