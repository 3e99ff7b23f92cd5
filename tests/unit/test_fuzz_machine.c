/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_fuzz_machine.c - the whole x86-64 machine, built without KVM, under a guest that does anything: random
 * accesses of all widths in both spaces, biased to where regions and config space are, input from the host,
 * time that is stepped, resets in the midst, states saved, spoiled and loaded.
 *
 * TRAPLINE_FUZZ_SECONDS (5) and TRAPLINE_FUZZ_SEED (printed) repeat or lengthen a run: the same seed makes the same
 * steps, in whatever time. Meant for ASan and UBSan; what it asserts itself is in check_*().
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86/board.h"
#include "dev/acpi_pm.h"
#include "dev/cmos.h"
#include "dev/i8042.h"
#include "pci/host.h"
#include "pci/testdev.h"

#define MAX_REGIONS 64
#define MAX_DEVICES 32
#define MAX_COUNT   16
#define CANARY      0xa7
/* One edit an access and then bus_throttle(): what the bus lets wait, and that one. */
#define MAX_RETIRED 257

struct place {
	enum space space;
	uint64_t base, size;
	enum region_kind kind;
};

struct fuzz {
	struct vm vm;
	struct board *board;
	struct chardev console;
	struct initiator from;
	struct pci_function *test;
	uint64_t random;
	uint64_t steps, accesses, claimed, resets, ends, loads;
	bool level[IRQ_LINES];
	struct place places[MAX_REGIONS];
	unsigned nr_places;
	uint8_t *power_on[MAX_DEVICES]; /* each device's state after a reset, as saved */
	long state_size[MAX_DEVICES];
	uint8_t data[8 * MAX_COUNT + 16];
};

static uint64_t next(struct fuzz *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random * 0x2545f4914f6cdd1d;
}

static uint64_t below(struct fuzz *f, uint64_t n)
{
	return (next(f) >> 11) % n;
}

static bool one_in(struct fuzz *f, unsigned n)
{
	return below(f, n) == 0;
}

/* The chip behind the router is told of changes only. */
static void set_line(void *chip, unsigned line, bool level)
{
	struct fuzz *f = chip;

	assert_true(line < IRQ_LINES);
	assert_true(f->level[line] != level);
	f->level[line] = level;
}

static const struct irqchip_ops chip_ops = { .set_line = set_line };

/* ---- what is checked ---- */

static void take_place(struct region *region, void *arg)
{
	struct fuzz *f = arg;
	struct place *place = &f->places[f->nr_places], *before = place - 1;

	assert_true(f->nr_places < MAX_REGIONS);
	*place = (struct place){ region->space, region->base, region->size, region->kind };
	assert_true(region->live);
	assert_true(region->size && region->base + (region->size - 1) >= region->base);
	assert_true(region->space == SPACE_MMIO || region->base + region->size <= 0x10000);
	if (f->nr_places && before->space == place->space)
		assert_true(before->base + (before->size - 1) < place->base);
	f->nr_places++;
}

/* The map is sorted and nothing overlaps. Leaves it in f->places. */
static void check_map(struct fuzz *f)
{
	f->nr_places = 0;
	for (unsigned space = 0; space < NR_SPACES; space++)
		bus_for_each(f->vm.bus, (enum space)space, take_place, f);
	assert_true(bus_retired(f->vm.bus) <= MAX_RETIRED);
}

/* What decodes agrees with what config space says. */
static void check_bars(struct fuzz *f)
{
	uint32_t command = pci_get(f->test, PCI_COMMAND, 2);

	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &f->test->bars[i];
		bool io = bar->kind == PCI_BAR_IO, on = command & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
		uint64_t at, last;

		if (bar->kind == PCI_BAR_NONE)
			continue;
		at = pci_bar_address(bar);
		last = at + (bar->size - 1);
		assert_int_equal(at & (bar->size - 1), 0);
		on = on && at && last != (bar->kind == PCI_BAR_MEM64 ? UINT64_MAX : UINT32_MAX) &&
		     (!io || last < 0x10000);
		if (bar->region->live)
			assert_true(
				on && bar->region->base == at && bar->region->space == (io ? SPACE_PIO : SPACE_MMIO));
		else
			assert_true(!on || bar->blocked);
		/* Nobody is refused what is free. */
		for (unsigned p = 0; !bar->region->live && on; p++) {
			const struct place *place = &f->places[p];

			assert_true(p < f->nr_places);
			if (place->space == (io ? SPACE_PIO : SPACE_MMIO) &&
				place->base <= at + (bar->region->size - 1) && at <= place->base + (place->size - 1))
				break;
		}
	}
}

