/* SPDX-License-Identifier: BSD-2-Clause */
/* acpi_pm.c - ACPI fixed hardware; see acpi_pm.h. Section numbers are the ACPI specification's, 6.4. */
#include "dev/acpi_pm.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/vm.h"

enum {
	/* Status, and at the same bits enable (4.8.3.1). */
	PM1_TIMER = 0x0001,
	PM1_GLOBAL = 0x0020,
	PM1_POWER_BUTTON = 0x0100,
	PM1_SLEEP_BUTTON = 0x0200,
	PM1_RTC = 0x0400,
	/* Status only. */
	PM1_BUS_MASTER = 0x0010,
	PM1_WAKE = 0x8000,

	PM1_ENABLES = PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC,
	PM1_STATUSES = PM1_ENABLES | PM1_BUS_MASTER | PM1_WAKE,

	/* Control (4.8.3.2). */
	PM1_SCI_ENABLED = 0x0001,
	PM1_BUS_MASTER_RELOAD = 0x0002,
	PM1_SLEEP_SHIFT = 10,
	PM1_SLEEP_TYPE = 7 << PM1_SLEEP_SHIFT,
	PM1_SLEEP = 0x2000, /* for writing only */
};

struct acpi_pm_state {
	uint16_t status, enable, control;
	uint64_t seen; /* timer ticks up to which PM1_TIMER is accounted for */
};

struct acpi_pm {
	struct device dev;
	struct region event, control, timer, reset;
	struct irq sci;
	struct timer wrap; /* runs while the timer's interrupt is enabled and not up */
	struct acpi_pm_state state;
};

#define STATE struct acpi_pm_state

static const struct field acpi_pm_fields[] = {
	FIELD(STATE, status),
	FIELD(STATE, enable),
	FIELD(STATE, control),
	/* Guest time goes on over a reset, and so does this. */
	FIELD(STATE, seen, .keep = true),
	FIELD_END,
};

static uint64_t acpi_pm_ticks(uint64_t ns)
{
	return ns / NSEC_PER_SEC * ACPI_PM_TIMER_HZ + ns % NSEC_PER_SEC * ACPI_PM_TIMER_HZ / NSEC_PER_SEC;
}

/* The clock's time at a tick, rounded up. */
static uint64_t acpi_pm_tick_ns(uint64_t ticks)
{
	return ticks / ACPI_PM_TIMER_HZ * NSEC_PER_SEC +
	       (ticks % ACPI_PM_TIMER_HZ * NSEC_PER_SEC + ACPI_PM_TIMER_HZ - 1) / ACPI_PM_TIMER_HZ;
}

/* Sets the timer's status for a change of its highest bit (4.8.3.3); drives the SCI. */
static void acpi_pm_update(struct acpi_pm *pm)
{
	STATE *s = &pm->state;
	uint64_t ticks = acpi_pm_ticks(clock_now(&pm->dev.vm->clock));

	if (ticks >> 31 != s->seen >> 31)
		s->status |= PM1_TIMER;
	s->seen = ticks;
	irq_set(&pm->sci, s->status & s->enable & PM1_ENABLES);
	if (s->enable & ~s->status & PM1_TIMER)
		timer_arm(&pm->wrap, acpi_pm_tick_ns(((ticks >> 31) + 1) << 31));
	else
		timer_cancel(&pm->wrap);
}

static void acpi_pm_wrap(void *arg)
{
	acpi_pm_update(arg);
}

/* The bits of a register of `width` bytes at `at` that an access covers, in the register's place. */
static uint32_t acpi_pm_mask(const struct trap *trap, unsigned at, unsigned width)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < width; i++)
		if (at + i >= trap->offset && at + i < trap->offset + trap->len)
			mask |= 0xffULL << (8 * i);
	return (uint32_t)mask;
}

static void acpi_pm_event_trap(void *arg, struct trap *trap)
{
	struct acpi_pm *pm = arg;
	STATE *s = &pm->state;
	uint32_t value, mask = acpi_pm_mask(trap, 0, 4);

	acpi_pm_update(pm);
	if (!trap->write) {
		trap->value = ((uint32_t)s->enable << 16 | s->status) >> (8 * trap->offset);
		return;
	}
	value = (uint32_t)(trap->value << (8 * trap->offset)) & mask;
	/* Status is cleared by writing ones. */
	s->status &= ~value;
	s->enable = ((s->enable & ~(mask >> 16)) | value >> 16) & PM1_ENABLES;
	acpi_pm_update(pm);
}

