/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unpack_codecs.c - the decoders: what each library calls the same four things.
 *
 * Only the libraries' headers are needed to build; their functions are looked up when a stream is opened.
 */
#include <bzlib.h>
#include <dlfcn.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "arch/unpack_codec.h"
#include "core/mem.h"

/* The address of a function pointer holds what dlsym() gave (POSIX: a data pointer can hold a function's address). */
static bool find(void *library, const char *name, void *function)
{
	void *address = dlsym(library, name);

	memcpy(function, &address, sizeof(address));
	return address != NULL;
}

/* Libraries that count in unsigned int: what is beyond it comes with the next step. */
static unsigned clip(size_t n)
{
	return n < UINT_MAX ? (unsigned)n : UINT_MAX;
}

static void moved(struct codec_io *io, size_t in_left, size_t out_left)
{
	io->in += io->in_left - in_left;
	io->out += io->out_left - out_left;
	io->in_left = in_left;
	io->out_left = out_left;
}

/* gzip: RFC 1952. */
struct gzip {
	z_stream z;
	bool up;
	typeof(&inflate) inflate;
	typeof(&inflateEnd) end;
};

static enum codec_result gzip_open(void *state, void *library)
{
	struct gzip *s = state;
	typeof(&inflateInit2_) init;

	if (!find(library, "inflateInit2_", &init) || !find(library, "inflate", &s->inflate) ||
		!find(library, "inflateEnd", &s->end))
		return CODEC_DAMAGED;
	/* 16: a gzip header and trailer, and nothing else. */
	switch (init(&s->z, MAX_WBITS + 16, ZLIB_VERSION, (int)sizeof(s->z))) {
	case Z_OK:
		s->up = true;
		return CODEC_MORE;
	case Z_MEM_ERROR:
		return CODEC_NO_MEMORY;
	default:
		return CODEC_DAMAGED;
	}
}

static enum codec_result gzip_step(void *state, struct codec_io *io)
{
	struct gzip *s = state;
	unsigned in = clip(io->in_left), out = clip(io->out_left);
	int r;

	s->z.next_in = (z_const Bytef *)(uintptr_t)io->in;
	s->z.avail_in = in;
	s->z.next_out = io->out;
	s->z.avail_out = out;
	r = s->inflate(&s->z, Z_NO_FLUSH);
	moved(io, io->in_left - (in - s->z.avail_in), io->out_left - (out - s->z.avail_out));
	switch (r) {
	case Z_OK:
	case Z_BUF_ERROR: /* neither input nor room: the caller sees that nothing moved */
		return CODEC_MORE;
	case Z_STREAM_END:
		return CODEC_END;
	case Z_MEM_ERROR:
		return CODEC_NO_MEMORY;
	default:
		return CODEC_DAMAGED;
	}
}

static void gzip_close(void *state)
{
	struct gzip *s = state;

	if (s->up)
		s->end(&s->z);
}

/* xz (with any filter and checksum that liblzma knows), and the older .lzma. */
struct xz {
	lzma_stream x;
	typeof(&lzma_code) code;
	typeof(&lzma_end) end;
};

static enum codec_result xz_result(lzma_ret r)
{
	switch (r) {
	case LZMA_OK:
	case LZMA_BUF_ERROR:
		return CODEC_MORE;
	case LZMA_STREAM_END:
		return CODEC_END;
	case LZMA_MEM_ERROR:
		return CODEC_NO_MEMORY;
	default:
		return CODEC_DAMAGED;
	}
}

static bool xz_find(struct xz *s, void *library)
{
	return find(library, "lzma_code", &s->code) && find(library, "lzma_end", &s->end);
}

static enum codec_result xz_open(void *state, void *library)
{
	struct xz *s = state;
	typeof(&lzma_stream_decoder) init;

	if (!xz_find(s, library) || !find(library, "lzma_stream_decoder", &init))
		return CODEC_DAMAGED;
	return xz_result(init(&s->x, UINT64_MAX, 0));
}

static enum codec_result lzma_open(void *state, void *library)
{
	struct xz *s = state;
	typeof(&lzma_alone_decoder) init;

	if (!xz_find(s, library) || !find(library, "lzma_alone_decoder", &init))
		return CODEC_DAMAGED;
	return xz_result(init(&s->x, UINT64_MAX));
}

static enum codec_result xz_step(void *state, struct codec_io *io)
{
	struct xz *s = state;
	lzma_ret r;

	s->x.next_in = io->in;
	s->x.avail_in = io->in_left;
	s->x.next_out = io->out;
	s->x.avail_out = io->out_left;
	r = s->code(&s->x, LZMA_RUN);
	moved(io, s->x.avail_in, s->x.avail_out);
	return xz_result(r);
}

static void xz_close(void *state)
{
	struct xz *s = state;

	if (s->end)
		s->end(&s->x);
}

/* zstd: RFC 8878. */
struct zstd {
	ZSTD_DStream *stream;
	typeof(&ZSTD_decompressStream) decompress;
	typeof(&ZSTD_isError) is_error;
	typeof(&ZSTD_freeDStream) free;
};

