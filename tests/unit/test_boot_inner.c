/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_boot_inner.c - kernels packed in a bzImage, in every format: unpacked to their places, damaged, and of no use.
 */
#include "unit.h"

#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/x86/boot.h"
#include "arch/x86/keep.h"
#include "boot_pack.h"

#define MIB 0x100000ULL
#define RAM (96 * MIB)
#define GPA (16 * MIB)

struct bed {
	struct bus *bus;
	struct mem mem;
	struct region ram;
	struct memory_range map[LAYOUT_MAP_RANGES];
	struct boot boot;
	struct boot_config config;
	struct boot_entry entry;
	struct error err;
};

static void bed_up(struct bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	bed->bus = bus_new();
	assert_non_null(bed->bus);
	bed->mem.bus = bed->bus;
	bed->ram = (struct region){ .name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM };
	assert_int_equal(memory_new(RAM, &bed->ram.memory), 0);
	assert_int_equal(bus_add(bed->bus, &bed->ram), 0);
	bed->config.cmdline = "hello";
	bed->config.map = bed->map;
	bed->config.nr_map = layout_map(RAM, LAYOUT_ECAM, bed->map);
	bed->config.ram_is_zero = true;
}

static void bed_down(struct bed *bed)
{
	boot_close(&bed->boot);
	bus_remove(bed->bus, &bed->ram);
	bus_drain(bed->bus);
	memory_put(bed->ram.memory);
	bus_free(bed->bus);
}

/* Opens and loads a bzImage around a payload. */
static int start(struct bed *bed, const uint8_t *payload, size_t n, enum boot_way way)
{
	char path[64];
	size_t size;
	uint8_t *file = pack_bzimage(payload, n, GPA, &size);
	int r;

	boot_file_write(file, size, path);
	free(file);
	bed->err = (struct error){ 0 };
	boot_close(&bed->boot);
	r = boot_open(&bed->boot, path, way, NULL, &bed->err);
	unlink(path);
	r = r ? r : boot_load(&bed->boot, &bed->mem, &bed->config, &bed->entry, &bed->err);
	if (r) {
		assert_memory_equal(strstr(bed->err.text, "kernel '"), "kernel '", 8);
		assert_null(strchr(bed->err.text, '\n'));
	}
	return r;
}

static int start_packed(struct bed *bed, enum pack format, const void *elf, size_t n, enum boot_way way)
{
	size_t packed;
	uint8_t *payload = pack(format, elf, n, &packed);
	int r = start(bed, payload, packed, way);

	free(payload);
	return r;
}

static void starts(struct bed *bed, const struct boot_file *f, enum boot_way wanted, enum boot_way way)
{
	if (start_packed(bed, PACK_GZIP, f->bytes, f->size, wanted))
		fail_msg("%s", bed->err.text);
	assert_int_equal(bed->entry.way, way);
	assert_int_equal(bed->entry.rip, bed->boot.kernel.entry);
}

static void refused(struct bed *bed, const struct boot_file *f, enum boot_way wanted, const char *why)
{
	assert_int_equal(start_packed(bed, PACK_GZIP, f->bytes, f->size, wanted), -ENOEXEC);
	if (!strstr(bed->err.text, why))
		fail_msg("\"%s\" says nothing of \"%s\"", bed->err.text, why);
}

/* It is entered as a bzImage, and the note says why. */
static void left_to_itself(struct bed *bed, enum boot_way way, const char *why)
{
	assert_int_equal(bed->entry.way, way);
	assert_null(bed->boot.kernel.packed);
	assert_int_equal(bed->entry.rip, GPA + (way == BOOT_BZIMAGE64 ? 0x200 : 0));
	if (!strstr(bed->boot.kernel.note, why))
		fail_msg("\"%s\" says nothing of \"%s\"", bed->boot.kernel.note, why);
}

static void expect(struct bed *bed, uint64_t gpa, const uint8_t *bytes, size_t n)
{
	uint8_t *is = malloc(n);

	assert_non_null(is);
	assert_int_equal(mem_read(&bed->mem, gpa, is, n), 0);
	assert_memory_equal(is, bytes, n);
	free(is);
}

