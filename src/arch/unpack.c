/* SPDX-License-Identifier: BSD-2-Clause */
/* unpack.c - streams of compressed bytes: the file on one side, a decoder in the middle, the caller's memory. */
#include "arch/unpack.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/unpack_codec.h"

#define CHUNK (128U << 10) /* read at once */
#define BIG   (10U << 20)  /* a packed block of LZ4 is no larger */

struct unpack {
	const struct image *image;
	const struct codec *codec;
	void *library, *state;
	uint64_t next, end; /* what of the file was not read yet */
	uint64_t size;
	bool ended, onto_zeros;
	uint8_t *buf;
	size_t buf_size;
	struct memory *big; /* what `buf` is in, where a decoder must see much at once; NULL: malloc()ed */
	struct codec_io io;
};

static int damaged(const struct unpack *u, struct error *err, const char *how)
{
	return image_error(u->image, err, -ENOEXEC, "damaged: its %s payload %s", u->codec->name, how);
}

static int load_codec(struct unpack *u, struct error *err)
{
	u->library = dlopen(u->codec->library, RTLD_NOW | RTLD_LOCAL);
	if (!u->library)
		return image_error(u->image, err, -ENOTSUP, "its %s payload needs %s to be unpacked (package %s)",
			u->codec->name, u->codec->library, u->codec->package);
	u->state = calloc(1, u->codec->state_size);
	if (!u->state)
		return image_error(u->image, err, -ENOMEM, "no memory to unpack it");
	switch (u->codec->open(u->state, u->library)) {
	case CODEC_MORE:
		return 0;
	case CODEC_NO_MEMORY:
		return image_error(u->image, err, -ENOMEM, "no memory to unpack it");
	default:
		return image_error(
			u->image, err, -ENOTSUP, "its %s payload needs another %s", u->codec->name, u->codec->library);
	}
}

int unpack_open(struct unpack **out, const struct image *image, uint64_t offset, uint64_t len, struct error *err)
{
	uint8_t head[8], size[4];
	struct unpack *u;
	int r;

	*out = NULL;
	if (len < sizeof(head) + sizeof(size))
		return image_error(
			image, err, -ENOEXEC, "damaged: its payload has only %llu bytes", (unsigned long long)len);
	r = image_read(image, offset, head, sizeof(head), "the payload", err);
	if (r == 0)
		r = image_read(image, offset + len - sizeof(size), size, sizeof(size), "the payload", err);
	if (r)
		return r;
	u = calloc(1, sizeof(*u));
	if (!u)
		return image_error(image, err, -ENOMEM, "no memory to unpack it");
	u->image = image;
	u->codec = codec_find(head);
	if (!u->codec) {
		free(u);
		return image_error(image, err, -ENOTSUP,
			"its payload is compressed in a way unknown here (it begins with %02x %02x %02x %02x)", head[0],
			head[1], head[2], head[3]);
	}
	u->next = offset;
	u->end = offset + len - u->codec->size_apart;
	u->size = (uint64_t)size[0] | (uint64_t)size[1] << 8 | (uint64_t)size[2] << 16 | (uint64_t)size[3] << 24;
	u->io.total_left = u->size;
	u->io.need = 1;
	r = load_codec(u, err);
	if (r) {
		unpack_close(u);
		return r;
	}
	*out = u;
	return 0;
}

static void drop_buf(struct unpack *u)
{
	if (u->big)
		memory_put(u->big);
	else
		free(u->buf);
	u->big = NULL;
}

void unpack_close(struct unpack *u)
{
	if (!u)
		return;
	if (u->state)
		u->codec->close(u->state);
	free(u->state);
	drop_buf(u);
	if (u->library)
		dlclose(u->library);
	free(u);
}

uint64_t unpack_size(const struct unpack *u)
{
	return u->size;
}

const char *unpack_format(const struct unpack *u)
{
	return u->codec->name;
}

