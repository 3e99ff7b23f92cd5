/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * console.c - a virtio console with several ports (virtio 1.2, section 5.3).
 *
 * Each port is a pair of queues before a chardev; one more pair carries control messages. All of it is served on the
 * event loop's thread, where the chardevs call back too, so ports need no lock.
 *
 * Output that finds no room keeps its chain until the chardev has some: a slow reader stalls its own port only. Input
 * stays with the chardev until the driver has a buffer.
 *
 * What the device has to tell of a port is kept as a bit for each kind of message, and a message is made when the
 * driver has a buffer for it: a driver that asks again and again makes nothing grow.
 *
 * A shared port has its chardev only while the driver has the port open (without MULTIPORT: from its first kick to its
 * reset; Linux opens a console's port when it finds it). Before and after, the serial port has it, whose callbacks are
 * kept meanwhile.
 */
#include "virtio/console.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>

#include "core/chardev.h"

#define QUEUE_SIZE 128
#define CHUNK      1024 /* bytes moved at a time */

enum { RX0, TX0, CONTROL_RX, CONTROL_TX, RX1 };

/* In the order in which they go out: a port has to be there, and a console, before more is said of it. */
enum message { MESSAGE_ADD, MESSAGE_CONSOLE, MESSAGE_RESIZE, MESSAGE_OPEN, NR_MESSAGES };

static const uint16_t events[] = {
	[MESSAGE_ADD] = VIRTIO_CONSOLE_PORT_ADD,
	[MESSAGE_CONSOLE] = VIRTIO_CONSOLE_CONSOLE_PORT,
	[MESSAGE_RESIZE] = VIRTIO_CONSOLE_RESIZE,
	[MESSAGE_OPEN] = VIRTIO_CONSOLE_PORT_OPEN,
};
_Static_assert(sizeof(events) / sizeof(events[0]) == NR_MESSAGES, "an event for each message");

/* Who is told of a chardev's input and room. */
struct callbacks {
	void (*readable)(void *arg);
	void *readable_arg;
	void (*writable)(void *arg);
	void *writable_arg;
};

struct port {
	struct vconsole *console;
	unsigned number;
	struct chardev *chardev;  /* NULL: nobody is behind it */
	bool shared, taken;       /* taken: its callbacks are the chardev's */
	struct callbacks before;  /* whose they were */
	struct virtq_chain *held; /* output for which there was no room */
	uint8_t due;              /* messages, a bit each */
	bool ready;               /* the driver has the port */
	uint16_t cols, rows;      /* of the terminal behind it; 0: it is none */
};

struct vconsole {
	struct virtio v; /* first */
	struct virtio_console_config config;
	struct port ports[VM_HVCS];
	unsigned nr_ports;
};

static struct vconsole *console_of(struct virtio *v)
{
	return container_of(v, struct vconsole, v);
}

static unsigned rx_of(const struct port *port)
{
	return port->number ? RX1 + 2 * (port->number - 1) : RX0;
}

static unsigned tx_of(const struct port *port)
{
	return rx_of(port) + 1;
}

/* NULL for the control queues. */
static struct port *port_of(struct vconsole *console, unsigned index)
{
	if (index < CONTROL_RX)
		return &console->ports[0];
	return index < RX1 ? NULL : &console->ports[(index - RX1) / 2 + 1];
}

static struct virtq *queue_of(struct vconsole *console, unsigned index)
{
	return &console->v.queues[index]->q;
}

/* ---- a chardev's callbacks ---- */

static void port_readable(void *arg)
{
	struct port *port = arg;

	virtio_kick(&port->console->v, rx_of(port));
}

static void port_writable(void *arg)
{
	struct port *port = arg;

	virtio_kick(&port->console->v, tx_of(port));
}

static void port_take(struct port *port)
{
	struct chardev *c = port->chardev;

	if (!c || port->taken)
		return;
	port->before = (struct callbacks){ c->readable, c->readable_arg, c->writable, c->writable_arg };
	c->readable = port_readable;
	c->readable_arg = port;
	c->writable = port_writable;
	c->writable_arg = port;
	port->taken = true;
}

static void port_give_back(struct port *port)
{
	struct chardev *c = port->chardev;

	if (!c || !port->taken)
		return;
	c->readable = port->before.readable;
	c->readable_arg = port->before.readable_arg;
	c->writable = port->before.writable;
	c->writable_arg = port->before.writable_arg;
	port->taken = false;
	/* Whatever came meanwhile is the other's now. */
	if (c->readable)
		c->readable(c->readable_arg);
	if (c->writable)
		c->writable(c->writable_arg);
}

/* ---- data ---- */

static void give(struct port *port, struct virtq_chain *chain)
{
	uint8_t bytes[CHUNK];
	uint64_t written = 0;

	while (written < chain->in_len) {
		uint64_t room = chain->in_len - written;
		size_t n = chardev_get(port->chardev, bytes, room < CHUNK ? (size_t)room : CHUNK);

		if (!n)
			break;
		written += virtq_write(chain, bytes, n);
	}
	virtq_push(chain, (uint32_t)written);
}

/* Buffers that wait for input are no reason to look again: port_readable() comes. */
static void serve_rx(struct port *port)
{
	struct virtq *q = queue_of(port->console, rx_of(port));
	struct virtq_chain *chain;
	unsigned n = 0;
	int r = 0;

	virtq_kicks_off(q);
	for (; n < VIRTIO_TURN && port->taken && chardev_has_input(port->chardev); n++) {
		r = virtq_pop(q, &chain);
		if (r == 1)
			give(port, chain);
		else if (r < 0 || !virtq_kicks_on(q))
			break;
	}
	virtq_notify(q);
	if (n == VIRTIO_TURN || r == -ENOMEM)
		virtio_kick(&port->console->v, rx_of(port));
}

/* At most *budget bytes. Whether all of the chain is out; if not, either there is no room or the budget is spent. */
static bool put_chain(struct port *port, struct virtq_chain *chain, size_t *budget)
{
	uint8_t bytes[CHUNK];

	while (port->chardev && chain->out_at < chain->out_len) {
		size_t room = chardev_room(port->chardev);
		uint64_t n;

		room = room < *budget ? room : *budget;
		if (!room)
			return false;
		n = virtq_read(chain, bytes, room < CHUNK ? room : CHUNK);
		for (uint64_t i = 0; i < n; i++)
			chardev_put(port->chardev, bytes[i]);
		*budget -= n;
	}
	return true;
}

static void serve_tx(struct port *port)
{
	struct virtq *q = queue_of(port->console, tx_of(port));
	size_t budget = CHARDEV_OUT_SIZE;
	unsigned n = 0;
	int r = 1;

	virtq_kicks_off(q);
	for (; n < VIRTIO_TURN && budget; n++) {
		if (!port->held)
			r = virtq_pop(q, &port->held);
		if (r < 0 || (r == 0 && !virtq_kicks_on(q)))
			break;
		if (!port->held)
			continue;
		if (!put_chain(port, port->held, &budget))
			break;
		virtq_push(port->held, 0);
		port->held = NULL;
	}
	virtq_notify(q);
	/* Where there is no room, port_writable() comes. */
	if (n == VIRTIO_TURN || !budget || r == -ENOMEM)
		virtio_kick(&port->console->v, tx_of(port));
}

/* ---- control ---- */

static void send_message(struct vconsole *console, struct port *port, enum message kind, struct virtq_chain *chain)
{
	struct {
		struct virtio_console_control head;
		uint16_t cols, rows; /* 5.3.6.2 */
	} __attribute__((packed)) message = {
		.head = { .id = htole32(port->number), .event = htole16(events[kind]), .value = htole16(1) },
		.rows = htole16(port->rows),
		.cols = htole16(port->cols),
	};
	uint64_t len = kind == MESSAGE_RESIZE ? sizeof(message) : sizeof(message.head);

	virtq_push(chain, (uint32_t)virtq_write(chain, &message, len));
}

static void serve_control_rx(struct vconsole *console)
{
	struct virtq *q = queue_of(console, CONTROL_RX);

	for (unsigned i = 0; i < console->nr_ports; i++) {
		struct port *port = &console->ports[i];

		for (unsigned kind = 0; kind < NR_MESSAGES; kind++) {
			struct virtq_chain *chain;

			if (!(port->due >> kind & 1))
				continue;
			if (virtq_pop(q, &chain) <= 0) /* the driver's next buffer comes with a kick */
				return;
			port->due &= (uint8_t) ~(1U << kind);
			send_message(console, port, kind, chain);
			virtq_notify(q);
		}
	}
}

static void port_is_ready(struct port *port)
{
	port->ready = true;
	port->due |= 1U << MESSAGE_CONSOLE | 1U << MESSAGE_OPEN;
	if (port->cols)
		port->due |= 1U << MESSAGE_RESIZE;
}

/* The driver's word (5.3.6.2); what makes no sense is ignored. */
static void hear(struct vconsole *console, const struct virtio_console_control *message)
{
	uint32_t id = le32toh(message->id);
	uint16_t event = le16toh(message->event), value = le16toh(message->value);
	struct port *port = id < console->nr_ports ? &console->ports[id] : NULL;

	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned i = 0; value == 1 && i < console->nr_ports; i++)
			console->ports[i].due |= 1U << MESSAGE_ADD;
	} else if (event == VIRTIO_CONSOLE_PORT_READY && port && value == 1) {
		port_is_ready(port);
	} else if (event == VIRTIO_CONSOLE_PORT_OPEN && port) {
		if (value) {
			port_take(port);
			virtio_kick(&console->v, rx_of(port));
		} else if (port->shared) {
			port_give_back(port);
		}
	}
}

