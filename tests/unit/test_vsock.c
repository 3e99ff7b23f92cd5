/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_vsock.c - a guest's sockets as Unix sockets: this file is the guest, packet by packet, and the programs of the
 * host's at the other ends. Then the device around it, and made-up packets and rings.
 */
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/files.h"
#include "host/vsock.h"
#include "virtio/vsock.h"
#include "virtio_bed.h"
#include "virtio_hostile.h"

#define CID  7
#define ROOM (64U << 10) /* of the guest, for each connection */

static char folder[] = "/tmp/trapline-vsock-XXXXXX", path[64];

/* ---- the guest ---- */

struct rig {
	struct loop loop;
	struct vsock *s;
	unsigned wanted;
	struct virtio_vsock_hdr hdr; /* of the last packet that came */
	uint8_t payload[ROOM];
	size_t len;
};

static void wants(void *arg)
{
	((struct rig *)arg)->wanted++;
}

static void quit(void *arg)
{
	loop_quit(arg);
}

static void turn(struct rig *r)
{
	struct loop_work work = { .fn = quit, .arg = &r->loop };

	for (unsigned i = 0; i < 8; i++) {
		loop_post(&r->loop, &work);
		loop_run(&r->loop);
	}
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct error err;

	assert_non_null(r);
	assert_int_equal(loop_init(&r->loop, NULL), 0);
	assert_int_equal(vsock_open(path, CID, 1, &r->loop, wants, r, &r->s, &err), 0);
	vsock_ready(r->s, true);
	return r;
}

static void rig_free(struct rig *r)
{
	struct stat st;

	vsock_close(r->s);
	loop_fini(&r->loop);
	free(r);
	assert_int_equal(stat(path, &st), -1);
}

static struct virtio_vsock_hdr packet(unsigned op, uint32_t host_port, uint32_t guest_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = htole64(CID),
		.dst_cid = htole64(VSOCK_HOST),
		.src_port = htole32(guest_port),
		.dst_port = htole32(host_port),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16((uint16_t)op),
		.buf_alloc = htole32(ROOM),
	};
}

static bool send_packet(struct rig *r, struct virtio_vsock_hdr hdr, const void *bytes, size_t len)
{
	/* In pieces, none of them as long as the next. */
	struct iovec iov[3] = { { (void *)(uintptr_t)bytes, len / 3 }, { (uint8_t *)(uintptr_t)bytes + len / 3, 0 },
		{ (uint8_t *)(uintptr_t)bytes + len / 3, len - len / 3 } };

	hdr.len = htole32((uint32_t)len);
	return vsock_take(r->s, &hdr, iov, 3);
}

static void say_op(struct rig *r, unsigned op, uint32_t host_port, uint32_t guest_port)
{
	assert_true(send_packet(r, packet(op, host_port, guest_port), NULL, 0));
}

/* The next packet for the guest, into r; its op, or -1: none. */
static int next(struct rig *r)
{
	struct iovec iov[3] = { { &r->hdr, 20 }, { (uint8_t *)&r->hdr + 20, sizeof(r->hdr) - 20 },
		{ r->payload, sizeof(r->payload) } };
	size_t len;

	turn(r);
	len = vsock_give(r->s, iov, 3);
	if (!len)
		return -1;
	assert_true(len >= sizeof(r->hdr));
	r->len = len - sizeof(r->hdr);
	assert_int_equal(le32toh(r->hdr.len), r->len);
	assert_int_equal(le64toh(r->hdr.dst_cid), CID);
	return le16toh(r->hdr.op);
}

static void expect(struct rig *r, unsigned op, uint32_t host_port, uint32_t guest_port)
{
	assert_int_equal(next(r), op);
	assert_int_equal(le32toh(r->hdr.src_port), host_port);
	assert_int_equal(le32toh(r->hdr.dst_port), guest_port);
}

/* ---- the programs ---- */

static struct sockaddr_un at(const char *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", text);
	return address;
}

static int listen_at(unsigned port)
{
	char text[80];
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(text, sizeof(text), "%s_%u", path, port);
	unlink(text);
	address = at(text);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	return fd;
}

