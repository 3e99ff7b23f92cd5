/* SPDX-License-Identifier: BSD-2-Clause */
/* disk_format.c - formats of disk images; see disk_format.h. */
#include "host/disk_format.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { QCOW2, QCOW, QED, VMDK, VDI, VHDX, VPC, PARALLELS };

const struct disk_format disk_formats[] = {
	[QCOW2] = { "qcow2", "QCOW2", { "qcow2", "qc2" }, false },
	[QCOW] = { "qcow", "QCOW", { "qcow" }, false },
	[QED] = { "qed", "QED", { "qed" }, false },
	[VMDK] = { "vmdk", "VMDK", { "vmdk" }, false },
	[VDI] = { "vdi", "VDI", { "vdi" }, false },
	[VHDX] = { "vhdx", "VHDX", { "vhdx" }, false },
	[VPC] = { "vpc", "VHD", { "vhd", "vpc" }, false },
	[PARALLELS] = { "parallels", "Parallels", { "hds", "hdd" }, false },
	{ NULL },
};

static const struct {
	unsigned format, offset, len;
	const char *magic;
} magics[] = {
	{ QCOW, 0, 8, "QFI\xfb\0\0\0\1" },
	{ QCOW2, 0, 4, "QFI\xfb" },
	{ QED, 0, 4, "QED\0" },
	{ VMDK, 0, 4, "KDMV" },
	{ VMDK, 0, 4, "COWD" },
	{ VMDK, 0, 21, "# Disk DescriptorFile" },
	{ VDI, 64, 4, "\x7f\x10\xda\xbe" },
	{ VHDX, 0, 8, "vhdxfile" },
	{ VPC, 0, 8, "conectix" },
	{ PARALLELS, 0, 16, "WithoutFreeSpace" },
	{ PARALLELS, 0, 16, "WithouFreSpacExt" },
};

const struct disk_format *disk_format_of(const uint8_t *head, size_t n)
{
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		if (n >= magics[i].offset + magics[i].len &&
			memcmp(head + magics[i].offset, magics[i].magic, magics[i].len) == 0)
			return &disk_formats[magics[i].format];
	}
	return NULL;
}

const struct disk_format *disk_format_called(const char *path)
{
	const char *dot = strrchr(path, '.');

	for (const struct disk_format *f = disk_formats; dot && f->name; f++) {
		for (unsigned i = 0; f->extensions[i]; i++) {
			if (strcasecmp(dot + 1, f->extensions[i]) == 0)
				return f;
		}
	}
	return NULL;
}

const struct disk_format *disk_format_named(const char *name)
{
	for (const struct disk_format *f = disk_formats; f->name; f++) {
		if (strcmp(name, f->name) == 0)
			return f;
	}
	return NULL;
}

/* The file's begin. How many bytes, or -errno. */
static ssize_t read_head(const char *path, uint8_t *head, size_t size)
{
	struct stat st;
	ssize_t n;
	int fd;

	/* A FIFO would be waited for, and a tape rewound. */
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	n = pread(fd, head, size, 0);
	n = n < 0 ? -errno : n;
	close(fd);
	return n;
}

static int disagree(
	const char *path, const struct disk_format *begins, const struct disk_format *called, struct error *err)
{
	if (!called)
		error_set(err, -EINVAL,
			"begins like a %s image, but is not called so (.%s), and a raw disk's guest can write that",
			begins->title, begins->extensions[0]);
	else
		error_set(err, -EINVAL, "is called like a %s image, but begins %s%s%s", called->title,
			begins ? "like a " : "like none", begins ? begins->title : "", begins ? " one" : "");
	error_hint(err, "say which it is: format=%s or format=raw", begins ? begins->name : called->name);
	return -EINVAL;
}

static int unknown(const char *format, struct error *err)
{
	error_set(err, -EINVAL, "'format=%.40s': there is no such format", format);
	error_hint(err, "raw, qcow2, qcow, qed, vmdk, vdi, vhdx, vpc (VHD) and parallels are known");
	return -EINVAL;
}

int disk_format_find(const char *path, const char *format, const struct disk_format **out, struct error *err)
{
	const struct disk_format *begins, *called = disk_format_called(path);
	uint8_t head[DISK_FORMAT_HEAD];
	ssize_t n;

	*out = NULL;
	if (format) {
		*out = disk_format_named(format);
		return *out || strcmp(format, "raw") == 0 ? 0 : unknown(format, err);
	}
	n = read_head(path, head, sizeof(head));
	if (n < 0)
		return error_set(err, (int)n, "%s", strerror((int)-n));
	begins = disk_format_of(head, (size_t)n);
	if (begins != called)
		return disagree(path, begins, called, err);
	*out = begins;
	return 0;
}

/* ---- what lies below ---- */

#define QCOW2_EXT_END    0
#define QCOW2_EXT_FORMAT 0xe2792aca
#define QED_BELOW        1
#define QED_NO_PROBE     4

static uint32_t be32_at(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return be32toh(value);
}

static uint64_t be64_at(const uint8_t *p)
{
	return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
}

/* QCOW2's header extensions (docs/interop/qcow2.txt of QEMU's, "Header extensions"). */
static bool qcow2_says_format(const uint8_t *head, size_t n)
{
	size_t at = be32_at(head + 4) >= 3 && n >= 104 ? be32_at(head + 100) : 72;

	while (at <= n && n - at >= 8) {
		uint32_t type = be32_at(head + at), len = be32_at(head + at + 4);

		if (type == QCOW2_EXT_FORMAT && len)
			return true;
		if (type == QCOW2_EXT_END || len > n)
			return false;
		at += 8 + (len + 7) / 8 * 8;
	}
	return false;
}

int disk_format_below(const char *path, const struct disk_format *format, struct error *err)
{
	uint8_t head[4096];
	ssize_t n = read_head(path, head, sizeof(head));
	bool guessed = false;

	if (n < 0)
		return error_set(err, (int)n, "%s", strerror((int)-n));
	if (n < 104)
		return 0; /* none, as its server will say */
	if (format == &disk_formats[QCOW2])
		guessed = be64_at(head + 8) && !qcow2_says_format(head, (size_t)n);
	else if (format == &disk_formats[QCOW])
		guessed = be64_at(head + 8);
	else if (format == &disk_formats[QED])
		guessed = (head[16] & (QED_BELOW | QED_NO_PROBE)) == QED_BELOW;
	if (!guessed)
		return 0;
	error_set(
		err, -EINVAL, "does not say which format the file has that lies below it, and it is not to be guessed");
	error_hint(err, "qemu-img rebase -u -b FILE -F FORMAT writes it down");
	return -EINVAL;
}
