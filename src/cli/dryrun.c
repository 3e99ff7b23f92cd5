/* SPDX-License-Identifier: BSD-2-Clause */
/* dryrun.c - the machine that would be built, for people and as JSON: read from the bus and the devices. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "cli/devices.h"

static const char *const space_names[] = { [SPACE_PIO] = "pio", [SPACE_MMIO] = "mmio" };
_Static_assert(sizeof(space_names) / sizeof(space_names[0]) == NR_SPACES, "a name for each space");

const char *space_name(enum space space)
{
	return space_names[space];
}

static const char *const kind_names[] = {
	[REGION_TRAP] = "trap",
	[REGION_RAM] = "ram",
	[REGION_ROM] = "rom",
	[REGION_HELD] = "kernel",
	[REGION_ALIAS] = "alias",
};
_Static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == NR_REGION_KINDS, "a name for each kind");

static const char *owner_name(const struct region *region)
{
	const struct device *dev = region->owner;

	return dev ? dev->name : "-";
}

/* Which widths get an answer: of memory all, of what the kernel holds none that we know. */
static unsigned widths_of(const struct region *region)
{
	switch (region->kind) {
	case REGION_TRAP:
		return region->widths;
	case REGION_HELD:
		return 0;
	default:
		return WIDTH_ANY;
	}
}

static void widths_text(const struct region *region, char text[16])
{
	unsigned n = 0, widths = widths_of(region);

	for (unsigned width = 1; width <= 8; width *= 2) {
		if (widths & width)
			n += (unsigned)snprintf(text + n, 16 - n, "%s%u", n ? "," : "", width);
	}
	if (!n)
		strcpy(text, "-");
}

/* "4" for one interrupt, "1,12" for two, "-" for none. */
static void irqs_text(const struct device *dev, char *text, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; dev && i < dev->nr_irqs && n < size; i++) {
		if (dev->irqs[i]->router)
			n += (size_t)snprintf(text + n, size - n, "%s%u", n ? "," : "", dev->irqs[i]->line);
	}
	if (!n)
		snprintf(text, size, "-");
}

static void print_region(struct region *region, void *out)
{
	char widths[16], irqs[32];

	widths_text(region, widths);
	irqs_text(region->owner, irqs, sizeof(irqs));
	fprintf(out, "  %#14" PRIx64 " - %#14" PRIx64 "  %-6s  %-12s  %-18s  %-7s  %s\n", region->base,
		region->base + region->size - 1, kind_names[region->kind], owner_name(region), region->name, widths,
		irqs);
}

static void print_firmware(const struct guest_config *guest, const struct board_info *info, FILE *out)
{
	fprintf(out, "firmware      %s (%" PRIu64 " KiB at %#" PRIx64 ", started at %#" PRIx64 ")\n", guest->firmware,
		info->firmware_size >> 10, info->firmware_base, info->entry);
}

static void print_virtio(const struct guest_config *guest, FILE *out)
{
	for (unsigned i = 0; i < guest->nr_virtio; i++) {
		const struct guest_virtio *v = &guest->virtio[i];

		fprintf(out, "%-14s%s (%s on %s)\n", i ? "" : "virtio", v->name, v->config.type->name,
			devices_transport(v->transport));
	}
}

static void print_kernel(const struct guest_config *guest, const struct board_info *info, FILE *out)
{
	fprintf(out, "kernel        %s (%s%s%s, entered by %s at %#" PRIx64 ")\n", guest->kernel, info->kernel_kind,
		info->unpacked ? " unpacked here from " : "", info->unpacked ? info->unpacked : "", info->boot_text,
		info->entry);
	if (info->boot_note)
		fprintf(out, "note          %s\n", info->boot_note);
	if (info->cache_note)
		fprintf(out, "kernel cache  none: %s\n", info->cache_note);
	else if (info->cache_path)
		fprintf(out, "kernel cache  %s %s\n", info->cached ? "it comes from" : "a run would keep it in",
			info->cache_path);
	fprintf(out, "kernel place  %s\n",
		info->own_kaslr ? "random, if the kernel wants it" : "fixed: no address randomisation (KASLR)");
	fprintf(out, "initrd        %s\n", guest->initrd ? guest->initrd : "none");
	fprintf(out, "command line  %s\n", info->cmdline);
}

