/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_machine.c - the whole x86-64 machine, built without KVM, under a guest that is made of bytes: each input is one
 * life of a machine. For libFuzzer (-Dfuzz=true with clang); without it, a program that runs the files that it is
 * given, or its standard input, for other fuzzers and to repeat what they found.
 *
 * The first byte chooses the machine: a PC, one with firmware, and two with virtio devices, on PCI and on MMIO. Their
 * queues are served by threads of their own, in their own time. Then each step is a byte for what is done and bytes for
 * its particulars; where the input ends, zeros follow. All bytes mean something. The clock is stepped, so but for those
 * threads an input does the same each time.
 */
#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/thread.h"
#include "fuzz_main.h"
#include "machine/machine.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/p9.h"
#include "virtio/rng.h"

#define MAX_PLACES 64
#define MAX_COUNT  16
#define ROM_SIZE   (64 << 10)
/* Where the input may write guest memory for devices to read, and what of RAM is accessed. */
#define SCRATCH      0x1000
#define SCRATCH_SIZE 0x1000
#define DISK_SIZE    (64 << 10)
#define NR_VIRTIO    6

enum kind { PLAIN, FIRMWARE, ON_PCI, ON_MMIO, NR_KINDS };

struct place {
	enum space space;
	uint64_t base, size;
};

struct fuzz {
	struct machine machine;
	enum kind kind;
	struct guest_virtio virtio[NR_VIRTIO];
	struct blk_config disk;
	struct virtio_net_options net;
	struct virtio_p9_options folder;
	struct balloon_config balloon;
	char rom_path[32], disk_path[32];
	struct initiator from;
	const uint8_t *data;
	size_t size;
	struct place places[MAX_PLACES];
	unsigned nr_places;
};

static uint64_t take(struct fuzz *f, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && f->size; i++, f->data++, f->size--)
		value |= (uint64_t)*f->data << 8 * i;
	return value;
}

static void add_place(struct region *region, void *arg)
{
	struct fuzz *f = arg;

	if (f->nr_places < MAX_PLACES)
		f->places[f->nr_places++] = (struct place){ region->space, region->base,
			region->kind == REGION_RAM ? SCRATCH + SCRATCH_SIZE : region->size };
}

static void access_at(struct fuzz *f, enum space space, uint64_t addr, unsigned len, unsigned count, bool write)
{
	uint8_t data[8 * MAX_COUNT];
	unsigned claimed;

	for (unsigned i = 0; write && i < len * count; i++)
		data[i] = i < 8 ? (uint8_t)take(f, 1) : data[i % 8];
	claimed = bus_access(f->machine.vm.bus, &f->from, space, addr, data, len, count, write);
	bus_throttle(f->machine.vm.bus);
	assert(claimed <= len * count);
	for (unsigned i = 0; !claimed && !write && i < len * count; i++)
		assert(data[i] == 0xff);
}

/* A region, a place in it or, now and then, across its ends, and a length. */
static void some_access(struct fuzz *f, unsigned what, bool write, unsigned count)
{
	unsigned edge = what & 16 && count == 1 ? 8 : 0;
	unsigned len = what & 8 ? 1 + (what & 7) : 1U << (what & 3);
	const struct place *place;
	uint64_t offset;

	f->nr_places = 0;
	for (unsigned space = 0; space < NR_SPACES; space++)
		bus_for_each(f->machine.vm.bus, (enum space)space, add_place, f);
	place = &f->places[take(f, 1) % f->nr_places];
	offset = take(f, place->size <= 0x80 ? 1 : place->size <= 0x8000 ? 2 : 4) % (place->size + 2 * edge);
	access_at(f, place->space, place->base + offset - edge, len, count, write);
}

