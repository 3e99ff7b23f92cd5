/* SPDX-License-Identifier: BSD-2-Clause */
/* backing.c - host memory for guest RAM other than plain anonymous memory, which is core/mem.c's. */
#include "core/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/room.h"
#include "core/status.h"

#define NODES_MAX 1024

/* Some hundredths of a second's worth of pages. */
#define PIECE (64ULL << 20)

#define MIB(bytes) ((unsigned long long)(bytes) >> 20)

static int usage(struct error *err, int code)
{
	err->status = STATUS_USAGE;
	return code;
}

/* ---- checks ---- */

/* The pool of huge pages of that size; what `name` of it says, or -1 where the kernel has no such size. */
static long long huge_pool(uint64_t page, const char *name)
{
	char path[128];
	long long n = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/%s", (unsigned long long)page >> 10,
		name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%lld", &n) != 1)
		n = -1;
	fclose(file);
	return n;
}

static uint64_t default_huge_page(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	if (!file)
		return 0;
	while (!kib && fgets(line, sizeof(line), file))
		(void)sscanf(line, "Hugepagesize: %llu kB", &kib);
	fclose(file);
	return kib << 10;
}

static int check_huge_size(struct backing_config *c, const char *option, uint64_t size, struct error *err)
{
	if (size % c->huge_page)
		return usage(err, error_set(err, -EINVAL, "%s: RAM of %llu KiB is no multiple of a page of %llu MiB",
					  option, (unsigned long long)size >> 10, MIB(c->huge_page)));
	return 0;
}

static int check_hugetlbfs(struct backing_config *c, uint64_t size, struct error *err)
{
	struct statfs fs;

	if (statfs(c->hugetlbfs, &fs))
		return usage(err, error_set(err, -errno, "--hugetlbfs '%s': %s", c->hugetlbfs, strerror(errno)));
	if ((unsigned long)fs.f_type != HUGETLBFS_MAGIC) {
		error_set(err, -EINVAL, "--hugetlbfs '%s': not a hugetlbfs", c->hugetlbfs);
		error_hint(err, "mount one: mount -t hugetlbfs none DIRECTORY");
		return usage(err, -EINVAL);
	}
	c->huge_page = (uint64_t)fs.f_bsize;
	return check_huge_size(c, "--hugetlbfs", size, err);
}

static int check_huge(struct backing_config *c, uint64_t size, struct error *err)
{
	if (!c->huge_page)
		c->huge_page = default_huge_page();
	if (!c->huge_page || huge_pool(c->huge_page, "nr_hugepages") < 0) {
		error_set(err, -EINVAL, "--hugepages: this host has no pages of %llu KiB",
			(unsigned long long)c->huge_page >> 10);
		error_hint(err, "/sys/kernel/mm/hugepages lists those that it has");
		return usage(err, -EINVAL);
	}
	return check_huge_size(c, "--hugepages", size, err);
}

/* An older file has to be one that RAM fits. `fd` is -1 where it is not open. */
static int check_old_file(const char *path, int fd, uint64_t size, struct error *err)
{
	struct stat st;

	if (fd < 0 ? stat(path, &st) : fstat(fd, &st))
		return usage(err, error_set(err, -errno, "--mem-file '%s': %s", path, strerror(errno)));
	if (!S_ISREG(st.st_mode))
		return usage(err, error_set(err, -EINVAL, "--mem-file '%s': not a regular file", path));
	if ((uint64_t)st.st_size != size) {
		error_set(err, -EINVAL, "--mem-file '%s': %llu bytes, but RAM has %llu", path,
			(unsigned long long)st.st_size, (unsigned long long)size);
		error_hint(err, "name its size by -m, or remove it");
		return usage(err, -EINVAL);
	}
	return 0;
}

