/* SPDX-License-Identifier: BSD-2-Clause */
/* attr.c - 9P on what a file is: attributes, owner and mode, links' targets, extended attributes, the file system. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/p9/inner.h"

#define GETATTR_BASIC 0x7ffU /* mode to ctime and blocks */
#define GETATTR_BTIME 0x800U

#define SETATTR_MODE      0x1U
#define SETATTR_UID       0x2U
#define SETATTR_GID       0x4U
#define SETATTR_SIZE      0x8U
#define SETATTR_ATIME     0x10U
#define SETATTR_MTIME     0x20U
#define SETATTR_CTIME     0x40U
#define SETATTR_ATIME_SET 0x80U
#define SETATTR_MTIME_SET 0x100U

static void put_time(struct p9_req *req, const struct statx_timestamp *at)
{
	p9_put64(req, (uint64_t)at->tv_sec);
	p9_put64(req, at->tv_nsec);
}

int p9_getattr(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	struct p9_fid *fid = NULL;
	struct statx x;
	struct stat st;
	int r;

	p9_u64(req); /* what it wants; it gets what there is */
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	if (statx(fid->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &x))
		return -errno;
	st = (struct stat){
		.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
		.st_ino = x.stx_ino,
		.st_mode = x.stx_mode,
		.st_size = (off_t)x.stx_size,
		.st_mtim = { x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec },
	};
	p9_put64(req, GETATTR_BASIC | (x.stx_mask & STATX_BTIME ? GETATTR_BTIME : 0));
	p9_put_qid(req, &st);
	p9_put32(req, x.stx_mode);
	p9_put32(req, x.stx_uid);
	p9_put32(req, x.stx_gid);
	p9_put64(req, x.stx_nlink);
	p9_put64(req, makedev(x.stx_rdev_major, x.stx_rdev_minor));
	p9_put64(req, x.stx_size);
	p9_put64(req, x.stx_blksize);
	p9_put64(req, x.stx_blocks);
	put_time(req, &x.stx_atime);
	put_time(req, &x.stx_mtime);
	put_time(req, &x.stx_ctime);
	if (!(x.stx_mask & STATX_BTIME))
		x.stx_btime = (struct statx_timestamp){ 0 };
	put_time(req, &x.stx_btime);
	p9_put64(req, 0); /* generation */
	p9_put64(req, 0); /* data version */
	return 0;
}

static int set_owner(const struct p9 *p9, int fd, uint32_t uid, uint32_t gid)
{
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0 || (p9->lax && errno == EPERM))
		return 0;
	return -errno;
}

/* A link's mode is nothing that could be changed, and is not asked for. */
static int set_mode(int fd, uint32_t mode)
{
	char magic[P9_MAGIC];

	return chmod(p9_magic(fd, magic), mode & 07777) ? -errno : 0;
}

/*
 * An owner only where this process is root; a mode as it was asked for, whatever the umask. The owner comes first: what
 * is to be set-user-ID is so for its owner only. Directories keep a set-group-ID that they have inherited.
 */
static int set_new(const struct p9_fid *dir, int fd, const struct stat *st, uint32_t mode, uint32_t gid)
{
	mode &= 07777;
	if (geteuid() == 0 && dir->uid != P9_NO_UID && (st->st_uid != dir->uid || st->st_gid != gid)) {
		/* Not permitted to root: the file system keeps no owners. */
		if (fchownat(fd, "", dir->uid, gid, AT_EMPTY_PATH) && errno != EPERM)
			return -errno;
	}
	if (S_ISDIR(st->st_mode))
		mode |= st->st_mode & S_ISGID;
	if (S_ISLNK(st->st_mode) || ((st->st_mode & 07777) == mode && !(mode & 07000)))
		return 0;
	return set_mode(fd, mode);
}

