/* SPDX-License-Identifier: BSD-2-Clause */
/* test_p9.c - the 9P server, message by message, as a client that keeps to the protocol sees it. */
#include "p9_client.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static uint64_t qid_path(struct client *c)
{
	number(c, 5);
	return number(c, 8);
}

static void attributes(struct client *c, uint32_t fid, struct stat *st)
{
	assert_int_equal(call(c, P9_TGETATTR, "dq", fid, UINT64_C(0x7ff)), 0);
	assert_int_equal(number(c, 8) & 0x7ff, 0x7ff);
	*st = (struct stat){ .st_ino = qid_path(c) };
	st->st_mode = (mode_t)number(c, 4);
	st->st_uid = (uid_t)number(c, 4);
	st->st_gid = (gid_t)number(c, 4);
	st->st_nlink = number(c, 8);
	st->st_rdev = number(c, 8);
	st->st_size = (off_t)number(c, 8);
	number(c, 8);
	number(c, 8);
	st->st_atim.tv_sec = (time_t)number(c, 8);
	st->st_atim.tv_nsec = (long)number(c, 8);
	st->st_mtim.tv_sec = (time_t)number(c, 8);
	st->st_mtim.tv_nsec = (long)number(c, 8);
	number(c, 8), number(c, 8), number(c, 8), number(c, 8), number(c, 8), number(c, 8);
	assert_int_equal(c->at, c->reply_len);
}

static void reads(struct client *c, uint32_t fid, uint64_t offset, const char *text)
{
	assert_int_equal(call(c, P9_TREAD, "dqd", fid, offset, 4096), 0);
	assert_int_equal(number(c, 4), strlen(text));
	assert_memory_equal(c->reply + c->at, text, strlen(text));
	assert_int_equal(c->reply_len, c->at + strlen(text));
}

static void version_and_attach(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	/* A new version forgets all fids. */
	assert_int_equal(clone_fid(c, 0, 1), 0);
	assert_int_equal(call(c, P9_TVERSION, "ds", 1U << 30, "9P2000.L"), 0);
	assert_int_equal(number(c, 4), P9_MSIZE_MAX);
	assert_int_equal(clunk_fid(c, 0), EBADF);
	assert_int_equal(clunk_fid(c, 1), EBADF);
	assert_int_equal(call(c, P9_TVERSION, "ds", MSIZE, "9P2000.u"), 0);
	number(c, 4);
	assert_int_equal(number(c, 2), 7);
	assert_memory_equal(c->reply + c->at, "unknown", 7);
	/* And without one, nothing goes. */
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 0, P9_NO_FID, "root", "", 0), EPROTO);
	assert_int_equal(call(c, P9_TVERSION, "ds", 4095, "9P2000.L"), EINVAL);
	hello(c);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 0, P9_NO_FID, "root", "", 0), EINVAL);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 5, 4, "root", "", 0), EINVAL);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 5, P9_NO_FID, "root", "/dir", 0), 0);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 6, P9_NO_FID, "root", "../secret", 0), EXDEV);
	assert_int_equal(call(c, P9_TATTACH, "ddssd", 6, P9_NO_FID, "root", "file", 0), ENOTDIR);
	assert_int_equal(call(c, P9_TAUTH, "dssd", 9, "root", "", 0), EOPNOTSUPP);
	assert_int_equal(call(c, P9_TFLUSH, "w", 3), 0);
	client_close(c);
}

