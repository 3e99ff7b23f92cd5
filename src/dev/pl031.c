/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pl031.c - the PL031; see pl031.h.
 *
 * Nothing ticks: the counter is computed from the wall clock when it is read, and whether it has passed the match
 * register is found from where it was last seen. A timer runs only while the guest wants the interrupt.
 */
#include "dev/pl031.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/vm.h"

#define SIZE 0x1000

/* 3.3: registers, and the PrimeCell's identity at the end. */
enum {
	RTC_DR = 0x000,
	RTC_MR = 0x004,
	RTC_LR = 0x008,
	RTC_CR = 0x00c,
	RTC_IMSC = 0x010,
	RTC_RIS = 0x014,
	RTC_MIS = 0x018,
	RTC_ICR = 0x01c,
	RTC_IDS = 0xfe0,
};

static const uint8_t ids[] = { 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };

struct pl031_state {
	int64_t offset; /* of the counter from the wall clock, in seconds */
	uint32_t match, load;
	uint32_t seen; /* the counter, up to which the match is accounted for */
	uint8_t mask, raised;
};

struct pl031 {
	struct device dev;
	struct region region;
	struct irq irq;
	struct timer timer;
	struct pl031_state state;
};

static const struct field pl031_fields[] = {
	FIELD(struct pl031_state, offset, .keep = true),
	FIELD(struct pl031_state, match),
	FIELD(struct pl031_state, load),
	FIELD(struct pl031_state, seen, .keep = true),
	FIELD(struct pl031_state, mask),
	FIELD(struct pl031_state, raised),
	FIELD_END,
};

static struct pl031 *to_pl031(struct device *dev)
{
	return container_of(dev, struct pl031, dev);
}

static int64_t wall_seconds(struct pl031 *rtc)
{
	int64_t ns = clock_wall(&rtc->dev.vm->clock), s = ns / (int64_t)NSEC_PER_SEC;

	return ns % (int64_t)NSEC_PER_SEC < 0 ? s - 1 : s;
}

static uint32_t counter(struct pl031 *rtc)
{
	return (uint32_t)(wall_seconds(rtc) + rtc->state.offset);
}

/* When the counter will match, on the machine's clock: at the beginning of that second. */
static void set_timer(struct pl031 *rtc)
{
	struct clock *clock = &rtc->dev.vm->clock;
	struct pl031_state *s = &rtc->state;
	int64_t into = clock_wall(clock) % (int64_t)NSEC_PER_SEC;

	if (!s->mask || s->raised) {
		timer_cancel(&rtc->timer);
		return;
	}
	if (into < 0)
		into += (int64_t)NSEC_PER_SEC;
	/* A whole round of the counter when it matches now: that match is past. */
	timer_arm(&rtc->timer,
		clock_now(clock) + (uint64_t)(s->match - s->seen - 1) * NSEC_PER_SEC + (NSEC_PER_SEC - (uint64_t)into));
}

/* Accounts for the time since it was last looked at. */
static void follow(struct pl031 *rtc)
{
	struct pl031_state *s = &rtc->state;
	uint32_t now = counter(rtc), passed = now - s->seen;

	/* A host's clock may be set back, which is no match. */
	if (passed <= INT32_MAX && s->match - s->seen - 1 < passed)
		s->raised = 1;
	s->seen = now;
	irq_set(&rtc->irq, s->raised & s->mask);
	set_timer(rtc);
}

static void due(void *arg)
{
	follow(arg);
}

static uint32_t pl031_read(struct pl031 *rtc, unsigned reg)
{
	const struct pl031_state *s = &rtc->state;

	switch (reg) {
	case RTC_DR:
		return s->seen;
	case RTC_MR:
		return s->match;
	case RTC_LR:
		return s->load;
	case RTC_CR:
		return 1; /* it runs, and nothing but a power cut stops it */
	case RTC_IMSC:
		return s->mask;
	case RTC_RIS:
		return s->raised;
	case RTC_MIS:
		return s->raised & s->mask;
	default:
		return reg >= RTC_IDS ? ids[(reg - RTC_IDS) / 4] : 0;
	}
}

static void pl031_write(struct pl031 *rtc, unsigned reg, uint32_t value)
{
	struct pl031_state *s = &rtc->state;

	switch (reg) {
	case RTC_MR:
		s->match = value;
		if (value == s->seen)
			s->raised = 1;
		break;
	case RTC_LR:
		s->load = value;
		s->offset = (int64_t)value - wall_seconds(rtc);
		s->seen = value;
		break;
	case RTC_IMSC:
		s->mask = value & 1;
		break;
	case RTC_ICR:
		if (value & 1)
			s->raised = 0;
		break;
	default:
		break;
	}
	follow(rtc);
}

static void pl031_trap(void *dev, struct trap *trap)
{
	struct pl031 *rtc = dev;
	unsigned reg = (unsigned)trap->offset;

	follow(rtc);
	if (trap->write)
		pl031_write(rtc, reg, (uint32_t)trap->value);
	else
		trap->value = pl031_read(rtc, reg);
}

static int pl031_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct pl031 *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&rtc->dev, &pl031_type, vm, name);
	device_region(&rtc->dev, &rtc->region, "registers", SIZE, WIDTH_4, pl031_trap);
	device_irq(&rtc->dev, &rtc->irq, "match", IRQ_LEVEL);
	timer_init(&rtc->timer, &vm->clock, due, rtc, &rtc->dev.lock);
	*out = &rtc->dev;
	return 0;
}

/* After a restore too: wire and timer follow from the state. */
static void pl031_start(struct device *dev)
{
	struct pl031 *rtc = to_pl031(dev);

	pthread_mutex_lock(&dev->lock);
	follow(rtc);
	pthread_mutex_unlock(&dev->lock);
}

/* Time that passes before anybody asks is no match. */
static void pl031_reset(struct device *dev)
{
	struct pl031 *rtc = to_pl031(dev);

	rtc->state.seen = counter(rtc);
	timer_cancel(&rtc->timer);
}

static void pl031_destroy(struct device *dev)
{
	struct pl031 *rtc = to_pl031(dev);

	timer_cancel(&rtc->timer);
	device_fini(dev);
	free(rtc);
}

const struct device_type pl031_type = {
	.name = "pl031",
	.drivers = "rtc-pl031",
	.state = pl031_fields,
	.state_offset = offsetof(struct pl031, state),
	.create = pl031_create,
	.start = pl031_start,
	.reset = pl031_reset,
	.destroy = pl031_destroy,
};
