/* SPDX-License-Identifier: BSD-2-Clause */
/* disks.c - --disk: an image or a block device of the host as a virtio disk; or a folder of its as the guest's root. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/device_9p.h"
#include "virtio/blk.h"

/* The tag under which kernels have looked for a root on 9P since there is one. */
#define ROOT_TAG    "/dev/root"
#define ROOT_PARAMS "root=" ROOT_TAG " rootfstype=9p rootflags=trans=virtio,version=9p2000.L "
/* What is in every kernel that has 9P itself: its name for the protocol's version. */
#define ROOT_NEEDS "9p2000.L"
#define ROOT_NOTE                                                                                                      \
	"the kernel has no 9P of its own, so it cannot mount its root, the folder; give it an initrd (-i) that loads " \
	"virtio_pci, 9pnet_virtio and 9p, or build these in"

enum { KEY_RO, KEY_DIRECT, KEY_SERIAL, KEY_QUEUES, KEY_FORMAT, KEY_CHOWN };

static const struct device_key keys[] = {
	[KEY_RO] = { .name = "ro", .flag = true },
	[KEY_DIRECT] = { .name = "direct", .flag = true },
	[KEY_SERIAL] = { .name = "serial" },
	[KEY_QUEUES] = { .name = "queues" },
	[KEY_FORMAT] = { .name = "format" },
	[KEY_CHOWN] = { .name = "chown" },
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
	if (value->keys[KEY_CHOWN])
		return error_set(err, -EINVAL, "'chown' is for a folder");
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

/* ---- a folder ---- */

static int root_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	static const unsigned for_images[] = { KEY_DIRECT, KEY_SERIAL, KEY_QUEUES, KEY_FORMAT };
	struct virtio_p9_options *options;
	int r;

	for (size_t i = 0; i < sizeof(for_images) / sizeof(for_images[0]); i++) {
		if (value->keys[for_images[i]])
			return error_set(err, -EINVAL, "'%s' is for a disk, and '%.200s' is a folder, the guest's root",
				keys[for_images[i]].name, value->words[0]);
	}
	if (m->guest.firmware) {
		error_set(err, -EINVAL, "a folder as the root goes with a kernel, not with --firmware");
		error_hint(err, "--9p DIR,TAG shares one with any guest");
		return -EINVAL;
	}
	r = device_9p_make(value->words[0], ROOT_TAG, value->keys[KEY_RO], value->keys[KEY_CHOWN], &options, err);
	*config = r ? NULL : options;
	return r;
}

static int root_beside(const void *config, const void *earlier, struct error *err)
{
	const struct virtio_p9_options *other = earlier;

	if (strcmp(other->tag, ROOT_TAG) != 0)
		return 0;
	error_set(err, -EEXIST, "the guest's root is the folder '%.200s' already", other->folder.path);
	error_hint(err, "--9p DIR,TAG shares another one");
	return -EEXIST;
}

static void root_apply(const void *config, struct machine_config *m)
{
	const struct virtio_p9_options *options = config;

	m->guest.root_params = options->folder.ro ? ROOT_PARAMS "ro" : ROOT_PARAMS "rw";
	m->guest.root_needs = ROOT_NEEDS;
	m->guest.root_note = ROOT_NOTE;
}

static const struct device_option option_root = {
	.name = "disk",
	.device = "root",
	.words = 1,
	.type = &virtio_p9_type,
	.keys = keys,
	.parse = root_parse,
	.beside = root_beside,
	.apply = root_apply,
};

static const struct device_option *instead(const struct device_value *value)
{
	struct stat st;

	return stat(value->words[0], &st) == 0 && S_ISDIR(st.st_mode) ? &option_root : NULL;
}

const struct device_option option_disk = {
	.letter = 'd',
	.name = "disk",
	.value = "FILE[,KEY]...",
	.help = "a disk: ro, direct, serial=TEXT, queues=N, format=raw, transport=WHICH; or a folder, the guest's root",
	.device = "disk",
	.words = 1,
	.type = &virtio_blk_type,
	.keys = keys,
	.parse = parse,
	.instead = instead,
};
