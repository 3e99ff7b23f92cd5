/* SPDX-License-Identifier: BSD-2-Clause */
/* guest_devices.c - virtio devices and test functions get their places; see guest_devices.h. */
#include "arch/guest_devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/testdev.h"

/* The type of what carries a virtio device. */
static const struct device_type *const virtio_carriers[NR_VIRTIO_TRANSPORTS] = {
	[VIRTIO_ON_PCI] = &virtio_pci_type,
	[VIRTIO_ON_PCI_LEGACY] = &virtio_pci_type,
	[VIRTIO_ON_MMIO] = &virtio_mmio_type,
	[VIRTIO_ON_MMIO_LEGACY] = &virtio_mmio_type,
};

static bool on_pci(const struct guest_virtio *device)
{
	return device->transport == VIRTIO_ON_PCI || device->transport == VIRTIO_ON_PCI_LEGACY;
}

static int too_many(const struct guest_virtio *device, const char *what, struct error *err)
{
	err->status = STATUS_USAGE;
	error_set(err, -ENOSPC, "%.200s: %s", device->option, what);
	error_hint(err, "the key transport=%s puts a device elsewhere", on_pci(device) ? "mmio" : "pci");
	return -ENOSPC;
}

int guest_place(struct vm *vm, const struct guest_config *config, const struct virtio_room *room,
	const struct placement *own, unsigned nr_own, const struct place_moves *moves, struct error *err)
{
	struct placement *table = calloc(nr_own + config->nr_virtio, sizeof(*table));
	unsigned n = 0;
	int r = 0;

	if (!table)
		return error_set(err, -ENOMEM, "no memory for the machine's table");
	memcpy(table, own, nr_own * sizeof(*table));
	for (unsigned i = 0; r == 0 && i < config->nr_virtio; i++) {
		const struct guest_virtio *device = &config->virtio[i];

		if (on_pci(device))
			continue;
		if (n == room->devices)
			r = too_many(device, "this machine has no place for another virtio device on MMIO", err);
		else
			table[nr_own + n] = (struct placement){
				.name = device->name,
				.type = virtio_carriers[device->transport],
				.config = &device->config,
				.at = { MMIO(room->base + n * room->step) },
				.irqs = { room->lines[n % room->nr_lines] },
			};
		n++;
	}
	if (r == 0)
		r = place_moved(vm, table, nr_own + n, moves, err);
	free(table);
	return r;
}

int guest_place_function(struct vm *vm, struct pci_bus *pci, const struct pci_placement *line, struct error *err)
{
	/* The bus connects the wire, by slot and pin. */
	const struct placement made = {
		.name = line->name, .type = line->type, .config = line->config, .irqs = { IRQ_NONE }
	};
	struct device *dev;
	int r = place_devices(vm, &made, 1, err);

	if (r)
		return r;
	dev = vm_device(vm, line->name);
	r = pci_bus_add(pci, container_of(dev, struct pci_function, dev), line->slot, line->function, err);
	if (r)
		vm_remove_device(dev);
	return r;
}

/* They have their pins in turn, so that some share a wire and others do not. */
static int place_tests(struct vm *vm, struct pci_bus *pci, unsigned n, unsigned slot, struct error *err)
{
	static const struct pci_test_config first = { .pin = 1, .msix = true };
	static const struct pci_test_config pins[PCI_PINS] = { { 1 }, { 2 }, { 3 }, { 4 } };
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n; i++) {
		char name[24] = "pci-test";

		if (i)
			snprintf(name, sizeof(name), "pci-test%u", i);
		r = guest_place_function(vm, pci,
			&(struct pci_placement){ name, &pci_test_type, slot, i, i ? &pins[i % PCI_PINS] : &first },
			err);
	}
	return r;
}

int guest_place_functions(
	struct vm *vm, struct pci_bus *pci, const struct guest_config *config, unsigned slot, struct error *err)
{
	const unsigned tests = config->pci_test_functions ? config->pci_test_functions : config->pci_test;
	int r = place_tests(vm, pci, tests, slot, err);

	slot += tests > 0;
	for (unsigned i = 0; r == 0 && i < config->nr_virtio; i++) {
		const struct guest_virtio *device = &config->virtio[i];
		struct virtio_config virtio = device->config;
		const struct pci_placement line = { device->name, virtio_carriers[device->transport], slot, 0,
			&virtio };

		if (!on_pci(device))
			continue;
		virtio.ports = pci->ports;
		if (slot == PCI_SLOTS)
			return too_many(device, "all slots of the PCI bus are taken", err);
		r = guest_place_function(vm, pci, &line, err);
		slot++;
	}
	return r;
}