/* A file that is not there yet needs a directory to be made in. */
static int check_new_file(const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	/* With the slash, so that what is no directory is told as that. */
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int r = !folder ? -ENOMEM : access(folder, W_OK | X_OK) ? -errno : 0;

	free(folder);
	return r ? usage(err, error_set(err, r, "--mem-file '%s': cannot be made there: %s", path, strerror(-r))) : 0;
}

int backing_check(struct backing_config *c, uint64_t size, struct error *err)
{
	char path[64];
	int r = 0;

	if (!!c->file + !!c->hugetlbfs + c->huge > 1)
		return usage(
			err, error_set(err, -EINVAL, "--mem-file, --hugetlbfs and --hugepages exclude each other"));
	if (c->hugetlbfs)
		r = check_hugetlbfs(c, size, err);
	else if (c->huge)
		r = check_huge(c, size, err);
	else if (c->file)
		r = access(c->file, F_OK) ? check_new_file(c->file, err) : check_old_file(c->file, -1, size, err);
	if (r || !c->bind)
		return r;
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", c->node);
	if (c->node >= NODES_MAX || access(path, F_OK))
		return usage(err, error_set(err, -EINVAL, "--numa-node %u: this host has no such node", c->node));
	return 0;
}

/* ---- mappings ---- */

static void unmap(struct memory *mem)
{
	munmap(mem->host, mem->size);
	if (mem->fd >= 0)
		close(mem->fd);
	free(mem);
}

/*
 * Maps the whole of it, at a multiple of `align`: so huge pages of the host's are huge pages of the guest's. `fd` is
 * the memory's if that succeeds; else, -errno, it is closed.
 */
static int map(int fd, uint64_t size, uint64_t align, int flags, struct memory **out)
{
	struct memory *mem = calloc(1, sizeof(*mem));
	uint8_t *room = MAP_FAILED;
	void *host = MAP_FAILED;
	uint64_t head = 0;
	int r = -ENOMEM;

	if (mem && size <= SIZE_MAX - align) {
		room = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		r = -errno;
	}
	if (room != MAP_FAILED) {
		head = -(uint64_t)(uintptr_t)room & (align - 1);
		host = mmap(room + head, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
		r = -errno;
	}
	if (host == MAP_FAILED) {
		if (room != MAP_FAILED)
			munmap(room, size + align);
		if (fd >= 0)
			close(fd);
		free(mem);
		return r;
	}
	if (head)
		munmap(room, head);
	munmap(room + head + size, align - head);
	*mem = (struct memory){
		.host = host, .size = size, .shared = flags & MAP_SHARED, .fd = fd, .refs = 1, .release = unmap
	};
	*out = mem;
	return 0;
}

/*
 * A file without a name, of `size` bytes for ever: whoever gets it can write what is in it, but not take memory away
 * from under the guest and us. -1 with errno.
 */
static int make_memfd(uint64_t size, unsigned flags)
{
	int fd = memfd_create("guest RAM", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags), r;

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	r = errno;
	close(fd);
	errno = r;
	return -1;
}

static uint64_t aligned(const struct backing_config *c)
{
	return c->huge_page > MEMORY_ALIGN ? c->huge_page : MEMORY_ALIGN;
}

/* Too few huge pages is the usual reason, and the kernel only says "Cannot allocate memory". */
static int no_huge_pages(const struct backing_config *c, const char *option, uint64_t size, int r, struct error *err)
{
	long long unused = huge_pool(c->huge_page, "free_hugepages");

	if (r != -ENOMEM)
		return error_set(err, r, "%s: %s", option, strerror(-r));
	error_set(err, r, "%s: %llu pages of %llu MiB are needed, %lld are free", option,
		(unsigned long long)(size / c->huge_page), MIB(c->huge_page), unused > 0 ? unused : 0);
	error_hint(err, "as root: echo NUMBER >/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
		(unsigned long long)c->huge_page >> 10);
	return r;
}

/* The pages are reserved by mmap(), so that a guest never meets their lack. */
static int map_huge(const struct backing_config *c, uint64_t size, struct memory **out, struct error *err)
{
	unsigned bits = (unsigned)__builtin_ctzll(c->huge_page) << MAP_HUGE_SHIFT;
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)bits, r = 0;

	if (c->shared) {
		flags = MAP_SHARED;
		fd = make_memfd(size, MFD_HUGETLB | bits);
		r = fd < 0 ? -errno : 0;
	}
	if (r == 0)
		r = map(fd, size, aligned(c), flags, out);
	return r ? no_huge_pages(c, "--hugepages", size, r, err) : 0;
}