static uint32_t config_by_ports(struct fuzz *f, uint8_t devfn, unsigned reg)
{
	uint32_t address = 1U << 31 | (uint32_t)devfn << 8 | reg, value;

	bus_access(f->vm.bus, &f->from, SPACE_PIO, 0xcf8, &address, 4, 1, true);
	bus_access(f->vm.bus, &f->from, SPACE_PIO, 0xcfc, &value, 4, 1, false);
	return value;
}

/* Both ways to config space show the same. */
static void check_config(struct fuzz *f)
{
	uint8_t devfn = (uint8_t)(8 * below(f, 3));
	unsigned reg = (unsigned)(4 * below(f, 64));
	uint32_t value, ports = config_by_ports(f, devfn, reg);

	bus_access(f->vm.bus, &f->from, SPACE_MMIO, LAYOUT_ECAM + devfn * 0x1000U + reg, &value, 4, 1, false);
	assert_int_equal(value, ports);
	if (devfn == 16)
		assert_int_equal(value, UINT32_MAX);
}

/* ---- the machine's life ---- */

static void start(struct device *dev)
{
	if (dev->type->start)
		dev->type->start(dev);
}

/* Time and what hangs on it goes on over a reset. */
static bool resets_wholly(const struct device *dev)
{
	return dev->type->state && dev->type != &cmos_type && dev->type != &acpi_pm_type;
}

static void *state_of(struct device *dev)
{
	return (char *)dev + dev->type->state_offset;
}

/* As machine.c does it. A device is then as it was at power-on. */
static void reset(struct fuzz *f)
{
	unsigned i = 0;

	list_for_each (pos, &f->vm.devices) {
		struct device *dev = container_of(pos, struct device, node);

		if (dev->type->stop)
			dev->type->stop(dev);
	}
	list_for_each (pos, &f->vm.devices)
		device_reset(container_of(pos, struct device, node));
	list_for_each (pos, &f->vm.devices) {
		struct device *dev = container_of(pos, struct device, node);
		uint8_t *saved;
		long size;

		if (!resets_wholly(dev))
			continue;
		assert_true(i < MAX_DEVICES);
		size = field_save(dev->type->state, state_of(dev), NULL, 0);
		saved = malloc((size_t)size);
		assert_non_null(saved);
		assert_int_equal(field_save(dev->type->state, state_of(dev), saved, (size_t)size), size);
		if (!f->power_on[i]) {
			f->power_on[i] = saved;
			f->state_size[i] = size;
		} else {
			if (memcmp(saved, f->power_on[i], (size_t)size)) {
				field_dump(dev->type->state, state_of(dev), stdout);
				fail_msg("%s is not reset", dev->name);
			}
			free(saved);
		}
		i++;
	}
	for (unsigned line = 0; line < IRQ_LINES; line++)
		assert_false(f->level[line]);
	assert_int_equal(pci_bars_live(f->test), 0);
	list_for_each (pos, &f->vm.devices)
		start(container_of(pos, struct device, node));
	f->resets++;
}

/* What a handler asked for. Most resets are not made, so that there are long lives too. */
static void serve_request(struct fuzz *f)
{
	enum run_reason reason = f->vm.run.reason;

	if (reason == REASON_NONE)
		return;
	assert_true(reason == REASON_RESET || reason == REASON_POWER_OFF || reason == REASON_PANIC ||
		    reason == REASON_GUEST_STATUS);
	f->ends += reason == REASON_POWER_OFF;
	f->vm.guest_status = 0;
	run_fini(&f->vm.run);
	run_init(&f->vm.run);
	if (one_in(f, 64))
		reset(f);
}

/* A saved state, with a few bytes changed or not, is loaded; the device copes. */
static void restore(struct fuzz *f)
{
	struct device *dev = NULL;
	unsigned n = (unsigned)below(f, 14);
	uint8_t *saved;
	long size;

	list_for_each (pos, &f->vm.devices) {
		if (n-- == 0)
			dev = container_of(pos, struct device, node);
	}
	if (!dev || !dev->type->state)
		return;
	size = field_save(dev->type->state, state_of(dev), NULL, 0);
	saved = malloc((size_t)size);
	assert_non_null(saved);
	assert_int_equal(field_save(dev->type->state, state_of(dev), saved, (size_t)size), size);
	for (uint64_t spoil = below(f, 4); spoil; spoil--)
		saved[8 + below(f, (uint64_t)size - 8)] = (uint8_t)next(f);
	pthread_mutex_lock(&dev->lock);
	f->loads += field_load(dev->type->state, state_of(dev), saved, (size_t)size) == 0;
	pthread_mutex_unlock(&dev->lock);
	start(dev);
	free(saved);
}

