/* SPDX-License-Identifier: BSD-2-Clause */
/* pl061.c - the PL061; see pl061.h. Section numbers are DDI 0190's. */
#include "dev/pl061.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/vm.h"

#define SIZE 0x1000

/* How long a button stays down once the guest has seen it so: longer than Linux waits for a key to stop bouncing. */
#define HELD_NS (NSEC_PER_SEC / 10)

/*
 * 3.2: registers, and the PrimeCell's identity at the end. Bits 9 to 2 of an address
 * below GPIODIR are a mask of pins (3.3.1).
 */
enum {
	GPIODIR = 0x400,
	GPIOIS = 0x404,
	GPIOIBE = 0x408,
	GPIOIEV = 0x40c,
	GPIOIE = 0x410,
	GPIORIS = 0x414,
	GPIOMIS = 0x418,
	GPIOIC = 0x41c,
	GPIOAFSEL = 0x420,
	GPIO_IDS = 0xfe0,
};

static const uint8_t ids[] = { 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };

/* A bit a pin. */
struct pl061_state {
	uint8_t data;   /* what the guest drives its outputs to */
	uint8_t output; /* GPIODIR */
	uint8_t level, both, rising, enable, afsel;
	uint8_t edges;   /* seen, and not cleared */
	uint8_t input;   /* what is outside drives the pins to */
	uint8_t noticed; /* the button is down, and the guest has read that */
};

struct pl061 {
	struct device dev;
	struct region region;
	struct irq irq;
	struct timer release;
	uint8_t power;
	struct pl061_state state;
};

#define STATE struct pl061_state

static const struct field pl061_fields[] = {
	FIELD(STATE, data),
	FIELD(STATE, output),
	FIELD(STATE, level),
	FIELD(STATE, both),
	FIELD(STATE, rising),
	FIELD(STATE, enable),
	FIELD(STATE, afsel),
	FIELD(STATE, edges),
	FIELD(STATE, input),
	FIELD(STATE, noticed),
	FIELD_END,
};

static uint8_t pins(const STATE *s)
{
	return (uint8_t)((s->data & s->output) | (s->input & ~s->output));
}

/* 3.3.7; a pin that asks by its level does so as long as the level lasts. */
static uint8_t raw(const STATE *s)
{
	uint8_t asks = (uint8_t) ~(pins(s) ^ s->rising);

	return (uint8_t)((s->edges & ~s->level) | (asks & s->level));
}

/* After a change of what was `before`: edges (3.3.4 and 3.3.5), and the interrupt. */
static void follow(struct pl061 *gpio, uint8_t before)
{
	STATE *s = &gpio->state;
	uint8_t now = pins(s), changed = now ^ before;

	s->edges |= changed & ~s->level & (s->both | (uint8_t) ~(now ^ s->rising));
	irq_set(&gpio->irq, raw(s) & s->enable);
}

static void hold(struct pl061 *gpio)
{
	timer_arm(&gpio->release, clock_now(&gpio->dev.vm->clock) + HELD_NS);
}

static void let_go(void *arg)
{
	struct pl061 *gpio = arg;
	uint8_t before = pins(&gpio->state);

	gpio->state.input &= (uint8_t)~gpio->power;
	gpio->state.noticed = 0;
	follow(gpio, before);
}

static uint8_t read_pins(struct pl061 *gpio, uint8_t mask)
{
	STATE *s = &gpio->state;
	uint8_t value = pins(s) & mask;

	if (value & s->input & ~s->output & gpio->power && !s->noticed) {
		s->noticed = 1;
		hold(gpio);
	}
	return value;
}

static uint8_t pl061_read(struct pl061 *gpio, unsigned reg)
{
	const STATE *s = &gpio->state;

	switch (reg) {
	case GPIODIR:
		return s->output;
	case GPIOIS:
		return s->level;
	case GPIOIBE:
		return s->both;
	case GPIOIEV:
		return s->rising;
	case GPIOIE:
		return s->enable;
	case GPIORIS:
		return raw(s);
	case GPIOMIS:
		return raw(s) & s->enable;
	case GPIOAFSEL:
		return s->afsel;
	default:
		return reg >= GPIO_IDS ? ids[(reg - GPIO_IDS) / 4] : 0;
	}
}

