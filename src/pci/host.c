/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.c - the PCI host bridge: a generic one, or the north bridge that firmware looks for.
 *
 * Configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2): a 32-bit address register, which only accesses of
 * four bytes reach, and a data register of which all widths take their bytes. ECAM (PCI Express Base 7.2.2):
 * the address is the bus, function and register.
 */
#include "pci/host.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/vm.h"
#include "desc/aml.h"

#define ADDRESS_ENABLE (1U << 31)
#define ADDRESS_BITS   0x80fffffcU /* the others read as 0 */

#define MAX_BUSES 256

struct pci_host_state {
	uint8_t config[PCI_CONFIG_SIZE];
	uint32_t address;
};

struct pci_host {
	struct pci_function fn; /* first */
	struct pci_bus bus;
	struct pci_host_config config;
	struct region address, data, ecam;
	struct pci_host_state state;
};

static const struct field host_fields[] = {
	PCI_CONFIG_FIELD(struct pci_host_state, config),
	FIELD(struct pci_host_state, address),
	FIELD_END,
};

/* Red Hat's ids of a generic host bridge, to which no system attaches a quirk. */
static const struct pci_ids host_ids = {
	.vendor = 0x1b36,
	.device = 0x0008,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class = 0x060000,
};

/* Intel's 440FX, as its data sheet (290549) has it; by the subsystem firmware tells an emulated one. */
static const struct pci_ids i440fx_ids = {
	.vendor = 0x8086,
	.device = 0x1237,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class = 0x060000,
	.revision = 2,
};

/*
 * Programmable attribute map: two bits a piece of the memory between 0xc0000 and 0xfffff say whether DRAM takes writes
 * and answers reads; after reset, neither. Firmware then copies itself from the ROM into DRAM. Here there is DRAM in
 * any case, with the ROM's copy in it where the ROM would have answered, and nothing is write-protected by these bits.
 */
#define I440FX_PAM0 0x59
#define I440FX_PAMS 7
#define PAM0_BITS   0x30
#define PAM_BITS    0x33

static struct pci_host *to_host(struct device *dev)
{
	return container_of(dev, struct pci_host, fn.dev);
}

struct pci_bus *pci_host_bus(struct device *dev)
{
	assert(dev->type == &pci_host_type);
	return &to_host(dev)->bus;
}

/* Narrower accesses do not reach the latch, by the region's widths: on a PC, other chips answer them. */
static void address_trap(void *dev, struct trap *trap)
{
	struct pci_host *host = to_host(dev);

	if (trap->write)
		host->state.address = (uint32_t)trap->value & ADDRESS_BITS;
	else
		trap->value = host->state.address;
}

static void config_access(struct pci_host *host, unsigned bus, uint8_t devfn, unsigned reg, struct trap *trap)
{
	if (bus != 0)
		return; /* all ones */
	if (trap->write)
		pci_config_write(&host->bus, devfn, reg, trap->len, (uint32_t)trap->value);
	else
		trap->value = pci_config_read(&host->bus, devfn, reg, trap->len);
}

static void data_trap(void *dev, struct trap *trap)
{
	struct pci_host *host = to_host(dev);
	uint32_t address = host->state.address;

	if (address & ADDRESS_ENABLE)
		config_access(host, address >> 16 & 0xff, (uint8_t)(address >> 8),
			(address & 0xfc) + (unsigned)trap->offset, trap);
}

/* No lock of the device's: an access touches nothing but config space, which the PCI bus lock protects. */
static void ecam_trap(void *dev, struct trap *trap)
{
	struct pci_host *host = to_host(dev);

	config_access(host, (unsigned)(trap->offset / PCI_ECAM_BUS_SIZE), (uint8_t)(trap->offset >> 12),
		(unsigned)(trap->offset % PCI_CONFIG_SIZE), trap);
}

static void host_destroy(struct device *dev)
{
	struct pci_host *host = to_host(dev);

	pci_function_fini(&host->fn);
	pci_bus_fini(&host->bus);
	device_fini(dev);
	free(host);
}

static void declare_regions(struct pci_host *host)
{
	struct device *dev = &host->fn.dev;

	if (host->config.ports) {
		device_region(dev, &host->address, "PCI config address", 4, WIDTH_4, address_trap);
		/*
		 * A latch: nothing follows from a write before the data register is
		 * asked, and that drains what is posted.
		 */
		host->address.coalesce = 4;
		device_region(dev, &host->data, "PCI config data", 4, WIDTH_1 | WIDTH_2 | WIDTH_4, data_trap);
	}
	if (host->config.buses) {
		device_region(dev, &host->ecam, "PCI ECAM", (uint64_t)host->config.buses * PCI_ECAM_BUS_SIZE,
			WIDTH_1 | WIDTH_2 | WIDTH_4, ecam_trap);
		host->ecam.lock = NULL;
	}
}

static int host_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct pci_host_config *c = config;
	struct pci_host *host;
	int r;

	if (c->buses > MAX_BUSES)
		return error_set(err, -EINVAL, "%s: %u PCI buses of ECAM, %u at most", name, c->buses, MAX_BUSES);
	host = calloc(1, sizeof(*host));
	if (!host)
		return error_set(err, -ENOMEM, "no memory for %s", name);
	host->config = *c;
	device_init(&host->fn.dev, &pci_host_type, vm, name);
	pci_bus_init(&host->bus, vm, &c->windows, c->gsi);
	host->bus.ports = c->ports;
	pci_function_init(&host->fn, c->i440fx ? &i440fx_ids : &host_ids, host->state.config);
	for (unsigned i = 0; c->i440fx && i < I440FX_PAMS; i++)
		pci_init(&host->fn, I440FX_PAM0 + i, 1, 0, i ? PAM_BITS : PAM0_BITS);
	declare_regions(host);
	r = c->unseen ? 0 : pci_bus_add(&host->bus, &host->fn, 0, 0, err);
	if (r) {
		host_destroy(&host->fn.dev);
		return r;
	}
	*out = &host->fn.dev;
	return 0;
}