static enum codec_result zstd_open(void *state, void *library)
{
	struct zstd *s = state;
	typeof(&ZSTD_createDStream) create;
	typeof(&ZSTD_DCtx_setParameter) set;

	if (!find(library, "ZSTD_createDStream", &create) || !find(library, "ZSTD_DCtx_setParameter", &set) ||
		!find(library, "ZSTD_decompressStream", &s->decompress) ||
		!find(library, "ZSTD_isError", &s->is_error) || !find(library, "ZSTD_freeDStream", &s->free))
		return CODEC_DAMAGED;
	s->stream = create();
	if (!s->stream)
		return CODEC_NO_MEMORY;
	/* Kernels are packed with windows beyond the default limit of 128 MiB, which is for streams from strangers. */
	(void)set(s->stream, ZSTD_d_windowLogMax, 31);
	return CODEC_MORE;
}

static enum codec_result zstd_step(void *state, struct codec_io *io)
{
	struct zstd *s = state;
	ZSTD_inBuffer in = { io->in, io->in_left, 0 };
	ZSTD_outBuffer out = { io->out, io->out_left, 0 };
	size_t r = s->decompress(s->stream, &out, &in);

	moved(io, io->in_left - in.pos, io->out_left - out.pos);
	if (s->is_error(r))
		return CODEC_DAMAGED;
	return r == 0 ? CODEC_END : CODEC_MORE;
}

static void zstd_close(void *state)
{
	struct zstd *s = state;

	if (s->stream)
		s->free(s->stream);
}

struct bzip2 {
	bz_stream b;
	bool up;
	typeof(&BZ2_bzDecompress) decompress;
	typeof(&BZ2_bzDecompressEnd) end;
};

static enum codec_result bzip2_open(void *state, void *library)
{
	struct bzip2 *s = state;
	typeof(&BZ2_bzDecompressInit) init;
	int r;

	if (!find(library, "BZ2_bzDecompressInit", &init) || !find(library, "BZ2_bzDecompress", &s->decompress) ||
		!find(library, "BZ2_bzDecompressEnd", &s->end))
		return CODEC_DAMAGED;
	r = init(&s->b, 0, 0);
	s->up = r == BZ_OK;
	return s->up ? CODEC_MORE : r == BZ_MEM_ERROR ? CODEC_NO_MEMORY : CODEC_DAMAGED;
}

static enum codec_result bzip2_step(void *state, struct codec_io *io)
{
	struct bzip2 *s = state;
	unsigned in = clip(io->in_left), out = clip(io->out_left);
	int r;

	s->b.next_in = (char *)(uintptr_t)io->in; /* only read */
	s->b.avail_in = in;
	s->b.next_out = (char *)io->out;
	s->b.avail_out = out;
	r = s->decompress(&s->b);
	moved(io, io->in_left - (in - s->b.avail_in), io->out_left - (out - s->b.avail_out));
	switch (r) {
	case BZ_OK:
		return CODEC_MORE;
	case BZ_STREAM_END:
		return CODEC_END;
	case BZ_MEM_ERROR:
		return CODEC_NO_MEMORY;
	default:
		return CODEC_DAMAGED;
	}
}

static void bzip2_close(void *state)
{
	struct bzip2 *s = state;

	if (s->up)
		s->end(&s->b);
}

/*
 * LZ4's legacy framing (lz4's doc/lz4_Frame_format.md, "Legacy frame"): the magic, then blocks, each of 8 MiB but
 * the last, behind their compressed size. It has no end mark and no checksum. A block that fits where the caller
 * wants it is unpacked there; one that the caller wants in pieces is unpacked aside first.
 */
#define LZ4_BLOCK (8U << 20)

struct lz4 {
	bool begun;
	struct memory
		*memory; /* in huge pages, where the host has them: 8 MiB in small ones take longer than to unpack */
	uint8_t *aside;
	size_t aside_at, aside_end; /* what of it the caller has not had yet */
	typeof(&LZ4_decompress_safe) decompress;
};

static enum codec_result lz4_open(void *state, void *library)
{
	struct lz4 *s = state;

	return find(library, "LZ4_decompress_safe", &s->decompress) ? CODEC_MORE : CODEC_DAMAGED;
}

/*
 * Whether a block holds `whole` zeros and nothing else: as a packer writes that, it is one literal, its repetition at
 * distance 1, whose length is told in 255s and a rest, and the five literals with which each block ends (lz4's
 * doc/lz4_Block_format.md). What is written in another way is unpacked, as everything else is.
 *
 * A kernel has some MiB of zeros in its .bss. To unpack them is one of the longest parts of a start, and touches memory
 * that the guest may never want.
 */
static bool lz4_is_zeros(const uint8_t *in, size_t packed, size_t whole)
{
	static const uint8_t head[] = { 0x1f, 0, 1, 0 }, tail[] = { 0x50, 0, 0, 0, 0, 0 };
	const size_t least = 1 + 19 + 5; /* the literal, the shortest match that has a rest, the last literals */
	size_t n, i = 0;

	if (whole < least || packed != sizeof(head) + (whole - least) / 255 + 1 + sizeof(tail))
		return false;
	n = (whole - least) / 255;
	while (i < n && in[sizeof(head) + i] == 255)
		i++;
	return i == n && !memcmp(in, head, sizeof(head)) && in[sizeof(head) + n] == (whole - least) % 255 &&
	       !memcmp(in + sizeof(head) + n + 1, tail, sizeof(tail));
}

