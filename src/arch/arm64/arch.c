/* SPDX-License-Identifier: BSD-2-Clause */
/* arch.c - arm64's side of the contract in arch/arch.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "arch/arm64/board.h"
#include "arch/cmdline.h"
#include "arch/guest_ram.h"
#include "core/word.h"

/* Room for a small kernel and the device tree. */
#define MIN_RAM (16ULL << 20)
/*
 * Of a guest-physical address: the most that the architecture has (with FEAT_LPA),
 * and what a KVM gives that is not asked.
 */
#define MAX_PHYS_BITS   52
#define USUAL_PHYS_BITS 40
#define MIN_PHYS_BITS   32
#define MAX_CPUS        PSCI_CPUS /* KVM has no more */

_Static_assert(MAX_CPUS *LAYOUT_PVTIME_STEP <= LAYOUT_PVTIME_SIZE, "a place for each vCPU's stolen time");
_Static_assert(LAYOUT_GIC_DIST - MAX_CPUS * LAYOUT_REDIST_SIZE - LAYOUT_ITS_SIZE > LAYOUT_VIRTIO + 0x00100000ULL,
	"redistributors and ITS lie above the devices");

static const char *const default_params[] = {
	"console=ttyS0",
	NULL,
};

static const char *const kernel_candidates[] = {
	"./Image",
	"./arch/arm64/boot/Image",
	"../../arch/arm64/boot/Image",
	"./arch/arm64/boot/Image.gz",
	"/boot/vmlinuz-%s",
	"/boot/Image-%s",
	NULL,
};

/* Not the host's own, which has 64 bits where it has KVM. */
static const char *const kernel_candidates_32[] = {
	"./zImage",
	"./arch/arm/boot/zImage",
	"../../arch/arm/boot/zImage",
	NULL,
};

static const char *const irqchips[] = { [GIC_V2] = "gicv2",
	[GIC_V2M] = "gicv2m",
	[GIC_V3] = "gicv3",
	[GIC_V3_ITS] = "gicv3-its",
	[NR_GICS] = "auto",
	NULL };

/* -1: unknown. */
static int irqchip_wanted(const struct guest_config *config)
{
	for (int i = 0; irqchips[i]; i++) {
		if (!config->irqchip || strcmp(config->irqchip, irqchips[i]) == 0)
			return config->irqchip ? i : NR_GICS;
	}
	return -1;
}

static int check_irqchip(const struct guest_config *config, struct error *err)
{
	const int wanted = irqchip_wanted(config);
	const char *nearest = wanted < 0 ? word_nearest(config->irqchip, irqchips) : NULL;

	if (gic_is_v2((enum gic)wanted) && config->cpus > GIC_V2_CPUS)
		return error_set(err, -ERANGE, "-c %u: a GICv2 has %d CPUs at most", config->cpus, GIC_V2_CPUS);
	if (gic_is_v2((enum gic)wanted) && config->arm.nested)
		return error_set(err, -EINVAL,
			"--nested does not go with --irqchip %s: only a GICv3 has virtual interfaces for a hypervisor",
			config->irqchip);
	if (wanted >= 0)
		return 0;
	error_set(err, -EINVAL, "--irqchip '%.100s': there are auto, gicv2, gicv2m, gicv3 and gicv3-its",
		config->irqchip);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return -EINVAL;
}

int arm64_phys_bits(uint64_t ram, unsigned limit, unsigned *bits, struct error *err)
{
	const unsigned most = limit ? limit : USUAL_PHYS_BITS;
	const uint64_t last = LAYOUT_RAM + ram - 1;
	const unsigned needed = 64 - (unsigned)__builtin_clzll(last);

	if (needed > most) {
		err->status = STATUS_USAGE;
		return error_set(err, -ERANGE,
			"-m: %llu GiB is beyond this KVM's %u bits of guest-physical addresses: at most %llu GiB",
			(unsigned long long)(ram >> 30), most,
			(unsigned long long)(((1ULL << most) - LAYOUT_RAM) >> 30));
	}
	*bits = needed < MIN_PHYS_BITS ? MIN_PHYS_BITS : needed;
	if (needed <= USUAL_PHYS_BITS && most >= USUAL_PHYS_BITS)
		*bits = 0;
	return 0;
}

static int check(const struct guest_config *config, struct error *err)
{
	uint64_t limit = (1ULL << MAX_PHYS_BITS) - LAYOUT_RAM;

	err->status = STATUS_USAGE;
	if (config->ram < MIN_RAM)
		return error_set(err, -EINVAL, "-m: %llu bytes are too little: at least 16 MiB",
			(unsigned long long)config->ram);
	if (config->ram > limit)
		return error_set(err, -ERANGE, "-m: %llu GiB is beyond this machine's address space: at most %llu GiB",
			(unsigned long long)(config->ram >> 30), (unsigned long long)(limit >> 30));
	if (config->ram & 0xffff)
		return error_set(
			err, -EINVAL, "-m: %llu bytes are no multiple of 64 KiB", (unsigned long long)config->ram);
	if (config->cpus < 1)
		return error_set(err, -EINVAL, "-c 0: a guest has at least one vCPU");
	if (config->cpus > MAX_CPUS)
		return error_set(err, -ERANGE, "-c %u: at most %u vCPUs", config->cpus, MAX_CPUS);
	if (config->boot && strcmp(config->boot, "auto") != 0)
		return error_set(
			err, -EINVAL, "--boot %.100s: an arm64 kernel is started in one way only, auto", config->boot);
	if (check_irqchip(config, err) || arm64_check_options(config, err))
		return -EINVAL;
	err->status = 0;
	return 0;
}

