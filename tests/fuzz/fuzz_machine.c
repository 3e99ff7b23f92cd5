/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_machine.c - the whole x86-64 machine, built without KVM, under a guest that is made of bytes: each input is one
 * life of a machine. For libFuzzer (-Dfuzz=true with clang); without it, a program that runs the files that it is
 * given, or its standard input, for other fuzzers and to repeat what they found.
 *
 * The first byte chooses the machine. Then each step is a byte for what is done and bytes for its particulars; where the
 * input ends, zeros follow. All bytes mean something. The clock is stepped, so an input does the same each time.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/thread.h"
#include "machine/machine.h"

#define MAX_PLACES 64
#define MAX_COUNT  16
#define ROM_SIZE   (64 << 10)
/* Where the input may write guest memory for devices to read, and what of RAM is accessed. */
#define SCRATCH      0x1000
#define SCRATCH_SIZE 0x1000

struct place {
	enum space space;
	uint64_t base, size;
};

struct fuzz {
	struct machine machine;
	struct initiator from;
	const uint8_t *data;
	size_t size;
	struct place places[MAX_PLACES];
	unsigned nr_places;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

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
	case 1:
		some_access(f, what, byte & 1, 1);
		break;
	case 2:
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

static struct fuzz *machine_of(bool firmware)
{
	struct fuzz *f = calloc(1, sizeof(*f));
	struct machine_config config = {
		.guest = { .ram = 16ULL << 20, .cpus = 2, .pci_test = !firmware },
		.arch = &arch_x86_64,
		.dry_run = true,
		.device_test = true,
	};
	struct error err = { 0 };
	static char rom_path[32];

	assert(f);
	f->from.name = "fuzz";
	config.consoles[0] = (struct console_config){ .kind = CONSOLE_FD, .fd = file_of("console", 0) };
	if (firmware) {
		snprintf(rom_path, sizeof(rom_path), "/proc/self/fd/%d", file_of("rom", ROM_SIZE));
		config.guest.firmware = rom_path;
	}
	if (machine_up(&f->machine, &config, &err) != STATUS_OK) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	bus_attach(f->machine.vm.bus, &f->from);
	return f;
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
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz *machines[2];
	bool firmware = size && *data & 1;
	struct fuzz *f;

	if (!machines[firmware])
		machines[firmware] = machine_of(firmware);
	f = machines[firmware];
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
static void run_file(FILE *in)
{
	static uint8_t bytes[1 << 20];
	size_t n = fread(bytes, 1, sizeof(bytes), in);

	LLVMFuzzerTestOneInput(bytes, n);
}

int main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	if (argc == 1)
		run_file(stdin);
	for (int i = 1; i < argc; i++) {
		FILE *in = fopen(argv[i], "rb");

		if (!in) {
			perror(argv[i]);
			return 1;
		}
		run_file(in);
		fclose(in);
	}
	thread_release();
	return 0;
}
#endif