static int program(const char *greeting)
{
	struct sockaddr_un address = at(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (*greeting)
		assert_int_equal(send(fd, greeting, strlen(greeting), 0), strlen(greeting));
	return fd;
}

static void hears(int fd, const char *text)
{
	char buf[256] = "";
	size_t n = 0, len = strlen(text);

	while (n < len) {
		ssize_t got = recv(fd, buf + n, len - n, 0);

		assert_true(got > 0);
		n += (size_t)got;
	}
	assert_string_equal(buf, text);
}

static bool over(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* A stream from the guest's port 1000 to port 80; the program's end. */
static int connected(struct rig *r)
{
	int listener = listen_at(80), fd;

	say_op(r, VIRTIO_VSOCK_OP_REQUEST, 80, 1000);
	expect(r, VIRTIO_VSOCK_OP_RESPONSE, 80, 1000);
	assert_int_equal(le32toh(r->hdr.buf_alloc), VSOCK_BUFFER);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	close(listener);
	return fd;
}

/* ---- streams ---- */

static void test_from_guest(void **state)
{
	struct rig *r = rig_new();
	int fd = connected(r);
	struct virtio_vsock_hdr shut = packet(VIRTIO_VSOCK_OP_SHUTDOWN, 80, 1000);

	assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), "hello there", 11));
	hears(fd, "hello there");
	assert_int_equal(send(fd, "general", 7, 0), 7);
	expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
	assert_int_equal(r->len, 7);
	assert_memory_equal(r->payload, "general", 7);
	assert_int_equal(le32toh(r->hdr.fwd_cnt), 11);
	assert_true(r->wanted > 0);
	/* The guest ends its half, then the program the other. */
	shut.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_true(send_packet(r, shut, NULL, 0));
	assert_true(over(fd));
	assert_int_equal(send(fd, "last", 4, 0), 4);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
	expect(r, VIRTIO_VSOCK_OP_SHUTDOWN, 80, 1000);
	/* With both its halves shut, it is hung up for good. */
	assert_true(le32toh(r->hdr.flags) & VIRTIO_VSOCK_SHUTDOWN_SEND);
	shut.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_true(send_packet(r, shut, NULL, 0));
	while (next(r) == VIRTIO_VSOCK_OP_SHUTDOWN)
		;
	assert_int_equal(le16toh(r->hdr.op), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(next(r), -1);
	assert_int_equal(vsock_connections(r->s), 0);
	close(fd);
	rig_free(r);
}

/* A program that closes: the guest gets what came before, then hears of both directions. */
static void test_program_closes(void **state)
{
	struct rig *r = rig_new();
	int fd = connected(r);
	unsigned flags = 0;
	int op;

	assert_int_equal(send(fd, "bye", 3, 0), 3);
	close(fd);
	expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
	assert_memory_equal(r->payload, "bye", 3);
	while ((op = next(r)) >= 0) {
		assert_int_equal(op, VIRTIO_VSOCK_OP_SHUTDOWN);
		flags = le32toh(r->hdr.flags);
	}
	assert_int_equal(flags, VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	/* What the guest still sends goes nowhere, without harm. */
	assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), "late", 4));
	assert_int_equal(vsock_connections(r->s), 1);
	say_op(r, VIRTIO_VSOCK_OP_RST, 80, 1000);
	assert_int_equal(vsock_connections(r->s), 0);
	assert_int_equal(next(r), -1);
	assert_int_equal(vsock_faults(r->s), 0);
	rig_free(r);
}

static void test_refusals(void **state)
{
	struct rig *r = rig_new();
	struct virtio_vsock_hdr hdr;

	/* Nobody listens there. */
	say_op(r, VIRTIO_VSOCK_OP_REQUEST, 81, 1000);
	expect(r, VIRTIO_VSOCK_OP_RST, 81, 1000);
	/* No connection. */
	say_op(r, VIRTIO_VSOCK_OP_RW, 80, 1001);
	expect(r, VIRTIO_VSOCK_OP_RST, 80, 1001);
	say_op(r, VIRTIO_VSOCK_OP_RST, 80, 1001);
	assert_int_equal(next(r), -1);
	/* Another kind of socket gets an answer of its kind; another CID from there. */
	hdr = packet(VIRTIO_VSOCK_OP_REQUEST, 80, 1000);
	hdr.type = htole16(77);
	assert_true(send_packet(r, hdr, NULL, 0));
	expect(r, VIRTIO_VSOCK_OP_RST, 80, 1000);
	assert_int_equal(le16toh(r->hdr.type), 77);
	hdr = packet(VIRTIO_VSOCK_OP_REQUEST, 80, 1000);
	hdr.dst_cid = htole64(99);
	assert_true(send_packet(r, hdr, NULL, 0));
	expect(r, VIRTIO_VSOCK_OP_RST, 80, 1000);
	assert_int_equal(le64toh(r->hdr.src_cid), 99);
	/* Who says that it is another is not answered. */
	hdr = packet(VIRTIO_VSOCK_OP_REQUEST, 80, 1000);
	hdr.src_cid = htole64(CID + 1);
	assert_true(send_packet(r, hdr, NULL, 0));
	assert_int_equal(next(r), -1);
	assert_int_equal(vsock_faults(r->s), 1);
	assert_int_equal(vsock_connections(r->s), 0);
	rig_free(r);
}

