/* SPDX-License-Identifier: BSD-2-Clause */
/* server.c - the 9P server's life, its table of messages, and those that are about the connection itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/files.h"
#include "host/p9/inner.h"

#define FDS_MIN 16
#define FDS_MAX (64U << 10)

static int open_root(struct p9 *p9, const char *path, struct error *err)
{
	char magic[P9_MAGIC], to[2];
	struct stat st;
	int fd;

	p9->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p9->root < 0 || fstat(p9->root, &st))
		return error_set(err, -errno, "cannot open the folder '%s': %s", path, strerror(errno));
	if (faccessat(p9->root, ".", R_OK | X_OK, AT_EACCESS))
		return error_set(err, -errno, "cannot read the folder '%s': %s", path, strerror(errno));
	p9->root_dev = st.st_dev;
	p9->root_ino = st.st_ino;
	fd = p9_beneath(p9, "", O_DIRECTORY);
	if (fd < 0) {
		error_set(err, fd, "the folder '%s' cannot be shared safely: openat2: %s", path, strerror(-fd));
		error_hint(err, "it takes Linux 5.6 or newer");
		return fd;
	}
	close(fd);
	if (readlink(p9_magic(p9->root, magic), to, sizeof(to)) < 0) {
		error_set(err, -errno, "the folder '%s' cannot be shared: %s: %s", path, magic, strerror(errno));
		error_hint(err, "mount /proc");
		return -ENOSYS;
	}
	return 0;
}

int p9_open(const struct p9_config *config, struct p9 **out, struct error *err)
{
	struct p9 *p9 = calloc(1, sizeof(*p9));
	int r;

	if (!p9)
		return error_set(err, -ENOMEM, "no memory for the folder '%s'", config->path);
	list_init(&p9->lru);
	p9->ro = config->ro;
	p9->lax = config->lax;
	p9->max_fds = config->max_fds ? config->max_fds : files_share(config->sharers, FDS_MIN, FDS_MAX);
	r = open_root(p9, config->path, err);
	if (r) {
		p9_close(p9);
		return r;
	}
	*out = p9;
	return 0;
}

void p9_close(struct p9 *p9)
{
	if (!p9)
		return;
	p9_drop_all(p9);
	if (p9->root >= 0)
		close(p9->root);
	free(p9);
}

void p9_reset(struct p9 *p9)
{
	p9_drop_all(p9);
	p9->msize = 0;
}

uint64_t p9_faults(const struct p9 *p9)
{
	return __atomic_load_n(&p9->faults, __ATOMIC_RELAXED);
}

static int version(struct p9 *p9, struct p9_req *req)
{
	static const char ours[] = "9P2000.L";
	char theirs[64];
	uint32_t msize = p9_u32(req);
	bool known;
	int r;

	p9_text(req, theirs, sizeof(theirs));
	r = p9_parsed(req);
	if (r)
		return r;
	p9_reset(p9);
	if (msize < P9_MSIZE_MIN)
		return -EINVAL;
	msize = msize < P9_MSIZE_MAX ? msize : P9_MSIZE_MAX;
	known = strcmp(theirs, ours) == 0;
	if (known)
		p9->msize = msize;
	p9_put32(req, msize);
	p9_put_text(req, known ? ours : "unknown", known ? sizeof(ours) - 1 : 7);
	return 0;
}

/* Clients take the error for: none is needed. */
static int auth(struct p9 *p9, struct p9_req *req)
{
	char user[NAME_MAX + 1];

	p9_u32(req);
	p9_text(req, user, sizeof(user));
	p9_text(req, p9->path, sizeof(p9->path));
	p9_u32(req);
	return p9_parsed(req) ? req->bad : -EOPNOTSUPP;
}

static int attach(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), afid = p9_u32(req), uid;
	char user[NAME_MAX + 1];
	char *tree = p9->path;
	struct p9_fid *fid = NULL;
	struct stat st;
	int r, fd;

	p9_text(req, user, sizeof(user));
	p9_text(req, tree, sizeof(p9->path));
	uid = p9_u32(req);
	r = p9_parsed(req);
	if (r)
		return r;
	if (afid != P9_NO_FID)
		return -EINVAL;
	fd = p9_beneath(p9, tree + strspn(tree, "/"), O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = p9_add(p9, id, fd, uid, &fid);
	if (r)
		return r;
	if (fstat(fid->fd, &st))
		return -errno;
	p9_put_qid(req, &st);
	return 0;
}