/* PCI config space by ports: the test function's or firmware's chips, or any. */
static void some_config(struct fuzz *f, unsigned what)
{
	uint8_t devfn = what & 4 ? (uint8_t)take(f, 1) : 8, reg = (uint8_t)take(f, 1);
	uint32_t address = 1U << 31 | (uint32_t)devfn << 8 | (reg & 0xfc);
	unsigned len = 1U << (what & 3) % 3;

	bus_access(f->machine.vm.bus, &f->from, SPACE_PIO, 0xcf8, &address, 4, 1, true);
	access_at(f, SPACE_PIO, 0xcfc + (reg & 3 & ~(len - 1)), len, 1, !(what & 8));
}

static void write_memory(struct fuzz *f, unsigned what)
{
	uint64_t at = SCRATCH + take(f, 2) % SCRATCH_SIZE;
	uint8_t bytes[16];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)take(f, 1);
	assert(mem_write(&f->machine.vm.mem, at, bytes, 1 + what % sizeof(bytes)) == 0);
}

static uint32_t virtio_get(struct fuzz *f, uint64_t at)
{
	uint32_t value;

	bus_access(f->machine.vm.bus, &f->from, SPACE_MMIO, at, &value, 4, 1, false);
	return value;
}

static void virtio_set(struct fuzz *f, uint64_t at, uint32_t value)
{
	bus_access(f->machine.vm.bus, &f->from, SPACE_MMIO, at, &value, 4, 1, true);
	bus_throttle(f->machine.vm.bus);
}

/*
 * A driver that comes as far as to a queue in the scratch, of descriptors that the
 * input makes up: few inputs do that by chance.
 */
static void bring_up(struct fuzz *f, unsigned what)
{
	const struct guest_virtio *device = &f->virtio[take(f, 1) % NR_VIRTIO];
	uint64_t at = vm_device(&f->machine.vm, device->name)->regions[0]->base;
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	if (what & 1) {
		virtio_set(f, at + VIRTIO_MMIO_STATUS, 0);
		virtio_set(f, at + VIRTIO_MMIO_STATUS, status);
		for (unsigned i = 0; i < 2; i++) {
			virtio_set(f, at + VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
			virtio_set(f, at + VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
			virtio_set(f, at + VIRTIO_MMIO_DRIVER_FEATURES,
				virtio_get(f, at + VIRTIO_MMIO_DEVICE_FEATURES) &
					~(uint32_t)(i ? take(f, 1) & ~1U : take(f, 4)));
		}
		virtio_set(f, at + VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	}
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_SEL, what >> 1 & 3);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_NUM, 1U << take(f, 1) % 6);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_DESC_LOW, SCRATCH);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_AVAIL_LOW, SCRATCH + 0x200);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_USED_LOW, SCRATCH + 0x300);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_READY, 1);
	virtio_set(f, at + VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK | status);
	virtio_set(f, at + VIRTIO_MMIO_QUEUE_NOTIFY, what >> 1 & 3);
}

/* A descriptor, an entry of the available ring, and its index. */
static void make_available(struct fuzz *f, unsigned what)
{
	unsigned slot = take(f, 1) % 32;
	uint8_t desc[16] = { 0 };
	uint16_t index = (uint16_t)slot, avail = (uint16_t)take(f, 1);

	desc[0] = (uint8_t)take(f, 1);
	desc[1] = 0x10 | (uint8_t)(take(f, 1) & 0xf); /* in the scratch */
	desc[8] = (uint8_t)take(f, 1);
	desc[12] = what & 7;
	desc[14] = (uint8_t)take(f, 1);
	assert(mem_write(&f->machine.vm.mem, SCRATCH + slot * sizeof(desc), desc, sizeof(desc)) == 0);
	assert(mem_write(&f->machine.vm.mem, SCRATCH + 0x204 + 2 * (avail % 32U), &index, 2) == 0);
	assert(mem_write(&f->machine.vm.mem, SCRATCH + 0x202, &avail, 2) == 0);
}

static void drive(struct fuzz *f, unsigned what)
{
	if (f->kind == ON_MMIO && what & 16)
		bring_up(f, what);
	else
		make_available(f, what);
}

