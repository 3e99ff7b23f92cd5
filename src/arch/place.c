/* SPDX-License-Identifier: BSD-2-Clause */
/* place.c - from a machine's table to devices on the bus. */
#include "arch/place.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "core/word.h"

#define ISA_LINES 16

static const char *const space_names[] = { [SPACE_PIO] = "pio", [SPACE_MMIO] = "mmio", NULL };
_Static_assert(sizeof(space_names) / sizeof(space_names[0]) == NR_SPACES + 1, "a name for each space");
static const char *const range_names[] = { [SPACE_PIO] = "ports", [SPACE_MMIO] = "memory" };
_Static_assert(sizeof(range_names) / sizeof(range_names[0]) == NR_SPACES, "a name for each space");

/* The table's lines while the machine is made: moves change the copies. */
struct set {
	const struct place_moves *moves; /* NULL: none */
	struct placement *lines;
	struct device **devices;
	unsigned n, made;
};

/* One move, taken apart. */
struct move {
	char device[32], region[64]; /* region "": all */
	enum space space;
	uint64_t base;
	uint32_t irqs[DEVICE_IRQS];
	unsigned nr_irqs;
};

static int parse_number(const char **at, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(*at, &end, 0);
	if (!isdigit((unsigned char)**at) || errno)
		return -EINVAL;
	*at = end;
	return 0;
}

static int parse_irqs(const char *text, struct move *move, struct error *err)
{
	if (strncmp(text, ",irq=", 5) != 0)
		return error_set(err, -EINVAL, "'%s' after the address is not ',irq=N'", text);
	text += 4;
	do {
		const char *start = ++text;
		uint64_t line;

		if (parse_number(&text, &line) || line >= IRQ_NONE || (*text && *text != ','))
			return error_set(err, -EINVAL, "'%s' is not an interrupt number", start);
		if (move->nr_irqs == DEVICE_IRQS)
			return error_set(err, -EINVAL, "no device has more than %d interrupts", DEVICE_IRQS);
		move->irqs[move->nr_irqs++] = (uint32_t)line;
	} while (*text);
	return 0;
}

