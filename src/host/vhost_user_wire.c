/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost_user_wire.c - sending and checking messages of the vhost-user protocol; see vhost_user_wire.h. */
#include "host/vhost_user_wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Descriptors of one message that are looked for, to be closed; the kernel closes those beyond. */
#define FDS_MOST 16
/* Requests of the back end's that are served in a go: it does not get to keep the thread for itself. */
#define TURNS 16

void vu_init(struct vu_conn *c, int fd, unsigned limit_ms)
{
	*c = (struct vu_conn){ .fd = fd, .channel = -1, .leave = -1, .limit_ms = limit_ms };
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vu_close(struct vu_conn *c)
{
	close_fd(&c->fd);
	close_fd(&c->channel);
	c->in_bytes = 0;
}

int64_t vu_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t vu_until(const struct vu_conn *c)
{
	int64_t end = vu_now_ms() + c->limit_ms;

	return c->end_ms && c->end_ms < end ? c->end_ms : end;
}

/* Waits until the connection is ready, and serves the back end's channel meanwhile. */
static int wait_for(struct vu_conn *c, short events, int64_t end)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = c->fd, .events = events }, { .fd = c->channel, .events = POLLIN },
			{ .fd = c->leave, .events = POLLIN } };
		int64_t left = end - vu_now_ms();
		int r;

		if (left <= 0)
			return -ETIMEDOUT;
		r = poll(fds, 3, (int)left);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		if (fds[2].revents)
			return -EINTR;
		if (fds[1].revents) {
			r = vu_serve_channel(c);
			if (r)
				return r;
		}
		if (fds[0].revents)
			return 0;
	}
}

/* ---- sending ---- */

static int send_message(
	struct vu_conn *c, const struct vu_header *header, const void *payload, const int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VU_REGIONS * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov[] = { { (void *)(uintptr_t)header, sizeof(*header) },
		{ (void *)(uintptr_t)payload, header->size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	int64_t end = vu_until(c);

	if (n) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(int));
	}
	while (iov[0].iov_len + iov[1].iov_len) {
		ssize_t sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			int r = wait_for(c, POLLOUT, end);

			if (r)
				return r;
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		/* They went with the first byte. */
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		for (unsigned i = 0; i < 2; i++) {
			size_t part = (size_t)sent < iov[i].iov_len ? (size_t)sent : iov[i].iov_len;

			iov[i].iov_base = (uint8_t *)iov[i].iov_base + part;
			iov[i].iov_len -= part;
			sent -= (ssize_t)part;
		}
	}
	return 0;
}

/* ---- getting ---- */

/* All descriptors that came are closed, but for the first where `fd` is not NULL and has none yet. */
static void take_fds(struct msghdr *msg, int *fd)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t n = cmsg->cmsg_len > CMSG_LEN(0) ? (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int one;

			memcpy(&one, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			if (fd && *fd < 0)
				*fd = one;
			else
				close(one);
		}
	}
}