static void destroy(struct board *board)
{
	if (!board)
		return;
#ifdef __aarch64__
	gic_close(board);
#endif
	arm64_boot_close(&board->boot);
	bus_remove(board->vm->bus, &board->ports);
	bus_remove(board->vm->bus, &board->pvtime);
	free(board->psci);
	bus_remove(board->vm->bus, &board->ram);
	bus_drain(board->vm->bus);
	free(board);
}

static int add_ram(struct board *board, struct error *err)
{
	struct memory *memory;
	int r = guest_ram_memory(&board->config, &memory, err);

	if (r)
		return r;
	board->ram = (struct region){
		.name = "RAM",
		.base = LAYOUT_RAM,
		.size = board->config.ram,
		.memory = memory,
	};
	r = guest_ram_add(board->vm->bus, &board->ram, err);
	/* The region has a reference of its own now, or nobody has one. */
	memory_put(memory);
	return r;
}

static int add_psci(struct board *board, struct error *err)
{
	bool user;
	int r = arm64_psci_user(&board->config, &user, err);

	if (r || !user)
		return r;
	board->psci = malloc(sizeof(*board->psci));
	if (!board->psci)
		return error_set(err, -ENOMEM, "no memory for --psci user");
	psci_init(board->psci, board->config.cpus);
	return 0;
}

static int create(struct vm *vm, const struct guest_config *config, struct board **out, struct error *err)
{
	struct board *board = calloc(1, sizeof(*board));
	int r;

	if (!board)
		return error_set(err, -ENOMEM, "no memory for the board");
	board->vm = vm;
	board->config = *config;
	board->wanted = (enum gic)irqchip_wanted(config);
	board->gic = board->wanted == NR_GICS ? GIC_V3_ITS : board->wanted;
	board->gic_fd = board->its_fd = -1;
	vm->ram_size = config->ram;
	r = add_ram(board, err);
	if (r == 0)
		r = add_psci(board, err);
	if (r) {
		destroy(board);
		return r;
	}
	*out = board;
	return 0;
}

static int open_images(struct board *board, struct error *err)
{
	int r = cmdline_join(board->cmdline, sizeof(board->cmdline), default_params, &board->config, err);

	if (r == 0)
		r = arm64_boot_open(
			&board->boot, board->config.kernel, board->config.initrd, board->config.arm.aarch32, err);
	return r;
}

/* Whether there is nobody who could mount the root that the command line names: no initrd, nor the kernel. */
static bool is_rootless(struct board *board)
{
	const char *needs = cmdline_root_needs(&board->config);

	return needs && !arm64_boot_holds(&board->boot, &board->vm->mem, &board->places, needs);
}

/* A run that is to be repeated gets no rng-seed: what is known is no randomness. */
static int draw_seeds(struct board *board, struct error *err)
{
	uint8_t bytes[sizeof(board->kaslr_seed) + sizeof(board->rng_seed)];

	board->random = false;
	if (board->config.arm.kaslr_seed)
		return arm64_kaslr_seed(&board->config, &board->kaslr_seed, err);
	/* A guest without them makes do with less random numbers. */
	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes))
		return 0;
	board->random = true;
	memcpy(&board->kaslr_seed, bytes, sizeof(board->kaslr_seed));
	memcpy(board->rng_seed, bytes + sizeof(board->kaslr_seed), sizeof(board->rng_seed));
	return 0;
}

/* The device tree says what interrupt controller there is, so it is written when KVM has told: by enter(). */
static int load(struct board *board, struct error *err)
{
	int r = arm64_boot_place(&board->boot, board->config.ram, &board->places, err);

	if (r == 0)
		r = draw_seeds(board, err);
	if (r == 0 && board->config.firmware)
		r = arm64_firmware_load(board, err);
	if (r == 0 && board->config.kernel)
		r = arm64_boot_load(&board->boot, &board->vm->mem, &board->places, err);
	if (r == 0 && board->config.kernel && !board->loaded)
		board->rootless = is_rootless(board);
	board->loaded = true;
	return r;
}

static void started(struct board *board)
{
}

static void info(struct board *board, struct board_info *info)
{
	const struct kernel *kernel = &board->boot.kernel;

	if (board->config.firmware) {
		*info = (struct board_info){
			.entry = board->places.kernel,
			.firmware_base = board->places.kernel,
			.firmware_size = board->boot.firmware.size,
			.cmdline = "",
			.pci = board->pci,
		};
		return;
	}
	*info = (struct board_info){
		.kernel_kind = kernel->kind,
		.unpacked = kernel->packed,
		.boot_way = kernel->aarch32 ? "zimage" : "image",
		.boot_text = kernel->aarch32 ? "the 32-bit Arm boot protocol" : "the arm64 boot protocol",
		.own_kaslr = !kernel->aarch32,
		.entry = board->places.kernel,
		.cmdline = board->cmdline,
		.rootless = board->rootless,
		.pci = board->pci,
	};
}

const struct arch arch_arm64 = {
	.name = "arm64",
	.kernel_candidates = kernel_candidates,
	.kernel_candidates_32 = kernel_candidates_32,
	.check = check,
	.create = create,
	.destroy = destroy,
	.build = arm64_build,
	.open_images = open_images,
	.load = load,
	.started = started,
	.info = info,
	.tree = arm64_tree,
#ifdef __aarch64__
	.kvm = &arm64_kvm,
#endif
};
