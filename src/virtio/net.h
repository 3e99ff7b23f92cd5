/* SPDX-License-Identifier: BSD-2-Clause */
/* net.h - a network device (virtio 1.2, section 5.1). */
#ifndef TRAPLINE_VIRTIO_NET_H
#define TRAPLINE_VIRTIO_NET_H

#include "host/net.h"
#include "virtio/virtio.h"

struct virtio_net_options {
	struct net_config host;
	const char *guest; /* its name, from which the address follows; NULL: none, and the address is any */
	bool has_mac;
	uint8_t mac[6];
	bool vhost;   /* a tap's frames are carried by the host's kernel */
	unsigned mtu; /* 0: the host's, where that is known */
};

extern const struct virtio_type virtio_net_type; /* config: struct virtio_net_options, which outlives the device */

/* The address of network device `device` of the guest called `guest`: always the same, locally administered. */
void virtio_net_mac(const char *guest, const char *device, uint8_t mac[6]);

#endif
