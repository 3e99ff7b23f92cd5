/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock.c - connections between a guest's sockets and Unix sockets; see vsock.h.
 *
 * Flow control is by credit (5.10.6.3): each side tells in every packet how large its buffer is and how much it has
 * passed on in all. We pass on what the Unix socket takes; what it does not waits in the connection's buffer, and the
 * guest may not send more than fits there. The other way nothing is buffered: a Unix socket is read straight into the
 * guest's memory, as far as the guest's credit goes.
 *
 * What is to be sent stands in the connection as bits (owed) and is made when the guest has a buffer for it;
 * connections with something to send wait in a queue for their turn, one packet each time. A reset for what is no
 * connection is kept in a short list instead, and while that is full no packet is taken.
 */
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/files.h"
#include "host/vsock_inner.h"

#define FIRST_PORT      0x40000000 /* of the host's, for connections to the guest */
#define ACCEPT_RETRY_NS 100000000

/* ---- the table ---- */

static struct list *bucket(struct vsock *s, uint32_t host_port, uint32_t guest_port)
{
	return &s->bucket[(host_port * 31 + guest_port) % BUCKETS];
}

static struct vsock_conn *find(struct vsock *s, uint32_t host_port, uint32_t guest_port)
{
	list_for_each (node, bucket(s, host_port, guest_port)) {
		struct vsock_conn *c = container_of(node, struct vsock_conn, node);

		if (c->host_port == host_port && c->guest_port == guest_port && c->state != GREETS &&
			c->state != LINGERS)
			return c;
	}
	return NULL;
}

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* The host is out of something now, which nobody tells the end of. */
static void listen_later(struct vsock *s)
{
	const struct itimerspec when = { .it_value = { .tv_nsec = ACCEPT_RETRY_NS } };

	loop_unwatch(s->loop, &s->watch);
	(void)timerfd_settime(s->retry.fd, 0, &when, NULL);
}

static void listen_again(struct vsock *s)
{
	if (s->is_ready && loop_watch(s->loop, &s->watch, EPOLLIN))
		listen_later(s);
}

static void retry(void *arg, uint32_t events)
{
	struct vsock *s = arg;
	uint64_t times;

	(void)!read(s->retry.fd, &times, sizeof(times));
	listen_again(s);
}

static void close_fd(struct vsock_conn *c)
{
	if (c->fd < 0)
		return;
	loop_unwatch(c->s->loop, &c->watch);
	close(c->fd);
	c->fd = -1;
	free(c->buffer);
	c->buffer = NULL;
	c->waiting = 0;
}

void vsock_free(struct vsock_conn *c)
{
	close_fd(c);
	list_del(&c->node);
	list_del(&c->ready);
	c->s->connections--;
	free(c);
}

static void conn_event(void *arg, uint32_t events);

static struct vsock_conn *conn_new(
	struct vsock *s, enum vsock_state state, int fd, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = s->connections < s->most ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->s = s;
	c->state = state;
	c->fd = fd;
	c->watch = (struct loop_watch){ .fd = fd, .fn = conn_event, .arg = c };
	c->host_port = host_port;
	c->guest_port = guest_port;
	list_init(&c->ready);
	list_add_tail(bucket(s, host_port, guest_port), &c->node);
	s->connections++;
	return c;
}

/*
 * The guest has forgotten it. What it sent before it closed its side still goes to the program, however slow that is,
 * as it would from a socket's own buffer: a guest's driver waits for that only 8 seconds.
 */
