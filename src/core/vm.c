/* SPDX-License-Identifier: BSD-2-Clause */
/* vm.c - the machine's parts put together, and its devices put on the bus. */
#include "core/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vm_init(struct vm *vm, bool manual_clock, struct error *err)
{
	int rc;

	memset(vm, 0, sizeof(*vm));
	vm->loop.epoll = vm->loop.event = vm->loop.timer = -1;
	list_init(&vm->devices);
	list_init(&vm->links);
	clock_init(&vm->clock, manual_clock, 0);
	irq_router_init(&vm->irqs, NULL, NULL);
	run_init(&vm->run);
	vm->bus = bus_new();
	vm->mem.bus = vm->bus;
	if (!vm->bus) {
		vm_fini(vm);
		return error_set(err, -ENOMEM, "no memory for the bus");
	}
	rc = loop_init(&vm->loop, &vm->clock);
	if (rc) {
		vm_fini(vm);
		return error_set(err, rc, "event loop: %s", strerror(-rc));
	}
	return 0;
}

/* Off the bus; the caller drains. Its wires go in destroy(), when nothing can reach the device any more. */
static void vm_unplug(struct device *dev)
{
	if (dev->type->stop)
		dev->type->stop(dev);
	for (unsigned i = 0; i < dev->nr_regions; i++)
		bus_remove(dev->vm->bus, dev->regions[i]);
}

static void vm_destroy(struct device *dev)
{
	list_del(&dev->node);
	dev->type->destroy(dev);
}

void vm_remove_devices(struct vm *vm)
{
	if (list_empty(&vm->devices))
		return;
	/* Backward, as the machine was built; one grace period for all. */
	for (struct list *pos = vm->devices.prev; pos != &vm->devices; pos = pos->prev)
		vm_unplug(container_of(pos, struct device, node));
	bus_drain(vm->bus);
	while (!list_empty(&vm->devices))
		vm_destroy(container_of(vm->devices.prev, struct device, node));
}

void vm_fini(struct vm *vm)
{
	/* All zeros: never made, or gone already. */
	if (!vm->devices.next)
		return;
	vm_remove_devices(vm);
	if (vm->loop.epoll >= 0)
		loop_fini(&vm->loop);
	bus_free(vm->bus);
	run_fini(&vm->run);
	irq_router_fini(&vm->irqs);
	clock_fini(&vm->clock);
	memset(vm, 0, sizeof(*vm));
}

/* "serial0 (ports 0x3f8-0x3ff)" */
static void vm_describe(const struct region *region, char *buf, size_t size)
{
	const struct device *dev = region->owner;

	snprintf(buf, size, "%s (%s 0x%" PRIx64 "-0x%" PRIx64 ")", dev ? dev->name : region->name,
		region->space == SPACE_PIO ? "ports" : "memory", region->base, region->base + (region->size - 1));
}

static int vm_edit_error(struct error *err, int rc, const struct region *mine, const struct region *other)
{
	char mine_text[96], other_text[96];

	if (mine)
		vm_describe(mine, mine_text, sizeof(mine_text));
	if (other)
		vm_describe(other, other_text, sizeof(other_text));
	if (mine && other && mine != other)
		return error_set(err, rc, "%s is in the way of %s", other_text, mine_text);
	if (rc == -ENOMEM)
		return error_set(err, rc, "no memory for the bus map");
	if (mine)
		return error_set(err, rc, "%s cannot be placed: %s", mine_text,
			rc == -EEXIST ? "it is placed already" : "size, alignment or end are wrong");
	return error_set(err, rc, "devices cannot be placed: %s", strerror(-rc));
}

/* -EEXIST if a device of the batch has the name of another, in it or in the machine. */
static int vm_check_names(struct vm *vm, struct device **devices, unsigned n, struct error *err)
{
	for (unsigned i = 0; i < n; i++) {
		bool taken = vm_device(vm, devices[i]->name);

		for (unsigned j = 0; j < i && !taken; j++)
			taken = !strcmp(devices[i]->name, devices[j]->name);
		if (taken)
			return error_set(err, -EEXIST, "two devices are called '%s'", devices[i]->name);
	}
	return 0;
}

int vm_add_devices(struct vm *vm, struct device **devices, unsigned n, struct error *err)
{
	struct region *mine = NULL, *other = NULL;
	struct edit *edits;
	unsigned nr = 0;
	int rc;

	rc = vm_check_names(vm, devices, n, err);
	if (rc)
		return rc;
	edits = calloc((size_t)n * DEVICE_REGIONS + 1, sizeof(*edits));
	if (!edits)
		return error_set(err, -ENOMEM, "no memory for %u devices", n);
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < devices[i]->nr_regions; j++)
			edits[nr++] = (struct edit){ .op = EDIT_ADD, .region = devices[i]->regions[j] };
	rc = nr ? bus_edit(vm->bus, edits, nr, &mine, &other) : 0;
	if (rc)
		rc = vm_edit_error(err, rc, mine, other);
	free(edits);
	if (rc)
		return rc;
	for (unsigned i = 0; i < n; i++)
		list_add_tail(&vm->devices, &devices[i]->node);
	return 0;
}

void vm_remove_device(struct device *dev)
{
	vm_unplug(dev);
	bus_drain(dev->vm->bus);
	vm_destroy(dev);
}

struct device *vm_device(struct vm *vm, const char *name)
{
	list_for_each (pos, &vm->devices) {
		struct device *dev = container_of(pos, struct device, node);

		if (!strcmp(dev->name, name))
			return dev;
	}
	return NULL;
}

void vm_reset(struct vm *vm)
{
	run_request(&vm->run, REASON_RESET);
}

void vm_stop(struct vm *vm, enum run_reason reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_request_text(&vm->run, reason, fmt, ap);
	va_end(ap);
}

bool vm_press(struct vm *vm, enum vm_button button)
{
	return vm->press && vm->press(vm->press_dev, button);
}

bool vm_key(struct vm *vm, const uint8_t *codes, size_t n)
{
	return vm->key && vm->key(vm->input_dev, codes, n);
}

bool vm_mouse(struct vm *vm, int dx, int dy, uint8_t buttons)
{
	return vm->mouse && vm->mouse(vm->input_dev, dx, dy, buttons);
}

bool vm_balloon(struct vm *vm, const uint64_t *want, struct vm_balloon *now)
{
	if (vm->balloon)
		vm->balloon(vm->balloon_arg, want, now);
	return vm->balloon;
}
