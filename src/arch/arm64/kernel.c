/* SPDX-License-Identifier: BSD-2-Clause */
/* kernel.c - takes arm64 kernel files apart; see kernel.h. Nothing in the file is believed. */
#include "arch/arm64/kernel.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "arch/unpack.h"

#define IMAGE_MAGIC 0x644d5241 /* "ARM\x64" */
#define FLAG_BE     1
#define ALIGN       0x200000ULL
/* Kernels before 3.17 do not tell their size, and want their text here. */
#define OLD_TEXT_OFFSET 0x80000ULL
#define OLD_SLACK       (16ULL << 20)

/* A zboot program's header (drivers/firmware/efi/libstub/zboot-header.S). */
struct zboot_header {
	uint32_t mz, magic;
	uint32_t payload_offset, payload_size;
	uint32_t reserved[2];
	char format[32];
};
#define ZBOOT_MAGIC 0x676d697a /* "zimg" */

_Static_assert(sizeof(struct image_header) == 64, "booting.rst");

/*
 * Of what makes an Image an EFI program too, if it is one (the PE format): the
 * parts that say what the file has to hold.
 */
struct pe_header {
	char magic[4]; /* "PE" and two zeros */
	uint16_t machine, sections;
	uint32_t time, symbols, nr_symbols;
	uint16_t optional_size, flags;
};
struct pe_section {
	char name[8];
	uint32_t size, address;
	uint32_t file_size, file_offset;
	uint32_t relocations, lines;
	uint16_t nr_relocations, nr_lines;
	uint32_t flags;
};
_Static_assert(sizeof(struct pe_header) == 24 && sizeof(struct pe_section) == 40, "PE's format");

static int not_for_us(const struct kernel *kernel, const uint8_t *head, uint64_t n, struct error *err)
{
	const char *what = image_recognise(head, n), *machine = NULL;
	const struct image *image = &kernel->image;

	if (n >= 20 && memcmp(head, ELFMAG, SELFMAG) == 0) {
		machine = image_elf_machine((uint16_t)(head[18] | head[19] << 8));
		return image_error(image, err, -ENOEXEC, "an ELF file%s%s, and %s", machine ? " for " : "",
			machine ? machine : "",
			kernel->aarch32 ? "--aarch32 boots the zImage: arch/arm/boot/zImage"
					: "arm64 boots the Image: arch/arm64/boot/Image");
	}
	if (n >= 0x206 && memcmp(head + 0x202, "HdrS", 4) == 0)
		what = "a bzImage, of x86";
	if (!what)
		what = kernel->aarch32 ? "not a kernel: no zImage of 32-bit Arm" : "not a kernel: no arm64 Image";
	return image_error(image, err, -ENOEXEC, "%s", what);
}

/* A kernel of the one kind where one of the other was asked for. 0: it is as it should be, or none at all. */
static int check_width(const struct kernel *kernel, const uint8_t *head, uint64_t n, struct error *err)
{
	struct image_header header;
	struct zboot_header zboot;

	memcpy(&header, head, sizeof(header));
	memcpy(&zboot, head, sizeof(zboot));
	if (arm64_zimage_is(head, n) && !kernel->aarch32)
		return image_error(&kernel->image, err, -ENOEXEC, "a zImage, of 32-bit Arm: --aarch32 starts it");
	if (kernel->aarch32 && (le32toh(header.magic) == IMAGE_MAGIC || le32toh(zboot.magic) == ZBOOT_MAGIC))
		return image_error(&kernel->image, err, -ENOEXEC, "a 64-bit kernel, and --aarch32 starts a 32-bit one");
	return 0;
}

/* The flat Image's header, wherever it came from. */
static int take_header(struct kernel *kernel, const struct image_header *header, struct error *err)
{
	const struct image *image = &kernel->image;
	uint64_t end;

	if (le32toh(header->magic) != IMAGE_MAGIC)
		return image_error(image, err, -ENOEXEC, "what is packed in it is no arm64 Image");
	if (le64toh(header->flags) & FLAG_BE)
		return image_error(image, err, -ENOEXEC, "a big-endian kernel, which this machine does not start");
	kernel->text_offset = le64toh(header->text_offset);
	kernel->mem_size = le64toh(header->image_size);
	if (kernel->mem_size == 0) {
		kernel->text_offset = OLD_TEXT_OFFSET;
		kernel->mem_size = kernel->size + OLD_SLACK;
	}
	if (kernel->mem_size < kernel->size)
		return image_error(image, err, -ENOEXEC, "damaged: it says that it takes %llu bytes, and has %llu",
			(unsigned long long)kernel->mem_size, (unsigned long long)kernel->size);
	if (kernel->text_offset >= ALIGN || __builtin_add_overflow(kernel->text_offset, kernel->mem_size, &end))
		return image_error(image, err, -ENOEXEC, "damaged: its load address or size is impossible");
	return 0;
}

