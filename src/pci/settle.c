/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * settle.c - making what decodes agree with what BARs and command registers say.
 *
 * A guest moves BARs one register at a time, through addresses that make no sense: all ones while it sizes
 * them, half an address between two writes, the place of another BAR while it swaps them. Hardware decodes
 * whatever the registers say at each moment. So each write is followed by one settling that looks at all
 * BARs of the bus, not at what was written:
 *
 *  - A BAR should decode if its command bit is set and its address is one: not 0, which is how unplaced
 *    BARs read, not the all ones of sizing, and for I/O not beyond the 64 Ki ports.
 *  - Who should decode elsewhere than it does, or not at all, is pending. Its old place is given up in any
 *    case, so two BARs can swap places in one edit.
 *  - A pending BAR is refused where something that is no BAR lies (RAM, a chip), or a BAR that stays. Two
 *    pending BARs that want one place: the lower function number gets it. On hardware both would answer.
 *  - What is left is one edit of the map. It can fail only for want of memory, or because another thread took
 *    a place since we looked; who stood in the way is then refused too, and the rest tried again.
 *
 * A refused BAR is not live, is counted once for each place that the guest chooses, and stays pending: it is
 * looked at again at each settling, that is, whenever any BAR or command register of the bus is written.
 * Which of two overlapping BARs is live may thus depend on which came first; that one is live if it overlaps
 * nothing live does not. The map is walked once per settling that has something pending, and pending BARs
 * are compared with all BARs, so a guest can make its own config writes slow, in bounds, and nothing else: at most
 * a comparison for each pair of BARs, about a millisecond at 256 functions.
 */
#include <errno.h>
#include <stddef.h>

#include "core/vm.h"
#include "pci/pci.h"

#define PORTS 0x10000

static enum space bar_space(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_IO ? SPACE_PIO : SPACE_MMIO;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a <= b + (b_size - 1) && b <= a + (a_size - 1);
}

/* The next BAR after `bar` (NULL: the first) in order of function and index; NULL: no more. */
static struct pci_bar *next_bar(struct pci_bus *bus, struct pci_bar *bar)
{
	unsigned devfn = bar ? bar->fn->devfn : 0, index = bar ? bar->index + 1U : 0;

	for (; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++, index = 0)
		for (; bus->functions[devfn] && index < PCI_BARS; index++)
			if (bus->functions[devfn]->bars[index].kind != PCI_BAR_NONE)
				return &bus->functions[devfn]->bars[index];
	return NULL;
}

/* Whether the registers ask for decoding. */
static bool bar_enabled(const struct pci_bar *bar)
{
	uint32_t command = pci_get(bar->fn, PCI_COMMAND, 2);
	uint64_t last = bar->place + (bar->size - 1);

	if (bar->place == 0)
		return false;
	switch (bar->kind) {
	case PCI_BAR_IO:
		return (command & PCI_COMMAND_IO) && last < PORTS;
	case PCI_BAR_MEM32:
		return (command & PCI_COMMAND_MEMORY) && last != UINT32_MAX;
	case PCI_BAR_MEM64:
		return (command & PCI_COMMAND_MEMORY) && last != UINT64_MAX;
	default:
		return false;
	}
}

static bool bar_in_place(const struct pci_bar *bar)
{
	return bar->region->live && bar->region->base == bar->place;
}

/*
 * Fills bus->standing with the BARs that decode as they should, bus->pending with those that do not. Returns how many.
 */
static unsigned collect(struct pci_bus *bus)
{
	unsigned n = 0;

	bus->nr_standing = 0;
	for (struct pci_bar *bar = next_bar(bus, NULL); bar; bar = next_bar(bus, bar)) {
		bar->place = pci_bar_address(bar);
		bar->wanted = bar_enabled(bar);
		bar->refused = false;
		if (!bar->wanted)
			bar->blocked = false;
		if (bar->wanted ? !bar_in_place(bar) : bar->region->live)
			bus->pending[n++] = bar;
		else if (bar->wanted)
			bus->standing[bus->nr_standing++] = bar;
	}
	return n;
}

struct walk {
	struct pci_bus *bus;
	unsigned n;
};

