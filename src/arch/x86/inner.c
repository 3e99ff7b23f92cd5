/* SPDX-License-Identifier: BSD-2-Clause */
/* inner.c - unpacks the kernel in a bzImage to guest memory. */
#include "arch/x86/inner.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/unpack.h"

#define HEAD 4096 /* ELF header and program headers must be in it, as they are in all that a linker makes */

struct inner {
	struct elf_source source; /* first */
	struct unpack *stream;
	uint64_t at;   /* unpacked so far */
	uint64_t size; /* when all is unpacked */
	struct elf elf;
	struct mem *mem; /* NULL until its segments are there */
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

int inner_open(struct inner **out, struct kernel *kernel, struct error *err)
{
	struct inner *inner = calloc(1, sizeof(*inner));
	int r;

	*out = inner;
	if (!inner)
		return image_error(&kernel->image, err, -ENOMEM, "no memory to unpack it");
	inner->source = (struct elf_source){ &kernel->image, inner_has, inner_read };
	r = unpack_open(&inner->stream, &kernel->image, kernel->payload, kernel->payload_size, err);
	if (r)
		return r;
	inner->size = unpack_size(inner->stream);
	inner->at = inner->size < HEAD ? inner->size : HEAD;
	r = unpack_read(inner->stream, inner->head, inner->at, err);
	if (r)
		return r;
	if (memcmp(inner->head, ELFMAG, SELFMAG) != 0)
		return image_error(&kernel->image, err, -ENOTSUP, "what its %s payload unpacks to is no ELF kernel",
			unpack_format(inner->stream));
	r = elf_parse(&inner->elf, &inner->source, err);
	if (r)
		return r;
	kernel->packed = unpack_format(inner->stream);
	memcpy(kernel->segments, inner->elf.segments, sizeof(inner->elf.segments));
	kernel->nr_segments = inner->elf.nr_segments;
	kernel->zero_rest = true;
	return 0;
}

/* One segment's bytes, further on in the stream than all that were loaded before. */
static int unpack_segment(struct inner *inner, const struct kernel_segment *segment, struct mem *mem, struct error *err)
{
	uint64_t offset = segment->offset, left = segment->file_size, kept = 0;
	struct mem_ref ref;
	int r;

	if (left == 0)
		return 0;
	if (offset < inner->at && inner->at > HEAD)
		return image_error(inner->source.image, err, -ENOTSUP, "the kernel in it has overlapping ELF segments");
	r = mem_map(mem, segment->gpa, left, true, &ref);
	if (r)
		return image_error(inner->source.image, err, r, "the guest has no RAM for %llu bytes at 0x%llx",
			(unsigned long long)left, (unsigned long long)segment->gpa);
	if (offset < inner->at) {
		kept = inner->at - offset < left ? inner->at - offset : left;
		memcpy(ref.host, inner->head + offset, kept);
		offset += kept;
		left -= kept;
	}
	if (left) {
		r = unpack_read(inner->stream, NULL, offset - inner->at, err);
		r = r ? r : unpack_read(inner->stream, (uint8_t *)ref.host + kept, left, err);
		inner->at = offset + left;
	}
	mem_dirty(mem, segment->gpa, segment->file_size);
	mem_unmap(&ref);
	return r;
}

/* Indexes of the segments, in the order in which their bytes come. */
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

static int clear_rest(
	const struct inner *inner, const struct kernel_segment *segment, struct mem *mem, struct error *err)
{
	int r = mem_fill(mem, segment->gpa + segment->file_size, 0, segment->mem_size - segment->file_size);

	return r ? image_error(inner->source.image, err, r, "the guest has no RAM at 0x%llx",
			   (unsigned long long)(segment->gpa + segment->file_size))
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
	uint8_t order[ELF_SEGMENTS];
	int r = 0;

	sort(&inner->elf, order);
	for (unsigned i = 0; r == 0 && i < inner->elf.nr_segments; i++) {
		const struct kernel_segment *segment = &inner->elf.segments[order[i]];

		r = unpack_segment(inner, segment, mem, err);
		if (r == 0 && !ram_is_zero && segment->mem_size > segment->file_size)
			r = clear_rest(inner, segment, mem, err);
	}
	if (r == 0)
		r = unpack_finish(inner->stream, err);
	if (r)
		return r;
	inner->mem = mem;
	drop_lost_notes(&inner->elf);
	return kernel_choose_elf(kernel, &inner->elf, &inner->source, err);
}

void inner_close(struct inner *inner)
{
	if (inner)
		unpack_close(inner->stream);
	free(inner);
}
