/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.c - takes bzImages apart, and chooses the way in which a kernel is started.
 *
 * Nothing in the file is believed: each offset and length is checked against the file before it is used, and
 * each sum for overflow. Whether the places suit the guest's RAM is boot.c's business.
 */
#include "arch/x86/kernel.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define HDR_MAGIC   0x53726448 /* "HdrS" */
#define HDR_VERSION 0x020a     /* the first to tell where the kernel wants to be, and how much memory it needs */
#define VERSION_64  0x020c     /* the first with xloadflags, which tell whether there is a 64-bit entry */
#define ENTRY_64    0x200
#define SECTOR      512

#define HDR_OFFSET(field) (offsetof(struct zero_page, hdr) + offsetof(struct boot_header, field))

_Static_assert(HDR_OFFSET(header) == 0x202 && HDR_OFFSET(init_size) == 0x260, "the protocol's offsets");

static const struct {
	const char *name, *text;
} ways[] = {
	[BOOT_AUTO] = { "auto", "whatever it has" },
	[BOOT_PVH] = { "pvh", "PVH" },
	[BOOT_ELF64] = { "elf64", "the 64-bit entry of an ELF file" },
	[BOOT_BZIMAGE64] = { "bzimage64", "the 64-bit entry of a bzImage" },
	[BOOT_BZIMAGE32] = { "bzimage32", "the 32-bit entry of a bzImage" },
};
_Static_assert(sizeof(ways) / sizeof(ways[0]) == NR_BOOT_WAYS, "a name for each way");

const char *boot_way_name(enum boot_way way)
{
	return ways[way].name;
}

const char *boot_way_text(enum boot_way way)
{
	return ways[way].text;
}

enum boot_way boot_way_find(const char *name)
{
	enum boot_way way = BOOT_AUTO;

	while (way < NR_BOOT_WAYS && strcmp(ways[way].name, name) != 0)
		way++;
	return way;
}

static int file_has(const struct elf_source *source, uint64_t offset, uint64_t len, const char *part, struct error *err)
{
	return image_has(source->image, offset, len, part, err);
}

static int file_read(
	const struct elf_source *source, uint64_t offset, void *buf, uint64_t len, const char *part, struct error *err)
{
	return image_read(source->image, offset, buf, len, part, err);
}

int kernel_choose_elf(struct kernel *kernel, const struct elf *elf, const struct elf_source *source, struct error *err)
{
	bool has64 = elf->is64 && elf->machine == EM_X86_64;
	const struct image *image = &kernel->image;
	uint64_t entry = 0;
	int pvh = elf_find_pvh(elf, source, &entry, err);

	if (pvh < 0)
		return pvh;
	if (!pvh && elf->interpreted)
		return image_error(image, err, -ENOEXEC, "a program for an operating system, not a kernel");
	if (!pvh && kernel->wanted == BOOT_PVH)
		return image_error(image, err, -ENOEXEC, "it has no PVH note: --boot pvh is impossible");
	if (!has64 && kernel->wanted == BOOT_ELF64)
		return image_error(image, err, -ENOEXEC, "a 32-bit ELF file: --boot elf64 is impossible");
	if (pvh && kernel->wanted != BOOT_ELF64) {
		kernel->way = BOOT_PVH;
		kernel->entry = entry;
		return 0;
	}
	if (!has64)
		return image_error(image, err, -ENOTSUP, "a 32-bit ELF file without a PVH note: no way to start it");
	if (!elf_covers(elf, elf->entry))
		return image_error(image, err, -ENOEXEC, "damaged: the ELF entry 0x%llx lies in no segment",
			(unsigned long long)elf->entry);
	kernel->way = BOOT_ELF64;
	kernel->entry = elf->entry;
	return 0;
}

