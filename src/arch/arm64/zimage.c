/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zimage.c - a 32-bit Arm kernel, a zImage: a program that unpacks itself (the kernel's Documentation/arm/booting.rst).
 *
 * It unpacks to the beginning of RAM, from wherever it lies in the first 128 MiB. If that were in its way it would move
 * itself first; here it lies where it need not, right behind what it unpacks to.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "arch/arm64/kernel.h"

#define ZIMAGE_MAGIC    0x016f2818
#define BYTE_ORDER_WORD 0x04030201
/* A table that tells more, since Linux 4.15 (arch/arm/boot/compressed/vmlinux.lds.S). */
#define TABLE_MAGIC 0x45454545
#define TABLE_SIZES 0x5a534c4b

/* What it begins with; little-endian, but for the word that tells of the kernel's own byte order. */
struct zimage_header {
	uint32_t code[9];
	uint32_t magic, start, end, byte_order;
	uint32_t table_magic, table;
};

/* Of that table's one entry; kernels before 5.9 do not have the last two words. */
struct zimage_sizes {
	uint32_t words, tag;
	uint32_t size_at; /* in the file: the kernel's size, unpacked */
	uint32_t bss, text_offset, malloc;
};

/* For kernels that do not tell: enough, and where these would want to be. */
#define USUAL_TEXT_OFFSET 0x208000ULL
#define USUAL_UNPACKED    (32ULL << 20)
#define ALIGN             0x10000ULL
/* It finds the beginning of RAM by its own address. */
#define SPAN (128ULL << 20)
/* Behind the file: its bss, its stack and its heap. */
#define OWN_MEMORY (1ULL << 20)

bool arm64_zimage_is(const uint8_t *head, uint64_t n)
{
	struct zimage_header header;

	if (n < sizeof(header))
		return false;
	memcpy(&header, head, sizeof(header));
	return le32toh(header.magic) == ZIMAGE_MAGIC;
}

/* How much of RAM it takes unpacked, from RAM's beginning on. */
static int unpacked_size(struct kernel *kernel, const struct zimage_header *header, uint64_t *size, struct error *err)
{
	struct zimage_sizes sizes;
	uint32_t unpacked;
	int r;

	*size = USUAL_UNPACKED;
	if (le32toh(header->table_magic) != TABLE_MAGIC)
		return 0;
	r = image_read(&kernel->image, le32toh(header->table), &sizes, sizeof(sizes), "the table of sizes", err);
	if (r || le32toh(sizes.tag) != TABLE_SIZES)
		return r;
	r = image_read(&kernel->image, le32toh(sizes.size_at), &unpacked, sizeof(unpacked), "the unpacked size", err);
	if (r)
		return r;
	*size = le32toh(sizes.words) > 4 ? le32toh(sizes.text_offset) : USUAL_TEXT_OFFSET;
	*size += (uint64_t)le32toh(unpacked) + le32toh(sizes.bss);
	return 0;
}

int arm64_zimage_open(struct kernel *kernel, const uint8_t *head, struct error *err)
{
	struct zimage_header header;
	uint64_t unpacked = 0;
	int r;

	memcpy(&header, head, sizeof(header));
	if (header.byte_order != htole32(BYTE_ORDER_WORD))
		return image_error(
			&kernel->image, err, -ENOEXEC, "a big-endian kernel, which this machine does not start");
	if (le32toh(header.end) <= le32toh(header.start))
		return image_error(&kernel->image, err, -ENOEXEC, "damaged: it ends before it starts");
	kernel->kind = "zImage";
	/* What is behind its end would be taken for a device tree of its own, before the machine's. */
	kernel->payload_size = kernel->size = le32toh(header.end) - le32toh(header.start);
	r = image_has(&kernel->image, 0, kernel->size, "the zImage", err);
	if (r == 0)
		r = unpacked_size(kernel, &header, &unpacked, err);
	if (r)
		return r;
	kernel->text_offset = (unpacked + ALIGN - 1) & ~(ALIGN - 1);
	kernel->mem_size = kernel->size + OWN_MEMORY;
	if (kernel->text_offset + kernel->mem_size > SPAN)
		return image_error(&kernel->image, err, -ENOEXEC,
			"damaged, or too large: it and the %llu bytes that it says it unpacks to are more than 128 MiB",
			(unsigned long long)unpacked);
	return 0;
}