static void host_input(struct fuzz *f)
{
	uint8_t bytes[8];
	uint64_t r = next(f);

	memcpy(bytes, &r, sizeof(bytes));
	switch (below(f, 6)) {
	case 0:
		i8042_key(vm_device(&f->vm, "i8042"), bytes, below(f, 9));
		break;
	case 1:
		i8042_mouse(vm_device(&f->vm, "i8042"), (int)(int16_t)r, (int)(int16_t)(r >> 16), bytes[4]);
		break;
	case 2:
		vm_press(&f->vm, BUTTON_POWER);
		break;
	case 3:
		chardev_flush(&f->console, 0);
		break;
	default:
		chardev_feed(&f->console, bytes, below(f, 9));
	}
}

/* Up to about an hour, and mostly much less. */
static void pass_time(struct fuzz *f)
{
	clock_step(&f->vm.clock, next(f) >> (22 + below(f, 42)));
}

/* ---- accesses ---- */

static uint64_t some_value(struct fuzz *f)
{
	const struct place *place = &f->places[below(f, f->nr_places)];

	switch (below(f, 8)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return below(f, 256);
	case 3: /* a place that is taken, or near one that is */
		return place->base + below(f, 3) * 0x1000;
	case 4: /* a place in a window */
		return 0xd2000000 + below(f, 16) * 0x1000;
	case 5:
		return 0x6200 + below(f, 16) * 0x20;
	case 6:
		return 1ULL << below(f, 64);
	default:
		return next(f);
	}
}

/* One access, and what it may not do: write beyond its buffer, answer for nobody. */
static void run_access(
	struct fuzz *f, enum space space, uint64_t addr, unsigned len, unsigned count, bool write, uint64_t value)
{
	size_t bytes = (size_t)len * count;
	unsigned claimed;

	memset(f->data, CANARY, sizeof(f->data));
	for (size_t i = 0; write && i < bytes; i++)
		f->data[i] = (uint8_t)(value >> 8 * (i % 8));
	claimed = bus_access(f->vm.bus, &f->from, space, addr, f->data, len, count, write);
	bus_throttle(f->vm.bus);
	f->accesses++;
	f->claimed += claimed != 0;
	assert_true(claimed <= bytes);
	for (size_t i = 0; !claimed && !write && i < bytes; i++)
		assert_int_equal(f->data[i], 0xff);
	for (size_t i = 0; write && i < bytes; i++)
		assert_int_equal(f->data[i], (uint8_t)(value >> 8 * (i % 8)));
	for (size_t i = bytes; i < sizeof(f->data); i++)
		assert_int_equal(f->data[i], CANARY);
	serve_request(f);
}

static void some_config(struct fuzz *f)
{
	/* The command register, a BAR, or anything. */
	unsigned reg = one_in(f, 3)   ? PCI_COMMAND
		       : one_in(f, 8) ? (unsigned)below(f, 256)
				      : PCI_BASE_ADDRESS_0 + (unsigned)below(f, 24);
	uint8_t devfn = (uint8_t)(one_in(f, 8) ? next(f) : f->test->devfn);
	unsigned len = 1U << below(f, 3);
	bool write = !one_in(f, 4);

	/* Decoding is mostly on. */
	uint64_t value = reg == PCI_COMMAND && !one_in(f, 4) ? 7 : some_value(f);

	if (!one_in(f, 4))
		reg &= ~3U, len = 4;
	if (one_in(f, 2)) {
		run_access(f, SPACE_MMIO, LAYOUT_ECAM + devfn * 0x1000U + reg, len, 1, write, value);
		return;
	}
	run_access(f, SPACE_PIO, 0xcf8, 4, 1, true, 1U << 31 | (uint32_t)devfn << 8 | reg);
	run_access(f, SPACE_PIO, 0xcfc + (reg & 3), len, 1, write, value);
}

