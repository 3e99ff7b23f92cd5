/* SPDX-License-Identifier: BSD-2-Clause */
/* test_boot_load.c - the x86 boot loader: what lies where in guest memory after it ran, and what it refuses. */
#include "unit.h"

#include <stdlib.h>
#include <errno.h>

#include "arch/x86/boot.h"
#include "boot_file.h"

#define MIB 0x100000ULL
#define GPA (16 * MIB)

/* Guest RAM on a bus, the map of it, and files. */
struct bed {
	struct bus *bus;
	struct mem mem;
	struct region regions[LAYOUT_RAM_RANGES];
	struct memory_range map[LAYOUT_MAP_RANGES];
	struct boot boot;
	struct boot_config config;
	struct boot_entry entry;
	struct error err;
	char kernel[64], initrd[64];
};

static void bed_up(struct bed *bed, uint64_t ram)
{
	struct memory_range ranges[LAYOUT_RAM_RANGES];
	unsigned n = layout_ram(ram, ranges);

	memset(bed, 0, sizeof(*bed));
	bed->bus = bus_new();
	assert_non_null(bed->bus);
	bed->mem.bus = bed->bus;
	for (unsigned i = 0; i < n; i++) {
		struct region *region = &bed->regions[i];

		region->name = "ram";
		region->kind = REGION_RAM;
		region->space = SPACE_MMIO;
		region->base = ranges[i].base;
		region->size = ranges[i].size;
		assert_int_equal(memory_new(region->size, &region->memory), 0);
		assert_int_equal(bus_add(bed->bus, region), 0);
	}
	bed->config.cmdline = "console=ttyS0";
	bed->config.map = bed->map;
	bed->config.nr_map = layout_map(ram, LAYOUT_ECAM, bed->map);
	bed->config.rsdp = LAYOUT_ACPI;
	bed->config.ram_is_zero = true;
}

static void bed_down(struct bed *bed)
{
	boot_close(&bed->boot);
	for (unsigned i = 0; i < LAYOUT_RAM_RANGES; i++) {
		if (!bed->regions[i].memory)
			continue;
		bus_remove(bed->bus, &bed->regions[i]);
		bus_drain(bed->bus);
		memory_put(bed->regions[i].memory);
	}
	bus_free(bed->bus);
}

static void bed_files(struct bed *bed, const struct boot_file *kernel, uint64_t initrd_size)
{
	boot_file_write(kernel->bytes, kernel->size, bed->kernel);
	if (initrd_size) {
		boot_file_write("initrd begins", 13, bed->initrd);
		assert_int_equal(truncate(bed->initrd, (off_t)initrd_size), 0);
	}
	if (boot_open(&bed->boot, bed->kernel, BOOT_AUTO, initrd_size ? bed->initrd : NULL, &bed->err))
		fail_msg("%s", bed->err.text);
	/* Loading works from the descriptors: the names may go. */
	unlink(bed->kernel);
	if (initrd_size)
		unlink(bed->initrd);
}

static void load(struct bed *bed)
{
	memset(&bed->entry, 0xaa, sizeof(bed->entry));
	if (boot_load(&bed->boot, &bed->mem, &bed->config, &bed->entry, &bed->err))
		fail_msg("%s", bed->err.text);
}

static void load_fails(struct bed *bed, int code, const char *why)
{
	assert_int_equal(boot_load(&bed->boot, &bed->mem, &bed->config, &bed->entry, &bed->err), code);
	if (!strstr(bed->err.text, why))
		fail_msg("\"%s\" says nothing of \"%s\"", bed->err.text, why);
}

static void peek(struct bed *bed, uint64_t gpa, void *buf, uint64_t len)
{
	assert_int_equal(mem_read(&bed->mem, gpa, buf, len), 0);
}

static uint64_t peek64(struct bed *bed, uint64_t gpa)
{
	uint64_t value;

	peek(bed, gpa, &value, sizeof(value));
	return value;
}

