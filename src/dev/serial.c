/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serial.c - a 16550A between the bus and a chardev.
 *
 * Output: the chip is told that the wire has no room while the chardev's ring is full, so a guest that is
 * faster than its reader waits for an empty transmitter as on a slow line, and nothing is lost. Who waits for the
 * transmitter's interrupt does so for as long as it takes. Who polls for it spins on a vCPU, often with interrupts
 * off, and that a reader who has stopped reading shall not do to a guest: it waits for SERIAL_PATIENCE_NS, then
 * what finds no room is dropped and counted, until the reader has caught up by half.
 *
 * Input: the chardev keeps what it has until the chip has room. It keeps it too until the guest listens: a driver
 * empties the FIFO when it opens the port, and what a script has piped in while the guest still boots must
 * not go with it. A guest listens when it has raised RTS, as all drivers with a terminal behind them do; when the
 * receive interrupt is on, OUT2 lets it through, which no probe does, and the FIFO is on, for to switch that on empties
 * it and Linux does so last; when the interrupt was on for longer than a probe or such a moment takes, where OUT2 gates
 * nothing or there is no FIFO; or when it has looked for input again and again with nothing written in between, as
 * firmware does: then until the next driver sets the FIFO up. A driver that has raised RTS and lets it fall while its
 * interrupt is on wants no more for now, as on a cable whose other end has its CTS there.
 *
 * Nor does input come faster than a guest can live with. A driver reads on for as long as it finds something, in its
 * interrupt, and what it has read is lost if nobody comes to take it from the driver; a line that is never empty would
 * have it stay there. So after a FIFO's worth the line is quiet for as long as that took to be read: half of a vCPU is
 * left.
 */
#include "dev/serial.h"

#include <errno.h>
#include <stdlib.h>

#include "core/chardev.h"
#include "core/clock.h"
#include "core/vm.h"
#include "dev/uart16550.h"

#define SERIAL_LISTEN_NS   (NSEC_PER_SEC / 10) /* without OUT2 and FIFO to tell: the receive interrupt is on for good */
#define SERIAL_PATIENCE_NS (NSEC_PER_SEC / 5)
#define SERIAL_QUIET_NS    (NSEC_PER_SEC / 100) /* at most, between bursts of input */
#define SERIAL_POLLS       16                   /* reads of LSR in a row: more than a driver that sends makes */

struct serial {
	struct device dev;
	struct region region;
	struct irq irq;
	struct uart16550 uart;
	struct chardev *chardev;
	struct timer timeout; /* the chip's */
	struct timer listen, quiet;
	/* Not the guest's to see, and not worth saving: at worst, input comes a moment sooner. */
	uint64_t listen_at; /* clock ns from when IER means it; CLOCK_NEVER: receive interrupt off */
	unsigned polls;
	bool polled;     /* there were SERIAL_POLLS of them */
	bool rts;        /* the driver has raised it, since it set the FIFO up */
	unsigned burst;  /* bytes of input since `burst_at`, ns, without an end of what there was */
	bool burst_over; /* there was no more input: the next begins one */
	uint64_t burst_at, quiet_until;
	unsigned urgent; /* what goes before all input: 2, a break and then the key; 1, the key; 0, nothing */
	uint8_t urgent_key;
	uint64_t blocked_at; /* clock ns from when the reader is behind; CLOCK_NEVER: it is not */
};

static void serial_irq(void *arg, bool level)
{
	struct serial *serial = arg;

	irq_set(&serial->irq, level);
}

static uint64_t serial_now(void *arg)
{
	struct serial *serial = arg;

	return clock_now(&serial->dev.vm->clock);
}

static bool serial_room(void *arg)
{
	struct serial *serial = arg;
	size_t room = chardev_room(serial->chardev);
	uint64_t now;

	if (room > CHARDEV_OUT_SIZE / 2)
		serial->blocked_at = CLOCK_NEVER;
	if (room)
		return true;
	now = serial_now(serial);
	if (serial->blocked_at == CLOCK_NEVER)
		serial->blocked_at = now;
	return !(serial->uart.state.ier & UART_IER_TX) && now - serial->blocked_at >= SERIAL_PATIENCE_NS;
}

static void serial_send(void *arg, uint8_t byte)
{
	struct serial *serial = arg;

	chardev_put(serial->chardev, byte);
}

