/* SPDX-License-Identifier: BSD-2-Clause */
/* boot_pack.h - packs bytes as Linux's build packs a kernel, and puts them into a small bzImage. */
#ifndef TRAPLINE_TESTS_BOOT_PACK_H
#define TRAPLINE_TESTS_BOOT_PACK_H

#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "boot_file.h"

enum pack { PACK_GZIP, PACK_XZ, PACK_LZMA, PACK_ZSTD, PACK_LZ4, PACK_BZIP2, NR_PACKS };

static const char *const pack_names[] = { "gzip", "xz", "lzma", "zstd", "lz4", "bzip2" };
_Static_assert(sizeof(pack_names) / sizeof(pack_names[0]) == NR_PACKS, "a name for each");

static inline size_t pack_gzip(const uint8_t *from, size_t n, uint8_t *to, size_t max)
{
	z_stream z = {
		.next_in = (z_const Bytef *)(uintptr_t)from, .avail_in = (uInt)n, .next_out = to, .avail_out = (uInt)max
	};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return max - z.avail_out;
}

/* xz as Linux's build makes it: LZMA2 behind the filter for x86 code, CRC32. */
static inline size_t pack_xz(const uint8_t *from, size_t n, uint8_t *to, size_t max, bool alone)
{
	lzma_options_lzma options;
	lzma_filter filters[] = { { LZMA_FILTER_X86, NULL }, { LZMA_FILTER_LZMA2, &options },
		{ LZMA_VLI_UNKNOWN, NULL } };
	lzma_stream x = LZMA_STREAM_INIT;

	assert_false(lzma_lzma_preset(&options, 1));
	if (alone)
		assert_int_equal(lzma_alone_encoder(&x, &options), LZMA_OK);
	else
		assert_int_equal(lzma_stream_encoder(&x, filters, LZMA_CHECK_CRC32), LZMA_OK);
	x.next_in = from;
	x.avail_in = n;
	x.next_out = to;
	x.avail_out = max;
	assert_int_equal(lzma_code(&x, LZMA_FINISH), LZMA_STREAM_END);
	max -= x.avail_out;
	lzma_end(&x);
	return max;
}

static inline size_t pack_lz4(const uint8_t *from, size_t n, uint8_t *to, size_t max)
{
	size_t at = 4;

	memcpy(to, "\x02\x21\x4c\x18", 4);
	while (n) {
		size_t block = n < 8U << 20 ? n : 8U << 20;
		int packed =
			LZ4_compress_default((const char *)from, (char *)to + at + 4, (int)block, (int)(max - at - 4));

		assert_true(packed > 0);
		memcpy(to + at, &packed, 4);
		at += 4 + (size_t)packed;
		from += block;
		n -= block;
	}
	return at;
}

/* A new buffer with the packed bytes, and behind them their number unpacked, unless the format ends so itself. */
static inline uint8_t *pack(enum pack format, const uint8_t *from, size_t n, size_t *packed)
{
	size_t max = n + n / 2 + 4096, len = 0;
	uint8_t *to = malloc(max);
	unsigned bz = (unsigned)max;
	uint32_t size = (uint32_t)n;

	assert_non_null(to);
	switch (format) {
	case PACK_GZIP:
		*packed = pack_gzip(from, n, to, max);
		return to;
	case PACK_XZ:
	case PACK_LZMA:
		len = pack_xz(from, n, to, max - 4, format == PACK_LZMA);
		break;
	case PACK_ZSTD:
		len = ZSTD_compress(to, max - 4, from, n, 3);
		assert_false(ZSTD_isError(len));
		break;
	case PACK_LZ4:
		len = pack_lz4(from, n, to, max - 4);
		break;
	default:
		assert_int_equal(
			BZ2_bzBuffToBuffCompress((char *)to, &bz, (char *)(uintptr_t)from, (unsigned)n, 1, 0, 0), 0);
		len = bz;
	}
	memcpy(to + len, &size, 4);
	*packed = len + 4;
	return to;
}

#define PACK_AT 0x300 /* where the payload lies in the protected-mode part */

/* A bzImage at `gpa` around a payload: its program, 0x300 bytes of HLT, is never run where that is unpacked. */
static inline uint8_t *pack_bzimage(const uint8_t *payload, size_t n, uint64_t gpa, size_t *size)
{
	struct boot_file head;
	struct setup_header *hdr = boot_file_hdr(&head);
	uint8_t *file;

	boot_file_bzimage(&head, gpa);
	hdr->payload_offset = PACK_AT;
	hdr->payload_length = (uint32_t)n;
	hdr->syssize = (uint32_t)((PACK_AT + n + 15) / 16);
	hdr->init_size = hdr->syssize * 16 + 0x4000;
	*size = 1024 + (size_t)hdr->syssize * 16;
	file = calloc(1, *size);
	assert_non_null(file);
	memcpy(file, head.bytes, 1024);
	memset(file + 1024, 0xf4, PACK_AT);
	memcpy(file + 1024 + PACK_AT, payload, n);
	return file;
}

#endif