const char *unpack_format_named(const char *name)
{
	return codec_named(name);
}

/*
 * Moves what is left to a buffer of `size` bytes or more. A big one is bigger
 * still, once for all: it costs no page yet.
 */
static int grow_buf(struct unpack *u, size_t size, struct error *err)
{
	struct memory *big = NULL;
	uint8_t *buf;

	if (size > CHUNK) {
		size = size > BIG ? size : BIG;
		if (memory_new(size, &big) == 0)
			buf = big->host;
		else
			buf = NULL;
	} else {
		buf = malloc(size);
	}
	if (!buf)
		return image_error(u->image, err, -ENOMEM, "no memory to unpack it");
	if (u->io.in_left)
		memcpy(buf, u->io.in, u->io.in_left);
	drop_buf(u);
	u->buf = buf;
	u->buf_size = size;
	u->big = big;
	return 0;
}

/* At least io->need bytes in a row, unless the file has no more. */
static int refill(struct unpack *u, struct error *err)
{
	struct codec_io *io = &u->io;
	size_t want = io->need > CHUNK ? io->need : CHUNK;
	int r;

	if (io->in_left >= io->need || u->next == u->end)
		return 0;
	if (want > u->buf_size) {
		r = grow_buf(u, want, err);
		if (r)
			return r;
	} else if (io->in_left) {
		memmove(u->buf, io->in, io->in_left);
	}
	io->in = u->buf;
	want -= io->in_left;
	if (want > u->end - u->next)
		want = u->end - u->next;
	r = image_read(u->image, u->next, u->buf + io->in_left, want, "the payload", err);
	if (r)
		return r;
	u->next += want;
	io->in_left += want;
	return 0;
}

static int step(struct unpack *u, struct error *err)
{
	struct codec_io *io = &u->io;
	size_t in_before, out_before = io->out_left, need;
	int r = refill(u, err);

	if (r)
		return r;
	in_before = io->in_left;
	need = io->need;
	switch (u->codec->step(u->state, io)) {
	case CODEC_MORE:
		break;
	case CODEC_END:
		u->ended = true;
		break;
	case CODEC_NO_MEMORY:
		return image_error(u->image, err, -ENOMEM, "no memory to unpack it");
	default:
		return damaged(u, err, "cannot be unpacked");
	}
	io->total_left -= out_before - io->out_left;
	if (!u->ended && in_before == io->in_left && out_before == io->out_left && need >= io->need)
		return damaged(u, err, "is cut short");
	return 0;
}

int unpack_read(struct unpack *u, void *buf, uint64_t len, struct error *err)
{
	uint8_t away[4096] = { 0 };

	if (len > u->io.total_left)
		return damaged(u, err, "is smaller than its headers say");
	while (len) {
		uint64_t n = buf || len < sizeof(away) ? len : sizeof(away);
		int r = 0;

		u->io.out = buf ? buf : away;
		u->io.out_left = n;
		u->io.out_is_zero = buf && u->onto_zeros;
		while (r == 0 && u->io.out_left && !u->ended)
			r = step(u, err);
		if (r == 0 && u->io.out_left)
			r = damaged(u, err, "ends too early");
		if (r)
			return r;
		len -= n;
	}
	return 0;
}

void unpack_onto_zeros(struct unpack *u, bool zeros)
{
	u->onto_zeros = zeros;
}

int unpack_finish(struct unpack *u, struct error *err)
{
	int r = unpack_read(u, NULL, u->io.total_left, err);

	/* What a stream has behind its last byte is its end mark and its checksum. */
	while (r == 0 && !u->ended) {
		uint8_t more;

		u->io.out = &more;
		u->io.out_left = 1;
		u->io.out_is_zero = false;
		u->io.total_left = 1;
		r = step(u, err);
		if (r == 0 && u->io.out_left == 0)
			r = damaged(u, err, "is larger than it says");
	}
	return r;
}