static void expect_counting(struct bed *bed, uint64_t gpa, unsigned n)
{
	uint8_t buf[0x800];

	peek(bed, gpa, buf, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(buf[i], (uint8_t)(i + 1));
}

static void expect_bytes(struct bed *bed, uint64_t gpa, uint8_t byte, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t is;

		peek(bed, gpa + i, &is, 1);
		assert_int_equal(is, byte);
	}
}

/* Walks the tables as a CPU does and expects every address below 4 GiB to be mapped to itself. */
static void expect_identity(struct bed *bed, uint64_t cr3)
{
	static const uint64_t at[] = { 0, 0x1000, GPA, 0x1fffff, 0x3fffffff, 0x40000000, 0xdeadbeef, 0xffffffff };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t e = peek64(bed, cr3 + (at[i] >> 39 & 511) * 8);

		assert_int_equal(e & 0x83, 3);
		e = peek64(bed, (e & ~0xfffULL) + (at[i] >> 30 & 511) * 8);
		assert_int_equal(e & 0x83, 3);
		e = peek64(bed, (e & ~0xfffULL) + (at[i] >> 21 & 511) * 8);
		assert_int_equal(e & 0x83, 0x83);
		assert_int_equal((e & ~0x1fffffULL) + (at[i] & 0x1fffff), at[i]);
	}
	assert_int_equal(peek64(bed, cr3 + 8), 0);
}

static void expect_gdt(struct bed *bed)
{
	assert_int_equal(bed->entry.gdt_limit, BOOT_TR + 15);
	assert_int_equal(peek64(bed, bed->entry.gdt_base), 0);
	assert_int_equal(
		peek64(bed, bed->entry.gdt_base + BOOT_CS) >> 40 & 0xf0ff, bed->entry.long_mode ? 0xa09b : 0xc09b);
	assert_int_equal(peek64(bed, bed->entry.gdt_base + BOOT_DS) >> 40 & 0xf0ff, 0xc093);
}

static void expect_cmdline(struct bed *bed, uint64_t gpa)
{
	char buf[64];

	peek(bed, gpa, buf, strlen(bed->config.cmdline) + 1);
	assert_string_equal(buf, bed->config.cmdline);
}

static void pvh(void **state)
{
	struct boot_file f;
	struct bed bed;
	uint32_t info[14];
	char text[13];

	bed_up(&bed, 128 * MIB);
	boot_file_elf64(&f, GPA);
	boot_file_note(&f, GPA + 0x40, 4, 8);
	bed_files(&bed, &f, 100000);
	load(&bed);
	assert_int_equal(bed.entry.way, BOOT_PVH);
	assert_int_equal(bed.entry.rip, GPA + 0x40);
	expect_counting(&bed, GPA, 0x100);
	expect_gdt(&bed);

	/* start_info.h: magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap, entries */
	peek(&bed, bed.entry.arg, info, sizeof(info));
	assert_int_equal(info[0], 0x336ec578);
	assert_int_equal(info[1], 1);
	assert_int_equal(info[3], 1);
	expect_cmdline(&bed, peek64(&bed, bed.entry.arg + 24));
	assert_int_equal(peek64(&bed, bed.entry.arg + 32), LAYOUT_ACPI);
	assert_int_equal(info[12], bed.config.nr_map);
	for (unsigned i = 0; i < bed.config.nr_map; i++) {
		uint64_t at = peek64(&bed, bed.entry.arg + 40) + i * 24;

		assert_int_equal(peek64(&bed, at), bed.map[i].base);
		assert_int_equal(peek64(&bed, at + 8), bed.map[i].size);
		assert_int_equal(peek64(&bed, at + 16), bed.map[i].type);
	}

	/* The module is the initrd: the highest page-aligned place there is. */
	assert_int_equal(peek64(&bed, peek64(&bed, bed.entry.arg + 16)), bed.entry.initrd);
	assert_int_equal(peek64(&bed, peek64(&bed, bed.entry.arg + 16) + 8), 100000);
	assert_int_equal(bed.entry.initrd, (128 * MIB - 100000) & ~4095ULL);
	peek(&bed, bed.entry.initrd, text, 13);
	assert_memory_equal(text, "initrd begins", 13);
	bed_down(&bed);
}

