/* SPDX-License-Identifier: BSD-2-Clause */
/* test_boot_kernel.c - kernel files: good ones, bad ones, cut off at every byte, and with every byte changed. */
#include "unit.h"

#include <stdlib.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "arch/find_kernel.h"
#include "arch/x86/kernel.h"
#include "boot_file.h"

#define GPA 0x1000000ULL

/* Opens, closes and removes; what is in *kernel but the file stays to be looked at. */
static int try(const struct boot_file *f, uint64_t size, struct kernel *kernel, struct error *err)
{
	char path[64];
	int r;

	memset(err, 0, sizeof(*err));
	boot_file_write(f->bytes, size, path);
	r = kernel_open(kernel, path, BOOT_AUTO, err);
	if (r) {
		/* One line that starts with what and which. */
		char start[80];

		snprintf(start, sizeof(start), "kernel '%s': ", path);
		assert_memory_equal(err->text, start, strlen(start));
		assert_null(strchr(err->text, '\n'));
		assert_true(strlen(err->text) > strlen(start));
	}
	kernel_close(kernel);
	unlink(path);
	return r;
}

static void refused(const struct boot_file *f, const char *why)
{
	struct kernel kernel;
	struct error err;

	assert_int_equal(try(f, f->size, &kernel, &err), -ENOEXEC);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" says nothing of \"%s\"", err.text, why);
}

static void accepted(const struct boot_file *f, struct kernel *kernel)
{
	struct error err;

	if (try(f, f->size, kernel, &err))
		fail_msg("%s", err.text);
}

static void elf64(void **state)
{
	struct boot_file f;
	struct kernel k;

	boot_file_elf64(&f, GPA);
	accepted(&f, &k);
	assert_int_equal(k.way, BOOT_ELF64);
	assert_int_equal(k.entry, GPA + 0x10);
	assert_int_equal(k.nr_segments, 1);
	assert_int_equal(k.segments[0].gpa, GPA);
	assert_int_equal(k.segments[0].offset, BOOT_FILE_CODE);
	assert_int_equal(k.segments[0].file_size, 0x100);
	assert_int_equal(k.segments[0].mem_size, 0x1800);
	assert_true(k.zero_rest);

	/* An entry given by its virtual address. */
	boot_file_phdr(&f, 0)->p_vaddr = 0xffffffff80000000;
	boot_file_ehdr(&f)->e_entry = 0xffffffff80000040;
	accepted(&f, &k);
	assert_int_equal(k.entry, GPA + 0x40);

	/* An empty segment is nothing, wherever it lies. */
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_phnum = 2;
	*boot_file_phdr(&f, 1) = (Elf64_Phdr){ .p_type = PT_LOAD, .p_paddr = UINT64_MAX };
	accepted(&f, &k);
	assert_int_equal(k.nr_segments, 1);
}

static void pvh(void **state)
{
	static const struct {
		unsigned align;
		uint32_t size;
	} shapes[] = { { 4, 8 }, { 4, 4 }, { 8, 8 }, { 8, 4 } };
	struct boot_file f;
	struct kernel k;

	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		boot_file_elf64(&f, GPA);
		boot_file_note(&f, GPA + 0x80, shapes[i].align, shapes[i].size);
		accepted(&f, &k);
		assert_int_equal(k.way, BOOT_PVH);
		assert_int_equal(k.entry, GPA + 0x80);
	}

	/* FreeBSD's kernels name an interpreter, as programs do. */
	*boot_file_phdr(&f, boot_file_ehdr(&f)->e_phnum++) =
		(Elf64_Phdr){ .p_type = PT_INTERP, .p_offset = 0x40, .p_filesz = 4 };
	accepted(&f, &k);
	assert_int_equal(k.way, BOOT_PVH);

	boot_file_elf32(&f, (uint32_t)GPA);
	accepted(&f, &k);
	assert_int_equal(k.way, BOOT_PVH);
	assert_int_equal(k.entry, GPA + 0x20);
	assert_int_equal(k.segments[0].mem_size, 0x1800);
	f.bytes[0x200 + 8] = 17; /* some other note */
	refused(&f, "32-bit ELF file without a PVH note");
}

static void bad_notes(void **state)
{
	struct boot_file f;

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA + 0x2000, 4, 8);
	refused(&f, "PVH entry 0x1002000 lies in no segment");

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA, 4, 8);
	boot_file_phdr(&f, 1)->p_filesz -= 1;
	refused(&f, "note leaves its segment");

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA, 4, 8);
	((Elf64_Nhdr *)(void *)(f.bytes + 0x200))->n_namesz = UINT32_MAX;
	refused(&f, "note leaves its segment");

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA, 4, 8);
	boot_file_phdr(&f, 1)->p_filesz = UINT64_MAX;
	refused(&f, "truncated: ELF segment 1");
}

