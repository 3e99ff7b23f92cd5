/* SPDX-License-Identifier: BSD-2-Clause */
/* disks.c - --disk: an image or a block device of the host as a virtio disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/devices.h"
#include "virtio/blk.h"

enum { KEY_RO, KEY_DIRECT, KEY_SERIAL, KEY_QUEUES, KEY_FORMAT };

static const struct device_key keys[] = {
	[KEY_RO] = { .name = "ro", .flag = true },
	[KEY_DIRECT] = { .name = "direct", .flag = true },
	[KEY_SERIAL] = { .name = "serial" },
	[KEY_QUEUES] = { .name = "queues" },
	[KEY_FORMAT] = { .name = "format" },
	{ .name = NULL },
};

static int parse_queues(const char *text, unsigned *queues, struct error *err)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !n || n > BLK_QUEUES)
		return error_set(err, -EINVAL, "'queues=%.40s': it is a number from 1 to %d", text, BLK_QUEUES);
	*queues = (unsigned)n;
	return 0;
}

static int parse_serial(const char *text, char serial[BLK_SERIAL + 1], struct error *err)
{
	size_t len = strlen(text);

	if (len > BLK_SERIAL)
		return error_set(err, -EINVAL, "'serial=%.80s': longer than %d characters", text, BLK_SERIAL);
	memcpy(serial, text, len);
	return 0;
}

static int parse(const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	const char *format = value->keys[KEY_FORMAT];
	unsigned queues = m->guest.cpus < BLK_QUEUES ? m->guest.cpus : BLK_QUEUES;
	struct blk_config *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return error_set(err, -ENOMEM, "no memory");
	*config = c;
	c->disk.path = value->words[0];
	c->disk.ro = value->keys[KEY_RO];
	c->disk.direct = value->keys[KEY_DIRECT];
	c->disk.raw = format;
	c->queues = queues ? queues : 1;
	if (format && strcmp(format, "raw") != 0) {
		error_set(err, -EINVAL, "'format=%.40s': only raw is served", format);
		error_hint(err, "qemu-img convert -O raw makes a raw image");
		return -EINVAL;
	}
	if (value->keys[KEY_SERIAL])
		r = parse_serial(value->keys[KEY_SERIAL], c->serial, err);
	if (r == 0 && value->keys[KEY_QUEUES])
		r = parse_queues(value->keys[KEY_QUEUES], &c->queues, err);
	return r;
}

const struct device_option option_disk = {
	.letter = 'd',
	.name = "disk",
	.value = "FILE[,KEY]...",
	.help = "a disk: ro, direct, serial=TEXT, queues=N, format=raw, transport=WHICH",
	.device = "disk",
	.words = 1,
	.type = &virtio_blk_type,
	.keys = keys,
	.parse = parse,
};