/* Requests are served one after the other, so the one that was flushed is over. */
static int flush(struct p9 *p9, struct p9_req *req)
{
	p9_u16(req);
	return p9_parsed(req);
}

/* As far as it goes. A descriptor of the end, or -errno; *n: how many steps, with their qids in the reply. */
static int walk_names(struct p9 *p9, struct p9_req *req, int from, const char (*names)[NAME_MAX + 1], unsigned *n)
{
	unsigned wanted = *n;
	char magic[P9_MAGIC];
	struct stat st;
	int fd = from, next;

	if (!wanted)
		return p9_openat(p9, AT_FDCWD, p9_magic(from, magic), O_PATH, 0);
	for (*n = 0; *n < wanted; ++*n) {
		next = p9_step(p9, fd, names[*n]);
		if (fd != from)
			close(fd);
		fd = next;
		if (fd < 0)
			return fd;
		if (fstat(fd, &st)) {
			close(fd);
			return -EIO;
		}
		p9_put_qid(req, &st);
	}
	return fd;
}

static void walk_fields(struct p9_req *req, char (*names)[NAME_MAX + 1], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		p9_text(req, names[i], sizeof(names[i]));
		if (!req->bad && (!names[i][0] || strchr(names[i], '/') || strcmp(names[i], ".") == 0))
			req->bad = -EINVAL;
	}
}

static int walk(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req), new_id = p9_u32(req);
	unsigned n = p9_u16(req), done = n, count_at = req->len;
	char names[P9_WALK_MAX][NAME_MAX + 1];
	struct p9_fid *fid = NULL, *made = NULL;
	int r, fd;

	if (n > P9_WALK_MAX)
		return -EINVAL;
	walk_fields(req, names, n);
	r = p9_parsed(req);
	if (!r)
		r = p9_find_file(p9, id, &fid);
	if (r)
		return r;
	if (id == new_id ? fid->kind != FID_PATH : p9_known(p9, new_id) || new_id == P9_NO_FID)
		return -EINVAL;
	p9_put16(req, 0);
	fd = walk_names(p9, req, fid->fd, (const char(*)[NAME_MAX + 1]) names, &done);
	if (fd < 0 && !done)
		return fd;
	p9->reply[count_at] = (uint8_t)done;
	if (fd < 0)
		return 0; /* part of the way, and no new fid */
	return id == new_id ? p9_set_fd(p9, fid, fd, FID_PATH) : p9_add(p9, new_id, fd, fid->uid, &made);
}

static int clunk(struct p9 *p9, struct p9_req *req)
{
	uint32_t id = p9_u32(req);
	struct p9_fid *fid = NULL;
	int r = p9_parsed(req), closed;

	if (r)
		return r;
	r = p9_find(p9, id, &fid);
	if (r == -EBADF)
		return r;
	/* One that is parked and stale goes like any other. */
	r = r == 0 && fid->kind == FID_XATTR_W ? p9_xattr_set(fid) : 0;
	closed = p9_drop(p9, fid);
	return r ? r : closed;
}