static void some_access(struct fuzz *f)
{
	const struct place *place = &f->places[below(f, f->nr_places)];
	enum space space = place->space;
	uint64_t addr = place->base, room = place->size < 0x40 || one_in(f, 2) ? place->size : 0x40;
	unsigned len = one_in(f, 4) ? 1 + (unsigned)below(f, 8) : 1U << below(f, 4);
	unsigned count = one_in(f, 16) ? 1 + (unsigned)below(f, MAX_COUNT) : 1;

	/* Few pages of RAM are touched. */
	if (place->kind == REGION_RAM && room > 0x2000)
		room = 0x2000;
	switch (below(f, 8)) {
	case 0: /* anywhere that has no RAM */
		space = one_in(f, 2) ? SPACE_PIO : SPACE_MMIO;
		addr = space == SPACE_PIO ? below(f, 0x10008) : next(f) | 1ULL << 52;
		break;
	case 1: /* across an end */
		addr += (one_in(f, 2) ? place->size : 0) - below(f, 9);
		break;
	case 2:
		addr += below(f, room);
		break;
	default:
		addr += below(f, room);
		if (!one_in(f, 8))
			len = 1U << below(f, space == SPACE_PIO ? 3 : 4);
		if (!one_in(f, 4))
			addr &= ~(uint64_t)(len - 1);
	}
	run_access(f, space, addr, len, count, one_in(f, 2), some_value(f));
}

static void step(struct fuzz *f)
{
	uint64_t what = below(f, 64);

	if (what < 44)
		some_access(f);
	else if (what < 56)
		some_config(f);
	else if (what < 60)
		pass_time(f);
	else if (what < 63)
		host_input(f);
	else if (one_in(f, 8))
		restore(f);
	if (f->steps++ % 64 == 0) {
		check_map(f);
		check_bars(f);
		check_config(f);
	}
}

/* ---- up and down ---- */

static struct fuzz *fuzz_new(uint64_t seed)
{
	const struct guest_config config = {
		.kernel = "none", .ram = 64ULL << 20, .cpus = 2, .pci_test = true, .exit_port = true
	};
	struct fuzz *f = calloc(1, sizeof(*f));
	struct error err = { 0 };

	assert_non_null(f);
	f->random = seed * 2 + 1;
	assert_int_equal(vm_init(&f->vm, true, &err), 0);
	f->vm.clock.epoch = 1700000000 * (int64_t)NSEC_PER_SEC;
	irq_router_chip(&f->vm.irqs, &chip_ops, f);
	f->from.name = "fuzz";
	bus_attach(f->vm.bus, &f->from);
	assert_int_equal(chardev_init(&f->console, &f->vm.loop, -1, open("/dev/null", O_WRONLY)), 0);
	f->vm.ports[0] = f->vm.console = &f->console;
	assert_int_equal(arch_x86_64.create(&f->vm, &config, &f->board, &err), 0);
	if (arch_x86_64.build(f->board, &err))
		fail_msg("%s", err.text);
	f->test = container_of(vm_device(&f->vm, "pci-test"), struct pci_function, dev);
	list_for_each (pos, &f->vm.devices)
		device_power_on(container_of(pos, struct device, node));
	reset(f);
	check_map(f);
	return f;
}

static void fuzz_free(struct fuzz *f)
{
	int out = f->console.out_fd;

	vm_remove_devices(&f->vm);
	chardev_fini(&f->console);
	close(out);
	arch_x86_64.destroy(f->board);
	bus_detach(&f->from);
	vm_fini(&f->vm);
	for (unsigned i = 0; i < MAX_DEVICES; i++)
		free(f->power_on[i]);
	free(f);
}

/* However slow the host: in so many, all that is counted below has happened. */
#define ENOUGH 100000

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void test_fuzz(void **state)
{
	uint64_t seed = from_environment("TRAPLINE_FUZZ_SEED", now_ms() << 16 ^ (uint64_t)getpid());
	uint64_t end = now_ms() + 1000 * from_environment("TRAPLINE_FUZZ_SECONDS", 5);
	struct fuzz *f = fuzz_new(seed);

	print_message("seed %llu\n", (unsigned long long)seed);
	while (now_ms() < end || f->accesses < ENOUGH)
		for (unsigned i = 0; i < 1024; i++)
			step(f);
	print_message("%llu accesses, %llu claimed; %llu resets, %llu power-offs, %llu states loaded, "
		      "%llu settlings, %llu BARs refused\n",
		(unsigned long long)f->accesses, (unsigned long long)f->claimed, (unsigned long long)f->resets,
		(unsigned long long)f->ends, (unsigned long long)f->loads, (unsigned long long)f->board->pci->settles,
		(unsigned long long)f->board->pci->conflicts);
	/* That it was worth the time. */
	assert_true(f->claimed && f->resets > 1 && f->board->pci->settles && f->board->pci->conflicts);
	assert_int_equal(f->board->pci->failures, 0);
	fuzz_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_fuzz) };

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
