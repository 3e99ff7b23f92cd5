/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * disk_chain.c - what lies below a disk image; see disk_chain.h.
 *
 * Layouts: docs/interop/qcow2.txt and qed_spec.txt of QEMU's. QED and the first QCOW have no place for the name of a
 * format; QED can say "raw".
 */
#include "host/disk_chain.h"

#include <byteswap.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/disk_lock.h"

#define QCOW2_EXT_END    0
#define QCOW2_EXT_FORMAT 0xe2792aca
#define QCOW2_EXT_DATA   0x44415441
#define QCOW2_DATA       4 /* of the incompatible features' lowest byte: the data are in another file */
#define QED_BELOW        1
#define QED_NO_PROBE     4
#define HEAD             104  /* bytes of a header that are looked at without asking */
#define NAME             1023 /* bytes of a name at most */

/* One image, and what it says. */
struct image {
	const char *path;
	const struct disk_format *format;
	const char *as;       /* what the file is to it that it names */
	bool names;           /* a file below it */
	char name[NAME + 1];  /* that file's */
	char data[NAME + 1];  /* the name of the file that has its data; "": it has them itself, or does not say */
	char name_format[32]; /* "": it does not say */
	char below[PATH_MAX]; /* the name as a path; "": it is none */
};

static uint32_t be32_at(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return be32toh(value);
}

static uint32_t le32_at(const uint8_t *p)
{
	return bswap_32(be32_at(p));
}

static uint64_t be64_at(const uint8_t *p)
{
	return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
}

/* The text in one of QCOW2's header extensions; as it was where there is none. */
static void qcow2_text(const uint8_t *head, size_t n, uint32_t wanted, char *text, size_t size)
{
	size_t at = be32_at(head + 4) >= 3 ? be32_at(head + 100) : 72;

	while (at <= n && n - at >= 8) {
		uint32_t type = be32_at(head + at), len = be32_at(head + at + 4);

		if (type == QCOW2_EXT_END || len > n - at - 8)
			return;
		if (type == wanted) {
			snprintf(text, size, "%.*s", (int)len, (const char *)head + at + 8);
			return;
		}
		at += 8 + (len + 7) / 8 * 8;
	}
}

static void look_at_qcow2(struct image *image, const uint8_t *head, size_t n)
{
	qcow2_text(head, n, QCOW2_EXT_FORMAT, image->name_format, sizeof(image->name_format));
	if (be32_at(head + 4) >= 3 && head[79] & QCOW2_DATA)
		qcow2_text(head, n, QCOW2_EXT_DATA, image->data, sizeof(image->data));
}

/* What the image says. 0 or -errno. */
static int look(struct image *image)
{
	uint8_t head[4096];
	ssize_t n = disk_format_head(image->path, 0, head, sizeof(head));
	uint64_t at = 0;
	uint32_t len = 0;

	image->names = false;
	image->name[0] = image->name_format[0] = image->data[0] = '\0';
	if (n < HEAD)
		return n < 0 ? (int)n : 0; /* none, as its server will say */
	if (strcmp(image->format->name, "qcow2") == 0 || strcmp(image->format->name, "qcow") == 0) {
		at = be64_at(head + 8);
		len = be32_at(head + 16);
		if (image->format->name[4] == '2')
			look_at_qcow2(image, head, (size_t)n);
	} else if (strcmp(image->format->name, "qed") == 0 && head[16] & QED_BELOW) {
		at = le32_at(head + 56);
		len = le32_at(head + 60);
		if (head[16] & QED_NO_PROBE)
			snprintf(image->name_format, sizeof(image->name_format), "raw");
	}
	image->names = at;
	if (!at || at > INT64_MAX)
		return 0;
	n = disk_format_head(image->path, at, image->name, len < NAME ? len : NAME);
	image->name[n < 0 ? 0 : n] = '\0';
	return n < 0 ? (int)n : 0;
}

/* "nbd:...": something that is no path, as their server tells it (file: is one). */
static bool is_path(const char *name)
{
	const char *colon = strchr(name, ':');

	return !colon || memchr(name, '/', (size_t)(colon - name));
}

/*
 * The path below, from the folder of who names it on; of one with "file:" before it and of a file for data from the
 * folder that we are in, as their server does. False: it is too long.
 */