static void walks(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	uint64_t root, dir;

	assert_int_equal(mkdirat(c->root, "dir/sub", 0755), 0);
	host_file(c->root, "dir/sub/leaf", "leaf");
	assert_int_equal(call(c, P9_TWALK, "ddwsss", 0, 1, 3, "dir", "sub", "leaf"), 0);
	assert_int_equal(number(c, 2), 3);
	dir = qid_path(c);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 0), 0);
	reads(c, 1, 0, "leaf");
	assert_int_equal(clunk_fid(c, 1), 0);
	/* Part of the way: no fid. */
	assert_int_equal(call(c, P9_TWALK, "ddwsss", 0, 1, 3, "dir", "none", "leaf"), 0);
	assert_int_equal(number(c, 2), 1);
	assert_int_equal(qid_path(c), dir);
	assert_int_equal(c->at, c->reply_len);
	assert_int_equal(clunk_fid(c, 1), EBADF);
	assert_int_equal(walk1(c, 0, 1, "none"), ENOENT);
	/* Up, and never above the root. */
	assert_int_equal(call(c, P9_TWALK, "ddwsssss", 0, 1, 5, "dir", "sub", "..", "..", ".."), 0);
	assert_int_equal(number(c, 2), 5);
	number(c, 13), number(c, 13);
	assert_int_equal(qid_path(c), dir);
	root = qid_path(c);
	assert_int_equal(qid_path(c), root);
	assert_int_equal(walk1(c, 1, 1, "file"), 0);
	assert_int_equal(walk1(c, 1, 2, "x"), ENOTDIR);
	assert_int_equal(walk1(c, 0, 1, "file"), EINVAL); /* in use */
	assert_int_equal(walk1(c, 0, P9_NO_FID, "file"), EINVAL);
	client_close(c);
}

static void makes_and_reads(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st;

	assert_int_equal(create(c, 0, 1, "new", 04751), 0);
	number(c, 13);
	assert_int_equal(number(c, 4) % 4096, 0);
	assert_int_equal(write_at(c, 1, 0, "0123456789", 10), 0);
	assert_int_equal(write_at(c, 1, 4, "abc", 3), 0);
	reads(c, 1, 2, "23abc789");
	reads(c, 1, 10, "");
	attributes(c, 1, &st);
	assert_int_equal(st.st_mode, S_IFREG | 04751);
	assert_int_equal(st.st_size, 10);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(call(c, P9_TFSYNC, "dd", 1, 1), 0);
	assert_int_equal(call(c, P9_TFSYNC, "d", 1), 0);
	assert_int_equal(clunk_fid(c, 1), 0);
	/* There already: opened as it is, or refused. */
	assert_int_equal(create(c, 0, 1, "new", 0600), 0);
	attributes(c, 1, &st);
	assert_int_equal(st.st_mode, S_IFREG | 04751);
	assert_int_equal(clone_fid(c, 0, 2), 0);
	assert_int_equal(call(c, P9_TLCREATE, "dsddd", 2, "new", 0202, 0600, 0), EEXIST);
	/* Append, and truncate. */
	assert_int_equal(walk1(c, 2, 3, "new"), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 3, 02001), 0);
	assert_int_equal(write_at(c, 3, 0, "end", 3), 0);
	reads(c, 1, 0, "0123abc789end");
	assert_int_equal(call(c, P9_TREAD, "dqd", 3, UINT64_C(0), 1), EBADF);
	assert_int_equal(walk1(c, 2, 4, "new"), 0);
	assert_int_equal(call(c, P9_TREAD, "dqd", 4, UINT64_C(0), 1), EBADF);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 4, 01002), 0);
	reads(c, 1, 0, "");
	assert_int_equal(call(c, P9_TLOPEN, "dd", 4, 0), EINVAL); /* open already */
	client_close(c);
}

