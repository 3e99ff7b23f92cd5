/* SPDX-License-Identifier: BSD-2-Clause */
/* device_9p.c - --9p DIR,TAG: folders of the host's. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/device_9p.h"

enum { KEY_RO, KEY_CHOWN };

static const struct device_key keys[] = {
	[KEY_RO] = { "ro", true },
	[KEY_CHOWN] = { "chown", false },
	{ NULL, false },
};

static int check_tag(const char *tag, struct error *err)
{
	size_t len = strlen(tag);

	if (len > P9_TAG_MAX)
		return error_set(err, -EINVAL, "the tag '%.20s...' is too long: %zu characters, %u at most", tag, len,
			P9_TAG_MAX);
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)tag[i]))
			return error_set(err, -EINVAL, "a tag has letters, digits and signs, and no spaces");
	return 0;
}

static int check_folder(const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st))
		return error_set(err, -errno, "'%s': %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode)) {
		error_set(err, -ENOTDIR, "'%s' is not a folder", path);
		error_hint(err, "name the folder that it is in");
		return -ENOTDIR;
	}
	if (faccessat(AT_FDCWD, path, R_OK | X_OK, AT_EACCESS))
		return error_set(err, -errno, "'%s': %s", path, strerror(errno));
	return 0;
}

int device_9p_make(const char *path, const char *tag, bool ro, const char *chown, struct virtio_p9_options **out,
	struct error *err)
{
	struct virtio_p9_options *options;
	int r = check_folder(path, err);

	if (r == 0)
		r = check_tag(tag, err);
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
	struct virtio_p9_options *options;
	int r = device_9p_make(
		value->words[0], value->words[1], value->keys[KEY_RO], value->keys[KEY_CHOWN], &options, err);

	*config = r ? NULL : options;
	return r;
}

/* The guest mounts by the tag, so it has to tell folders apart. */
static int p9_beside(const void *config, const void *earlier, struct error *err)
{
	const struct virtio_p9_options *ours = config, *other = earlier;

	if (strcmp(ours->tag, other->tag) == 0)
		return error_set(err, -EEXIST, "the tag '%s' is that of '%s' already", ours->tag, other->folder.path);
	return 0;
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
	.beside = p9_beside,
};
