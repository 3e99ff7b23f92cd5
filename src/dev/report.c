/* SPDX-License-Identifier: BSD-2-Clause */
/* report.c - what a guest tells its host; see report.h. */
#include "dev/report.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/vm.h"

struct pvpanic {
	struct device dev;
	struct region region;
};

struct report {
	struct device dev;
	struct region exit, ready;
	bool takes_status;
	struct report_state {
		uint8_t ready;
	} state;
};

static const struct field report_fields[] = {
	FIELD(struct report_state, ready),
	FIELD_END,
};

static void report_fault(struct device *dev)
{
	__atomic_add_fetch(&dev->vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static void pvpanic_trap(void *arg, struct trap *trap)
{
	struct pvpanic *panic = arg;

	if (!trap->write)
		trap->value = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
	else if (trap->value & PVPANIC_PANICKED)
		vm_stop(panic->dev.vm, REASON_PANIC, "the guest has panicked, says its pvpanic driver");
	else if (!(trap->value & PVPANIC_CRASH_LOADED))
		report_fault(&panic->dev);
}

static int pvpanic_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct pvpanic *panic = calloc(1, sizeof(*panic));

	if (!panic)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&panic->dev, &pvpanic_type, vm, name);
	device_region(&panic->dev, &panic->region, "pvpanic", 1, WIDTH_1, pvpanic_trap);
	*out = &panic->dev;
	return 0;
}

static void pvpanic_destroy(struct device *dev)
{
	device_fini(dev);
	free(container_of(dev, struct pvpanic, dev));
}

const struct device_type pvpanic_type = {
	.name = "pvpanic",
	.acpi_hid = "QEMU0001",
	.drivers = "QEMU0001", /* the platform device claims, by its own name */
	.create = pvpanic_create,
	.destroy = pvpanic_destroy,
};

/* One status: the first, as of a process. It has to be there before anybody sees the request. */
static void report_exit_trap(void *arg, struct trap *trap)
{
	struct report *report = arg;
	struct vm *vm = report->dev.vm;
	uint32_t none = 0, status = VM_STATUS_GIVEN | (uint8_t)trap->value;

	if (!report->takes_status) {
		if (trap->write)
			report_fault(&report->dev);
		return;
	}
	if (!trap->write) {
		trap->value = 0;
		return;
	}
	if (trap->offset == 0 && __atomic_compare_exchange_n(
					 &vm->guest_status, &none, status, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		vm_stop(vm, REASON_GUEST_STATUS, "status %u", status & 0xff);
	else
		report_fault(&report->dev);
}

static void report_ready_trap(void *arg, struct trap *trap)
{
	struct report *report = arg;

	if (!trap->write) {
		trap->value = report->state.ready;
	} else if (trap->value == REPORT_READY_VALUE && !report->state.ready) {
		uint64_t now = clock_now(&report->dev.vm->clock);

		report->state.ready = 1;
		__atomic_store_n(&report->dev.vm->ready_at, now ? now : 1, __ATOMIC_RELEASE);
	} else {
		report_fault(&report->dev);
	}
}

static int report_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct report_config *c = config;
	struct report *report = calloc(1, sizeof(*report));

	if (!report)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&report->dev, &report_type, vm, name);
	device_region(
		&report->dev, &report->exit, "exit", REPORT_EXIT_SIZE, WIDTH_1 | WIDTH_2 | WIDTH_4, report_exit_trap);
	device_region(&report->dev, &report->ready, "ready", 1, WIDTH_1, report_ready_trap);
	report->takes_status = c && c->exit;
	*out = &report->dev;
	return 0;
}

/* A new life of the guest's, which is not ready. */
static void report_reset(struct device *dev)
{
	__atomic_store_n(&dev->vm->ready_at, 0, __ATOMIC_RELEASE);
}

static void report_destroy(struct device *dev)
{
	device_fini(dev);
	free(container_of(dev, struct report, dev));
}

const struct device_type report_type = {
	.name = "report",
	.state = report_fields,
	.state_offset = offsetof(struct report, state),
	.create = report_create,
	.reset = report_reset,
	.destroy = report_destroy,
};