static void zero_page(struct bed *bed, struct boot_params *params)
{
	load(bed);
	peek(bed, bed->entry.arg, params, sizeof(*params));
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.boot_flag, 0xaa55);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_true(params->hdr.loadflags & LOADED_HIGH);
	assert_int_equal(params->sentinel, 0);
	assert_int_equal(params->acpi_rsdp_addr, LAYOUT_ACPI);
	expect_cmdline(bed, params->hdr.cmd_line_ptr);
	assert_int_equal(params->hdr.ramdisk_image, bed->entry.initrd);
	assert_int_equal(params->hdr.ramdisk_size, bed->entry.initrd_size);
	assert_int_equal(params->e820_entries, bed->config.nr_map);
	for (unsigned i = 0; i < bed->config.nr_map; i++) {
		assert_int_equal(params->e820_table[i].addr, bed->map[i].base);
		assert_int_equal(params->e820_table[i].size, bed->map[i].size);
		assert_int_equal(params->e820_table[i].type, bed->map[i].type);
	}
	expect_identity(bed, bed->entry.cr3);
	expect_gdt(bed);
}

static void elf64(void **state)
{
	struct boot_params params;
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, 128 * MIB);
	boot_file_elf64(&f, GPA);
	bed_files(&bed, &f, 0);
	zero_page(&bed, &params);
	assert_int_equal(bed.entry.way, BOOT_ELF64);
	assert_int_equal(bed.entry.rip, GPA + 0x10);
	assert_int_equal(params.hdr.ramdisk_size, 0);
	bed_down(&bed);
}

static void bzimage(void **state)
{
	struct boot_params params;
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, 128 * MIB);
	boot_file_bzimage(&f, GPA);
	boot_file_hdr(&f)->initrd_addr_max = 0x3ffffff;
	boot_file_hdr(&f)->setup_data = 0x1234;
	f.bytes[0x1ef] = 0xff; /* the sentinel is not the header's */
	bed_files(&bed, &f, 5000);
	zero_page(&bed, &params);
	assert_int_equal(bed.entry.way, BOOT_BZIMAGE64);
	assert_int_equal(bed.entry.rip, GPA + 0x200);
	assert_int_equal(params.hdr.init_size, 0x4000);
	assert_int_equal(params.hdr.version, 0x020f);
	assert_int_equal(params.hdr.setup_data, 0);
	expect_counting(&bed, GPA, 0x800);
	/* The initrd's last byte is at or below what the header allows. */
	assert_int_equal(bed.entry.initrd, 0x4000000 - 0x2000);
	bed_down(&bed);
}

/* A reset finds RAM as the guest left it: everything is written again, bss too. */
static void repeated(void **state)
{
	struct boot_file f;
	struct bed bed;
	uint64_t initrd;

	bed_up(&bed, 64 * MIB);
	boot_file_elf64(&f, GPA);
	bed_files(&bed, &f, 3000);
	load(&bed);
	initrd = bed.entry.initrd;
	assert_int_equal(mem_fill(&bed.mem, 0, 0x55, LAYOUT_LOW_RAM_END), 0);
	assert_int_equal(mem_fill(&bed.mem, MIB, 0x55, 63 * MIB), 0);
	bed.config.ram_is_zero = false;
	load(&bed);
	assert_int_equal(bed.entry.initrd, initrd);
	expect_counting(&bed, GPA, 0x100);
	expect_bytes(&bed, GPA + 0x100, 0, 0x1700);
	expect_bytes(&bed, GPA + 0x1800, 0x55, 16);
	expect_bytes(&bed, initrd + 3000, 0x55, 16);
	expect_identity(&bed, bed.entry.cr3);
	expect_cmdline(&bed, LAYOUT_CMDLINE);

	/* Where RAM is known to be zero, nobody writes a bss: its pages stay untouched. */
	assert_int_equal(mem_fill(&bed.mem, GPA, 0x55, 0x1800), 0);
	bed.config.ram_is_zero = true;
	load(&bed);
	expect_bytes(&bed, GPA + 0x100, 0x55, 0x1700);
	bed_down(&bed);
}

