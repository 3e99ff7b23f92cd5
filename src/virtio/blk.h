/* SPDX-License-Identifier: BSD-2-Clause */
/* blk.h - virtio block devices on raw images and block devices of the host. */
#ifndef TRAPLINE_VIRTIO_BLK_H
#define TRAPLINE_VIRTIO_BLK_H

#include "host/disk.h"
#include "virtio/virtio.h"

#define BLK_QUEUES 8
#define BLK_SERIAL 20 /* VIRTIO_BLK_ID_BYTES */

struct blk_config {
	struct disk_config disk;
	char serial[BLK_SERIAL + 1]; /* what the guest's GET_ID tells; may be empty */
	unsigned queues;             /* 1 to BLK_QUEUES */
};

/*
 * Ends a request: `data_in` bytes of data are in place, and the status,
 * VIRTIO_BLK_S_*, goes to the end. The chain is used up.
 */
void blk_answer(struct virtq_chain *chain, uint64_t data_in, uint8_t status);

extern const struct virtio_type virtio_blk_type; /* config: struct blk_config */

#endif
