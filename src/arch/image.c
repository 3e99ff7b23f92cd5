/* SPDX-License-Identifier: BSD-2-Clause */
/* image.c - kernel and initrd files: opened once, read into guest memory as often as the guest resets. */
#include "arch/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int image_error(const struct image *image, struct error *err, int code, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return error_set(err, code, "%s '%s': %s", image->what, image->path, text);
}

int image_open(struct image *image, const char *what, const char *path, struct error *err)
{
	struct stat st;
	int r = 0;

	*image = (struct image){ .what = what, .path = path, .fd = -1 };
	/* Non-blocking, or a pipe without a writer would hold us up before we can refuse it. */
	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		r = image_error(image, err, -errno, "%s", strerror(errno));
	else if (S_ISDIR(st.st_mode))
		r = image_error(image, err, -EISDIR, "%s", strerror(EISDIR));
	else if (!S_ISREG(st.st_mode))
		r = image_error(image, err, -EINVAL, "not a regular file");
	else if (st.st_size == 0)
		r = image_error(image, err, -ENOEXEC, "the file is empty");
	else
		image->size = (uint64_t)st.st_size;
	if (r)
		image_close(image);
	return r;
}

void image_close(struct image *image)
{
	if (image->path && image->fd >= 0)
		close(image->fd);
	image->path = NULL;
	image->fd = -1;
}

int image_has(const struct image *image, uint64_t offset, uint64_t len, const char *part, struct error *err)
{
	if (offset <= image->size && len <= image->size - offset)
		return 0;
	return image_error(image, err, -ENOEXEC, "truncated: %s needs %llu bytes from byte %llu, the file has %llu",
		part, (unsigned long long)len, (unsigned long long)offset, (unsigned long long)image->size);
}

/* The range was checked against the size at opening; a file that shrank since then ends early. */
static int read_all(const struct image *image, uint64_t offset, void *buf, uint64_t len, struct error *err)
{
	uint8_t *to = buf;

	while (len) {
		ssize_t n = pread(image->fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return image_error(image, err, -errno, "%s", strerror(errno));
		if (n == 0)
			return image_error(image, err, -EIO, "the file shrank while it was in use");
		to += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int image_read(const struct image *image, uint64_t offset, void *buf, uint64_t len, const char *part, struct error *err)
{
	int r = image_has(image, offset, len, part, err);

	return r ? r : read_all(image, offset, buf, len, err);
}

int image_load(
	const struct image *image, uint64_t offset, uint64_t len, struct mem *mem, uint64_t gpa, struct error *err)
{
	struct mem_ref ref;
	int r = image_has(image, offset, len, "what is to be loaded", err);

	if (r || len == 0)
		return r;
	r = mem_map(mem, gpa, len, true, &ref);
	if (r)
		return image_error(image, err, r, "the guest has no RAM for %llu bytes at 0x%llx",
			(unsigned long long)len, (unsigned long long)gpa);
	r = read_all(image, offset, ref.host, len, err);
	mem_dirty(mem, gpa, len);
	mem_unmap(&ref);
	return r;
}

const char *image_elf_machine(uint16_t machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_X86_64:
		return "x86-64";
	case EM_ARM:
		return "arm";
	case EM_AARCH64:
		return "aarch64";
	case EM_RISCV:
		return "riscv";
	case EM_PPC:
		return "ppc";
	case EM_PPC64:
		return "ppc64";
	case EM_MIPS:
		return "mips";
	case EM_S390:
		return "s390";
	case 258: /* EM_LOONGARCH, younger than some elf.h */
		return "loongarch";
	default:
		return NULL;
	}
}

/* Signatures: the kernel's arm64 and riscv booting.rst, arm's zImage header, and the archives' own formats. */
static const struct signature {
	uint8_t offset, len;
	const char *bytes, *what;
} signatures[] = {
	{ 56, 4, "ARM\x64", "a flat arm64 Image" },
	{ 56, 4, "RSC\x05", "a flat riscv Image" },
	{ 48, 8, "RISCV\0\0\0", "a flat riscv Image" },
	{ 36, 4, "\x18\x28\x6f\x01", "an arm zImage" },
	{ 4, 4, "zimg", "a compressed EFI image (zboot); unpack it first" },
	{ 0, 4, "\x27\x05\x19\x56", "a U-Boot image" },
	{ 0, 2, "\x1f\x8b", "gzip-compressed; unpack it first" },
	{ 0, 6, "\xfd\x37zXZ\0", "xz-compressed; unpack it first" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first" },
	{ 0, 4, "\x02\x21\x4c\x18", "LZ4-compressed; unpack it first" },
	{ 0, 3, "BZh", "bzip2-compressed; unpack it first" },
	{ 0, 6, "070701", "a cpio archive (an initrd?)" },
	{ 0, 8, "!<arch>\n", "an archive, such as a Debian package; unpack it first" },
};

const char *image_recognise(const uint8_t *head, uint64_t n)
{
	for (unsigned i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
		const struct signature *s = &signatures[i];

		if (n >= (uint64_t)s->offset + s->len && !memcmp(head + s->offset, s->bytes, s->len))
			return s->what;
	}
	return NULL;
}