static int map_hugetlbfs(const struct backing_config *c, uint64_t size, struct memory **out, struct error *err)
{
	char path[4096];
	int fd, r;

	if (snprintf(path, sizeof(path), "%s/trapline-XXXXXX", c->hugetlbfs) >= (int)sizeof(path))
		return usage(err, error_set(err, -ENAMETOOLONG, "--hugetlbfs: %s", strerror(ENAMETOOLONG)));
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return error_set(
			err, -errno, "--hugetlbfs '%s': cannot make a file: %s", c->hugetlbfs, strerror(errno));
	/* Nobody else needs its name, and without it the pages are free again however we end. */
	unlink(path);
	r = ftruncate(fd, (off_t)size) ? -errno : 0;
	if (r)
		close(fd);
	else
		r = map(fd, size, aligned(c), MAP_SHARED, out);
	return r ? no_huge_pages(c, "--hugetlbfs", size, r, err) : 0;
}

/*
 * A new file gets all its blocks now: a disk that is full later would kill us at the guest's first touch of a page.
 * File systems that cannot do that get a sparse one.
 */
static int fill_file(int fd, uint64_t size)
{
	int r;

	do
		r = fallocate(fd, 0, 0, (off_t)size);
	while (r && errno == EINTR);
	if (r && (errno == EOPNOTSUPP || errno == ENOSYS))
		r = ftruncate(fd, (off_t)size);
	return r ? -errno : 0;
}

static int map_file(const struct backing_config *c, uint64_t size, struct backing *b, struct error *err)
{
	int fd = open(c->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

	if (fd >= 0) {
		b->made = c->file;
		r = fill_file(fd, size);
	} else if (errno == EEXIST) {
		fd = open(c->file, O_RDWR | O_CLOEXEC);
		b->used = true;
	}
	if (fd < 0)
		return usage(err, error_set(err, -errno, "--mem-file '%s': %s", c->file, strerror(errno)));
	if (b->used && check_old_file(c->file, fd, size, err)) {
		close(fd);
		return -EINVAL;
	}
	if (r)
		close(fd);
	else
		r = map(fd, size, aligned(c), MAP_SHARED, &b->memory);
	return r ? error_set(err, r, "--mem-file '%s': %llu MiB: %s", c->file, MIB(size), strerror(-r)) : 0;
}

static int map_memfd(const struct backing_config *c, uint64_t size, struct memory **out, struct error *err)
{
	int fd = make_memfd(size, 0), r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = map(fd, size, aligned(c), MAP_SHARED, out);
	if (r)
		return error_set(err, r, "no memory that can be shared, of %llu MiB, for guest RAM: %s", MIB(size),
			strerror(-r));
	/* A wish, which most hosts are not set to grant: /sys/kernel/mm/transparent_hugepage/shmem_enabled. */
	(void)madvise((*out)->host, (*out)->size, MADV_HUGEPAGE);
	return 0;
}

static int bind_node(const struct memory *mem, unsigned node, struct error *err)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(long))] = { 0 };

	mask[node / (8 * sizeof(long))] = 1UL << node % (8 * sizeof(long));
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_mbind, mem->host, mem->size, MPOL_BIND, mask, NODES_MAX + 1UL, 0))
		return error_set(err, -errno, "--numa-node %u: %s", node, strerror(errno));
	return 0;
}