static int parse_space(const char *text, size_t len, enum space *space, struct error *err)
{
	for (unsigned i = 0; i < NR_SPACES; i++) {
		if (strlen(space_names[i]) == len && memcmp(text, space_names[i], len) == 0) {
			*space = (enum space)i;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "'%.*s' is no space: 'pio' (I/O ports) or 'mmio' (memory)",
		(int)(len < 40 ? len : 40), text);
}

static int parse(const char *text, struct move *move, struct error *err)
{
	const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL, *at, *dot;
	size_t len;
	int r;

	*move = (struct move){ .nr_irqs = 0 };
	if (!colon || equals == text)
		return error_set(err, -EINVAL, "not of the form DEV=SPACE:ADDR[,irq=N]");
	len = (size_t)(equals - text);
	dot = memchr(text, '.', len);
	if (dot) {
		snprintf(move->region, sizeof(move->region), "%.*s", (int)(equals - dot - 1), dot + 1);
		len = (size_t)(dot - text);
	}
	snprintf(move->device, sizeof(move->device), "%.*s", (int)(len < 32 ? len : 32), text);
	r = parse_space(equals + 1, (size_t)(colon - equals - 1), &move->space, err);
	if (r)
		return r;
	at = colon + 1;
	if (parse_number(&at, &move->base))
		return error_set(err, -EINVAL, "'%s' does not begin with an address", at);
	return *at ? parse_irqs(at, move, err) : 0;
}

static int find_device(const struct set *set, const char *name, unsigned *index, struct error *err)
{
	const char **names, *nearest;

	for (*index = 0; *index < set->n; (*index)++)
		if (strcmp(set->devices[*index]->name, name) == 0)
			return 0;
	error_set(err, -ENODEV, "this machine's table has no device '%s'", name);
	error_hint(err, "--dry-run lists the devices");
	names = calloc(set->n + 1, sizeof(*names));
	if (!names)
		return -ENODEV;
	for (unsigned i = 0; i < set->n; i++)
		names[i] = set->devices[i]->name;
	nearest = word_nearest(name, names);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	free(names);
	return -ENODEV;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a <= b + (b_size - 1) && b <= a + (a_size - 1);
}

/* What the bus does not know: where a space ends, and who hands out its ranges. */
static int check_region(const struct place_moves *m, const struct region *region, struct error *err)
{
	const struct device *dev = region->owner;
	uint64_t last = region->base + (region->size - 1), limit = m->limits[region->space];
	const char *range = range_names[region->space];

	if (last < region->base || last >= limit)
		return error_set(err, -ERANGE,
			"'%s' (%" PRIu64 " bytes) at %#" PRIx64
			" is outside of its space: %s for devices end at %#" PRIx64,
			region->name, region->size, region->base, region->space == SPACE_PIO ? "ports" : "addresses",
			limit - 1);
	for (unsigned width = 8; width > 1; width /= 2) {
		if (region->widths & width && region->base % width)
			return error_set(err, -EINVAL, "'%s' at %#" PRIx64 " is not aligned to its %u bytes",
				region->name, region->base, width);
	}
	for (unsigned i = 0; i < m->nr_windows; i++) {
		const struct place_window *w = &m->windows[i];

		if (w->size && w->space == region->space && overlap(region->base, region->size, w->base, w->size))
			return error_set(err, -EEXIST,
				"%s (%s %#" PRIx64 "-%#" PRIx64 ") is in the way of %s (%#" PRIx64 "-%#" PRIx64 ")",
				w->name, range, w->base, w->base + (w->size - 1), dev->name, region->base, last);
	}
	return 0;
}

/* The region that a move names, or the first; NULL: there is none. */
static struct region *find_region(const struct device *dev, const char *name)
{
	for (unsigned i = 0; i < dev->nr_regions; i++)
		if (!name[0] || strcmp(dev->regions[i]->name, name) == 0)
			return dev->regions[i];
	return NULL;
}

static int move_regions(const struct place_moves *m, struct device *dev, const struct move *move, struct error *err)
{
	const struct region *first = find_region(dev, move->region);
	enum space from;
	uint64_t base;
	int r = 0;

	if (!first) {
		error_set(err, -ENODEV, "%s has no region '%s'", dev->name, move->region);
		error_hint(err, "--dry-run lists the regions of each device");
		return -ENODEV;
	}
	if (first->kind == REGION_HELD)
		return error_set(err, -EPERM, "KVM itself answers for '%s', which stays where it is", dev->name);
	from = first->space;
	base = first->base;
	for (unsigned i = 0; r == 0 && i < dev->nr_regions; i++) {
		struct region *region = dev->regions[i];

		if (move->region[0] ? region != first : region->space != from)
			continue;
		region->space = move->space;
		region->base = move->base + (region->base - base);
		r = check_region(m, region, err);
	}
	return r;
}

/* Who has the line already, as others than `self` stand; NULL: nobody, or somebody who shares it with `self`. */
static const char *line_holder(const struct set *set, unsigned self, enum irq_trigger trigger, uint32_t line)
{
	for (unsigned i = 0; i < set->moves->nr_taken; i++) {
		const struct place_line *taken = &set->moves->taken[i];

		if (taken->line == line && !(taken->shared && trigger == IRQ_LEVEL))
			return taken->holder;
	}
	for (unsigned i = 0; i < set->n; i++) {
		const struct device *dev = set->devices[i];

		for (unsigned j = 0; i != self && j < dev->nr_irqs; j++) {
			bool shares = dev->irqs[j]->trigger == trigger &&
				      (trigger == IRQ_LEVEL || dev->type == set->devices[self]->type);

			if (set->lines[i].irqs[j] == line && !shares)
				return dev->name;
		}
	}
	return NULL;
}

static void hint_lines(const struct set *set, unsigned self, enum irq_trigger trigger, struct error *err)
{
	char text[128];
	size_t n = 0;

	for (uint32_t line = 0; line < ISA_LINES && line < set->moves->lines && n < sizeof(text); line++)
		if (!line_holder(set, self, trigger, line))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u", n ? ", " : "", line);
	if (n)
		error_hint(err, "it could have %s", text);
}

static int move_irqs(struct set *set, unsigned index, const struct move *move, struct error *err)
{
	const struct device *dev = set->devices[index];

	if (move->nr_irqs > dev->nr_irqs)
		return error_set(err, -EINVAL, "%s has %u interrupt%s, not %u", dev->name, dev->nr_irqs,
			dev->nr_irqs == 1 ? "" : "s", move->nr_irqs);
	for (unsigned i = 0; i < move->nr_irqs; i++) {
		if (move->irqs[i] >= set->moves->lines)
			return error_set(err, -ERANGE, "interrupt %u does not exist: this machine has 0 to %u",
				move->irqs[i], set->moves->lines - 1);
		set->lines[index].irqs[i] = move->irqs[i];
	}
	return 0;
}

static int check_irqs(const struct set *set, unsigned index, const struct move *move, struct error *err)
{
	const struct device *dev = set->devices[index];

	for (unsigned i = 0; i < move->nr_irqs; i++) {
		enum irq_trigger trigger = dev->irqs[i]->trigger;
		uint32_t line = set->lines[index].irqs[i];
		const char *holder = line_holder(set, index, trigger, line);

		if (!holder)
			continue;
		error_set(err, -EBUSY, "interrupt %u is taken by %s, and %s-triggered %s cannot share it", line, holder,
			trigger == IRQ_LEVEL ? "level" : "edge", dev->name);
		hint_lines(set, index, trigger, err);
		return -EBUSY;
	}
	return 0;
}

/* Interrupts are judged on what all moves together make, as the bus judges regions. */
static int apply_move(struct set *set, const char *text, bool judge, struct error *err)
{
	unsigned index = 0;
	struct move move;
	int r = parse(text, &move, err);

	if (r == 0)
		r = find_device(set, move.device, &index, err);
	if (r == 0 && judge)
		return check_irqs(set, index, &move, err);
	if (r == 0)
		r = move_regions(set->moves, set->devices[index], &move, err);
	return r ? r : move_irqs(set, index, &move, err);
}

static int apply_moves(struct set *set, struct error *err)
{
	unsigned n = set->moves ? set->moves->n : 0;

	for (unsigned i = 0; i < 2 * n; i++) {
		const char *text = set->moves->text[i % n];
		int r = apply_move(set, text, i >= n, err);

		if (r) {
			err->status = STATUS_USAGE;
			return error_prefix(err, r, *text ? "--place %s" : "--place", text);
		}
	}
	return 0;
}

static void place_regions(const struct placement *line, struct device *dev)
{
	for (unsigned i = 0; i < dev->nr_regions; i++) {
		if (!line->at[i].given)
			continue;
		dev->regions[i]->space = line->at[i].space;
		dev->regions[i]->base = line->at[i].base;
	}
}

static int connect_irqs(struct vm *vm, const struct placement *line, struct device *dev, struct error *err)
{
	for (unsigned i = 0; i < dev->nr_irqs; i++) {
		int r = line->irqs[i] == IRQ_NONE ? 0 : irq_connect(&vm->irqs, dev->irqs[i], line->irqs[i]);

		if (r)
			return error_set(err, r, "%s: cannot connect '%s' to interrupt %u: %s", line->name,
				dev->irqs[i]->name, line->irqs[i], strerror(-r));
	}
	return 0;
}

/* _UID tells devices of one kind apart, in the order of the table. */
static unsigned count_of_kind(struct device **devices, unsigned n, const struct device_type *type)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++)
		count += devices[i]->type == type;
	return count;
}