static void every_format(void **state)
{
	static const uint8_t zeros[0x1700];
	struct boot_file f;
	struct bed bed;

	for (enum pack format = 0; format < NR_PACKS; format++) {
		bed_up(&bed);
		boot_file_elf64(&f, GPA);
		f.size += 0x500; /* relocations, which nobody loads */
		if (start_packed(&bed, format, f.bytes, f.size, BOOT_AUTO))
			fail_msg("%s", bed.err.text);
		assert_int_equal(bed.entry.way, BOOT_ELF64);
		assert_int_equal(bed.entry.rip, GPA + 0x10);
		assert_true(bed.entry.long_mode);
		assert_string_equal(bed.boot.kernel.packed, pack_names[format]);
		assert_string_equal(bed.boot.kernel.note, "");
		expect(&bed, GPA, f.bytes + BOOT_FILE_CODE, 0x100);

		/* Again, over what the guest has left; the file's name is gone, its descriptor is not. */
		assert_int_equal(mem_fill(&bed.mem, MIB, 0x55, RAM - MIB), 0);
		bed.config.ram_is_zero = false;
		assert_int_equal(boot_load(&bed.boot, &bed.mem, &bed.config, &bed.entry, &bed.err), 0);
		assert_int_equal(bed.entry.way, BOOT_ELF64);
		expect(&bed, GPA, f.bytes + BOOT_FILE_CODE, 0x100);
		expect(&bed, GPA + 0x100, zeros, sizeof(zeros));
		expect(&bed, GPA + 0x1800, (const uint8_t *)"UUUU", 4);
		bed_down(&bed);
	}
}

/* Where the cache is in this test; it has one file at most. */
struct cached {
	char base[32], file[PATH_MAX];
};

static void cache_up(struct cached *cached)
{
	strcpy(cached->base, "/tmp/trapline-XXXXXX");
	assert_non_null(mkdtemp(cached->base));
	assert_int_equal(setenv("XDG_CACHE_HOME", cached->base, 1), 0);
}

static void cache_down(const struct cached *cached)
{
	static const char *const folders[] = { "/trapline/kernels", "/trapline", "" };
	char path[128];

	assert_int_equal(unlink(cached->file), 0);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", cached->base, folders[i]);
		assert_int_equal(rmdir(path), 0);
	}
	unsetenv("XDG_CACHE_HOME");
}

/* Loads it, from where it should come from, and keeps it if that was the file. */
static void load_cached(struct bed *bed, struct cached *cached, enum kernel_from from)
{
	struct kernel *kernel = &bed->boot.kernel;
	struct stat before = { 0 }, st = { 0 };
	struct keeper *keeper;

	kernel->cache = KERNEL_CACHE_KEEP;
	bed->err = (struct error){ 0 };
	if (boot_load(&bed->boot, &bed->mem, &bed->config, &bed->entry, &bed->err))
		fail_msg("%s", bed->err.text);
	assert_string_equal(kernel->cache_note, "");
	assert_int_equal(kernel->from, from);
	strcpy(cached->file, kernel->cache_path);
	(void)stat(cached->file, &before);
	keeper = keeper_start(kernel);
	assert_true((keeper != NULL) == (from == KERNEL_FROM_FILE_CACHED_NEXT));
	while (keeper && (stat(cached->file, &st) || st.st_ino == before.st_ino))
		usleep(1000);
	keeper_stop(keeper);
}

