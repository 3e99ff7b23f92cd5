/* SPDX-License-Identifier: BSD-2-Clause */
/* file.c - 9P on files: open, create, read, write, fsync, locks. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "host/p9/inner.h"

/* Flags of Tlopen and Tlcreate: those of Linux on x86, wherever client and server run. */
#define P9_L_ACCESS    03U
#define P9_L_WRONLY    01U
#define P9_L_RDWR      02U
#define P9_L_EXCL      0200U
#define P9_L_TRUNC     01000U
#define P9_L_APPEND    02000U
#define P9_L_DSYNC     010000U
#define P9_L_DIRECTORY 0200000U
#define P9_L_SYNC      04000000U

#define P9_LOCK_RDLCK 0
#define P9_LOCK_WRLCK 1
#define P9_LOCK_UNLCK 2

#define P9_LOCK_SUCCESS 0
#define P9_LOCK_BLOCKED 1

static bool writes(uint32_t flags)
{
	return (flags & P9_L_ACCESS) == P9_L_WRONLY || (flags & P9_L_ACCESS) == P9_L_RDWR;
}

/*
 * What of the flags is for the host. Direct I/O is not: the pieces of a message are not aligned. Nor is O_NONBLOCK the
 * client's choice: it keeps what is no regular file, and came to be opened after all, from holding us up.
 */
static int host_flags(uint32_t flags)
{
	int host = O_NOCTTY | O_NONBLOCK;

	host |= !writes(flags) ? O_RDONLY : (flags & P9_L_ACCESS) == P9_L_RDWR ? O_RDWR : O_WRONLY;
	host |= flags & P9_L_TRUNC ? O_TRUNC : 0;
	host |= flags & P9_L_APPEND ? O_APPEND : 0;
	host |= (flags & P9_L_SYNC) == P9_L_SYNC ? O_SYNC : flags & P9_L_DSYNC ? O_DSYNC : 0;
	return host;
}

/* Transfers of whole blocks: a client splits what is longer. */
static uint32_t iounit(const struct p9 *p9, const struct stat *st)
{
	uint32_t most = p9->msize - P9_IO_HEAD, block = (uint32_t)st->st_blksize;

	return block && block <= most ? most - most % block : most;
}

static int answer_open(struct p9 *p9, struct p9_req *req, const struct p9_fid *fid)
{
	struct stat st;

	if (fstat(fid->fd, &st))
		return -errno;
	p9_put_qid(req, &st);
	p9_put32(req, iounit(p9, &st));
	return 0;
}

/* Opens what an O_PATH descriptor names, which is a regular file or a directory, or it is not opened. */
static int open_again(struct p9 *p9, int fd, uint32_t flags)
{
	char magic[P9_MAGIC];
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -ENXIO;
	if (S_ISREG(st.st_mode) && flags & P9_L_DIRECTORY)
		return -ENOTDIR;
	if (S_ISDIR(st.st_mode) && (writes(flags) || flags & P9_L_TRUNC))
		return -EISDIR;
	return p9_openat(p9, AT_FDCWD, p9_magic(fd, magic), host_flags(flags), 0);
}

int p9_lopen(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), flags = p9_u32(req);
	struct p9_fid *fid = NULL;
	int r = p9_parsed(req), fd;

	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (!r && (fid->kind != FID_PATH || (flags & P9_L_ACCESS) == P9_L_ACCESS))
		r = -EINVAL;
	if (!r && p9->ro && (writes(flags) || flags & P9_L_TRUNC))
		r = -EROFS;
	if (r)
		return r;
	fd = open_again(p9, fid->fd, flags);
	if (fd < 0)
		return fd;
	fid->flags = flags;
	r = p9_set_fd(p9, fid, fd, FID_OPEN);
	return r ? r : answer_open(p9, req, fid);
}

/* A file that is there already is opened, not owned anew; unless it had to be new. */
static int open_there(struct p9 *p9, int dir, const char *name, uint32_t flags)
{
	int there, fd;

	if (flags & P9_L_EXCL)
		return -EEXIST;
	there = p9_step(p9, dir, name);
	if (there < 0)
		return there;
	fd = open_again(p9, there, flags);
	close(there);
	return fd;
}