/* What is there now, at most n bytes: how many, at least 1, or -errno; -EAGAIN. */
static ssize_t receive_some(int from, void *buf, size_t n, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MOST * sizeof(int))];
	} control;
	struct iovec iov = { buf, n };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	ssize_t got;

	do {
		got = recvmsg(from, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	take_fds(&msg, fd);
	return got ? got : -ECONNRESET;
}

static int receive(struct vu_conn *c, void *buf, size_t n, int *fd, int64_t end)
{
	uint8_t *at = buf;

	while (n) {
		ssize_t got = receive_some(c->fd, at, n, fd);
		int r = 0;

		if (got == -EAGAIN)
			r = wait_for(c, POLLIN, end);
		else if (got < 0)
			r = (int)got;
		if (r)
			return r;
		if (got > 0) {
			at += got;
			n -= (size_t)got;
		}
	}
	return 0;
}

/* Of a reply to `request`: its payload, of *got bytes. */
static int get_reply(struct vu_conn *c, uint32_t request, void *payload, uint32_t room, uint32_t *got, int *fd)
{
	int64_t end = vu_until(c);
	struct vu_header header;
	int r = receive(c, &header, sizeof(header), fd, end);

	if (r)
		return r;
	if (header.request != request || (header.flags & VU_VERSION_MASK) != VU_VERSION || !(header.flags & VU_REPLY) ||
		header.size > room)
		return -EPROTO;
	*got = header.size;
	return receive(c, payload, header.size, fd, end);
}

/* ---- requests ---- */

int vu_set(struct vu_conn *c, enum vu_request request, const void *payload, uint32_t size, const int *fds, unsigned n)
{
	const struct vu_header header = {
		.request = request, .flags = VU_VERSION | (c->ack ? VU_NEED_REPLY : 0), .size = size
	};
	uint64_t answer = 0;
	uint32_t got;
	int r = send_message(c, &header, payload, fds, n);

	if (r || !c->ack)
		return r;
	r = get_reply(c, request, &answer, sizeof(answer), &got, NULL);
	if (r)
		return r;
	if (got != sizeof(answer))
		return -EPROTO;
	return answer ? -EREMOTEIO : 0;
}

int vu_set_number(struct vu_conn *c, enum vu_request request, uint64_t number)
{
	return vu_set(c, request, &number, sizeof(number), NULL, 0);
}

int vu_set_ring(struct vu_conn *c, enum vu_request request, unsigned index, uint32_t num)
{
	const struct vu_ring_state state = { index, num };

	return vu_set(c, request, &state, sizeof(state), NULL, 0);
}

int vu_set_ring_fd(struct vu_conn *c, enum vu_request request, unsigned index, int fd)
{
	uint64_t number = index | (fd < 0 ? VU_NO_FD : 0);

	return vu_set(c, request, &number, sizeof(number), &fd, fd >= 0);
}

int vu_get(
	struct vu_conn *c, enum vu_request request, void *payload, uint32_t size, uint32_t room, uint32_t *got, int *fd)
{
	const struct vu_header header = { .request = request, .flags = VU_VERSION, .size = size };
	int r;

	if (fd)
		*fd = -1;
	r = send_message(c, &header, payload, NULL, 0);
	if (r == 0)
		r = get_reply(c, request, payload, room, got, fd);
	if (r && fd)
		close_fd(fd);
	return r;
}

int vu_get_number(struct vu_conn *c, enum vu_request request, uint64_t *number)
{
	uint32_t got;
	int r = vu_get(c, request, number, 0, sizeof(*number), &got, NULL);

	return r ? r : got == sizeof(*number) ? 0 : -EPROTO;
}

/* ---- the back end's own requests ---- */

int vu_open_channel(struct vu_conn *c)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	c->channel = ends[0];
	c->in_bytes = 0;
	r = vu_set(c, VU_SET_BACKEND_REQ_FD, NULL, 0, &ends[1], 1);
	close(ends[1]);
	return r;
}

/* It is all there. */
static int serve_request(struct vu_conn *c)
{
	const struct vu_header *in = &c->in.header;
	struct {
		struct vu_header header;
		uint64_t answer;
	} __attribute__((packed)) reply = { .header = { in->request, VU_VERSION | VU_REPLY, sizeof(uint64_t) } };
	int r = c->asked ? c->asked(c->arg, in->request) : -ENOSYS;

	if (!(in->flags & VU_NEED_REPLY))
		return 0;
	reply.answer = r ? 1 : 0;
	/* Who does not take its answers does not get to hold us up. */
	if (send(c->channel, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(reply))
		return -EPROTO;
	return 0;
}

int vu_serve_channel(struct vu_conn *c)
{
	for (unsigned turn = 0; turn < TURNS;) {
		unsigned want = sizeof(c->in.header);
		ssize_t got;
		int r;

		if (c->in_bytes >= want) {
			const struct vu_header *h = &c->in.header;

			if ((h->flags & VU_VERSION_MASK) != VU_VERSION || h->flags & VU_REPLY || h->size > VU_PAYLOAD)
				return -EPROTO;
			want += h->size;
			if (c->in_bytes == want) {
				c->in_bytes = 0;
				r = serve_request(c);
				if (r)
					return r;
				turn++;
				continue;
			}
		}
		got = receive_some(c->channel, (uint8_t *)&c->in + c->in_bytes, want - c->in_bytes, NULL);
		if (got == -EAGAIN)
			return 0;
		if (got < 0)
			return (int)got;
		c->in_bytes += (unsigned)got;
	}
	return 0;
}