/* 100 MB of offset and all sizes up to the message's, byte by byte the same. */
static void moves_data(void **state)
{
	static const uint32_t sizes[] = { 1, 7, 4095, 4096, 4097, 60000, MSIZE - P9_WRITE_HEAD };
	struct client *c = client_open((struct p9_config){ 0 });
	uint8_t *data = malloc(MSIZE);

	assert_non_null(data);
	assert_int_equal(create(c, 0, 1, "data", 0644), 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (uint32_t at = 0; at < sizes[i]; at++)
			data[at] = (uint8_t)(at * 7 + at / 251 + i);
		assert_int_equal(write_at(c, 1, 100000000, data, sizes[i]), 0);
		assert_int_equal(call(c, P9_TREAD, "dqd", 1, UINT64_C(100000000), sizes[i]), 0);
		assert_int_equal(number(c, 4), sizes[i]);
		assert_memory_equal(c->reply + c->at, data, sizes[i]);
	}
	/* No more than there is room for. */
	c->room = 100;
	assert_int_equal(call(c, P9_TREAD, "dqd", 1, UINT64_C(100000000), 4096), 0);
	assert_int_equal(number(c, 4), 100 - P9_READ_HEAD);
	free(data);
	client_close(c);
}

static unsigned list_from(struct client *c, uint32_t fid, uint64_t *offset, uint32_t count, bool *seen, unsigned nr)
{
	unsigned n = 0;
	uint32_t end;

	assert_int_equal(call(c, P9_TREADDIR, "dqd", fid, *offset, count), 0);
	end = (uint32_t)number(c, 4);
	assert_true(end <= count);
	end += c->at;
	assert_int_equal(end, c->reply_len);
	for (; c->at < end; n++) {
		char name[NAME_MAX + 1] = "";
		unsigned index, len;

		number(c, 13);
		*offset = number(c, 8);
		number(c, 1);
		len = (unsigned)number(c, 2);
		memcpy(name, c->reply + c->at, len);
		c->at += len;
		if (sscanf(name, "entry-%u", &index) == 1 && index < nr) {
			assert_false(seen[index]);
			seen[index] = true;
		}
	}
	return n;
}

/* Each name once, though names beside them come and go between the calls. */
static void lists(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	enum { NR = 1000 };
	bool seen[NR] = { false };
	uint64_t offset = 0;
	unsigned calls = 0;
	char name[64];

	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "dir/entry-%u", i);
		host_file(c->root, name, "");
	}
	assert_int_equal(walk1(c, 0, 1, "dir"), 0);
	assert_int_equal(call(c, P9_TREADDIR, "dqd", 1, UINT64_C(0), 4096), EBADF);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 0200000), 0);
	while (list_from(c, 1, &offset, 1000, seen, NR)) {
		snprintf(name, sizeof(name), "dir/other-%u", calls++);
		host_file(c->root, name, "");
		if (calls % 2)
			assert_int_equal(unlinkat(c->root, name, 0), 0);
		assert_true(calls < 2 * NR);
	}
	for (unsigned i = 0; i < NR; i++)
		assert_true(seen[i]);
	/* Not even one fits. */
	assert_int_equal(call(c, P9_TREADDIR, "dqd", 1, UINT64_C(0), 20), EINVAL);
	assert_int_equal(walk1(c, 0, 2, "file"), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 2, 0200000), ENOTDIR);
	client_close(c);
}

