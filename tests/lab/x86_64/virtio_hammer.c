/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_hammer.c - every device at once, each by a process of its own, for so many seconds; what comes back is
 * compared.
 *
 *   virtio_hammer SECONDS DISK CONSOLE FOLDER HOST PORT
 *
 * DISK is written and read at random, by two processes, past the cache; CONSOLE and HOST's PORT send back what they are
 * sent; in FOLDER files come and go; /dev/hwrng is read; memory is filled, for the balloon to take it away. Once all of
 * them have come round, a line says so.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BLOCK  4096
#define BLOCKS 1024 /* of each half of the disk */
#define MOST   16   /* blocks a request */
#define CHUNK  32768

enum { DISK, DISK2, CONSOLE, FOLDER, NET, RNG, MEMORY, WORKERS };

static const char *const names[WORKERS] = { "disk", "disk2", "console", "folder", "net", "rng", "memory" };

struct worker {
	unsigned kind;
	const char *what;
	uint16_t port;
	unsigned seed;
	volatile unsigned *rounds;
	uint8_t *data, *got; /* CHUNK, or MOST blocks: as large as anything is at a time */
	int fd;
	uint32_t written[BLOCKS]; /* the disk's: which writing of each block was the last; 0 for none */
};

static unsigned next(struct worker *w, unsigned below)
{
	w->seed = w->seed * 1664525 + 1013904223;
	return (w->seed >> 8) % below;
}

static void fill(uint8_t *data, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
}

static void wrong(const struct worker *w, const char *what)
{
	printf("wrong %s: %s, in round %u (%s)\n", names[w->kind], what, *w->rounds, strerror(errno));
	fflush(stdout);
	_exit(1);
}

/* All n bytes, by as many calls as it takes. */
static void put(struct worker *w, const uint8_t *data, size_t n)
{
	for (ssize_t r; n; n -= (size_t)r, data += r) {
		r = write(w->fd, data, n);
		if (r <= 0)
			wrong(w, "write");
	}
}

static void get(struct worker *w, uint8_t *data, size_t n)
{
	for (ssize_t r; n; n -= (size_t)r, data += r) {
		r = read(w->fd, data, n);
		if (r <= 0)
			wrong(w, "read");
	}
}

static uint32_t seed_of(const struct worker *w, unsigned block)
{
	return w->written[block] * 0x9e3779b9U + block * 2654435761U + w->kind;
}

static void disk_round(struct worker *w)
{
	unsigned n = 1 + next(w, MOST), first = next(w, BLOCKS - n + 1);
	off_t at = ((off_t)first + (w->kind == DISK2 ? BLOCKS : 0)) * BLOCK;
	bool writes = next(w, 2);

	for (unsigned i = 0; i < n; i++) {
		if (writes)
			w->written[first + i] = *w->rounds + 1;
		fill(w->data + i * BLOCK, BLOCK, seed_of(w, first + i));
	}
	if (writes) {
		if (pwrite(w->fd, w->data, n * BLOCK, at) != (ssize_t)(n * BLOCK))
			wrong(w, "write");
		if (next(w, 16) == 0 && fsync(w->fd))
			wrong(w, "fsync");
		return;
	}
	if (pread(w->fd, w->got, n * BLOCK, at) != (ssize_t)(n * BLOCK))
		wrong(w, "read");
	for (unsigned i = 0; i < n; i++) {
		if (w->written[first + i] && memcmp(w->got + i * BLOCK, w->data + i * BLOCK, BLOCK) != 0)
			wrong(w, "another block came than was written");
	}
}

static void echo_round(struct worker *w)
{
	size_t n = 1 + next(w, w->kind == NET ? CHUNK : 400);

	fill(w->data, n, next(w, 1 << 20));
	put(w, w->data, n);
	get(w, w->got, n);
	if (memcmp(w->data, w->got, n) != 0)
		wrong(w, "other bytes came back than were sent");
}

static void folder_round(struct worker *w)
{
	size_t n = next(w, CHUNK);
	struct stat st;

	fill(w->data, n, next(w, 1 << 20));
	w->fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0600);
	if (w->fd < 0)
		wrong(w, "create");
	put(w, w->data, n);
	if (rename("file", "renamed") || lseek(w->fd, 0, SEEK_SET) || stat("renamed", &st) || st.st_size != (off_t)n)
		wrong(w, "rename");
	get(w, w->got, n);
	if (memcmp(w->data, w->got, n) != 0)
		wrong(w, "other bytes were read than were written");
	if (close(w->fd) || unlink("renamed"))
		wrong(w, "unlink");
}

