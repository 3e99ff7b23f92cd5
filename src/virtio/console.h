/* SPDX-License-Identifier: BSD-2-Clause */
/* console.h - a virtio console with several ports (virtio 1.2, section 5.3). */
#ifndef TRAPLINE_VIRTIO_CONSOLE_H
#define TRAPLINE_VIRTIO_CONSOLE_H

#include "virtio/virtio.h"

/* Port n, hvcN in the guest, talks to vm->ports[VM_SERIALS + n], as it is when the device is made. */
struct vconsole_config {
	unsigned nr_ports; /* 1 to VM_HVCS */
	/*
	 * Port 0 talks to what the first serial port does, from when the driver opens it until the driver lets it go.
	 */
	bool shared;
};

extern const struct virtio_type vconsole_type;

#endif
