/* SPDX-License-Identifier: BSD-2-Clause */
/* dir.c - 9P on directories: listing, and the names in them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/p9/inner.h"

#define P9_AT_REMOVEDIR 0x200U
#define P9_DIRENT       24 /* qid[13] offset[8] type[1] and the name's length[2] */

/* As getdents64() writes it. */
struct dent {
	uint64_t ino;
	int64_t off; /* where the next one is */
	uint16_t len;
	uint8_t type;
	char name[];
};

static void put_dent(struct p9 *p9, struct p9_req *req, const struct dent *dent, bool in_root)
{
	struct stat st = { .st_dev = p9->root_dev, .st_ino = dent->ino, .st_mode = DTTOIF(dent->type) };

	/* What is above the root is nobody's business. */
	if (in_root && strcmp(dent->name, "..") == 0)
		st.st_ino = p9->root_ino;
	p9_put_qid(req, &st);
	p9_put64(req, (uint64_t)dent->off);
	p9_put8(req, dent->type);
	p9_put_text(req, dent->name, strlen(dent->name));
}

/* Entries from the descriptor's place on, up to `room` bytes in all. 0 or -errno. */
static int put_dents(struct p9 *p9, struct p9_req *req, struct p9_fid *fid, uint32_t room)
{
	bool in_root = fid->dev == p9->root_dev && fid->ino == p9->root_ino;
	uint32_t start = req->len;

	for (;;) {
		long n = syscall(SYS_getdents64, fid->fd, p9->dents, sizeof(p9->dents));

		if (n <= 0)
			return n < 0 && req->len == start ? -errno : 0;
		for (long at = 0; at < n;) {
			const struct dent *dent = (const struct dent *)(const void *)(p9->dents + at);

			/* The descriptor is ahead of what was told then: the next call sets it back. */
			if (req->len - start + P9_DIRENT + strlen(dent->name) > room)
				return req->len == start ? -EINVAL : 0;
			put_dent(p9, req, dent, in_root);
			fid->dir_at = dent->off;
			at += dent->len;
		}
	}
}

/*
 * The cookies are the file system's own: they stay good while others make and remove names. Since what the client was
 * told ends anywhere in what the kernel gave, each call begins by setting the place.
 */
int p9_readdir(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), count, count_at, room;
	uint64_t offset = p9_u64(req);
	struct p9_fid *fid = NULL;
	int r;

	count = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, id, &fid);
	if (!r && fid->kind != FID_OPEN)
		r = -EBADF;
	if (!r && lseek(fid->fd, (off_t)offset, SEEK_SET) < 0)
		r = -errno;
	if (r)
		return r;
	room = p9_room(req, count);
	if (room > sizeof(p9->reply) - P9_READ_HEAD)
		room = sizeof(p9->reply) - P9_READ_HEAD;
	count_at = req->len;
	p9_put32(req, 0);
	r = put_dents(p9, req, fid, room);
	count = req->len - P9_READ_HEAD;
	for (unsigned i = 0; i < 4; i++)
		p9->reply[count_at + i] = (uint8_t)(count >> 8 * i);
	return r;
}

/* The new name's owner and mode, and its qid for the reply. Undone by removing the name. */
static int answer_made(struct p9 *p9, struct p9_req *req, const struct p9_fid *dir, const char *name, mode_t type,
	uint32_t mode, uint32_t gid)
{
	struct stat st;
	int fd = p9_openat(p9, dir->fd, name, O_PATH | O_NOFOLLOW, 0), r;

	if (fd < 0)
		return fd;
	r = p9_adopt(p9, dir, fd, type, mode, gid, &st);
	close(fd);
	if (r)
		unlinkat(dir->fd, name, type == S_IFDIR ? AT_REMOVEDIR : 0);
	else
		p9_put_qid(req, &st);
	return r;
}

int p9_symlink(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), gid;
	char name[NAME_MAX + 1];
	struct p9_fid *dir = NULL;
	int r;

	p9_name(req, name);
	p9_text(req, p9->path, sizeof(p9->path));
	gid = p9_u32(req);
	r = p9_parsed(req);
	if (r)
		return r;
	/* Finding the fid may park others, which needs p9->path, so the target waits where the message was. */
	snprintf((char *)p9->head, sizeof(p9->head), "%s", p9->path);
	r = p9_find_dir(p9, id, &dir);
	if (r)
		return r;
	if (symlinkat((const char *)p9->head, dir->fd, name))
		return -errno;
	return answer_made(p9, req, dir, name, S_IFLNK, 0777, gid);
}