static void acpi_pm_control_trap(void *arg, struct trap *trap)
{
	struct acpi_pm *pm = arg;
	STATE *s = &pm->state;
	uint16_t mask = (uint16_t)acpi_pm_mask(trap, 0, 2), value;

	if (!trap->write) {
		trap->value = (s->control | PM1_SCI_ENABLED) >> (8 * trap->offset);
		return;
	}
	value = (uint16_t)(s->control & ~mask) | ((trap->value << (8 * trap->offset)) & mask);
	s->control = value & (PM1_SLEEP_TYPE | PM1_BUS_MASTER_RELOAD);
	if (!(value & PM1_SLEEP))
		return;
	/* No other sleep state is offered: none of them has an object in the tables. */
	if ((value & PM1_SLEEP_TYPE) >> PM1_SLEEP_SHIFT == ACPI_PM_S5)
		vm_stop(pm->dev.vm, REASON_POWER_OFF, "ACPI S5");
	else
		__atomic_add_fetch(&pm->dev.vm->guest_faults, 1, __ATOMIC_RELAXED);
}

/* No lock: all that it touches is the clock, which has its own. Writes are ignored. */
static void acpi_pm_timer_trap(void *arg, struct trap *trap)
{
	struct acpi_pm *pm = arg;

	if (!trap->write)
		trap->value = (uint32_t)acpi_pm_ticks(clock_now(&pm->dev.vm->clock)) >> (8 * trap->offset);
}

static void acpi_pm_reset_trap(void *arg, struct trap *trap)
{
	struct acpi_pm *pm = arg;

	if (!trap->write)
		trap->value = 0;
	else if (trap->value == ACPI_PM_RESET_VALUE)
		vm_reset(pm->dev.vm);
}

/* As hardware does, the status is set whether or not anybody listens; a guest may poll it. */
static bool acpi_pm_press(struct device *dev, enum vm_button button)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);
	uint16_t bit = button == BUTTON_POWER ? PM1_POWER_BUTTON : PM1_SLEEP_BUTTON;
	bool listens;

	pthread_mutex_lock(&dev->lock);
	pm->state.status |= bit;
	listens = pm->state.enable & bit;
	acpi_pm_update(pm);
	pthread_mutex_unlock(&dev->lock);
	return listens;
}

static void acpi_pm_reset(struct device *dev)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);

	pm->state.seen = acpi_pm_ticks(clock_now(&dev->vm->clock));
	acpi_pm_update(pm);
}

/* After a restore: SCI and timer follow from the state. */
static void acpi_pm_start(struct device *dev)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);

	pthread_mutex_lock(&dev->lock);
	acpi_pm_update(pm);
	pthread_mutex_unlock(&dev->lock);
	dev->vm->press_dev = dev;
	dev->vm->press = acpi_pm_press;
}

static int acpi_pm_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&pm->dev, &acpi_pm_type, vm, name);
	/* In the order of the enum. The names are those by which Linux claims the blocks. */
	device_region(&pm->dev, &pm->event, "ACPI PM1a_EVT_BLK", 4, WIDTH_1 | WIDTH_2 | WIDTH_4, acpi_pm_event_trap);
	device_region(&pm->dev, &pm->control, "ACPI PM1a_CNT_BLK", 2, WIDTH_1 | WIDTH_2, acpi_pm_control_trap);
	device_region(&pm->dev, &pm->timer, "ACPI PM_TMR", 4, WIDTH_1 | WIDTH_2 | WIDTH_4, acpi_pm_timer_trap);
	/* Guests read the time on all vCPUs at once. */
	pm->timer.lock = NULL;
	device_region(&pm->dev, &pm->reset, "ACPI reset", 1, WIDTH_1, acpi_pm_reset_trap);
	device_irq(&pm->dev, &pm->sci, "sci", IRQ_LEVEL);
	timer_init(&pm->wrap, &vm->clock, acpi_pm_wrap, pm, &pm->dev.lock);
	*out = &pm->dev;
	return 0;
}

static void acpi_pm_destroy(struct device *dev)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);

	if (dev->vm->press_dev == dev)
		dev->vm->press = NULL;
	timer_cancel(&pm->wrap);
	device_fini(dev);
	free(pm);
}

const struct device_type acpi_pm_type = {
	.name = "acpi-pm",
	.drivers = "ACPI PM1a_EVT_BLK|ACPI PM1a_CNT_BLK|ACPI PM_TMR",
	.state = acpi_pm_fields,
	.state_offset = offsetof(struct acpi_pm, state),
	.create = acpi_pm_create,
	.start = acpi_pm_start,
	.reset = acpi_pm_reset,
	.destroy = acpi_pm_destroy,
};
