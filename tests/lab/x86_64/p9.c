/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * p9.c - run in a guest, on a folder that is mounted by 9p, and beside trapline on the folder itself.
 *
 *   make DIR [FILES]  a tree with names of every byte, some megabytes, and so many files more of 250 kB on average
 *   sum DIR           one number for all names, modes and bytes in it
 *   hold FILE         locks it for writing, until killed
 *   steps DIR mmap|-  what programs do with files; a line a step. With "mmap", mappings that are shared and written
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void step(bool good, const char *what, long long got)
{
	printf("%s %s (%lld, errno %d)\n", good ? "ok" : "wrong", what, got, errno);
	fflush(stdout);
	errno = 0;
}

static void need(bool good, const char *what)
{
	if (!good) {
		printf("wrong %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void fill(uint8_t *data, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
}

static void put_file(int dir, const char *name, size_t size, mode_t mode, unsigned seed)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, mode);
	uint8_t *data = malloc(size + 1);

	need(fd >= 0, name);
	fill(data, size, seed);
	for (size_t at = 0; at < size;) {
		ssize_t n = write(fd, data + at, size - at);

		need(n > 0, name);
		at += (size_t)n;
	}
	need(close(fd) == 0, name);
	free(data);
}

/* Folders of a hundred. */
static void put_many(int dir, unsigned files)
{
	char name[32];
	int sub = -1;

	for (unsigned i = 0; i < files; i++) {
		if (i % 100 == 0) {
			snprintf(name, sizeof(name), "hundred %u", i / 100);
			need(mkdirat(dir, name, 0755) == 0, name);
			close(sub);
			sub = openat(dir, name, O_DIRECTORY);
		}
		snprintf(name, sizeof(name), "%u", i);
		put_file(sub, name, i * 77977 % 500000, 0644, i);
	}
	close(sub);
}

static void make(const char *path, unsigned files)
{
	static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 131048, 131072, 2000000 };
	char name[300] = "x";
	int dir, sub;

	need(mkdir(path, 0755) == 0, path);
	dir = open(path, O_DIRECTORY);
	need(mkdirat(dir, "names", 0750) == 0, "names");
	sub = openat(dir, "names", O_DIRECTORY);
	for (unsigned byte = 1; byte < 256; byte++) {
		name[1] = (char)byte;
		if (byte != '/')
			put_file(sub, name, byte, byte % 2 ? 0644 : 0600, byte);
	}
	memset(name, 'n', 255);
	put_file(sub, name, 255, 0400, 3);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(name, sizeof(name), "size %zu", sizes[i]);
		put_file(dir, name, sizes[i], 0664, i);
	}
	for (unsigned depth = 0; depth < 5; depth++) {
		need(mkdirat(sub, "d", 01777) == 0, "d");
		sub = openat(sub, "d", O_DIRECTORY);
		put_file(sub, "leaf", depth, 0755, depth);
		need(symlinkat("../leaf", sub, "link") == 0, "link");
	}
	put_many(dir, files);
}

static uint64_t add(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ bytes[i]) * 1099511628211ULL;
	return sum;
}

static uint64_t sum_of(int dir, const char *name);

static uint64_t sum_folder(int dir, const char *name, uint64_t sum)
{
	int fd = openat(dir, name, O_DIRECTORY);
	struct dirent **list;
	int n;
	char path[64];

	need(fd >= 0, name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = scandir(path, &list, NULL, NULL);
	need(n >= 0, name);
	/* Added up, so the order is nothing. */
	for (int i = 0; i < n; i++) {
		if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
			sum += sum_of(fd, list[i]->d_name);
	}
	close(fd);
	return sum;
}

static uint64_t sum_of(int dir, const char *name)
{
	static uint8_t data[1 << 16];
	uint64_t sum = 14695981039346656037ULL;
	struct stat st = { 0 };
	ssize_t n;
	int fd;

	need(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0, name);
	sum = add(sum, name, strlen(name));
	sum = add(sum, &st.st_mode, sizeof(st.st_mode));
	if (S_ISDIR(st.st_mode))
		return sum_folder(dir, name, sum);
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, (char *)data, sizeof(data));
		need(n >= 0, name);
		return add(sum, data, (size_t)n);
	}
	fd = openat(dir, name, O_RDONLY);
	need(fd >= 0, name);
	while ((n = read(fd, data, sizeof(data))) > 0)
		sum = add(sum, data, (size_t)n);
	need(n == 0, name);
	close(fd);
	return sum;
}

