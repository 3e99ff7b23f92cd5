/* SPDX-License-Identifier: BSD-2-Clause */
/* output.c - files that a run writes; see output.h. */
#include "host/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int output_open(struct output *output, const char *path, int flags, const char *what, struct error *err)
{
	struct stat st;

	flags |= O_WRONLY | O_NOCTTY | O_CLOEXEC;
	*output = (struct output){ .path = path };
	output->fd = open(path, flags | O_CREAT | O_EXCL, 0666);
	output->made = output->fd >= 0 && fstat(output->fd, &st) == 0;
	if (output->made) {
		output->dev = st.st_dev;
		output->ino = st.st_ino;
	} else if (output->fd < 0 && errno == EEXIST) {
		/* O_CREAT is for a link to where nothing is: what it makes cannot be told from what was there, and stays. */
		output->fd = open(path, flags | O_CREAT, 0666);
	}
	if (output->fd >= 0)
		return 0;
	error_set(err, -errno, "%s: cannot write '%s': %s", what, path,
		errno == ENXIO ? "nobody reads this pipe" : strerror(errno));
	return error_of_option(err, -errno);
}

void output_begin(struct output *output)
{
	struct stat st;

	if (output->fd < 0)
		return;
	output->made = false;
	/* One that does not let itself be emptied is written from its beginning all the same. */
	if (fstat(output->fd, &st) == 0 && S_ISREG(st.st_mode))
		(void)!ftruncate(output->fd, 0);
}

void output_close(struct output *output)
{
	struct stat st;

	if (output->fd < 0)
		return;
	if (output->made && lstat(output->path, &st) == 0 && st.st_dev == output->dev && st.st_ino == output->ino)
		(void)unlink(output->path);
	close(output->fd);
	output->fd = -1;
}
