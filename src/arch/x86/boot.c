/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * boot.c - the boot loader: places first, all of them checked, then the loading.
 *
 * The kernel goes where it says. The initrd goes as high as the kernel and the hole below 4 GiB let it, so
 * that it is out of the way of what the kernel allocates first. Both, and the boot data, lie below 4 GiB.
 */
#include "arch/x86/boot.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86/inner.h"

#define PAGE 4096ULL
#define GIB4 0x100000000ULL

#define MAP_MAX 64

/* Xen's public/arch-x86/hvm/start_info.h describes these three. */
#define START_INFO_MAGIC 0x336ec578

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_entries, reserved;
};

struct start_module {
	uint64_t base, size, cmdline, reserved;
};

struct start_map {
	uint64_t base, size;
	uint32_t type, reserved;
};

struct start_page {
	struct start_info info;
	struct start_module initrd;
	struct start_map map[MAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "PVH's start info, version 1");
_Static_assert(sizeof(struct start_module) == 32 && sizeof(struct start_map) == 24, "PVH's tables");
_Static_assert(sizeof(struct start_page) <= LAYOUT_ZERO_PAGE - LAYOUT_START_INFO, "fits its place");
_Static_assert(MAP_MAX <= ZERO_PAGE_RANGES, "fits the zero page");

/* Flat segments, at the selectors that boot.h names. The TSS takes two slots, as in long mode. */
#define CODE32 0x00cf9b000000ffff /* base 0, 4 GiB, accessed */
#define CODE64 0x00af9b000000ffff

static const uint64_t gdt[] = {
	[BOOT_CS / 8] = CODE32,
	[BOOT_DS / 8] = 0x00cf93000000ffff, /* data */
	[BOOT_TR / 8] = 0x00008b0000000067, /* busy TSS at 0, 0x68 bytes */
	[BOOT_TR / 8 + 1] = 0,
};

int boot_open(struct boot *boot, const char *kernel, enum boot_way way, const char *initrd, struct error *err)
{
	int r;

	memset(boot, 0, sizeof(*boot));
	r = kernel_open(&boot->kernel, kernel, way, err);
	if (r || !initrd)
		return r;
	return image_open(&boot->initrd, "initrd", initrd, err);
}

void boot_close(struct boot *boot)
{
	kernel_close(&boot->kernel);
	image_close(&boot->initrd);
}

static bool in_ram(const struct boot_config *config, uint64_t base, uint64_t end)
{
	for (unsigned i = 0; i < config->nr_map; i++) {
		const struct memory_range *range = &config->map[i];

		if (range->type == MEMORY_RAM && base >= range->base && end <= range->base + range->size)
			return true;
	}
	return false;
}

/* Segments are free of overflow already (kernel.h). */
static int check_segments(const struct kernel *kernel, const struct boot_config *config, struct error *err)
{
	for (unsigned i = 0; i < kernel->nr_segments; i++) {
		uint64_t base = kernel->segments[i].gpa, end = base + kernel->segments[i].mem_size;

		if (base < LAYOUT_BOOT_DATA_END)
			return image_error(&kernel->image, err, -ENOSPC,
				"it wants 0x%llx-0x%llx, but memory below 0x%llx holds the boot data",
				(unsigned long long)base, (unsigned long long)end - 1,
				(unsigned long long)LAYOUT_BOOT_DATA_END);
		if (!in_ram(config, base, end)) {
			image_error(&kernel->image, err, -ENOSPC,
				"too large for the guest's RAM: it needs 0x%llx-0x%llx", (unsigned long long)base,
				(unsigned long long)end - 1);
			/* Else there is no RAM on any machine. */
			if (base >= LAYOUT_HIGH_RAM && end <= LAYOUT_HOLE)
				error_hint(err, "-m gives the guest more RAM");
			return -ENOSPC;
		}
	}
	return 0;
}

/* Neither the page tables nor 32-bit code reach further. */
static int check_entry(const struct kernel *kernel, struct error *err)
{
	if (kernel->entry < GIB4)
		return 0;
	return image_error(
		&kernel->image, err, -ENOSPC, "its entry 0x%llx lies above 4 GiB", (unsigned long long)kernel->entry);
}

/* The highest page-aligned place in [low, high) for `size` bytes that no segment overlaps; 0: none. */
static uint64_t place_below(const struct kernel *kernel, uint64_t low, uint64_t high, uint64_t size)
{
	for (;;) {
		uint64_t base;
		unsigned i;

		if (high < size || high - size < low)
			return 0;
		base = (high - size) & ~(PAGE - 1);
		if (base < low)
			return 0;
		for (i = 0; i < kernel->nr_segments; i++) {
			const struct kernel_segment *segment = &kernel->segments[i];

			if (base < segment->gpa + segment->mem_size && segment->gpa < base + size)
				break;
		}
		if (i == kernel->nr_segments)
			return base;
		high = kernel->segments[i].gpa; /* strictly lower each time: ends */
	}
}

static int place_initrd(
	const struct boot *boot, const struct boot_config *config, struct boot_entry *entry, struct error *err)
{
	uint64_t limit = boot->kernel.initrd_max + 1, top = 0;

	if (!boot->initrd.path)
		return 0;
	if (limit > GIB4 || limit == 0)
		limit = GIB4;
	for (unsigned i = config->nr_map; i-- > 0;) {
		const struct memory_range *range = &config->map[i];
		uint64_t end = range->base + range->size;

		if (range->type != MEMORY_RAM || range->base < LAYOUT_HIGH_RAM)
			continue;
		if (range->base < limit && top < end)
			top = end;
		entry->initrd = place_below(&boot->kernel, range->base, end < limit ? end : limit, boot->initrd.size);
		if (entry->initrd) {
			entry->initrd_size = boot->initrd.size;
			return 0;
		}
	}
	image_error(&boot->initrd, err, -ENOSPC,
		"too large for the guest's RAM: no place for its %llu bytes beside the kernel below 0x%llx",
		(unsigned long long)boot->initrd.size, (unsigned long long)limit);
	if (top < limit && top < LAYOUT_HOLE)
		error_hint(err, "-m gives the guest more RAM");
	return -ENOSPC;
}

static int check_cmdline(const struct boot *boot, const struct boot_config *config, struct error *err)
{
	uint64_t len = strlen(config->cmdline), max = LAYOUT_CMDLINE_SIZE - 1;

	if (max > boot->kernel.cmdline_max)
		max = boot->kernel.cmdline_max;
	if (len > max)
		return error_set(err, -E2BIG, "kernel command line of %llu bytes: this kernel takes %llu",
			(unsigned long long)len, (unsigned long long)max);
	return 0;
}

static int load_kernel(
	const struct kernel *kernel, struct mem *mem, const struct boot_config *config, struct error *err)
{
	for (unsigned i = 0; i < kernel->nr_segments; i++) {
		const struct kernel_segment *segment = &kernel->segments[i];
		int r = image_load(&kernel->image, segment->offset, segment->file_size, mem, segment->gpa, err);

		if (r)
			return r;
		if (!kernel->zero_rest || config->ram_is_zero || segment->mem_size == segment->file_size)
			continue;
		r = mem_fill(mem, segment->gpa + segment->file_size, 0, segment->mem_size - segment->file_size);
		if (r)
			return image_error(&kernel->image, err, r, "the guest has no RAM at 0x%llx",
				(unsigned long long)(segment->gpa + segment->file_size));
	}
	return 0;
}

static int write_start_info(struct mem *mem, const struct boot_config *config, const struct boot_entry *entry)
{
	struct start_page page = {
		.info = {
			.magic = START_INFO_MAGIC,
			.version = 1,
			.cmdline = LAYOUT_CMDLINE,
			.rsdp = config->rsdp,
			.map = LAYOUT_START_INFO + offsetof(struct start_page, map),
			.map_entries = config->nr_map,
		},
	};

	if (entry->initrd_size) {
		page.info.nr_modules = 1;
		page.info.modules = LAYOUT_START_INFO + offsetof(struct start_page, initrd);
		page.initrd.base = entry->initrd;
		page.initrd.size = entry->initrd_size;
	}
	for (unsigned i = 0; i < config->nr_map; i++) {
		const struct memory_range *range = &config->map[i];

		page.map[i] = (struct start_map){ range->base, range->size, range->type, 0 };
	}
	return mem_write(mem, LAYOUT_START_INFO, &page, sizeof(page));
}

/* An ELF file has no setup header; Linux, started so, reads these fields all the same. */
static void default_header(struct boot_header *hdr)
{
	hdr->boot_flag = 0xaa55;
	hdr->header = 0x53726448;
	hdr->version = 0x020c;
	hdr->loadflags = HDR_LOADED_HIGH;
	hdr->kernel_alignment = 0x200000;
}

static int write_zero_page(
	const struct boot *boot, struct mem *mem, const struct boot_config *config, const struct boot_entry *entry)
{
	struct zero_page page;
	struct boot_header *hdr = &page.hdr;

	memset(&page, 0, sizeof(page));
	*hdr = boot->kernel.hdr;
	if (hdr->header == 0)
		default_header(hdr);
	hdr->type_of_loader = 0xff; /* one without a number of its own */
	hdr->setup_data = 0;
	hdr->cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	hdr->ramdisk_image = (uint32_t)entry->initrd;
	hdr->ramdisk_size = (uint32_t)entry->initrd_size;
	page.ramdisk_image_high = (uint32_t)(entry->initrd >> 32);
	page.ramdisk_size_high = (uint32_t)(entry->initrd_size >> 32);
	page.acpi_rsdp = config->rsdp;
	page.nr_ranges = (uint8_t)config->nr_map;
	for (unsigned i = 0; i < config->nr_map; i++) {
		const struct memory_range *range = &config->map[i];

		page.ranges[i] = (struct zero_page_range){ range->base, range->size, range->type };
	}
	return mem_write(mem, LAYOUT_ZERO_PAGE, &page, sizeof(page));
}

/* 2 MiB pages: present, writable, large. */
static int write_page_tables(struct mem *mem)
{
	uint64_t table[PAGE / 8];
	int r;

	memset(table, 0, sizeof(table));
	table[0] = (LAYOUT_PAGE_TABLES + PAGE) | 3;
	r = mem_write(mem, LAYOUT_PAGE_TABLES, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE) | 3;
	r = r ? r : mem_write(mem, LAYOUT_PAGE_TABLES + PAGE, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned j = 0; j < PAGE / 8; j++)
			table[j] = ((uint64_t)i << 30 | (uint64_t)j << 21) | 0x83;
		r = r ? r : mem_write(mem, LAYOUT_PAGE_TABLES + (2 + i) * PAGE, table, sizeof(table));
	}
	return r;
}

