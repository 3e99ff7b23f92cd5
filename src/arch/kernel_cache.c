/* SPDX-License-Identifier: BSD-2-Clause */
/* kernel_cache.c - the folder with unpacked kernels: found, checked, read, written and kept small. */
#include "arch/kernel_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC    "traplnK\1"
#define KEPT     ".kernel"
#define UNFIT    ".new" /* not whole yet */
#define DATA_AT  4096   /* where the first piece is; each begins on a page */
#define MANY     64     /* files that are looked at in one go when there are too many */
#define READABLE (O_RDONLY | O_CLOEXEC | O_NOFOLLOW)

_Static_assert(sizeof(struct kernel_cache_head) == 1152 && sizeof(struct kernel_cache_head) <= DATA_AT,
	"a file's head: a change of it is another version");

/*
 * Two sums in each of four lanes: of the words, and of the first sum after each word, which tells where they were.
 * They find what becomes of files, ranges of zeros or of other data, at the speed of memory.
 */
typedef uint64_t sum_pair __attribute__((vector_size(16))); /* what every processor's registers hold */

#define SUM_BYTES 32 /* that are added in one step: a word to each lane */

static inline void sum_step(sum_pair a[static 2], sum_pair b[static 2], const uint8_t *p)
{
	sum_pair x;

	for (unsigned i = 0; i < 2; i++) {
		memcpy(&x, p + i * sizeof(x), sizeof(x));
		a[i] += x;
		b[i] += a[i];
	}
}

static void sum_add(struct kernel_cache_sum *sum, const void *buf, uint64_t len)
{
	uint8_t last[SUM_BYTES] = { 0 };
	const uint8_t *p = buf;
	sum_pair a[2], b[2];

	memcpy(a, sum->lanes[0], sizeof(a));
	memcpy(b, sum->lanes[1], sizeof(b));
	for (; len >= SUM_BYTES; p += SUM_BYTES, len -= SUM_BYTES)
		sum_step(a, b, p);
	if (len) {
		memcpy(last, p, len);
		sum_step(a, b, last);
	}
	memcpy(sum->lanes[0], a, sizeof(a));
	memcpy(sum->lanes[1], b, sizeof(b));
}

/* The length is part of it, or zeros at the end were not. */
static uint64_t sum_end(const struct kernel_cache_sum *sum, uint64_t len)
{
	uint64_t h = len;

	for (unsigned i = 0; i < 8; i++) {
		h = (h ^ sum->lanes[i / 4][i % 4]) * 0x9e3779b97f4a7c15;
		h ^= h >> 29;
	}
	return h;
}

static uint64_t head_sum(const struct kernel_cache_head *head)
{
	struct kernel_cache_sum sum = { 0 };

	sum_add(&sum, head, offsetof(struct kernel_cache_head, sum));
	return sum_end(&sum, offsetof(struct kernel_cache_head, sum));
}