/* The initrd keeps clear of a kernel that stands where it would go. */
static void initrd_beside_kernel(void **state)
{
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, 32 * MIB);
	boot_file_elf64(&f, 32 * MIB - 0x2000);
	bed_files(&bed, &f, 0x1000);
	load(&bed);
	assert_int_equal(bed.entry.initrd, 32 * MIB - 0x3000);
	bed_down(&bed);

	/* Exactly what is left below it, and a byte more. */
	bed_up(&bed, 32 * MIB);
	boot_file_elf64(&f, 32 * MIB - 0x2000);
	bed_files(&bed, &f, 31 * MIB - 0x2000);
	load(&bed);
	assert_int_equal(bed.entry.initrd, MIB);
	bed_down(&bed);

	bed_up(&bed, 32 * MIB);
	bed_files(&bed, &f, 31 * MIB - 0x1fff);
	load_fails(&bed, -ENOSPC, "too large for the guest's RAM");
	assert_memory_equal(bed.err.text, "initrd '", 8);
	bed_down(&bed);

	/* It stays below the hole even where there is more RAM above it. */
	bed_up(&bed, 5 * 1024 * MIB);
	boot_file_elf64(&f, GPA);
	bed_files(&bed, &f, 0x1000);
	load(&bed);
	assert_int_equal(bed.entry.initrd, LAYOUT_HOLE - 0x1000);
	bed_down(&bed);
}

static void refuse_kernel(uint64_t ram, uint64_t gpa, const char *why)
{
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, ram);
	boot_file_elf64(&f, gpa);
	bed_files(&bed, &f, 0);
	load_fails(&bed, -ENOSPC, why);
	bed_down(&bed);
}

static void bad_places(void **state)
{
	refuse_kernel(16 * MIB, GPA, "too large for the guest's RAM: it needs 0x1000000-0x10017ff");
	refuse_kernel(16 * MIB + 0x1000, GPA, "too large for the guest's RAM");
	refuse_kernel(128 * MIB, 0x1000, "boot data");
	refuse_kernel(128 * MIB, LAYOUT_LOW_RAM_END - 0x1000, "too large");
	refuse_kernel(128 * MIB, LAYOUT_ACPI, "too large");
	refuse_kernel(5 * 1024 * MIB, LAYOUT_HOLE - 0x1000, "too large");
	refuse_kernel(5 * 1024 * MIB, LAYOUT_ECAM, "too large");
	refuse_kernel(5 * 1024 * MIB, LAYOUT_HOLE_END, "above 4 GiB");
}

static void small_kernels(void **state)
{
	struct boot_file f;
	struct bed bed;

	/* Low memory is good enough for a tiny guest in tiny RAM. */
	bed_up(&bed, MIB);
	boot_file_elf64(&f, LAYOUT_BOOT_DATA_END);
	bed_files(&bed, &f, 0);
	load(&bed);
	expect_counting(&bed, LAYOUT_BOOT_DATA_END, 0x100);
	bed_down(&bed);
}

