/* SPDX-License-Identifier: BSD-2-Clause */
/* device_9p.c - --9p DIR,TAG: folders of the host's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/device_9p.h"
#include "cli/folders.h"

enum { KEY_RO, KEY_CHOWN };

static const struct device_key keys[] = {
	[KEY_RO] = { "ro", true },
	[KEY_CHOWN] = { "chown", false },
	{ NULL, false },
};

int device_9p_make(const char *path, const char *tag, bool ro, const char *chown, struct virtio_p9_options **out,
	struct error *err)
{
	struct virtio_p9_options *options;
	int r = folders_check(path, err);

	if (r == 0)
		r = folders_tag(tag, P9_TAG_MAX, err);
	if (r)
		return r;
	if (chown && strcmp(chown, "strict") != 0 && strcmp(chown, "ignore") != 0)
		return error_set(err, -EINVAL, "chown=%s: it is strict or ignore", chown);
	options = calloc(1, sizeof(*options));
	if (!options)
		return error_set(err, -ENOMEM, "no memory for the devices");
	options->folder.path = path;
	options->folder.ro = ro;
	options->folder.lax = chown && strcmp(chown, "ignore") == 0;
	options->tag = tag;
	*out = options;
	return 0;
}

static int p9_parse(const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct virtio_p9_options *options = NULL;
	int r = device_9p_make(
		value->words[0], value->words[1], value->keys[KEY_RO], value->keys[KEY_CHOWN], &options, err);

	*config = r ? NULL : options;
	return r;
}

int device_9p_beside(const void *config, const void *earlier, struct error *err)
{
	const struct virtio_p9_options *ours = config, *other = earlier;

	return folders_beside(ours->tag, other->tag, other->folder.path, err);
}

const struct device_option option_9p = {
	.name = "9p",
	.value = "DIR,TAG[,ro][,chown=ignore]",
	.help = "a folder for the guest: mount -t 9p -o trans=virtio TAG /mnt",
	.device = "9p",
	.words = 2,
	.type = &virtio_p9_type,
	.keys = keys,
	.parse = p9_parse,
	.beside = device_9p_beside,
};
