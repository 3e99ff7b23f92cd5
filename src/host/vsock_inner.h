/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock_inner.h - what the two halves of host/vsock.h share: vsock.c, connections; vsock_give.c, what the guest gets.
 */
#ifndef TRAPLINE_HOST_VSOCK_INNER_H
#define TRAPLINE_HOST_VSOCK_INNER_H

#include "core/list.h"
#include "host/unix.h"
#include "host/vsock.h"

#define BUCKETS  256
#define RESETS   64
#define GREETING 32 /* "CONNECT 4294967295\n" fits */
#define PIECES   64 /* of one call of the kernel's */
#define SUFFIX   11 /* "_4294967295" */
#define BOTH     (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

#define BIT(op) (1U << (op))

enum vsock_state {
	GREETS,    /* a program of the host's has connected, and not said to which port */
	REQUESTED, /* the guest has been asked */
	OPEN,
	DEAD,    /* a reset is owed, nothing else */
	LINGERS, /* the guest has sent all and knows it no more; the program has yet to take what waits */
};

struct vsock_conn {
	struct list node;  /* of its bucket */
	struct list ready; /* of s->ready; empty: has nothing to send */
	struct vsock *s;
	enum vsock_state state;
	uint32_t host_port, guest_port;
	int fd;
	struct loop_watch watch;
	unsigned owed;        /* BIT(VIRTIO_VSOCK_OP_*) */
	unsigned shut, ended; /* VIRTIO_VSOCK_SHUTDOWN_*: by the guest; by the host, as told or to be told */
	bool readable;        /* there may be something to read, or the end */
	bool hung_up;         /* the other end of the Unix socket is closed: what it sent before may still be read */
	bool asked;           /* for credit */
	uint32_t taken, passed, told; /* bytes from the guest, passed on of them, and as it was told; all modulo 2^32 */
	uint32_t sent, peer_buffer, peer_passed; /* the other way */
	uint8_t *buffer;                         /* VSOCK_BUFFER bytes, while something waits in it */
	unsigned first, waiting;
	char greeting[GREETING];
	unsigned greeted;
};

struct vsock {
	uint32_t cid;
	char path[VSOCK_PATH - SUFFIX + 1];
	struct loop *loop;
	void (*wants)(void *arg);
	void *arg;
	struct unix_listener listener;
	struct loop_watch watch;
	struct loop_watch retry; /* a timerfd: the listener is tried again */
	bool is_ready;
	struct list bucket[BUCKETS];
	struct list ready;
	unsigned connections, most; /* at most; a guest's own requests leave the last quarter to the host's programs */
	uint32_t next_port;
	uint64_t faults, refused; /* atomic */
	struct virtio_vsock_hdr resets[RESETS];
	unsigned first_reset, nr_resets;
};

/* vsock_give.c's: bytes that the guest has room for. */
uint32_t vsock_credit(const struct vsock_conn *c);
/* It waits for its turn if it has something to send. */
void vsock_line_up(struct vsock_conn *c);
void vsock_owe(struct vsock_conn *c, unsigned op); /* VIRTIO_VSOCK_OP_*, as soon as there is a buffer */

/* vsock.c's: the loop waits for what may come now; where that fails, the connection is reset. */
void vsock_watch(struct vsock_conn *c);
void vsock_free(struct vsock_conn *c);

#endif
