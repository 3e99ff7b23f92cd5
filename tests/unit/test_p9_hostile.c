/* SPDX-License-Identifier: BSD-2-Clause */
/* test_p9_hostile.c - the 9P server under clients that lie, and beside processes that move directories meanwhile. */
#include "p9_client.h"

#include <pthread.h>
#include <stdatomic.h>

/* One good message of each type, fids 0 to 3 as they come: the root, a file, an open file, an open directory. */
static const struct {
	uint8_t type;
	const char *fmt;
	uint64_t field[10];
	const char *text[2];
} good[] = {
	{ P9_TSTATFS, "d", { 0 }, { NULL } },
	{ P9_TLOPEN, "dd", { 1, 0 }, { NULL } },
	{ P9_TLCREATE, "dsddd", { 0, 2, 0644, 0 }, { "new" } },
	{ P9_TSYMLINK, "dssd", { 0, 0 }, { "sym", "target" } },
	{ P9_TMKNOD, "dsdddd", { 0, S_IFIFO | 0600, 0, 0, 0 }, { "node" } },
	{ P9_TRENAME, "dds", { 1, 0 }, { "renamed" } },
	{ P9_TREADLINK, "d", { 1 }, { NULL } },
	{ P9_TGETATTR, "dq", { 1, 0x7ff }, { NULL } },
	{ P9_TSETATTR, "dddddqqqqq", { 1, 1, 0644 }, { NULL } },
	{ P9_TXATTRWALK, "dds", { 1, 9 }, { "user.x" } },
	{ P9_TXATTRCREATE, "dsqd", { 1, 5, 0 }, { "user.x" } },
	{ P9_TREADDIR, "dqd", { 3, 0, 4096 }, { NULL } },
	{ P9_TFSYNC, "dd", { 2, 0 }, { NULL } },
	{ P9_TLOCK, "dbdqqds", { 2, 0, 0, 0, 0, 1 }, { "client" } },
	{ P9_TGETLOCK, "dbqqds", { 2, 0, 0, 0, 1 }, { "client" } },
	{ P9_TLINK, "dds", { 0, 1 }, { "hard" } },
	{ P9_TMKDIR, "dsdd", { 0, 0755, 0 }, { "made" } },
	{ P9_TRENAMEAT, "dsds", { 0, 0 }, { "file", "file2" } },
	{ P9_TUNLINKAT, "dsd", { 0, 0 }, { "file2" } },
	{ P9_TAUTH, "dssd", { 7, 0 }, { "u", "a" } },
	{ P9_TATTACH, "ddssd", { 8, P9_NO_FID, 0 }, { "u", "" } },
	{ P9_TFLUSH, "w", { 1 }, { NULL } },
	{ P9_TWALK, "ddwss", { 0, 10, 2 }, { "dir", ".." } },
	{ P9_TREAD, "dqd", { 2, 0, 4096 }, { NULL } },
	{ P9_TWRITE, "dqd", { 2, 0, 0 }, { NULL } },
	{ P9_TCLUNK, "d", { 1 }, { NULL } },
	{ P9_TREMOVE, "d", { 1 }, { NULL } },
	{ P9_TVERSION, "ds", { 8192 }, { "9P2000.L" } },
};
#define NR_GOOD (sizeof(good) / sizeof(good[0]))

static void build_good(struct client *c, unsigned which)
{
	unsigned number_at = 0, text_at = 0;

	c->len = 4;
	put_number(c, good[which].type, 1);
	put_number(c, 7, 2);
	for (const char *f = good[which].fmt; *f; f++) {
		if (*f == 's') {
			const char *text = good[which].text[text_at++];

			put_number(c, strlen(text), 2);
			memcpy(c->msg + c->len, text, strlen(text));
			c->len += (uint32_t)strlen(text);
		} else {
			put_number(c, good[which].field[number_at++],
				*f == 'b'   ? 1
				: *f == 'w' ? 2
				: *f == 'd' ? 4
					    : 8);
		}
	}
	finish(c);
}

/* The fids that the messages above speak of, new each time. */
static void begin(struct client *c)
{
	int r = unlinkat(c->root, "file", 0);

	assert_true(r == 0 || errno == ENOENT);
	host_file(c->root, "file", "hello");
	hello(c);
	assert_int_equal(walk1(c, 0, 1, "file"), 0);
	assert_int_equal(walk1(c, 0, 2, "file"), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 2, 2), 0);
	assert_int_equal(walk1(c, 0, 3, "dir"), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 3, 0), 0);
}