static void serial_wake(void *arg, uint64_t deadline)
{
	struct serial *serial = arg;

	timer_arm(&serial->timeout, deadline);
}

static void serial_line(void *arg, bool low)
{
	struct serial *serial = arg;

	chardev_break(serial->chardev, low);
}

static const struct uart16550_ops serial_ops = {
	.irq = serial_irq,
	.room = serial_room,
	.send = serial_send,
	.now = serial_now,
	.wake = serial_wake,
	.line = serial_line,
};

static bool serial_listens(struct serial *serial)
{
	if (serial->uart.state.mcr & UART_MCR_RTS || serial->polled)
		return true;
	if (serial->rts)
		return false;
	if (serial->listen_at == CLOCK_NEVER)
		return false;
	return serial_now(serial) >= serial->listen_at;
}

/* How many bytes of input may follow those before; 0: none for now, and what tells when is on its way. */
static unsigned serial_burst(struct serial *serial)
{
	uint64_t now = serial_now(serial), took = now - serial->burst_at;

	if (now < serial->quiet_until)
		return 0;
	if (serial->burst_over) {
		serial->burst = 0;
		serial->burst_over = false;
	}
	if (serial->burst < UART_FIFO)
		return UART_FIFO - serial->burst;
	/* The last read comes here too. */
	if (serial->uart.state.rx_len)
		return 0;
	serial->burst = 0;
	serial->quiet_until = now + (took < SERIAL_QUIET_NS ? took : SERIAL_QUIET_NS);
	if (serial->quiet_until == now)
		return UART_FIFO;
	timer_arm(&serial->quiet, serial->quiet_until);
	return 0;
}

/* With the device's lock held: moves input to the chip, as much as it takes. */
static void serial_fill(struct serial *serial)
{
	uint8_t bytes[UART_FIFO];
	unsigned room, more;
	size_t n;

	for (; serial->urgent && uart16550_room(&serial->uart); serial->urgent--) {
		if (serial->urgent == 2)
			uart16550_receive(&serial->uart, 0, UART_LSR_BI);
		else
			uart16550_receive(&serial->uart, serial->urgent_key, 0);
	}
	room = serial->urgent ? 0 : uart16550_room(&serial->uart);
	if (!serial->chardev || !room || !serial_listens(serial))
		return;
	more = serial_burst(serial);
	room = room < more ? room : more;
	if (!room)
		return;
	n = chardev_get(serial->chardev, bytes, room);
	if (n && !serial->burst)
		serial->burst_at = serial_now(serial);
	serial->burst += (unsigned)n;
	serial->burst_over = n < room;
	for (size_t i = 0; i < n; i++)
		uart16550_receive(&serial->uart, bytes[i], 0);
}

/* Keeps account of whether the guest listens. */
static void serial_watch(struct serial *serial, const struct trap *trap)
{
	const struct uart16550_state *state = &serial->uart.state;
	bool gates = serial->uart.out2_gates_irq;
	/* A guest that reads LSR for want of an empty transmitter does not look for input. */
	bool looks = !trap->write && trap->offset == UART_LSR && trap->value & UART_LSR_THRE;

	if (trap->write || (trap->offset == UART_LSR && !looks))
		serial->polls = 0;
	else if (looks && ++serial->polls == SERIAL_POLLS)
		serial->polled = true;
	if (trap->write && trap->offset == UART_IIR_FCR)
		serial->polled = serial->rts = false;
	/* In loopback it does not leave the chip. */
	if ((state->mcr & (UART_MCR_RTS | UART_MCR_LOOP)) == UART_MCR_RTS)
		serial->rts = true;
	if (!(state->ier & UART_IER_RX) || (gates && !(state->mcr & UART_MCR_OUT2))) {
		serial->listen_at = CLOCK_NEVER;
	} else if (gates && state->fcr & UART_FCR_ENABLE) {
		serial->listen_at = 0;
	} else if (serial->listen_at == CLOCK_NEVER) {
		serial->listen_at = serial_now(serial) + SERIAL_LISTEN_NS;
		timer_arm(&serial->listen, serial->listen_at);
	}
}

