/* SPDX-License-Identifier: BSD-2-Clause */
/* inner.h - what the parts of the 9P server share. */
#ifndef TRAPLINE_HOST_P9_INNER_H
#define TRAPLINE_HOST_P9_INNER_H

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "core/list.h"
#include "host/p9/p9.h"

/* Types of messages; each reply is one more. The protocol has no header in the kernel's interface. */
enum p9_type {
	P9_RLERROR = 7,
	P9_TSTATFS = 8,
	P9_TLOPEN = 12,
	P9_TLCREATE = 14,
	P9_TSYMLINK = 16,
	P9_TMKNOD = 18,
	P9_TRENAME = 20,
	P9_TREADLINK = 22,
	P9_TGETATTR = 24,
	P9_TSETATTR = 26,
	P9_TXATTRWALK = 30,
	P9_TXATTRCREATE = 32,
	P9_TREADDIR = 40,
	P9_TFSYNC = 50,
	P9_TLOCK = 52,
	P9_TGETLOCK = 54,
	P9_TLINK = 70,
	P9_TMKDIR = 72,
	P9_TRENAMEAT = 74,
	P9_TUNLINKAT = 76,
	P9_TVERSION = 100,
	P9_TAUTH = 102,
	P9_TATTACH = 104,
	P9_TFLUSH = 108,
	P9_TWALK = 110,
	P9_TREAD = 116,
	P9_TWRITE = 118,
	P9_TCLUNK = 120,
	P9_TREMOVE = 122,
};

#define P9_HEADER     7  /* size[4] type[1] tag[2] */
#define P9_READ_HEAD  11 /* and count[4]: before the data of Rread and Rreaddir */
#define P9_WRITE_HEAD 23 /* and fid[4] offset[8] count[4]: before the data of Twrite */
#define P9_IO_HEAD    24 /* what clients take off msize for both */
#define P9_MSIZE_MIN  4096
#define P9_WALK_MAX   16
#define P9_NO_FID     (~0U)
#define P9_NO_UID     (~0U)
#define P9_NO_TAG     0xffff
#define P9_QID        13 /* bytes of one: type[1] version[4] path[8] */

#define P9_FIDS  (1U << 17)  /* at most */
#define P9_HASH  (1U << 13)  /* a power of two */
#define P9_BYTES (32U << 20) /* of paths and extended attributes that a client can make us keep, in all */

enum p9_kind {
	FID_PATH,    /* named, not opened: fd is O_PATH, or -1 and `path` tells where it was */
	FID_OPEN,    /* fd reads or writes: a regular file or a directory */
	FID_XATTR,   /* the value of an extended attribute, or their list, to be read */
	FID_XATTR_W, /* one that is written and set when the fid goes */
};

struct p9_xattr {
	char name[NAME_MAX + 1];
	uint32_t size, have; /* bytes: in all, written so far */
	uint32_t flags;
	uint8_t value[];
};

struct p9_fid {
	struct p9_fid *next; /* of its hash chain */
	struct list lru;     /* p9.lru: those whose fd may be closed for a while */
	uint32_t id, uid;    /* uid: who attached; P9_NO_UID: nobody known */
	enum p9_kind kind;
	int fd, lock_fd; /* -1: none */
	uint32_t flags;  /* opened with, P9_L_* */
	int64_t dir_at;  /* where the directory's descriptor stands */
	uint64_t used;   /* p9.request that had it last */
	dev_t dev;       /* with ino and mode's type: what it is, for life */
	ino_t ino;
	mode_t mode;
	char *path; /* below the root, while fd is -1 */
	struct p9_xattr *xattr;
};

struct p9 {
	int root;
	dev_t root_dev;
	ino_t root_ino;
	bool ro, lax;
	uint32_t msize; /* negotiated; 0: not yet */
	uint64_t faults, request;
	unsigned nr_fids, fds, max_fds; /* fds: that fids hold */
	unsigned parked;                /* fids whose fd is closed */
	uint64_t bytes;
	struct list lru; /* oldest first */
	struct p9_fid *hash[P9_HASH];
	struct iovec iov[IOV_MAX];
	char path[PATH_MAX], path2[PATH_MAX];
	uint8_t head[16 << 10]; /* a message without its data */
	uint8_t reply[32 << 10];
	uint8_t dents[32 << 10] __attribute__((aligned(8)));
};

/* A request while it is served. */
struct p9_req {
	struct p9 *p9;
	const struct p9_io *io;
	uint8_t type;
	uint16_t tag;
	uint32_t size;           /* as the message says */
	const uint8_t *at, *end; /* what is not parsed yet */
	int bad;                 /* the first thing wrong with what was parsed: -errno */
	uint32_t len;            /* of p9->reply, the header included */
	uint32_t direct;         /* bytes of data that were put into io->in behind it */
};

