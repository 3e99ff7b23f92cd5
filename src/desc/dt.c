/* SPDX-License-Identifier: BSD-2-Clause */
/* dt.c - device trees; see dt.h. */
#include "desc/dt.h"

#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/vm.h"

#define MAX_CELLS 64
#define MAX_TEXT  256

/*
 * What bindings want, `reg` and `interrupts` apart, by a type's name, so that no device knows of device trees; the
 * kernel's Documentation/devicetree/bindings.
 */
static const struct binding {
	const char *type, *node, *compatible;
	bool dma;           /* it reads and writes memory, and caches are no matter */
	bool primecell;     /* it has an APB clock */
	bool gpio;          /* others name its pins: number, and 0 for one that is active when high */
	uint32_t frequency; /* of its input clock, in Hz; 0: not told */
	uint32_t bank;      /* bytes that flash chips side by side take at once; 0: it is none */
} bindings[] = {
	{ "serial", "serial", "ns16550a/", .frequency = 1843200 },
	{ "pl031", "rtc", "arm,pl031/arm,primecell/", .primecell = true },
	{ "pl061", "gpio", "arm,pl061/arm,primecell/", .primecell = true, .gpio = true },
	{ "mc146818", "rtc", "motorola,mc146818/" },
	{ "virtio-mmio", "virtio", "virtio,mmio/", .dma = true },
	{ "flash", "flash", "cfi-flash/", .bank = 4 },
	{ "pvpanic", "pvpanic", "qemu,pvpanic-mmio/" },
};

static const struct binding *binding_of(const struct device *dev)
{
	for (size_t i = 0; i < sizeof(bindings) / sizeof(bindings[0]); i++) {
		if (strcmp(bindings[i].type, dev->type->name) == 0 && dev->nr_regions)
			return &bindings[i];
	}
	return NULL;
}

/* libfdt's: nothing more is written after the first error. */
static void note(struct dt *dt, int error)
{
	if (error && !dt->error)
		dt->error = error;
}

int dt_start(struct dt *dt, size_t size, struct error *err)
{
	*dt = (struct dt){ .bytes = calloc(1, size), .size = size };
	if (!dt->bytes)
		return error_set(err, -ENOMEM, "no memory for the device tree");
	note(dt, fdt_create(dt->bytes, (int)size));
	note(dt, fdt_finish_reservemap(dt->bytes));
	dt_begin(dt, "%s", "");
	return 0;
}

int dt_finish(struct dt *dt, size_t *length, struct error *err)
{
	dt_end(dt);
	note(dt, fdt_finish(dt->bytes));
	if (dt->error == -FDT_ERR_NOSPACE)
		return error_set(err, -ENOSPC, "the device tree has more than %zu bytes", dt->size);
	if (dt->error)
		return error_set(err, -EINVAL, "device tree: %s", fdt_strerror(dt->error));
	*length = fdt_totalsize(dt->bytes);
	return 0;
}

void dt_free(struct dt *dt)
{
	free(dt->bytes);
	dt->bytes = NULL;
}