static int make_all(struct vm *vm, struct set *set, struct error *err)
{
	while (set->made < set->n) {
		const struct placement *line = &set->lines[set->made];
		struct device **dev = &set->devices[set->made];
		int r = line->type->create(vm, line->name, line->config, dev, err);

		if (r)
			return r;
		(*dev)->uid = count_of_kind(set->devices, set->made, line->type);
		place_regions(line, *dev);
		set->made++;
	}
	return 0;
}

int place_moved(
	struct vm *vm, const struct placement *table, unsigned n, const struct place_moves *moves, struct error *err)
{
	struct set set = { .moves = moves, .n = n };
	int r;

	set.lines = calloc(n, sizeof(*set.lines));
	set.devices = calloc(n, sizeof(struct device *));
	if (set.lines && set.devices) {
		memcpy(set.lines, table, n * sizeof(*table));
		r = make_all(vm, &set, err);
	} else {
		r = error_set(err, -ENOMEM, "no memory for %u devices", n);
	}
	if (r == 0)
		r = apply_moves(&set, err);
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = connect_irqs(vm, &set.lines[i], set.devices[i], err);
	if (r == 0) {
		r = vm_add_devices(vm, set.devices, n, err);
		/* The table by itself has no conflict. */
		if (r == -EEXIST && moves && moves->n) {
			err->status = STATUS_USAGE;
			error_prefix(err, r, "--place");
		}
	}
	while (r && set.made > 0) {
		set.made--;
		set.devices[set.made]->type->destroy(set.devices[set.made]);
	}
	free(set.devices);
	free(set.lines);
	return r;
}

int place_devices(struct vm *vm, const struct placement *table, unsigned n, struct error *err)
{
	return place_moved(vm, table, n, NULL, err);
}
