/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost_kernel.h - back ends in the host's kernel (<linux/vhost.h>): for networks, vsock and SCSI targets. */
#ifndef TRAPLINE_HOST_VHOST_KERNEL_H
#define TRAPLINE_HOST_VHOST_KERNEL_H

#include "host/vhost.h"

#define VHOST_PAIRS 8 /* of a network */

/*
 * 0, or -errno with a line that names the device node, and a hint: which module to load, who may open it. The back end
 * is the caller's, for vhost_close(). Guest memory is used as this process has it mapped.
 */

/* Pairs of rings, of which pair i serves tap descriptor taps[i]; these stay the caller's, open until it is closed. */
int vhost_net_open(const int *taps, unsigned pairs, struct vhost **out, struct error *err)
	__attribute__((warn_unused_result));
/* Rings 0 (to the guest) and 1. -EADDRINUSE: another guest of this host has the CID, which is 3 to UINT32_MAX - 1. */
int vhost_vsock_open(uint32_t cid, struct vhost **out, struct error *err) __attribute__((warn_unused_result));
/* All rings: control, events, commands. `wwpn`: of a target made before ("naa.600140554cf3a18e"). */
int vhost_scsi_open(const char *wwpn, struct vhost **out, struct error *err) __attribute__((warn_unused_result));
bool vhost_scsi_wwpn(const char *wwpn); /* whether it is of that form */

#endif