/* Answers have bounded room: what cannot be answered is not taken. */
static void test_backpressure(void **state)
{
	struct rig *r = rig_new();
	unsigned n = 0, answers = 0;

	while (send_packet(r, packet(VIRTIO_VSOCK_OP_REQUEST, 81, n), NULL, 0))
		assert_true(++n < 1000);
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(le32toh(r->hdr.dst_port), 0);
	assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_REQUEST, 81, n), NULL, 0));
	assert_false(send_packet(r, packet(VIRTIO_VSOCK_OP_REQUEST, 81, n), NULL, 0));
	while (next(r) == VIRTIO_VSOCK_OP_RST)
		answers++;
	assert_int_equal(answers, n);
	rig_free(r);
}

static void test_to_guest(void **state)
{
	struct rig *r = rig_new();
	int fd = program("CONN");
	uint32_t port;
	char text[32];

	turn(r);
	assert_int_equal(next(r), -1);
	/* The rest, and bytes that are the guest's already. */
	assert_int_equal(send(fd, "ECT 1234\nearly", 14, 0), 14);
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	port = le32toh(r->hdr.src_port);
	assert_int_equal(le32toh(r->hdr.dst_port), 1234);
	assert_int_equal(le64toh(r->hdr.src_cid), VSOCK_HOST);
	assert_int_equal(next(r), -1);
	say_op(r, VIRTIO_VSOCK_OP_RESPONSE, port, 1234);
	snprintf(text, sizeof(text), "OK %u\n", port);
	hears(fd, text);
	expect(r, VIRTIO_VSOCK_OP_RW, port, 1234);
	assert_int_equal(r->len, 5);
	assert_memory_equal(r->payload, "early", 5);
	assert_int_equal(le32toh(r->hdr.fwd_cnt), 0);
	/* A reset is the end for the program. */
	say_op(r, VIRTIO_VSOCK_OP_RST, port, 1234);
	assert_true(over(fd));
	close(fd);
	/* One that the guest refuses. */
	fd = program("CONNECT 5\r\n");
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	assert_true(le32toh(r->hdr.src_port) != port);
	say_op(r, VIRTIO_VSOCK_OP_RST, le32toh(r->hdr.src_port), 5);
	assert_true(over(fd));
	close(fd);
	/* One that does not wait for the guest. */
	fd = program("CONNECT 6\n");
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_connections(r->s), 0);
	/* What answers no request. */
	fd = program("CONNECT 6\n");
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	say_op(r, VIRTIO_VSOCK_OP_RW, le32toh(r->hdr.src_port), 6);
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_RST);
	assert_true(over(fd));
	assert_int_equal(vsock_faults(r->s), 1);
	close(fd);
	rig_free(r);
}

static void test_greetings(void **state)
{
	static const char *const bad[] = { "\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT 1x\n",
		"CONNECT -1\n", "CONNECT 4294967296\n", "connect 1\n", "GET / HTTP/1.0\n", "CONNECT 1 2\n",
		"CONNECT 00000000000000000000000000000000000001\n" };
	struct rig *r = rig_new();
	int fd;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char byte;

		fd = program(bad[i]);
		assert_int_equal(next(r), -1);
		/* Closed, with what was not read yet or without. */
		assert_true(recv(fd, &byte, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN);
		assert_int_equal(vsock_connections(r->s), 0);
		close(fd);
	}
	fd = program("CONNECT 4294967295\n");
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(le32toh(r->hdr.dst_port), UINT32_MAX);
	close(fd);
	rig_free(r);
}

/* ---- credit ---- */