static void bad_elf(void **state)
{
	struct boot_file f;
	struct kernel k;

	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_machine = EM_AARCH64;
	refused(&f, "an ELF file for aarch64");
	boot_file_ehdr(&f)->e_machine = 9999;
	refused(&f, "another architecture (machine 9999)");
	boot_file_elf64(&f, GPA);
	f.bytes[EI_DATA] = ELFDATA2MSB;
	refused(&f, "big-endian");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_type = ET_REL;
	refused(&f, "object file");
	boot_file_ehdr(&f)->e_type = ET_CORE;
	refused(&f, "no program");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_phnum = 0;
	refused(&f, "without program headers");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_phentsize = 8;
	refused(&f, "program headers of 8 bytes");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_phoff = UINT64_MAX - 3;
	refused(&f, "truncated: ELF program header 0");
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_type = PT_NULL;
	refused(&f, "nothing to load");
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_memsz = 0xff;
	refused(&f, "larger in the file than in memory");
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_paddr = UINT64_MAX - 0x100;
	refused(&f, "beyond the last address");
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_offset = UINT64_MAX - 0x10;
	refused(&f, "truncated: ELF segment 0");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_entry = GPA - 1;
	refused(&f, "ELF entry 0xffffff lies in no segment");

	boot_file_elf64(&f, GPA);
	for (unsigned i = 1; i <= ELF_SEGMENTS; i++)
		*boot_file_phdr(&f, i) = *boot_file_phdr(&f, 0);
	memmove(f.bytes + BOOT_FILE_CODE * 3, f.bytes + BOOT_FILE_CODE, 0x100);
	f.size = BOOT_FILE_CODE * 3 + 0x100;
	boot_file_ehdr(&f)->e_phnum = ELF_SEGMENTS;
	accepted(&f, &k);
	assert_int_equal(k.nr_segments, ELF_SEGMENTS);
	boot_file_ehdr(&f)->e_phnum = ELF_SEGMENTS + 1;
	refused(&f, "more than 32 ELF segments");
}

static void bzimage(void **state)
{
	struct boot_file f;
	struct kernel k;

	boot_file_bzimage(&f, GPA);
	accepted(&f, &k);
	assert_int_equal(k.way, BOOT_BZIMAGE64);
	assert_int_equal(k.entry, GPA + 0x200);
	assert_int_equal(k.nr_segments, 1);
	assert_int_equal(k.segments[0].offset, 1024);
	assert_int_equal(k.segments[0].file_size, 0x800);
	assert_int_equal(k.segments[0].mem_size, 0x4000);
	assert_false(k.zero_rest);
	assert_int_equal(k.cmdline_max, 2047);
	assert_int_equal(k.initrd_max, 0x7fffffff);
	assert_int_equal(k.hdr.init_size, 0x4000);

	/* The size is in paragraphs; a signature may follow the kernel. */
	f.size -= 15;
	accepted(&f, &k);
	assert_int_equal(k.segments[0].file_size, 0x800 - 15);
	f.size += 500;
	accepted(&f, &k);
	assert_int_equal(k.segments[0].file_size, 0x800);

	/* No setup sectors means four. */
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->setup_sects = 0;
	boot_file_hdr(&f)->syssize = 0x30;
	f.size = 5 * 512 + 0x300;
	accepted(&f, &k);
	assert_int_equal(k.segments[0].offset, 5 * 512);

	/* An unknown, longer header is cut to what we know. */
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->jump = 0xffeb;
	accepted(&f, &k);
}

static void bad_bzimage(void **state)
{
	struct boot_file f;

	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->version = 0x0209;
	refused(&f, "boot protocol 2.09");
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->loadflags = 0;
	refused(&f, "zImage");
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->syssize = 0;
	refused(&f, "empty");
	boot_file_hdr(&f)->syssize = UINT32_MAX;
	refused(&f, "truncated: the kernel behind the setup code");
	boot_file_hdr(&f)->syssize = 0x20;
	refused(&f, "impossible");
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->jump = 0x10eb;
	refused(&f, "header is too short");
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->pref_address = UINT64_MAX - 0x1000;
	refused(&f, "impossible");
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->setup_sects = 255;
	refused(&f, "truncated");
}

static void cut(const struct boot_file *f, uint64_t from)
{
	for (uint64_t size = from; size < f->size; size++) {
		struct kernel kernel;
		struct error err;

		assert_int_equal(try(f, size, &kernel, &err), -ENOEXEC);
		if (size >= 4 && !strstr(err.text, "truncated"))
			fail_msg("cut to %u bytes: %s", (unsigned)size, err.text);
	}
}

static void truncated(void **state)
{
	struct boot_file f;

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA, 4, 8);
	cut(&f, 1);
	boot_file_elf32(&f, (uint32_t)GPA);
	cut(&f, 1);
	boot_file_bzimage(&f, GPA);
	f.size -= 15; /* the slack of one paragraph */
	cut(&f, 1);
}

