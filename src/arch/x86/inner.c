/* SPDX-License-Identifier: BSD-2-Clause */
/* inner.c - unpacks the kernel in a bzImage to guest memory. */
#include "arch/x86/inner.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/unpack.h"

#define HEAD 4096 /* ELF header and program headers must be in it, as they are in all that a linker makes */

_Static_assert(KERNEL_CACHE_PIECES == 1 + ELF_SEGMENTS, "the beginning, and each segment");

struct inner {
	struct elf_source source; /* first */
	struct unpack *stream;    /* NULL: from the cache */
	struct kernel_cache cache;
	uint64_t at;   /* unpacked so far */
	uint64_t size; /* when all is unpacked */
	struct elf elf;
	uint8_t order[ELF_SEGMENTS]; /* indexes of the segments, in the order in which their bytes come */
	struct mem *mem;             /* NULL until its segments are there */
	uint8_t head[HEAD];
};

static const struct inner *inner_of(const struct elf_source *source)
{
	return (const struct inner *)(const void *)source;
}

static int inner_has(
	const struct elf_source *source, uint64_t offset, uint64_t len, const char *part, struct error *err)
{
	const struct inner *inner = inner_of(source);

	if (offset <= inner->size && len <= inner->size - offset)
		return 0;
	return image_error(source->image, err, -ENOEXEC,
		"damaged: %s needs %llu bytes from byte %llu, the kernel in it has %llu", part, (unsigned long long)len,
		(unsigned long long)offset, (unsigned long long)inner->size);
}

/* From the beginning, which is kept, or from a segment that was loaded. */
static int inner_read(
	const struct elf_source *source, uint64_t offset, void *buf, uint64_t len, const char *part, struct error *err)
{
	const struct inner *inner = inner_of(source);
	int r = inner_has(source, offset, len, part, err);

	if (r)
		return r;
	if (offset + len <= HEAD && offset + len <= inner->size) {
		memcpy(buf, inner->head + offset, len);
		return 0;
	}
	for (unsigned i = 0; inner->mem && i < inner->elf.nr_segments; i++) {
		const struct kernel_segment *segment = &inner->elf.segments[i];
		uint64_t skip = offset - segment->offset;

		if (offset >= segment->offset && skip <= segment->file_size && len <= segment->file_size - skip)
			return mem_read(inner->mem, segment->gpa + skip, buf, len);
	}
	return image_error(source->image, err, -ENOTSUP, "%s of the kernel in it lies at an unusual place", part);
}

static void sort(const struct elf *elf, uint8_t order[static ELF_SEGMENTS])
{
	for (unsigned i = 0; i < elf->nr_segments; i++) {
		unsigned at = i;

		while (at > 0 && elf->segments[order[at - 1]].offset > elf->segments[i].offset) {
			order[at] = order[at - 1];
			at--;
		}
		order[at] = (uint8_t)i;
	}
}

/* Its segments are the cache's pieces, but for zeros at their ends. */
static bool is_cached(const struct inner *inner)
{
	const struct kernel_cache_head *head = &inner->cache.head;

	if (head->nr_pieces != 1 + (uint64_t)inner->elf.nr_segments)
		return false;
	for (unsigned i = 0; i < inner->elf.nr_segments; i++) {
		const struct kernel_segment *segment = &inner->elf.segments[inner->order[i]];

		if (head->pieces[1 + i].offset != segment->offset || head->pieces[1 + i].size > segment->file_size)
			return false;
	}
	return true;
}

static bool read_cached_head(struct inner *inner, const char **format)
{
	const struct kernel_cache_head *head = &inner->cache.head;
	struct error none = { 0 };

	inner->size = head->unpacked;
	inner->at = inner->size < HEAD ? inner->size : HEAD;
	*format = unpack_format_named(head->format);
	if (!*format || head->nr_pieces == 0 || head->pieces[0].offset != 0 || head->pieces[0].size != inner->at ||
		kernel_cache_read(&inner->cache, 0, inner->head) || elf_parse(&inner->elf, &inner->source, &none))
		return false;
	sort(&inner->elf, inner->order);
	return is_cached(inner);
}