static bool find_below(struct image *image, bool from_here)
{
	bool file = strncmp(image->name, "file:", 5) == 0;
	const char *name = file ? image->name + 5 : image->name;
	const char *slash = file || from_here || *name == '/' ? NULL : strrchr(image->path, '/');
	int n;

	image->below[0] = '\0';
	if (!is_path(name))
		return true;
	n = snprintf(image->below, sizeof(image->below), "%.*s%s", slash ? (int)(slash + 1 - image->path) : 0,
		image->path, name);
	return n < (int)sizeof(image->below);
}

static int wrong(const struct image *image, int r, const char *why, struct error *err)
{
	return error_set(err, r, "'%.300s' names '%.300s' as %s: %s", image->path, image->name, image->as, why);
}

static int not_said(const struct image *image, struct error *err)
{
	error_set(err, -EINVAL,
		"'%.300s' does not say which format the file '%.300s' has that lies below it, and it is not to be "
		"guessed",
		image->path, image->name);
	error_hint(err, "qemu-img rebase -u -b FILE -F FORMAT writes it down");
	return -EINVAL;
}

static int check_lock(const struct image *image, bool *told, struct error *err)
{
	int fd = open(image->below, O_RDONLY | O_CLOEXEC | O_NOCTTY), r;

	if (fd < 0)
		return wrong(image, -errno, strerror(errno), err);
	r = disk_lock(fd, image->below, true, told, err);
	close(fd);
	return r ? error_prefix(err, r, "named by '%.300s' as %s", image->path, image->as) : 0;
}

/* The file below is there, and is what is said of it. *st: its own. */
static int check_below(const struct image *image, bool *locks, struct stat *st, struct error *err)
{
	const struct disk_format *said = disk_format_named(image->name_format);
	uint8_t head[DISK_FORMAT_HEAD];
	ssize_t n;

	if (stat(image->below, st) || access(image->below, R_OK))
		return wrong(image, -errno, strerror(errno), err);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return wrong(image, -EINVAL, "it is neither a file nor a block device", err);
	n = disk_format_head(image->below, 0, head, sizeof(head));
	if (n < 0)
		return wrong(image, (int)n, strerror((int)-n), err);
	if (said && disk_format_of(head, (size_t)n) != said) {
		char why[80];

		snprintf(why, sizeof(why), "it does not begin like the %s image that it is said to be", said->title);
		return wrong(image, -EINVAL, why, err);
	}
	return locks ? check_lock(image, locks, err) : 0;
}

/* The file that has the image's data, which is raw. */
static int check_data(const struct image *image, bool *locks, struct error *err)
{
	struct image data = { .path = image->path, .as = "the file of its data" };
	struct stat st;

	memcpy(data.name, image->data, sizeof(data.name));
	if (!find_below(&data, true))
		return wrong(&data, -ENAMETOOLONG, strerror(ENAMETOOLONG), err);
	return data.below[0] ? check_below(&data, locks, &st, err) : 0;
}

static bool seen(const struct stat *all, unsigned n, const struct stat *st)
{
	for (unsigned i = 0; i < n; i++)
		if (all[i].st_dev == st->st_dev && all[i].st_ino == st->st_ino)
			return true;
	return false;
}

int disk_chain_check(const char *path, const struct disk_format *format, bool *locks, struct error *err)
{
	struct image image = { .path = path, .format = format, .as = "what lies below it" };
	struct stat all[DISK_CHAIN_MOST + 1];
	char above[PATH_MAX];
	int r;

	if (stat(path, &all[0]))
		return error_set(err, -errno, "%s", strerror(errno));
	for (unsigned depth = 1; image.format; depth++) {
		r = look(&image);
		if (r)
			return error_set(err, r, "'%.300s': %s", image.path, strerror(-r));
		r = image.data[0] ? check_data(&image, locks, err) : 0;
		if (r || !image.names)
			return r;
		if (!image.name_format[0])
			return not_said(&image, err);
		if (!find_below(&image, false))
			return wrong(&image, -ENAMETOOLONG, strerror(ENAMETOOLONG), err);
		if (!image.below[0])
			return 0;
		r = check_below(&image, locks, &all[depth], err);
		if (r)
			return r;
		if (seen(all, depth, &all[depth]))
			return wrong(&image, -ELOOP, "it would lie below itself", err);
		if (depth == DISK_CHAIN_MOST)
			return wrong(&image, -E2BIG, "too many images lie on each other", err);
		memcpy(above, image.below, sizeof(above));
		image.path = above;
		image.format = disk_format_named(image.name_format);
	}
	return 0;
}