static void hear_chain(struct virtio *v, unsigned index, struct virtq_chain *chain)
{
	struct virtio_console_control message;

	if (virtq_read(chain, &message, sizeof(message)) == sizeof(message))
		hear(console_of(v), &message);
	virtq_push(chain, 0);
}

static void console_serve(struct virtio *v, unsigned index)
{
	struct vconsole *console = console_of(v);
	struct port *port = port_of(console, index);

	if (index == CONTROL_RX) {
		serve_control_rx(console);
	} else if (index == CONTROL_TX) {
		virtio_take(v, index, hear_chain);
		virtio_kick(v, CONTROL_RX);
	} else {
		/* A driver without ports says nothing of opening its one. */
		if (!virtio_has(v, VIRTIO_CONSOLE_F_MULTIPORT))
			port_take(port);
		if (index == rx_of(port))
			serve_rx(port);
		else
			serve_tx(port);
	}
}

static void console_quiesce(struct virtio *v, unsigned index)
{
	struct port *port = port_of(console_of(v), index);

	if (port && index == tx_of(port) && port->held) {
		virtq_drop(port->held);
		port->held = NULL;
	}
	if (port && port->shared)
		port_give_back(port);
	virtio_quiet(v, index);
}

static void console_reset(struct virtio *v)
{
	struct vconsole *console = console_of(v);

	for (unsigned i = 0; i < console->nr_ports; i++) {
		console->ports[i].due = 0;
		console->ports[i].ready = false;
	}
}

