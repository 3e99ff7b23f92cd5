/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_arm64_kernel.c - kernels for the arm64 machine are told apart, unpacked and put
 * where they belong; damaged ones are refused.
 */
#include "arm64_bed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define IMAGE_LEN (3 * 65536U + 1000)

struct file {
	char path[32];
	uint8_t *bytes;
	size_t len;
};

static void put(struct file *file, const void *bytes, size_t len)
{
	file->bytes = realloc(file->bytes, file->len + len);
	assert_non_null(file->bytes);
	memcpy(file->bytes + file->len, bytes, len);
	file->len += len;
}

static void write_file(struct file *file)
{
	int fd;

	strcpy(file->path, "/tmp/trapline-image-XXXXXX");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file->bytes, file->len), file->len);
	close(fd);
}

static void drop_file(struct file *file)
{
	unlink(file->path);
	free(file->bytes);
	*file = (struct file){ 0 };
}

static struct image_header header(void)
{
	return (struct image_header){
		.text_offset = 0x1000, .image_size = IMAGE_LEN + 5000, .flags = 0xa, .magic = 0x644d5241
	};
}

static void flat(struct file *file, const struct image_header *header)
{
	uint8_t *bytes = malloc(IMAGE_LEN);

	assert_non_null(bytes);
	for (unsigned i = 0; i < IMAGE_LEN; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	memcpy(bytes, header, sizeof(*header));
	put(file, bytes, IMAGE_LEN);
	free(bytes);
}

static uint32_t crc32_of(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* RFC 1951's and 1952's simplest form: blocks that are stored. */
static void gzip(struct file *file, const struct file *from)
{
	static const uint8_t head[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };
	uint32_t tail[] = { crc32_of(from->bytes, from->len), (uint32_t)from->len };

	put(file, head, sizeof(head));
	for (size_t at = 0; at < from->len;) {
		uint16_t n = (uint16_t)(from->len - at < 60000 ? from->len - at : 60000);
		uint16_t sizes[] = { n, (uint16_t)~n };

		put(file, (uint8_t[]){ at + n == from->len }, 1);
		put(file, sizes, sizeof(sizes));
		put(file, from->bytes + at, n);
		at += n;
	}
	put(file, tail, sizeof(tail));
}

/* It is loaded where it wants to be, byte for byte. */
static void check_loads(struct file *file, const struct file *flat_file, const char *kind, const char *packed)
{
	struct guest_config config = plain(1, 64 * MIB);
	uint8_t *got = malloc(flat_file->len);
	struct error err = { 0 };
	struct bed *bed;

	assert_non_null(got);
	write_file(file);
	config.kernel = file->path;
	bed = bed_new(&config);
	if (arch_arm64.open_images(bed->board, &err) || arch_arm64.load(bed->board, &err))
		fail_msg("%s", err.text);
	assert_string_equal(bed->board->boot.kernel.kind, kind);
	if (packed)
		assert_string_equal(bed->board->boot.kernel.packed, packed);
	else
		assert_null(bed->board->boot.kernel.packed);
	assert_true(bed->board->places.kernel == LAYOUT_RAM + 0x1000);
	assert_int_equal(mem_read(&bed->vm.mem, LAYOUT_RAM + 0x1000, got, flat_file->len), 0);
	assert_memory_equal(got, flat_file->bytes, flat_file->len);
	assert_true(bed->board->places.tree >= LAYOUT_RAM + 0x1000 + IMAGE_LEN + 5000);
	bed_free(bed);
	free(got);
}

static void test_images(void **state)
{
	const struct image_header h = header();
	struct file image = { 0 }, gz = { 0 }, zboot = { 0 };
	uint32_t words[16] = { 0x5a4d, 0x676d697a, 64 };

	flat(&image, &h);
	check_loads(&image, &image, "Image", NULL);
	gzip(&gz, &image);
	check_loads(&gz, &image, "Image", "gzip");
	words[3] = (uint32_t)gz.len;
	memcpy(&words[6], "gzip", 5);
	put(&zboot, words, sizeof(words));
	put(&zboot, gz.bytes, gz.len);
	check_loads(&zboot, &image, "EFI zboot Image", "gzip");
	drop_file(&zboot);
	drop_file(&gz);
	drop_file(&image);
}

static void refused_by(struct guest_config config, struct file *file, const char *words)
{
	struct error err = { 0 };
	struct bed *bed;
	int r;

	write_file(file);
	config.kernel = file->path;
	bed = bed_new(&config);
	r = arch_arm64.open_images(bed->board, &err);
	if (r == 0)
		r = arch_arm64.load(bed->board, &err);
	assert_true(r < 0);
	if (!strstr(err.text, words) || !strstr(err.text, file->path))
		fail_msg("'%s' instead of '%s'", err.text, words);
	bed_free(bed);
	drop_file(file);
}

static void refused(struct file *file, uint64_t ram, const char *words)
{
	refused_by(plain(1, ram), file, words);
}

/* An Image that is an EFI program too tells by its one section what it holds: all but the first 4 KiB. */
static void efi(struct file *file, uint32_t section_size)
{
	struct image_header h = header();
	const uint16_t coff[12] = { 'P' | 'E' << 8, 0, 0xaa64, 1, [10] = 16 };
	const uint32_t section[10] = { 0, 0, section_size, 4096, section_size, 4096 };

	memcpy(&h.code0, "MZ", 2);
	h.pe_header = 64;
	flat(file, &h);
	memcpy(file->bytes + 64, coff, sizeof(coff));
	memcpy(file->bytes + 64 + 24 + 16, section, sizeof(section));
}

static void test_cut_short(void **state)
{
	struct file file = { 0 };

	efi(&file, IMAGE_LEN - 4096);
	check_loads(&file, &file, "Image", NULL);
	file.len--;
	unlink(file.path);
	refused(&file, 64 * MIB, "truncated: a section of the kernel needs");
	/* The headers themselves. */
	efi(&file, 4096);
	file.len = 100;
	refused(&file, 64 * MIB, "truncated: the PE section headers");
	efi(&file, 4096);
	file.len = 80;
	refused(&file, 64 * MIB, "truncated: the PE header");
}

static void test_bad_images(void **state)
{
	struct image_header h = header();
	struct file file = { 0 }, gz = { 0 };
	uint8_t elf[64] = "\x7f"
			  "ELF\2\1\1";

	put(&file, "hello", 5);
	refused(&file, 64 * MIB, "not a kernel");
	elf[18] = 62;
	put(&file, elf, sizeof(elf));
	refused(&file, 64 * MIB, "an ELF file for x86-64");
	h.flags |= 1;
	flat(&file, &h);
	refused(&file, 64 * MIB, "big-endian");
	h = header();
	h.image_size = IMAGE_LEN / 2;
	flat(&file, &h);
	refused(&file, 64 * MIB, "damaged");
	h = header();
	h.text_offset = 0x200000;
	flat(&file, &h);
	refused(&file, 64 * MIB, "damaged");
	h = header();
	h.image_size = 1ULL << 40;
	flat(&file, &h);
	refused(&file, 64 * MIB, "too large for the guest's RAM");
	/* Packed, and cut short; and something else that is packed. */
	h = header();
	flat(&file, &h);
	gzip(&gz, &file);
	gz.len -= 70000;
	drop_file(&file);
	refused(&gz, 64 * MIB, "");
	put(&file, elf, sizeof(elf));
	gzip(&gz, &file);
	drop_file(&file);
	refused(&gz, 64 * MIB, "no arm64 Image");
}

/* ---- 32-bit kernels ---- */

#define ZIMAGE_LEN   65536U
#define ZIMAGE_TABLE 256U

/*
 * A zImage that says that it unpacks to 3 MiB at 0x208000, with 0x1000 bytes of
 * bss; without a table where `table` is 0.
 */
static void zimage(struct file *file, uint32_t table, uint32_t order, uint32_t end)
{
	uint32_t words[ZIMAGE_LEN / 4] = { 0 };
	const uint32_t head[] = { 0x016f2818, 0x1000, 0x1000 + end, order, table ? 0x45454545 : 0, table };
	const uint32_t sizes[] = { 6, 0x5a534c4b, ZIMAGE_LEN - 4, 0x1000, 0x208000, 0x10000 };

	memcpy(&words[9], head, sizeof(head));
	memcpy(&words[ZIMAGE_TABLE / 4], sizes, sizeof(sizes));
	words[ZIMAGE_LEN / 4 - 1] = 3 << 20;
	put(file, words, sizeof(words));
}

static void check_zimage(struct file *file, uint64_t gpa)
{
	struct guest_config config = plain(2, 64 * MIB);
	uint8_t *got = malloc(ZIMAGE_LEN);
	struct board_info info;
	struct error err = { 0 };
	struct bed *bed;

	assert_non_null(got);
	write_file(file);
	config.kernel = file->path;
	config.arm.aarch32 = true;
	bed = bed_new(&config);
	if (arch_arm64.open_images(bed->board, &err) || arch_arm64.load(bed->board, &err))
		fail_msg("%s", err.text);
	arch_arm64.info(bed->board, &info);
	assert_string_equal(info.kernel_kind, "zImage");
	assert_false(info.own_kaslr);
	assert_true(info.entry == gpa);
	assert_int_equal(mem_read(&bed->vm.mem, gpa, got, ZIMAGE_LEN), 0);
	assert_memory_equal(got, file->bytes, ZIMAGE_LEN);
	/* Behind its end nothing of the file's is loaded. */
	assert_int_equal(mem_read(&bed->vm.mem, gpa + ZIMAGE_LEN, got, 4), 0);
	assert_memory_equal(got, "\0\0\0\0", 4);
	take_tree(bed, GIC_V3);
	assert_null(fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "kaslr-seed", NULL));
	bed_free(bed);
	free(got);
	drop_file(file);
}

static void test_zimages(void **state)
{
	struct file file = { 0 };

	/* Behind what it unpacks to: 0x208000, 3 MiB and 0x1000, up to the next 64 KiB. */
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	check_zimage(&file, LAYOUT_RAM + 0x510000);
	zimage(&file, 0, 0x04030201, ZIMAGE_LEN);
	put(&file, "\xd0\r\xfe\xed", 4);
	check_zimage(&file, LAYOUT_RAM + 32 * MIB);
}

static void refused_zimage(struct file *file, uint64_t ram, const char *words)
{
	struct guest_config config = plain(1, ram);

	config.arm.aarch32 = true;
	refused_by(config, file, words);
}

static void test_bad_zimages(void **state)
{
	struct image_header h = header();
	struct file file = { 0 };
	uint32_t large = UINT32_MAX;
	uint8_t elf[64] = "\x7f"
			  "ELF\1\1\1";

	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	refused(&file, 64 * MIB, "a zImage, of 32-bit Arm: --aarch32 starts it");
	flat(&file, &h);
	refused_zimage(&file, 64 * MIB, "a 64-bit kernel, and --aarch32 starts a 32-bit one");
	put(&file, "hello", 5);
	refused_zimage(&file, 64 * MIB, "no zImage of 32-bit Arm");
	elf[18] = 40;
	put(&file, elf, sizeof(elf));
	refused_zimage(&file, 64 * MIB, "an ELF file for arm, and --aarch32 boots the zImage");
	zimage(&file, ZIMAGE_TABLE, 0x01020304, ZIMAGE_LEN);
	refused_zimage(&file, 64 * MIB, "big-endian");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN + 1);
	refused_zimage(&file, 64 * MIB, "truncated: the zImage needs 65537 bytes");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, 0);
	refused_zimage(&file, 64 * MIB, "damaged: it ends before it starts");
	zimage(&file, ZIMAGE_LEN, 0x04030201, ZIMAGE_LEN);
	refused_zimage(&file, 64 * MIB, "truncated: the table of sizes");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	memcpy(file.bytes + ZIMAGE_TABLE + 8, &large, sizeof(large));
	refused_zimage(&file, 64 * MIB, "truncated: the unpacked size");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	memcpy(file.bytes + ZIMAGE_LEN - 4, &large, sizeof(large));
	refused_zimage(&file, 64 * MIB, "more than 128 MiB");
	zimage(&file, 0, 0x04030201, ZIMAGE_LEN);
	refused_zimage(&file, 32 * MIB, "too large for the guest's RAM");
}

static void test_initrd_room(void **state)
{
	const struct image_header h = header();
	struct guest_config config = plain(1, 16 * MIB);
	struct file image = { 0 }, initrd = { 0 };
	struct error err = { 0 };
	struct bed *bed;

	flat(&image, &h);
	write_file(&image);
	put(&initrd, "0", 1);
	write_file(&initrd);
	config.kernel = image.path;
	config.initrd = initrd.path;
	bed = bed_new(&config);
	assert_int_equal(arch_arm64.open_images(bed->board, &err), 0);
	assert_int_equal(arch_arm64.load(bed->board, &err), 0);
	assert_true(bed->board->places.initrd + 4096 == bed->board->places.tree);
	bed->board->boot.initrd.size = 16 * MIB - IMAGE_LEN - 5000 - LAYOUT_DT_SIZE;
	assert_int_equal(arch_arm64.load(bed->board, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "too large"));
	assert_string_equal(err.hint, "-m gives the guest more RAM");
	bed_free(bed);
	drop_file(&initrd);
	drop_file(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_bad_images),
		cmocka_unit_test(test_zimages),
		cmocka_unit_test(test_bad_zimages),
		cmocka_unit_test(test_initrd_room),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