void dt_begin(struct dt *dt, const char *fmt, ...)
{
	char name[MAX_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	if (!dt->error)
		note(dt, fdt_begin_node(dt->bytes, name));
}

void dt_end(struct dt *dt)
{
	if (!dt->error)
		note(dt, fdt_end_node(dt->bytes));
}

void dt_bytes(struct dt *dt, const char *name, const void *bytes, size_t n)
{
	if (!dt->error)
		note(dt, fdt_property(dt->bytes, name, bytes, (int)n));
}

void dt_flag(struct dt *dt, const char *name)
{
	dt_bytes(dt, name, NULL, 0);
}

void dt_cells(struct dt *dt, const char *name, const uint32_t *cells, unsigned n)
{
	void *at;

	if (dt->error)
		return;
	note(dt, fdt_property_placeholder(dt->bytes, name, (int)(n * sizeof(*cells)), &at));
	for (unsigned i = 0; !dt->error && i < n; i++)
		fdt32_st((uint8_t *)at + i * sizeof(*cells), cells[i]);
}

void dt_u32(struct dt *dt, const char *name, uint32_t value)
{
	dt_cells(dt, name, &value, 1);
}

void dt_u64(struct dt *dt, const char *name, uint64_t value)
{
	dt_cells(dt, name, (uint32_t[]){ (uint32_t)(value >> 32), (uint32_t)value }, 2);
}

void dt_string(struct dt *dt, const char *name, const char *text)
{
	dt_bytes(dt, name, text, strlen(text) + 1);
}

void dt_strings(struct dt *dt, const char *name, const char *texts)
{
	size_t n = strlen(texts);
	char *copy = strdup(texts);

	if (!copy)
		note(dt, -FDT_ERR_NOSPACE);
	for (size_t i = 0; copy && i < n; i++) {
		if (copy[i] == '/')
			copy[i] = '\0';
	}
	if (copy)
		dt_bytes(dt, name, copy, n);
	free(copy);
}

void dt_reg(struct dt *dt, const uint64_t *pairs, unsigned n)
{
	uint32_t cells[MAX_CELLS];

	if (4 * n > MAX_CELLS) {
		note(dt, -FDT_ERR_NOSPACE);
		return;
	}
	for (unsigned i = 0; i < 2 * n; i++) {
		cells[2 * i] = (uint32_t)(pairs[i] >> 32);
		cells[2 * i + 1] = (uint32_t)pairs[i];
	}
	dt_cells(dt, "reg", cells, 4 * n);
}

static uint64_t address_of(const struct region *region, const struct dt_platform *platform)
{
	return region->base + (region->space == SPACE_PIO ? platform->ports : 0);
}

static void write_reg(struct dt *dt, const struct device *dev, const struct dt_platform *platform)
{
	uint64_t pairs[2 * DEVICE_REGIONS];

	for (unsigned i = 0; i < dev->nr_regions; i++) {
		pairs[2 * i] = address_of(dev->regions[i], platform);
		pairs[2 * i + 1] = dev->regions[i]->size;
	}
	dt_reg(dt, pairs, dev->nr_regions);
}

static void write_interrupts(struct dt *dt, const struct device *dev, const struct dt_platform *platform)
{
	uint32_t cells[DEVICE_IRQS * DT_MAX_IRQ_CELLS];
	unsigned n = 0;

	for (unsigned i = 0; i < dev->nr_irqs; i++) {
		if (!dev->irqs[i]->router)
			continue;
		platform->irq(dev->irqs[i]->line, dev->irqs[i]->trigger, &cells[n]);
		n += platform->irq_cells;
	}
	if (n)
		dt_cells(dt, "interrupts", cells, n);
}

static void describe(
	struct dt *dt, const struct device *dev, const struct binding *binding, const struct dt_platform *platform)
{
	dt_begin(dt, "%s@%llx", binding->node, (unsigned long long)address_of(dev->regions[0], platform));
	dt_strings(dt, "compatible", binding->compatible);
	write_reg(dt, dev, platform);
	write_interrupts(dt, dev, platform);
	if (binding->dma)
		dt_flag(dt, "dma-coherent");
	if (binding->bank)
		dt_u32(dt, "bank-width", binding->bank);
	if (binding->frequency)
		dt_u32(dt, "clock-frequency", binding->frequency);
	if (binding->primecell) {
		dt_u32(dt, "clocks", platform->clock_phandle);
		dt_string(dt, "clock-names", "apb_pclk");
	}
	if (binding->gpio) {
		dt_flag(dt, "gpio-controller");
		dt_u32(dt, "#gpio-cells", 2);
		dt_u32(dt, "phandle", platform->gpio_phandle);
	}
	dt_end(dt);
}

void dt_devices(struct dt *dt, struct vm *vm, const struct dt_platform *platform)
{
	list_for_each (node, &vm->devices) {
		const struct device *dev = container_of(node, struct device, node);
		const struct binding *binding = binding_of(dev);

		if (binding)
			describe(dt, dev, binding, platform);
	}
}

bool dt_path(const struct device *dev, const struct dt_platform *platform, char *path, size_t size)
{
	const struct binding *binding = binding_of(dev);

	if (!binding)
		return false;
	snprintf(path, size, "/%s@%llx", binding->node, (unsigned long long)address_of(dev->regions[0], platform));
	return true;
}