/*
 * A kernel that panics, or has no queue yet, writes here (5.3.4). Never waits: what finds no room is dropped, counted.
 */
static void console_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	if (offset == offsetof(struct virtio_console_config, emerg_wr))
		chardev_put(console_of(v)->ports[0].chardev, bytes[0]);
}

/* vm->resize. A driver without ports reads the first one's size in the config space. */
static void console_resize(void *arg, const struct chardev *chardev, uint16_t cols, uint16_t rows)
{
	struct vconsole *console = arg;
	struct virtio *v = &console->v;
	bool changed = false;

	/* A vCPU may reset the device meanwhile. */
	pthread_mutex_lock(&v->transport->lock);
	for (unsigned i = 0; i < console->nr_ports; i++) {
		struct port *port = &console->ports[i];

		if (port->chardev != chardev || (port->cols == cols && port->rows == rows))
			continue;
		port->cols = cols;
		port->rows = rows;
		if (port->ready)
			port->due |= 1U << MESSAGE_RESIZE;
		if (i == 0) {
			console->config.cols = htole16(cols);
			console->config.rows = htole16(rows);
			changed = true;
		}
	}
	pthread_mutex_unlock(&v->transport->lock);
	if (changed)
		virtio_config_changed(v);
	virtio_kick(v, CONTROL_RX);
}

static void console_destroy(struct virtio *v)
{
	struct vconsole *console = console_of(v);

	for (unsigned i = 0; i < console->nr_ports; i++) {
		if (console->ports[i].held)
			virtq_drop(console->ports[i].held);
		port_give_back(&console->ports[i]);
	}
	if (v->vm && v->vm->resize_arg == console)
		v->vm->resize = NULL;
	virtio_fini(v);
	free(console);
}

static int console_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct vconsole_config *c = config;
	struct vconsole *console = calloc(1, sizeof(*console));
	int r = 0;

	if (!console)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	console->nr_ports = c->nr_ports;
	console->config.max_nr_ports = htole32(c->nr_ports);
	virtio_init(&console->v, &vconsole_type, vm,
		1ULL << VIRTIO_CONSOLE_F_SIZE | 1ULL << VIRTIO_CONSOLE_F_MULTIPORT |
			1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE,
		&console->config, sizeof(console->config));
	/* Ports' queues, and the two for control behind the first port's. */
	for (unsigned i = 0; r == 0 && i < 2 * (c->nr_ports + 1); i++)
		r = virtio_queue(&console->v, QUEUE_SIZE, &vm->loop, err);
	for (unsigned i = 0; i < c->nr_ports; i++) {
		struct port *port = &console->ports[i];

		port->console = console;
		port->number = i;
		port->shared = c->shared && i == 0;
		port->chardev = port->shared ? vm->ports[0] : vm->ports[VM_SERIALS + i];
		if (!port->shared)
			port_take(port);
	}
	if (r) {
		console_destroy(&console->v);
		return r;
	}
	vm->resize = console_resize;
	vm->resize_arg = console;
	*out = &console->v;
	return 0;
}

const struct virtio_type vconsole_type = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000, /* a communication controller of no other kind */
	.create = console_create,
	.destroy = console_destroy,
	.config_write = console_config_write,
	.serve = console_serve,
	.quiesce = console_quiesce,
	.reset = console_reset,
};