/* Cut anywhere, with the size as it was, or as it is: refused as no message. */
static void cut_at_each_byte(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	for (unsigned which = 0; which < NR_GOOD; which++) {
		begin(c);
		build_good(c, which);
		for (uint32_t whole = c->len, len = 0; len < whole; len++) {
			bool good_too = good[which].type == P9_TFSYNC && len == P9_HEADER + 4;

			c->len = len;
			assert_int_equal(raw_send(c), P9_RLERROR);
			assert_int_equal(number(c, 4), EPROTO);
			if (len < P9_HEADER)
				continue;
			finish(c);
			assert_int_equal(raw_send(c), good_too ? P9_TFSYNC + 1 : P9_RLERROR);
			if (!good_too)
				assert_int_equal(number(c, 4), EPROTO);
			c->len = whole;
			finish(c);
		}
		/* And one byte too many. */
		build_good(c, which);
		c->msg[c->len++] = 0;
		finish(c);
		assert_int_equal(raw_send(c), P9_RLERROR);
		assert_int_equal(number(c, 4), EPROTO);
	}
	assert_true(p9_faults(c->p9) > 100);
	client_close(c);
}

/* Room for the reply of each size: never more than that is written, which the memory's checker sees. */
static void room_of_each_size(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	for (unsigned which = 0; which < NR_GOOD; which++) {
		for (unsigned room = 0; room < 200; room++) {
			c->room = MSIZE;
			begin(c);
			build_good(c, which);
			c->room = room;
			assert_int_equal(raw_send(c) == 0, room < P9_READ_HEAD);
			c->room = MSIZE;
			for (const char *const *name =
					(const char *const[]){ "new", "sym", "node", "renamed", "hard", "file2", NULL };
				*name; name++)
				unlinkat(c->root, *name, 0);
			unlinkat(c->root, "made", AT_REMOVEDIR);
		}
	}
	client_close(c);
}

static void sizes_that_lie(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	static const uint32_t sizes[] = { 0, 1, 6, 0x7fffffff, 0x80000000, UINT32_MAX };

	begin(c);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		build_good(c, 0);
		memcpy(c->msg, &sizes[i], 4);
		assert_int_equal(raw_send(c), P9_RLERROR);
		assert_int_equal(number(c, 4), EPROTO);
	}
	/* A write of more than came; its size that counts part of the data. */
	assert_int_equal(write_at(c, 2, 0, "0123456789", 10), 0);
	c->msg[P9_WRITE_HEAD - 4] = 11;
	assert_int_equal(send_built(c), EPROTO);
	memset(c->msg + P9_WRITE_HEAD - 4, 0xff, 4);
	assert_int_equal(send_built(c), EPROTO);
	memcpy(c->msg + P9_WRITE_HEAD - 4, "\12\0\0\0", 4);
	c->msg[0]--;
	assert_int_equal(send_built(c), EPROTO);
	/* The size of the head alone, as old clients have it. */
	c->msg[0] = P9_WRITE_HEAD;
	assert_int_equal(send_built(c), 0);
	/* Longer than was agreed. */
	assert_int_equal(call(c, P9_TVERSION, "ds", 4096, "9P2000.L"), 0);
	c->len = 5000;
	c->msg[4] = P9_TWRITE;
	finish(c);
	assert_int_equal(send_built(c), EMSGSIZE);
	/* A message without data that is longer than any. */
	hello(c);
	memset(c->msg + P9_HEADER, 0, 20000);
	c->len = 20000;
	c->msg[4] = P9_TSTATFS;
	finish(c);
	assert_int_equal(send_built(c), EMSGSIZE);
	client_close(c);
}

static void fids_that_are_none(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	begin(c);
	for (unsigned which = 0; which < NR_GOOD; which++) {
		uint8_t type = good[which].type;

		if (type == P9_TAUTH || type == P9_TATTACH || type == P9_TFLUSH || type == P9_TVERSION)
			continue;
		build_good(c, which);
		memcpy(c->msg + P9_HEADER, "\x39\x30\0\0", 4);
		assert_int_equal(send_built(c), EBADF);
	}
	for (unsigned type = 0; type < 256; type++) {
		unsigned which = 0;

		while (which < NR_GOOD && good[which].type != type)
			which++;
		if (which == NR_GOOD) {
			build_good(c, 0);
			c->msg[4] = (uint8_t)type;
			assert_int_equal(raw_send(c), P9_RLERROR);
			assert_int_equal(number(c, 4), EOPNOTSUPP);
		}
	}
	client_close(c);
}