static uint64_t nanoseconds(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

static int make_key(struct kernel_cache_key *key, const struct image *image, uint64_t payload, uint64_t payload_size)
{
	struct stat st;

	if (fstat(image->fd, &st))
		return -errno;
	*key = (struct kernel_cache_key){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.size = (uint64_t)st.st_size,
		.mtime = nanoseconds(&st.st_mtim),
		.ctime = nanoseconds(&st.st_ctim),
		.payload = payload,
		.payload_size = payload_size,
	};
	return 0;
}

/* Ours, and nobody else writes it. */
static bool is_own(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* A folder in `parent`, which it leaves open. Its descriptor, or -errno with a line that calls it by `path`. */
static int open_folder(int parent, const char *name, const char *path, bool make, struct error *err)
{
	struct stat st;
	int fd, r = 0;

	if (make && mkdirat(parent, name, 0700) && errno != EEXIST)
		return error_set(err, -errno, "'%s': %s", path, strerror(errno));
	fd = openat(parent, name, READABLE | O_DIRECTORY);
	if (fd < 0)
		return error_set(err, -errno, "'%s': %s", path,
			errno == ELOOP || errno == ENOTDIR ? "not a folder, or a link to one" : strerror(errno));
	if (fstat(fd, &st))
		r = error_set(err, -errno, "'%s': %s", path, strerror(errno));
	else if (!is_own(&st))
		r = error_set(err, -EPERM, "'%s' belongs to somebody else, or others can write to it", path);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/*
 * The user's folder for caches, as the XDG Base Directory Specification tells: a path that is not absolute counts not.
 */
static bool base_path(char *path, size_t size)
{
	const char *xdg = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	int n;

	if (xdg && xdg[0] == '/')
		n = snprintf(path, size, "%s", xdg);
	else if (home && home[0] == '/')
		n = snprintf(path, size, "%s/.cache", home);
	else
		return false;
	/* Room for what comes below it. */
	return n > 0 && (size_t)n < size - 32;
}

/*
 * Opens the cache's folder, and puts its path into `path`. It, or -errno: -ENOENT where it can be made, else `err` says
 * what is wrong with it. The base may be reached by links, as users lay out their disks; nothing below may be one.
 */
static int open_cache(char path[static PATH_MAX], bool make, struct error *err)
{
	int base, fd;
	size_t n;

	if (!base_path(path, PATH_MAX)) {
		path[0] = '\0';
		return error_set(err, -ENXIO, "neither $XDG_CACHE_HOME nor $HOME is an absolute path");
	}
	if (make)
		(void)mkdir(path, 0700);
	base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = base < 0 ? error_set(err, -errno, "'%s': %s", path, strerror(errno)) : base;
	n = strlen(path);
	for (unsigned i = 0; i < 2; i++) {
		const char *name = i ? "kernels" : "trapline";

		n += (size_t)snprintf(path + n, PATH_MAX - n, "/%s", name);
		if (fd < 0)
			continue;
		base = fd;
		fd = open_folder(base, name, path, make, err);
		close(base);
	}
	return fd;
}

static void reset(struct kernel_cache *cache)
{
	*cache = (struct kernel_cache){ .folder = -1, .fd = -1 };
}

static bool is_in_file(const struct kernel_cache_head *head, uint64_t size)
{
	for (unsigned i = 0; i < head->nr_pieces; i++) {
		const struct kernel_cache_piece *piece = &head->pieces[i];

		if (piece->size && (piece->at > size || piece->size > size - piece->at))
			return false;
	}
	return true;
}

/* The file is there, ours, of this kernel and of its whole length. */
static bool open_file(struct kernel_cache *cache, const struct kernel_cache_key *key)
{
	struct kernel_cache_head *head = &cache->head;
	struct stat st;

	/* Not to be held up by what is no file of ours, such as a FIFO. */
	cache->fd = openat(cache->folder, cache->name, READABLE | O_NONBLOCK);
	return cache->fd >= 0 && fstat(cache->fd, &st) == 0 && S_ISREG(st.st_mode) && is_own(&st) &&
	       pread(cache->fd, head, sizeof(*head), 0) == (ssize_t)sizeof(*head) &&
	       !memcmp(head->magic, MAGIC, sizeof(head->magic)) && head->sum == head_sum(head) &&
	       !memcmp(&head->key, key, sizeof(*key)) && head->nr_pieces <= KERNEL_CACHE_PIECES &&
	       memchr(head->format, '\0', sizeof(head->format)) && is_in_file(head, (uint64_t)st.st_size);
}

static void make_name(struct kernel_cache *cache, const struct kernel_cache_key *key, const char *ending)
{
	snprintf(cache->name, sizeof(cache->name), "%llx-%llx%s", (unsigned long long)key->dev,
		(unsigned long long)key->ino, ending);
}

int kernel_cache_open(struct kernel_cache *cache, const struct image *image, uint64_t payload, uint64_t payload_size,
	char *path, size_t path_size, struct error *err)
{
	struct kernel_cache_key key = { 0 };
	char folder[PATH_MAX];
	int r = make_key(&key, image, payload, payload_size);

	reset(cache);
	path[0] = '\0';
	if (r)
		return error_set(err, r, "'%s': %s", image->path, strerror(-r));
	make_name(cache, &key, KEPT);
	cache->folder = open_cache(folder, false, err);
	r = cache->folder < 0 ? cache->folder : 0;
	if (r == 0 && !open_file(cache, &key)) {
		r = -ENOENT;
		if (faccessat(cache->folder, ".", W_OK | X_OK, AT_EACCESS))
			return error_set(err, -errno, "'%s': %s", folder, strerror(errno));
	}
	if (r == 0 || r == -ENOENT)
		snprintf(path, path_size, "%s/%s", folder, cache->name);
	return r;
}

int kernel_cache_read(struct kernel_cache *cache, unsigned piece, void *buf)
{
	const struct kernel_cache_piece *p = &cache->head.pieces[piece];
	struct kernel_cache_sum sum = { 0 };
	uint8_t *to = buf;

	for (uint64_t done = 0; done < p->size;) {
		uint64_t want = p->size - done, have = 0;

		want = want < KERNEL_CACHE_CHUNK ? want : KERNEL_CACHE_CHUNK;
		while (have < want) {
			ssize_t n = pread(cache->fd, to + done + have, want - have, (off_t)(p->at + done + have));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return -EIO;
			have += (uint64_t)n;
		}
		/* While it is still in a near cache. */
		sum_add(&sum, to + done, want);
		done += want;
	}
	return sum_end(&sum, p->size) == p->sum ? 0 : -EIO;
}

void kernel_cache_used(struct kernel_cache *cache)
{
	static const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };

	(void)futimens(cache->fd, now);
}

/* Locks a file that is being written, or is left of one: 0 or -errno. It has that name, and nobody else has it. */
static int lock(int folder, const char *name, int fd)
{
	struct stat st, there;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || !is_own(&st))
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* Since it was opened its writer may have renamed it, or somebody removed it. */
	if (fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) || there.st_ino != st.st_ino ||
		there.st_dev != st.st_dev)
		return -EBUSY;
	return 0;
}