static void names_and_links(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st, host;

	assert_int_equal(call(c, P9_TMKDIR, "dsdd", 0, "made", 01777, 0), 0);
	assert_int_equal(call(c, P9_TMKDIR, "dsdd", 0, "made", 0755, 0), EEXIST);
	assert_int_equal(fstatat(c->root, "made", &host, 0), 0);
	assert_int_equal(host.st_mode, S_IFDIR | 01777);
	assert_int_equal(call(c, P9_TSYMLINK, "dssd", 0, "link", "../secret", 0), 0);
	assert_int_equal(number(c, 1), 2);
	assert_int_equal(walk1(c, 0, 1, "link"), 0);
	assert_int_equal(call(c, P9_TREADLINK, "d", 1), 0);
	assert_int_equal(number(c, 2), 9);
	assert_memory_equal(c->reply + c->at, "../secret", 9);
	assert_int_equal(walk1(c, 0, 2, "file"), 0);
	assert_int_equal(call(c, P9_TREADLINK, "d", 2), EINVAL);
	assert_int_equal(call(c, P9_TLINK, "dds", 0, 2, "second"), 0);
	assert_int_equal(call(c, P9_TLINK, "dds", 0, 1, "link2"), 0);
	attributes(c, 2, &st);
	assert_int_equal(st.st_nlink, 2);
	attributes(c, 1, &st);
	assert_int_equal(st.st_nlink, 2);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 0, "second", 0, "third"), 0);
	assert_int_equal(walk1(c, 0, 3, "made"), 0);
	assert_int_equal(call(c, P9_TRENAME, "dds", 2, 3, "moved"), 0);
	assert_int_equal(faccessat(c->root, "made/moved", F_OK, 0), 0);
	assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, "made", 0x200), ENOTEMPTY);
	assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, "made", 0), EISDIR);
	assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, "third", 0x100), EINVAL);
	assert_int_equal(call(c, P9_TREMOVE, "d", 2), 0);
	assert_int_equal(clunk_fid(c, 2), EBADF);
	assert_int_equal(call(c, P9_TREMOVE, "d", 3), 0);
	assert_int_equal(faccessat(c->root, "made", F_OK, 0), -1);
	assert_int_equal(call(c, P9_TREMOVE, "d", 0), EBUSY);
	client_close(c);
}

static void special_files(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st;

	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "pipe", S_IFIFO | 0666, 0, 0, 0), 0);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "sock", S_IFSOCK | 0600, 0, 0, 0), 0);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "plain", S_IFREG | 0640, 0, 0, 0), 0);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "null", S_IFCHR | 0666, 1, 3, 0), EPERM);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "disk", S_IFBLK | 0666, 8, 0, 0), EPERM);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "what", S_IFDIR | 0666, 8, 0, 0), EPERM);
	assert_int_equal(fstatat(c->root, "pipe", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0666);
	/* None of them is opened, and none holds us up. */
	assert_int_equal(walk1(c, 0, 1, "pipe"), 0);
	assert_int_equal(walk1(c, 0, 2, "sock"), 0);
	for (unsigned fid = 1; fid <= 2; fid++) {
		for (unsigned access = 0; access < 3; access++)
			assert_int_equal(call(c, P9_TLOPEN, "dd", fid, access), ENXIO);
	}
	assert_int_equal(create(c, 0, 3, "pipe", 0600), ENXIO);
	assert_int_equal(call(c, P9_TSETATTR,
				 "ddddd"
				 "q"
				 "qqqq",
				 1, 8, 0, 0, 0, (uint64_t)0, (uint64_t)0, (uint64_t)0, (uint64_t)0, (uint64_t)0),
		EINVAL);
	if (geteuid() == 0 && mknodat(c->root, "dev", S_IFCHR | 0666, makedev(1, 5)) == 0) {
		assert_int_equal(walk1(c, 0, 4, "dev"), 0);
		assert_int_equal(call(c, P9_TLOPEN, "dd", 4, 0), ENXIO);
		attributes(c, 4, &st);
		assert_int_equal(st.st_rdev, makedev(1, 5));
	}
	client_close(c);
}

static int setattr(struct client *c, uint32_t fid, unsigned valid, unsigned mode, unsigned uid, uint64_t size,
	uint64_t seconds, uint64_t ns)
{
	return call(c, P9_TSETATTR, "dddddqqqqq", fid, valid, mode, uid, uid, size, seconds, ns, seconds + 1, ns);
}