/* Each message on each kind of fid: an answer, whatever it is, and the server lives. */
static void kinds_that_do_not_fit(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	for (unsigned which = 0; which < NR_GOOD; which++) {
		for (unsigned kind = 0; kind < 7; kind++) {
			begin(c);
			assert_int_equal(walk1(c, 0, 4, "file"), 0);
			call(c, P9_TXATTRCREATE, "dsqd", 4, "user.y", UINT64_C(5), 0);
			call(c, P9_TXATTRWALK, "dds", 1, 5, "");
			symlinkat("/", c->root, "link");
			assert_int_equal(walk1(c, 0, 6, "link"), 0);
			build_good(c, which);
			if (good[which].type != P9_TVERSION && good[which].type != P9_TFLUSH)
				c->msg[P9_HEADER] = (uint8_t)kind;
			raw_send(c);
			for (const char *const *name =
					(const char *const[]){ "new", "sym", "node", "renamed", "hard", "file2", NULL };
				*name; name++)
				unlinkat(c->root, *name, 0);
			unlinkat(c->root, "made", AT_REMOVEDIR);
			if (faccessat(c->root, "dir", F_OK, 0))
				assert_int_equal(mkdirat(c->root, "dir", 0755), 0);
		}
	}
	client_close(c);
}

static void names_that_are_none(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	static const char *const names[] = { "", ".", "..", "/", "a/b", "/etc", "../secret", "dir/" };
	char longer[NAME_MAX + 3];

	begin(c);
	memset(longer, 'n', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *name = names[i];

		if (strcmp(name, "..") != 0)
			assert_int_equal(walk1(c, 0, 9, name), EINVAL);
		assert_int_equal(call(c, P9_TLCREATE, "dsddd", 0, name, 2, 0644, 0), EINVAL);
		assert_int_equal(call(c, P9_TSYMLINK, "dssd", 0, name, "x", 0), EINVAL);
		assert_int_equal(call(c, P9_TMKNOD, "dsdddd", 0, name, S_IFREG, 0, 0, 0), EINVAL);
		assert_int_equal(call(c, P9_TMKDIR, "dsdd", 0, name, 0755, 0), EINVAL);
		assert_int_equal(call(c, P9_TLINK, "dds", 0, 1, name), EINVAL);
		assert_int_equal(call(c, P9_TRENAME, "dds", 1, 0, name), EINVAL);
		assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 0, "file", 0, name), EINVAL);
		assert_int_equal(call(c, P9_TRENAMEAT, "dsds", 0, name, 0, "new"), EINVAL);
		assert_int_equal(call(c, P9_TUNLINKAT, "dsd", 0, name, 0), EINVAL);
	}
	assert_int_equal(call(c, P9_TMKDIR, "dsdd", 0, longer, 0755, 0), ENAMETOOLONG);
	/* A name with a NUL in it. */
	call(c, P9_TMKDIR, "dsdd", 0, "abc", 0755, 0);
	c->msg[P9_HEADER + 4 + 2 + 1] = 0;
	assert_int_equal(send_built(c), EINVAL);
	assert_int_equal(call(c, P9_TWALK, "ddw", 0, 9, 17), EINVAL);
	client_close(c);
}

static void fids_and_bytes_are_bounded(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	unsigned n = 0;
	int r;

	/* Values to write, of the largest size, one a fid. */
	do {
		r = walk1(c, 0, 1000 + n, "file");
		if (!r)
			r = call(c, P9_TXATTRCREATE, "dsqd", 1000 + n, "user.x", UINT64_C(65536), 0);
		n += !r;
	} while (!r);
	assert_true(r == ENOMEM || r == EMFILE);
	assert_true(c->p9->bytes <= P9_BYTES);
	assert_int_equal(walk1(c, 0, 900, "file"), r == EMFILE ? EMFILE : 0);
	assert_int_equal(call(c, P9_TXATTRCREATE, "dsqd", 0, "user.x", UINT64_C(65537), 0), E2BIG);
	hello(c);
	assert_int_equal(c->p9->bytes, 0);
	client_close(c);
}

