/* SPDX-License-Identifier: BSD-2-Clause */
/* piix.c - ISA bridge and power management of a PIIX, as config space. */
#include "pci/piix.h"

#include <errno.h>
#include <stdlib.h>

#include "core/vm.h"
#include "pci/pci.h"

#define ISA_PIRQ_ROUTE 0x60 /* four of them; bit 7: not routed */
#define PIRQ_OFF       0x80

#define POWER_BASE     0x40 /* bit 0: an I/O address */
#define POWER_DEVACTB  0x58
#define POWER_MISC     0x80
#define DEVACTB_APM    (1U << 25) /* a write to the APM control port raises an SMI */
#define MISC_IO_ENABLE 1

struct piix {
	struct pci_function fn; /* first */
	struct {
		uint8_t config[PCI_CONFIG_SIZE];
	} state;
};

static const struct field piix_fields[] = {
	{ .name = "config", .width = 1, .count = PCI_CONFIG_SIZE },
	FIELD_END,
};

static const struct pci_ids isa_ids = {
	.vendor = 0x8086,
	.device = 0x7000,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class = 0x060100,
};
static const struct pci_ids power_ids = {
	.vendor = 0x8086,
	.device = 0x7113,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class = 0x068000,
	.revision = 3,
};

static void piix_reset(struct device *dev)
{
	pci_function_reset(pci_function_of(dev));
}

static void piix_start(struct device *dev)
{
	pthread_mutex_lock(&dev->lock);
	pci_function_sync(pci_function_of(dev));
	pthread_mutex_unlock(&dev->lock);
}

static void piix_destroy(struct device *dev)
{
	pci_function_fini(pci_function_of(dev));
	device_fini(dev);
	free(container_of(pci_function_of(dev), struct piix, fn));
}

static struct piix *piix_new(struct vm *vm, const char *name, const struct device_type *type, const struct pci_ids *ids)
{
	struct piix *piix = calloc(1, sizeof(*piix));

	if (!piix)
		return NULL;
	device_init(&piix->fn.dev, type, vm, name);
	pci_function_init(&piix->fn, ids, piix->state.config);
	return piix;
}

static int isa_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct piix *piix = piix_new(vm, name, &piix_isa_type, &isa_ids);

	if (!piix)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	/* Firmware that cannot turn its decoding on takes the devices behind it for absent. */
	piix->fn.boot_command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	pci_init(&piix->fn, PCI_COMMAND, 2, 0, piix->fn.boot_command);
	for (unsigned pin = 0; pin < PCI_PINS; pin++)
		pci_init(&piix->fn, ISA_PIRQ_ROUTE + pin, 1, PIRQ_OFF, 0x8f);
	*out = &piix->fn.dev;
	return 0;
}

/*
 * The base is fixed, and enabled from the start, so firmware takes it as it is. So is the SMI: firmware that finds it
 * enabled takes its own system management mode for set up, and does not wait for one that this machine has not.
 */
static int power_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct piix_power_config *c = config;
	struct piix *piix = piix_new(vm, name, &piix_power_type, &power_ids);

	if (!piix)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	pci_init(&piix->fn, POWER_BASE, 4, c->pm_base | 1U, 0);
	pci_init(&piix->fn, POWER_DEVACTB, 4, DEVACTB_APM, 0);
	pci_init(&piix->fn, POWER_MISC, 1, MISC_IO_ENABLE, 0);
	*out = &piix->fn.dev;
	return 0;
}

const struct device_type piix_isa_type = {
	.name = "piix-isa",
	.state = piix_fields,
	.state_offset = offsetof(struct piix, state),
	.create = isa_create,
	.start = piix_start,
	.reset = piix_reset,
	.destroy = piix_destroy,
};

const struct device_type piix_power_type = {
	.name = "piix-power",
	.state = piix_fields,
	.state_offset = offsetof(struct piix, state),
	.create = power_create,
	.start = piix_start,
	.reset = piix_reset,
	.destroy = piix_destroy,
};