static void unlinked(void)
{
	char got[8] = "";
	struct stat st = { 0 };
	int fd = open("gone", O_RDWR | O_CREAT | O_EXCL, 0600);

	step(fd >= 0, "create", fd);
	step(write(fd, "still", 5) == 5, "write", 0);
	step(unlink("gone") == 0, "unlink what is open", 0);
	step(fstat(fd, &st) == 0 && st.st_size == 5, "fstat what has no name", st.st_size);
	step(pread(fd, got, 5, 0) == 5 && strcmp(got, "still") == 0, "read what has no name", 0);
	step(ftruncate(fd, 2) == 0 && fstat(fd, &st) == 0 && st.st_size == 2, "cut what has no name", st.st_size);
	step(close(fd) == 0 && access("gone", F_OK) == -1 && errno == ENOENT, "gone", 0);
	errno = 0;
}

static void appends(void)
{
	int a = open("append", O_WRONLY | O_CREAT | O_APPEND, 0644), b = open("append", O_WRONLY | O_APPEND);
	char got[32] = "";
	int fd;

	for (unsigned i = 0; i < 4; i++)
		step(write(a, "aa", 2) == 2 && (fsync(a), write(b, "b", 1)) == 1 && fsync(b) == 0, "append", i);
	close(a);
	close(b);
	fd = open("append", O_RDONLY);
	step(read(fd, got, sizeof(got)) == 12 && strcmp(got, "aabaabaabaab") == 0, "appended", (long long)strlen(got));
	close(fd);
}

static void names(void)
{
	char got[32] = "";
	struct stat st = { 0 };

	put_file(AT_FDCWD, "old", 10, 0644, 1);
	put_file(AT_FDCWD, "other", 20, 0644, 1);
	step(rename("old", "other") == 0 && stat("other", &st) == 0 && st.st_size == 10, "rename over", st.st_size);
	step(link("other", "hard") == 0 && stat("other", &st) == 0 && st.st_nlink == 2, "hard link",
		(long long)st.st_nlink);
	step(unlink("hard") == 0 && stat("other", &st) == 0 && st.st_nlink == 1, "one link", (long long)st.st_nlink);
	step(symlink("../x/other", "sym") == 0 && readlink("sym", got, sizeof(got)) == 10, "symbolic link", 0);
	step(lstat("sym", &st) == 0 && S_ISLNK(st.st_mode), "lstat", st.st_mode);
	step(mkdir("folder", 0755) == 0 && mkdir("folder/in", 0700) == 0, "mkdir", 0);
	step(rename("folder", "moved") == 0 && stat("moved/in", &st) == 0, "rename a folder", 0);
	step(rmdir("moved") == -1 && errno == ENOTEMPTY, "rmdir what is full", 0);
	step(rmdir("moved/in") == 0 && rmdir("moved") == 0, "rmdir", 0);
	step(mkdir("many", 0755) == 0 && chdir("many") == 0, "a folder", 0);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(got, sizeof(got), "name-%u", i);
		need(close(open(got, O_CREAT | O_EXCL | O_WRONLY, 0644)) == 0, got);
	}
	/* Removed while they are listed, as rm does. */
	DIR *dir = opendir(".");
	unsigned seen = 0;

	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] != '.' && unlink(e->d_name) == 0)
			seen++;
	}
	closedir(dir);
	step(seen == 200 && chdir("..") == 0 && rmdir("many") == 0, "names that go while they are listed", seen);
}

static void attributes(void)
{
	struct timespec times[2] = { { 1000000000, 0 }, { 1100000000, 0 } };
	struct statfs fs = { 0 };
	struct stat st = { 0 };

	step(chmod("other", 06711) == 0 && stat("other", &st) == 0 && (st.st_mode & 07777) == 06711, "chmod",
		st.st_mode);
	step(chown("other", 12, 34) == 0 && stat("other", &st) == 0 && st.st_uid == 12 && st.st_gid == 34, "chown",
		st.st_uid);
	step(utimensat(AT_FDCWD, "other", times, 0) == 0 && stat("other", &st) == 0 && st.st_mtime == 1100000000,
		"utimensat", 0);
	step(statfs(".", &fs) == 0 && fs.f_type == 0x01021997 && fs.f_blocks > 1000, "statfs", (long long)fs.f_blocks);
	step(truncate("other", 1ULL << 33) == 0 && stat("other", &st) == 0 && st.st_size == 1LL << 33,
		"8 GiB of nothing", st.st_size);
	step(mknod("device", S_IFCHR | 0666, 0x103) == -1 && errno == EPERM, "no device", 0);
}