/* A bit of the cache's file is wrong. */
static void spoil(const struct cached *cached, off_t at)
{
	int fd = open(cached->file, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/*
 * 20 MiB in segments that end in the middle of LZ4's blocks, listed in no order, one of which begins with the ELF
 * header itself. Also larger than a dictionary, and not to be packed well.
 */
static void many_blocks(void **state)
{
	static const struct {
		uint64_t offset, size, gpa;
	} parts[] = { { 9 * MIB + 0x1000, 10 * MIB, 50 * MIB }, { 0, 5 * MIB + 7, 20 * MIB },
		{ 5 * MIB + 7, 4 * MIB, 70 * MIB }, { 19 * MIB + 0x1000, 0x321, 80 * MIB } };
	const size_t size = 20 * MIB;
	uint8_t *elf = malloc(size);
	struct boot_file head;
	uint32_t random = 1;
	struct cached cached = { 0 };
	struct bed bed;

	assert_non_null(elf);
	for (size_t i = 0; i < size; i++) {
		random = random * 1664525 + 1013904223;
		elf[i] = i & 64 ? (uint8_t)(random >> 24) : (uint8_t)(i >> 10);
	}
	boot_file_elf64(&head, GPA);
	boot_file_ehdr(&head)->e_phnum = 4;
	boot_file_ehdr(&head)->e_entry = 50 * MIB + 0x123;
	for (unsigned i = 0; i < 4; i++)
		*boot_file_phdr(&head, i) = (Elf64_Phdr){ .p_type = PT_LOAD,
			.p_offset = parts[i].offset,
			.p_vaddr = parts[i].gpa,
			.p_paddr = parts[i].gpa,
			.p_filesz = parts[i].size,
			.p_memsz = parts[i].size };
	memcpy(elf, head.bytes, 64 + 4 * sizeof(Elf64_Phdr));
	for (enum pack format = 0; format < NR_PACKS; format++) {
		if (format == PACK_LZMA || format == PACK_BZIP2)
			continue; /* slow, and nothing new */
		bed_up(&bed);
		if (start_packed(&bed, format, elf, size, BOOT_AUTO))
			fail_msg("%s", bed.err.text);
		assert_int_equal(bed.entry.rip, 50 * MIB + 0x123);
		for (unsigned i = 0; i < 4; i++)
			expect(&bed, parts[i].gpa, elf + parts[i].offset, parts[i].size);
		if (format == PACK_LZ4) {
			bed.config.ram_is_zero = false;
			cache_up(&cached);
			sleep(KERNEL_CACHE_AGE + 1);
			load_cached(&bed, &cached, KERNEL_FROM_FILE_CACHED_NEXT);
			assert_int_equal(mem_fill(&bed.mem, MIB, 0x55, RAM - MIB), 0);
			load_cached(&bed, &cached, KERNEL_FROM_CACHE);
			for (unsigned i = 0; i < 4; i++)
				expect(&bed, parts[i].gpa, elf + parts[i].offset, parts[i].size);
			cache_down(&cached);
		}
		bed_down(&bed);
	}
	free(elf);
}

/* Pages of guest memory that the host has given, of those from `gpa` on. */
static unsigned resident(struct bed *bed, uint64_t gpa, uint64_t len)
{
	unsigned char pages[8192];
	struct mem_ref ref;
	unsigned n = 0;

	assert_true(len / 4096 <= sizeof(pages));
	assert_int_equal(mem_map(&bed->mem, gpa, len, false, &ref), 0);
	assert_int_equal(mincore(ref.host, len, pages), 0);
	mem_unmap(&ref);
	for (uint64_t i = 0; i < len / 4096; i++)
		n += pages[i] & 1;
	return n;
}

/*
 * A segment of 28 MiB, all zeros but for a byte at its beginning, one in the middle of LZ4's fourth block and `last`,
 * its last byte: the second and the third block are nothing but zeros.
 */
static uint8_t *make_zeros(uint64_t size, uint8_t last)
{
	struct boot_file head;
	uint8_t *elf = calloc(1, 0x1000 + size);

	assert_non_null(elf);
	boot_file_elf64(&head, GPA);
	boot_file_ehdr(&head)->e_phnum = 1;
	*boot_file_phdr(&head, 0) = (Elf64_Phdr){ .p_type = PT_LOAD,
		.p_offset = 0x1000,
		.p_vaddr = GPA,
		.p_paddr = GPA,
		.p_filesz = size,
		.p_memsz = size + 0x2000 };
	memcpy(elf, head.bytes, 64 + sizeof(Elf64_Phdr));
	elf[0x1000] = 1;
	elf[26 * MIB + 0x345] = 2;
	elf[0x1000 + size - 1] = last;
	return elf;
}

static void zeros_are_left_alone(void **state)
{
	const uint64_t size = 28 * MIB;

	for (uint8_t last = 0; last < 2; last++) {
		uint8_t *elf = make_zeros(size, last);
		struct cached cached = { 0 };
		struct stat st;
		struct bed bed;

		cache_up(&cached);
		bed_up(&bed);
		if (start_packed(&bed, PACK_LZ4, elf, 0x1000 + size, BOOT_AUTO))
			fail_msg("%s", bed.err.text);
		assert_int_equal(resident(&bed, GPA + 10 * MIB, 12 * MIB), 0);
		expect(&bed, GPA, elf + 0x1000, size);
		sleep(KERNEL_CACHE_AGE + 1);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(mem_fill(&bed.mem, MIB, 0x55, RAM - MIB), 0);
			bed.config.ram_is_zero = false;
			load_cached(&bed, &cached, i ? KERNEL_FROM_CACHE : KERNEL_FROM_FILE_CACHED_NEXT);
			expect(&bed, GPA, elf + 0x1000, size);
			expect(&bed, GPA + size, (const uint8_t[0x2000]){ 0 }, 0x2000);
			expect(&bed, GPA + size + 0x2000, (const uint8_t *)"UUUU", 4);
		}
		assert_int_equal(stat(cached.file, &st), 0);
		assert_true((uint64_t)st.st_size < (last ? 29 : 27) * MIB);
		assert_true((uint64_t)st.st_size > (last ? 28 : 26) * MIB);
		bed_down(&bed);
		cache_down(&cached);
		free(elf);
	}
}

static void from_the_cache(void **state)
{
	static const uint8_t zeros[0x1700];
	struct cached cached = { 0 };
	struct boot_file f;
	struct bed bed;

	cache_up(&cached);
	bed_up(&bed);
	boot_file_elf64(&f, GPA);
	if (start_packed(&bed, PACK_XZ, f.bytes, f.size, BOOT_AUTO))
		fail_msg("%s", bed.err.text);
	assert_int_equal(bed.boot.kernel.from, KERNEL_FROM_FILE);
	/* Its name went just now, and that is a change. */
	sleep(KERNEL_CACHE_AGE + 1);
	load_cached(&bed, &cached, KERNEL_FROM_FILE_CACHED_NEXT);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(mem_fill(&bed.mem, MIB, 0x55, RAM - MIB), 0);
		bed.config.ram_is_zero = false;
		load_cached(&bed, &cached, i == 1 ? KERNEL_FROM_FILE_CACHED_NEXT : KERNEL_FROM_CACHE);
		assert_int_equal(bed.entry.way, BOOT_ELF64);
		assert_int_equal(bed.entry.rip, GPA + 0x10);
		assert_string_equal(bed.boot.kernel.packed, "xz");
		expect(&bed, GPA, f.bytes + BOOT_FILE_CODE, 0x100);
		expect(&bed, GPA + 0x100, zeros, sizeof(zeros));
		expect(&bed, GPA + 0x1800, (const uint8_t *)"UUUU", 4);
		if (i == 0)
			spoil(&cached, 8192 + 0x80); /* in the segment: told when it is in guest memory */
	}
	bed_down(&bed);
	cache_down(&cached);
}