static void pl061_write(struct pl061 *gpio, unsigned reg, uint8_t value)
{
	STATE *s = &gpio->state;

	switch (reg) {
	case GPIODIR:
		s->output = value;
		break;
	case GPIOIS:
		s->level = value;
		break;
	case GPIOIBE:
		s->both = value;
		break;
	case GPIOIEV:
		s->rising = value;
		break;
	case GPIOIE:
		s->enable = value;
		break;
	case GPIOIC:
		s->edges &= (uint8_t)~value;
		break;
	case GPIOAFSEL:
		s->afsel = value; /* no pin here has another use */
		break;
	default:
		break;
	}
}

/* Registers are 8 bits in words of 4 bytes. */
static void pl061_trap(void *dev, struct trap *trap)
{
	struct pl061 *gpio = dev;
	STATE *s = &gpio->state;
	unsigned reg = (unsigned)trap->offset;
	uint8_t before = pins(s), mask = (uint8_t)(reg >> 2);

	if (reg & 3)
		trap->value = 0;
	else if (!trap->write)
		trap->value = reg < GPIODIR ? read_pins(gpio, mask) : pl061_read(gpio, reg);
	else if (reg < GPIODIR)
		s->data = (uint8_t)((s->data & ~mask) | (trap->value & mask));
	else
		pl061_write(gpio, reg, (uint8_t)trap->value);
	if (trap->write)
		follow(gpio, before);
}

static bool pl061_press(struct device *dev, enum vm_button button)
{
	struct pl061 *gpio = container_of(dev, struct pl061, dev);
	STATE *s = &gpio->state;
	uint8_t before;
	bool listens;

	if (button != BUTTON_POWER)
		return false;
	pthread_mutex_lock(&dev->lock);
	/*
	 * One that is down still, as nobody has looked or has just done so: each
	 * press is an edge, so an interrupt. A driver that samples the pin later,
	 * as Linux's gpio-keys does, takes two within 100 ms for one.
	 */
	timer_cancel(&gpio->release);
	let_go(gpio);
	before = pins(s);
	s->input |= gpio->power;
	listens = s->enable & ~s->output & gpio->power;
	follow(gpio, before);
	pthread_mutex_unlock(&dev->lock);
	return listens;
}

/* After a restore too: wire and timer follow from the state. */
static void pl061_start(struct device *dev)
{
	struct pl061 *gpio = container_of(dev, struct pl061, dev);

	pthread_mutex_lock(&dev->lock);
	follow(gpio, pins(&gpio->state));
	if (gpio->state.noticed)
		hold(gpio);
	pthread_mutex_unlock(&dev->lock);
	dev->vm->press_dev = dev;
	dev->vm->press = pl061_press;
}

static void pl061_reset(struct device *dev)
{
	timer_cancel(&container_of(dev, struct pl061, dev)->release);
}

static int pl061_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct pl061_config *c = config;
	struct pl061 *gpio = calloc(1, sizeof(*gpio));

	if (!gpio)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&gpio->dev, &pl061_type, vm, name);
	gpio->power = (uint8_t)(1U << c->power);
	device_region(&gpio->dev, &gpio->region, "registers", SIZE, WIDTH_1 | WIDTH_2 | WIDTH_4, pl061_trap);
	device_irq(&gpio->dev, &gpio->irq, "pins", IRQ_LEVEL);
	timer_init(&gpio->release, &vm->clock, let_go, gpio, &gpio->dev.lock);
	*out = &gpio->dev;
	return 0;
}

static void pl061_destroy(struct device *dev)
{
	struct pl061 *gpio = container_of(dev, struct pl061, dev);

	if (dev->vm->press_dev == dev)
		dev->vm->press = NULL;
	timer_cancel(&gpio->release);
	device_fini(dev);
	free(gpio);
}

const struct device_type pl061_type = {
	.name = "pl061",
	.drivers = "pl061",
	.state = pl061_fields,
	.state_offset = offsetof(struct pl061, state),
	.create = pl061_create,
	.start = pl061_start,
	.reset = pl061_reset,
	.destroy = pl061_destroy,
};
