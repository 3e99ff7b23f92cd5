/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fid.c - what clients hold: fids, their descriptors, and the ways from one file to another.
 *
 * A client that caches keeps a fid for each name that it has seen, and a process has no descriptors for them all. So
 * those that are not opened are parked when descriptors run out, the longest unused first: the descriptor is closed and
 * the path below the root is kept. A parked fid is opened by that path and is good if the very same file is there.
 * A rename by the client takes parked paths along.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/p9/inner.h"

#define BENEATH_TRIES 8 /* renames elsewhere make the kernel give up on ".."; there is none in our paths, yet it may */

static struct p9_fid **slot(struct p9 *p9, uint32_t id)
{
	struct p9_fid **at = &p9->hash[(id * 0x9e3779b1U) >> 7 & (P9_HASH - 1)];

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

bool p9_known(struct p9 *p9, uint32_t id)
{
	return *slot(p9, id);
}

bool p9_is_root(const struct p9 *p9, const struct stat *st)
{
	return st->st_dev == p9->root_dev && st->st_ino == p9->root_ino;
}

int p9_charge(struct p9 *p9, uint64_t n)
{
	if (n > P9_BYTES - p9->bytes)
		return -ENOMEM;
	p9->bytes += n;
	return 0;
}

const char *p9_magic(int fd, char text[static P9_MAGIC])
{
	snprintf(text, P9_MAGIC, "/proc/self/fd/%d", fd);
	return text;
}

static int link_of(int fd, char path[static PATH_MAX])
{
	char magic[P9_MAGIC];
	ssize_t n = readlink(p9_magic(fd, magic), path, PATH_MAX);

	if (n < 0)
		return -errno;
	if (n == PATH_MAX)
		return -ENAMETOOLONG;
	path[n] = 0;
	return 0;
}

int p9_path(struct p9 *p9, int fd, char path[static PATH_MAX])
{
	char *root = p9->path2;
	size_t len;
	int r = link_of(p9->root, root);

	if (!r)
		r = link_of(fd, path);
	if (r)
		return r;
	len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(path, root, len) || (path[len] && path[len] != '/'))
		return -ESTALE;
	len += path[len] == '/';
	memmove(path, path + len, strlen(path + len) + 1);
	return 0;
}

int p9_beneath(struct p9 *p9, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(O_PATH | O_CLOEXEC | O_NOFOLLOW | flags),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	long fd = -1;

	for (unsigned i = 0; i < BENEATH_TRIES && fd < 0; i++) {
		fd = syscall(SYS_openat2, p9->root, *path ? path : ".", &how, sizeof(how));
		if (fd < 0 && errno != EAGAIN && errno != EINTR)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

static bool same(int fd, const struct p9_fid *fid)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == fid->dev && st.st_ino == fid->ino &&
	       ((st.st_mode ^ fid->mode) & S_IFMT) == 0;
}

/* Closes its descriptor and keeps its path. False: it has none that leads back to it. */
static bool park(struct p9 *p9, struct p9_fid *fid)
{
	int again;
	size_t size;

	if (p9_path(p9, fid->fd, p9->path))
		return false;
	again = p9_beneath(p9, p9->path, 0);
	if (again < 0)
		return false;
	size = strlen(p9->path) + 1;
	if (same(again, fid) && p9_charge(p9, size) == 0) {
		fid->path = strdup(p9->path);
		if (!fid->path)
			p9->bytes -= size;
	}
	close(again);
	if (!fid->path)
		return false;
	close(fid->fd);
	fid->fd = -1;
	list_del(&fid->lru);
	p9->fds--;
	p9->parked++;
	return true;
}

static bool park_one(struct p9 *p9)
{
	list_for_each_safe (pos, next, &p9->lru) {
		struct p9_fid *fid = container_of(pos, struct p9_fid, lru);

		if (fid->used == p9->request)
			break;
		if (park(p9, fid))
			return true;
		/* Not to be tried again and again: it stays open. */
		list_del(&fid->lru);
	}
	return false;
}

/* For one more descriptor of a fid's. */
static int make_room(struct p9 *p9)
{
	while (p9->fds >= p9->max_fds) {
		if (!park_one(p9))
			return -EMFILE;
	}
	return 0;
}

int p9_openat(struct p9 *p9, int dir, const char *name, int flags, mode_t mode)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, mode);

	/* The process's own limit: parking itself takes one, so a few. */
	for (unsigned i = 0; fd < 0 && (errno == EMFILE || errno == ENFILE) && i < 4; i++) {
		if (!park_one(p9)) {
			errno = EMFILE;
			break;
		}
		fd = openat(dir, name, flags | O_CLOEXEC, mode);
	}
	return fd < 0 ? -errno : fd;
}

