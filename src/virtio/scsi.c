/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scsi.c - a SCSI host (virtio 1.2, section 5.6) whose commands the host's kernel carries out, for its own targets: all
 * queues are vhost-scsi's, and so is what the guest finds behind them. The config space says what that can.
 */
#include "virtio/scsi.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_scsi.h>
#include <stdlib.h>

#include "host/vhost_kernel.h"
#include "virtio/vhost.h"

#define QUEUE_SIZE   128
#define OTHER_QUEUES 2 /* control and events, before those for commands */

struct scsi {
	struct virtio v; /* first */
	struct virtio_scsi_config config;
	struct virtio_vhost vhost;
};

static struct scsi *scsi_of(struct virtio *v)
{
	return (struct scsi *)(void *)v;
}

static bool scsi_hand_over(struct virtio *v, unsigned index)
{
	return virtio_vhost_start(&scsi_of(v)->vhost, index);
}

static void scsi_quiesce(struct virtio *v, unsigned index)
{
	virtio_vhost_quiesce(&scsi_of(v)->vhost, index);
}

static bool scsi_pause(struct virtio *v, unsigned index)
{
	return virtio_vhost_pause(&scsi_of(v)->vhost, index);
}

static void scsi_destroy(struct virtio *v)
{
	virtio_vhost_fini(&scsi_of(v)->vhost);
	virtio_fini(v);
	free(v);
}

static int scsi_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct virtio_scsi_options *o = config;
	struct scsi *scsi = calloc(1, sizeof(*scsi));
	struct vhost *backend = NULL;
	int r = 0;

	if (!scsi)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	/* Sense and command have the sizes that vhost-scsi knows, whatever a driver writes. */
	scsi->config = (struct virtio_scsi_config){
		.num_queues = htole32(o->queues),
		.seg_max = htole32(QUEUE_SIZE - 2),
		.max_sectors = htole32(UINT16_MAX),
		.cmd_per_lun = htole32(QUEUE_SIZE),
		.event_info_size = htole32(sizeof(struct virtio_scsi_event)),
		.sense_size = htole32(VIRTIO_SCSI_SENSE_DEFAULT_SIZE),
		.cdb_size = htole32(VIRTIO_SCSI_CDB_DEFAULT_SIZE),
		.max_target = htole16(UINT8_MAX),
		.max_lun = htole32(16383),
	};
	virtio_init(
		&scsi->v, &virtio_scsi_type, vm, 1ULL << VIRTIO_SCSI_F_HOTPLUG, &scsi->config, sizeof(scsi->config));
	if (!o->dry)
		r = vhost_scsi_open(o->wwpn, &backend, err);
	if (r)
		error_prefix(err, r, "%s", name);
	if (r == 0)
		r = virtio_vhost_init(&scsi->vhost, &scsi->v, backend, 0, name, err);
	for (unsigned i = 0; r == 0 && i < OTHER_QUEUES + o->queues; i++)
		r = virtio_vhost_queue(&scsi->vhost, QUEUE_SIZE, err);
	if (r) {
		scsi_destroy(&scsi->v);
		return r;
	}
	*out = &scsi->v;
	return 0;
}

const struct virtio_type virtio_scsi_type = {
	.name = "scsi",
	.id = VIRTIO_ID_SCSI,
	.pci_class = 0x010000, /* mass storage, SCSI */
	.create = scsi_create,
	.destroy = scsi_destroy,
	.hand_over = scsi_hand_over,
	.quiesce = scsi_quiesce,
	.pause = scsi_pause,
};
