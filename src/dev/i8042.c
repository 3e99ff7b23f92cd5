/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * i8042.c - the keyboard controller; see i8042.h.
 *
 * One output buffer of a byte serves three sources, in this order: the controller's own replies, the keyboard, the
 * mouse. A byte that the guest has not read is never replaced: what comes next waits where it is.
 */
#include "dev/i8042.h"

#include <errno.h>
#include <stdlib.h>

#include "core/vm.h"
#include "desc/acpi.h"
#include "desc/aml.h"
#include "dev/ps2.h"

enum {
	STATUS_FULL = 0x01, /* output buffer */
	STATUS_SYSTEM = 0x04,
	STATUS_COMMAND = 0x08, /* the last write was to the command port */
	STATUS_UNLOCKED = 0x10,
	STATUS_AUX = 0x20, /* the output buffer's byte is the mouse's */

	/* The command byte, which is RAM byte 0. */
	CTR_KBD_IRQ = 0x01,
	CTR_AUX_IRQ = 0x02,
	CTR_SYSTEM = 0x04,
	CTR_KBD_OFF = 0x10,
	CTR_AUX_OFF = 0x20,
	CTR_TRANSLATE = 0x40,

	OUTPUT_NO_RESET = 0x01,
	OUTPUT_A20 = 0x02,
	OUTPUT_KBD_FULL = 0x10,
	OUTPUT_AUX_FULL = 0x20,
	OUTPUT_LINES = 0xc0, /* clock and data of the keyboard */

	INPUT_UNLOCKED = 0x80,

	CMD_READ_RAM = 0x20,      /* to 0x3f */
	CMD_WRITE_RAM = 0x60,     /* to 0x7f; data follows */
	CMD_PASSWORD = 0xa4,      /* is there one? */
	CMD_LOAD_PASSWORD = 0xa5, /* data follows, to a null byte */
	CMD_LOCK = 0xa6,          /* until the password was typed */
	CMD_AUX_OFF = 0xa7,
	CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_OFF = 0xad,
	CMD_KBD_ON = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_POLL_LOW = 0xc1, /* the input port's bits 0 to 3 in the status's 4 to 7, until the next write */
	CMD_POLL_HIGH = 0xc2,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1, /* data follows, to D4 */
	CMD_KBD_LOOP = 0xd2,
	CMD_AUX_LOOP = 0xd3,
	CMD_AUX_SEND = 0xd4,
	CMD_A20_OFF = 0xdd, /* these two are no command of IBM's, but of most controllers since */
	CMD_A20_ON = 0xdf,
	CMD_READ_TEST = 0xe0,
	CMD_PULSE = 0xf0, /* to 0xff */
};

#define I8042_RAM   32
#define SCAN_BREAK  0xf0
#define NO_PASSWORD 0xf1

struct i8042_state {
	uint8_t ram[I8042_RAM];
	uint8_t full, aux, out;               /* the output buffer */
	uint8_t reply_full, reply_aux, reply; /* a reply of the controller that waits for it */
	uint8_t command;                      /* whose data comes next; 0: none */
	uint8_t was_command;                  /* STATUS_COMMAND */
	uint8_t a20;
	uint8_t breaking; /* translation has seen SCAN_BREAK */
	struct ps2_kbd kbd;
	struct ps2_mouse mouse;
};

struct i8042 {
	struct device dev;
	struct region data, command;
	struct irq kbd_irq, mouse_irq;
	struct i8042_state state;
};

#define STATE struct i8042_state