static void ways(void **state)
{
	struct boot_params params;
	struct boot_file f;
	struct bed bed;

	bed_up(&bed);
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_offset = 0x200; /* the note is in the segment, as in a kernel */
	boot_file_phdr(&f, 0)->p_filesz = 0x300;
	boot_file_note(&f, GPA + 0x80, 4, 8);
	starts(&bed, &f, BOOT_AUTO, BOOT_PVH);
	assert_int_equal(bed.entry.rip, GPA + 0x80);
	assert_false(bed.entry.long_mode);
	starts(&bed, &f, BOOT_PVH, BOOT_PVH);
	starts(&bed, &f, BOOT_ELF64, BOOT_ELF64);
	assert_int_equal(bed.entry.rip, GPA + 0x10);
	/* Linux is told what its own header says. */
	assert_int_equal(mem_read(&bed.mem, bed.entry.arg, &params, sizeof(params)), 0);
	assert_int_equal(params.hdr.version, 0x020f);
	assert_int_equal(params.hdr.payload_offset, PACK_AT);
	for (enum boot_way way = BOOT_BZIMAGE64; way <= BOOT_BZIMAGE32; way++) {
		starts(&bed, &f, way, way);
		left_to_itself(&bed, way, "");
		assert_string_equal(bed.boot.kernel.note, "");
		assert_int_equal(bed.entry.long_mode, way == BOOT_BZIMAGE64);
		assert_int_equal(mem_read(&bed.mem, bed.entry.arg, &params, sizeof(params)), 0);
		assert_int_equal(params.hdr.header, 0x53726448);
		expect(&bed, GPA, (const uint8_t *)"\xf4\xf4", 2);
	}

	/* A note that is not loaded is none. */
	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA + 0x80, 4, 8);
	f.bytes[f.size++] = 0;
	memmove(f.bytes + 0x1200, f.bytes + 0x200, 0x100);
	boot_file_phdr(&f, 1)->p_offset = 0x1200;
	f.size = 0x1400;
	starts(&bed, &f, BOOT_AUTO, BOOT_ELF64);
	refused(&bed, &f, BOOT_PVH, "no PVH note");
	bed_down(&bed);
}

