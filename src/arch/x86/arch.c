/* SPDX-License-Identifier: BSD-2-Clause */
/* arch.c - x86-64's side of the contract in arch/arch.h. */
#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/cmdline.h"
#include "arch/guest_ram.h"
#include "arch/x86/board.h"
#include "core/word.h"

/* Below this not even a small kernel has room to unpack itself. */
#define MIN_RAM (16ULL << 20)
/* KVM's own bound for x86, and what the ACPI area holds tables for. */
#define MAX_CPUS 1024
/* Of a guest-physical address, where the host's CPU is no x86 and sets no limit. */
#define PHYS_BITS 46

/* Where the boot CPU starts after power-on. */
#define RESET_VECTOR 0xfffffff0

/*
 * Said on every command line but with --no-default-params; the user's own words come after, and win. Each has its
 * line, with what it saves, in the man page and docs/boot.md. None may change what the guest is.
 */
static const char *const default_params[] = {
	"console=ttyS0",
	"pci=noearly",
	"i8042.noloop",
	NULL,
};

static const char *const kernel_candidates[] = {
	"./bzImage",
	"./arch/x86/boot/bzImage",
	"../../arch/x86/boot/bzImage",
	"./vmlinux",
	"/boot/vmlinuz-%s",
	"/boot/bzImage-%s",
	NULL,
};

unsigned board_phys_bits(void)
{
#ifdef __x86_64__
	unsigned a, b, c, d;

	return __get_cpuid(0x80000008, &a, &b, &c, &d) ? a & 0xff : 36;
#else
	return PHYS_BITS;
#endif
}

static enum boot_way way_wanted(const struct guest_config *config)
{
	return config->boot ? boot_way_find(config->boot) : BOOT_AUTO;
}

static int unknown_way(const char *name, struct error *err)
{
	const char *names[NR_BOOT_WAYS + 1] = { NULL }, *nearest;

	for (enum boot_way way = BOOT_AUTO; way < NR_BOOT_WAYS; way++)
		names[way] = boot_way_name(way);
	nearest = word_nearest(name, names);
	error_set(err, -EINVAL, "--boot %.100s: there are auto, pvh, elf64, bzimage64 and bzimage32", name);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return -EINVAL;
}

static int check(const struct guest_config *config, struct error *err)
{
	const char *foreign = guest_arm_given(&config->arm);
	uint64_t limit = 1ULL << board_phys_bits();

	err->status = STATUS_USAGE;
	if (config->ram < MIN_RAM)
		return error_set(err, -EINVAL, "-m: %llu bytes are too little: at least 16 MiB",
			(unsigned long long)config->ram);
	/* The hole's worth of RAM lies above 4 GiB. */
	if (config->ram > limit - (LAYOUT_HOLE_END - LAYOUT_HOLE))
		return error_set(err, -ERANGE, "-m: %llu GiB is beyond this CPU's address space of %llu GiB",
			(unsigned long long)(config->ram >> 30), (unsigned long long)(limit >> 30));
	if (config->ram & 0xfff)
		return error_set(
			err, -EINVAL, "-m: %llu bytes are no multiple of 4 KiB", (unsigned long long)config->ram);
	if (config->cpus < 1)
		return error_set(err, -EINVAL, "-c 0: a guest has at least one vCPU");
	if (config->cpus > MAX_CPUS)
		return error_set(err, -ERANGE, "-c %u: at most %u vCPUs", config->cpus, MAX_CPUS);
	if (way_wanted(config) == NR_BOOT_WAYS)
		return unknown_way(config->boot, err);
	if (config->irqchip && strcmp(config->irqchip, "auto") != 0)
		return error_set(
			err, -EINVAL, "--irqchip %.100s: an x86 machine has a PC's, and no other", config->irqchip);
	if (foreign)
		return error_set(err, -EINVAL, "--%s: only an arm64 machine has it", foreign);
	if (config->flash && !config->firmware)
		return error_set(err, -EINVAL, "--flash goes with --firmware");
	err->status = 0;
	return 0;
}

static void destroy(struct board *board)
{
	if (!board)
		return;
	keeper_stop(board->keeper);
	boot_close(&board->boot);
	firmware_close(board);
	free(board->supported);
	free(board->chips);
	for (unsigned i = 0; i < board->nr_ram; i++)
		bus_remove(board->vm->bus, &board->ram[i]);
	bus_drain(board->vm->bus);
	free(board);
}

