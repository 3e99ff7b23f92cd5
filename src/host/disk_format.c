/* SPDX-License-Identifier: BSD-2-Clause */
/* disk_format.c - formats of disk images; see disk_format.h. */
#include "host/disk_format.h"

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

ssize_t disk_format_head(const char *path, uint64_t offset, void *head, size_t size)
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
	n = pread(fd, head, size, (off_t)offset);
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
	n = disk_format_head(path, 0, head, sizeof(head));
	if (n < 0)
		return error_set(err, (int)n, "%s", strerror((int)-n));
	begins = disk_format_of(head, (size_t)n);
	if (begins != called)
		return disagree(path, begins, called, err);
	*out = begins;
	return 0;
}