static int write_boot_data(
	const struct boot *boot, struct mem *mem, const struct boot_config *config, struct boot_entry *entry)
{
	const uint64_t code = entry->long_mode ? CODE64 : CODE32;
	int r = mem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));

	if (r == 0)
		r = mem_write(mem, LAYOUT_GDT + BOOT_CS, &code, sizeof(code));
	if (r == 0)
		r = mem_write(mem, LAYOUT_CMDLINE, config->cmdline, strlen(config->cmdline) + 1);
	if (r)
		return r;
	entry->gdt_base = LAYOUT_GDT;
	entry->gdt_limit = sizeof(gdt) - 1;
	if (entry->way == BOOT_PVH) {
		entry->arg = LAYOUT_START_INFO;
		return write_start_info(mem, config, entry);
	}
	entry->arg = LAYOUT_ZERO_PAGE;
	if (entry->long_mode) {
		entry->cr3 = LAYOUT_PAGE_TABLES;
		r = write_page_tables(mem);
	}
	return r ? r : write_zero_page(boot, mem, config, entry);
}

/* What must fit beside each other, before any of it is loaded. */
static int place(const struct boot *boot, const struct boot_config *config, struct boot_entry *entry, struct error *err)
{
	int r = check_segments(&boot->kernel, config, err);

	if (r == 0)
		r = check_cmdline(boot, config, err);
	if (r == 0)
		r = place_initrd(boot, config, entry, err);
	return r;
}