/* The Image's own header counts its bss, so it does not tell that a file was cut short; its sections do. */
static int check_whole(const struct image *image, const struct image_header *header, struct error *err)
{
	const uint64_t at = le32toh(header->pe_header);
	struct pe_section section;
	struct pe_header pe;
	int r = 0;

	if (memcmp(&header->code0, "MZ", 2) != 0 || at < sizeof(*header))
		return 0;
	r = image_read(image, at, &pe, sizeof(pe), "the PE header", err);
	if (r || memcmp(pe.magic, "PE\0\0", 4) != 0)
		return r;
	for (unsigned i = 0; r == 0 && i < le16toh(pe.sections); i++) {
		r = image_read(image, at + sizeof(pe) + le16toh(pe.optional_size) + i * sizeof(section), &section,
			sizeof(section), "the PE section headers", err);
		if (r == 0)
			r = image_has(image, le32toh(section.file_offset), le32toh(section.file_size),
				"a section of the kernel", err);
	}
	return r;
}

static int open_packed(struct kernel *kernel, uint64_t offset, uint64_t len, struct error *err)
{
	struct image_header header;
	struct unpack *u;
	int r = image_has(&kernel->image, offset, len, "the packed kernel", err);

	if (r == 0)
		r = unpack_open(&u, &kernel->image, offset, len, err);
	if (r)
		return r == -ENOTSUP ? -ENOEXEC : r;
	kernel->payload = offset;
	kernel->payload_size = len;
	kernel->size = unpack_size(u);
	kernel->packed = unpack_format_named(unpack_format(u));
	if (kernel->size < sizeof(header))
		r = image_error(&kernel->image, err, -ENOEXEC, "what is packed in it is too short for a kernel");
	if (r == 0)
		r = unpack_read(u, &header, sizeof(header), err);
	unpack_close(u);
	return r ? r : take_header(kernel, &header, err);
}

static int open_zboot(struct kernel *kernel, const struct zboot_header *header, struct error *err)
{
	/* All formats but gzip have the unpacked size behind them, which the header does not count. */
	const uint64_t size_word = strncmp(header->format, "gzip", sizeof(header->format)) == 0 ? 0 : 4;

	kernel->kind = "EFI zboot Image";
	return open_packed(kernel, le32toh(header->payload_offset), le32toh(header->payload_size) + size_word, err);
}

int arm64_kernel_open(struct kernel *kernel, const char *path, bool aarch32, struct error *err)
{
	uint8_t head[0x206] = { 0 };
	struct zboot_header zboot;
	struct image_header header;
	uint64_t n;
	int r;

	memset(kernel, 0, sizeof(*kernel));
	kernel->aarch32 = aarch32;
	r = image_open(&kernel->image, "kernel", path, err);
	if (r)
		return r;
	n = kernel->image.size < sizeof(head) ? kernel->image.size : sizeof(head);
	r = image_read(&kernel->image, 0, head, n, "the header", err);
	if (r == 0)
		r = check_width(kernel, head, n, err);
	if (r)
		return r;
	if (aarch32)
		return arm64_zimage_is(head, n) ? arm64_zimage_open(kernel, head, err)
						: not_for_us(kernel, head, n, err);
	memcpy(&zboot, head, sizeof(zboot));
	memcpy(&header, head, sizeof(header));
	if (n >= sizeof(zboot) && le32toh(zboot.magic) == ZBOOT_MAGIC)
		return open_zboot(kernel, &zboot, err);
	if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b) {
		kernel->kind = "Image";
		return open_packed(kernel, 0, kernel->image.size, err);
	}
	if (n < sizeof(header) || le32toh(header.magic) != IMAGE_MAGIC)
		return not_for_us(kernel, head, n, err);
	kernel->kind = "Image";
	kernel->payload_size = kernel->size = kernel->image.size;
	r = take_header(kernel, &header, err);
	return r ? r : check_whole(&kernel->image, &header, err);
}

void arm64_kernel_close(struct kernel *kernel)
{
	image_close(&kernel->image);
}

static int load_packed(const struct kernel *kernel, struct mem *mem, uint64_t gpa, struct error *err)
{
	struct mem_ref ref;
	struct unpack *u;
	int r = mem_map(mem, gpa, kernel->size, true, &ref);

	if (r)
		return image_error(
			&kernel->image, err, r, "the guest has no RAM for it at 0x%llx", (unsigned long long)gpa);
	r = unpack_open(&u, &kernel->image, kernel->payload, kernel->payload_size, err);
	if (r == 0) {
		r = unpack_read(u, ref.host, kernel->size, err);
		if (r == 0)
			r = unpack_finish(u, err);
		unpack_close(u);
	}
	mem_dirty(mem, gpa, kernel->size);
	mem_unmap(&ref);
	return r;
}

int arm64_kernel_load(const struct kernel *kernel, struct mem *mem, uint64_t gpa, struct error *err)
{
	if (kernel->packed)
		return load_packed(kernel, mem, gpa, err);
	return image_load(&kernel->image, kernel->payload, kernel->payload_size, mem, gpa, err);
}