static void reset(struct fuzz *f)
{
	struct error err = { 0 };
	int r = machine_reset(&f->machine, &err);

	assert(r == 0);
}

static void host(struct fuzz *f, unsigned what)
{
	struct clock *clock = &f->machine.vm.clock;
	uint8_t bytes[8];

	switch (what % 4) {
	case 0:
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)take(f, 1);
		chardev_feed(f->machine.vm.console, bytes, 1 + what / 4 % sizeof(bytes));
		break;
	case 1:
		vm_press(&f->machine.vm, what & 4 ? BUTTON_SLEEP : BUTTON_POWER);
		break;
	case 2:
		/* Some 18 years around 1970, wherever it was before. */
		clock_jump(clock, ((int64_t)take(f, 8) >> 4) - clock->epoch);
		break;
	default:
		reset(f);
	}
}

static void step(struct fuzz *f)
{
	uint8_t byte = (uint8_t)take(f, 1), what = byte >> 3;

	switch (byte & 7) {
	case 0:
		some_access(f, what, false, 1);
		break;
	case 1:
		some_access(f, what, true, 1);
		break;
	case 2:
		if (f->kind >= ON_PCI)
			drive(f, what);
		else
			some_access(f, what, true, 1);
		break;
	case 3:
		some_access(f, what, what & 16, 1 + (unsigned)take(f, 1) % MAX_COUNT);
		break;
	case 4:
		some_config(f, what);
		break;
	case 5: /* up to some 17 s */
		clock_step(&f->machine.vm.clock, take(f, 1) << what % 27);
		break;
	case 6:
		write_memory(f, what);
		break;
	default:
		host(f, what);
	}
	/* What was asked for is the fuzzer's to do, or not. */
	if (run_take_request(&f->machine.vm.run) != REASON_NONE)
		run_resume(&f->machine.vm.run);
}

static int file_of(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)size)) {
		perror(name);
		exit(1);
	}
	return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	thread_adopt();
	return 0;
}

