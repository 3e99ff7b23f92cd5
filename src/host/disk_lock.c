/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_lock.c - locks on disks; see disk_lock.h.
 *
 * Who has a lock of an open file description the kernel does not tell, since it is no process's: it is looked for among
 * the descriptors of all processes that we may look at, whose fdinfo tells of locks (proc(5)).
 */
#include "host/disk_lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/say.h"
#include "core/status.h"

#define WORDS    4096 /* of a command line */
#define COMM_MAX 15   /* bytes of a program's name that the kernel keeps */
/* QEMU tells what it does to a file by locks for reading, each on a byte of its own: this one, that it writes. */
#define QEMU_WRITES 101

/* A file of a process's under /proc, as text. Its length, or -1. */
static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, size - 1);
	close(fd);
	if (n >= 0)
		text[n] = '\0';
	return n;
}

/* What it is called, of a trapline, the value of --name; false: none. */
static bool guest_of(pid_t pid, char *name, size_t size)
{
	char words[WORDS];
	ssize_t n = read_proc(pid, "comm", words, sizeof(words));

	if (n <= 0 || strcmp(words, "trapline\n") != 0)
		return false;
	n = read_proc(pid, "cmdline", words, sizeof(words));
	for (const char *word = words; n > 0 && word < words + n; word += strlen(word) + 1) {
		const char *value = NULL;

		if (strncmp(word, "--name=", 7) == 0)
			value = word + 7;
		else if (strcmp(word, "--name") == 0 && word + 7 < words + n)
			value = word + 7;
		if (value) {
			snprintf(name, size, "%s", value);
			return *value;
		}
	}
	return false;
}

static pid_t parent_of(pid_t pid)
{
	char stat[512], *at;
	int parent = 0;

	if (read_proc(pid, "stat", stat, sizeof(stat)) <= 0)
		return 0;
	at = strrchr(stat, ')');
	return at && sscanf(at, ") %*c %d", &parent) == 1 ? parent : 0;
}

/*
 * What program it runs: as the kernel keeps it, which cuts what is longer than 15
 * bytes; then the file's, if we may know.
 */
static void program_of(pid_t pid, char *comm, size_t size)
{
	char path[32], exe[256], *base;
	ssize_t n;

	snprintf(comm, size, "?");
	if (read_proc(pid, "comm", comm, size) > 0)
		comm[strcspn(comm, "\n")] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = strlen(comm) == COMM_MAX ? readlink(path, exe, sizeof(exe) - 1) : -1;
	exe[n > 0 ? n : 0] = '\0';
	base = strrchr(exe, '/');
	if (base && strncmp(base + 1, comm, COMM_MAX) == 0)
		snprintf(comm, size, "%s", base + 1);
}

/* "process 4711 (trapline, guest 'web')" */
static void describe(pid_t pid, char *text, size_t size)
{
	char comm[64], name[64];
	bool named = guest_of(pid, name, sizeof(name));

	program_of(pid, comm, sizeof(comm));
	/* One that serves it for a guest is a child of that. */
	if (!named && parent_of(pid) > 1)
		named = guest_of(parent_of(pid), name, sizeof(name));
	snprintf(text, size, "process %d (%s%s%s%s)", pid, comm, named ? ", guest '" : "", named ? name : "",
		named ? "'" : "");
}

/* A line of fdinfo's: a lock that only who writes has. */
static bool is_writers(const char *line)
{
	unsigned long long begin, end;
	char kind[16];
	int n = sscanf(line, "lock: %*s %*s %*s %15s %*s %*s %llu %llu", kind, &begin, &end);

	return n >= 1 && (strcmp(kind, "WRITE") == 0 || (n == 3 && begin <= QEMU_WRITES && end >= QEMU_WRITES));
}

/* Whether its descriptor `fd` has a lock that keeps us out. */
static bool has_lock(pid_t pid, const char *fd, bool ro)
{
	char name[32], text[4096];

	snprintf(name, sizeof(name), "fdinfo/%.16s", fd);
	if (read_proc(pid, name, text, sizeof(text)) <= 0)
		return false;
	for (char *line = strstr(text, "lock:"); line; line = strstr(line + 1, "lock:")) {
		if (!ro || is_writers(line))
			return true;
	}
	return false;
}

static bool is_holder(pid_t pid, const struct stat *file, bool ro)
{
	char path[32];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		struct stat st;

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && st.st_dev == file->st_dev &&
			st.st_ino == file->st_ino)
			found = has_lock(pid, entry->d_name, ro);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* 0: nobody that can be seen. */
static pid_t find_holder(int fd, bool ro)
{
	struct flock whole = { .l_type = ro ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	struct dirent *entry;
	struct stat file;
	pid_t pid = 0;
	DIR *dir;

	/* A lock of the older kind is a process's. */
	if (fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK && whole.l_pid > 0)
		return whole.l_pid;
	if (fstat(fd, &file))
		return 0;
	dir = opendir("/proc");
	while (dir && !pid && (entry = readdir(dir))) {
		pid_t other = isdigit((unsigned char)*entry->d_name) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;

		if (other > 0 && is_holder(other, &file, ro))
			pid = other;
	}
	if (dir)
		closedir(dir);
	return pid;
}

static int in_use(int fd, const char *path, bool ro, struct error *err)
{
	pid_t holder = find_holder(fd, ro);
	char who[192];

	/* Or a program that serves another of this guest's disks has it. */
	if (holder && (holder == getpid() || parent_of(holder) == getpid())) {
		err->status = STATUS_USAGE;
		error_set(err, -EBUSY, "disk '%s': in use by this guest already: it is named twice", path);
	} else {
		if (holder)
			describe(holder, who, sizeof(who));
		else
			snprintf(who, sizeof(who), "another process, of another user's or machine's");
		error_set(err, -EBUSY, "disk '%s': in use: %s %s", path, who, ro ? "writes it" : "has it");
	}
	if (!ro)
		error_hint(err, "guests can share a disk that all of them have with ,ro");
	return -EBUSY;
}

/* Who reads has the whole file, whose end is told as 0. */
static bool qemu_writes(int fd)
{
	struct flock byte = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = QEMU_WRITES, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &byte) == 0 && byte.l_type != F_UNLCK && byte.l_len;
}

int disk_lock(int fd, const char *path, bool ro, bool *told, struct error *err)
{
	struct flock whole = { .l_type = ro ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
		/* It looks for ours when it has its own, and so do we. */
		if (!ro || !qemu_writes(fd))
			return 0;
		whole.l_type = F_UNLCK;
		(void)fcntl(fd, F_OFD_SETLK, &whole);
		return in_use(fd, path, ro, err);
	}
	if (errno == EAGAIN || errno == EACCES)
		return in_use(fd, path, ro, err);
	if (!*told)
		say(SAY_MS, "disk '%s': cannot be locked against another run: %s", path, strerror(errno));
	*told = true;
	return 0;
}