static void of_32_bits(void **state)
{
	struct boot_file f;
	struct bed bed;

	bed_up(&bed);
	boot_file_elf32(&f, (uint32_t)GPA);
	((Elf32_Phdr *)(void *)(f.bytes + sizeof(Elf32_Ehdr)))->p_offset = 0x200;
	((Elf32_Phdr *)(void *)(f.bytes + sizeof(Elf32_Ehdr)))->p_filesz = 0x300;
	starts(&bed, &f, BOOT_AUTO, BOOT_PVH);
	assert_int_equal(bed.entry.rip, GPA + 0x20);
	refused(&bed, &f, BOOT_ELF64, "--boot elf64");
	f.bytes[0x200 + 8] = 17; /* some other note */
	starts(&bed, &f, BOOT_AUTO, BOOT_BZIMAGE64);
	left_to_itself(&bed, BOOT_BZIMAGE64, "32-bit ELF file without a PVH note");
	refused(&bed, &f, BOOT_PVH, "no PVH note");
	bed_down(&bed);
}

static void of_no_use(void **state)
{
	struct boot_file f;
	struct bed bed;
	uint8_t unknown[64] = "\x89LZO and so on";

	bed_up(&bed);
	assert_int_equal(start(&bed, unknown, sizeof(unknown), BOOT_AUTO), 0);
	left_to_itself(&bed, BOOT_BZIMAGE64, "unknown here (it begins with 89 4c 5a 4f)");
	assert_int_equal(start(&bed, unknown, sizeof(unknown), BOOT_PVH), -ENOEXEC);
	assert_non_null(strstr(bed.err.text, "--boot pvh: kernel '"));
	assert_int_equal(start(&bed, unknown, 11, BOOT_AUTO), -ENOEXEC);
	assert_non_null(strstr(bed.err.text, "damaged: its payload has only 11 bytes"));

	boot_file_elf64(&f, GPA);
	f.bytes[0] = 0;
	starts(&bed, &f, BOOT_AUTO, BOOT_BZIMAGE64);
	left_to_itself(&bed, BOOT_BZIMAGE64, "no ELF kernel");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_machine = EM_AARCH64;
	refused(&bed, &f, BOOT_AUTO, "an ELF file for aarch64");
	boot_file_elf64(&f, GPA);
	boot_file_phdr(&f, 0)->p_filesz = 0x101;
	boot_file_phdr(&f, 0)->p_memsz = 0x101;
	refused(&bed, &f, BOOT_AUTO, "damaged: ELF segment 0 needs 257 bytes");
	boot_file_elf64(&f, GPA);
	boot_file_ehdr(&f)->e_phoff = 0x2000;
	f.size = 0x3000 > sizeof(f.bytes) ? sizeof(f.bytes) : 0x3000;
	boot_file_ehdr(&f)->e_phoff = 0x1800;
	starts(&bed, &f, BOOT_AUTO, BOOT_BZIMAGE64);
	left_to_itself(&bed, BOOT_BZIMAGE64, "unusual place");

	/* Beyond RAM: told before anything is unpacked. */
	boot_file_elf64(&f, RAM);
	assert_int_equal(start_packed(&bed, PACK_GZIP, f.bytes, f.size, BOOT_AUTO), -ENOSPC);
	assert_non_null(strstr(bed.err.text, "too large for the guest's RAM"));
	bed_down(&bed);
}

