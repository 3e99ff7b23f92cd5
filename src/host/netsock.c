/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netsock.c - frames through a stream socket, a length of 4 bytes, big-endian, before each: what passt speaks, and
 * QEMU's "-netdev stream". A frame is never cut for who sends it: what the socket did not take is kept and goes first.
 *
 * Small frames are gathered, and go together when flushed: a copy costs less than a call, and than waking up who reads.
 */
#include "host/net.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/unix.h"

#define LENGTH     sizeof(uint32_t)
#define READ_BYTES (4 * (LENGTH + NET_FRAME))
#define IOV_MOST   1024 /* of a call, and of the caller's frame; IOV_MAX */
#define SMALL      4096 /* bytes of a frame that is gathered */

struct netsock {
	struct net_backend b;
	int fd;
	size_t begin, end;         /* of what was read and not handed out */
	bool dry;                  /* the last read had all that was there: the next waits for epoll */
	size_t rest_at, rest_size; /* of what is to be sent */
	uint8_t rest[LENGTH + NET_FRAME];
	uint8_t in[READ_BYTES];
};

static struct netsock *netsock_of(struct net_backend *b)
{
	return (struct netsock *)(void *)b;
}

/* The frame at `begin`, if it is there whole. 0: not yet. */
static ssize_t netsock_frame(struct netsock *s, const uint8_t **frame)
{
	uint32_t length;

	if (s->end - s->begin < LENGTH)
		return 0;
	memcpy(&length, s->in + s->begin, LENGTH);
	length = be32toh(length);
	/* What follows cannot be found any more. */
	if (length > NET_FRAME || length == 0)
		return -EPROTO;
	if (s->end - s->begin < LENGTH + length)
		return 0;
	*frame = s->in + s->begin + LENGTH;
	s->begin += LENGTH + length;
	return length;
}

static ssize_t netsock_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	struct netsock *s = netsock_of(b);

	for (;;) {
		ssize_t n = netsock_frame(s, frame);

		if (n)
			return n;
		if (s->dry) {
			s->dry = false;
			return -EAGAIN;
		}
		memmove(s->in, s->in + s->begin, s->end - s->begin);
		s->end -= s->begin;
		s->begin = 0;
		n = recv(s->fd, s->in + s->end, READ_BYTES - s->end, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -EPIPE : -errno;
		s->dry = (size_t)n < READ_BYTES - s->end;
		s->end += (size_t)n;
	}
}

static int netsock_flush(struct net_backend *b, unsigned pair)
{
	struct netsock *s = netsock_of(b);

	while (s->rest_size) {
		ssize_t n = send(s->fd, s->rest + s->rest_at, s->rest_size, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -EAGAIN : -EPIPE;
		s->rest_at += (size_t)n;
		s->rest_size -= (size_t)n;
	}
	return 0;
}

/* All of a frame behind its first `sent` bytes is for the next flush. */
static void netsock_keep(struct netsock *s, const struct iovec *iov, unsigned n, size_t sent)
{
	if (!s->rest_size)
		s->rest_at = 0;
	for (unsigned i = 0; i < n; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len, part = iov[i].iov_len - skip;

		memcpy(s->rest + s->rest_at + s->rest_size, (const uint8_t *)iov[i].iov_base + skip, part);
		s->rest_size += part;
		sent -= skip;
	}
}

static bool netsock_room(const struct netsock *s, size_t bytes)
{
	return s->rest_size ? bytes <= sizeof(s->rest) - s->rest_at - s->rest_size : bytes <= sizeof(s->rest);
}

static int netsock_send(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes)
{
	struct netsock *s = netsock_of(b);
	uint32_t length = htobe32((uint32_t)bytes);
	struct iovec all[IOV_MOST] = { { .iov_base = &length, .iov_len = LENGTH } };
	struct msghdr msg = { .msg_iov = all, .msg_iovlen = n + 1 };
	ssize_t sent;
	int r = 0;

	if (n >= IOV_MOST || bytes > NET_FRAME)
		return -EMSGSIZE;
	memcpy(all + 1, iov, n * sizeof(*iov));
	if (bytes > SMALL || !netsock_room(s, LENGTH + bytes))
		r = netsock_flush(b, pair);
	if (r)
		return r;
	if (bytes <= SMALL) {
		netsock_keep(s, all, n + 1, 0);
		return 0;
	}
	do {
		sent = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? -EAGAIN : -EPIPE;
	if ((size_t)sent < LENGTH + bytes)
		netsock_keep(s, all, n + 1, (size_t)sent);
	return 0;
}

static void netsock_close(struct net_backend *b)
{
	close(netsock_of(b)->fd);
	free(b);
}

static const struct net_ops netsock_ops = {
	.receive = netsock_receive,
	.send = netsock_send,
	.flush = netsock_flush,
	.close = netsock_close,
};

int netsock_wrap(int fd, const char *name, struct net_backend **out)
{
	struct netsock *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	/* The buffers are left as they are: pages that no frame reaches are never there. */
	memset(&s->b, 0, sizeof(s->b));
	s->begin = s->end = s->rest_at = s->rest_size = 0;
	s->dry = false;
	s->fd = fd;
	s->b.ops = &netsock_ops;
	s->b.pairs = 1;
	s->b.fds[0] = fd;
	for (unsigned i = 1; i < NET_PAIRS; i++)
		s->b.fds[i] = -1;
	snprintf(s->b.name, sizeof(s->b.name), "%s", name);
	/*
	 * The socket's room is left as it is: with a megabyte of frames at hand, passt of 2023-03 sends so much at once
	 * that it comes to reset connections whose reader is slower.
	 */
	*out = &s->b;
	return 0;
}

int netsock_open(const char *path, struct net_backend **out, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[128];
	int fd, r = unix_check(path, err);

	if (r == 0)
		r = unix_check_socket(path, err);
	if (r)
		return r;
	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "no socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		r = error_set(err, -errno, "cannot connect to '%s': %s", path, strerror(errno));
		error_hint(err, "whoever is to carry the frames listens there first, with a stream socket");
		close(fd);
		return r;
	}
	snprintf(name, sizeof(name), "'%s'", path);
	r = netsock_wrap(fd, name, out);
	if (r) {
		close(fd);
		return error_set(err, r, "no memory");
	}
	return 0;
}