static void test_credit_of_guest(void **state)
{
	struct rig *r = rig_new();
	int fd = connected(r);
	static uint8_t bytes[100000];
	size_t sent = 0, got = 0;
	struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 80, 1000);

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 9));
	while (sent < sizeof(bytes)) {
		ssize_t n = send(fd, bytes + sent, sizeof(bytes) - sent, MSG_DONTWAIT);

		assert_true(n > 0);
		sent += (size_t)n;
	}
	/* The guest's buffer is full: it is asked, once, and nothing more comes. */
	while (got < ROOM) {
		expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
		assert_memory_equal(r->payload, bytes + got, r->len);
		got += r->len;
		assert_true(got <= ROOM);
	}
	expect(r, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 80, 1000);
	assert_int_equal(next(r), -1);
	/* A little more room. */
	hdr.fwd_cnt = htole32(10);
	assert_true(send_packet(r, hdr, NULL, 0));
	expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
	assert_int_equal(r->len, 10);
	got += 10;
	expect(r, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 80, 1000);
	hdr.fwd_cnt = htole32((uint32_t)got);
	assert_true(send_packet(r, hdr, NULL, 0));
	while (got < sizeof(bytes)) {
		expect(r, VIRTIO_VSOCK_OP_RW, 80, 1000);
		assert_memory_equal(r->payload, bytes + got, r->len);
		got += r->len;
	}
	/* More passed on than was ever sent is no credit. */
	hdr.fwd_cnt = htole32((uint32_t)got + 1);
	assert_true(send_packet(r, hdr, NULL, 0));
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(next(r), -1);
	close(fd);
	rig_free(r);
}

/* A program that does not read: what it does not take is kept, as far as the guest's credit goes, and no further. */
static void test_credit_of_ours(void **state)
{
	struct rig *r = rig_new();
	int fd = connected(r), small = 1;
	static uint8_t bytes[4096];
	size_t sent = 0, got = 0;
	uint32_t passed = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (;;) {
		memset(bytes, (int)(sent / sizeof(bytes)), sizeof(bytes));
		if (sent - passed + sizeof(bytes) > VSOCK_BUFFER)
			break;
		assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), bytes, sizeof(bytes)));
		sent += sizeof(bytes);
		while (next(r) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
			passed = le32toh(r->hdr.fwd_cnt);
		assert_true(sent < 64U << 20);
	}
	say_op(r, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 80, 1000);
	expect(r, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 80, 1000);
	passed = le32toh(r->hdr.fwd_cnt);
	assert_true(sent - passed <= VSOCK_BUFFER);
	/* All of it comes, in order; and the guest hears that there is room. */
	while (got < sent) {
		ssize_t n = recv(fd, bytes, sizeof(bytes) - got % sizeof(bytes), MSG_DONTWAIT);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(r);
			continue;
		}
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], (uint8_t)(got / sizeof(bytes)));
		got += (size_t)n;
	}
	expect(r, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 80, 1000);
	/* Who sends more than it may is cut off. */
	sent = 0;
	while (vsock_faults(r->s) == 0 && sent < 1U << 20) {
		assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), bytes, sizeof(bytes)));
		sent += sizeof(bytes);
	}
	assert_int_equal(vsock_faults(r->s), 1);
	while (next(r) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		;
	assert_int_equal(le16toh(r->hdr.op), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_connections(r->s), 0);
	close(fd);
	rig_free(r);
}

/* The guest closes while the program has not read all: it still gets it, then the end. */
static void test_guest_closes(void **state)
{
	struct rig *r = rig_new();
	int fd = connected(r);
	static uint8_t bytes[60000];
	struct virtio_vsock_hdr shut = packet(VIRTIO_VSOCK_OP_SHUTDOWN, 80, 1000);
	size_t sent = 0, got = 0;
	ssize_t n;

	for (unsigned i = 0; i < 2; i++, sent += sizeof(bytes))
		assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), bytes, sizeof(bytes)));
	shut.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_true(send_packet(r, shut, NULL, 0));
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		got += (size_t)n;
		turn(r);
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, sent);
	while (next(r) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		;
	assert_int_equal(le16toh(r->hdr.op), VIRTIO_VSOCK_OP_RST);
	/* And may send no more after its end. */
	close(fd);
	fd = connected(r);
	shut.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_true(send_packet(r, shut, NULL, 0));
	assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), bytes, 1));
	expect(r, VIRTIO_VSOCK_OP_RST, 80, 1000);
	close(fd);
	rig_free(r);
}