static const struct field i8042_fields[] = {
	FIELD_ARRAY(STATE, ram),
	FIELD(STATE, full),
	FIELD(STATE, aux),
	FIELD(STATE, out),
	FIELD(STATE, reply_full),
	FIELD(STATE, reply_aux),
	FIELD(STATE, reply),
	FIELD(STATE, command),
	FIELD(STATE, was_command),
	FIELD(STATE, a20, .reset = 1),
	FIELD(STATE, breaking),
	FIELD(STATE, kbd.scanning),
	FIELD(STATE, kbd.set),
	FIELD(STATE, kbd.rate),
	FIELD(STATE, kbd.leds),
	FIELD(STATE, kbd.command),
	FIELD(STATE, kbd.last),
	FIELD(STATE, kbd.reply_head),
	FIELD(STATE, kbd.reply_len),
	FIELD_ARRAY(STATE, kbd.reply),
	FIELD(STATE, kbd.code_head),
	FIELD(STATE, kbd.code_len),
	FIELD_ARRAY(STATE, kbd.code),
	FIELD(STATE, mouse.reporting),
	FIELD(STATE, mouse.remote),
	FIELD(STATE, mouse.wrap),
	FIELD(STATE, mouse.scaling),
	FIELD(STATE, mouse.resolution),
	FIELD(STATE, mouse.rate),
	FIELD(STATE, mouse.command),
	FIELD(STATE, mouse.last),
	FIELD(STATE, mouse.buttons),
	FIELD(STATE, mouse.reported),
	FIELD(STATE, mouse.reply_head),
	FIELD(STATE, mouse.reply_len),
	FIELD_ARRAY(STATE, mouse.reply),
	FIELD(STATE, mouse.packet_at),
	FIELD(STATE, mouse.packet_len),
	FIELD_ARRAY(STATE, mouse.packet),
	FIELD(STATE, mouse.dx),
	FIELD(STATE, mouse.dy),
	FIELD_END,
};

/* The interrupt lines are the output buffer's flags, let through by the command byte. */
static void i8042_lines(struct i8042 *kbc)
{
	const STATE *s = &kbc->state;

	irq_set(&kbc->kbd_irq, s->full && !s->aux && s->ram[0] & CTR_KBD_IRQ);
	irq_set(&kbc->mouse_irq, s->full && s->aux && s->ram[0] & CTR_AUX_IRQ);
}

/* The next byte of the keyboard, translated if the controller does that; false: none. */
static bool i8042_next_code(STATE *s, uint8_t *byte)
{
	while (ps2_kbd_read(&s->kbd, byte)) {
		if (!(s->ram[0] & CTR_TRANSLATE)) {
			s->breaking = 0;
			return true;
		}
		if (*byte == SCAN_BREAK) {
			s->breaking = 0x80;
			continue;
		}
		*byte = ps2_set1(*byte) | s->breaking;
		s->breaking = 0;
		return true;
	}
	return false;
}

/* Fills the output buffer if it is empty, and drives the lines. */
static void i8042_pump(struct i8042 *kbc)
{
	STATE *s = &kbc->state;

	if (s->full) {
		; /* the guest has yet to read it */
	} else if (s->reply_full) {
		s->out = s->reply;
		s->aux = s->reply_aux;
		s->reply_full = 0;
		s->full = 1;
	} else if (!(s->ram[0] & CTR_KBD_OFF) && i8042_next_code(s, &s->out)) {
		s->aux = 0;
		s->full = 1;
	} else if (!(s->ram[0] & CTR_AUX_OFF) && ps2_mouse_read(&s->mouse, &s->out)) {
		s->aux = 1;
		s->full = 1;
	}
	i8042_lines(kbc);
}

/* A guest that sends a command before it read the last one's reply gets the newer. */
static void i8042_reply(STATE *s, uint8_t byte, bool aux)
{
	s->reply = byte;
	s->reply_aux = aux;
	s->reply_full = 1;
}

static uint8_t i8042_output_port(const STATE *s)
{
	return OUTPUT_NO_RESET | (s->a20 ? OUTPUT_A20 : 0) | OUTPUT_LINES | (s->full && !s->aux ? OUTPUT_KBD_FULL : 0) |
	       (s->full && s->aux ? OUTPUT_AUX_FULL : 0);
}

static void i8042_write_output_port(struct i8042 *kbc, uint8_t value)
{
	kbc->state.a20 = !!(value & OUTPUT_A20);
	if (!(value & OUTPUT_NO_RESET))
		vm_reset(kbc->dev.vm);
}