/* A copy to where all is zeros: pages of them are left alone, and the others go in as few pieces as they can. */
static void copy_onto_zeros(uint8_t *to, const uint8_t *from, size_t n)
{
	size_t at = 0, run = 0; /* the bytes before `at` that are still to be copied */

	while (at < n) {
		size_t piece = 4096 - ((uintptr_t)(to + at) & 4095);

		piece = piece < n - at ? piece : n - at;
		if (mem_is_zero(from + at, piece)) {
			memcpy(to + at - run, from + at - run, run);
			run = 0;
		} else {
			run += piece;
		}
		at += piece;
	}
	memcpy(to + n - run, from + n - run, run);
}

static enum codec_result lz4_block(struct lz4 *s, struct codec_io *io, uint32_t packed)
{
	size_t whole = io->total_left < LZ4_BLOCK ? io->total_left : LZ4_BLOCK;
	uint8_t *to = io->out;
	int n;

	if (io->out_left < whole) {
		if (!s->memory && memory_new(LZ4_BLOCK, &s->memory))
			return CODEC_NO_MEMORY;
		to = s->aside = s->memory->host;
	}
	if (to == io->out && io->out_is_zero && lz4_is_zeros(io->in + 4, packed, whole)) {
		moved(io, io->in_left - 4 - packed, io->out_left - whole);
		return CODEC_MORE;
	}
	n = s->decompress((const char *)io->in + 4, (char *)to, (int)packed, (int)whole);
	if (n < 0)
		return CODEC_DAMAGED;
	moved(io, io->in_left - 4 - packed, to == io->out ? io->out_left - (size_t)n : io->out_left);
	if (to == s->aside) {
		s->aside_at = 0;
		s->aside_end = (size_t)n;
	}
	return CODEC_MORE;
}

static enum codec_result lz4_step(void *state, struct codec_io *io)
{
	struct lz4 *s = state;
	size_t n = s->aside_end - s->aside_at;
	uint32_t packed;

	if (n) {
		n = n < io->out_left ? n : io->out_left;
		if (io->out_is_zero)
			copy_onto_zeros(io->out, s->aside + s->aside_at, n);
		else
			memcpy(io->out, s->aside + s->aside_at, n);
		s->aside_at += n;
		moved(io, io->in_left, io->out_left - n);
		return CODEC_MORE;
	}
	if (!s->begun) { /* the magic was seen already */
		s->begun = true;
		moved(io, io->in_left - 4, io->out_left);
		return CODEC_MORE;
	}
	if (io->in_left == 0)
		return CODEC_END;
	io->need = 4;
	if (io->in_left < 4)
		return CODEC_MORE;
	memcpy(&packed, io->in, sizeof(packed));
	if (packed > LZ4_COMPRESSBOUND(LZ4_BLOCK))
		return CODEC_DAMAGED;
	io->need = 4 + (size_t)packed;
	if (io->in_left < io->need)
		return CODEC_MORE;
	io->need = 4;
	return lz4_block(s, io, packed);
}

static void lz4_close(void *state)
{
	struct lz4 *s = state;

	if (s->memory)
		memory_put(s->memory);
}

#define CODEC(codec, fn, type, bytes, apart)                                                                           \
	.name = codec, .magic = bytes, .magic_len = sizeof(bytes) - 1, .size_apart = apart,                            \
	.state_size = sizeof(struct type), .open = fn##_open, .step = type##_step, .close = type##_close

static const struct codec codecs[] = {
	{ CODEC("gzip", gzip, gzip, "\x1f\x8b\x08", 0), .library = "libz.so.1", .package = "zlib1g" },
	{ CODEC("xz", xz, xz, "\xfd\x37zXZ\0", 4), .library = "liblzma.so.5", .package = "liblzma5" },
	{ CODEC("lzma", lzma, xz, "\x5d\0\0", 4), .library = "liblzma.so.5", .package = "liblzma5" },
	{ CODEC("zstd", zstd, zstd, "\x28\xb5\x2f\xfd", 4), .library = "libzstd.so.1", .package = "libzstd1" },
	{ CODEC("lz4", lz4, lz4, "\x02\x21\x4c\x18", 4), .library = "liblz4.so.1", .package = "liblz4-1" },
	{ CODEC("bzip2", bzip2, bzip2, "BZh", 4), .library = "libbz2.so.1.0", .package = "libbz2-1.0" },
};

const struct codec *codec_find(const uint8_t head[static 8])
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		if (!memcmp(head, codecs[i].magic, codecs[i].magic_len))
			return &codecs[i];
	}
	return NULL;
}

const char *codec_named(const char *name)
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		if (!strcmp(name, codecs[i].name))
			return codecs[i].name;
	}
	return NULL;
}