/* A driver that has waited long enough resets what it has closed; what it sent is the program's all the same. */
static void test_guest_forgets(void **state)
{
	for (unsigned device = 0; device < 2; device++) {
		struct rig *r = rig_new();
		int fd = connected(r), other;
		static uint8_t bytes[4096];
		struct virtio_vsock_hdr shut = packet(VIRTIO_VSOCK_OP_SHUTDOWN, 80, 1000);
		size_t sent = 0, got = 0;
		uint32_t passed = 0;
		ssize_t n;

		for (; sent - passed + sizeof(bytes) <= VSOCK_BUFFER; sent += sizeof(bytes)) {
			memset(bytes, (int)(sent / sizeof(bytes)), sizeof(bytes));
			assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), bytes, sizeof(bytes)));
			while (next(r) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
				passed = le32toh(r->hdr.fwd_cnt);
		}
		shut.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
		assert_true(send_packet(r, shut, NULL, 0));
		if (device)
			vsock_ready(r->s, false);
		else
			say_op(r, VIRTIO_VSOCK_OP_RST, 80, 1000);
		assert_int_equal(vsock_connections(r->s), 1);
		/* Its ports are free for the next. */
		if (device)
			vsock_ready(r->s, true);
		other = connected(r);
		assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 1000), "next", 4));
		hears(other, "next");
		while ((n = recv(fd, bytes, sizeof(bytes) - got % sizeof(bytes), 0)) > 0) {
			for (ssize_t i = 0; i < n; i++)
				assert_int_equal(bytes[i], (uint8_t)(got / sizeof(bytes)));
			got += (size_t)n;
			turn(r);
		}
		assert_int_equal(n, 0);
		assert_int_equal(got, sent);
		assert_int_equal(next(r), -1);
		assert_int_equal(vsock_connections(r->s), 1);
		close(fd);
		close(other);
		rig_free(r);
	}
}

/* ---- many ---- */

static void test_many(void **state)
{
	struct rig *r = rig_new();
	int listener = listen_at(80), fds[400];
	unsigned n = sizeof(fds) / sizeof(fds[0]);

	for (unsigned i = 0; i < n; i++) {
		say_op(r, VIRTIO_VSOCK_OP_REQUEST, 80, 2000 + i);
		fds[i] = accept(listener, NULL, NULL);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(vsock_connections(r->s), n);
	for (unsigned i = 0; i < n; i++)
		expect(r, VIRTIO_VSOCK_OP_RESPONSE, 80, 2000 + i);
	for (unsigned round = 0; round < 3; round++) {
		bool seen[sizeof(fds) / sizeof(fds[0])] = { false };

		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(send(fds[i], &i, sizeof(i), 0), sizeof(i));
			assert_true(send_packet(r, packet(VIRTIO_VSOCK_OP_RW, 80, 2000 + i), &i, sizeof(i)));
		}
		for (unsigned i = 0; i < n; i++) {
			unsigned number, back;

			for (unsigned tries = 0; next(r) != VIRTIO_VSOCK_OP_RW; tries++)
				assert_true(tries < 1000);
			number = le32toh(r->hdr.dst_port) - 2000;
			assert_true(number < n && !seen[number]);
			seen[number] = true;
			assert_memory_equal(r->payload, &number, sizeof(number));
			assert_int_equal(recv(fds[number], &back, sizeof(back), 0), sizeof(back));
			assert_int_equal(back, number);
		}
	}
	/* The driver goes: so do all of them. */
	vsock_ready(r->s, false);
	assert_int_equal(vsock_connections(r->s), 0);
	assert_false(vsock_pending(r->s));
	for (unsigned i = 0; i < n; i++) {
		assert_true(over(fds[i]));
		close(fds[i]);
	}
	close(listener);
	rig_free(r);
}

/* Of many devices none takes what the others, and all else, need. In a child, which need not have its limit back. */
static void test_shares(void **state)
{
	const struct rlimit few = { .rlim_cur = 512, .rlim_max = 1024 };
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!(setrlimit(RLIMIT_NOFILE, &few) == 0 && files_share(0, 8, 4096) == 256 &&
			files_share(1, 8, 4096) == 256 && files_share(2, 8, 4096) == 256 &&
			files_share(4, 8, 4096) == 128 && files_share(4, 8, 100) == 100 &&
			files_share(100, 8, 4096) == 8));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A guest that asks for all there are finds an end, and the host's programs a quarter that is left. */