static const struct {
	p9_handler *handle;
	bool changes; /* always, whatever its fields say */
} messages[256] = {
	[P9_TSTATFS] = { p9_statfs, false },
	[P9_TLOPEN] = { p9_lopen, false },
	[P9_TLCREATE] = { p9_lcreate, true },
	[P9_TSYMLINK] = { p9_symlink, true },
	[P9_TMKNOD] = { p9_mknod, true },
	[P9_TRENAME] = { p9_renamefid, true },
	[P9_TREADLINK] = { p9_readlink, false },
	[P9_TGETATTR] = { p9_getattr, false },
	[P9_TSETATTR] = { p9_setattr, true },
	[P9_TXATTRWALK] = { p9_xattrwalk, false },
	[P9_TXATTRCREATE] = { p9_xattrcreate, true },
	[P9_TREADDIR] = { p9_readdir, false },
	[P9_TFSYNC] = { p9_fsync, false },
	[P9_TLOCK] = { p9_lock, false },
	[P9_TGETLOCK] = { p9_getlock, false },
	[P9_TLINK] = { p9_link, true },
	[P9_TMKDIR] = { p9_mkdir, true },
	[P9_TRENAMEAT] = { p9_renameat, true },
	[P9_TUNLINKAT] = { p9_unlinkat, true },
	[P9_TVERSION] = { version, false },
	[P9_TAUTH] = { auth, false },
	[P9_TATTACH] = { attach, false },
	[P9_TFLUSH] = { flush, false },
	[P9_TWALK] = { walk, false },
	[P9_TREAD] = { p9_read, false },
	[P9_TWRITE] = { p9_write, true },
	[P9_TCLUNK] = { clunk, false },
	[P9_TREMOVE] = { p9_remove, true },
};

/* The message's head into p9->head. 0 or -errno: it is none. */
static int take_message(struct p9 *p9, const struct p9_io *io, struct p9_req *req)
{
	uint64_t have = io->out_len < sizeof(p9->head) ? io->out_len : sizeof(p9->head);

	req->tag = P9_NO_TAG;
	if (have < P9_HEADER)
		return -EPROTO;
	p9_gather(io->out, io->nr_out, 0, p9->head, have);
	req->at = p9->head;
	req->end = p9->head + have;
	req->size = p9_u32(req);
	req->type = p9_u8(req);
	req->tag = p9_u16(req);
	if (req->size < P9_HEADER || req->size > io->out_len)
		return -EPROTO;
	if (io->out_len > (p9->msize ? p9->msize : P9_MSIZE_MIN))
		return -EMSGSIZE;
	/* The data of a write is not of the head, and where it is not, all of it has to be here. */
	if (req->type != P9_TWRITE && req->size > have)
		return -EMSGSIZE;
	if (req->size < have)
		req->end = p9->head + req->size;
	if (!p9->msize && req->type != P9_TVERSION)
		return -EPROTO;
	return 0;
}

static int dispatch(struct p9 *p9, struct p9_req *req)
{
	if (!messages[req->type].handle)
		return -EOPNOTSUPP;
	if (p9->ro && messages[req->type].changes) {
		/* A fid that is removed is gone in any case. */
		struct p9_fid *fid;
		uint32_t id = req->type == P9_TREMOVE ? p9_u32(req) : P9_NO_FID;

		if (req->type == P9_TREMOVE && !req->bad && p9_find(p9, id, &fid) != -EBADF)
			p9_drop(p9, fid);
		return -EROFS;
	}
	return messages[req->type].handle(p9, req);
}

uint32_t p9_serve(struct p9 *p9, const struct p9_io *io)
{
	struct p9_req req = { .p9 = p9, .io = io, .len = P9_HEADER };
	uint32_t len;
	int r;

	p9->request++;
	if (io->in_len < P9_READ_HEAD) {
		__atomic_fetch_add(&p9->faults, 1, __ATOMIC_RELAXED);
		return 0;
	}
	r = take_message(p9, io, &req);
	if (!r)
		r = dispatch(p9, &req);
	if (r == -EPROTO || req.bad)
		__atomic_fetch_add(&p9->faults, 1, __ATOMIC_RELAXED);
	len = req.len + req.direct;
	if (!r && (len > io->in_len || (p9->msize && len > p9->msize)))
		r = -EMSGSIZE;
	if (r) {
		req.len = P9_HEADER;
		p9_put32(&req, (uint32_t)-r);
		len = req.len;
	}
	req.len = 0;
	p9_put32(&req, len);
	p9_put8(&req, r ? P9_RLERROR : (uint8_t)(req.type + 1));
	p9_put16(&req, req.tag);
	p9_scatter(io->in, io->nr_in, 0, p9->reply, len - (r ? 0 : req.direct));
	return len;
}