/* Where BARs may be; no more than a name and a place each. */
static void print_windows(const struct pci_windows *w, FILE *out)
{
	const struct {
		const char *name;
		struct pci_window window;
	} all[] = { { "I/O", w->io }, { "32-bit memory", w->mem32 }, { "64-bit memory", w->mem64 } };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].window.size)
			fprintf(out, "  %#14" PRIx64 " - %#14" PRIx64 "  BARs: %s\n", all[i].window.base,
				all[i].window.base + all[i].window.size - 1, all[i].name);
	}
}

void dry_run_text(const struct machine *m, FILE *out)
{
	const struct guest_config *guest = &m->config.guest;
	struct board_info info;
	char backing[4200];

	m->config.arch->info(m->board, &info);
	backing_text(&m->config.backing, backing, sizeof(backing));
	fprintf(out, "machine       %s, %u vCPU%s, %" PRIu64 " MiB of RAM\n", m->config.arch->name, guest->cpus,
		guest->cpus == 1 ? "" : "s", guest->ram >> 20);
	fprintf(out, "RAM from      %s\n", backing);
	for (unsigned i = 0; m->config.host_cpus && i < guest->cpus; i++)
		fprintf(out, "%-14svCPU %u on CPU %u\n", i ? "" : "host CPUs", i, m->config.host_cpus[i]);
	if (guest->firmware)
		print_firmware(guest, &info, out);
	else
		print_kernel(guest, &info, out);
	print_virtio(guest, out);
	for (unsigned space = 0; space < NR_SPACES; space++) {
		fprintf(out, "\n%s\n  %14s - %14s  %-6s  %-12s  %-18s  %-7s  %s\n",
			space == SPACE_PIO ? "I/O ports" : "Memory", "first", "last", "kind", "device", "region",
			"widths", "irq");
		bus_for_each(m->vm.bus, (enum space)space, print_region, out);
	}
	if (info.pci) {
		fprintf(out, "\nPCI\n");
		print_windows(&info.pci->windows, out);
		for (unsigned i = 0; i < PCI_SLOTS * PCI_FUNCTIONS; i++) {
			const struct pci_function *fn = info.pci->functions[i];

			if (fn)
				fprintf(out, "  00:%02x.%x  %04x:%04x  %s\n", i / PCI_FUNCTIONS, i % PCI_FUNCTIONS,
					pci_get(fn, PCI_VENDOR_ID, 2), pci_get(fn, PCI_DEVICE_ID, 2), fn->dev.name);
		}
	}
}

static json_t *widths_json(const struct region *region)
{
	json_t *array = json_array();
	unsigned widths = widths_of(region);

	for (unsigned width = 1; width <= 8; width *= 2) {
		if (widths & width)
			json_array_append_new(array, json_integer((json_int_t)width));
	}
	return array;
}

/* Addresses are numbers: every JSON reader of the last decade takes 64-bit integers, and scripts compare them. */
static void add_region(struct region *region, void *array)
{
	const struct device *dev = region->owner;

	json_array_append_new(array,
		json_pack("{s:s, s:I, s:I, s:s, s:o, s:s?, s:s?, s:s?}", "name", region->name, "base",
			(json_int_t)region->base, "size", (json_int_t)region->size, "kind", kind_names[region->kind],
			"widths", widths_json(region), "device", dev ? dev->name : NULL, "type",
			dev ? dev->type->name : NULL, "drivers", dev ? dev->type->drivers : NULL));
}

static json_t *irqs_json(const struct device *dev)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < dev->nr_irqs; i++) {
		const struct irq *irq = dev->irqs[i];

		if (irq->router)
			json_array_append_new(
				array, json_pack("{s:s, s:i, s:s}", "name", irq->name, "line", (int)irq->line,
					       "trigger", irq->trigger == IRQ_LEVEL ? "level" : "edge"));
	}
	return array;
}

json_t *machine_devices_json(const struct machine *m)
{
	json_t *array = json_array();

	list_for_each (node, &m->vm.devices) {
		const struct device *dev = container_of(node, struct device, node);

		json_array_append_new(
			array, json_pack("{s:s, s:s, s:s?, s:o}", "name", dev->name, "type", dev->type->name,
				       "acpi_hid", dev->type->acpi_hid, "irqs", irqs_json(dev)));
	}
	return array;
}