static void sets_attributes(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st;

	assert_int_equal(walk1(c, 0, 1, "file"), 0);
	assert_int_equal(setattr(c, 1, 0x1 | 0x8 | 0x1b0, 06754, 0, 3, 1000000000, 123456789), 0);
	attributes(c, 1, &st);
	assert_int_equal(st.st_mode, S_IFREG | 06754);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(st.st_atim.tv_sec, 1000000000);
	assert_int_equal(st.st_atim.tv_nsec, 123456789);
	assert_int_equal(st.st_mtim.tv_sec, 1000000001);
	assert_int_equal(setattr(c, 1, 0x20, 0, 0, 0, 5, 5), 0); /* now, whatever the fields say */
	attributes(c, 1, &st);
	assert_true(st.st_mtim.tv_sec > 1000000001);
	assert_int_equal(st.st_atim.tv_sec, 1000000000);
	assert_int_equal(setattr(c, 1, 0x1b0, 0, 0, 0, 5, 1000000000), EINVAL);
	assert_int_equal(setattr(c, 1, 0x8, 0, 0, UINT64_C(1) << 63, 0, 0), EFBIG);
	assert_int_equal(setattr(c, 0, 0x8, 0, 0, 0, 0, 0), EISDIR);
	assert_int_equal(setattr(c, 1, 0x6, 0, geteuid(), 0, 0, 0), 0);
	/* A file that was made unreadable is still its opener's to cut. */
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 2), 0);
	assert_int_equal(setattr(c, 1, 0x1, 0, 0, 0, 0, 0), 0);
	assert_int_equal(setattr(c, 1, 0x8, 0, 0, 1, 0, 0), 0);
	/* A link itself, not what it leads to. */
	assert_int_equal(symlinkat("../secret", c->root, "link"), 0);
	assert_int_equal(walk1(c, 0, 2, "link"), 0);
	assert_int_equal(setattr(c, 2, 0x1b0, 0, 0, 0, 77, 0), 0);
	attributes(c, 2, &st);
	assert_int_equal(st.st_atim.tv_sec, 77);
	assert_int_equal(setattr(c, 2, 0x1, 0, 0, 0, 0, 0), EOPNOTSUPP);
	assert_int_equal(setattr(c, 2, 0x8, 0, 0, 0, 0, 0), EINVAL);
	assert_int_equal(fstatat(c->top, "secret", &st, 0), 0);
	assert_int_equal(st.st_size, 6);
	assert_true(st.st_atim.tv_sec != 77);
	client_close(c);
}

static void owners(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st;

	if (geteuid() == 0) {
		assert_int_equal(call(c, P9_TATTACH, "ddssd", 10, P9_NO_FID, "user", "", 1234), 0);
		assert_int_equal(clone_fid(c, 10, 11), 0);
		assert_int_equal(call(c, P9_TLCREATE, "dsddd", 11, "theirs", 2, 04755, 4321), 0);
		attributes(c, 11, &st);
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(st.st_gid, 4321);
		assert_int_equal(st.st_mode, S_IFREG | 04755);
		assert_int_equal(call(c, P9_TSYMLINK, "dssd", 10, "link", "/", 4321), 0);
		assert_int_equal(fstatat(c->root, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(setattr(c, 11, 0x6, 0, 99, 0, 0, 0), 0);
		attributes(c, 11, &st);
		assert_int_equal(st.st_uid, 99);
		/* As somebody else: what is made is theirs, and no owner changes; lax, that is no error. */
		assert_int_equal(fchown(c->root, 65534, 65534), 0);
		assert_int_equal(seteuid(65534), 0);
		assert_int_equal(call(c, P9_TMKDIR, "dsdd", 10, "mine", 0755, 4321), 0);
		assert_int_equal(walk1(c, 10, 12, "mine"), 0);
		attributes(c, 12, &st);
		assert_int_equal(st.st_uid, 65534);
		assert_int_equal(setattr(c, 12, 0x2, 0, 1, 0, 0, 0), EPERM);
		c->p9->lax = true;
		assert_int_equal(setattr(c, 12, 0x2, 0, 1, 0, 0, 0), 0);
		attributes(c, 12, &st);
		assert_int_equal(st.st_uid, 65534);
		assert_int_equal(seteuid(0), 0);
	} else {
		assert_int_equal(setattr(c, 0, 0x2, 0, geteuid() + 1, 0, 0, 0), EPERM);
	}
	client_close(c);
}

/* A file without a name is still there for who has it. */
static void open_unlink_fstat(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct stat st;

	assert_int_equal(create(c, 0, 1, "gone", 0600), 0);
	assert_int_equal(walk1(c, 0, 2, "gone"), 0);
	assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, "gone", 0), 0);
	assert_int_equal(write_at(c, 1, 0, "still", 5), 0);
	for (unsigned fid = 1; fid <= 2; fid++) {
		attributes(c, fid, &st);
		assert_int_equal(st.st_size, 5);
		assert_int_equal(st.st_nlink, 0);
	}
	assert_int_equal(setattr(c, 2, 0x1, 0640, 0, 0, 0, 0), 0);
	assert_int_equal(clone_fid(c, 1, 3), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 3, 0), 0);
	reads(c, 3, 0, "still");
	assert_int_equal(call(c, P9_TREMOVE, "d", 2), ESTALE);
	assert_int_equal(clunk_fid(c, 1), 0);
	client_close(c);
}