static bool is_bar(const struct pci_bus *bus, const struct region *region)
{
	for (unsigned i = 0; i < bus->nr_placed; i++)
		if (bus->placed[i]->region == region)
			return true;
	return false;
}

static void refuse_taken(struct region *region, void *arg)
{
	struct walk *walk = arg;
	bool foreign = false;

	for (unsigned i = 0; i < walk->n; i++) {
		struct pci_bar *bar = walk->bus->pending[i];

		if (!bar->wanted || bar->refused || bar_space(bar) != region->space ||
			!overlap(bar->place, bar->region->size, region->base, region->size))
			continue;
		if (!foreign && is_bar(walk->bus, region))
			return;
		foreign = true;
		bar->refused = true;
	}
}

/* Whether one that stays, or one decided upon before, decodes where `bar` wants to. */
static bool held(const struct pci_bus *bus, const struct pci_bar *bar)
{
	for (unsigned i = 0; i < bus->nr_standing; i++) {
		const struct pci_bar *other = bus->standing[i];

		if (overlap(bar->place, bar->region->size, other->place, other->region->size) &&
			bar_space(other) == bar_space(bar))
			return true;
	}
	return false;
}

static void refuse_conflicts(struct pci_bus *bus, unsigned n)
{
	struct walk walk = { bus, n };
	bool spaces[NR_SPACES] = { false };

	for (unsigned i = 0; i < n; i++)
		if (bus->pending[i]->wanted)
			spaces[bar_space(bus->pending[i])] = true;
	for (unsigned s = 0; s < NR_SPACES; s++)
		if (spaces[s])
			bus_for_each(bus->vm->bus, (enum space)s, refuse_taken, &walk);
	for (unsigned i = 0; i < n; i++) {
		struct pci_bar *bar = bus->pending[i];

		if (!bar->wanted || bar->refused)
			continue;
		bar->refused = held(bus, bar);
		if (!bar->refused)
			bus->standing[bus->nr_standing++] = bar;
	}
}

/* One edit of the map for all that is pending and not refused. As bus_edit(). */
static int try_edit(struct pci_bus *bus, unsigned n, struct region **mine, struct region **other)
{
	unsigned edits = 0;

	for (unsigned i = 0; i < n; i++) {
		struct pci_bar *bar = bus->pending[i];
		struct region *region = bar->region;
		bool place = bar->wanted && !bar->refused;

		if (!place && !region->live)
			continue;
		if (!region->live) {
			region->space = bar_space(bar);
			region->base = bar->place;
		}
		bus->edits[edits++] = (struct edit){ .op = !place         ? EDIT_REMOVE
							   : region->live ? EDIT_MOVE
									  : EDIT_ADD,
			.region = region,
			.space = bar_space(bar),
			.base = bar->place };
	}
	return edits ? bus_edit(bus->vm->bus, bus->edits, edits, mine, other) : 0;
}

/* Whether one of the two sides of a conflict was a BAR's, not refused before; it is now. */
static bool refuse_either(struct pci_bus *bus, unsigned n, const struct region *mine, const struct region *other)
{
	const struct region *sides[] = { mine, other };

	for (unsigned s = 0; s < 2; s++) {
		for (unsigned i = 0; i < n; i++) {
			struct pci_bar *bar = bus->pending[i];

			if (bar->region == sides[s] && bar->wanted && !bar->refused) {
				bar->refused = true;
				return true;
			}
		}
	}
	return false;
}

/* For want of memory: nobody stays where the registers do not say. Removal cannot fail. */
static void give_up(struct pci_bus *bus, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		bus_remove(bus->vm->bus, bus->pending[i]->region);
		bus->pending[i]->refused = true;
	}
}

static void account(struct pci_bus *bus, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct pci_bar *bar = bus->pending[i];
		bool refused = bar->wanted && bar->refused;

		if (refused && (!bar->blocked || bar->blocked_place != bar->place)) {
			bar->conflicts++;
			bus->conflicts++;
		}
		bar->blocked = refused;
		bar->blocked_place = bar->place;
	}
}

