/* SPDX-License-Identifier: BSD-2-Clause */
/* device_vsock.c - --vsock CID[,uds=PATH]: sockets between guest and host. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/devices.h"
#include "host/vsock.h"
#include "virtio/vsock.h"

enum { KEY_UDS };

static const struct device_key keys[] = {
	[KEY_UDS] = { "uds", false },
	{ NULL, false },
};

static int parse_cid(const char *text, uint32_t *cid, struct error *err)
{
	char *end = NULL;
	unsigned long long n = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;

	if (!end || *end || strlen(text) > 10)
		return error_set(
			err, -EINVAL, "'%.40s' is no CID, which is a number from %d on", text, VSOCK_CID_LEAST);
	if (n < VSOCK_CID_LEAST || n > VSOCK_CID_MOST) {
		error_set(err, -EINVAL, "%s is no guest's CID; those are %d to %u", text, VSOCK_CID_LEAST,
			VSOCK_CID_MOST);
		if (n == VSOCK_HOST)
			error_hint(err, "2 is the host's");
		return -EINVAL;
	}
	*cid = (uint32_t)n;
	return 0;
}

static int vsock_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct virtio_vsock_options *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return error_set(err, -ENOMEM, "no memory for the devices");
	*config = o;
	o->path = value->keys[KEY_UDS];
	o->dry = m->dry_run && !m->device_test;
	r = parse_cid(value->words[0], &o->cid, err);
	return r || !o->path ? r : vsock_check(o->path, err);
}

static int vsock_beside(const void *config, const void *earlier, struct error *err)
{
	return error_set(err, -EEXIST, "a guest has one such device, and one CID");
}

const struct device_option option_vsock = {
	.name = "vsock",
	.value = "CID[,uds=PATH]",
	.help = "sockets between guest and host: by the kernel (vhost-vsock), or Unix sockets at PATH",
	.device = "vsock",
	.words = 1,
	.type = &virtio_vsock_type,
	.keys = keys,
	.parse = vsock_parse,
	.beside = vsock_beside,
};