static void i8042_command(struct i8042 *kbc, uint8_t command)
{
	STATE *s = &kbc->state;

	s->command = 0;
	switch (command) {
	case CMD_READ_RAM ... CMD_READ_RAM + I8042_RAM - 1:
		i8042_reply(s, s->ram[command - CMD_READ_RAM], false);
		break;
	case CMD_WRITE_RAM ... CMD_WRITE_RAM + I8042_RAM - 1:
	case CMD_WRITE_OUTPUT ... CMD_AUX_SEND:
	case CMD_LOAD_PASSWORD:
	case CMD_POLL_LOW:
	case CMD_POLL_HIGH:
		s->command = command;
		break;
	case CMD_LOCK: /* no password is ever kept, so there is nothing to lock with */
		break;
	case CMD_A20_OFF:
	case CMD_A20_ON:
		s->a20 = command == CMD_A20_ON;
		break;
	case CMD_PASSWORD:
		i8042_reply(s, NO_PASSWORD, false);
		break;
	case CMD_AUX_OFF:
		s->ram[0] |= CTR_AUX_OFF;
		break;
	case CMD_AUX_ON:
		s->ram[0] &= ~CTR_AUX_OFF;
		break;
	case CMD_SELF_TEST:
		s->ram[0] |= CTR_SYSTEM;
		i8042_reply(s, 0x55, false);
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
	case CMD_READ_TEST:
		i8042_reply(s, 0x00, false);
		break;
	case CMD_KBD_OFF:
		s->ram[0] |= CTR_KBD_OFF;
		break;
	case CMD_KBD_ON:
		s->ram[0] &= ~CTR_KBD_OFF;
		break;
	case CMD_READ_INPUT:
		i8042_reply(s, INPUT_UNLOCKED, false);
		break;
	case CMD_READ_OUTPUT:
		i8042_reply(s, i8042_output_port(s), false);
		break;
	case CMD_PULSE ... 0xff:
		/* A bit that is clear pulses its line low; line 0 is the CPU's reset. */
		if (!(command & OUTPUT_NO_RESET))
			vm_reset(kbc->dev.vm);
		break;
	}
}

static void i8042_data(struct i8042 *kbc, uint8_t value)
{
	STATE *s = &kbc->state;
	uint8_t command = s->command;

	s->command = 0;
	switch (command) {
	case CMD_WRITE_RAM ... CMD_WRITE_RAM + I8042_RAM - 1:
		s->ram[command - CMD_WRITE_RAM] = value;
		break;
	case CMD_LOAD_PASSWORD:
		/* Taken off the wire, which it would else be on as the keyboard's commands, and forgotten. */
		if (value)
			s->command = command;
		break;
	case CMD_WRITE_OUTPUT:
		i8042_write_output_port(kbc, value);
		break;
	case CMD_KBD_LOOP:
		i8042_reply(s, value, false);
		break;
	case CMD_AUX_LOOP:
		i8042_reply(s, value, true);
		break;
	case CMD_AUX_SEND:
		ps2_mouse_write(&s->mouse, value);
		break;
	default:
		s->breaking = 0;
		ps2_kbd_write(&s->kbd, value);
	}
}

static void i8042_data_trap(void *arg, struct trap *trap)
{
	struct i8042 *kbc = arg;
	STATE *s = &kbc->state;

	if (trap->write) {
		s->was_command = 0;
		i8042_data(kbc, trap->value);
	} else {
		trap->value = s->out;
		s->full = 0;
		/* The line falls between two bytes: each is an edge of its own. */
		i8042_lines(kbc);
	}
	i8042_pump(kbc);
}

static void i8042_command_trap(void *arg, struct trap *trap)
{
	struct i8042 *kbc = arg;
	STATE *s = &kbc->state;

	if (trap->write) {
		s->was_command = 1;
		i8042_command(kbc, trap->value);
		i8042_pump(kbc);
		return;
	}
	/* Writes are taken at once: the input buffer is never seen full. */
	trap->value = STATUS_UNLOCKED | (s->full ? STATUS_FULL : 0) | (s->full && s->aux ? STATUS_AUX : 0) |
		      (s->was_command ? STATUS_COMMAND : 0) | (s->ram[0] & CTR_SYSTEM ? STATUS_SYSTEM : 0);
	if (s->command == CMD_POLL_LOW)
		trap->value = (trap->value & 0x0f) | (INPUT_UNLOCKED << 4 & 0xf0);
	else if (s->command == CMD_POLL_HIGH)
		trap->value = (trap->value & 0x0f) | (INPUT_UNLOCKED & 0xf0);
}