/* A link that leads out is seen, and never followed. */
static void links_are_not_followed(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });

	assert_int_equal(symlinkat("..", c->root, "up"), 0);
	assert_int_equal(symlinkat("../secret", c->root, "leak"), 0);
	assert_int_equal(symlinkat("/proc/self/root", c->root, "magic"), 0);
	for (const char *const *name = (const char *const[]){ "up", "magic", NULL }; *name; name++) {
		assert_int_equal(call(c, P9_TWALK, "ddwss", 0, 9, 2, *name, "secret"), 0);
		assert_int_equal(number(c, 2), 1);
		assert_int_equal(call(c, P9_TATTACH, "ddssd", 9, P9_NO_FID, "u", *name, 0), ENOTDIR);
	}
	assert_int_equal(walk1(c, 0, 9, "leak"), 0);
	assert_int_equal(call(c, P9_TLOPEN, "dd", 9, 0), ELOOP);
	assert_int_equal(call(c, P9_TXATTRWALK, "dds", 9, 10, "user.x"), ENODATA);
	assert_int_equal(clone_fid(c, 0, 11), 0);
	assert_int_equal(call(c, P9_TLCREATE, "dsddd", 11, "leak", 01002, 0644, 0), ELOOP);
	client_close(c);
}

struct mover {
	struct client *c;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong moves;
};

/* A directory in the folder goes out and comes back, and another is swapped for a link that leads out. */
static void *move(void *arg)
{
	struct mover *m = arg;
	int top = m->c->top;

	while (!m->stop) {
		renameat(top, "root/dir/sub", top, "sub");
		renameat(top, "sub", top, "root/dir/sub");
		renameat(top, "root/swap", top, "root/was");
		symlinkat("..", m->c->root, "swap");
		unlinkat(m->c->root, "swap", 0);
		renameat(top, "root/was", top, "root/swap");
		m->moves++;
	}
	return NULL;
}

static bool same_file(int dir, const char *name, uint64_t path)
{
	struct stat st;

	return fstatat(dir, name, &st, 0) == 0 && st.st_ino == path;
}

static void races(void **state)
{
	struct client *c = client_open((struct p9_config){ 0 });
	struct mover m = { .c = c };
	unsigned ups = 0;

	assert_int_equal(mkdirat(c->root, "dir/sub", 0755), 0);
	assert_int_equal(mkdirat(c->root, "dir/sub/deep", 0755), 0);
	assert_int_equal(mkdirat(c->root, "swap", 0755), 0);
	assert_int_equal(pthread_create(&m.thread, NULL, move, &m), 0);
	while (!m.moves)
		usleep(1000);
	for (unsigned i = 0; i < 4000; i++) {
		/* Up from what has just been moved out: where to, it is not above the root. */
		if (call(c, P9_TWALK, "ddwsssss", 0, 9, 5, "dir", "sub", "deep", "..", "..") == 0) {
			unsigned n = (unsigned)number(c, 2);

			for (unsigned step = 0; step < n; step++) {
				number(c, 5);
				assert_false(same_file(c->top, ".", number(c, 8)));
			}
			if (n == 5) {
				ups++;
				if (walk1(c, 9, 10, "secret") == 0)
					fail();
				assert_int_equal(clunk_fid(c, 9), 0);
			}
		}
		if (call(c, P9_TWALK, "ddwss", 0, 9, 2, "swap", "secret") == 0)
			assert_true(number(c, 2) < 2);
		if (call(c, P9_TATTACH, "ddssd", 11, P9_NO_FID, "u", "swap/root", 0) == 0)
			fail();
	}
	m.stop = true;
	pthread_join(m.thread, NULL);
	assert_true(ups > 0);
	assert_true(m.moves > 10);
	client_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_at_each_byte),
		cmocka_unit_test(room_of_each_size),
		cmocka_unit_test(sizes_that_lie),
		cmocka_unit_test(fids_that_are_none),
		cmocka_unit_test(kinds_that_do_not_fit),
		cmocka_unit_test(names_that_are_none),
		cmocka_unit_test(fids_and_bytes_are_bounded),
		cmocka_unit_test(links_are_not_followed),
		cmocka_unit_test(races),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
