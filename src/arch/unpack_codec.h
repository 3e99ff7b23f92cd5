/* SPDX-License-Identifier: BSD-2-Clause */
/* unpack_codec.h - what unpack.c and a decoder say to each other. */
#ifndef TRAPLINE_ARCH_UNPACK_CODEC_H
#define TRAPLINE_ARCH_UNPACK_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codec_io {
	const uint8_t *in;
	size_t in_left;
	uint8_t *out;
	size_t out_left;
	size_t need;         /* how many bytes the decoder must see at once to go on; at least 1 */
	uint64_t total_left; /* unpacked bytes that are still to come, out_left included */
	bool out_is_zero;    /* what is at `out` is all zeros: zeros need not be written there */
};

enum codec_result { CODEC_MORE, CODEC_END, CODEC_DAMAGED, CODEC_NO_MEMORY };

struct codec {
	const char *name;              /* "xz" */
	const char *library, *package; /* "liblzma.so.5"; Debian's name of what holds it */
	const char *magic;
	uint8_t magic_len;
	uint8_t size_apart; /* bytes of the size behind the stream; 0: they are part of it */
	size_t state_size;
	/*
	 * `state` is zeroed, `library` what dlopen() gave. CODEC_MORE; CODEC_DAMAGED: a library that lacks a function.
	 */
	enum codec_result (*open)(void *state, void *library);
	/* Takes and gives at least a byte, or wants more: called with `need` bytes of input, or all there are. */
	enum codec_result (*step)(void *state, struct codec_io *io);
	void (*close)(void *state); /* also after a failed open */
};

/* The decoder for a stream that begins with these 8 bytes; NULL: none. */
const struct codec *codec_find(const uint8_t head[static 8]);
/* The name of the decoder that is called so; NULL: none. */
const char *codec_named(const char *name);

#endif
