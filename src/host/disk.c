/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk.c - opening a disk: that it is one, that it is raw, that nobody else writes it, what the host knows of its
 * blocks; and lanes.
 */
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/say.h"
#include "core/status.h"
#include "host/disk_format.h"
#include "host/disk_io.h"
#include "host/disk_lock.h"

#define ALIGN_SAFE 4096 /* for direct I/O, where the kernel does not tell */

static int usage(struct error *err, int code)
{
	err->status = STATUS_USAGE;
	return code;
}

/* ---- what it is ---- */

/* Once more, now that it is open: a file that was raw a moment ago may be another one. */
static int check_format(const struct disk *disk, const struct disk_config *c, struct error *err)
{
	const struct disk_format *format;
	uint8_t head[DISK_SECTOR];
	ssize_t n = pread(disk->fd, head, sizeof(head), 0);

	if (n < 0)
		return error_set(err, -errno, "disk '%s': cannot be read: %s", c->path, strerror(errno));
	format = c->raw ? NULL : disk_format_of(head, (size_t)n);
	if (!format)
		return 0;
	error_set(err, -EINVAL, "disk '%s': looks like a %s image", c->path, format->title);
	error_hint(err, "for a raw disk that begins so, add ,format=raw");
	return usage(err, -EINVAL);
}

static int check_kind(const struct stat *st, const char *path, struct error *err)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return usage(err, error_set(err, -EINVAL, "disk '%s': %s", path,
				  S_ISDIR(st->st_mode) ? "a directory" : "neither a file nor a block device"));
}

static int cannot_open(const struct disk_config *c, int r, struct error *err)
{
	if (r == -EBUSY)
		return usage(
			err, error_set(err, r, "disk '%s': in use: it is mounted, or another program has it", c->path));
	error_set(err, r, "disk '%s': %s", c->path, strerror(-r));
	if (!c->ro && (r == -EACCES || r == -EPERM || r == -EROFS) &&
		faccessat(AT_FDCWD, c->path, R_OK, AT_EACCESS) == 0)
		error_hint(err, "add ,ro to only read it");
	return usage(err, r);
}

static int open_file(struct disk *disk, const struct disk_config *c, struct error *err)
{
	struct stat st;
	int flags = (c->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY, r;

	/* Before it is opened: with a FIFO that would wait, and a tape would be rewound. */
	if (stat(c->path, &st)) {
		r = -errno;
		error_set(err, r, "disk '%s': %s", c->path, strerror(-r));
		if (strstr(c->path, "://"))
			error_hint(err, "of what is elsewhere, disks by NBD are known: nbd://HOST[:PORT]/EXPORT");
		return usage(err, r);
	}
	if (check_kind(&st, c->path, err))
		return -EINVAL;
	/* Of a block device this asks whether it is mounted. */
	if (S_ISBLK(st.st_mode) && !c->ro)
		flags |= O_EXCL;
	disk->fd = open(c->path, flags);
	if (disk->fd < 0)
		return cannot_open(c, -errno, err);
	if (fstat(disk->fd, &st))
		return error_set(err, -errno, "disk '%s': %s", c->path, strerror(errno));
	disk->ro = c->ro;
	disk->device = S_ISBLK(st.st_mode);
	return check_kind(&st, c->path, err);
}

static int lock(const struct disk *disk, const char *path, struct error *err)
{
	bool told = false;
	int r = disk_lock(disk->fd, path, disk->ro, &told, err);

	return r ? usage(err, r) : 0;
}

static uint64_t bytes_of(const struct disk *disk)
{
	uint64_t size = 0;
	struct stat st;

	if (disk->device)
		return ioctl(disk->fd, BLKGETSIZE64, &size) ? 0 : size;
	return fstat(disk->fd, &st) || st.st_size < 0 ? 0 : (uint64_t)st.st_size;
}

uint64_t disk_size(const struct disk *disk)
{
	return bytes_of(disk) / DISK_SECTOR * DISK_SECTOR;
}

static int measure(struct disk *disk, const char *path, struct error *err)
{
	uint64_t bytes = bytes_of(disk);

	disk->size = bytes / DISK_SECTOR * DISK_SECTOR;
	if (!disk->size)
		return usage(err, error_set(err, -EINVAL, "disk '%s': %s", path,
					  bytes ? "smaller than a sector of 512 bytes" : "empty: it has no bytes"));
	if (disk->size != bytes)
		say(SAY_MS, "disk '%s': %llu bytes are no whole sectors of 512: the guest does not see the last %u",
			path, (unsigned long long)bytes, (unsigned)(bytes - disk->size));
	return 0;
}

/* ---- its blocks ---- */

static bool power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

/* What the kernel says of a block device in sysfs; a partition's is that of the disk it is on. */
static unsigned long long device_number(const struct stat *st, const char *name)
{
	static const char *const forms[] = { "/sys/dev/block/%u:%u/queue/%s", "/sys/dev/block/%u:%u/../queue/%s" };
	unsigned long long n = 0;

	for (unsigned i = 0; i < 2; i++) {
		char path[128];
		FILE *file;

		/* NOLINTNEXTLINE: both forms are above */
		snprintf(path, sizeof(path), i ? forms[1] : forms[0], major(st->st_rdev), minor(st->st_rdev), name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &n) != 1)
			n = 0;
		fclose(file);
		break;
	}
	return n;
}

