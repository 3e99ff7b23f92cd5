/* SPDX-License-Identifier: BSD-2-Clause */
/* balloon.h - the memory balloon (virtio 1.2, 5.5). Its config is a struct balloon_config. */
#ifndef TRAPLINE_VIRTIO_BALLOON_H
#define TRAPLINE_VIRTIO_BALLOON_H

#include "virtio/virtio.h"

struct balloon_config {
	uint64_t want; /* bytes that it takes as soon as the driver runs */
};

extern const struct virtio_type virtio_balloon_type;

#endif
