/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_p9.c - the 9P server under a client that is made of bytes: each input is one connection to a folder of its own.
 * For libFuzzer, or with files as inputs, as fuzz_machine.c.
 *
 * A message is a byte for its type, one for its room and whether it tells its size, one for its length, and its
 * fields. Outside the folder lies a secret, which no reply may hold.
 */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz_main.h"
#include "host/p9/inner.h"

#define ROOM   8192
#define SECRET "not to be seen by any guest"

static const uint8_t types[] = { P9_TSTATFS, P9_TLOPEN, P9_TLCREATE, P9_TSYMLINK, P9_TMKNOD, P9_TRENAME, P9_TREADLINK,
	P9_TGETATTR, P9_TSETATTR, P9_TXATTRWALK, P9_TXATTRCREATE, P9_TREADDIR, P9_TFSYNC, P9_TLOCK, P9_TGETLOCK,
	P9_TLINK, P9_TMKDIR, P9_TRENAMEAT, P9_TUNLINKAT, P9_TVERSION, P9_TAUTH, P9_TATTACH, P9_TFLUSH, P9_TWALK,
	P9_TREAD, P9_TWRITE, P9_TCLUNK, P9_TREMOVE };

struct fuzz {
	const uint8_t *data;
	size_t size;
	struct p9 *p9;
	uint8_t msg[P9_HEADER + 512];
};

static char top[] = "/tmp/trapline-fuzz-p9-XXXXXX";

static uint8_t take(struct fuzz *f)
{
	if (!f->size)
		return 0;
	f->size--;
	return *f->data++;
}

static void serve(struct fuzz *f, uint32_t len, uint32_t size, uint32_t room)
{
	/* In memory of their own, where a checker sees each byte beyond. */
	uint8_t *message = malloc(len + !len), *reply = malloc(room + !room);
	struct iovec out = { message, len }, in = { reply, room };
	struct p9_io io = { &out, &in, 1, 1, len, room };
	uint32_t n;

	assert(message && reply);
	for (unsigned i = 0; i < 4; i++)
		f->msg[i] = (uint8_t)(size >> 8 * i);
	memcpy(message, f->msg, len);
	n = p9_serve(f->p9, &io);
	assert(n <= room && (!n || n >= P9_HEADER));
	assert(!n || !memmem(reply, n, SECRET, strlen(SECRET)));
	free(message);
	free(reply);
}

static void hello(struct fuzz *f)
{
	static const uint8_t version[] = "\0\0\0\0d\1\0\0\40\0\0\10\0009P2000.L";
	static const uint8_t attach[] = "\0\0\0\0h\1\0\0\0\0\0\377\377\377\377\0\0\0\0\377\377\377\377";

	memcpy(f->msg, version, sizeof(version) - 1);
	serve(f, sizeof(version) - 1, sizeof(version) - 1, ROOM);
	memcpy(f->msg, attach, sizeof(attach) - 1);
	serve(f, sizeof(attach) - 1, sizeof(attach) - 1, ROOM);
}

static void step(struct fuzz *f)
{
	uint8_t type = take(f), how = take(f);
	uint32_t len = P9_HEADER + take(f), size;

	f->msg[4] = how & 1 ? type : types[type % sizeof(types)];
	f->msg[5] = 1;
	f->msg[6] = 0;
	for (uint32_t i = P9_HEADER; i < len; i++)
		f->msg[i] = take(f);
	size = how & 2 ? (uint32_t)(take(f) | take(f) << 8) : len;
	serve(f, how & 4 ? len / 2 : len, how & 4 ? size / 2 : size, how & 8 ? how : ROOM);
}

static int forget(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return ftw->level ? remove(path) : 0;
}

static void put_file(const char *name, const char *text)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	file = fopen(path, "w");
	assert(file);
	fputs(text, file);
	fclose(file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (!mkdtemp(top)) {
		perror(top);
		exit(1);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = { .data = data, .size = size };
	struct error err = { 0 };
	char root[64], path[80];
	struct p9_config config = { .path = root, .max_fds = 20 };
	int r;

	snprintf(root, sizeof(root), "%s/root", top);
	snprintf(path, sizeof(path), "%s/a", root);
	r = nftw(top, forget, 8, FTW_DEPTH | FTW_PHYS);
	assert(r == 0);
	put_file("secret", SECRET);
	r = mkdir(root, 0755);
	assert(r == 0);
	r = mkdir(path, 0755);
	assert(r == 0);
	put_file("root/f", "a file");
	snprintf(path, sizeof(path), "%s/l", root);
	r = symlink("../secret", path);
	assert(r == 0);
	r = p9_open(&config, &f.p9, &err);
	assert(r == 0);
	hello(&f);
	while (f.size)
		step(&f);
	p9_close(f.p9);
	return 0;
}

#ifndef WITH_LIBFUZZER
static void clean_up(void)
{
	nftw(top, forget, 8, FTW_DEPTH | FTW_PHYS);
	rmdir(top);
}

/* The same ones in each run; most fields are small numbers and short names. */
static void run_random(unsigned long inputs)
{
	static const uint8_t bytes[] = { 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 'a', 'f', 'l', '.', '/', 0xff };
	uint64_t state = FUZZ_SEED;
	uint8_t input[1024];

	for (unsigned long i = 0; i < inputs; i++) {
		for (unsigned k = 0; k < sizeof(input); k++) {
			uint64_t random = fuzz_random(&state);

			input[k] = random >> 60 ? bytes[random >> 32 & 15] : (uint8_t)(random >> 40);
		}
		LLVMFuzzerTestOneInput(input, sizeof(input));
	}
}

int main(int argc, char **argv)
{
	atexit(clean_up);
	return fuzz_main(argc, argv, run_random);
}
#endif
