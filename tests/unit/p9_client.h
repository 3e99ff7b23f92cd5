/* SPDX-License-Identifier: BSD-2-Clause */
/* p9_client.h - a 9P client for tests, with a folder of its own: messages by a format, replies by fields. */
#ifndef TRAPLINE_TESTS_P9_CLIENT_H
#define TRAPLINE_TESTS_P9_CLIENT_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/p9/inner.h"

#define MSIZE 65536U

struct client {
	char dir[64]; /* the folder's parent, where secrets lie; the folder is "root" in it */
	int top, root;
	struct p9 *p9;
	uint8_t msg[MSIZE], reply[MSIZE];
	uint32_t len, room;     /* of the message; for its reply */
	uint32_t reply_len, at; /* what of the reply is read */
};

static inline void put_number(struct client *c, uint64_t value, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		c->msg[c->len++] = (uint8_t)(value >> 8 * i);
}

static inline void finish(struct client *c)
{
	for (unsigned i = 0; i < 4; i++)
		c->msg[i] = (uint8_t)(c->len >> 8 * i);
}

/* b w d: numbers of 1, 2 and 4 bytes, passed as unsigned; q: of 8, as uint64_t; s: a string. */
static inline void build_list(struct client *c, uint8_t type, const char *fmt, va_list ap)
{
	const char *text;

	c->len = 4;
	put_number(c, type, 1);
	put_number(c, 7, 2);
	for (; *fmt; fmt++) {
		switch (*fmt) {
		case 's':
			text = va_arg(ap, const char *);
			put_number(c, strlen(text), 2);
			memcpy(c->msg + c->len, text, strlen(text));
			c->len += (uint32_t)strlen(text);
			break;
		case 'q':
			put_number(c, va_arg(ap, uint64_t), 8);
			break;
		default:
			put_number(c, va_arg(ap, unsigned), *fmt == 'b' ? 1 : *fmt == 'w' ? 2 : 4);
		}
	}
	finish(c);
}

/* The first eight bytes of it, if it is longer. */
static inline uint64_t number(struct client *c, unsigned n)
{
	uint64_t value = 0;

	assert_true(c->at + n <= c->reply_len);
	for (unsigned i = 0; i < n && i < 8; i++)
		value |= (uint64_t)c->reply[c->at + i] << 8 * i;
	c->at += n;
	return value;
}

/* As it is built; in pieces that end anywhere, each in memory of its own. The reply's type. */
static inline uint8_t raw_send(struct client *c)
{
	struct iovec out[3], in[3];
	struct p9_io io = { out, in, 3, 3, c->len, c->room };
	uint32_t cuts[2][4] = { { 0, c->len / 5, c->len / 2, c->len },
		{ 0, c->room < 5 ? c->room : 5, c->room < 19 ? c->room : 19, c->room } };

	for (unsigned i = 0; i < 3; i++) {
		out[i].iov_len = cuts[0][i + 1] - cuts[0][i];
		out[i].iov_base = malloc(out[i].iov_len + !out[i].iov_len);
		in[i].iov_len = cuts[1][i + 1] - cuts[1][i];
		in[i].iov_base = calloc(1, in[i].iov_len + !in[i].iov_len);
		assert_non_null(out[i].iov_base);
		assert_non_null(in[i].iov_base);
		memcpy(out[i].iov_base, c->msg + cuts[0][i], out[i].iov_len);
	}
	c->reply_len = p9_serve(c->p9, &io);
	assert_true(c->reply_len <= c->room);
	for (unsigned i = 0; i < 3; i++) {
		memcpy(c->reply + cuts[1][i], in[i].iov_base, in[i].iov_len);
		free(out[i].iov_base);
		free(in[i].iov_base);
	}
	c->at = 0;
	if (!c->reply_len)
		return 0;
	assert_int_equal(number(c, 4), c->reply_len);
	c->at = 7;
	return c->reply[4];
}

/* The error, or 0 and the reply's fields to read. */
static inline int send_built(struct client *c)
{
	uint8_t type = raw_send(c);

	assert_true(type != 0);
	if (type == P9_RLERROR) {
		assert_int_equal(c->reply_len, 11);
		return (int)number(c, 4);
	}
	assert_int_equal(type, c->msg[4] + 1);
	assert_int_equal(c->reply[5], 7);
	return 0;
}

static inline int call(struct client *c, uint8_t type, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	build_list(c, type, fmt, ap);
	va_end(ap);
	return send_built(c);
}

static inline int write_at(struct client *c, uint32_t fid, uint64_t offset, const void *data, uint32_t n)
{
	int r;

	c->len = 4;
	put_number(c, P9_TWRITE, 1);
	put_number(c, 7, 2);
	put_number(c, fid, 4);
	put_number(c, offset, 8);
	put_number(c, n, 4);
	memcpy(c->msg + c->len, data, n);
	c->len += n;
	finish(c);
	r = send_built(c);
	if (!r)
		assert_int_equal(number(c, 4), n);
	return r;
}

static inline int walk1(struct client *c, uint32_t fid, uint32_t new_fid, const char *name)
{
	int r = call(c, P9_TWALK, "ddws", fid, new_fid, 1, name);

	if (!r)
		assert_int_equal(number(c, 2), 1);
	return r;
}

static inline int clone_fid(struct client *c, uint32_t fid, uint32_t new_fid)
{
	return call(c, P9_TWALK, "ddw", fid, new_fid, 0);
}

static inline int clunk_fid(struct client *c, uint32_t fid)
{
	return call(c, P9_TCLUNK, "d", fid);
}

static inline int create(struct client *c, uint32_t dir, uint32_t fid, const char *name, unsigned mode)
{
	int r = clone_fid(c, dir, fid);

	return r ? r : call(c, P9_TLCREATE, "dsddd", fid, name, 2, mode, 0);
}

static inline void hello(struct client *c)
{
	assert_int_equal(call(c, P9_TVERSION, "ds", MSIZE, "9P2000.L"), 0);
	assert_int_equal(number(c, 4), MSIZE);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 0, P9_NO_FID, "root", "", P9_NO_UID), 0);
	assert_int_equal(number(c, 1), 0x80);
}

static inline void host_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The folder with a file, a directory and a secret beside it; fid 0 is the root. */
static inline struct client *client_open(struct p9_config how)
{
	struct client *c = calloc(1, sizeof(*c));
	char path[80];
	struct error err = { 0 };

	assert_non_null(c);
	c->room = MSIZE;
	snprintf(c->dir, sizeof(c->dir), "/tmp/trapline-p9-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	c->top = open(c->dir, O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(c->top, "root", 0755), 0);
	c->root = openat(c->top, "root", O_DIRECTORY | O_CLOEXEC);
	host_file(c->top, "secret", "secret");
	host_file(c->root, "file", "hello");
	assert_int_equal(mkdirat(c->root, "dir", 0755), 0);
	snprintf(path, sizeof(path), "%s/root", c->dir);
	how.path = path;
	assert_int_equal(p9_open(&how, &c->p9, &err), 0);
	hello(c);
	return c;
}

static inline int client_forget(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline void client_close(struct client *c)
{
	p9_close(c->p9);
	close(c->root);
	close(c->top);
	assert_int_equal(nftw(c->dir, client_forget, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(c);
}

#endif
