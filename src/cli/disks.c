/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disks.c - --disk: a raw image or a block device of the host, which we serve; an image of another format or an NBD
 * export, which qemu-storage-daemon does; or a folder of the host's as the guest's root.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/device_9p.h"
#include "host/disk_chain.h"
#include "virtio/blk.h"
#include "virtio/vhost_user.h"

/* The tag under which kernels have looked for a root on 9P since there is one. */
#define ROOT_TAG    "/dev/root"
#define ROOT_PARAMS "root=" ROOT_TAG " rootfstype=9p rootflags=trans=virtio,version=9p2000.L "
/* What is in every kernel that has 9P itself: its name for the protocol's version. */
#define ROOT_NEEDS "9p2000.L"
#define ROOT_NOTE                                                                                                      \
	"the kernel has no 9P of its own, so it cannot mount its root, the folder; give it an initrd (-i) that loads " \
	"virtio_pci, 9pnet_virtio and 9p, or build these in"

enum { KEY_RO, KEY_DIRECT, KEY_SERIAL, KEY_QUEUES, KEY_FORMAT, KEY_CHOWN, KEY_RW };

static const struct device_key keys[] = {
	[KEY_RO] = { .name = "ro", .flag = true },
	[KEY_DIRECT] = { .name = "direct", .flag = true },
	[KEY_SERIAL] = { .name = "serial" },
	[KEY_QUEUES] = { .name = "queues" },
	[KEY_FORMAT] = { .name = "format" },
	[KEY_CHOWN] = { .name = "chown" },
	[KEY_RW] = { .name = "rw", .flag = true },
	{ .name = NULL },
};

/* rw is what a disk is anyway. */
static int parse_ro(const struct device_value *value, bool *ro, struct error *err)
{
	*ro = value->keys[KEY_RO];
	return *ro && value->keys[KEY_RW] ? error_set(err, -EINVAL, "'ro' and 'rw' exclude each other") : 0;
}

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
	const struct disk_format *image;
	unsigned queues = m->guest.cpus < BLK_QUEUES ? m->guest.cpus : BLK_QUEUES;
	struct blk_config *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return error_set(err, -ENOMEM, "no memory");
	*config = c;
	if (value->keys[KEY_CHOWN])
		return error_set(err, -EINVAL, "'chown' is for a folder");
	c->disk.path = value->words[0];
	c->disk.direct = value->keys[KEY_DIRECT];
	c->disk.raw = format;
	c->queues = queues ? queues : 1;
	/* That it is not there, or no file, is told when it is opened. */
	if (disk_format_find(value->words[0], format, &image, err) == -EINVAL)
		return -EINVAL;
	r = parse_ro(value, &c->disk.ro, err);
	if (r == 0 && value->keys[KEY_SERIAL])
		r = parse_serial(value->keys[KEY_SERIAL], c->serial, err);
	if (r == 0 && value->keys[KEY_QUEUES])
		r = parse_queues(value->keys[KEY_QUEUES], &c->queues, err);
	return r;
}

/* ---- an image that is not raw, or not here ---- */

struct image_config {
	struct virtio_user_options user; /* first: the device's config */
	struct nbd nbd;
};

static int image_source(const struct device_value *value, struct image_config *c, struct error *err)
{
	const char *path = value->words[0], *format = value->keys[KEY_FORMAT];
	struct qsd_config *qsd = &c->user.qsd;
	int r;

	qsd->path = path;
	if (nbd_is(path)) {
		qsd->remote = &c->nbd;
		r = nbd_parse(path, &c->nbd, err);
		/* Raw, unless the user says something else: what comes from there may be up to a guest, too. */
		return r || !format ? r : disk_format_find("", format, &qsd->format, err);
	}
	r = disk_format_find(path, format, &qsd->format, err);
	if (r == 0 && access(path, qsd->ro ? R_OK : R_OK | W_OK)) {
		r = error_set(err, -errno, "%s", strerror(errno));
		if (!qsd->ro && (r == -EACCES || r == -EROFS) && access(path, R_OK) == 0)
			error_hint(err, "add ,ro to only read it");
	}
	return r ? r : disk_chain_check(path, qsd->format, NULL, err);
}

static int image_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	unsigned queues = m->guest.cpus < BLK_QUEUES ? m->guest.cpus : BLK_QUEUES;
	struct image_config *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return error_set(err, -ENOMEM, "no memory");
	*config = c;
	if (value->keys[KEY_CHOWN])
		return error_set(err, -EINVAL, "'chown' is for a folder");
	if (value->keys[KEY_SERIAL])
		return error_set(err, -EINVAL, "'serial' is for what trapline serves itself: " QSD_PROGRAM " has none");
	virtio_user_type(&c->user, "blk");
	c->user.dry = m->dry_run && !m->device_test;
	r = parse_ro(value, &c->user.qsd.ro, err);
	c->user.qsd.direct = value->keys[KEY_DIRECT];
	c->user.qsd.queues = queues ? queues : 1;
	if (r == 0 && value->keys[KEY_QUEUES])
		r = parse_queues(value->keys[KEY_QUEUES], &c->user.qsd.queues, err);
	c->user.queues = c->user.qsd.queues;
	return r ? r : image_source(value, c, err);
}

static const struct virtio_type *image_type(const void *config)
{
	return &((const struct image_config *)config)->user.type;
}

static const struct device_option option_image = {
	.name = "disk",
	.device = "disk",
	.words = 1,
	.keys = keys,
	.parse = image_parse,
	.type_of = image_type,
};

/* ---- a folder ---- */

static int root_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	static const unsigned for_images[] = { KEY_DIRECT, KEY_SERIAL, KEY_QUEUES, KEY_FORMAT };
	struct virtio_p9_options *options;
	bool ro;
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
	r = parse_ro(value, &ro, err);
	if (r)
		return r;
	r = device_9p_make(value->words[0], ROOT_TAG, ro, value->keys[KEY_CHOWN], &options, err);
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
	const struct disk_format *format;
	struct error err;
	struct stat st;

	if (nbd_is(value->words[0]))
		return &option_image;
	if (stat(value->words[0], &st) == 0 && S_ISDIR(st.st_mode))
		return &option_root;
	if (disk_format_find(value->words[0], value->keys[KEY_FORMAT], &format, &err) == 0 && format)
		return &option_image;
	return NULL;
}

const struct device_option option_disk = {
	.letter = 'd',
	.name = "disk",
	.value = "FILE[,KEY]...",
	.help = "a disk: a raw image, one of another format, nbd://..., or a folder, the guest's root; ro, direct, "
		"serial=TEXT, "
		"queues=N, format=raw|qcow2|..., transport=WHICH",
	.device = "disk",
	.words = 1,
	.type = &virtio_blk_type,
	.keys = keys,
	.parse = parse,
	.instead = instead,
};