static int open_elf(struct kernel *kernel, struct error *err)
{
	const struct elf_source source = { &kernel->image, file_has, file_read };
	struct elf elf;
	int r;

	if (kernel->wanted == BOOT_BZIMAGE64 || kernel->wanted == BOOT_BZIMAGE32)
		return image_error(&kernel->image, err, -ENOEXEC, "an ELF file, no bzImage: --boot %s is impossible",
			boot_way_name(kernel->wanted));
	r = elf_parse(&elf, &source, err);
	if (r == 0)
		r = kernel_choose_elf(kernel, &elf, &source, err);
	if (r)
		return r == -ENOTSUP ? -ENOEXEC : r;
	kernel->kind = elf.is64 ? "ELF" : "32-bit ELF";
	memcpy(kernel->segments, elf.segments, sizeof(elf.segments));
	kernel->nr_segments = elf.nr_segments;
	kernel->zero_rest = true;
	kernel->initrd_max = UINT32_MAX;
	kernel->cmdline_max = UINT32_MAX;
	return 0;
}

/* Copies the setup header: from 0x1f1 up to 0x202 plus the byte at 0x201 (boot.rst, "The Real-Mode Kernel Header"). */
static int read_setup_header(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const uint64_t start = offsetof(struct zero_page, hdr);
	struct boot_header *hdr = &kernel->hdr;
	uint64_t end;
	int r = image_read(image, start, hdr, HDR_OFFSET(realmode_swtch) - start, "the setup header", err);

	if (r)
		return r;
	if (hdr->version < HDR_VERSION)
		return image_error(image, err, -ENOEXEC,
			"its boot protocol %u.%02u is too old; 2.10 (Linux 2.6.31) or newer is needed",
			hdr->version >> 8, hdr->version & 0xff);
	end = HDR_OFFSET(header) + (hdr->jump >> 8);
	if (end < HDR_OFFSET(handover_offset))
		return image_error(image, err, -ENOEXEC, "damaged: its setup header is too short");
	if (end > start + sizeof(*hdr))
		end = start + sizeof(*hdr);
	return image_read(image, start, hdr, end - start, "the setup header", err);
}

static bool has_entry_64(const struct boot_header *hdr)
{
	return hdr->version >= VERSION_64 && (hdr->xloadflags & HDR_KERNEL_64);
}

static int check_setup_header(const struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const struct boot_header *hdr = &kernel->hdr;

	if (!(hdr->loadflags & HDR_LOADED_HIGH))
		return image_error(image, err, -ENOEXEC, "a zImage, not a bzImage");
	if (kernel->wanted == BOOT_BZIMAGE64 && !has_entry_64(hdr))
		return image_error(image, err, -ENOEXEC,
			"a 32-bit kernel, without a 64-bit entry: --boot bzimage64 is impossible");
	if (hdr->syssize == 0)
		return image_error(image, err, -ENOEXEC, "damaged: its kernel part is empty");
	return 0;
}

/* The program at the front of which the entries are, and which the header tells the place and size of. */
static int find_outer(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const struct boot_header *hdr = &kernel->hdr;
	struct kernel_segment *outer = &kernel->outer;
	uint64_t end;
	int r;

	/* 0 means 4, for kernels older than the field (boot.rst). */
	outer->offset = ((hdr->setup_sects ? hdr->setup_sects : 4U) + 1U) * SECTOR;
	outer->file_size = (uint64_t)hdr->syssize * 16;
	/* The size counts paragraphs: the file may end inside the last one. */
	if (outer->offset < image->size && image->size - outer->offset < outer->file_size &&
		outer->file_size - (image->size - outer->offset) < 16)
		outer->file_size = image->size - outer->offset;
	r = image_has(image, outer->offset, outer->file_size, "the kernel behind the setup code", err);
	if (r)
		return r;
	outer->gpa = hdr->pref_address;
	outer->mem_size = hdr->init_size > outer->file_size ? hdr->init_size : outer->file_size;
	if (__builtin_add_overflow(outer->gpa, outer->mem_size, &end) || outer->file_size <= ENTRY_64)
		return image_error(image, err, -ENOEXEC, "damaged: its load address or size is impossible");
	return 0;
}