/* Long enough unchanged that a next change is sure to give it other times, however coarse its file system's are. */
static bool is_settled(const struct kernel_cache_key *key)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return key->ctime < nanoseconds(&now) - KERNEL_CACHE_AGE * 1000000000ULL;
}

int kernel_cache_create(struct kernel_cache *cache, const struct image *image, uint64_t payload, uint64_t payload_size)
{
	struct error err = { 0 };
	char folder[PATH_MAX];
	int r;

	reset(cache);
	r = make_key(&cache->head.key, image, payload, payload_size);
	if (r)
		return r;
	if (!is_settled(&cache->head.key))
		return -EAGAIN;
	make_name(cache, &cache->head.key, UNFIT);
	cache->folder = open_cache(folder, true, &err);
	if (cache->folder < 0)
		return cache->folder;
	cache->fd = openat(cache->folder, cache->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (cache->fd < 0)
		return -errno;
	r = lock(cache->folder, cache->name, cache->fd);
	if (r == 0 && ftruncate(cache->fd, 0))
		r = -errno;
	if (r) { /* not ours to remove */
		close(cache->fd);
		cache->fd = -1;
		return r;
	}
	cache->at = DATA_AT;
	memcpy(cache->head.magic, MAGIC, sizeof(cache->head.magic));
	return 0;
}

static int write_at(int fd, const void *buf, uint64_t len, uint64_t at)
{
	const uint8_t *from = buf;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static void end_piece(struct kernel_cache *cache)
{
	struct kernel_cache_piece *piece = &cache->head.pieces[cache->head.nr_pieces - 1];

	piece->sum = sum_end(&cache->sum, piece->size);
	cache->at = (cache->at + 4095) & ~4095ULL;
}

int kernel_cache_piece(struct kernel_cache *cache, uint64_t offset)
{
	if (cache->head.nr_pieces == KERNEL_CACHE_PIECES)
		return -ENOSPC;
	if (cache->head.nr_pieces)
		end_piece(cache);
	cache->sum = (struct kernel_cache_sum){ 0 };
	cache->head.pieces[cache->head.nr_pieces++] = (struct kernel_cache_piece){ .offset = offset, .at = cache->at };
	return 0;
}

int kernel_cache_write(struct kernel_cache *cache, const void *buf, uint64_t len)
{
	int r = len > KERNEL_CACHE_BYTES - cache->at ? -EFBIG : write_at(cache->fd, buf, len, cache->at);

	if (r)
		return r;
	sum_add(&cache->sum, buf, len);
	cache->head.pieces[cache->head.nr_pieces - 1].size += len;
	cache->at += len;
	return 0;
}

int kernel_cache_zeros(struct kernel_cache *cache, uint64_t len)
{
	if (len > KERNEL_CACHE_BYTES - cache->at)
		return -EFBIG;
	/* As sum_add() would: each zero adds nothing to the first sum, and so the first sum to the second. */
	for (unsigned i = 0; i < 4; i++)
		cache->sum.lanes[1][i] += cache->sum.lanes[0][i] * (len / SUM_BYTES);
	cache->head.pieces[cache->head.nr_pieces - 1].size += len;
	cache->at += len;
	return 0;
}

struct kept {
	char name[sizeof(((struct kernel_cache *)NULL)->name)];
	uint64_t used; /* ns since 1970 */
	uint64_t bytes;
};

static int by_last_use(const void *a, const void *b)
{
	const struct kept *one = a, *two = b;

	return (one->used < two->used) - (one->used > two->used);
}

static bool ends_in(const char *name, const char *ending)
{
	size_t n = strlen(name), m = strlen(ending);

	return n > m && !strcmp(name + n - m, ending);
}

/* One that a run left that was killed: nobody has it locked. */
static void remove_left(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return;
	if (lock(folder, name, fd) == 0)
		(void)unlinkat(folder, name, 0);
	close(fd);
}

static void remove_surplus(int folder, struct kept *files, unsigned n)
{
	uint64_t bytes = 0;

	qsort(files, n, sizeof(*files), by_last_use);
	for (unsigned i = 0; i < n; i++) {
		bytes += files[i].bytes;
		if (i >= KERNEL_CACHE_FILES || bytes > KERNEL_CACHE_BYTES)
			(void)unlinkat(folder, files[i].name, 0);
	}
}

static void prune(int folder)
{
	struct kept *files = calloc(MANY, sizeof(*files));
	int fd = openat(folder, ".", READABLE | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	unsigned n = 0;

	while (files && dir && (entry = readdir(dir))) {
		struct kept *file = &files[n];
		struct stat st;

		if (strlen(entry->d_name) >= sizeof(file->name))
			continue;
		if (ends_in(entry->d_name, UNFIT))
			remove_left(folder, entry->d_name);
		if (n == MANY || !ends_in(entry->d_name, KEPT) ||
			fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		strcpy(file->name, entry->d_name);
		file->used = nanoseconds(&st.st_mtim);
		file->bytes = (uint64_t)st.st_blocks * 512;
		n++;
	}
	if (files)
		remove_surplus(folder, files, n);
	free(files);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

int kernel_cache_keep(struct kernel_cache *cache, const struct image *image, const char *format, uint64_t unpacked)
{
	struct kernel_cache_head *head = &cache->head;
	struct kernel_cache_key key = { 0 };
	char begun[sizeof(cache->name)];
	int r = make_key(&key, image, head->key.payload, head->key.payload_size);

	if (r == 0 && memcmp(&key, &head->key, sizeof(key)) != 0)
		r = -ESTALE;
	if (r)
		return r;
	if (head->nr_pieces)
		end_piece(cache);
	strncpy(head->format, format, sizeof(head->format) - 1);
	head->unpacked = unpacked;
	head->sum = head_sum(head);
	r = write_at(cache->fd, head, sizeof(*head), 0);
	if (r)
		return r;
	memcpy(begun, cache->name, sizeof(begun));
	make_name(cache, &key, KEPT);
	if (renameat(cache->folder, begun, cache->folder, cache->name)) {
		r = -errno;
		memcpy(cache->name, begun, sizeof(begun));
		return r;
	}
	prune(cache->folder);
	return 0;
}

void kernel_cache_close(struct kernel_cache *cache)
{
	if (cache->fd >= 0) {
		/* Before the lock goes. */
		if (ends_in(cache->name, UNFIT))
			(void)unlinkat(cache->folder, cache->name, 0);
		close(cache->fd);
	}
	if (cache->folder >= 0)
		close(cache->folder);
	reset(cache);
}