/* Whether it is in the cache, and then all that is known before it is loaded. No trouble of the cache's is an error. */
static bool open_cached(struct inner *inner, struct kernel *kernel)
{
	struct error err = { 0 };
	int r = kernel_cache_open(&inner->cache, &kernel->image, kernel->payload, kernel->payload_size,
		kernel->cache_path, sizeof(kernel->cache_path), &err);

	kernel->from = KERNEL_FROM_FILE;
	kernel->cache_note[0] = '\0';
	if (r && r != -ENOENT) {
		snprintf(kernel->cache_note, sizeof(kernel->cache_note), "%.255s", err.text);
		return false;
	}
	if (r == 0 && read_cached_head(inner, &kernel->packed)) {
		kernel->from = KERNEL_FROM_CACHE;
		return true;
	}
	kernel->from = KERNEL_FROM_FILE_CACHED_NEXT;
	kernel_cache_close(&inner->cache);
	return false;
}

static int open_packed(struct inner *inner, const struct kernel *kernel, struct error *err)
{
	int r = unpack_open(&inner->stream, &kernel->image, kernel->payload, kernel->payload_size, err);

	if (r == 0)
		inner->size = unpack_size(inner->stream);
	return r;
}

static int unpack_head(struct inner *inner, struct kernel *kernel, struct error *err)
{
	int r;

	inner->at = inner->size < HEAD ? inner->size : HEAD;
	r = unpack_read(inner->stream, inner->head, inner->at, err);
	if (r)
		return r;
	if (memcmp(inner->head, ELFMAG, SELFMAG) != 0)
		return image_error(&kernel->image, err, -ENOTSUP, "what its %s payload unpacks to is no ELF kernel",
			unpack_format(inner->stream));
	kernel->packed = unpack_format(inner->stream);
	r = elf_parse(&inner->elf, &inner->source, err);
	if (r == 0)
		sort(&inner->elf, inner->order);
	return r;
}

static struct inner *inner_new(const struct kernel *kernel)
{
	struct inner *inner = calloc(1, sizeof(*inner));

	if (inner) {
		inner->cache.folder = inner->cache.fd = -1;
		inner->source = (struct elf_source){ &kernel->image, inner_has, inner_read };
	}
	return inner;
}

int inner_open(struct inner **out, struct kernel *kernel, bool use_cache, struct error *err)
{
	struct inner *inner = inner_new(kernel);
	int r = 0;

	*out = inner;
	if (!inner)
		return image_error(&kernel->image, err, -ENOMEM, "no memory to unpack it");
	if (!use_cache || !open_cached(inner, kernel)) {
		r = open_packed(inner, kernel, err);
		r = r ? r : unpack_head(inner, kernel, err);
	}
	if (r)
		return r;
	memcpy(kernel->segments, inner->elf.segments, sizeof(inner->elf.segments));
	kernel->nr_segments = inner->elf.nr_segments;
	kernel->zero_rest = true;
	return 0;
}

/*
 * `len` bytes from `offset` on, no byte of which was unpacked before, but for the beginning, which is kept. Else
 * -ENOTSUP.
 */
static int unpack_at(struct inner *inner, uint64_t offset, void *buf, uint64_t len, struct error *err)
{
	uint64_t kept = 0;
	int r;

	if (offset < inner->at && inner->at > HEAD)
		return image_error(inner->source.image, err, -ENOTSUP, "the kernel in it has overlapping ELF segments");
	if (offset < inner->at) {
		kept = inner->at - offset < len ? inner->at - offset : len;
		memcpy(buf, inner->head + offset, kept);
		offset += kept;
		len -= kept;
	}
	if (len == 0)
		return 0;
	r = unpack_read(inner->stream, NULL, offset - inner->at, err);
	r = r ? r : unpack_read(inner->stream, (uint8_t *)buf + kept, len, err);
	inner->at = offset + len;
	return r;
}

/* How many of the segment's bytes are loaded from where they come from; what the cache leaves out are zeros. */
static uint64_t stored(const struct inner *inner, unsigned i)
{
	return inner->stream ? inner->elf.segments[inner->order[i]].file_size : inner->cache.head.pieces[1 + i].size;
}

/* The bytes of the segment that is number `i` in the order of the bytes. */
static int load_segment(struct inner *inner, unsigned i, struct mem *mem, struct error *err)
{
	const struct kernel_segment *segment = &inner->elf.segments[inner->order[i]];
	struct mem_ref ref;
	int r;

	if (segment->file_size == 0)
		return 0;
	r = mem_map(mem, segment->gpa, segment->file_size, true, &ref);
	if (r)
		return image_error(inner->source.image, err, r, "the guest has no RAM for %llu bytes at 0x%llx",
			(unsigned long long)segment->file_size, (unsigned long long)segment->gpa);
	if (inner->stream)
		r = unpack_at(inner, segment->offset, ref.host, segment->file_size, err);
	else if (kernel_cache_read(&inner->cache, 1 + i, ref.host))
		r = -ESTALE;
	mem_dirty(mem, segment->gpa, segment->file_size);
	mem_unmap(&ref);
	return r;
}