static int load_inner(struct boot *boot, struct mem *mem, const struct boot_config *config, bool use_cache,
	struct boot_entry *entry, struct error *err)
{
	struct inner *inner;
	int r = inner_open(&inner, &boot->kernel, use_cache, err);

	if (r == 0)
		r = place(boot, config, entry, err);
	if (r == 0)
		r = inner_load(inner, &boot->kernel, mem, config->ram_is_zero, err);
	inner_close(inner);
	return r;
}

/* From the cache, if it is there and whole. */
static int load_packed(struct boot *boot, struct mem *mem, const struct boot_config *config, struct boot_entry *entry,
	struct error *err)
{
	struct kernel *kernel = &boot->kernel;
	struct boot_config again = *config;
	int r = load_inner(boot, mem, config, kernel->cache != KERNEL_CACHE_OFF, entry, err);

	if (r != -ESTALE)
		return r;
	*entry = (struct boot_entry){ 0 };
	again.ram_is_zero = false;
	kernel->from = KERNEL_FROM_FILE_CACHED_NEXT;
	return load_inner(boot, mem, &again, false, entry, err);
}

/* The kernel in the way that was asked for, or else in the best that there is. */
static int load_any(struct boot *boot, struct mem *mem, const struct boot_config *config, struct boot_entry *entry,
	struct error *err)
{
	struct kernel *kernel = &boot->kernel;
	int r;

