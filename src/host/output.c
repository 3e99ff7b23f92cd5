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
	const bool blocks = !(flags & O_NONBLOCK);
	struct stat st;
	int r;

	/* To open a pipe that nobody reads would wait for who does. */
	flags |= O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK;
	*output = (struct output){ .path = path };
	output->fd = open(path, flags | O_CREAT | O_EXCL, 0666);
	output->made = output->fd >= 0 && fstat(output->fd, &st) == 0;
	if (output->made) {
		output->dev = st.st_dev;
		output->ino = st.st_ino;
	} else if (output->fd < 0 && errno == EEXIST) {
		/*
		 * O_CREAT is for a link to where nothing is: what it makes cannot
		 * be told from what was there, and stays.
		 */
		output->fd = open(path, flags | O_CREAT, 0666);
	}
	if (output->fd >= 0 && (!blocks || fcntl(output->fd, F_SETFL, 0) == 0))
		return 0;
	r = -errno;
	error_set(err, r, "%s: cannot write '%s': %s", what, path,
		r == -ENXIO && stat(path, &st) == 0 && S_ISFIFO(st.st_mode) ? "nobody reads this pipe" : strerror(-r));
	output_close(output);
	return error_of_option(err, r);
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
