/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user_wire.h - messages of the vhost-user protocol (the vhost-user document), as its front end sends and gets
 * them.
 *
 * The other side is another program, which may be wrong, slow or malicious. So nothing here waits longer than the
 * connection's limit; of what comes, header, length and descriptors are checked before anything is looked at; and
 * descriptors that nobody asked for are closed. After a call that failed nothing on the connection can be relied on:
 * its owner closes it.
 *
 * Besides the front end's requests and the replies to them there is a channel for the back end's own requests. It is
 * served while a reply is waited for as well, since the back end may want an answer there before it gives one here.
 */
#ifndef TRAPLINE_HOST_VHOST_USER_WIRE_H
#define TRAPLINE_HOST_VHOST_USER_WIRE_H

#include <stdbool.h>
#include <stdint.h>

/* The front end's requests. */
enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_RESET_DEVICE = 34,
};

/* The back end's. */
enum vu_backend_request { VU_BACKEND_CONFIG_CHANGE = 2 };

/* A bit of the device's features that no device has: there are protocol features. */
#define VU_F_PROTOCOL 30

enum vu_protocol_feature {
	VU_P_MQ = 0,
	VU_P_REPLY_ACK = 3,
	VU_P_BACKEND_REQ = 5,
	VU_P_CONFIG = 9,
	VU_P_INFLIGHT = 12,
	VU_P_RESET_DEVICE = 13,
};

#define VU_VERSION      0x1U
#define VU_VERSION_MASK 0x3U
#define VU_REPLY        0x4U
#define VU_NEED_REPLY   0x8U

#define VU_NO_FD 0x100U /* in the payload of SET_VRING_KICK, _CALL and _ERR, beside the ring's index */

#define VU_REGIONS      8 /* of a memory table */
#define VU_CONFIG_BYTES 256

struct vu_header {
	uint32_t request, flags, size;
};
_Static_assert(sizeof(struct vu_header) == 12, "a wire structure");

struct vu_ring_state {
	uint32_t index, num;
};
_Static_assert(sizeof(struct vu_ring_state) == 8, "a wire structure");

struct vu_ring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};
_Static_assert(sizeof(struct vu_ring_addr) == 40, "a wire structure");

struct vu_memory {
	uint32_t n, padding;
	struct {
		uint64_t gpa, size, user, offset;
	} region[VU_REGIONS];
};
_Static_assert(sizeof(struct vu_memory) == 8 + 32 * VU_REGIONS, "a wire structure");

struct vu_config {
	uint32_t offset, size, flags;
	uint8_t bytes[VU_CONFIG_BYTES];
};
_Static_assert(sizeof(struct vu_config) == 12 + VU_CONFIG_BYTES, "a wire structure");

struct vu_inflight {
	uint64_t size, offset;
	uint16_t queues, queue_size;
	uint32_t padding; /* the document's structure ends before it, the compilers' does not: both lengths are met */
};
#define VU_INFLIGHT_SIZE 20 /* bytes of it on the wire, at least */
_Static_assert(sizeof(struct vu_inflight) == 24, "a wire structure");

#define VU_PAYLOAD sizeof(struct vu_config) /* bytes of a message at most */

/* A connection. */
struct vu_conn {
	int fd;            /* non-blocking; -1: closed */
	int channel;       /* our end of the back end's, non-blocking; -1: there is none */
	unsigned limit_ms; /* how long a message may take to be sent, and how long a reply to come */
	int64_t end_ms; /* when, on vu_now_ms()'s clock, all that goes on has to be over; 0: there is no such limit */
	int leave;      /* readable once the user wants to leave (core/leave.h), which ends each wait; -1: none */
	bool ack;       /* REPLY_ACK: whatever is set is answered */
	/* A request of the back end's: 0 or -errno, as it is answered. Called from within any of the calls below. */
	int (*asked)(void *arg, uint32_t request);
	void *arg;
	/* wire.c's own: what has come of the request on the channel */
	struct {
		struct vu_header header;
		uint8_t payload[VU_PAYLOAD];
	} in;
	unsigned in_bytes;
};

int64_t vu_now_ms(void);
/* When what begins now has to be over: by limit_ms, or by end_ms. */
int64_t vu_until(const struct vu_conn *c);

void vu_init(struct vu_conn *c, int fd, unsigned limit_ms);
void vu_close(struct vu_conn *c); /* fine on one that is closed */

/*
 * Each 0 or -errno: -ETIMEDOUT the limit is over, -EPROTO the back end does not keep to the protocol, -EREMOTEIO it
 * says that it has failed, -ECONNRESET it is gone, -EINTR the user wants to leave.
 */

/* A request with `size` bytes of payload and `n` descriptors, VU_REGIONS at most; with ack its answer is waited for. */
int vu_set(struct vu_conn *c, enum vu_request request, const void *payload, uint32_t size, const int *fds, unsigned n)
	__attribute__((warn_unused_result));
int vu_set_number(struct vu_conn *c, enum vu_request request, uint64_t number) __attribute__((warn_unused_result));
int vu_set_ring(struct vu_conn *c, enum vu_request request, unsigned index, uint32_t num)
	__attribute__((warn_unused_result));
/* SET_VRING_KICK, _CALL and _ERR; fd -1: none. */
int vu_set_ring_fd(struct vu_conn *c, enum vu_request request, unsigned index, int fd)
	__attribute__((warn_unused_result));
/*
 * A request that has a reply by itself: sends `size` bytes, and *got bytes come back in their place, at most `room`.
 * `fd`: the reply's descriptor, the caller's, -1 without one; NULL: there is none to come.
 */
int vu_get(struct vu_conn *c, enum vu_request request, void *payload, uint32_t size, uint32_t room, uint32_t *got,
	int *fd) __attribute__((warn_unused_result));
int vu_get_number(struct vu_conn *c, enum vu_request request, uint64_t *number) __attribute__((warn_unused_result));

/* Makes the channel and hands the back end its end. */
int vu_open_channel(struct vu_conn *c) __attribute__((warn_unused_result));
/* There is something to read on the channel: serves it, without waiting. */
int vu_serve_channel(struct vu_conn *c) __attribute__((warn_unused_result));

#endif