static int make_node(int dir, const char *name, uint32_t mode)
{
	int fd;

	switch (mode & S_IFMT) {
	case 0:
	case S_IFREG:
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
		if (fd < 0)
			return -errno;
		close(fd);
		return 0;
	case S_IFIFO:
	case S_IFSOCK:
		return mknodat(dir, name, mode & (S_IFMT | 0777), 0) ? -errno : 0;
	default:
		/* A device that a guest makes would be one of the host's for whoever finds it there. */
		return -EPERM;
	}
}

int p9_mknod(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), mode, gid;
	char name[NAME_MAX + 1];
	struct p9_fid *dir = NULL;
	int r;

	p9_name(req, name);
	mode = p9_u32(req);
	p9_u32(req);
	p9_u32(req);
	gid = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, id, &dir);
	if (!r)
		r = make_node(dir->fd, name, mode);
	if (r)
		return r;
	return answer_made(p9, req, dir, name, mode & S_IFMT ? mode & S_IFMT : S_IFREG, mode, gid);
}

int p9_mkdir(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), mode, gid;
	char name[NAME_MAX + 1];
	struct p9_fid *dir = NULL;
	int r;

	p9_name(req, name);
	mode = p9_u32(req);
	gid = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, id, &dir);
	if (!r && mkdirat(dir->fd, name, mode & 0777))
		r = -errno;
	return r ? r : answer_made(p9, req, dir, name, S_IFDIR, mode, gid);
}

int p9_link(struct p9 *p9, struct p9_req *req)
{
	uint32_t dir_id = p9_u32(req), id = p9_u32(req);
	char name[NAME_MAX + 1], magic[P9_MAGIC];
	struct p9_fid *dir = NULL, *fid = NULL;
	int r;

	p9_name(req, name);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, dir_id, &dir);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	/* What the descriptor is, a symbolic link too. */
	return linkat(AT_FDCWD, p9_magic(fid->fd, magic), dir->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

int p9_renamefid(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), dir_id = p9_u32(req);
	char name[NAME_MAX + 1], old_name[NAME_MAX + 1];
	struct p9_fid *fid = NULL, *dir = NULL;
	int r, old_dir;

	p9_name(req, name);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (!r)
		r = p9_find_dir(p9, dir_id, &dir);
	if (r)
		return r;
	old_dir = p9_locate(p9, fid, old_name);
	if (old_dir < 0)
		return old_dir;
	r = p9_rename(p9, old_dir, old_name, dir->fd, name);
	close(old_dir);
	return r;
}

int p9_renameat(struct p9 *p9, struct p9_req *req)
{
	uint32_t old_id = p9_u32(req), new_id;
	char old_name[NAME_MAX + 1], new_name[NAME_MAX + 1];
	struct p9_fid *old_dir = NULL, *new_dir = NULL;
	int r;

	p9_name(req, old_name);
	new_id = p9_u32(req);
	p9_name(req, new_name);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, old_id, &old_dir);
	if (!r)
		r = p9_find_dir(p9, new_id, &new_dir);
	return r ? r : p9_rename(p9, old_dir->fd, old_name, new_dir->fd, new_name);
}

int p9_unlinkat(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), flags;
	char name[NAME_MAX + 1];
	struct p9_fid *dir = NULL;
	int r;

	p9_name(req, name);
	flags = p9_u32(req);
	r = p9_parsed(req);
	if (!r && flags & ~P9_AT_REMOVEDIR)
		r = -EINVAL;
	if (!r)
		r = p9_find_dir(p9, id, &dir);
	if (!r && unlinkat(dir->fd, name, flags & P9_AT_REMOVEDIR ? AT_REMOVEDIR : 0))
		r = -errno;
	return r;
}

/* The fid goes, whatever becomes of the file. */
int p9_remove(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	char name[NAME_MAX + 1];
	struct p9_fid *fid = NULL;
	int r = p9_parsed(req), dir;

	if (!r)
		r = p9_find(p9, id, &fid);
	if (!fid)
		return r;
	if (!r && fid->kind != FID_PATH && fid->kind != FID_OPEN)
		r = -EBADF;
	if (!r) {
		dir = p9_locate(p9, fid, name);
		r = dir < 0 ? dir : 0;
		if (dir >= 0 && unlinkat(dir, name, S_ISDIR(fid->mode) ? AT_REMOVEDIR : 0))
			r = -errno;
		if (dir >= 0)
			close(dir);
	}
	p9_drop(p9, fid);
	return r;
}