/* One memory backs all of it, piece by piece. */
static int add_ram(struct board *board, const struct memory_range *range, struct memory *memory, struct error *err)
{
	struct region *ram = &board->ram[board->nr_ram];
	int r;

	*ram = (struct region){
		.name = range->base ? "RAM above 4 GiB" : "RAM",
		.base = range->base,
		.size = range->size,
		.memory = memory,
		.memory_offset = range->base ? LAYOUT_HOLE : 0,
	};
	r = guest_ram_add(board->vm->bus, ram, err);
	board->nr_ram += r == 0;
	return r;
}

static int add_all_ram(struct board *board, struct error *err)
{
	struct memory_range ranges[LAYOUT_RAM_RANGES];
	unsigned n = layout_ram(board->config.ram, ranges);
	struct memory *memory;
	int r = guest_ram_memory(&board->config, &memory, err);

	if (r)
		return r;
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = add_ram(board, &ranges[i], memory, err);
	/* The regions have references of their own now, or nobody has one. */
	memory_put(memory);
	return r;
}

static int create(struct vm *vm, const struct guest_config *config, struct board **out, struct error *err)
{
	struct board *board = calloc(1, sizeof(*board));
	int r;

	if (!board)
		return error_set(err, -ENOMEM, "no memory for the board");
	board->vm = vm;
	board->config = *config;
	vm->ram_size = config->ram;
	r = add_all_ram(board, err);
	if (r) {
		destroy(board);
		return r;
	}
	*out = board;
	return 0;
}

static int open_images(struct board *board, struct error *err)
{
	int r;

	if (board->config.firmware)
		return 0; /* it was opened with the machine that it makes */
	r = cmdline_join(board->cmdline, sizeof(board->cmdline), default_params, &board->config, err);
	if (r)
		return r;
	r = boot_open(&board->boot, board->config.kernel, way_wanted(&board->config), board->config.initrd, err);
	board->boot.kernel.cache = board->config.kernel_cache;
	return r;
}

/* Whether there is nobody who could mount the root that the command line names: no initrd, nor the kernel. */
static bool is_rootless(struct board *board)
{
	const char *needs = cmdline_root_needs(&board->config);

	return needs && !boot_holds(&board->boot, &board->vm->mem, needs);
}

static int load_kernel(struct board *board, struct error *err)
{
	struct memory_range map[LAYOUT_MAP_RANGES];
	struct boot_config config = {
		.cmdline = board->cmdline,
		.map = map,
		.nr_map = layout_map(board->config.ram, board_ecam(board), map),
		.ram_is_zero = !board->loaded && !board->config.ram_used,
	};
	int r = board_describe(board, &config.rsdp, err);

	if (r == 0 && board->config.kernel)
		r = boot_load(&board->boot, &board->vm->mem, &config, &board->entry, err);
	if (r == 0 && board->config.kernel && !board->loaded)
		board->rootless = is_rootless(board);
	board->loaded = true;
	return r;
}

static int load(struct board *board, struct error *err)
{
	return board->config.firmware ? firmware_load(board, err) : load_kernel(board, err);
}

static void started(struct board *board)
{
	if (!board->config.firmware)
		board->keeper = keeper_start(&board->boot.kernel);
}

static void info(struct board *board, struct board_info *info)
{
	const struct kernel *kernel = &board->boot.kernel;

	if (board->config.firmware) {
		*info = (struct board_info){
			.entry = RESET_VECTOR,
			.firmware_base = board->firmware.rom.base,
			.firmware_size = board->firmware.rom.size,
			.cmdline = "",
			.pci = board->pci,
		};
		return;
	}
	*info = (struct board_info){
		.kernel_kind = kernel->kind,
		.unpacked = kernel->packed,
		.cached = kernel->from == KERNEL_FROM_CACHE,
		.cache_path = kernel->packed && kernel->cache_path[0] ? kernel->cache_path : NULL,
		.cache_note = kernel->packed && kernel->cache_note[0] ? kernel->cache_note : NULL,
		.boot_way = boot_way_name(kernel->way),
		.boot_text = boot_way_text(kernel->way),
		.boot_note = kernel->note[0] ? kernel->note : NULL,
		.own_kaslr = kernel->way == BOOT_BZIMAGE64 || kernel->way == BOOT_BZIMAGE32,
		.entry = kernel->entry,
		.cmdline = board->cmdline,
		.rootless = board->rootless,
		.pci = board->pci,
	};
}

const struct arch arch_x86_64 = {
	.name = "x86_64",
	.kernel_candidates = kernel_candidates,
	.check = check,
	.create = create,
	.destroy = destroy,
	.build = board_build,
	.open_images = open_images,
	.load = load,
	.started = started,
	.info = info,
#ifdef __x86_64__
	.kvm = &board_kvm,
#endif
};
