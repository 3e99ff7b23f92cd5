/* SPDX-License-Identifier: BSD-2-Clause */
/* vhost_user.c - --vhost-user: a device that another program serves; --fs: a folder, by virtiofsd or else by 9P. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/device_9p.h"
#include "cli/folders.h"
#include "core/say.h"
#include "core/word.h"
#include "host/unix.h"
#include "virtio/vhost_user.h"

#define WAIT_SECONDS 10
#define WAIT_MOST    3600

enum { KEY_SOCKET, KEY_QUEUES, KEY_RECONNECT, KEY_WAIT, KEY_TAG, KEY_MAC };

static const struct device_key keys[] = {
	[KEY_SOCKET] = { "socket", false },
	[KEY_QUEUES] = { "queues", false },
	[KEY_RECONNECT] = { "reconnect", true },
	[KEY_WAIT] = { "wait", false },
	[KEY_TAG] = { "tag", false },
	[KEY_MAC] = { "mac", false },
	{ NULL, false },
};

static int parse_type(const char *text, struct virtio_user_options *o, struct error *err)
{
	const char *nearest;

	if (virtio_user_type(o, text))
		return 0;
	nearest = word_nearest(text, virtio_user_names);
	error_set(err, -EINVAL, "'%.40s' is no type of device: a name such as blk, net or fs, or its number, 1 to 63",
		text);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return -EINVAL;
}

/* What only some types have. */
static int parse_own(const struct device_value *value, struct virtio_user_options *o, struct error *err)
{
	const char *tag = value->keys[KEY_TAG];
	int r = 0;

	if (tag && o->type.id != VIRTIO_ID_FS)
		return error_set(err, -EINVAL, "tag= goes with fs");
	if (value->keys[KEY_MAC] && o->type.id != VIRTIO_ID_NET)
		return error_set(err, -EINVAL, "mac= goes with net");
	if (tag)
		r = folders_tag(tag, USER_FS_TAG, err);
	o->tag = tag;
	if (r == 0 && value->keys[KEY_MAC])
		r = device_mac(value->keys[KEY_MAC], o->mac, err);
	return r;
}

static int user_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct virtio_user_options *o = calloc(1, sizeof(*o));
	const char *queues = value->keys[KEY_QUEUES], *wait = value->keys[KEY_WAIT];
	int r;

	*config = o;
	if (!o)
		return error_set(err, -ENOMEM, "no memory");
	o->dry = m->dry_run && !m->device_test;
	o->host.path = value->keys[KEY_SOCKET];
	o->host.reconnect = value->keys[KEY_RECONNECT];
	o->host.wait = WAIT_SECONDS;
	r = parse_type(value->words[0], o, err);
	if (r == 0 && !o->host.path) {
		error_set(err, -EINVAL, "no socket is named");
		error_hint(err, "socket=PATH is where the program that serves the device listens");
		r = -EINVAL;
	}
	if (r == 0)
		r = unix_check(o->host.path, err);
	if (r == 0 && queues && !virtio_user_has_queues(o))
		r = error_set(err, -EINVAL, "queues=%.40s: a device of type %s has %u, always", queues, o->type.name,
			o->kind->queues);
	if (r == 0 && queues)
		r = device_number("queues", queues, 1, VIRTIO_QUEUES - o->kind->fixed, &o->queues, err);
	if (r == 0 && wait)
		r = device_number("wait", wait, 0, WAIT_MOST, &o->host.wait, err);
	return r ? r : parse_own(value, o, err);
}

static const struct virtio_type *user_type(const void *config)
{
	return &((const struct virtio_user_options *)config)->type;
}

const struct device_option option_vhost_user = {
	.name = "vhost-user",
	.value = "TYPE,socket=PATH[,KEY]...",
	.help = "a device that another program serves: blk, net, fs... or a number; queues=N, reconnect, wait=SECONDS, "
		"tag=, mac=",
	.device = "user",
	.words = 1,
	.keys = keys,
	.parse = user_parse,
	.type_of = user_type,
};

/* ---- --fs ---- */

enum { FS_RO, FS_SANDBOX, FS_PROGRAM };

static const struct device_key fs_keys[] = {
	[FS_RO] = { "ro", true },
	[FS_SANDBOX] = { "sandbox", false },
	[FS_PROGRAM] = { "program", false },
	{ NULL, false },
};

static struct virtiofsd_config fs_program(const struct device_value *value)
{
	const char *sandbox = value->keys[FS_SANDBOX];

	return (struct virtiofsd_config){
		.folder = value->words[0],
		.ro = value->keys[FS_RO],
		.chroot = sandbox && strcmp(sandbox, "chroot") == 0,
		.program = value->keys[FS_PROGRAM],
	};
}

static int fs_check(const struct device_value *value, struct error *err)
{
	const char *sandbox = value->keys[FS_SANDBOX], *program = value->keys[FS_PROGRAM];
	int r = folders_check(value->words[0], err);

	if (r == 0)
		r = folders_tag(value->words[1], USER_FS_TAG, err);
	if (r == 0 && sandbox && strcmp(sandbox, "namespace") != 0 && strcmp(sandbox, "chroot") != 0)
		r = error_set(err, -EINVAL, "sandbox=%.40s: it is namespace or chroot", sandbox);
	/* One that the user names is wanted, and no other. */
	if (r == 0 && program && access(program, X_OK))
		r = error_set(err, -errno, "program='%.200s': %s", program, strerror(errno));
	return r;
}

static int fs_parse(const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct virtio_user_options *o = calloc(1, sizeof(*o));
	int r;

	*config = o;
	if (!o)
		return error_set(err, -ENOMEM, "no memory");
	r = fs_check(value, err);
	if (r)
		return r;
	virtio_user_type(o, "fs");
	o->dry = m->dry_run && !m->device_test;
	o->tag = value->words[1];
	o->fsd = fs_program(value);
	return 0;
}

static int fs_beside(const void *config, const void *earlier, struct error *err)
{
	const struct virtio_user_options *ours = config, *other = earlier;

	return other->tag ? folders_beside(ours->tag, other->tag, other->fsd.folder, err) : 0;
}

/* The guest has the folder either way, by the same tag; what it is told by is the line. */
static int fs_9p_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	const struct virtiofsd_config program = fs_program(value);
	struct virtio_p9_options *options;
	int r = fs_check(value, err);

	if (r == 0)
		r = device_9p_make(program.folder, value->words[1], program.ro, NULL, &options, err);
	if (r)
		return r;
	*config = options;
	say(SAY_MS, "--fs %s: %s, so 9P serves it: mount -t 9p -o trans=virtio %s /mnt", program.folder,
		virtiofsd_lacks(&program), value->words[1]);
	return 0;
}

static const struct device_option fs_by_9p = {
	.name = "fs",
	.device = "fs",
	.words = 2,
	.type = &virtio_p9_type,
	.keys = fs_keys,
	.parse = fs_9p_parse,
	.beside = device_9p_beside,
};

static const struct device_option *fs_instead(const struct device_value *value)
{
	const struct virtiofsd_config program = fs_program(value);

	return virtiofsd_lacks(&program) ? &fs_by_9p : NULL;
}

const struct device_option option_fs = {
	.name = "fs",
	.value = "DIR,TAG[,ro][,KEY]...",
	.help = "a folder for the guest, by virtiofsd: mount -t virtiofs TAG /mnt; by 9P where that cannot be had",
	.device = "fs",
	.words = 2,
	.keys = fs_keys,
	.parse = fs_parse,
	.beside = fs_beside,
	.type_of = user_type,
	.instead = fs_instead,
};
