/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock.h - the host's side of a guest's sockets (virtio 1.2, section 5.10), as Unix sockets: what a virtio device
 * carries as packets.
 *
 * A guest that connects to port N of the host (CID 2) reaches the Unix socket PATH_N. A program of the host's that
 * connects to PATH says "CONNECT N\n" for port N of the guest, and reads "OK M\n" when that has accepted, M being the
 * host's port; from then on both are the two ends of one stream. Where the guest does not accept, the connection is
 * closed.
 *
 * All of it is one thread's, that of the loop. Nothing waits. A guest that does not keep to the rules has its
 * connection reset, and finds no more memory here than VSOCK_CONNECTIONS times VSOCK_BUFFER bytes, nor more descriptors
 * than its share of what the process may have (host/files.h); of these the last quarter is for connections that the
 * host's programs make.
 */
#ifndef TRAPLINE_HOST_VSOCK_H
#define TRAPLINE_HOST_VSOCK_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "core/error.h"
#include "core/loop.h"

#define VSOCK_HOST        2            /* the host's CID */
#define VSOCK_CID_LEAST   3            /* of guests */
#define VSOCK_CID_MOST    0xfffffffe   /* 0xffffffff is any */
#define VSOCK_CONNECTIONS 1024         /* at most */
#define VSOCK_BUFFER      (128U << 10) /* for what a program of the host's does not read yet, of a connection */
#define VSOCK_PATH        107          /* of a Unix socket, at most; "_4294967295" included */

struct vsock;

/* Whether `path` leaves room for the ports behind it: 0, or -errno with a line. */
int vsock_check(const char *path, struct error *err) __attribute__((warn_unused_result));
/*
 * Listens at `path`, copied; connections wait there until vsock_ready(). `wants` is called on the loop's thread, not
 * from within a call, when there may be something for the guest. `sharers`: how many devices hold descriptors for the
 * guest, see files_share(). 0, or -errno with a line.
 */
int vsock_open(const char *path, uint32_t cid, unsigned sharers, struct loop *loop, void (*wants)(void *arg), void *arg,
	struct vsock **out, struct error *err) __attribute__((warn_unused_result));
/* With no loop running, or on its thread. NULL is fine. */
void vsock_close(struct vsock *s);
/* The guest has a driver; or has none any more, and all connections end. */
void vsock_ready(struct vsock *s, bool ready);
/*
 * A packet of the guest's, whose payload lies in the n pieces and is hdr->len bytes. False: not now, since it cannot be
 * answered before the guest takes what there is for it.
 */
bool vsock_take(struct vsock *s, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, unsigned n);
bool vsock_pending(const struct vsock *s); /* whether vsock_give() may have something */
/* The next packet for the guest, with its header, into n pieces of more than a header in all. Its bytes; 0: none. */
size_t vsock_give(struct vsock *s, const struct iovec *iov, unsigned n);
/* Packets that broke a rule; requests of the guest's that there was no room for. From any thread. */
uint64_t vsock_faults(const struct vsock *s);
uint64_t vsock_refused(const struct vsock *s);
unsigned vsock_connections(const struct vsock *s); /* now */

#endif