/* Writes to one byte a page, as a kernel before Linux 5.14 wants it: what an older file holds stays. */
static void touch(uint8_t *host, uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	for (uint64_t at = 0; at < size; at += page)
		__atomic_fetch_or(host + at, 0, __ATOMIC_RELAXED);
}

static int populate(uint8_t *host, uint64_t size)
{
	int r;

	do
		r = madvise(host, size, MADV_POPULATE_WRITE) ? -errno : 0;
	while (r == -EINTR || r == -EAGAIN);
	if (r != -EINVAL)
		return r;
	touch(host, size);
	return 0;
}

/* Huge pages were reserved by then, and a file's pages can be written back. */
static int check_room(const struct backing_config *c, uint64_t size, struct error *err)
{
	uint64_t room = c->file || c->hugetlbfs || c->huge ? UINT64_MAX : room_now("");

	if (size <= room)
		return 0;
	error_set(err, -ENOMEM, "--prefault: RAM is %llu MiB, and the host has %llu MiB to give", MIB(size), MIB(room));
	error_hint(err, "-m says how much RAM there is");
	return -ENOMEM;
}

/* In pieces, since a signal that is to end us is blocked and would have to wait for all of it. */
static int prefault(const struct backing_config *c, const struct memory *mem, struct error *err)
{
	uint64_t piece = c->huge_page > PIECE ? c->huge_page : PIECE;
	int r = check_room(c, mem->size, err);

	if (r)
		return r;
	for (uint64_t at = 0; r == 0 && at < mem->size; at += piece) {
		uint64_t left = mem->size - at;

		if (c->interrupted && c->interrupted(err)) {
			err->status = STATUS_QUIT;
			return -EINTR;
		}
		r = populate((uint8_t *)mem->host + at, left < piece ? left : piece);
	}
	/* EFAULT is what a touch would have been a SIGBUS for. */
	return r ? error_set(err, r, "--prefault: the host has no %llu MiB for it: %s", MIB(mem->size), strerror(-r))
		 : 0;
}

int backing_new(const struct backing_config *c, uint64_t size, struct backing *b, struct error *err)
{
	int r;

	*b = (struct backing){ 0 };
	if (c->file) {
		r = map_file(c, size, b, err);
	} else if (c->hugetlbfs) {
		r = map_hugetlbfs(c, size, &b->memory, err);
	} else if (c->huge) {
		r = map_huge(c, size, &b->memory, err);
	} else if (c->shared) {
		r = map_memfd(c, size, &b->memory, err);
	} else {
		r = memory_new(size, &b->memory);
		if (r)
			error_set(err, r, "no address space for %llu MiB of guest RAM: %s", MIB(size), strerror(-r));
	}
	if (r == 0 && c->bind)
		r = bind_node(b->memory, c->node, err);
	if (r == 0 && c->prefault)
		r = prefault(c, b->memory, err);
	if (r)
		backing_free(b);
	return r;
}

void backing_keep(struct backing *b)
{
	b->made = NULL;
}

void backing_free(struct backing *b)
{
	if (b->memory)
		memory_put(b->memory);
	if (b->made)
		unlink(b->made);
	*b = (struct backing){ 0 };
}

void backing_text(const struct backing_config *c, char *text, size_t size)
{
	char node[32] = "";

	if (c->bind)
		snprintf(node, sizeof(node), ", from NUMA node %u", c->node);
	if (c->file)
		snprintf(text, size, "file %s", c->file);
	else if (c->hugetlbfs || c->huge)
		snprintf(text, size, "huge pages of %llu MiB%s%s", MIB(c->huge_page), c->hugetlbfs ? " from " : "",
			c->hugetlbfs ? c->hugetlbfs : "");
	else
		snprintf(text, size, c->shared ? "memory that other processes map (memfd)" : "anonymous memory");
	snprintf(text + strlen(text), size - strlen(text), "%s%s", c->prefault ? ", filled at start" : "", node);
}
