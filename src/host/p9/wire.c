/* SPDX-License-Identifier: BSD-2-Clause */
/* wire.c - fields of 9P messages: little-endian numbers, counted strings; and data in pieces. */
#include "host/p9/inner.h"

#include <errno.h>

static uint64_t take(struct p9_req *req, unsigned n)
{
	uint64_t value = 0;

	if ((size_t)(req->end - req->at) < n) {
		req->bad = req->bad ? req->bad : -EPROTO;
		req->at = req->end;
		return 0;
	}
	for (unsigned i = 0; i < n; i++)
		value |= (uint64_t)*req->at++ << 8 * i;
	return value;
}

uint8_t p9_u8(struct p9_req *req)
{
	return (uint8_t)take(req, 1);
}

uint16_t p9_u16(struct p9_req *req)
{
	return (uint16_t)take(req, 2);
}

uint32_t p9_u32(struct p9_req *req)
{
	return (uint32_t)take(req, 4);
}

uint64_t p9_u64(struct p9_req *req)
{
	return take(req, 8);
}

void p9_text(struct p9_req *req, char *text, size_t size)
{
	uint16_t len = p9_u16(req);
	int wrong = 0;

	text[0] = 0;
	if (len > req->end - req->at)
		wrong = -EPROTO;
	else if (len >= size)
		wrong = -ENAMETOOLONG;
	else if (memchr(req->at, 0, len))
		wrong = -EINVAL;
	if (wrong) {
		req->bad = req->bad ? req->bad : wrong;
		req->at += len > req->end - req->at ? req->end - req->at : len;
		return;
	}
	memcpy(text, req->at, len);
	text[len] = 0;
	req->at += len;
}

void p9_name(struct p9_req *req, char name[static NAME_MAX + 1])
{
	p9_text(req, name, NAME_MAX + 1);
	if (!req->bad && (!name[0] || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		req->bad = -EINVAL;
}

int p9_parsed(struct p9_req *req)
{
	if (!req->bad && req->at != req->end)
		req->bad = -EPROTO;
	return req->bad;
}

static void put(struct p9_req *req, uint64_t value, unsigned n)
{
	for (unsigned i = 0; i < n && req->len < sizeof(req->p9->reply); i++)
		req->p9->reply[req->len++] = (uint8_t)(value >> 8 * i);
}

void p9_put8(struct p9_req *req, uint8_t value)
{
	put(req, value, 1);
}

void p9_put16(struct p9_req *req, uint16_t value)
{
	put(req, value, 2);
}

void p9_put32(struct p9_req *req, uint32_t value)
{
	put(req, value, 4);
}

void p9_put64(struct p9_req *req, uint64_t value)
{
	put(req, value, 8);
}

void p9_put_text(struct p9_req *req, const char *text, size_t len)
{
	p9_put16(req, (uint16_t)len);
	for (size_t i = 0; i < len; i++)
		p9_put8(req, (uint8_t)text[i]);
}

/*
 * The path tells files apart: the inode's number, spread by the file system that it is on where that is not the root's.
 * The version tells contents apart; never 0, by which clients know what must not be cached.
 */
void p9_put_qid(struct p9_req *req, const struct stat *st)
{
	uint64_t other = (uint64_t)st->st_dev - (uint64_t)req->p9->root_dev;
	uint64_t changed = (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;

	p9_put8(req, S_ISDIR(st->st_mode) ? 0x80 : S_ISLNK(st->st_mode) ? 0x02 : 0);
	p9_put32(req, (uint32_t)(changed ^ changed >> 32 ^ (uint64_t)st->st_size << 8) | 1);
	p9_put64(req, (uint64_t)st->st_ino + other * 0x9e3779b97f4a7c15);
}

int p9_slice(struct p9 *p9, const struct iovec *iov, unsigned n, uint64_t offset, uint64_t len)
{
	int pieces = 0;

	for (unsigned i = 0; i < n && len && pieces < IOV_MAX; i++) {
		uint64_t bytes = iov[i].iov_len;

		if (offset >= bytes) {
			offset -= bytes;
			continue;
		}
		bytes = bytes - offset < len ? bytes - offset : len;
		p9->iov[pieces++] = (struct iovec){ (char *)iov[i].iov_base + offset, bytes };
		offset = 0;
		len -= bytes;
	}
	return pieces;
}

static void copy(const struct iovec *iov, unsigned n, uint64_t offset, uint8_t *buf, uint64_t len, bool in)
{
	for (unsigned i = 0; i < n && len; i++) {
		uint64_t bytes = iov[i].iov_len;
		uint8_t *piece;

		if (offset >= bytes) {
			offset -= bytes;
			continue;
		}
		piece = (uint8_t *)iov[i].iov_base + offset;
		bytes = bytes - offset < len ? bytes - offset : len;
		memcpy(in ? buf : piece, in ? piece : buf, bytes);
		buf += bytes;
		len -= bytes;
		offset = 0;
	}
}

void p9_gather(const struct iovec *iov, unsigned n, uint64_t offset, void *buf, uint64_t len)
{
	copy(iov, n, offset, buf, len, true);
}

void p9_scatter(const struct iovec *iov, unsigned n, uint64_t offset, const void *buf, uint64_t len)
{
	copy(iov, n, offset, (uint8_t *)(uintptr_t)buf, len, false);
}

uint32_t p9_room(const struct p9_req *req, uint32_t count)
{
	uint64_t most = req->io->in_len < req->p9->msize ? req->io->in_len : req->p9->msize;

	/* p9_serve() takes no message without this much room. */
	most -= P9_READ_HEAD;
	return count < most ? count : (uint32_t)most;
}