static int clear_rest(const struct inner *inner, unsigned i, struct mem *mem, struct error *err)
{
	const struct kernel_segment *segment = &inner->elf.segments[inner->order[i]];
	uint64_t loaded = stored(inner, i);
	int r = mem_fill(mem, segment->gpa + loaded, 0, segment->mem_size - loaded);

	return r ? image_error(inner->source.image, err, r, "the guest has no RAM at 0x%llx",
			   (unsigned long long)(segment->gpa + loaded))
		 : 0;
}

/* A note outside of what is loaded is none that a loader could have seen. */
static void drop_lost_notes(struct elf *elf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < elf->nr_notes; i++) {
		const struct elf_note_place *note = &elf->notes[i];
		bool there = false;

		for (unsigned s = 0; s < elf->nr_segments; s++) {
			const struct kernel_segment *segment = &elf->segments[s];

			there |= note->offset >= segment->offset &&
				 note->offset - segment->offset <= segment->file_size &&
				 note->size <= segment->file_size - (note->offset - segment->offset);
		}
		if (there)
			elf->notes[n++] = *note;
	}
	elf->nr_notes = n;
}

int inner_load(struct inner *inner, struct kernel *kernel, struct mem *mem, bool ram_is_zero, struct error *err)
{
	int r = 0;

	if (inner->stream)
		unpack_onto_zeros(inner->stream, ram_is_zero);
	for (unsigned i = 0; r == 0 && i < inner->elf.nr_segments; i++) {
		r = load_segment(inner, i, mem, err);
		if (r == 0 && !ram_is_zero)
			r = clear_rest(inner, i, mem, err);
	}
	if (r == 0 && inner->stream)
		r = unpack_finish(inner->stream, err);
	if (r)
		return r;
	if (!inner->stream && kernel->cache == KERNEL_CACHE_KEEP)
		kernel_cache_used(&inner->cache);
	inner->mem = mem;
	drop_lost_notes(&inner->elf);
	return kernel_choose_elf(kernel, &inner->elf, &inner->source, err);
}

static int save_segment(struct inner *inner, unsigned i, struct kernel_cache *cache, uint8_t *buf, const bool *stop)
{
	const struct kernel_segment *segment = &inner->elf.segments[inner->order[i]];
	int r = kernel_cache_piece(cache, segment->offset);
	struct error err = { 0 };
	uint64_t zeros = 0; /* read, but not written: nor will those be with which it ends */

	for (uint64_t at = 0; r == 0 && at < segment->file_size;) {
		uint64_t n = segment->file_size - at;

		n = n < KERNEL_CACHE_CHUNK ? n : KERNEL_CACHE_CHUNK;
		if (__atomic_load_n(stop, __ATOMIC_RELAXED))
			return -ECANCELED;
		r = unpack_at(inner, segment->offset + at, buf, n, &err);
		at += n;
		if (r == 0 && mem_is_zero(buf, n)) {
			zeros += n;
			continue;
		}
		r = r ? r : kernel_cache_zeros(cache, zeros);
		r = r ? r : kernel_cache_write(cache, buf, n);
		zeros = 0;
	}
	return r;
}

int inner_copy_open(struct inner **out, const struct kernel *kernel)
{
	struct error err = { 0 };

	*out = inner_new(kernel);
	return *out ? open_packed(*out, kernel, &err) : -ENOMEM;
}

int inner_copy(struct inner *inner, struct kernel *kernel, struct kernel_cache *cache, const bool *stop)
{
	struct error err = { 0 };
	uint8_t *buf = NULL;
	int r = unpack_head(inner, kernel, &err);

	r = r ? r : kernel_cache_piece(cache, 0);
	r = r ? r : kernel_cache_write(cache, inner->head, inner->at);
	if (r == 0 && !(buf = malloc(KERNEL_CACHE_CHUNK)))
		r = -ENOMEM;
	for (unsigned i = 0; r == 0 && i < inner->elf.nr_segments; i++)
		r = save_segment(inner, i, cache, buf, stop);
	free(buf);
	r = r ? r : unpack_finish(inner->stream, &err);
	return r ? r : kernel_cache_keep(cache, &kernel->image, kernel->packed, inner->size);
}

void inner_close(struct inner *inner)
{
	if (inner) {
		unpack_close(inner->stream);
		kernel_cache_close(&inner->cache);
	}
	free(inner);
}