static void test_most(void **state)
{
	struct rig *r = rig_new();
	int listener = listen_at(80), fd;
	struct rlimit limit;
	unsigned n = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 0; i < 2 * VSOCK_CONNECTIONS; i++) {
		int op;

		say_op(r, VIRTIO_VSOCK_OP_REQUEST, 80, 2000 + i);
		op = next(r);
		assert_true(op == VIRTIO_VSOCK_OP_RESPONSE ? i == n : op == VIRTIO_VSOCK_OP_RST);
		n += op == VIRTIO_VSOCK_OP_RESPONSE;
	}
	assert_true(n >= 6 && n <= VSOCK_CONNECTIONS * 3 / 4 && n <= limit.rlim_cur / 4);
	assert_int_equal(vsock_connections(r->s), n);
	assert_int_equal(vsock_refused(r->s), 2 * VSOCK_CONNECTIONS - n);
	assert_int_equal(vsock_faults(r->s), 0);
	fd = program("CONNECT 6\n");
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_REQUEST);
	/* One that ends makes room for one. */
	say_op(r, VIRTIO_VSOCK_OP_RST, 80, 2000);
	say_op(r, VIRTIO_VSOCK_OP_RST, 80, 2001);
	say_op(r, VIRTIO_VSOCK_OP_REQUEST, 80, 1);
	assert_int_equal(next(r), VIRTIO_VSOCK_OP_RESPONSE);
	close(fd);
	close(listener);
	rig_free(r);
}

/* No descriptor for a program that connects: it is served as soon as there is one, whatever the guest does. */
static void test_no_files(void **state)
{
	struct rig *r = rig_new();
	struct sockaddr_un address = at(path);
	struct rlimit limit, none;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), lowest, op = -1;

	assert_true(fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	lowest = open("/dev/null", O_RDONLY);
	assert_true(lowest >= 0);
	close(lowest);
	none = (struct rlimit){ (rlim_t)lowest, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, "CONNECT 6\n", 10, 0), 10);
	assert_int_equal(next(r), -1);
	assert_int_equal(vsock_connections(r->s), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 0; i < 10000 && op < 0; i++) {
		usleep(1000);
		op = next(r);
	}
	assert_int_equal(op, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
	rig_free(r);
}

static void test_paths(void **state)
{
	struct rig *r = rig_new();
	struct vsock *other;
	struct error err;
	char text[120];

	assert_int_equal(vsock_open(path, CID, 1, &r->loop, wants, r, &other, &err), -EADDRINUSE);
	memset(text, 'a', sizeof(text));
	text[97] = '\0';
	assert_int_equal(vsock_check(text, &err), -ENAMETOOLONG);
	text[96] = '\0';
	assert_int_equal(vsock_check(text, &err), 0);
	rig_free(r);
}

/* Noise that is nearly right: whatever it is, it ends, and the books are in order. */
static void test_noise(void **state)
{
	struct rig *r = rig_new();
	int listener = listen_at(80);
	uint64_t random = 1;
	static uint8_t bytes[70000];
	unsigned made = 0;

	for (unsigned i = 0; i < 60000; i++) {
		struct virtio_vsock_hdr hdr;
		uint32_t bits;
		size_t len;
		int fd;

		random = random * 6364136223846793005u + 1442695040888963407u;
		bits = (uint32_t)(random >> 33);
		hdr = packet(bits % 9, bits >> 4 & 7 ? 80 : 0x40000000 + (bits >> 8 & 3), 1000 + (bits >> 12 & 15));
		hdr.flags = htole32(bits >> 16 & 7);
		hdr.buf_alloc = htole32(bits >> 20 & 3 ? ROOM : bits);
		hdr.fwd_cnt = htole32(bits >> 22 & 3 ? 0 : bits * 977);
		len = le16toh(hdr.op) == VIRTIO_VSOCK_OP_RW ? bits % (bits & 1 << 24 ? 64 : sizeof(bytes)) : 0;
		(void)send_packet(r, hdr, bytes, len);
		if (bits >> 25 & 3)
			(void)next(r);
		fd = accept(listener, NULL, NULL);
		if (fd >= 0) {
			made++;
			if (bits & 1 << 27)
				(void)!send(fd, bytes, len % 3000, MSG_DONTWAIT);
			close(fd);
		}
		if (bits % 97 == 0)
			close(program("CONNECT 1003\n"));
	}
	assert_true(made > 100);
	assert_true(vsock_connections(r->s) <= 64);
	close(listener);
	rig_free(r);
}

/* ---- the device ---- */

static const struct virtio_vsock_options options = { .cid = CID, .path = path };