/* wire.c: fields in and out. What is short, or not legal as a name, sets `bad`; zeros and "" come then. */
uint8_t p9_u8(struct p9_req *req);
uint16_t p9_u16(struct p9_req *req);
uint32_t p9_u32(struct p9_req *req);
uint64_t p9_u64(struct p9_req *req);
/* A string without NUL bytes, shorter than `size`. */
void p9_text(struct p9_req *req, char *text, size_t size);
/* One component of a path: neither empty, nor with a slash, nor "." or "..". */
void p9_name(struct p9_req *req, char name[static NAME_MAX + 1]);
/* All fields were there and good, and there are no more: 0 or -errno. */
int p9_parsed(struct p9_req *req) __attribute__((warn_unused_result));
void p9_put8(struct p9_req *req, uint8_t value);
void p9_put16(struct p9_req *req, uint16_t value);
void p9_put32(struct p9_req *req, uint32_t value);
void p9_put64(struct p9_req *req, uint64_t value);
void p9_put_text(struct p9_req *req, const char *text, size_t len);
void p9_put_qid(struct p9_req *req, const struct stat *st);
/* `len` bytes from `offset` of pieces, as pieces in p9->iov; how many there are. */
int p9_slice(struct p9 *p9, const struct iovec *iov, unsigned n, uint64_t offset, uint64_t len);
void p9_gather(const struct iovec *iov, unsigned n, uint64_t offset, void *buf, uint64_t len);
void p9_scatter(const struct iovec *iov, unsigned n, uint64_t offset, const void *buf, uint64_t len);
/* The most data that a reply with P9_READ_HEAD has room for. */
uint32_t p9_room(const struct p9_req *req, uint32_t count);

/* fid.c */
/* A fid and, for FID_PATH, its descriptor, opened again if need be. 0, or -EBADF: unknown; -ESTALE: gone. */
int p9_find(struct p9 *p9, uint32_t id, struct p9_fid **fid) __attribute__((warn_unused_result));
/* Likewise one that is no extended attribute's. */
int p9_find_file(struct p9 *p9, uint32_t id, struct p9_fid **fid) __attribute__((warn_unused_result));
/* Likewise a directory. */
int p9_find_dir(struct p9 *p9, uint32_t id, struct p9_fid **fid) __attribute__((warn_unused_result));
bool p9_known(struct p9 *p9, uint32_t id);
/* A new fid with `fd`, which is its own, or on failure closed. */
int p9_add(struct p9 *p9, uint32_t id, int fd, uint32_t uid, struct p9_fid **fid) __attribute__((warn_unused_result));
/* Its descriptor from now on, opened for I/O or O_PATH; `fd` is closed on failure. */
int p9_set_fd(struct p9 *p9, struct p9_fid *fid, int fd, enum p9_kind kind) __attribute__((warn_unused_result));
int p9_drop(struct p9 *p9, struct p9_fid *fid); /* what close() said: 0 or -errno */
void p9_drop_all(struct p9 *p9);
/* Takes `n` bytes off what a client can make us keep: 0 or -ENOMEM. */
int p9_charge(struct p9 *p9, uint64_t n) __attribute__((warn_unused_result));
/* openat() with O_CLOEXEC, and descriptors of other fids are closed when there are none left. */
int p9_openat(struct p9 *p9, int dir, const char *name, int flags, mode_t mode) __attribute__((warn_unused_result));
/* A name below a directory, as O_PATH, not followed; ".." of the root is the root. A descriptor or -errno. */
int p9_step(struct p9 *p9, int dir, const char *name) __attribute__((warn_unused_result));
/* A path below the root, no component of which is a link, as O_PATH. */
int p9_beneath(struct p9 *p9, const char *path, int flags) __attribute__((warn_unused_result));
/* "/proc/self/fd/N", by which calls that take no O_PATH descriptor get at what it is, link or not. */
#define P9_MAGIC 32
const char *p9_magic(int fd, char text[static P9_MAGIC]);
/* Where a descriptor's file is now, below the root: 0 or -errno. */
int p9_path(struct p9 *p9, int fd, char path[static PATH_MAX]) __attribute__((warn_unused_result));
/* Its directory and its name in there: a descriptor that is the caller's, or -errno. */
int p9_locate(struct p9 *p9, const struct p9_fid *fid, char name[static NAME_MAX + 1])
	__attribute__((warn_unused_result));
/* renameat(), after which parked fids still find what was moved. */
int p9_rename(struct p9 *p9, int old_dir, const char *old_name, int new_dir, const char *new_name)
	__attribute__((warn_unused_result));
bool p9_is_root(const struct p9 *p9, const struct stat *st);

/* The messages: 0, or -errno for Rlerror. */
typedef int p9_handler(struct p9 *p9, struct p9_req *req);
p9_handler p9_lopen, p9_lcreate, p9_read, p9_write, p9_fsync, p9_lock, p9_getlock; /* file.c */
p9_handler p9_readdir, p9_symlink, p9_mknod, p9_mkdir, p9_link, p9_renamefid, p9_renameat, p9_unlinkat, p9_remove;
p9_handler p9_getattr, p9_setattr, p9_statfs, p9_readlink, p9_xattrwalk, p9_xattrcreate; /* attr.c */
/* For clunk: sets the attribute that was written. */
int p9_xattr_set(struct p9_fid *fid);
/*
 * What was just made, by its descriptor, gets its owner and mode. `type`: what it has to be, S_IF*, lest it be
 * something that another process has put in its place.
 */
int p9_adopt(struct p9 *p9, const struct p9_fid *dir, int fd, mode_t type, uint32_t mode, uint32_t gid, struct stat *st)
	__attribute__((warn_unused_result));

#endif