static void extended(void)
{
	char got[64] = "";

	step(setxattr("other", "trusted.lab", "value", 5, 0) == 0, "setxattr", 0);
	step(getxattr("other", "trusted.lab", got, sizeof(got)) == 5 && strcmp(got, "value") == 0, "getxattr", 0);
	step(setxattr("other", "trusted.lab", "v", 1, XATTR_CREATE) == -1 && errno == EEXIST, "setxattr of one there",
		0);
	step(listxattr("other", got, sizeof(got)) == 12 && strcmp(got, "trusted.lab") == 0, "listxattr", 0);
	step(removexattr("other", "trusted.lab") == 0, "removexattr", 0);
	step(getxattr("other", "trusted.lab", got, sizeof(got)) == -1 && errno == ENODATA, "no xattr", 0);
}

static void locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	int fd = open("held", O_RDWR), status = 0;

	step(fd >= 0 && fcntl(fd, F_SETLK, &lock) == -1 && errno == EAGAIN, "what the host has locked", fd);
	step(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK, "who has", lock.l_type);
	close(fd);
	fd = open("mine", O_RDWR | O_CREAT, 0644);
	lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	step(fcntl(fd, F_SETLK, &lock) == 0, "lock", fd);
	if (fork() == 0) {
		int other = open("mine", O_RDWR);

		_exit(fcntl(other, F_SETLK, &lock) == -1 && errno == EAGAIN ? 0 : 1);
	}
	wait(&status);
	step(status == 0, "what another process has locked", status);
	lock.l_type = F_UNLCK;
	step(fcntl(fd, F_SETLK, &lock) == 0, "unlock", 0);
	close(fd);
}

/* A FIFO is the guest's own affair, and works. */
static void pipes(void)
{
	char got[8] = "";
	int fd;

	step(mkfifo("fifo", 0644) == 0, "mkfifo", 0);
	if (fork() == 0) {
		fd = open("fifo", O_WRONLY);
		_exit(write(fd, "through", 7) != 7);
	}
	fd = open("fifo", O_RDONLY);
	step(read(fd, got, 7) == 7 && strcmp(got, "through") == 0, "fifo", fd);
	close(fd);
	wait(NULL);
}

static void mappings(void)
{
	enum { SIZE = 100000 };
	uint8_t *data = malloc(SIZE), *map;
	int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);

	step(ftruncate(fd, SIZE) == 0, "room", 0);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	step(map != MAP_FAILED, "mmap", 0);
	if (map == MAP_FAILED)
		return;
	fill(map, SIZE, 77);
	step(msync(map, SIZE, MS_SYNC) == 0, "msync", 0);
	munmap(map, SIZE);
	close(fd);
	fill(data, SIZE, 77);
	fd = open("mapped", O_RDONLY);
	map = malloc(SIZE);
	step(read(fd, map, SIZE) == SIZE && memcmp(map, data, SIZE) == 0, "what was mapped", 0);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	umask(0);
	if (strcmp(argv[1], "make") == 0) {
		make(argv[2], argc > 3 ? (unsigned)atoi(argv[3]) : 0);
	} else if (strcmp(argv[1], "sum") == 0) {
		printf("%016llx\n", (unsigned long long)sum_folder(AT_FDCWD, argv[2], 0));
	} else if (strcmp(argv[1], "hold") == 0) {
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		int fd = open(argv[2], O_RDWR | O_CREAT, 0644);

		need(fcntl(fd, F_SETLK, &lock) == 0, argv[2]);
		for (;;)
			pause();
	} else {
		need(chdir(argv[2]) == 0, argv[2]);
		unlinked();
		appends();
		names();
		attributes();
		extended();
		locks();
		pipes();
		if (argc > 3 && strcmp(argv[3], "mmap") == 0)
			mappings();
		step(true, "end", 0);
	}
	return 0;
}