static int lock(struct client *c, uint32_t fid, unsigned type, uint64_t start, uint64_t len)
{
	int r = call(c, P9_TLOCK, "dbdqqds", fid, type, 1, start, len, 42, "guest");

	return r ? -r : (int)number(c, 1);
}

static void locks(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct flock host = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	int fd = openat(c->root, "file", O_RDWR | O_CLOEXEC);

	assert_int_equal(walk1(c, 0, 1, "file"), 0);
	assert_int_equal(walk1(c, 0, 2, "file"), 0);
	assert_int_equal(lock(c, 1, 1, 0, 0), -EBADF);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 2), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 2, 0), 0); /* and yet may lock for writing, as flock() does */
	assert_int_equal(lock(c, 1, 1, 0, 10), 0);
	assert_int_equal(lock(c, 2, 1, 0, 10), 1); /* blocked, which is said at once */
	assert_int_equal(lock(c, 2, 1, 10, 10), 0);
	assert_int_equal(call(c, P9_TGETLOCK, "dbqqds", 2, 0, UINT64_C(0), UINT64_C(0), 42, "guest"), 0);
	assert_int_equal(number(c, 1), 1);
	assert_int_equal(number(c, 8), 0);
	assert_int_equal(number(c, 8), 10);
	/* As Linux asks, for any lock. */
	assert_int_equal(call(c, P9_TGETLOCK, "dbqqds", 2, 2, UINT64_C(5), UINT64_C(1), 42, "guest"), 0);
	assert_int_equal(number(c, 1), 1);
	assert_int_equal(lock(c, 1, 2, 0, 0), 0);
	assert_int_equal(call(c, P9_TGETLOCK, "dbqqds", 2, 0, UINT64_C(0), UINT64_C(0), 42, "guest"), 0);
	assert_int_equal(number(c, 1), 2);
	assert_int_equal(lock(c, 2, 1, 0, 0), 0);
	assert_int_equal(lock(c, 1, 0, 5, 1), 1);
	/* Between guests and the host, too; a fid that goes takes its locks along. */
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &host), -1);
	assert_int_equal(clunk_fid(c, 2), 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &host), 0);
	assert_int_equal(lock(c, 1, 0, 0, 0), 1);
	assert_int_equal(lock(c, 1, 3, 0, 0), -EINVAL);
	assert_int_equal(lock(c, 1, 0, UINT64_MAX, 0), -EINVAL);
	close(fd);
	client_close(c);
}

