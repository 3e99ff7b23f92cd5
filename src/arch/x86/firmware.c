/* SPDX-License-Identifier: BSD-2-Clause */
/* firmware.c - a ROM at the end of 4 GiB, its shadow below 1 MiB, and what fw_cfg tells of the machine. */
#include "arch/x86/firmware.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "arch/place.h"
#include "arch/x86/board.h"
#include "desc/acpi_loader.h"
#include "dev/flash.h"
#include "dev/fwcfg.h"

#define FW_CFG_PORT 0x510

/* How long firmware waits for the key that brings its boot menu. */
#define MENU_MS 1000

/* Whole pages, for the hypervisor to map; above the local APICs' 16 MiB, as on a PC. */
#define ROM_UNIT 0x1000ULL
#define ROM_MAX  (LAYOUT_HOLE_END - LAYOUT_KVM_END)

/* The BIOS area: what 16-bit code reaches of the ROM. */
#define SHADOW_END 0x100000ULL
#define SHADOW_MAX 0x20000ULL

/* A line of etc/e820: ACPI 6.4, table 15.4, packed. */
struct e820_entry {
	uint64_t base, size;
	uint32_t type;
} __attribute__((packed));
static_assert(sizeof(struct e820_entry) == 20, "wire structure");

static int check_size(const struct image *image, struct error *err)
{
	if (image->size % ROM_UNIT == 0 && image->size <= ROM_MAX)
		return 0;
	return image_error(image, err, -EINVAL, "%llu bytes are no ROM: a multiple of %llu KiB, and at most %llu MiB",
		(unsigned long long)image->size, ROM_UNIT >> 10, ROM_MAX >> 20);
}

static int add_rom(struct board *board, struct memory *memory, struct error *err)
{
	struct firmware *fw = &board->firmware;
	int r = image_read(&fw->image, 0, memory->host, fw->image.size, "the ROM", err);

	if (r)
		return r;
	fw->rom = (struct region){
		.name = "firmware",
		.kind = REGION_ROM,
		.space = SPACE_MMIO,
		.base = LAYOUT_HOLE_END - fw->image.size,
		.size = fw->image.size,
		.memory = memory,
	};
	r = bus_add(board->vm->bus, &fw->rom);
	return r ? image_error(&fw->image, err, r, "no place at 0x%llx", (unsigned long long)fw->rom.base) : 0;
}

static int open_rom(struct board *board, struct error *err)
{
	struct image *image = &board->firmware.image;
	struct memory *memory;
	int r = image_open(image, "firmware", board->config.firmware, err);

	if (r == 0)
		r = check_size(image, err);
	if (r)
		return r;
	r = memory_new(image->size, &memory);
	if (r)
		return image_error(image, err, r, "%s", strerror(-r));
	r = add_rom(board, memory, err);
	memory_put(memory); /* the region has its own reference now, or nobody has one */
	return r;
}

/* The flash ends where the ROM begins, as on a board where both are one chip. How large it is, it knows itself. */
static int add_flash(struct board *board, struct error *err)
{
	const struct flash_config config = { .path = board->config.flash };
	const struct region *rom = &board->firmware.rom;
	struct device *dev;
	int r = flash_type.create(board->vm, "flash", &config, &dev, err);

	if (r)
		return r;
	if (dev->regions[0]->size > ROM_MAX - rom->size) {
		err->status = STATUS_IMAGE;
		r = error_set(err, -EINVAL, "flash '%s' and firmware '%s' together are larger than %llu MiB",
			config.path, board->config.firmware, ROM_MAX >> 20);
	} else {
		dev->regions[0]->space = SPACE_MMIO;
		dev->regions[0]->base = rom->base - dev->regions[0]->size;
		r = vm_add_devices(board->vm, &dev, 1, err);
	}
	if (r)
		dev->type->destroy(dev);
	return r;
}

int firmware_build(struct board *board, struct error *err)
{
	const struct placement table[] = {
		{ "fw_cfg", &fwcfg_type, NULL, .at = { PIO(FW_CFG_PORT) } },
	};
	int r = open_rom(board, err);

	if (r) {
		err->status = STATUS_IMAGE;
		return r;
	}
	r = place_devices(board->vm, table, sizeof(table) / sizeof(table[0]), err);
	if (r == 0 && board->config.flash)
		r = add_flash(board, err);
	return r;
}