json_t *machine_pci_json(const struct machine *m)
{
	json_t *array = json_array();
	struct board_info info;

	m->config.arch->info(m->board, &info);
	for (unsigned i = 0; info.pci && i < PCI_SLOTS * PCI_FUNCTIONS; i++) {
		const struct pci_function *fn = info.pci->functions[i];
		char address[16];

		if (!fn)
			continue;
		snprintf(address, sizeof(address), "0000:00:%02x.%x", i / PCI_FUNCTIONS, i % PCI_FUNCTIONS);
		json_array_append_new(
			array, json_pack("{s:s, s:i, s:i, s:i, s:s}", "address", address, "vendor",
				       (int)pci_get(fn, PCI_VENDOR_ID, 2), "device", (int)pci_get(fn, PCI_DEVICE_ID, 2),
				       "class", (int)pci_get(fn, PCI_CLASS_DEVICE, 2), "name", fn->dev.name));
	}
	return array;
}

static void add_window(json_t *object, const char *name, const struct pci_window *window)
{
	if (window->size)
		json_object_set_new(object, name,
			json_pack("{s:I, s:I}", "base", (json_int_t)window->base, "size", (json_int_t)window->size));
}

json_t *machine_windows_json(const struct machine *m)
{
	json_t *object = json_object();
	struct board_info info;

	m->config.arch->info(m->board, &info);
	if (info.pci) {
		add_window(object, "io", &info.pci->windows.io);
		add_window(object, "mem32", &info.pci->windows.mem32);
		add_window(object, "mem64", &info.pci->windows.mem64);
	}
	return object;
}

json_t *machine_bus_json(const struct machine *m)
{
	json_t *bus = json_object();

	for (unsigned space = 0; space < NR_SPACES; space++) {
		json_t *array = json_array();

		bus_for_each(m->vm.bus, (enum space)space, add_region, array);
		json_object_set_new(bus, space_names[space], array);
	}
	return bus;
}

/* NULL, which becomes null, for what this machine does not start by. */
static json_t *kernel_json(const struct guest_config *guest, const struct board_info *info)
{
	if (guest->firmware)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:I, s:s?, s:b, s:s?, s:b, s:s?, s:s?}", "path", guest->kernel, "kind",
		info->kernel_kind, "boot", info->boot_way, "entry", (json_int_t)info->entry, "unpacked", info->unpacked,
		"kaslr", info->own_kaslr, "note", info->boot_note, "cached", info->cached, "cache", info->cache_path,
		"cache_note", info->cache_note);
}

static json_t *firmware_json(const struct guest_config *guest, const struct board_info *info)
{
	if (!guest->firmware)
		return NULL;
	return json_pack("{s:s, s:I, s:I, s:I}", "path", guest->firmware, "base", (json_int_t)info->firmware_base,
		"size", (json_int_t)info->firmware_size, "entry", (json_int_t)info->entry);
}

/* The host CPU of each vCPU; empty where they are bound to none. */
static json_t *host_cpus_json(const struct machine *m)
{
	json_t *array = json_array();

	for (unsigned i = 0; m->config.host_cpus && i < m->config.guest.cpus; i++)
		json_array_append_new(array, json_integer((json_int_t)m->config.host_cpus[i]));
	return array;
}

static json_t *virtio_json(const struct guest_config *guest)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < guest->nr_virtio; i++) {
		const struct guest_virtio *v = &guest->virtio[i];

		json_array_append_new(array, json_pack("{s:s, s:s, s:s}", "name", v->name, "type", v->config.type->name,
						     "transport", devices_transport(v->transport)));
	}
	return array;
}

int dry_run_json(const struct machine *m, FILE *out)
{
	const struct guest_config *guest = &m->config.guest;
	struct board_info info;
	char backing[4200];
	json_t *root;
	int r;

	m->config.arch->info(m->board, &info);
	backing_text(&m->config.backing, backing, sizeof(backing));
	root = json_pack("{s:s?, s:s, s:I, s:I, s:s, s:o, s:o?, s:o?, s:s?, s:s, s:o, s:o, s:o, s:o, s:o}", "name",
		m->config.name, "arch", m->config.arch->name, "cpus", (json_int_t)guest->cpus, "ram",
		(json_int_t)guest->ram, "ram_from", backing, "host_cpus", host_cpus_json(m), "kernel",
		kernel_json(guest, &info), "firmware", firmware_json(guest, &info), "initrd", guest->initrd, "cmdline",
		info.cmdline, "bus", machine_bus_json(m), "devices", machine_devices_json(m), "pci",
		machine_pci_json(m), "windows", machine_windows_json(m), "virtio", virtio_json(guest));
	if (!root)
		return -EILSEQ;
	r = json_dumpf(root, out, JSON_INDENT(2)) || fputc('\n', out) == EOF ? -EIO : 0;
	json_decref(root);
	return r;
}