int p9_adopt(struct p9 *p9, const struct p9_fid *dir, int fd, mode_t type, uint32_t mode, uint32_t gid, struct stat *st)
{
	int r = fstat(fd, st) ? -errno : 0;

	if (r)
		return r;
	if ((st->st_mode & S_IFMT) != type)
		return -EAGAIN;
	/*
	 * If it has another owner, or another name, it may be what somebody put there meanwhile: that stays as it is.
	 */
	if (st->st_uid == geteuid() && (type == S_IFDIR || st->st_nlink == 1))
		r = set_new(dir, fd, st, mode, gid);
	if (!r && fstat(fd, st))
		r = -errno;
	return r;
}

static int set_size(const struct p9_fid *fid, uint64_t size)
{
	char magic[P9_MAGIC];

	if (size > INT64_MAX)
		return -EFBIG;
	if (!S_ISREG(fid->mode))
		return S_ISDIR(fid->mode) ? -EISDIR : -EINVAL;
	/* A file that is open for writing may have lost its permissions since. */
	if (fid->kind == FID_OPEN && (fid->flags & 3) && ftruncate(fid->fd, (off_t)size) == 0)
		return 0;
	return truncate(p9_magic(fid->fd, magic), (off_t)size) ? -errno : 0;
}

static int set_times(int fd, uint32_t valid, struct timespec times[2])
{
	char magic[P9_MAGIC];

	if (!(valid & (SETATTR_ATIME | SETATTR_MTIME)))
		return 0;
	if (!(valid & SETATTR_ATIME))
		times[0].tv_nsec = UTIME_OMIT;
	else if (!(valid & SETATTR_ATIME_SET))
		times[0].tv_nsec = UTIME_NOW;
	if (!(valid & SETATTR_MTIME))
		times[1].tv_nsec = UTIME_OMIT;
	else if (!(valid & SETATTR_MTIME_SET))
		times[1].tv_nsec = UTIME_NOW;
	return utimensat(AT_FDCWD, p9_magic(fd, magic), times, 0) ? -errno : 0;
}

int p9_setattr(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), valid = p9_u32(req), mode = p9_u32(req), uid = p9_u32(req), gid = p9_u32(req);
	uint64_t size = p9_u64(req);
	struct timespec times[2];
	struct p9_fid *fid = NULL;
	int r;

	for (unsigned i = 0; i < 2; i++) {
		uint64_t s = p9_u64(req), ns = p9_u64(req);

		/* Beyond a second are the kernel's special values, which are not the client's to use. */
		if (ns >= 1000000000 && valid & (i ? SETATTR_MTIME_SET : SETATTR_ATIME_SET))
			req->bad = req->bad ? req->bad : -EINVAL;
		times[i] = (struct timespec){ (time_t)s, (long)ns };
	}
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	if (valid & (SETATTR_UID | SETATTR_GID))
		r = set_owner(
			p9, fid->fd, valid & SETATTR_UID ? uid : P9_NO_UID, valid & SETATTR_GID ? gid : P9_NO_UID);
	else if ((valid & 0x1ff) == SETATTR_CTIME)
		r = set_owner(p9, fid->fd, P9_NO_UID, P9_NO_UID); /* changes nothing but that time */
	if (!r && valid & SETATTR_MODE)
		r = set_mode(fid->fd, mode);
	if (!r && valid & SETATTR_SIZE)
		r = set_size(fid, size);
	return r ? r : set_times(fid->fd, valid, times);
}

int p9_statfs(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	struct p9_fid *fid = NULL;
	struct statfs fs;
	uint32_t words[2];
	int r = p9_parsed(req);

	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	if (fstatfs(fid->fd, &fs))
		return -errno;
	p9_put32(req, V9FS_MAGIC);
	p9_put32(req, (uint32_t)(fs.f_frsize ? fs.f_frsize : fs.f_bsize));
	p9_put64(req, fs.f_blocks);
	p9_put64(req, fs.f_bfree);
	p9_put64(req, fs.f_bavail);
	p9_put64(req, fs.f_files);
	p9_put64(req, fs.f_ffree);
	_Static_assert(sizeof(fs.f_fsid) == sizeof(words), "two words");
	memcpy(words, &fs.f_fsid, sizeof(words));
	p9_put64(req, words[0] | (uint64_t)words[1] << 32);
	p9_put32(req, (uint32_t)fs.f_namelen);
	return 0;
}

