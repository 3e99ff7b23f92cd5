/* SPDX-License-Identifier: BSD-2-Clause */
/* virtiofsd.c - virtiofsd as our child; see virtiofsd.h. */
#include "host/virtiofsd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/unix.h"

#define NAME "virtiofsd"

/* Its time to end: what the guest has written lies in the host's page cache, and is not lost by that. */
#define END_MS   2000
#define ENDED_MS 500

/*
 * It cannot do that itself: its view of the folder is one that cannot be written.
 * $1 is the folder, the rest is the program.
 */
static const char read_only[] = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";

static const char *program_of(const struct virtiofsd_config *c)
{
	return c->program ? c->program : VIRTIOFSD_PATH;
}

const char *virtiofsd_lacks(const struct virtiofsd_config *c)
{
	if (access(program_of(c), X_OK))
		return errno == ENOENT ? NAME " is not installed (package qemu-system-common)"
				       : NAME " cannot be run here";
	return geteuid() ? NAME " wants root" : NULL;
}

/* "source=FOLDER" for -o, where a comma ends a word. NULL: no memory. */
static char *source_of(const char *folder)
{
	static const char begin[] = "source=";
	char *text = malloc(sizeof(begin) + 2 * strlen(folder)), *to = text;

	if (!text)
		return NULL;
	to = stpcpy(to, begin);
	for (; *folder; folder++) {
		if (*folder == ',' || *folder == '\\')
			*to++ = '\\';
		*to++ = *folder;
	}
	*to = '\0';
	return text;
}

static int start(struct virtiofsd *fsd, int listener, struct error *err)
{
	const struct virtiofsd_config *c = &fsd->config;
	/* It looks at the name once more when it is at "/", and wants no link there. */
	char *folder = realpath(c->folder, NULL), *source;
	const char *argv[20];
	const struct child_config child = {
		.argv = argv,
		.name = c->program ? c->program : NAME,
		.package = "qemu-system-common",
		.otherwise = "--9p",
		.fds = &listener,
		.nr_fds = 1,
		.end_ms = END_MS,
	};
	unsigned n = 0;
	int r;

	if (!folder)
		return error_set(err, -errno, "'%s': %s", c->folder, strerror(errno));
	source = source_of(folder);
	if (!source) {
		free(folder);
		return error_set(err, -ENOMEM, "no memory");
	}
	if (c->ro) {
		const char *words[] = { "unshare", "--mount", "sh", "-c", read_only, "sh", folder };

		for (; n < sizeof(words) / sizeof(words[0]); n++)
			argv[n] = words[n];
	}
	argv[n++] = program_of(c);
	argv[n++] = "--fd=3";
	argv[n++] = "-o";
	argv[n++] = source;
	argv[n++] = "-o";
	argv[n++] = "log_level=err,xattr";
	if (c->chroot) {
		argv[n++] = "-o";
		argv[n++] = "sandbox=chroot";
	}
	argv[n] = NULL;
	r = child_start(&child, &fsd->child, err);
	free(source);
	free(folder);
	return r;
}

int virtiofsd_connect(void *arg, struct error *err)
{
	struct virtiofsd *fsd = arg;
	int listener, fd, r;

	virtiofsd_end(fsd);
	fd = unix_pair(&listener);
	if (fd < 0)
		return error_set(err, fd, "no socket for " NAME " in " UNIX_PAIR_IN ": %s", strerror(-fd));
	r = start(fsd, listener, err);
	close(listener);
	if (r) {
		close(fd);
		return r;
	}
	return fd;
}

bool virtiofsd_ended(void *arg, char how[CHILD_HOW])
{
	struct virtiofsd *fsd = arg;

	return fsd->child && child_ended(fsd->child, ENDED_MS, how);
}

void virtiofsd_kill(void *arg)
{
	struct virtiofsd *fsd = arg;

	if (fsd->child)
		child_kill(fsd->child);
}

void virtiofsd_end(void *arg)
{
	struct virtiofsd *fsd = arg;

	child_end(fsd->child, 0);
	fsd->child = NULL;
}
