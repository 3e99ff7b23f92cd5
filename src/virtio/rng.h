/* SPDX-License-Identifier: BSD-2-Clause */
/* rng.h - the entropy device (virtio 1.2, 5.4). Its config is NULL. */
#ifndef TRAPLINE_VIRTIO_RNG_H
#define TRAPLINE_VIRTIO_RNG_H

#include "virtio/virtio.h"

extern const struct virtio_type virtio_rng_type;

#endif