static void path_of(int fd, char path[static 32])
{
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

/*
 * Nothing of the host's is at stake: a disk in memory, a network without one, and this folder, which nobody can change.
 */
static void add_virtio(struct fuzz *f, struct machine_config *config)
{
	const struct guest_virtio devices[NR_VIRTIO] = {
		{ .name = "disk0", .config = { .type = &virtio_blk_type, .config = &f->disk } },
		{ .name = "net0", .config = { .type = &virtio_net_type, .config = &f->net } },
		{ .name = "console", .config = { .type = &vconsole_type, .config = &config->guest.hvcs } },
		{ .name = "rng", .config = { .type = &virtio_rng_type } },
		{ .name = "balloon", .config = { .type = &virtio_balloon_type, .config = &f->balloon } },
		{ .name = "folder0", .config = { .type = &virtio_p9_type, .config = &f->folder } },
	};

	path_of(file_of("disk", DISK_SIZE), f->disk_path);
	f->disk = (struct blk_config){ .disk = { .path = f->disk_path, .way = DISK_THREADS }, .queues = 2 };
	f->net = (struct virtio_net_options){ .host = { .kind = NET_TAP, .fd = -1, .pairs = 2, .dry = true } };
	f->folder = (struct virtio_p9_options){ .folder = { .path = ".", .ro = true }, .tag = "fuzz" };
	memcpy(f->virtio, devices, sizeof(devices));
	for (unsigned i = 0; i < NR_VIRTIO; i++) {
		f->virtio[i].transport = f->kind == ON_PCI ? VIRTIO_ON_PCI_LEGACY : VIRTIO_ON_MMIO;
		f->virtio[i].option = "the fuzzer";
	}
	config->guest.virtio = f->virtio;
	config->guest.nr_virtio = NR_VIRTIO;
}

static struct fuzz *machine_of(enum kind kind)
{
	struct fuzz *f = calloc(1, sizeof(*f));
	struct machine_config config = {
		.guest = { .ram = 16ULL << 20, .cpus = 2, .pci_test = kind == PLAIN, .hvcs = { .nr_ports = VM_HVCS } },
		.arch = &arch_x86_64,
		.dry_run = true,
		.device_test = true,
	};
	struct error err = { 0 };

	assert(f);
	f->kind = kind;
	f->from.name = "fuzz";
	config.consoles[0] = (struct console_config){ .kind = CONSOLE_FD, .fd = file_of("console", 0) };
	if (kind == FIRMWARE) {
		path_of(file_of("rom", ROM_SIZE), f->rom_path);
		config.guest.firmware = f->rom_path;
	} else if (kind != PLAIN) {
		add_virtio(f, &config);
	}
	if (machine_up(&f->machine, &config, &err) != STATUS_OK) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	bus_attach(f->machine.vm.bus, &f->from);
	return f;
}

/* What firmware does for PCI devices: their BARs decode. */
static void enable_slots(struct fuzz *f)
{
	for (uint32_t slot = 1; slot <= NR_VIRTIO; slot++) {
		uint32_t address = 1U << 31 | slot << 11 | 4, command = 7;

		bus_access(f->machine.vm.bus, &f->from, SPACE_PIO, 0xcf8, &address, 4, 1, true);
		bus_access(f->machine.vm.bus, &f->from, SPACE_PIO, 0xcfc, &command, 4, 1, true);
	}
}

/*
 * As after power-on, whatever the last input did, so that one that fails fails alone. Building each input a machine
 * of its own would take a hundred times as long.
 */
static void begin(struct fuzz *f)
{
	struct vm *vm = &f->machine.vm;
	uint8_t bytes[64];

	while (chardev_get(f->machine.vm.console, bytes, sizeof(bytes)))
		;
	assert(mem_fill(&vm->mem, 0, 0, SCRATCH + SCRATCH_SIZE) == 0);
	vm->clock.now = 0;
	vm->clock.epoch = 1700000000 * (int64_t)NSEC_PER_SEC;
	list_for_each (pos, &vm->devices)
		device_power_on(container_of(pos, struct device, node));
	reset(f);
	if (f->kind == ON_PCI)
		enable_slots(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz *machines[NR_KINDS];
	enum kind kind = size ? *data % NR_KINDS : PLAIN;
	struct fuzz *f;

	if (!machines[kind])
		machines[kind] = machine_of(kind);
	f = machines[kind];
	f->data = data;
	f->size = size;
	take(f, 1);
	begin(f);
	while (f->size)
		step(f);
	/* What the guest said goes, or the file would grow. */
	chardev_flush(f->machine.vm.console, 0);
	assert(ftruncate(f->machine.config.consoles[0].fd, 0) == 0);
	lseek(f->machine.config.consoles[0].fd, 0, SEEK_SET);
	return 0;
}

#ifndef WITH_LIBFUZZER
/* As it is, or once for each machine. */
static void run_file(FILE *in, bool each)
{
	static uint8_t bytes[1 << 20];
	size_t n;

	if (!each) {
		fuzz_file(in);
		return;
	}
	n = fread(bytes, 1, sizeof(bytes), in);
	for (unsigned kind = 0; n && kind < NR_KINDS; kind++) {
		bytes[0] = (uint8_t)kind;
		LLVMFuzzerTestOneInput(bytes, n);
	}
}

/* Files; after --each they are run in each machine, whatever their first bytes say. */
int main(int argc, char **argv)
{
	bool each = argc > 1 && strcmp(argv[1], "--each") == 0;

	LLVMFuzzerInitialize(&argc, &argv);
	if (argc == 1)
		run_file(stdin, false);
	for (int i = 1 + each; i < argc; i++) {
		FILE *in = fopen(argv[i], "rb");

		if (!in) {
			perror(argv[i]);
			return 1;
		}
		run_file(in, each);
		fclose(in);
	}
	thread_release();
	return 0;
}
#endif
