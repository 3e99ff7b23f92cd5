/* SPDX-License-Identifier: BSD-2-Clause */
/* vsock.h - sockets between guest and host (virtio 1.2, section 5.10). */
#ifndef TRAPLINE_VIRTIO_VSOCK_H
#define TRAPLINE_VIRTIO_VSOCK_H

#include "virtio/virtio.h"

struct virtio_vsock_options {
	uint32_t cid;
	const char *path; /* of Unix sockets; NULL: the host's kernel serves */
	bool dry;         /* touches nothing of the host's */
};

extern const struct virtio_type virtio_vsock_type; /* config: struct virtio_vsock_options, which outlives the device */

#endif
