/* SPDX-License-Identifier: BSD-2-Clause */
/* dsdt.c - the part of ACPI that is written by walking the devices. */
#include <stdio.h>

#include "core/vm.h"
#include "desc/acpi.h"
#include "desc/aml.h"

#define ISA_IRQS 16

static void region_resource(struct aml *aml, const struct region *region)
{
	uint64_t last = region->base + (region->size - 1);

	if (region->space == SPACE_PIO && region->size <= UINT8_MAX && last <= UINT16_MAX)
		aml_res_io(aml, (uint16_t)region->base, (uint8_t)region->size);
	else if (region->space == SPACE_PIO)
		aml_res_window(aml, AML_IO, false, region->base, region->size);
	else if (last <= UINT32_MAX)
		aml_res_memory32(aml, (uint32_t)region->base, (uint32_t)region->size);
	else
		aml_res_window(aml, AML_MEMORY, false, region->base, region->size);
}

void acpi_resources(struct aml *aml, const struct device *dev)
{
	for (unsigned i = 0; i < dev->nr_regions; i++)
		region_resource(aml, dev->regions[i]);
	for (unsigned i = 0; i < dev->nr_irqs; i++) {
		const struct irq *irq = dev->irqs[i];

		if (!irq->router)
			continue;
		/* The short form is what ISA drivers know, and it means edge-triggered. */
		if (irq->trigger == IRQ_EDGE && irq->line < ISA_IRQS)
			aml_res_irq(aml, irq->line);
		else
			aml_res_interrupt(aml, irq->line, irq->trigger == IRQ_LEVEL, irq->trigger == IRQ_LEVEL);
	}
}

static void describe_device(struct aml *aml, struct device *dev, unsigned number)
{
	char name[16];

	/* A number of more than three digits is no name, and fails. */
	snprintf(name, sizeof(name), "D%03X", number);
	aml_device(aml, name);
	aml_name(aml, "_HID");
	aml_hid(aml, dev->type->acpi_hid);
	aml_name_int(aml, "_UID", dev->uid);
	aml_name_string(aml, "_DDN", dev->name);
	aml_name_int(aml, "_STA", 0xf);
	if (dev->nr_regions || dev->nr_irqs) {
		aml_name(aml, "_CRS");
		aml_resources(aml);
		acpi_resources(aml, dev);
		aml_end(aml);
	}
	if (dev->type->acpi)
		dev->type->acpi(dev, aml);
	aml_end(aml);
}

void acpi_dsdt(struct aml *aml, const struct acpi_platform *platform, struct vm *vm)
{
	unsigned number = 0;

	aml_scope(aml, "\\_SB");
	for (unsigned i = 0; i < platform->nr_cpus; i++) {
		char name[16];

		snprintf(name, sizeof(name), "C%03X", i);
		aml_device(aml, name);
		aml_name_string(aml, "_HID", "ACPI0007");
		aml_name_int(aml, "_UID", i);
		aml_end(aml);
	}
	list_for_each (pos, &vm->devices) {
		struct device *dev = container_of(pos, struct device, node);

		if (dev->type->acpi_hid)
			describe_device(aml, dev, number++);
		else if (dev->type->acpi)
			dev->type->acpi(dev, aml);
	}
	aml_end(aml);
	if (platform->pm1_control.len) {
		aml_name(aml, "\\_S5");
		aml_package(aml, 4);
		aml_int(aml, platform->s5);
		aml_int(aml, platform->s5);
		aml_int(aml, 0);
		aml_int(aml, 0);
		aml_end(aml);
	}
}
