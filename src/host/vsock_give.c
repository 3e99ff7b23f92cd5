/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock_give.c - the packets that a guest gets: made from what its connections owe, and straight from their sockets,
 * when the guest has a buffer for one; see vsock.c.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "host/vsock_inner.h"

uint32_t vsock_credit(const struct vsock_conn *c)
{
	uint32_t out = c->sent - c->peer_passed;

	return out < c->peer_buffer ? c->peer_buffer - out : 0;
}

static bool may_read(const struct vsock_conn *c)
{
	return c->state == OPEN && c->readable && c->fd >= 0 && !(c->ended & VIRTIO_VSOCK_SHUTDOWN_SEND);
}

static bool has_something(const struct vsock_conn *c)
{
	return c->owed || (may_read(c) && vsock_credit(c));
}

void vsock_line_up(struct vsock_conn *c)
{
	if (!has_something(c)) {
		list_del(&c->ready);
	} else if (list_empty(&c->ready)) {
		list_add_tail(&c->s->ready, &c->ready);
	}
}

void vsock_owe(struct vsock_conn *c, unsigned op)
{
	/* Nobody is there to be told. */
	if (c->state == LINGERS)
		return;
	c->owed |= BIT(op);
	vsock_line_up(c);
}

/* All but its first `skip` bytes, at most `most`, in PIECES pieces at most. How many these are. */
static unsigned behind(const struct iovec *iov, unsigned n, size_t skip, size_t most, struct iovec *part)
{
	unsigned parts = 0;

	for (unsigned i = 0; i < n && parts < PIECES && most; i++) {
		size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len, len = iov[i].iov_len - cut;

		skip -= cut;
		len = len < most ? len : most;
		if (len)
			part[parts++] = (struct iovec){ (uint8_t *)iov[i].iov_base + cut, len };
		most -= len;
	}
	return parts;
}

static void scatter(const struct iovec *iov, unsigned n, const void *bytes, size_t len)
{
	const uint8_t *from = bytes;

	for (unsigned i = 0; i < n && len; i++) {
		size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

		memcpy(iov[i].iov_base, from, part);
		from += part;
		len -= part;
	}
}

static size_t header(
	struct vsock_conn *c, unsigned op, uint32_t len, uint32_t flags, const struct iovec *iov, unsigned n)
{
	const struct virtio_vsock_hdr hdr = {
		.src_cid = htole64(VSOCK_HOST),
		.dst_cid = htole64(c->s->cid),
		.src_port = htole32(c->host_port),
		.dst_port = htole32(c->guest_port),
		.len = htole32(len),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16((uint16_t)op),
		.flags = htole32(flags),
		.buf_alloc = htole32(VSOCK_BUFFER),
		.fwd_cnt = htole32(c->passed),
	};

	scatter(iov, n, &hdr, sizeof(hdr));
	c->told = c->passed;
	c->owed &= ~(BIT(op) | BIT(VIRTIO_VSOCK_OP_CREDIT_UPDATE));
	return sizeof(hdr) + len;
}

/* The program has ended what it sends; or all, and nobody reads either. */
static void at_end(struct vsock_conn *c)
{
	c->readable = false;
	c->ended |= c->hung_up ? BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND;
	vsock_owe(c, VIRTIO_VSOCK_OP_SHUTDOWN);
}

/* The next bytes, straight from the socket. 0: none now. */
static size_t read_on(struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
	struct iovec part[PIECES];
	unsigned parts = behind(iov, n, sizeof(struct virtio_vsock_hdr), vsock_credit(c), part);
	ssize_t r;

	do {
		r = readv(c->fd, part, (int)parts);
	} while (r < 0 && errno == EINTR);
	if (r > 0) {
		c->sent += (uint32_t)r;
		/* There will be more, most likely, and the guest may not say by itself that it has room again. */
		if (!vsock_credit(c) && !c->asked) {
			c->asked = true;
			c->owed |= BIT(VIRTIO_VSOCK_OP_CREDIT_REQUEST);
		}
		return header(c, VIRTIO_VSOCK_OP_RW, (uint32_t)r, 0, iov, n);
	}
	if (r < 0 && errno == EAGAIN && !c->hung_up)
		c->readable = false;
	else
		at_end(c);
	vsock_watch(c);
	return 0;
}

static size_t give_one(struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
	/* In this order: a connection begins before it goes on, and what was sent comes before the end. */
	static const uint8_t first[] = { VIRTIO_VSOCK_OP_RST, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE };
	static const uint8_t last[] = { VIRTIO_VSOCK_OP_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_UPDATE,
		VIRTIO_VSOCK_OP_SHUTDOWN };

	for (unsigned i = 0; i < sizeof(first); i++)
		if (c->owed & BIT(first[i]))
			return header(c, first[i], 0, 0, iov, n);
	if (may_read(c) && vsock_credit(c)) {
		size_t len = read_on(c, iov, n);

		if (len)
			return len;
	}
	for (unsigned i = 0; i < sizeof(last); i++)
		if (c->owed & BIT(last[i]))
			return header(c, last[i], 0, last[i] == VIRTIO_VSOCK_OP_SHUTDOWN ? c->ended : 0, iov, n);
	return 0;
}

bool vsock_pending(const struct vsock *s)
{
	return s->nr_resets || !list_empty(&s->ready);
}

size_t vsock_give(struct vsock *s, const struct iovec *iov, unsigned n)
{
	size_t len = 0;

	if (s->nr_resets) {
		scatter(iov, n, &s->resets[s->first_reset], sizeof(struct virtio_vsock_hdr));
		s->first_reset = (s->first_reset + 1) % RESETS;
		s->nr_resets--;
		return sizeof(struct virtio_vsock_hdr);
	}
	while (len == 0 && !list_empty(&s->ready)) {
		struct vsock_conn *c = container_of(s->ready.next, struct vsock_conn, ready);

		list_del(&c->ready);
		len = give_one(c, iov, n);
		if (c->state == DEAD && !c->owed)
			vsock_free(c);
		else
			vsock_line_up(c);
	}
	return len;
}
