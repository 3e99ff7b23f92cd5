/* SPDX-License-Identifier: BSD-2-Clause */
/* device_scsi.c - --scsi wwpn=NAA: a SCSI target of the host's kernel. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/devices.h"
#include "host/vhost_kernel.h"
#include "virtio/scsi.h"

enum { KEY_WWPN, KEY_QUEUES };

static const struct device_key keys[] = {
	[KEY_WWPN] = { "wwpn", false },
	[KEY_QUEUES] = { "queues", false },
	{ NULL, false },
};

static int scsi_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	const char *wwpn = value->keys[KEY_WWPN];
	struct virtio_scsi_options *o;

	if (!wwpn)
		return error_set(err, -EINVAL, "which target? wwpn=naa. and 16 hexadecimal digits say so");
	if (!vhost_scsi_wwpn(wwpn))
		return error_set(
			err, -EINVAL, "'wwpn=%.40s': it is naa. and 16 hexadecimal digits, in lower case", wwpn);
	o = calloc(1, sizeof(*o));
	if (!o)
		return error_set(err, -ENOMEM, "no memory for the devices");
	*config = o;
	o->wwpn = wwpn;
	o->queues = m->guest.cpus < SCSI_QUEUES ? m->guest.cpus : SCSI_QUEUES;
	o->dry = m->dry_run && !m->device_test;
	if (!value->keys[KEY_QUEUES])
		return 0;
	return device_number("queues", value->keys[KEY_QUEUES], 1, SCSI_QUEUES, &o->queues, err);
}

static int scsi_beside(const void *config, const void *earlier, struct error *err)
{
	const struct virtio_scsi_options *ours = config, *other = earlier;

	if (strcmp(ours->wwpn, other->wwpn) == 0)
		return error_set(err, -EEXIST, "the guest has this target already");
	return 0;
}

const struct device_option option_scsi = {
	.name = "scsi",
	.value = "wwpn=NAA[,queues=N]",
	.help = "a SCSI target of the host's kernel (vhost-scsi): wwpn=naa.600140554cf3a18e",
	.device = "scsi",
	.type = &virtio_scsi_type,
	.keys = keys,
	.parse = scsi_parse,
	.beside = scsi_beside,
};