int p9_readlink(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	struct p9_fid *fid = NULL;
	ssize_t n;
	int r = p9_parsed(req);

	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (!r && !S_ISLNK(fid->mode))
		r = -EINVAL;
	if (r)
		return r;
	n = readlinkat(fid->fd, "", p9->path, sizeof(p9->path));
	if (n < 0)
		return -errno;
	p9_put_text(req, p9->path, (size_t)n);
	return 0;
}

static struct p9_xattr *new_xattr(struct p9 *p9, const char *name, uint64_t size)
{
	struct p9_xattr *xattr;

	if (p9_charge(p9, sizeof(*xattr) + size))
		return NULL;
	xattr = calloc(1, sizeof(*xattr) + size);
	if (!xattr) {
		p9->bytes -= sizeof(*xattr) + size;
		return NULL;
	}
	memcpy(xattr->name, name, strlen(name) + 1);
	xattr->size = (uint32_t)size;
	return xattr;
}

/* The value of a name, or for "" the list of names. */
static ssize_t get_xattr(int fd, const char *name, void *value, size_t size)
{
	char magic[P9_MAGIC];
	ssize_t n;

	p9_magic(fd, magic);
	n = *name ? getxattr(magic, name, value, size) : listxattr(magic, value, size);
	return n < 0 ? -errno : n;
}

int p9_xattrwalk(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), new_id = p9_u32(req);
	char name[NAME_MAX + 1], magic[P9_MAGIC];
	struct p9_fid *fid = NULL, *made = NULL;
	struct p9_xattr *xattr;
	ssize_t n;
	int r, fd;

	p9_text(req, name, sizeof(name));
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	n = get_xattr(fid->fd, name, NULL, 0);
	if (n < 0)
		return (int)n;
	fd = p9_openat(p9, AT_FDCWD, p9_magic(fid->fd, magic), O_PATH, 0);
	if (fd < 0)
		return fd;
	r = p9_add(p9, new_id, fd, fid->uid, &made);
	if (r)
		return r;
	xattr = new_xattr(p9, name, (uint64_t)n);
	n = xattr ? n ? get_xattr(made->fd, name, xattr->value, (size_t)n) : 0 : -ENOMEM;
	made->xattr = xattr;
	made->kind = FID_XATTR;
	list_del(&made->lru);
	if (n < 0) {
		p9_drop(p9, made);
		return (int)n;
	}
	p9_put64(req, (uint64_t)n);
	return 0;
}

int p9_xattrcreate(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), flags;
	char name[NAME_MAX + 1];
	struct p9_fid *fid = NULL;
	uint64_t size;
	int r;

	p9_text(req, name, sizeof(name));
	size = p9_u64(req);
	flags = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (!r && (fid->kind != FID_PATH || !name[0] || flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		r = -EINVAL;
	if (!r && size > 65536)
		r = -E2BIG;
	if (r)
		return r;
	fid->xattr = new_xattr(p9, name, size);
	if (!fid->xattr)
		return -ENOMEM;
	fid->xattr->flags = flags;
	fid->kind = FID_XATTR_W;
	list_del(&fid->lru);
	return 0;
}

/* No bytes in place of what there is: the client removes it, so Linux says. */
int p9_xattr_set(struct p9_fid *fid)
{
	const struct p9_xattr *xattr = fid->xattr;
	char magic[P9_MAGIC];

	p9_magic(fid->fd, magic);
	if (!xattr->size && xattr->flags == XATTR_REPLACE)
		return removexattr(magic, xattr->name) ? -errno : 0;
	if (xattr->have != xattr->size)
		return -EINVAL;
	return setxattr(magic, xattr->name, xattr->value, xattr->size, (int)xattr->flags) ? -errno : 0;
}
