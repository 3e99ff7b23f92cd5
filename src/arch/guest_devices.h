/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest_devices.h - where the devices go that the user asked for: virtio on MMIO or in a PCI slot, and test functions.
 * The same for every machine, which says how much room it has.
 */
#ifndef TRAPLINE_ARCH_GUEST_DEVICES_H
#define TRAPLINE_ARCH_GUEST_DEVICES_H

#include "arch/arch.h"
#include "arch/place.h"
#include "pci/pci.h"

/* For virtio devices on MMIO, one after the other; they share interrupts where there are more of them than lines. */
struct virtio_room {
	uint64_t base, step;   /* guest-physical */
	unsigned devices;      /* at most */
	const uint32_t *lines; /* in this order */
	unsigned nr_lines;
};

/* A PCI function has a slot instead of addresses: its BARs are placed from the bridge's windows. */
struct pci_placement {
	const char *name;
	const struct device_type *type;
	unsigned slot, function;
	const void *config;
};

/*
 * The machine's own `table`, and virtio devices on MMIO, which can be moved like them: place_moved() of both. 0 or
 * -errno; -ENOSPC with status USAGE: there are too many.
 */
int guest_place(struct vm *vm, const struct guest_config *config, const struct virtio_room *room,
	const struct placement *table, unsigned n, const struct place_moves *moves, struct error *err)
	__attribute__((warn_unused_result));
/* Makes one function and plugs it in. 0 or -errno. */
int guest_place_function(struct vm *vm, struct pci_bus *pci, const struct pci_placement *line, struct error *err)
	__attribute__((warn_unused_result));
/*
 * From `slot` on: the test functions, in one slot, then virtio devices on PCI, each in its own. 0 or -errno, likewise.
 */
int guest_place_functions(struct vm *vm, struct pci_bus *pci, const struct guest_config *config, unsigned slot,
	struct error *err) __attribute__((warn_unused_result));

#endif