static void device_blocks(struct disk *disk, const struct stat *st)
{
	int logical = 0;
	unsigned n = 0;

	if (ioctl(disk->fd, BLKSSZGET, &logical) == 0 && logical > 0)
		disk->logical = (uint32_t)logical;
	if (ioctl(disk->fd, BLKPBSZGET, &n) == 0)
		disk->physical = n;
	if (ioctl(disk->fd, BLKIOOPT, &n) == 0)
		disk->optimal = n;
	/* Space is given back by fallocate(), which a device without this cannot do. */
	disk->can_discard = device_number(st, "write_zeroes_max_bytes") > 0;
}

static void file_blocks(struct disk *disk, const struct stat *st)
{
	off_t beyond = (st->st_size + ALIGN_SAFE - 1) / ALIGN_SAFE * ALIGN_SAFE;

	disk->physical = (uint32_t)st->st_blksize;
	if (st->st_blksize > ALIGN_SAFE) {
		disk->physical = ALIGN_SAFE;
		disk->optimal = (uint32_t)st->st_blksize;
	}
	/* Where there is nothing yet, to see whether the file system can. */
	disk->can_discard = fallocate(disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, ALIGN_SAFE) == 0;
}

static void blocks(struct disk *disk)
{
	struct stat st;

	disk->logical = DISK_SECTOR;
	disk->physical = DISK_SECTOR;
	if (fstat(disk->fd, &st) == 0) {
		if (disk->device)
			device_blocks(disk, &st);
		else
			file_blocks(disk, &st);
	}
	if (!power_of_two(disk->logical) || disk->logical < DISK_SECTOR)
		disk->logical = DISK_SECTOR;
	if (!power_of_two(disk->physical) || disk->physical < disk->logical)
		disk->physical = disk->logical;
	if (disk->ro)
		disk->can_discard = false;
}

/* ---- direct ---- */

/* What direct I/O has to be aligned to. False: the file cannot be used so. */
static bool direct_alignment(struct disk *disk)
{
	struct statx sx;

	disk->align_offset = disk->align_address = disk->device ? disk->logical : ALIGN_SAFE;
#ifdef STATX_DIOALIGN
	if (statx(disk->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && sx.stx_mask & STATX_DIOALIGN) {
		disk->align_offset = sx.stx_dio_offset_align;
		disk->align_address = sx.stx_dio_mem_align;
	}
#else
	(void)sx;
#endif
	return power_of_two(disk->align_offset) && power_of_two(disk->align_address);
}

/* The same file once more; by its path it could be another one by now. */
static int open_direct(struct disk *disk, const struct disk_config *c, struct error *err)
{
	char path[64];
	int fd;

	disk->align_offset = disk->align_address = 1;
	if (!c->direct)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk->fd);
	fd = open(path, (c->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT);
	if (fd < 0 || !direct_alignment(disk)) {
		int r = fd < 0 ? -errno : -EINVAL;

		if (fd >= 0)
			close(fd);
		error_set(err, r, "disk '%s': direct: %s", c->path,
			r == -EINVAL ? "its file system has no direct I/O" : strerror(-r));
		error_hint(err, "leave out ,direct to go through the host's page cache");
		return usage(err, r);
	}
	disk->cached = disk->fd;
	disk->fd = fd;
	return 0;
}

/* ---- */

int disk_open(struct disk *disk, const struct disk_config *c, struct error *err)
{
	int r;

	*disk = (struct disk){ .open = true, .fd = -1, .cached = -1, .way = c->way };
	r = open_file(disk, c, err);
	if (r == 0)
		r = lock(disk, c->path, err);
	if (r == 0)
		r = measure(disk, c->path, err);
	if (r == 0)
		r = check_format(disk, c, err);
	if (r == 0) {
		blocks(disk);
		r = open_direct(disk, c, err);
	}
	if (r)
		disk_close(disk);
	return r;
}

void disk_close(struct disk *disk)
{
	if (!disk->open)
		return;
	disk->open = false;
	if (disk->cached >= 0)
		close(disk->cached);
	if (disk->fd >= 0)
		close(disk->fd);
	disk->fd = disk->cached = -1;
}

void disk_forget(struct disk *disk)
{
	atomic_store(&disk->lost, 0);
}

/* ---- lanes ---- */

void disk_lane_init(struct disk_lane *lane, struct disk *disk, struct loop *loop, unsigned depth)
{
	lane->disk = disk;
	lane->loop = loop;
	lane->depth = depth;
	lane->engine = NULL;
	lane->state = NULL;
}

void disk_lane_fini(struct disk_lane *lane)
{
	if (lane->engine)
		lane->engine->close(lane);
	lane->engine = NULL;
}

/* On first use, so that a disk that is not used costs nothing. */
static int choose(struct disk_lane *lane)
{
	int r = -ENOSYS;

	if (lane->disk->way == DISK_AUTO)
		r = disk_uring.open(lane);
	if (r == 0) {
		lane->engine = &disk_uring;
		return 0;
	}
	r = disk_threads.open(lane);
	if (r == 0)
		lane->engine = &disk_threads;
	return r;
}

int disk_submit(struct disk_lane *lane, struct disk_io *io)
{
	if (!lane->engine && choose(lane))
		return -ENOMEM;
	disk_io_begin(io);
	lane->engine->submit(lane, io);
	return 0;
}

void disk_commit(struct disk_lane *lane)
{
	if (lane->engine)
		lane->engine->commit(lane);
}

const char *disk_lane_way(const struct disk_lane *lane)
{
	return lane->engine ? lane->engine->name : NULL;
}
