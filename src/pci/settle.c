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
 * are compared with all BARs, so a guest can make its own config writes slow, in bounds, and nothing else.
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

/* Fills bus->pending with the BARs that do not decode as they should. Returns how many. */
static unsigned collect(struct pci_bus *bus)
{
	unsigned n = 0;

	for (struct pci_bar *bar = next_bar(bus, NULL); bar; bar = next_bar(bus, bar)) {
		bar->place = pci_bar_address(bar);
		bar->wanted = bar_enabled(bar);
		bar->refused = false;
		if (!bar->wanted)
			bar->blocked = false;
		if (bar->wanted ? !bar_in_place(bar) : bar->region->live)
			bus->pending[n++] = bar;
	}
	return n;
}

struct walk {
	struct pci_bus *bus;
	unsigned n;
};

static bool is_bar(struct pci_bus *bus, const struct region *region)
{
	for (struct pci_bar *bar = next_bar(bus, NULL); bar; bar = next_bar(bus, bar))
		if (bar->region == region)
			return true;
	return false;
}

static void refuse_taken(struct region *region, void *arg)
{
	struct walk *walk = arg;

	for (unsigned i = 0; i < walk->n; i++) {
		struct pci_bar *bar = walk->bus->pending[i];

		if (bar->wanted && !bar->refused && bar_space(bar) == region->space &&
			overlap(bar->place, bar->region->size, region->base, region->size) &&
			!is_bar(walk->bus, region))
			bar->refused = true;
	}
}

/* Whether `other` will decode where `bar` wants to, as far as has been decided before `bar`. */
static bool holds(
	struct pci_bar *const *pending, unsigned decided, const struct pci_bar *other, const struct pci_bar *bar)
{
	if (other == bar || bar_space(other) != bar_space(bar) || !other->wanted ||
		!overlap(bar->place, bar->region->size, other->place, other->region->size))
		return false;
	if (bar_in_place(other))
		return true;
	for (unsigned i = 0; i < decided; i++)
		if (pending[i] == other)
			return !other->refused;
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
		for (struct pci_bar *other = next_bar(bus, NULL); other && !bar->refused; other = next_bar(bus, other))
			bar->refused = holds(bus->pending, i, other, bar);
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

/* A placed BAR of the bus, or of fn, that overlaps [addr, addr + bar->size) at power-on. NULL: free. */
static struct pci_bar *placed_at(struct pci_bus *bus, struct pci_bar *bar, uint64_t addr)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *own = &bar->fn->bars[i];

		if (own != bar && own->kind != PCI_BAR_NONE && reset_address(own) && bar_space(own) == bar_space(bar) &&
			overlap(addr, bar->size, reset_address(own), own->size))
			return own;
	}
	for (struct pci_bar *other = next_bar(bus, NULL); other; other = next_bar(bus, other))
		if (reset_address(other) && bar_space(other) == bar_space(bar) &&
			overlap(addr, bar->size, reset_address(other), other->size))
			return other;
	return NULL;
}

/* First fit, naturally aligned. The address, or 0: no room. */
static uint64_t find_place(struct pci_bus *bus, struct pci_bar *bar, const struct pci_window *window)
{
	uint64_t addr = window->base ? window->base : 1, last = window->base + (window->size - 1);

	if (window->size < bar->size)
		return 0;
	for (;;) {
		struct pci_bar *taken;
		uint64_t up = (addr + (bar->size - 1)) & ~(bar->size - 1);

		if (up < addr || up > last || last - up < bar->size - 1)
			return 0;
		taken = placed_at(bus, bar, up);
		if (!taken)
			return up;
		addr = reset_address(taken) + taken->size;
		if (addr == 0) /* wrapped */
			return 0;
	}
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
			return -ENOSPC;
		}
		set_reset_address(bar, addr);
	}
	return 0;
}