static void serial_trap(void *arg, struct trap *trap)
{
	struct serial *serial = arg;

	/* Who looks whether the transmitter is empty may be at the end of our patience. */
	if (trap->offset == UART_LSR && serial->uart.state.tx_len)
		uart16550_writable(&serial->uart);
	if (trap->write)
		uart16550_write(&serial->uart, trap->offset, trap->value);
	else
		trap->value = uart16550_read(&serial->uart, trap->offset);
	serial_watch(serial, trap);
	/* What makes room, or makes the guest a listener. Data written is neither, and much the most frequent. */
	if (trap->offset != UART_DATA || !trap->write)
		serial_fill(serial);
}

/* On the event loop's thread, as the next one. */
static void serial_readable(void *arg)
{
	struct serial *serial = arg;

	pthread_mutex_lock(&serial->dev.lock);
	serial_fill(serial);
	pthread_mutex_unlock(&serial->dev.lock);
}

static void serial_writable(void *arg)
{
	struct serial *serial = arg;

	pthread_mutex_lock(&serial->dev.lock);
	uart16550_writable(&serial->uart);
	pthread_mutex_unlock(&serial->dev.lock);
}

/* A guest may be past listening to anything else: it goes in whether or not it listens. */
static void serial_broken(void *arg, uint8_t key)
{
	struct serial *serial = arg;

	pthread_mutex_lock(&serial->dev.lock);
	serial->urgent = 2;
	serial->urgent_key = key;
	serial_fill(serial);
	pthread_mutex_unlock(&serial->dev.lock);
}

/* Timers: with the device's lock held. */
static void serial_timeout(void *arg)
{
	struct serial *serial = arg;

	uart16550_tick(&serial->uart);
}

static void serial_go_on(void *arg)
{
	serial_fill(arg);
}

static int serial_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct serial_config *c = config;
	struct serial *serial = calloc(1, sizeof(*serial));

	if (!serial)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&serial->dev, &serial_type, vm, name);
	device_region(&serial->dev, &serial->region, "serial", NR_UART_REGS, WIDTH_1, serial_trap);
	device_irq(&serial->dev, &serial->irq, "serial", c->trigger);
	uart16550_init(
		&serial->uart, &serial_ops, serial, c->clock_hz ? c->clock_hz : SERIAL_CLOCK_HZ, c->out2_gates_irq);
	timer_init(&serial->timeout, &vm->clock, serial_timeout, serial, &serial->dev.lock);
	timer_init(&serial->listen, &vm->clock, serial_go_on, serial, &serial->dev.lock);
	timer_init(&serial->quiet, &vm->clock, serial_go_on, serial, &serial->dev.lock);
	serial->listen_at = serial->blocked_at = CLOCK_NEVER;
	serial->chardev = c->chardev ? c->chardev : vm->ports[c->line];
	if (serial->chardev) {
		serial->chardev->readable = serial_readable;
		serial->chardev->readable_arg = serial;
		serial->chardev->writable = serial_writable;
		serial->chardev->writable_arg = serial;
		serial->chardev->broken = serial_broken;
		serial->chardev->broken_arg = serial;
	}
	*out = &serial->dev;
	return 0;
}

static void serial_reset(struct device *dev)
{
	struct serial *serial = container_of(dev, struct serial, dev);

	serial->listen_at = serial->blocked_at = CLOCK_NEVER;
	serial->polls = serial->urgent = serial->burst = 0;
	serial->polled = serial->rts = false;
	uart16550_sync(&serial->uart);
}

/* After a restore: pin and timer follow from the state. */
static void serial_start(struct device *dev)
{
	struct serial *serial = container_of(dev, struct serial, dev);

	pthread_mutex_lock(&dev->lock);
	uart16550_sync(&serial->uart);
	serial_fill(serial);
	pthread_mutex_unlock(&dev->lock);
}

static void serial_destroy(struct device *dev)
{
	struct serial *serial = container_of(dev, struct serial, dev);

	if (serial->chardev) {
		serial->chardev->readable = NULL;
		serial->chardev->writable = NULL;
		serial->chardev->broken = NULL;
	}
	timer_cancel(&serial->timeout);
	timer_cancel(&serial->listen);
	timer_cancel(&serial->quiet);
	device_fini(dev);
	free(serial);
}

const struct device_type serial_type = {
	.name = "serial",
	.acpi_hid = "PNP0501",
	.drivers = "serial",
	.state = uart16550_fields,
	.state_offset = offsetof(struct serial, uart.state),
	.create = serial_create,
	.start = serial_start,
	.reset = serial_reset,
	.destroy = serial_destroy,
};
