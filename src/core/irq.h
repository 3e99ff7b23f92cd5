/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * irq.h - interrupt lines and messages, as devices see them.
 *
 * A `struct irq` is one source: a device's wire. A line is what it is soldered to; several sources of one
 * trigger kind may share it, and its level is the OR of theirs (a PC's UARTs share lines 3 and 4 so, though
 * the input behind detects edges). A message is an address and a value. What
 * takes them is the interrupt chip behind the router: KVM's, or a test's. Eventfds can be a second end of a wire
 * (irq_arm) or of a message (irq_route_arm), so that who signals them - another process, the kernel - needs no detour
 * through us.
 */
#ifndef TRAPLINE_CORE_IRQ_H
#define TRAPLINE_CORE_IRQ_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum irq_trigger { IRQ_EDGE, IRQ_LEVEL };

#define IRQ_LINES 1024
#define IRQ_NONE  UINT32_MAX

/* A message-signalled interrupt (MSI): a write of `data` to `addr`, which is no RAM. */
struct irq_message {
	uint64_t addr;
	uint32_t data;
	/* Who sends it, for chips that look messages up by that: a PCI function's bus, slot and function numbers. */
	uint32_t sender;
};

struct irqchip_ops {
	void (*set_line)(void *chip, unsigned line, bool level);
	void (*send_msi)(void *chip, struct irq_message message);
	/* 0 or -errno: signals of `fd` raise the line; see irq_arm(). NULL: the chip cannot. `del` cannot fail. */
	int (*fd_add)(void *chip, unsigned line, int fd, int resample);
	void (*fd_del)(void *chip, unsigned line, int fd);
	/* Likewise for a message; *id is the chip's name for the pair. */
	int (*route_add)(void *chip, int fd, struct irq_message message, unsigned *id);
	void (*route_del)(void *chip, int fd, unsigned id);
};

/*
 * An address at which messages become pulses of lines: data `first` is line `line`, and so on; of data only the bits in
 * `mask` count. Such lines are edge-triggered and have no other sources.
 */
struct irq_frame {
	uint64_t addr;
	uint32_t mask, first;
	unsigned line, n;
};

struct irq_line {
	uint16_t asserted; /* sources that hold it up */
	uint16_t sources;
	uint8_t trigger;
};

struct irq_router {
	pthread_mutex_t lock; /* "irq routing" in the lock order: held over set_line so that levels arrive in order */
	const struct irqchip_ops *ops;
	void *chip;
	struct irq_line lines[IRQ_LINES];
	struct irq_frame frame;   /* n 0: there is none */
	struct irq *armed;        /* wires with an eventfd */
	struct irq_route *routes; /* messages with one */
};

/* One source, embedded in its device. */
struct irq {
	const char *name;
	enum irq_trigger trigger;
	struct irq_router *router; /* NULL: not connected; setting it reaches nobody */
	unsigned line;
	bool level;
	uint64_t raised; /* rising edges, for statistics */
	/* the router's own */
	int fd, resample;
	bool armed, assigned; /* assigned: the chip has it */
	struct irq *next;
};

/* ops NULL: no chip yet; lines and levels are kept all the same. */
void irq_router_init(struct irq_router *router, const struct irqchip_ops *ops, void *chip);
/* Brings the chip (NULL: takes it away) while no vCPU runs; it is told of each line that is up, and of eventfds. */
void irq_router_chip(struct irq_router *router, const struct irqchip_ops *ops, void *chip);
/*
 * Messages to `frame` are lines from now on, those of eventfds as well; NULL: none are. The chip sees lines only,
 * whether by set_line() or by fd_add(). Of one router, one frame.
 */
void irq_router_frame(struct irq_router *router, const struct irq_frame *frame);
void irq_router_fini(struct irq_router *router);
/* 0, -EINVAL a line out of range, -EBUSY connected already, or edge and level would share a line. */
int irq_connect(struct irq_router *router, struct irq *irq, unsigned line) __attribute__((warn_unused_result));
void irq_disconnect(struct irq *irq);
/*
 * Both legal in handlers; the caller holds what serialises its device. Unconnected, they note level and raised only.
 * set_line() is called, with the router's lock held, when the OR of the line's sources changes.
 */
void irq_set(struct irq *irq, bool level);
/*
 * Up and down: one edge, and the source is down afterwards. An edge-triggered line that another source holds up
 * dips for a moment, so that the edge is one all the same; a level-triggered one is left as it is.
 */
void irq_pulse(struct irq *irq);
/*
 * Has each signal of the eventfd `fd` raise the wire's line, without a detour through its owner. On an edge-triggered
 * wire that is a pulse, and `resample` is -1. On a level-triggered one the line stays up until the guest's end of
 * interrupt, which takes it down and signals `resample`: who still wants it up signals `fd` again. Other sources of
 * the line are ORed with it. Both eventfds are the caller's, and open until irq_disarm() returned. The wire need not be
 * connected yet, nor a chip be there. Where irq->assigned is false while the machine runs, the chip cannot, and who
 * owns the wire reads `fd` and calls irq_set(). 0, -EINVAL fds that do not suit the trigger, -EEXIST armed already.
 */
int irq_arm(struct irq *irq, int fd, int resample) __attribute__((warn_unused_result));
void irq_disarm(struct irq *irq);
void irq_msi(struct irq_router *router, struct irq_message message);

/* A message that signals of an eventfd send. Embedded in who owns both; begins as zeros. */
struct irq_route {
	struct irq_router *router; /* NULL: not armed */
	struct irq_message message;
	int fd;
	/* the router's own */
	bool assigned; /* the chip has it */
	bool framed;   /* ... as a line, which is `id` then; else `id` is the chip's */
	unsigned id;
	struct irq_route *next;
};

/*
 * Has each signal of `fd`, those that it holds already included, send a message. The eventfd is the caller's, and open
 * until irq_route_disarm() returned. Where route->assigned is false afterwards the chip cannot, and who owns the route
 * reads `fd` and calls irq_msi(). One that is armed already changes its message. Both are legal in handlers, but can
 * take milliseconds; the caller serialises calls for one route.
 */
void irq_route_arm(struct irq_router *router, struct irq_route *route, int fd, struct irq_message message);
void irq_route_disarm(struct irq_route *route); /* fine on one that is not armed */

#endif
