/* SPDX-License-Identifier: BSD-2-Clause */
/* scsi.h - a SCSI host whose targets are those of the host's kernel (virtio 1.2, section 5.6; vhost-scsi). */
#ifndef TRAPLINE_VIRTIO_SCSI_H
#define TRAPLINE_VIRTIO_SCSI_H

#include "virtio/virtio.h"

#define SCSI_QUEUES 16 /* for commands, at most */

struct virtio_scsi_options {
	const char *wwpn; /* of a target that was made before */
	unsigned queues;  /* for commands: 1 to SCSI_QUEUES */
	bool dry;         /* touches nothing of the host's */
};

extern const struct virtio_type virtio_scsi_type; /* config: struct virtio_scsi_options, which outlives the device */

#endif