static void rng_round(struct worker *w)
{
	size_t n = 16 + next(w, 4096);

	memcpy(w->data, w->got, 16);
	get(w, w->got, n);
	if (memcmp(w->data, w->got, 16) == 0)
		wrong(w, "the same came twice");
}

static void memory_round(struct worker *w)
{
	const size_t size = (16 + next(w, 32)) << 20;
	uint32_t seed = next(w, 1 << 20);
	uint32_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		wrong(w, "mmap");
	for (size_t i = 0; i < size / 4; i += 64)
		map[i] = seed + (uint32_t)i;
	for (size_t i = 0; i < size / 4; i += 64) {
		if (map[i] != seed + (uint32_t)i)
			wrong(w, "memory has changed");
	}
	munmap(map, size);
}

/* What is left from before a reboot comes first: all up to a mark is nothing. */
static void console_open(struct worker *w)
{
	struct termios raw;
	char mark[32], seen[32] = "";
	size_t n;

	w->fd = open(w->what, O_RDWR | O_NOCTTY);
	if (w->fd < 0 || tcgetattr(w->fd, &raw))
		wrong(w, "open");
	cfmakeraw(&raw);
	tcsetattr(w->fd, TCSANOW, &raw);
	n = (size_t)snprintf(mark, sizeof(mark), "mark%08x%08x", w->seed, (unsigned)time(NULL));
	put(w, (uint8_t *)mark, n);
	while (memcmp(seen, mark, n) != 0) {
		memmove(seen, seen + 1, n - 1);
		get(w, (uint8_t *)seen + n - 1, 1);
	}
}

static void begin(struct worker *w)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(w->port) };

	if (w->kind == CONSOLE) {
		console_open(w);
	} else if (w->kind == NET) {
		inet_pton(AF_INET, w->what, &to.sin_addr);
		w->fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(w->fd, (struct sockaddr *)&to, sizeof(to)))
			wrong(w, "connect");
	} else if (w->kind == FOLDER) {
		if (chdir(w->what))
			wrong(w, "chdir");
		/* What a reboot has left. */
		unlink("file");
		unlink("renamed");
	} else if (w->kind != MEMORY) {
		w->fd = open(w->what, w->kind == RNG ? O_RDONLY : O_RDWR | O_DIRECT);
		if (w->fd < 0)
			wrong(w, "open");
	}
}

static void work(struct worker *w, time_t seconds)
{
	static void (*const rounds[WORKERS])(struct worker *) = {
		[DISK] = disk_round,
		[DISK2] = disk_round,
		[CONSOLE] = echo_round,
		[FOLDER] = folder_round,
		[NET] = echo_round,
		[RNG] = rng_round,
		[MEMORY] = memory_round,
	};
	struct timespec now, end;

	begin(w);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	do {
		rounds[w->kind](w);
		++*w->rounds;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	printf("ok %s: %u rounds\n", names[w->kind], *w->rounds);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	volatile unsigned *rounds = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static struct worker w;
	bool good = true;
	int status;

	if (argc != 7 || rounds == MAP_FAILED)
		return 2;
	const char *const what[WORKERS] = { argv[2], argv[2], argv[3], argv[4], argv[5], "/dev/hwrng", NULL };

	w.port = (uint16_t)atoi(argv[6]);
	w.data = aligned_alloc(BLOCK, MOST * BLOCK);
	w.got = aligned_alloc(BLOCK, MOST * BLOCK);
	for (unsigned i = 0; i < WORKERS; i++) {
		w.kind = i;
		w.what = what[i];
		w.seed = (unsigned)time(NULL) * WORKERS + i;
		w.rounds = rounds + i;
		if (fork() == 0)
			work(&w, atoi(argv[1]));
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		while (rounds[i] == 0 && waitpid(-1, &status, WNOHANG) == 0)
			usleep(10000);
		printf("ok %s is in use\n", names[i]);
		fflush(stdout);
	}
	printf("ok all are in use\n");
	fflush(stdout);
	while (wait(&status) > 0)
		good = good && status == 0;
	printf("%s end\n", good ? "ok" : "wrong");
	return 0;
}