static void long_cmdline(void **state)
{
	static char line[LAYOUT_CMDLINE_SIZE + 1];
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, 64 * MIB);
	boot_file_bzimage(&f, GPA);
	bed_files(&bed, &f, 0);
	memset(line, 'x', 2047);
	bed.config.cmdline = line;
	load(&bed);
	line[2047] = 'x';
	load_fails(&bed, -E2BIG, "2048 bytes: this kernel takes 2047");
	bed_down(&bed);

	bed_up(&bed, 64 * MIB);
	boot_file_elf64(&f, GPA);
	bed_files(&bed, &f, 0);
	memset(line, 'x', sizeof(line) - 2);
	bed.config.cmdline = line;
	load(&bed);
	line[sizeof(line) - 2] = 'x';
	load_fails(&bed, -E2BIG, "takes 65535");
	bed_down(&bed);
}

/* A map that promises more than there is, and a file that shrank after it was opened. */
static void lies(void **state)
{
	struct boot_file f;
	struct bed bed;

	bed_up(&bed, 64 * MIB);
	boot_file_elf64(&f, 80 * MIB);
	bed_files(&bed, &f, 0);
	bed.config.nr_map = layout_map(128 * MIB, LAYOUT_ECAM, bed.map);
	load_fails(&bed, -EFAULT, "no RAM");
	bed_down(&bed);

	bed_up(&bed, 64 * MIB);
	boot_file_elf64(&f, GPA);
	bed_files(&bed, &f, 0);
	bed.boot.kernel.segments[0].offset += 0x1000;
	load_fails(&bed, -ENOEXEC, "truncated");
	bed.boot.kernel.image.size += 0x1000;
	load_fails(&bed, -EIO, "shrank");
	bed_down(&bed);
}

static void no_initrd_file(void **state)
{
	struct boot boot;
	struct boot_file f;
	struct error err;
	char path[64];

	boot_file_elf64(&f, GPA);
	boot_file_write(f.bytes, f.size, path);
	assert_int_equal(boot_open(&boot, path, BOOT_AUTO, "/nonexistent/i", &err), -ENOENT);
	assert_string_equal(err.text, "initrd '/nonexistent/i': No such file or directory");
	boot_close(&boot);
	unlink(path);
}

static void maps(void **state)
{
	static const uint64_t sizes[] = { 4096, 0x9fc00, 0xa0000, 0xf0000, MIB, MIB + 4096, 128 * MIB, LAYOUT_HOLE,
		LAYOUT_HOLE + 4096, 5 * 1024 * MIB, 1ULL << 40 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct memory_range map[LAYOUT_MAP_RANGES], ram[LAYOUT_RAM_RANGES];
		unsigned n = layout_map(sizes[i], LAYOUT_ECAM, map), nr = layout_ram(sizes[i], ram);
		uint64_t usable = 0, total = 0, at = 0;

		assert_true(n <= LAYOUT_MAP_RANGES && nr <= LAYOUT_RAM_RANGES);
		for (unsigned r = 0; r < nr; r++)
			total += ram[r].size;
		assert_int_equal(total, sizes[i]);
		for (unsigned m = 0; m < n; m++) {
			bool there = false;

			assert_true(map[m].base >= at && map[m].size > 0);
			at = map[m].base + map[m].size;
			if (map[m].type != MEMORY_RAM)
				continue;
			usable += map[m].size;
			for (unsigned r = 0; r < nr; r++)
				there |= map[m].base >= ram[r].base && at <= ram[r].base + ram[r].size;
			assert_true(there);
		}
		if (sizes[i] > MIB)
			assert_int_equal(usable, sizes[i] - (MIB - LAYOUT_LOW_RAM_END));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pvh),
		cmocka_unit_test(elf64),
		cmocka_unit_test(bzimage),
		cmocka_unit_test(repeated),
		cmocka_unit_test(initrd_beside_kernel),
		cmocka_unit_test(bad_places),
		cmocka_unit_test(small_kernels),
		cmocka_unit_test(long_cmdline),
		cmocka_unit_test(lies),
		cmocka_unit_test(no_initrd_file),
		cmocka_unit_test(maps),
	};

	return cmocka_run_group_tests_name("boot_load", tests, unit_adopt, unit_release);
}