void pci_bus_settle(struct pci_bus *bus)
{
	struct region *mine = NULL, *other = NULL;
	unsigned n = collect(bus);
	int r;

	if (n == 0)
		return;
	refuse_conflicts(bus, n);
	/* Each round refuses one more, so there are at most n + 1. */
	while ((r = try_edit(bus, n, &mine, &other)) != 0) {
		bus->failures++;
		if (r != -EEXIST || !refuse_either(bus, n, mine, other)) {
			give_up(bus, n);
			break;
		}
	}
	bus->settles++;
	account(bus, n);
}

static uint64_t reset_address(const struct pci_bar *bar)
{
	const uint8_t *reg = bar->fn->reset + PCI_BASE_ADDRESS_0 + 4 * bar->index;
	uint64_t addr = 0;

	for (unsigned i = 0; i < (bar->kind == PCI_BAR_MEM64 ? 8 : 4); i++)
		addr |= (uint64_t)reg[i] << 8 * i;
	return addr & ~(bar->size - 1);
}

static void set_reset_address(struct pci_bar *bar, uint64_t addr)
{
	uint8_t *reg = bar->fn->reset + PCI_BASE_ADDRESS_0 + 4 * bar->index;
	uint8_t flags = bar->kind == PCI_BAR_IO ? 0x3 : 0xf;

	reg[0] = (uint8_t)((reg[0] & flags) | (addr & ~flags));
	for (unsigned i = 1; i < (bar->kind == PCI_BAR_MEM64 ? 8 : 4); i++)
		reg[i] = (uint8_t)(addr >> 8 * i);
}

/* The order of bus->placed. */
static bool before(const struct pci_bar *a, const struct pci_bar *b)
{
	return bar_space(a) != bar_space(b) ? bar_space(a) < bar_space(b) : reset_address(a) < reset_address(b);
}

static void list_placed(struct pci_bus *bus, struct pci_bar *bar)
{
	unsigned i = bus->nr_placed++;

	for (; i > 0 && before(bar, bus->placed[i - 1]); i--)
		bus->placed[i] = bus->placed[i - 1];
	bus->placed[i] = bar;
}

void pci_forget_bars(struct pci_bus *bus, const struct pci_function *fn)
{
	unsigned n = 0;

	for (unsigned i = 0; i < bus->nr_placed; i++)
		if (bus->placed[i]->fn != fn)
			bus->placed[n++] = bus->placed[i];
	bus->nr_placed = n;
}

/* First fit, naturally aligned: one walk over what is placed, in its order. The address, or 0: no room. */
static uint64_t find_place(const struct pci_bus *bus, const struct pci_bar *bar, const struct pci_window *window)
{
	uint64_t mask = bar->size - 1, start = window->base ? window->base : 1,
		 last = window->base + (window->size - 1);
	uint64_t at = (start + mask) & ~mask;

	if (window->size < bar->size || at < start)
		return 0;
	for (unsigned i = 0; i < bus->nr_placed; i++) {
		const struct pci_bar *taken = bus->placed[i];
		uint64_t end = reset_address(taken) + (taken->size - 1);

		if (bar_space(taken) != bar_space(bar) || end < at)
			continue;
		if (reset_address(taken) > at + mask)
			break;
		at = (end + 1 + mask) & ~mask;
		if (at <= end) /* wrapped */
			return 0;
	}
	return at > last || last - at < mask ? 0 : at;
}

int pci_place_bars(struct pci_bus *bus, struct pci_function *fn, struct pci_bar **full)
{
	const struct pci_windows *w = &bus->windows;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &fn->bars[i];
		uint64_t addr = 0;

		if (bar->kind == PCI_BAR_NONE)
			continue;
		set_reset_address(bar, 0);
		if (bar->kind == PCI_BAR_IO)
			addr = find_place(bus, bar, &w->io);
		/* High memory is what 64-bit BARs are for; where there is no window or no room, low will do. */
		if (bar->kind == PCI_BAR_MEM64)
			addr = find_place(bus, bar, &w->mem64);
		if (bar->kind != PCI_BAR_IO && !addr)
			addr = find_place(bus, bar, &w->mem32);
		if (!addr) {
			*full = bar;
			pci_forget_bars(bus, fn);
			return -ENOSPC;
		}
		set_reset_address(bar, addr);
		list_placed(bus, bar);
	}
	return 0;
}