int p9_lcreate(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), flags, mode, gid;
	char name[NAME_MAX + 1];
	struct p9_fid *fid = NULL;
	struct stat st;
	int r, fd;

	p9_name(req, name);
	flags = p9_u32(req);
	mode = p9_u32(req);
	gid = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_dir(p9, id, &fid);
	if (!r && (fid->kind != FID_PATH || (flags & P9_L_ACCESS) == P9_L_ACCESS))
		r = -EINVAL;
	if (r)
		return r;
	fd = p9_openat(p9, fid->fd, name, host_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW, mode & 0777);
	if (fd == -EEXIST)
		fd = open_there(p9, fid->fd, name, flags);
	else if (fd >= 0)
		r = p9_adopt(p9, fid, fd, S_IFREG, mode, gid, &st);
	if (fd < 0)
		return fd;
	if (r) {
		close(fd);
		unlinkat(fid->fd, name, 0);
		return r;
	}
	fid->flags = flags;
	r = p9_set_fd(p9, fid, fd, FID_OPEN);
	return r ? r : answer_open(p9, req, fid);
}

static uint32_t read_xattr(const struct p9_req *req, const struct p9_xattr *xattr, uint64_t offset, uint32_t count)
{
	if (offset >= xattr->size)
		return 0;
	if (count > xattr->size - offset)
		count = (uint32_t)(xattr->size - offset);
	p9_scatter(req->io->in, req->io->nr_in, P9_READ_HEAD, xattr->value + offset, count);
	return count;
}

int p9_read(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), count;
	uint64_t offset = p9_u64(req);
	struct p9_fid *fid = NULL;
	ssize_t n;
	int r;

	count = p9_u32(req);
	r = p9_parsed(req);
	if (!r)
		r = p9_find(p9, id, &fid);
	if (r)
		return r;
	count = p9_room(req, count);
	if (fid->kind == FID_XATTR) {
		n = read_xattr(req, fid->xattr, offset, count);
	} else if (fid->kind == FID_OPEN) {
		/* Right into the carrier's pieces. A directory says EISDIR. */
		r = p9_slice(p9, req->io->in, req->io->nr_in, P9_READ_HEAD, count);
		n = preadv(fid->fd, p9->iov, r, (off_t)offset);
		if (n < 0)
			return -errno;
	} else {
		return -EBADF;
	}
	p9_put32(req, (uint32_t)n);
	req->direct = (uint32_t)n;
	return 0;
}

static ssize_t write_xattr(const struct p9_req *req, struct p9_xattr *xattr, uint64_t offset, uint32_t count)
{
	if (offset > xattr->have || count > xattr->size - offset)
		return -ENOSPC;
	p9_gather(req->io->out, req->io->nr_out, P9_WRITE_HEAD, xattr->value + offset, count);
	if (offset + count > xattr->have)
		xattr->have = (uint32_t)(offset + count);
	return count;
}

int p9_write(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), count;
	uint64_t offset = p9_u64(req);
	struct p9_fid *fid = NULL;
	ssize_t n;
	int r;

	count = p9_u32(req);
	/*
	 * All data is there, and the size counts it, or it does not at all: Linux before 4.19 wrote the head's size
	 * where the pages of data were sent as they lay.
	 */
	if (!req->bad && (count > req->io->out_len - P9_WRITE_HEAD ||
				 (req->size != P9_WRITE_HEAD && req->size != (uint64_t)P9_WRITE_HEAD + count)))
		req->bad = -EPROTO;
	r = req->bad ? req->bad : p9_find(p9, id, &fid);
	if (r)
		return r;
	if (fid->kind == FID_XATTR_W) {
		n = write_xattr(req, fid->xattr, offset, count);
		if (n < 0)
			return (int)n;
	} else if (fid->kind == FID_OPEN && writes(fid->flags)) {
		r = p9_slice(p9, req->io->out, req->io->nr_out, P9_WRITE_HEAD, count);
		n = pwritev(fid->fd, p9->iov, r, (off_t)offset);
		if (n < 0)
			return -errno;
	} else {
		return -EBADF;
	}
	p9_put32(req, (uint32_t)n);
	return 0;
}

static int find_open(struct p9 *p9, uint32_t id, struct p9_fid **fid)
{
	int r = p9_find(p9, id, fid);

	return !r && (*fid)->kind != FID_OPEN ? -EBADF : r;
}