/* What is packed in it, where it is to be unpacked here. */
static int find_payload(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	uint64_t offset = kernel->hdr.payload_offset, len = kernel->hdr.payload_length;

	if (kernel->wanted == BOOT_BZIMAGE64 || kernel->wanted == BOOT_BZIMAGE32)
		return 0;
	if (len == 0) {
		image_error(image, err, -ENOEXEC, "its header does not tell where the packed kernel is");
		if (kernel->wanted != BOOT_AUTO)
			return error_prefix(err, -ENOEXEC, "--boot %s", boot_way_name(kernel->wanted));
		snprintf(kernel->note, sizeof(kernel->note), "%.255s", err->text);
		*err = (struct error){ 0 };
		return 0;
	}
	if (offset > kernel->outer.file_size || len > kernel->outer.file_size - offset)
		return image_error(image, err, -ENOEXEC, "damaged: its payload ends beyond the kernel");
	kernel->payload = kernel->outer.offset + offset;
	kernel->payload_size = len;
	return 0;
}

void kernel_choose_outer(struct kernel *kernel)
{
	bool entry_64 = has_entry_64(&kernel->hdr) && kernel->wanted != BOOT_BZIMAGE32;

	kernel->segments[0] = kernel->outer;
	kernel->nr_segments = 1;
	kernel->zero_rest = false;
	kernel->packed = NULL;
	kernel->from = KERNEL_FROM_FILE;
	kernel->way = entry_64 ? BOOT_BZIMAGE64 : BOOT_BZIMAGE32;
	kernel->entry = kernel->outer.gpa + (entry_64 ? ENTRY_64 : 0);
}

static int open_bzimage(struct kernel *kernel, struct error *err)
{
	int r = read_setup_header(kernel, err);

	if (r == 0)
		r = check_setup_header(kernel, err);
	if (r == 0)
		r = find_outer(kernel, err);
	if (r == 0)
		r = find_payload(kernel, err);
	if (r)
		return r;
	kernel->kind = has_entry_64(&kernel->hdr) ? "bzImage" : "32-bit bzImage";
	kernel->initrd_max = kernel->hdr.initrd_addr_max;
	kernel->cmdline_max = kernel->hdr.cmdline_size;
	kernel_choose_outer(kernel);
	return 0;
}

static int open_unknown(const struct image *image, const uint8_t *head, uint64_t n, struct error *err)
{
	const char *what = image_recognise(head, n);

	if (what) {
		image_error(image, err, -ENOEXEC, "%s", what);
		error_hint(err, "this machine is x86_64, and boots a bzImage or an ELF file");
		return -ENOEXEC;
	}
	/* A bzImage's first sector is a PE header, "MZ", or at least a boot sector. */
	if (image->size < HDR_OFFSET(realmode_swtch) && n >= 2 && !memcmp(head, "MZ", 2))
		return image_error(image, err, -ENOEXEC,
			"truncated: the file has %llu bytes and ends before a bzImage's setup header",
			(unsigned long long)image->size);
	return image_error(image, err, -ENOEXEC, "not a kernel: neither ELF nor bzImage");
}

int kernel_open(struct kernel *kernel, const char *path, enum boot_way wanted, struct error *err)
{
	uint8_t head[0x206] = { 0 };
	uint64_t n;
	uint32_t magic;
	int r;

	memset(kernel, 0, sizeof(*kernel));
	kernel->wanted = wanted;
	r = image_open(&kernel->image, "kernel", path, err);
	if (r)
		return r;
	n = kernel->image.size < sizeof(head) ? kernel->image.size : sizeof(head);
	r = image_read(&kernel->image, 0, head, n, "the first sector", err);
	if (r)
		return r;
	memcpy(&magic, head + HDR_OFFSET(header), sizeof(magic));
	if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
		return open_elf(kernel, err);
	if (n == sizeof(head) && magic == HDR_MAGIC)
		return open_bzimage(kernel, err);
	return open_unknown(&kernel->image, head, n, err);
}

void kernel_close(struct kernel *kernel)
{
	image_close(&kernel->image);
}