/* Whatever a file says, what is accepted lies in it and does not wrap. */
static void changed(struct boot_file *f, uint64_t n)
{
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };

	for (uint64_t i = 0; i < n; i++) {
		uint8_t good = f->bytes[i];

		for (unsigned v = 0; v < sizeof(values); v++) {
			struct kernel k;
			struct error err;
			bool entered = false;

			f->bytes[i] = values[v];
			if (try(f, f->size, &k, &err))
				continue;
			assert_true(k.nr_segments > 0 && k.nr_segments <= ELF_SEGMENTS);
			for (unsigned s = 0; s < k.nr_segments; s++) {
				const struct kernel_segment *seg = &k.segments[s];

				assert_true(seg->offset <= f->size && seg->file_size <= f->size - seg->offset);
				assert_true(seg->mem_size >= seg->file_size);
				assert_true(seg->gpa + seg->mem_size > seg->gpa);
				entered |= k.entry >= seg->gpa && k.entry - seg->gpa < seg->mem_size;
			}
			assert_true(entered);
		}
		f->bytes[i] = good;
	}
}

static void mutated(void **state)
{
	struct boot_file f;

	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA, 4, 8);
	changed(&f, sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr));
	boot_file_bzimage(&f, GPA);
	changed(&f, 0x270);
}

static void not_kernels(void **state)
{
	static const struct {
		unsigned at, len;
		const char *bytes, *why;
	} files[] = {
		{ 0, 5, "hello", "neither ELF nor bzImage" },
		{ 56, 4, "ARM\x64", "arm64 Image" },
		{ 56, 4, "RSC\x05", "riscv Image" },
		{ 36, 4, "\x18\x28\x6f\x01", "arm zImage" },
		{ 0, 2, "\x1f\x8b", "gzip" },
		{ 0, 6, "070701", "cpio" },
		{ 4, 4, "zimg", "zboot" },
	};

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct boot_file f = { .size = 1024 };

		memcpy(f.bytes + files[i].at, files[i].bytes, files[i].len);
		refused(&f, files[i].why);
	}
}

static void no_file(void **state)
{
	struct kernel k;
	struct error err;
	char path[64];

	assert_int_equal(kernel_open(&k, "/nonexistent/x", BOOT_AUTO, &err), -ENOENT);
	assert_string_equal(err.text, "kernel '/nonexistent/x': No such file or directory");
	kernel_close(&k);
	assert_int_equal(kernel_open(&k, "/tmp", BOOT_AUTO, &err), -EISDIR);
	assert_non_null(strstr(err.text, "Is a directory"));
	kernel_close(&k);
	assert_int_equal(kernel_open(&k, "/dev/null", BOOT_AUTO, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	kernel_close(&k);

	boot_file_write("", 0, path);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "empty"));
	kernel_close(&k);
	unlink(path);
	/* A pipe that nobody writes to does not hold us up. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), -EINVAL);
	kernel_close(&k);
	kernel_close(&k); /* twice is harmless */
	unlink(path);
}

static void found(void **state)
{
	const char *none[] = { "/nonexistent/a", "/nonexistent/b-%s", NULL };
	char path[64], pattern[256], out[256], want[256];
	struct utsname host;
	struct error err = { 0 };

	uname(&host);
	assert_int_equal(find_kernel(none, out, sizeof(out), &err), -ENOENT);
	snprintf(want, sizeof(want), "looked at /nonexistent/a, /nonexistent/b-%s", host.release);
	assert_non_null(strstr(err.text, want));
	assert_non_null(strstr(err.hint, "-k"));

	boot_file_write("x", 1, path);
	snprintf(want, sizeof(want), "%s-%s", path, host.release);
	snprintf(pattern, sizeof(pattern), "%s-%%s", path);
	{
		const char *some[] = { "/nonexistent/a", "/tmp", pattern, path, NULL };

		/* Directories do not count; the order does. */
		assert_int_equal(find_kernel(some, out, sizeof(out), &err), 0);
		assert_string_equal(out, path);
		assert_int_equal(rename(path, want), 0);
		assert_int_equal(find_kernel(some, out, sizeof(out), &err), 0);
		assert_string_equal(out, want);
		assert_int_equal(find_kernel(some, out, 20, &err), -ENAMETOOLONG);
	}
	unlink(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf64),
		cmocka_unit_test(pvh),
		cmocka_unit_test(bad_notes),
		cmocka_unit_test(bad_elf),
		cmocka_unit_test(bzimage),
		cmocka_unit_test(bad_bzimage),
		cmocka_unit_test(truncated),
		cmocka_unit_test(mutated),
		cmocka_unit_test(not_kernels),
		cmocka_unit_test(no_file),
		cmocka_unit_test(found),
	};

	return cmocka_run_group_tests_name("boot_kernel", tests, NULL, NULL);
}