static void touch(struct p9 *p9, struct p9_fid *fid)
{
	fid->used = p9->request;
	if (fid->kind != FID_PATH)
		return;
	list_del(&fid->lru);
	list_add_tail(&p9->lru, &fid->lru);
}

static void unpark(struct p9 *p9, struct p9_fid *fid)
{
	p9->bytes -= strlen(fid->path) + 1;
	free(fid->path);
	fid->path = NULL;
	p9->parked--;
}

int p9_find(struct p9 *p9, uint32_t id, struct p9_fid **out)
{
	struct p9_fid *fid = *slot(p9, id);
	int fd;

	if (!fid)
		return -EBADF;
	*out = fid;
	fid->used = p9->request;
	if (fid->fd < 0 && fid->path) {
		fd = make_room(p9);
		if (!fd)
			fd = p9_beneath(p9, fid->path, 0);
		if (fd < 0)
			return fd == -EMFILE ? fd : -ESTALE;
		if (!same(fd, fid)) {
			close(fd);
			return -ESTALE;
		}
		unpark(p9, fid);
		fid->fd = fd;
		p9->fds++;
	}
	touch(p9, fid);
	return 0;
}

int p9_find_file(struct p9 *p9, uint32_t id, struct p9_fid **fid)
{
	int r = p9_find(p9, id, fid);

	return !r && (*fid)->kind != FID_PATH && (*fid)->kind != FID_OPEN ? -EBADF : r;
}

int p9_find_dir(struct p9 *p9, uint32_t id, struct p9_fid **fid)
{
	int r = p9_find_file(p9, id, fid);

	return !r && !S_ISDIR((*fid)->mode) ? -ENOTDIR : r;
}

static int identify(struct p9_fid *fid, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	fid->dev = st.st_dev;
	fid->ino = st.st_ino;
	fid->mode = st.st_mode;
	return 0;
}

static struct p9_fid *new_fid(struct p9 *p9, uint32_t id, uint32_t uid)
{
	struct p9_fid *fid = p9->nr_fids < P9_FIDS ? calloc(1, sizeof(*fid)) : NULL;

	if (!fid)
		return NULL;
	fid->id = id;
	fid->uid = uid;
	fid->fd = fid->lock_fd = -1;
	fid->used = p9->request;
	list_init(&fid->lru);
	return fid;
}

int p9_add(struct p9 *p9, uint32_t id, int fd, uint32_t uid, struct p9_fid **out)
{
	struct p9_fid **at, *fid = NULL;
	int r = -EINVAL;

	if (id != P9_NO_FID && !p9_known(p9, id))
		r = make_room(p9);
	if (!r) {
		fid = new_fid(p9, id, uid);
		r = fid ? identify(fid, fd) : -ENOMEM;
	}
	if (r) {
		free(fid);
		close(fd);
		return r;
	}
	fid->fd = fd;
	p9->fds++;
	p9->nr_fids++;
	at = slot(p9, id);
	*at = fid;
	touch(p9, fid);
	*out = fid;
	return 0;
}

int p9_set_fd(struct p9 *p9, struct p9_fid *fid, int fd, enum p9_kind kind)
{
	int r = identify(fid, fd);

	if (r) {
		close(fd);
		return r;
	}
	if (fid->fd >= 0)
		close(fid->fd);
	else
		p9->fds++;
	fid->fd = fd;
	fid->kind = kind;
	list_del(&fid->lru);
	touch(p9, fid);
	return 0;
}

static int release(struct p9 *p9, struct p9_fid *fid)
{
	int r = 0;

	list_del(&fid->lru);
	if (fid->path)
		unpark(p9, fid);
	if (fid->xattr) {
		p9->bytes -= sizeof(*fid->xattr) + fid->xattr->size;
		free(fid->xattr);
	}
	if (fid->lock_fd >= 0) {
		close(fid->lock_fd);
		p9->fds--;
	}
	if (fid->fd >= 0) {
		/* The file system may tell only now what became of the data. */
		r = close(fid->fd) ? -errno : 0;
		p9->fds--;
	}
	p9->nr_fids--;
	free(fid);
	return r;
}