static void extended_attributes(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	char value[16] = "";
	uint64_t n;
	int fd = openat(c->root, "file", O_RDWR | O_CLOEXEC);

	if (fsetxattr(fd, "user.host", "x", 1, 0)) {
		close(fd);
		client_close(c);
		skip(); /* the file system of /tmp has none */
	}
	assert_int_equal(walk1(c, 0, 1, "file"), 0);
	assert_int_equal(clone_fid(c, 1, 2), 0);
	assert_int_equal(call(c, P9_TXATTRCREATE, "dsqd", 2, "user.guest", UINT64_C(5), 0), 0);
	assert_int_equal(write_at(c, 2, 0, "val", 3), 0);
	assert_int_equal(write_at(c, 2, 3, "ue!", 3), ENOSPC);
	assert_int_equal(write_at(c, 2, 3, "ue", 2), 0);
	assert_int_equal(clunk_fid(c, 2), 0);
	assert_int_equal(fgetxattr(fd, "user.guest", value, sizeof(value)), 5);
	assert_string_equal(value, "value");
	assert_int_equal(call(c, P9_TXATTRWALK, "dds", 1, 2, "user.guest"), 0);
	assert_int_equal(number(c, 8), 5);
	reads(c, 2, 0, "value");
	reads(c, 2, 3, "ue");
	assert_int_equal(clunk_fid(c, 2), 0);
	assert_int_equal(call(c, P9_TXATTRWALK, "dds", 1, 2, ""), 0);
	n = number(c, 8);
	assert_true(n >= sizeof("user.host") + sizeof("user.guest"));
	assert_int_equal(clunk_fid(c, 2), 0);
	assert_int_equal(call(c, P9_TXATTRWALK, "dds", 1, 2, "user.none"), ENODATA);
	/* Written in part, it is not set; empty for what there is removes it. */
	assert_int_equal(clone_fid(c, 1, 2), 0);
	assert_int_equal(call(c, P9_TXATTRCREATE, "dsqd", 2, "user.part", UINT64_C(5), 0), 0);
	assert_int_equal(write_at(c, 2, 0, "val", 3), 0);
	assert_int_equal(clunk_fid(c, 2), EINVAL);
	assert_int_equal(fgetxattr(fd, "user.part", value, sizeof(value)), -1);
	assert_int_equal(clone_fid(c, 1, 2), 0);
	assert_int_equal(call(c, P9_TXATTRCREATE, "dsqd", 2, "user.guest", UINT64_C(0), 2), 0);
	assert_int_equal(clunk_fid(c, 2), 0);
	assert_int_equal(fgetxattr(fd, "user.guest", value, sizeof(value)), -1);
	close(fd);
	client_close(c);
}

static void file_system(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	assert_int_equal(call(c, P9_TSTATFS, "d", 0), 0);
	assert_int_equal(number(c, 4), 0x01021997);
	assert_true(number(c, 4) >= 512);
	assert_true(number(c, 8) > 0);
	client_close(c);
}

static void read_only(void **state)
{
	struct client *c = client_open((struct p9_config){ .ro = true });

	assert_int_equal(walk1(c, 0, 1, "file"), 0);
	assert_int_equal(create(c, 0, 2, "new", 0600), EROFS);
	assert_int_equal(call(c, P9_TMKDIR, "dsdd", 0, "new", 0755, 0), EROFS);
	assert_int_equal(call(c, P9_TSYMLINK, "dssd", 0, "new", "x", 0), EROFS);
	assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, "new", S_IFIFO, 0, 0, 0), EROFS);
	assert_int_equal(call(c, P9_TLINK, "dds", 0, 1, "new"), EROFS);
	assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 0, "file", 0, "new"), EROFS);
	assert_int_equal(call(c, P9_TRENAME, "dds", 1, 0, "new"), EROFS);
	assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, "file", 0), EROFS);
	assert_int_equal(setattr(c, 1, 0x1, 0600, 0, 0, 0, 0), EROFS);
	assert_int_equal(call(c, P9_TXATTRCREATE, "dsqd", 1, "user.x", UINT64_C(1), 0), EROFS);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 1), EROFS);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 2), EROFS);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 01000), EROFS);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 1, 0), 0);
	reads(c, 1, 0, "hello");
	assert_int_equal(write_at(c, 1, 0, "x", 1), EROFS);
	assert_int_equal(call(c, P9_TREMOVE, "d", 1), EROFS);
	assert_int_equal(clunk_fid(c, 1), EBADF);
	assert_int_equal(faccessat(c->root, "file", F_OK, 0), 0);
	client_close(c);
}