	if (kernel->payload_size) {
		r = load_packed(boot, mem, config, entry, err);
		if (r == -ENOTSUP && kernel->wanted != BOOT_AUTO)
			return error_prefix(err, -ENOEXEC, "--boot %s", boot_way_name(kernel->wanted));
		if (r != -ENOTSUP)
			return r;
		snprintf(kernel->note, sizeof(kernel->note), "%.255s", err->text);
		*err = (struct error){ 0 };
		kernel_choose_outer(kernel);
	}
	r = place(boot, config, entry, err);
	return r ? r : load_kernel(kernel, mem, config, err);
}

int boot_load(struct boot *boot, struct mem *mem, const struct boot_config *config, struct boot_entry *entry,
	struct error *err)
{
	int r;

	*entry = (struct boot_entry){ 0 };
	if (config->nr_map > MAP_MAX)
		return error_set(err, -E2BIG, "a memory map of %u entries", config->nr_map);
	r = load_any(boot, mem, config, entry, err);
	if (r == 0)
		r = check_entry(&boot->kernel, err);
	entry->way = boot->kernel.way;
	entry->rip = boot->kernel.entry;
	entry->long_mode = entry->way == BOOT_ELF64 || entry->way == BOOT_BZIMAGE64;
	if (r == 0 && entry->initrd_size)
		r = image_load(&boot->initrd, 0, entry->initrd_size, mem, entry->initrd, err);
	if (r)
		return r;
	r = write_boot_data(boot, mem, config, entry);
	if (r)
		return error_set(err, r, "the guest has no RAM for the boot data");
	return 0;
}

bool boot_holds(const struct boot *boot, struct mem *mem, const char *text)
{
	const struct kernel *kernel = &boot->kernel;
	bool found = kernel->way == BOOT_BZIMAGE64 || kernel->way == BOOT_BZIMAGE32;

	for (unsigned i = 0; !found && i < kernel->nr_segments; i++) {
		const struct kernel_segment *segment = &kernel->segments[i];
		struct mem_ref ref;

		if (mem_map(mem, segment->gpa, segment->file_size, false, &ref))
			continue;
		found = memmem(ref.host, segment->file_size, text, strlen(text));
		mem_unmap(&ref);
	}
	return found;
}