static void enable(struct bed *bed, struct vdriver *d, unsigned index, uint64_t rings)
{
	struct virtio_queue *vq = bed->v->queues[index];

	pthread_mutex_lock(&bed->dev.lock);
	vdriver_init(d, bed->memory->host, rings, &vq->state, vq->q.max, bed->v->state.features);
	virtio_enable_queue(bed->v, index);
	pthread_mutex_unlock(&bed->dev.lock);
}

/* What comes back on a queue within ten seconds: how many bytes. */
static uint32_t get(struct bed *bed, struct vdriver *d)
{
	uint32_t len;

	for (unsigned i = 0; i < 10000; i++) {
		if (vdriver_get(d, &len))
			return len;
		usleep(1000);
		settle(bed);
	}
	fail_msg("nothing came");
	return 0;
}

static void give_buffers(struct bed *bed, struct vdriver *d, unsigned index, unsigned n, uint64_t gpa)
{
	const struct vdriver_buf buf = { gpa, 4096 };

	for (unsigned i = 0; i < n; i++)
		assert_true(vdriver_add(d, &buf, 1, 0, 0, bed));
	virtio_kick(bed->v, index);
}

static void device_with(uint64_t features)
{
	struct bed *bed = bed_new(&virtio_vsock_type, &options, 2, features | 1ULL << VIRTIO_F_RING_RESET);
	struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_REQUEST, 80, 1000), *in;
	struct vdriver rx, tx;
	struct vdriver_buf out = { BUFFERS, sizeof(hdr) };
	uint8_t *ram = bed->memory->host;
	int listener = listen_at(80), fd;
	uint64_t cid;

	virtio_config_read(bed->v, 0, 8, (uint8_t *)&cid);
	assert_int_equal(le64toh(cid), CID);
	in = (struct virtio_vsock_hdr *)(void *)(ram + BUFFERS + 0x10000);
	enable(bed, &rx, 0, 0x20000);
	enable(bed, &tx, 1, 0x40000);
	give_buffers(bed, &rx, 0, 4, BUFFERS + 0x10000);
	give_buffers(bed, &bed->d, 2, 2, BUFFERS + 0x20000);
	memcpy(ram + BUFFERS, &hdr, sizeof(hdr));
	assert_true(vdriver_add(&tx, &out, 1, 1, 0, bed));
	virtio_kick(bed->v, 1);
	assert_int_equal(get(bed, &tx), 0);
	assert_int_equal(get(bed, &rx), sizeof(hdr));
	assert_int_equal(le16toh(in->op), VIRTIO_VSOCK_OP_RESPONSE);
	fd = accept(listener, NULL, NULL);
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_int_equal(get(bed, &rx), sizeof(hdr) + 5);
	assert_memory_equal(in + 1, "hello", 5);
	/* One queue is reset: the streams are gone, and the driver, which is not, is told. */
	pthread_mutex_lock(&bed->dev.lock);
	virtio_reset_queue(bed->v, 0);
	pthread_mutex_unlock(&bed->dev.lock);
	for (unsigned i = 0; i < 10000 && !over(fd); i++)
		usleep(1000);
	assert_true(over(fd));
	for (unsigned i = 0; i < 100; i++) {
		settle(bed);
		usleep(100);
	}
	enable(bed, &rx, 0, 0x20000);
	assert_int_equal(get(bed, &bed->d), sizeof(struct virtio_vsock_event));
	assert_int_equal(ram[BUFFERS + 0x20000], VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	close(fd);
	close(listener);
	bed_free(bed);
}

static bool is_quiet(struct bed *bed, unsigned index)
{
	bool quiet;

	pthread_mutex_lock(&bed->dev.lock);
	quiet = bed->v->queues[index]->quiet;
	pthread_mutex_unlock(&bed->dev.lock);
	return quiet;
}

static void reset_queue(struct bed *bed, unsigned index)
{
	pthread_mutex_lock(&bed->dev.lock);
	virtio_reset_queue(bed->v, index);
	pthread_mutex_unlock(&bed->dev.lock);
	for (unsigned i = 0; i < 10000 && !is_quiet(bed, index); i++) {
		usleep(1000);
		settle(bed);
	}
}

static void say_to(struct bed *bed, struct vdriver *tx, unsigned slot, struct virtio_vsock_hdr hdr)
{
	const struct vdriver_buf out = { BUFFERS + slot * sizeof(hdr), sizeof(hdr) };

	memcpy((uint8_t *)bed->memory->host + out.gpa, &hdr, sizeof(hdr));
	assert_true(vdriver_add(tx, &out, 1, 1, 0, bed));
}