void firmware_close(struct board *board)
{
	bus_remove(board->vm->bus, &board->firmware.rom);
	image_close(&board->firmware.image);
}

/*
 * A chipset lets reads of the BIOS area reach the ROM until firmware has copied itself into RAM there. Here its last
 * part, which firmware starts by, is in that RAM from the start.
 */
static int load_shadow(struct board *board, struct error *err)
{
	const struct region *rom = &board->firmware.rom;
	uint64_t size = rom->size < SHADOW_MAX ? rom->size : SHADOW_MAX;
	const uint8_t *bytes = (const uint8_t *)rom->memory->host + rom->size - size;
	int r = mem_write(&board->vm->mem, SHADOW_END - size, bytes, size);

	return r ? image_error(&board->firmware.image, err, r, "no RAM below 1 MiB for its shadow") : 0;
}

static int tell_memory(struct board *board, struct device *fw_cfg)
{
	struct memory_range ranges[LAYOUT_RAM_RANGES];
	struct e820_entry map[LAYOUT_RAM_RANGES + 1];
	unsigned n = layout_ram(board->config.ram, ranges);

	for (unsigned i = 0; i < n; i++)
		map[i] = (struct e820_entry){ htole64(ranges[i].base), htole64(ranges[i].size), htole32(MEMORY_RAM) };
	map[n++] = (struct e820_entry){ htole64(LAYOUT_KVM_IDENTITY), htole64(LAYOUT_KVM_END - LAYOUT_KVM_IDENTITY),
		htole32(MEMORY_RESERVED) };
	return fwcfg_file(fw_cfg, "etc/e820", map, (uint32_t)(n * sizeof(map[0])));
}

static int tell_numbers(struct board *board, struct device *fw_cfg)
{
	const struct region *serial = vm_device(board->vm, "serial0")->regions[0];
	uint64_t ram = htole64(board->config.ram);
	uint16_t cpus = htole16((uint16_t)board->config.cpus), port = htole16((uint16_t)serial->base);
	uint16_t menu = htole16(1), wait = htole16(MENU_MS);
	int r = fwcfg_set(fw_cfg, FWCFG_RAM_SIZE, &ram, sizeof(ram));

	if (r == 0)
		r = fwcfg_set(fw_cfg, FWCFG_CPUS, &cpus, sizeof(cpus));
	if (r == 0)
		r = fwcfg_set(fw_cfg, FWCFG_MAX_CPUS, &cpus, sizeof(cpus));
	if (r == 0)
		r = fwcfg_set(fw_cfg, FWCFG_BOOT_MENU, &menu, sizeof(menu));
	if (r == 0)
		r = fwcfg_file(fw_cfg, "etc/boot-menu-wait", &wait, sizeof(wait));
	/* There is no display: SeaBIOS's own console goes to a serial port. */
	if (r == 0 && serial->space == SPACE_PIO)
		r = fwcfg_file(fw_cfg, "etc/sercon-port", &port, sizeof(port));
	return r;
}

static int tell_tables(struct board *board, struct device *fw_cfg, struct error *err)
{
	struct acpi_tables tables;
	struct acpi_loader loader;
	int r = board_tables(board, LAYOUT_ACPI, &tables, err);

	if (r)
		return r;
	r = acpi_loader_make(&tables, &loader);
	acpi_free(&tables);
	if (r)
		return error_set(err, r, "no memory for the ACPI tables");
	r = fwcfg_file(fw_cfg, ACPI_LOADER_RSDP, loader.rsdp, loader.rsdp_len);
	if (r == 0)
		r = fwcfg_file(fw_cfg, ACPI_LOADER_TABLES, loader.tables, loader.tables_len);
	if (r == 0)
		r = fwcfg_file(fw_cfg, ACPI_LOADER_SCRIPT, loader.script, loader.script_len);
	acpi_loader_free(&loader);
	return r ? error_set(err, r, "fw_cfg: %s", strerror(-r)) : 0;
}

int firmware_load(struct board *board, struct error *err)
{
	struct device *fw_cfg = vm_device(board->vm, "fw_cfg");
	int r = load_shadow(board, err);

	if (r)
		return r;
	r = tell_memory(board, fw_cfg);
	if (r == 0)
		r = tell_numbers(board, fw_cfg);
	return r ? error_set(err, r, "fw_cfg: %s", strerror(-r)) : tell_tables(board, fw_cfg, err);
}