/* A fid for each of many files with few descriptors; names that move take those without one along. */
static void more_fids_than_descriptors(void **state)
{
	struct client *c = client_open((struct p9_config){ .max_fds = 24 });
	enum { NR = 200 };
	struct stat st;
	char name[64], text[16];

	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "dir/f%u", i);
		snprintf(text, sizeof(text), "<%u>", i);
		host_file(c->root, name, text);
		assert_int_equal(call(c, P9_TWALK, "ddwss", 0, 100 + i, 2, "dir", name + 4), 0);
	}
	assert_true(c->p9->parked > NR - 24);
	assert_int_equal(mkdirat(c->root, "to", 0755), 0);
	assert_int_equal(walk1(c, 0, 1, "to"), 0);
	assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 0, "dir", 1, "elsewhere"), 0);
	assert_int_equal(walk1(c, 1, 2, "elsewhere"), 0);
	assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 2, "f7", 0, "f7"), 0);
	/* What the host does to a name is found out: no other file is taken for it. */
	assert_int_equal(renameat(c->root, "to/elsewhere/f8", c->root, "to/elsewhere/f9"), 0);
	for (unsigned i = 0; i < NR; i++) {
		int r = call(c, P9_TGETATTR, "dq", 100 + i, UINT64_C(0));

		assert_int_equal(r, i == 8 || i == 9 ? ESTALE : 0);
		if (r)
			continue;
		attributes(c, 100 + i, &st);
		assert_int_equal(st.st_size, snprintf(text, sizeof(text), "<%u>", i));
		assert_int_equal(clone_fid(c, 100 + i, 3), 0);
		assert_int_equal(call(c, P9_TLOPEN, "dd", 3, 0), 0);
		reads(c, 3, 0, text);
		assert_int_equal(clunk_fid(c, 3), 0);
	}
	for (unsigned i = 0; i < NR; i++)
		assert_int_equal(clunk_fid(c, 100 + i), 0);
	assert_int_equal(c->p9->nr_fids, 3);
	p9_reset(c->p9);
	assert_int_equal(c->p9->bytes, 0);
	assert_int_equal(c->p9->parked, 0);
	assert_int_equal(c->p9->fds, 0);
	client_close(c);
}

/* Open ones cannot be parked: there is an end, and it is no one's else. */
static void descriptors_end(void **state)
{
	struct client *c = client_open((struct p9_config){ .max_fds = 20 });
	unsigned n = 0;
	int r;

	do {
		r = walk1(c, 0, 100 + n, "file");
		if (!r)
			r = call(c, P9_TLOPEN, "dd", 100 + n, 0);
		n += !r;
	} while (!r);
	assert_int_equal(r, EMFILE);
	assert_int_equal(n, 19 + 1 - 1);
	assert_int_equal(clunk_fid(c, 100), 0);
	assert_int_equal(walk1(c, 0, 100, "file"), 0);
	client_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_and_attach),
		cmocka_unit_test(walks),
		cmocka_unit_test(makes_and_reads),
		cmocka_unit_test(moves_data),
		cmocka_unit_test(lists),
		cmocka_unit_test(names_and_links),
		cmocka_unit_test(special_files),
		cmocka_unit_test(sets_attributes),
		cmocka_unit_test(owners),
		cmocka_unit_test(open_unlink_fstat),
		cmocka_unit_test(locks),
		cmocka_unit_test(extended_attributes),
		cmocka_unit_test(file_system),
		cmocka_unit_test(read_only),
		cmocka_unit_test(more_fids_than_descriptors),
		cmocka_unit_test(descriptors_end),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