bool i8042_key(struct device *dev, const uint8_t *codes, size_t n)
{
	struct i8042 *kbc = container_of(dev, struct i8042, dev);
	bool queued;

	pthread_mutex_lock(&dev->lock);
	queued = ps2_kbd_key(&kbc->state.kbd, codes, n);
	i8042_pump(kbc);
	pthread_mutex_unlock(&dev->lock);
	return queued;
}

bool i8042_mouse(struct device *dev, int dx, int dy, uint8_t buttons)
{
	struct i8042 *kbc = container_of(dev, struct i8042, dev);
	bool told;

	pthread_mutex_lock(&dev->lock);
	told = ps2_mouse_move(&kbc->state.mouse, dx, dy, buttons) && !(kbc->state.ram[0] & CTR_AUX_OFF);
	i8042_pump(kbc);
	pthread_mutex_unlock(&dev->lock);
	return told;
}

static void i8042_reset(struct device *dev)
{
	struct i8042 *kbc = container_of(dev, struct i8042, dev);
	STATE *s = &kbc->state;

	s->ram[0] = CTR_KBD_IRQ | CTR_SYSTEM | CTR_AUX_OFF | CTR_TRANSLATE;
	ps2_kbd_reset(&s->kbd);
	ps2_mouse_reset(&s->mouse);
	i8042_pump(kbc);
}

static void i8042_start(struct device *dev)
{
	struct i8042 *kbc = container_of(dev, struct i8042, dev);

	pthread_mutex_lock(&dev->lock);
	ps2_kbd_sanitise(&kbc->state.kbd);
	ps2_mouse_sanitise(&kbc->state.mouse);
	i8042_pump(kbc);
	pthread_mutex_unlock(&dev->lock);
	dev->vm->input_dev = dev;
	dev->vm->key = i8042_key;
	dev->vm->mouse = i8042_mouse;
}

static int i8042_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	struct i8042 *kbc = calloc(1, sizeof(*kbc));

	if (!kbc)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&kbc->dev, &i8042_type, vm, name);
	device_region(&kbc->dev, &kbc->data, "keyboard data", 1, WIDTH_1, i8042_data_trap);
	device_region(&kbc->dev, &kbc->command, "keyboard command", 1, WIDTH_1, i8042_command_trap);
	device_irq(&kbc->dev, &kbc->kbd_irq, "keyboard", IRQ_EDGE);
	device_irq(&kbc->dev, &kbc->mouse_irq, "mouse", IRQ_EDGE);
	*out = &kbc->dev;
	return 0;
}

static void i8042_destroy(struct device *dev)
{
	if (dev->vm->input_dev == dev) {
		dev->vm->key = NULL;
		dev->vm->mouse = NULL;
	}
	device_fini(dev);
	free(container_of(dev, struct i8042, dev));
}

static void i8042_describe(struct aml *aml, const char *name, const char *hid, const struct device *wires)
{
	aml_device(aml, name);
	aml_name(aml, "_HID");
	aml_hid(aml, hid);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	acpi_resources(aml, wires);
	aml_end(aml);
	aml_end(aml);
}

/* To ACPI it is two devices, each with its own interrupt; the ports are the keyboard's. */
static void i8042_acpi(struct device *dev, struct aml *aml)
{
	struct i8042 *kbc = container_of(dev, struct i8042, dev);
	const struct device keyboard = {
		.regions = { &kbc->data, &kbc->command },
		.nr_regions = 2,
		.irqs = { &kbc->kbd_irq },
		.nr_irqs = 1,
	};
	const struct device mouse = { .irqs = { &kbc->mouse_irq }, .nr_irqs = 1 };

	i8042_describe(aml, "KBD", "PNP0303", &keyboard);
	i8042_describe(aml, "MOU", "PNP0F13", &mouse);
}

const struct device_type i8042_type = {
	.name = "i8042",
	.drivers = "keyboard",
	.state = i8042_fields,
	.state_offset = offsetof(struct i8042, state),
	.create = i8042_create,
	.start = i8042_start,
	.reset = i8042_reset,
	.destroy = i8042_destroy,
	.acpi = i8042_acpi,
};