int p9_drop(struct p9 *p9, struct p9_fid *fid)
{
	struct p9_fid **at = slot(p9, fid->id);

	*at = fid->next;
	return release(p9, fid);
}

void p9_drop_all(struct p9 *p9)
{
	for (unsigned i = 0; p9->nr_fids && i < P9_HASH; i++) {
		while (p9->hash[i]) {
			struct p9_fid *fid = p9->hash[i];

			p9->hash[i] = fid->next;
			release(p9, fid);
		}
	}
}

/* The directory of what `fd` is, and its name there. */
static int parent_of(struct p9 *p9, int fd, char name[static NAME_MAX + 1])
{
	char *slash, *last;
	int r = p9_path(p9, fd, p9->path);

	if (r)
		return r;
	if (!p9->path[0])
		return -EBUSY; /* the root */
	slash = strrchr(p9->path, '/');
	last = slash ? slash + 1 : p9->path;
	if (strlen(last) > NAME_MAX)
		return -ESTALE; /* no name: the kernel says "(deleted)" behind it */
	memcpy(name, last, strlen(last) + 1);
	*(slash ? slash : p9->path) = 0;
	return p9_beneath(p9, p9->path, O_DIRECTORY);
}

int p9_step(struct p9 *p9, int dir, const char *name)
{
	char last[NAME_MAX + 1];
	struct stat st;

	if (strcmp(name, "..") != 0)
		return p9_openat(p9, dir, name, O_PATH | O_NOFOLLOW, 0);
	if (fstat(dir, &st))
		return -errno;
	if (p9_is_root(p9, &st))
		return p9_openat(p9, p9->root, ".", O_PATH | O_DIRECTORY, 0);
	return parent_of(p9, dir, last);
}

int p9_locate(struct p9 *p9, const struct p9_fid *fid, char name[static NAME_MAX + 1])
{
	struct stat st;
	int dir = parent_of(p9, fid->fd, name);

	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || st.st_dev != fid->dev || st.st_ino != fid->ino) {
		close(dir);
		return -ESTALE;
	}
	return dir;
}

/* What was at p9->path, or below, is at p9->path2 now. */
static void move_parked(struct p9 *p9, struct p9_fid *fid)
{
	size_t old = strlen(p9->path), new = strlen(p9->path2), rest;
	char *path;

	if (!fid->path || strncmp(fid->path, p9->path, old) != 0 || (fid->path[old] && fid->path[old] != '/'))
		return;
	rest = strlen(fid->path + old);
	/* Without memory, it stays where it was, and is stale. */
	if (new > old && p9_charge(p9, new - old))
		return;
	path = malloc(new + rest + 1);
	if (!path) {
		p9->bytes -= new > old ? new - old : 0;
		return;
	}
	memcpy(path, p9->path2, new);
	memcpy(path + new, fid->path + old, rest + 1);
	if (new < old)
		p9->bytes -= old - new;
	free(fid->path);
	fid->path = path;
}

static int path_in(struct p9 *p9, int dir, const char *name, char path[static PATH_MAX])
{
	int r = p9_path(p9, dir, path);
	size_t len = r ? 0 : strlen(path);

	if (!r && len + strlen(name) + 2 > PATH_MAX)
		r = -ENAMETOOLONG;
	if (!r)
		sprintf(path + len, "%s%s", len ? "/" : "", name);
	return r;
}

int p9_rename(struct p9 *p9, int old_dir, const char *old_name, int new_dir, const char *new_name)
{
	char *new_path = NULL;
	int r = 0;

	if (p9->parked) {
		/*
		 * p9_path() uses path2 itself, so the new one waits elsewhere. A
		 * path that cannot be told moves nothing.
		 */
		if (path_in(p9, new_dir, new_name, p9->path) == 0)
			new_path = strdup(p9->path);
		if (new_path && path_in(p9, old_dir, old_name, p9->path)) {
			free(new_path);
			new_path = NULL;
		}
	}
	if (renameat(old_dir, old_name, new_dir, new_name))
		r = -errno;
	if (!r && new_path) {
		strcpy(p9->path2, new_path);
		for (unsigned i = 0; i < P9_HASH; i++) {
			for (struct p9_fid *fid = p9->hash[i]; fid; fid = fid->next)
				move_parked(p9, fid);
		}
	}
	free(new_path);
	return r;
}
