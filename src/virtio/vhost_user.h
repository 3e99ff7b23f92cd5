/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost_user.h - devices of any type that another program serves (vhost-user): this side has the transport, negotiation
 * and resets, the program has the rest.
 */
#ifndef TRAPLINE_VIRTIO_VHOST_USER_H
#define TRAPLINE_VIRTIO_VHOST_USER_H

#include "host/qsd.h"
#include "host/vhost_user.h"
#include "host/virtiofsd.h"
#include "virtio/virtio.h"

#define USER_FS_TAG 36 /* characters of a tag at most */

/* What has to be known of a type. */
struct virtio_user_kind {
	const char *name;
	uint16_t id;
	uint32_t pci_class;
	unsigned config_len; /* bytes of config space that every program of that type has */
	unsigned queues;     /* as many as a device has at least */
	unsigned fixed;      /* those of them that are no request queues; `queues` without any: the number is fixed */
	uint64_t unserved;   /* features that no program can serve by itself */
};

struct virtio_user_options {
	/* The machine's idea of the type: virtio_user_type() fills it in, and it outlives the device. */
	struct virtio_type type;
	char name[16]; /* of a type that is only a number */
	const struct virtio_user_kind *kind;
	struct virtio_user_kind unknown;
	struct vhost_user_config host;
	/* The program that we start; with neither a folder nor an image it is somebody else's. */
	struct virtiofsd_config fsd;
	struct qsd_config qsd;
	unsigned queues; /* request queues; 0: as many as the program has, one a vCPU at most where it is free */
	unsigned cpus;
	const char *tag; /* of a file system; NULL: the program has it */
	uint8_t mac[6];  /* of a network device; all zeros: the driver's choice */
	bool dry;        /* nothing is connected to: a device that nobody serves */
};

/* The names of all types that have one, NULL-ended, for messages. */
extern const char *const virtio_user_names[];
/* "blk", or a number from 1 to 63: fills in type and kind. False: neither. */
bool virtio_user_type(struct virtio_user_options *o, const char *text);
/* Whether queues= can choose a number of queues. */
bool virtio_user_has_queues(const struct virtio_user_options *o);

#endif
