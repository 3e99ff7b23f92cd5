/* SPDX-License-Identifier: BSD-2-Clause */
/* folders.c - folders and their tags, checked; see folders.h. */
#include "cli/folders.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int folders_tag(const char *tag, size_t most, struct error *err)
{
	size_t len = strlen(tag);

	if (len > most)
		return error_set(
			err, -EINVAL, "the tag '%.20s...' is too long: %zu characters, %zu at most", tag, len, most);
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)tag[i]))
			return error_set(err, -EINVAL, "a tag has letters, digits and signs, and no spaces");
	return 0;
}

int folders_check(const char *path, struct error *err)
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

int folders_beside(const char *tag, const char *other_tag, const char *other_path, struct error *err)
{
	if (strcmp(tag, other_tag) == 0)
		return error_set(err, -EEXIST, "the tag '%s' is that of '%s' already", tag, other_path);
	return 0;
}
