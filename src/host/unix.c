/* SPDX-License-Identifier: BSD-2-Clause */
/* unix.c - Unix stream sockets at a path; see unix.h. */
#include "host/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How long another who is at the same place is waited for. */
#define LOCK_TRIES    50
#define LOCK_PAUSE_NS 10000000

int unix_check(const char *path, struct error *err)
{
	size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (!*path)
		return error_set(err, -EINVAL, "a socket needs a path");
	if (strlen(path) > most)
		return error_set(err, -ENAMETOOLONG,
			"'%.40s...' is %zu bytes long; the path of a socket has %zu at most", path, strlen(path), most);
	return 0;
}

int unix_check_socket(const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st) || S_ISSOCK(st.st_mode))
		return 0;
	return error_of_option(err, error_set(err, -ENOTSOCK, "'%s' is no socket", path));
}

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	return address;
}

/*
 * Two who find the same stale socket must not each remove it, or the second would remove the first one's new one. The
 * lock is on the folder, since that leaves nothing behind. -1: not to be had, and then we go on without it.
 */
static int unix_lock_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)] = ".";
	int fd;

	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", len ? (int)len : 1, path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK && i < LOCK_TRIES; i++) {
		const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };

		nanosleep(&pause, NULL);
	}
	return fd;
}

/* What stands at the path, where a bind has found something: 0 (a stale socket), or -errno with a line in `err`. */
static int unix_is_stale(const char *path, struct error *err)
{
	struct sockaddr_un address = unix_address(path);
	struct stat st;
	int fd, r;

	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return error_set(err, -EEXIST, "'%s' exists and is no socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "'%s': %s", path, strerror(errno));
	r = connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	close(fd);
	if (r == -ECONNREFUSED || r == -ENOENT)
		return 0;
	/* A socket of another type, one whose queue is full, or that is not ours to use: somebody has it. */
	return error_set(err, -EADDRINUSE, "'%s': another process listens on this socket", path);
}

/* *st: of the socket's file. */
static int unix_bind(struct unix_listener *listener, struct stat *st, struct error *err)
{
	struct sockaddr_un address = unix_address(listener->path);
	int r = bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;

	if (r == -EADDRINUSE) {
		r = unix_is_stale(listener->path, err);
		if (r)
			return r;
		(void)unlink(listener->path);
		r = bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	}
	if (r)
		return error_set(err, r, "cannot make the socket '%s': %s", listener->path, strerror(-r));
	if (listen(listener->fd, 8) || lstat(listener->path, st)) {
		r = error_set(err, -errno, "cannot listen on the socket '%s': %s", listener->path, strerror(errno));
		(void)unlink(listener->path);
	}
	return r;
}

int unix_listen(struct unix_listener *listener, const char *path, struct error *err)
{
	struct stat st;
	int r = unix_check(path, err), folder;

	listener->fd = -1;
	listener->path = path;
	if (r)
		return r;
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return error_set(err, -errno, "'%s': %s", path, strerror(errno));
	folder = unix_lock_folder(path);
	r = unix_bind(listener, &st, err);
	if (folder >= 0)
		close(folder);
	if (r) {
		close(listener->fd);
		listener->fd = -1;
		return error_of_option(err, r);
	}
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	return 0;
}

void unix_unlisten(struct unix_listener *listener)
{
	struct stat st;

	if (listener->fd < 0)
		return;
	if (lstat(listener->path, &st) == 0 && st.st_dev == listener->dev && st.st_ino == listener->ino)
		(void)unlink(listener->path);
	close(listener->fd);
	listener->fd = -1;
}

int unix_pair(int *listener)
{
	/* A folder that only we can enter, until we are connected. */
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = UNIX_PAIR_IN "/trapline-XXXXXX";
	int fd, r = 0;

	if (!mkdtemp(folder))
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || *listener < 0 || bind(*listener, (struct sockaddr *)&address, sizeof(address)) ||
		listen(*listener, 1) || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		r = -errno;
	(void)unlink(address.sun_path);
	(void)rmdir(folder);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	if (*listener >= 0)
		close(*listener);
	return r;
}