/*
 * The queue of what the guest sends is reset alone, in traffic: the guest hears that its streams are gone, and programs
 * of the host's reach it again, though it never touches the other queue.
 */
static void test_device_tx_again(void **state)
{
	struct bed *bed = bed_new(&virtio_vsock_type, &options, 2, 1ULL << VIRTIO_F_RING_RESET);
	struct vdriver rx, tx;
	uint8_t *ram = bed->memory->host;
	int listener = listen_at(80), fd;

	enable(bed, &rx, 0, 0x20000);
	enable(bed, &tx, 1, 0x40000);
	give_buffers(bed, &rx, 0, 8, BUFFERS + 0x10000);
	give_buffers(bed, &bed->d, 2, 2, BUFFERS + 0x20000);
	say_to(bed, &tx, 0, packet(VIRTIO_VSOCK_OP_REQUEST, 80, 1000));
	virtio_kick(bed->v, 1);
	assert_int_equal(get(bed, &rx), sizeof(struct virtio_vsock_hdr));
	fd = accept(listener, NULL, NULL);
	reset_queue(bed, 1);
	assert_true(over(fd));
	close(fd);
	enable(bed, &tx, 1, 0x40000);
	assert_int_equal(get(bed, &bed->d), sizeof(struct virtio_vsock_event));
	assert_int_equal(ram[BUFFERS + 0x20000], VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	fd = program("CONNECT 6\n");
	assert_int_equal(get(bed, &rx), sizeof(struct virtio_vsock_hdr));
	close(fd);
	close(listener);
	bed_free(bed);
}

/*
 * What the guest sends is held up, for it takes no answers; then it resets the
 * queue of these. The rest is taken all the same.
 */
static void test_device_held_up(void **state)
{
	struct bed *bed = bed_new(&virtio_vsock_type, &options, 2, 1ULL << VIRTIO_F_RING_RESET);
	struct vdriver rx, tx;
	const unsigned n = 100, held = 64; /* resets that are kept for a guest */

	enable(bed, &rx, 0, 0x20000);
	enable(bed, &tx, 1, 0x40000);
	for (unsigned i = 0; i < n; i++)
		say_to(bed, &tx, i, packet(VIRTIO_VSOCK_OP_REQUEST, 99, i));
	virtio_kick(bed->v, 1);
	for (unsigned i = 0; i < held; i++)
		assert_int_equal(get(bed, &tx), 0);
	usleep(10000);
	reset_queue(bed, 0);
	for (unsigned i = held; i < n; i++)
		assert_int_equal(get(bed, &tx), 0);
	/* Each is counted once, also the one that was put back; and all of it was one life. */
	assert_int_equal(bed->v->queues[1]->q.taken, n);
	assert_int_equal(bed->v->resets, 0);
	virtio_stop(bed->v);
	assert_int_equal(bed->v->resets, 1);
	bed_free(bed);
}

static void test_device(void **state)
{
	device_with(0);
	device_with(1ULL << VIRTIO_RING_F_EVENT_IDX);
	device_with(1ULL << VIRTIO_F_RING_PACKED);
}

static void request(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n)
{
	struct virtio_vsock_hdr hdr =
		packet(hostile_some(h, 9), hostile_some(h, 4) ? 80 : 0x40000000, hostile_some(h, 8));

	hdr.len = htole32(hostile_some(h, 4) ? 0 : hostile_some(h, 200));
	hdr.flags = htole32(hostile_some(h, 5));
	if (n >= sizeof(hdr))
		memcpy(bytes, &hdr, sizeof(hdr));
}

static void test_hostile(void **state)
{
	int listener = listen_at(80);

	assert_int_equal(virtio_hostile(&virtio_vsock_type, &options, 3000, 11, request), 0);
	close(listener);
}

static int begin(void **state)
{
	thread_adopt();
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/v", folder);
	return 0;
}

static int finish(void **state)
{
	char text[96];

	snprintf(text, sizeof(text), "%s_80", path);
	unlink(text);
	thread_release();
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_guest),
		cmocka_unit_test(test_program_closes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_backpressure),
		cmocka_unit_test(test_to_guest),
		cmocka_unit_test(test_greetings),
		cmocka_unit_test(test_credit_of_guest),
		cmocka_unit_test(test_credit_of_ours),
		cmocka_unit_test(test_guest_closes),
		cmocka_unit_test(test_guest_forgets),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_most),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_device_tx_again),
		cmocka_unit_test(test_device_held_up),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, begin, finish);
}