int p9_fsync(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	uint32_t data_only = req->at == req->end ? 0 : p9_u32(req); /* not in the protocol's first form */
	struct p9_fid *fid = NULL;
	int r = p9_parsed(req);

	if (!r)
		r = find_open(p9, id, &fid);
	if (r)
		return r;
	return (data_only ? fdatasync(fid->fd) : fsync(fid->fd)) ? -errno : 0;
}

/* The fields that Tlock and Tgetlock share, from `start` on. */
static int take_range(struct p9_req *req, struct flock *lock, char who[static NAME_MAX + 1])
{
	uint64_t start = p9_u64(req), len = p9_u64(req);

	p9_u32(req); /* the process at the client, which means nothing here */
	p9_text(req, who, NAME_MAX + 1);
	if (p9_parsed(req))
		return req->bad;
	if (start > INT64_MAX || len > INT64_MAX)
		return -EINVAL;
	lock->l_whence = SEEK_SET;
	lock->l_start = (off_t)start;
	lock->l_len = (off_t)len;
	return 0;
}

static int lock_type(uint8_t type)
{
	switch (type) {
	case P9_LOCK_RDLCK:
		return F_RDLCK;
	case P9_LOCK_WRLCK:
		return F_WRLCK;
	case P9_LOCK_UNLCK:
		return F_UNLCK;
	default:
		return -1;
	}
}

/*
 * Locks belong to an open file description, so each fid has its own. A client's flock() may lock for writing what it
 * has opened to read, which the host's locks do not let: they are taken on a descriptor for both where one can be had.
 */
static int lock_fd(struct p9 *p9, struct p9_fid *fid)
{
	char magic[P9_MAGIC];

	if (fid->lock_fd >= 0)
		return fid->lock_fd;
	if (S_ISREG(fid->mode) && !p9->ro && (fid->flags & P9_L_ACCESS) != P9_L_RDWR && p9->fds < p9->max_fds) {
		fid->lock_fd = p9_openat(p9, AT_FDCWD, p9_magic(fid->fd, magic), O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
		if (fid->lock_fd >= 0) {
			p9->fds++;
			return fid->lock_fd;
		}
		fid->lock_fd = -1;
	}
	return fid->fd;
}

/* Never waits: a client that wants to is told that it is blocked, and asks again. */
int p9_lock(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	int type = lock_type(p9_u8(req));
	char who[NAME_MAX + 1];
	struct flock lock = { 0 };
	struct p9_fid *fid = NULL;
	int r;

	p9_u32(req); /* whether it wants to wait */
	r = take_range(req, &lock, who);
	if (!r)
		r = type < 0 ? -EINVAL : find_open(p9, id, &fid);
	if (r)
		return r;
	lock.l_type = (short)type;
	if (fcntl(lock_fd(p9, fid), F_OFD_SETLK, &lock) == 0)
		p9_put8(req, P9_LOCK_SUCCESS);
	else if (errno == EAGAIN || errno == EACCES)
		p9_put8(req, P9_LOCK_BLOCKED);
	else
		return -errno;
	return 0;
}

int p9_getlock(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	int type = lock_type(p9_u8(req));
	char who[NAME_MAX + 1];
	struct flock lock = { 0 };
	struct p9_fid *fid = NULL;
	int r = take_range(req, &lock, who);

	if (!r)
		r = type < 0 ? -EINVAL : find_open(p9, id, &fid);
	if (r)
		return r;
	/* Linux's client asks by F_UNLCK, whatever it is asked: any lock is in the way then. */
	lock.l_type = (short)(type == F_UNLCK ? F_WRLCK : type);
	if (fcntl(lock_fd(p9, fid), F_OFD_GETLK, &lock))
		return -errno;
	p9_put8(req, lock.l_type == F_UNLCK ? P9_LOCK_UNLCK : lock.l_type == F_RDLCK ? P9_LOCK_RDLCK : P9_LOCK_WRLCK);
	p9_put64(req, (uint64_t)lock.l_start);
	p9_put64(req, (uint64_t)lock.l_len);
	p9_put32(req, 0); /* nobody that the client knows */
	p9_put_text(req, who, strlen(who));
	return 0;
}
