/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * p9.h - the 9P transport: a folder of the host's for the guest to mount by its tag (virtio 1.2, 5.1 names its id, 9).
 */
#ifndef TRAPLINE_VIRTIO_P9_H
#define TRAPLINE_VIRTIO_P9_H

#include "host/p9/p9.h"
#include "virtio/virtio.h"

#define P9_TAG_MAX 63 /* characters of a tag */

struct virtio_p9_options {
	struct p9_config folder;
	const char *tag;
};

extern const struct virtio_type virtio_p9_type; /* config: struct virtio_p9_options */

#endif