static void damaged(void **state)
{
	struct boot_file f;
	struct bed bed;

	boot_file_elf64(&f, GPA);
	for (unsigned i = 0; i < 0x800; i++)
		f.bytes[0x800 + i] = (uint8_t)(i * i >> 3);
	f.size = 0x1000 + 0x800;
	boot_file_phdr(&f, 0)->p_filesz = f.size - BOOT_FILE_CODE;
	bed_up(&bed);
	for (enum pack format = 0; format < NR_PACKS; format++) {
		bool summed = format == PACK_GZIP || format == PACK_XZ || format == PACK_BZIP2;
		size_t n, size_at;
		uint8_t *payload = pack(format, f.bytes, f.size, &n);

		/* A byte anywhere: no crash, and where there is a checksum, no wrong byte in what is started. */
		for (size_t i = 0; i < n; i += i < 64 || i + 32 > n ? 1 : 29) {
			int r;

			payload[i] ^= 0x40;
			r = start(&bed, payload, n, BOOT_ELF64);
			if (summed && r == 0 && bed.entry.way == BOOT_ELF64)
				expect(&bed, GPA, f.bytes + BOOT_FILE_CODE, f.size - BOOT_FILE_CODE);
			payload[i] ^= 0x40;
		}
		/* Cut off: its size, behind it, is what comes last. */
		for (size_t cut = 5; cut < n - 16; cut += 97) {
			memmove(payload + n - 4 - cut, payload + n - 4, 4);
			assert_int_equal(start(&bed, payload, n - cut, BOOT_AUTO), -ENOEXEC);
			assert_non_null(strstr(bed.err.text, "damaged: its "));
			free(payload);
			payload = pack(format, f.bytes, f.size, &n);
		}
		/* Another size than it has. gzip knows better itself. */
		size_at = n - 4;
		payload[size_at]++;
		assert_int_equal(start(&bed, payload, n, BOOT_AUTO), -ENOEXEC);
		assert_non_null(strstr(bed.err.text, "damaged: its "));
		payload[size_at] -= 2;
		assert_int_equal(start(&bed, payload, n, BOOT_AUTO), -ENOEXEC);
		assert_non_null(strstr(bed.err.text, "damaged: its "));
		free(payload);
	}
	bed_down(&bed);
}

static void headers(void **state)
{
	struct boot_file f;
	struct kernel k;
	struct error err = { 0 };
	char path[64];

	/* No payload told: nothing to unpack, and only who insists hears of an error. */
	boot_file_bzimage(&f, GPA);
	boot_file_write(f.bytes, f.size, path);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), 0);
	assert_int_equal(k.payload_size, 0);
	assert_int_equal(k.way, BOOT_BZIMAGE64);
	assert_non_null(strstr(k.note, "does not tell where"));
	kernel_close(&k);
	assert_int_equal(kernel_open(&k, path, BOOT_PVH, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "--boot pvh"));
	kernel_close(&k);
	unlink(path);

	boot_file_hdr(&f)->payload_offset = 0x100;
	boot_file_hdr(&f)->payload_length = 0x701;
	boot_file_write(f.bytes, f.size, path);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "damaged: its payload ends beyond the kernel"));
	kernel_close(&k);
	assert_int_equal(kernel_open(&k, path, BOOT_BZIMAGE64, &err), 0);
	kernel_close(&k);
	unlink(path);

	/* 32 bits: too old for xloadflags, or without the flag. */
	boot_file_hdr(&f)->payload_length = 0;
	boot_file_hdr(&f)->xloadflags = 0;
	boot_file_write(f.bytes, f.size, path);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), 0);
	assert_int_equal(k.way, BOOT_BZIMAGE32);
	assert_int_equal(k.entry, GPA);
	kernel_close(&k);
	assert_int_equal(kernel_open(&k, path, BOOT_BZIMAGE64, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "a 32-bit kernel"));
	kernel_close(&k);
	unlink(path);
	boot_file_hdr(&f)->xloadflags = XLF_KERNEL_64;
	boot_file_hdr(&f)->version = 0x020b;
	boot_file_write(f.bytes, f.size, path);
	assert_int_equal(kernel_open(&k, path, BOOT_AUTO, &err), 0);
	assert_int_equal(k.way, BOOT_BZIMAGE32);
	kernel_close(&k);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_format),
		cmocka_unit_test(many_blocks),
		cmocka_unit_test(zeros_are_left_alone),
		cmocka_unit_test(from_the_cache),
		cmocka_unit_test(ways),
		cmocka_unit_test(of_32_bits),
		cmocka_unit_test(of_no_use),
		cmocka_unit_test(damaged),
		cmocka_unit_test(headers),
	};

	return cmocka_run_group_tests_name("boot_inner", tests, unit_adopt, unit_release);
}