static void forget(struct vsock_conn *c)
{
	if (c->state == LINGERS)
		return;
	if (c->state != OPEN || !c->waiting || !(c->shut & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		vsock_free(c);
		return;
	}
	list_del(&c->ready);
	c->owed = 0;
	c->state = LINGERS;
	vsock_watch(c);
}

/* Resets the connection, as far as the guest knows of it. */
static void kill_conn(struct vsock_conn *c)
{
	if (c->state == GREETS || c->state == LINGERS) {
		vsock_free(c);
		return;
	}
	close_fd(c);
	c->state = DEAD;
	c->owed = 0;
	vsock_owe(c, VIRTIO_VSOCK_OP_RST);
}

/* A reset for a packet that belongs to no connection. */
static void refuse(struct vsock *s, const struct virtio_vsock_hdr *hdr)
{
	struct virtio_vsock_hdr *reset = &s->resets[(s->first_reset + s->nr_resets) % RESETS];

	/* Never one for another (5.10.6.4). */
	if (le16toh(hdr->op) == VIRTIO_VSOCK_OP_RST)
		return;
	s->nr_resets++;
	*reset = (struct virtio_vsock_hdr){
		.src_cid = hdr->dst_cid,
		.dst_cid = hdr->src_cid,
		.src_port = hdr->dst_port,
		.dst_port = hdr->src_port,
		.type = hdr->type,
		.op = htole16(VIRTIO_VSOCK_OP_RST),
	};
}

/* ---- the Unix socket ---- */

void vsock_watch(struct vsock_conn *c)
{
	uint32_t events = EPOLLERR; /* which is told in any case, like the hang-up of both directions */

	if (c->fd < 0)
		return;
	if (c->state == GREETS || (c->state == OPEN && !c->readable && !(c->ended & VIRTIO_VSOCK_SHUTDOWN_SEND)))
		events |= EPOLLIN;
	if (c->waiting)
		events |= EPOLLOUT;
	if (c->hung_up)
		loop_unwatch(c->s->loop, &c->watch);
	else if (loop_watch(c->s->loop, &c->watch, events))
		kill_conn(c);
}

/* So much has gone on to the program: the guest is told before it has used up half of its credit. */
static void passed(struct vsock_conn *c, uint32_t n)
{
	c->passed += n;
	if (c->passed - c->told >= VSOCK_BUFFER / 2)
		vsock_owe(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* Nobody reads any more: what the guest sends is for nothing, which it is told. */
static void nobody_reads(struct vsock_conn *c)
{
	passed(c, c->waiting);
	c->waiting = 0;
	free(c->buffer);
	c->buffer = NULL;
	if (c->ended & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return;
	c->ended |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	vsock_owe(c, VIRTIO_VSOCK_OP_SHUTDOWN);
}

/* What the guest has ended takes effect when all that it sent before has gone on. True: the connection is over. */
static bool settle_ends(struct vsock_conn *c)
{
	if (c->waiting || c->state != OPEN)
		return false;
	if (c->shut == BOTH) {
		kill_conn(c);
		return true;
	}
	if (c->shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		(void)shutdown(c->fd, SHUT_WR);
	return false;
}

/* How much the socket took; where nobody reads any more all of it. */
static size_t push(struct vsock_conn *c, struct iovec *iov, unsigned n, size_t len)
{
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t r;

	do {
		r = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (size_t)r;
	if (errno == EAGAIN || errno == ENOBUFS)
		return 0;
	nobody_reads(c);
	return len;
}

/* What waits, in one or two pieces: the buffer is a ring. */
static void drain(struct vsock_conn *c)
{
	unsigned head = VSOCK_BUFFER - c->first < c->waiting ? VSOCK_BUFFER - c->first : c->waiting;
	struct iovec iov[2] = { { c->buffer + c->first, head }, { c->buffer, c->waiting - head } };
	size_t n = push(c, iov, 2, c->waiting);

	/* Given up in there. */
	if (!c->waiting)
		return;
	c->first = (unsigned)((c->first + n) % VSOCK_BUFFER);
	c->waiting -= (unsigned)n;
	passed(c, (uint32_t)n);
	if (!c->waiting) {
		free(c->buffer);
		c->buffer = NULL;
	}
}

static bool put_aside(struct vsock_conn *c, const uint8_t *bytes, size_t len)
{
	if (!c->buffer)
		c->buffer = malloc(VSOCK_BUFFER);
	if (!c->buffer)
		return false;
	while (len) {
		unsigned at = (c->first + c->waiting) % VSOCK_BUFFER;
		size_t n = VSOCK_BUFFER - at < len ? VSOCK_BUFFER - at : len;

		memcpy(c->buffer + at, bytes, n);
		c->waiting += (unsigned)n;
		bytes += n;
		len -= n;
	}
	return true;
}

/* ---- connections to the guest ---- */

/* "CONNECT 80": the port; -1: it is not of that form. */
static int64_t greeted_port(const char *text)
{
	char *end;
	unsigned long long port;

	if (strncmp(text, "CONNECT ", 8) != 0 || text[8] < '0' || text[8] > '9')
		return -1;
	port = strtoull(text + 8, &end, 10);
	return *end || port > UINT32_MAX ? -1 : (int64_t)port;
}

static uint32_t free_port(struct vsock *s, uint32_t guest_port)
{
	do {
		s->next_port = s->next_port == UINT32_MAX - 1 ? FIRST_PORT : s->next_port + 1;
	} while (find(s, s->next_port, guest_port));
	return s->next_port;
}

static void request(struct vsock_conn *c, uint32_t guest_port)
{
	c->host_port = free_port(c->s, guest_port);
	c->guest_port = guest_port;
	list_del(&c->node);
	list_add_tail(bucket(c->s, c->host_port, guest_port), &c->node);
	c->state = REQUESTED;
	vsock_owe(c, VIRTIO_VSOCK_OP_REQUEST);
	vsock_watch(c);
}

/* Up to the line's end and no byte further: what follows is for the guest. */
static void greet(struct vsock_conn *c)
{
	char *text = c->greeting;
	ssize_t n = recv(c->fd, text + c->greeted, GREETING - 1 - c->greeted, MSG_PEEK | MSG_DONTWAIT);
	char *end = n > 0 ? memchr(text + c->greeted, '\n', (size_t)n) : NULL;
	int64_t port;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || recv(c->fd, text + c->greeted, end ? (size_t)(end - text) + 1 - c->greeted : (size_t)n, 0) <= 0) {
		vsock_free(c);
		return;
	}
	if (!end) {
		c->greeted += (unsigned)n;
		if (c->greeted == GREETING - 1)
			vsock_free(c);
		return;
	}
	*end = '\0';
	if (end > text && end[-1] == '\r')
		end[-1] = '\0';
	port = greeted_port(text);
	if (port < 0)
		vsock_free(c);
	else
		request(c, (uint32_t)port);
}

static void accept_one(void *arg, uint32_t events)
{
	struct vsock *s = arg;
	int fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct vsock_conn *c;

	if (fd < 0) {
		/* The program stays in the queue, and would keep us busy for nothing. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			listen_later(s);
		return;
	}
	c = conn_new(s, GREETS, fd, 0, 0);
	if (c)
		vsock_watch(c);
	else
		close(fd);
}

static void accepted(struct vsock_conn *c)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	c->state = OPEN;
	if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		kill_conn(c);
	else
		vsock_watch(c);
}

/* ---- connections from it ---- */

static int reach(struct vsock *s, uint32_t port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", s->path, port);
	/* One whose queue is full is like one that is not there: nothing waits here. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void requested(struct vsock *s, const struct virtio_vsock_hdr *hdr)
{
	uint32_t host_port = le32toh(hdr->dst_port), guest_port = le32toh(hdr->src_port);
	bool room = s->connections < s->most - s->most / 4;
	int fd = room ? reach(s, host_port) : -1;
	struct vsock_conn *c = fd >= 0 ? conn_new(s, OPEN, fd, host_port, guest_port) : NULL;

	if (!c) {
		if (fd >= 0)
			close(fd);
		if (!room)
			count(&s->refused);
		refuse(s, hdr);
		return;
	}
	c->peer_buffer = le32toh(hdr->buf_alloc);
	c->peer_passed = le32toh(hdr->fwd_cnt);
	vsock_owe(c, VIRTIO_VSOCK_OP_RESPONSE);
	vsock_watch(c);
}

/* ---- what the guest sends ---- */

/* The rest of the payload behind `skip` bytes is put aside. */
static bool keep_rest(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip, size_t len)
{
	for (unsigned i = 0; i < n && len; i++) {
		size_t all = iov[i].iov_len < len ? iov[i].iov_len : len, cut = skip < all ? skip : all;

		if (all > cut && !put_aside(c, (const uint8_t *)iov[i].iov_base + cut, all - cut))
			return false;
		skip -= cut;
		len -= all;
	}
	return true;
}

static void data(struct vsock_conn *c, uint32_t len, const struct iovec *iov, unsigned n)
{
	struct iovec part[PIECES];
	unsigned parts = 0;
	size_t have = 0, done = 0;

	/* More than it may, or after it said that there will be no more. */
	if (c->taken - c->passed + (uint64_t)len > VSOCK_BUFFER || c->shut & VIRTIO_VSOCK_SHUTDOWN_SEND) {
		count(&c->s->faults);
		kill_conn(c);
		return;
	}
	c->taken += len;
	if (c->ended & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		passed(c, len);
		return;
	}
	for (unsigned i = 0; i < n && parts < PIECES && have < len; i++) {
		part[parts] = iov[i];
		if (part[parts].iov_len > len - have)
			part[parts].iov_len = len - have;
		have += part[parts++].iov_len;
	}
	if (!c->waiting && have)
		done = push(c, part, parts, len);
	passed(c, (uint32_t)done);
	if (done < len && !(c->ended & VIRTIO_VSOCK_SHUTDOWN_RCV) && !keep_rest(c, iov, n, done, len)) {
		kill_conn(c);
		return;
	}
	vsock_watch(c);
}

static void shut(struct vsock_conn *c, uint32_t flags)
{
	c->shut |= flags & BOTH;
	if (c->shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		/* What comes for it is read no more. */
		c->ended |= VIRTIO_VSOCK_SHUTDOWN_SEND;
		(void)shutdown(c->fd, SHUT_RD);
	}
	if (!settle_ends(c)) {
		vsock_line_up(c);
		vsock_watch(c);
	}
}

static void in_open(struct vsock_conn *c, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, unsigned n)
{
	switch (le16toh(hdr->op)) {
	case VIRTIO_VSOCK_OP_RW:
		data(c, le32toh(hdr->len), iov, n);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		shut(c, le32toh(hdr->flags));
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_owe(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		vsock_line_up(c);
		break;
	default:
		count(&c->s->faults);
		kill_conn(c);
	}
}

static void for_conn(struct vsock_conn *c, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, unsigned n)
{
	unsigned op = le16toh(hdr->op);

	/* The reset is on its way. */
	if (c->state == DEAD)
		return;
	if (op == VIRTIO_VSOCK_OP_RST) {
		forget(c);
		return;
	}
	c->peer_buffer = le32toh(hdr->buf_alloc);
	c->peer_passed = le32toh(hdr->fwd_cnt);
	if (vsock_credit(c))
		c->asked = false;
	if (c->state == OPEN) {
		in_open(c, hdr, iov, n);
	} else if (op == VIRTIO_VSOCK_OP_RESPONSE) {
		accepted(c);
	} else {
		count(&c->s->faults);
		kill_conn(c);
	}
}

bool vsock_take(struct vsock *s, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, unsigned n)
{
	struct vsock_conn *c;

	if (s->nr_resets == RESETS)
		return false;
	/* Who it says that it is it must be (5.10.6.3.2). */
	if (le64toh(hdr->src_cid) != s->cid) {
		count(&s->faults);
		return true;
	}
	if (le64toh(hdr->dst_cid) != VSOCK_HOST || le16toh(hdr->type) != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse(s, hdr);
		return true;
	}
	c = find(s, le32toh(hdr->dst_port), le32toh(hdr->src_port));
	if (c)
		for_conn(c, hdr, iov, n);
	else if (le16toh(hdr->op) == VIRTIO_VSOCK_OP_REQUEST)
		requested(s, hdr);
	else
		refuse(s, hdr);
	return true;
}

/* ---- events ---- */

static void conn_event(void *arg, uint32_t events)
{
	struct vsock_conn *c = arg;
	struct vsock *s = c->s;

	if (c->state == GREETS) {
		greet(c);
	} else if (c->state == REQUESTED) {
		/* Who asked is gone. */
		kill_conn(c);
	} else if (c->state == LINGERS) {
		drain(c);
		if (c->waiting && !(events & (EPOLLHUP | EPOLLERR)))
			vsock_watch(c);
		else
			vsock_free(c);
	} else {
		if (events & (EPOLLHUP | EPOLLERR))
			c->hung_up = true;
		if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			c->readable = true;
		if (c->waiting)
			drain(c);
		if (c->hung_up)
			nobody_reads(c);
		if (!settle_ends(c)) {
			vsock_line_up(c);
			vsock_watch(c);
		}
	}
	if (vsock_pending(s))
		s->wants(s->arg);
}

/* ---- life ---- */

void vsock_ready(struct vsock *s, bool ready)
{
	s->is_ready = ready;
	if (ready) {
		listen_again(s);
		return;
	}
	loop_unwatch(s->loop, &s->watch);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_for_each_safe (node, next, &s->bucket[i])
			forget(container_of(node, struct vsock_conn, node));
	s->nr_resets = 0;
}

int vsock_check(const char *path, struct error *err)
{
	int r = unix_check(path, err);

	if (r == 0 && strlen(path) + SUFFIX > VSOCK_PATH)
		r = error_set(err, -ENAMETOOLONG,
			"'%.40s...' is %zu bytes long; %d at most leave room for a port behind it", path, strlen(path),
			VSOCK_PATH - SUFFIX);
	return r;
}

static int open_retry(struct vsock *s, struct error *err)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), r;

	s->retry = (struct loop_watch){ .fd = fd, .fn = retry, .arg = s };
	r = fd < 0 ? -errno : loop_watch(s->loop, &s->retry, EPOLLIN);
	return r ? error_set(err, r, "no timer: %s", strerror(-r)) : 0;
}

static void close_retry(struct vsock *s)
{
	loop_unwatch(s->loop, &s->retry);
	if (s->retry.fd >= 0)
		close(s->retry.fd);
}

int vsock_open(const char *path, uint32_t cid, unsigned sharers, struct loop *loop, void (*wants)(void *arg), void *arg,
	struct vsock **out, struct error *err)
{
	int r = vsock_check(path, err);
	struct vsock *s;

	if (r)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, -ENOMEM, "no memory");
	snprintf(s->path, sizeof(s->path), "%s", path);
	s->cid = cid;
	s->loop = loop;
	s->wants = wants;
	s->arg = arg;
	s->next_port = FIRST_PORT;
	s->most = files_share(sharers, 8, VSOCK_CONNECTIONS);
	list_init(&s->ready);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&s->bucket[i]);
	r = open_retry(s, err);
	if (r == 0)
		r = unix_listen(&s->listener, s->path, err);
	if (r) {
		close_retry(s);
		free(s);
		return r;
	}
	s->watch = (struct loop_watch){ .fd = s->listener.fd, .fn = accept_one, .arg = s };
	*out = s;
	return 0;
}

void vsock_close(struct vsock *s)
{
	if (!s)
		return;
	vsock_ready(s, false);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_for_each_safe (node, next, &s->bucket[i])
			vsock_free(container_of(node, struct vsock_conn, node));
	unix_unlisten(&s->listener);
	close_retry(s);
	free(s);
}

uint64_t vsock_faults(const struct vsock *s)
{
	return __atomic_load_n(&s->faults, __ATOMIC_RELAXED);
}

uint64_t vsock_refused(const struct vsock *s)
{
	return __atomic_load_n(&s->refused, __ATOMIC_RELAXED);
}

unsigned vsock_connections(const struct vsock *s)
{
	return s->connections;
}