static void host_reset(struct device *dev)
{
	pci_function_reset(&to_host(dev)->fn);
}

static void host_start(struct device *dev)
{
	pthread_mutex_lock(&dev->lock);
	pci_function_sync(&to_host(dev)->fn);
	pthread_mutex_unlock(&dev->lock);
}

static void acpi_window(struct aml *aml, enum aml_window kind, const struct pci_window *window)
{
	if (window->size)
		aml_res_window(aml, kind, true, window->base, window->size);
}

/* What the bridge answers itself, then what it passes on. ECAM is not among it: see acpi_reserve_ecam(). */
static void acpi_crs(struct pci_host *host, struct aml *aml)
{
	const struct pci_windows *w = &host->config.windows;

	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_res_window(aml, AML_BUS_NUMBERS, true, 0, host->config.buses ? host->config.buses : 1);
	if (host->config.ports && host->address.space == SPACE_PIO && host->address.base <= UINT16_MAX &&
		host->data.base == host->address.base + 4)
		aml_res_io(aml, (uint16_t)host->address.base, 8);
	acpi_window(aml, AML_IO, &w->io);
	acpi_window(aml, AML_MEMORY, &w->mem32);
	acpi_window(aml, AML_MEMORY, &w->mem64);
	aml_end(aml);
}

/* 6.2.13: all slots, empty ones too, since functions may come later. No link devices: the GSIs are fixed. */
static void acpi_prt(struct pci_host *host, struct aml *aml)
{
	unsigned n = 0;

	for (unsigned pin = 0; pin < PCI_PINS; pin++)
		n += host->config.gsi[pin] != IRQ_NONE;
	aml_name(aml, "_PRT");
	aml_package(aml, n * PCI_SLOTS);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned pin = 0; pin < PCI_PINS; pin++) {
			uint32_t gsi = pci_gsi(&host->bus, slot, pin + 1);

			if (gsi == IRQ_NONE)
				continue;
			aml_package(aml, 4);
			aml_int(aml, slot << 16 | 0xffff);
			aml_int(aml, pin);
			aml_int(aml, 0);
			aml_int(aml, gsi);
			aml_end(aml);
		}
	}
	aml_end(aml);
}

/* 6.2.11: everything asked for is granted, since nothing here is the platform's to keep. */
static void acpi_osc(struct aml *aml)
{
	aml_method(aml, "_OSC", 4, false);
	aml_create_dword_field(aml, 3, 0, "CDW1");
	aml_if(aml);
	aml_equal(aml);
	aml_arg(aml, 0);
	aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	aml_return(aml);
	aml_arg(aml, 3);
	aml_end(aml);
	aml_or(aml); /* an unknown UUID */
	aml_path(aml, "CDW1");
	aml_int(aml, 4);
	aml_path(aml, "CDW1");
	aml_return(aml);
	aml_arg(aml, 3);
	aml_end(aml);
}

/* Linux uses ECAM only where a motherboard resource or the memory map reserves it. */
static void acpi_reserve_ecam(struct pci_host *host, struct aml *aml)
{
	const struct region *ecam = &host->ecam;
	char name[16];

	snprintf(name, sizeof(name), "MB%02X", host->fn.dev.uid);
	aml_device(aml, name);
	aml_name(aml, "_HID");
	aml_hid(aml, "PNP0C02");
	/* A string, so that it differs from the numbers of other motherboard resources. */
	aml_name_string(aml, "_UID", host->fn.dev.name);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	if (ecam->base + (ecam->size - 1) <= UINT32_MAX)
		aml_res_memory32(aml, (uint32_t)ecam->base, (uint32_t)ecam->size);
	else
		aml_res_window(aml, AML_MEMORY, false, ecam->base, ecam->size);
	aml_end(aml);
	aml_end(aml);
}

static void host_acpi(struct device *dev, struct aml *aml)
{
	struct pci_host *host = to_host(dev);
	bool ecam = host->config.buses && host->ecam.space == SPACE_MMIO;
	char name[16];

	snprintf(name, sizeof(name), "PCI%X", dev->uid);
	aml_device(aml, name);
	aml_name(aml, "_HID");
	aml_hid(aml, ecam ? "PNP0A08" : "PNP0A03");
	if (ecam) {
		aml_name(aml, "_CID");
		aml_hid(aml, "PNP0A03");
	}
	aml_name_int(aml, "_UID", dev->uid);
	aml_name_int(aml, "_SEG", 0);
	aml_name_int(aml, "_BBN", 0);
	acpi_crs(host, aml);
	acpi_prt(host, aml);
	if (ecam) {
		aml_name_int(aml, "_CBA", host->ecam.base);
		acpi_osc(aml);
	}
	aml_end(aml);
	if (ecam)
		acpi_reserve_ecam(host, aml);
}

const struct device_type pci_host_type = {
	.name = "pci-host",
	/* No acpi_hid: its _CRS is more than its regions, so acpi() writes the whole. */
	.drivers = "PCI conf1|PCI MMCONFIG",
	.state = host_fields,
	.state_offset = offsetof(struct pci_host, state),
	.create = host_create,
	.start = host_start,
	.reset = host_reset,
	.destroy = host_destroy,
	.acpi = host_acpi,
};
