/* SPDX-License-Identifier: BSD-2-Clause */
/* irq.c - wires to lines, with shared lines as the OR of their sources. */
#include "core/irq.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

void irq_router_init(struct irq_router *router, const struct irqchip_ops *ops, void *chip)
{
	memset(router, 0, sizeof(*router));
	pthread_mutex_init(&router->lock, NULL);
	router->ops = ops;
	router->chip = chip;
}

void irq_router_fini(struct irq_router *router)
{
	pthread_mutex_destroy(&router->lock);
	router->ops = NULL;
}

/* With the router's lock held. */
static void irq_drive(struct irq_router *router, unsigned line, bool level)
{
	if (router->ops && router->ops->set_line)
		router->ops->set_line(router->chip, line, level);
}

/* With the router's lock held, as what assigns and deassigns below. */
static void fd_assign(struct irq_router *router, struct irq *irq)
{
	irq->assigned = router->ops && router->ops->fd_add &&
			router->ops->fd_add(router->chip, irq->line, irq->fd, irq->resample) == 0;
}

static void fd_deassign(struct irq_router *router, struct irq *irq)
{
	if (irq->assigned)
		router->ops->fd_del(router->chip, irq->line, irq->fd);
	irq->assigned = false;
}

/*
 * No lock: a frame is there before vCPUs run. Whether a message is for it; and *line is what it becomes, or IRQ_NONE:
 * nothing.
 */
static bool is_framed(const struct irq_router *router, struct irq_message message, unsigned *line)
{
	const struct irq_frame *frame = &router->frame;
	uint32_t i = (message.data & frame->mask) - frame->first;

	*line = i < frame->n ? frame->line + i : IRQ_NONE;
	return frame->n && message.addr == frame->addr;
}

static void route_assign(struct irq_router *router, struct irq_route *route)
{
	const struct irqchip_ops *ops = router->ops;
	unsigned line;

	route->framed = is_framed(router, route->message, &line);
	if (route->framed) {
		route->id = line;
		route->assigned =
			ops && ops->fd_add && line != IRQ_NONE && ops->fd_add(router->chip, line, route->fd, -1) == 0;
	} else {
		route->assigned = ops && ops->route_add &&
				  ops->route_add(router->chip, route->fd, route->message, &route->id) == 0;
	}
}

static void route_deassign(struct irq_router *router, struct irq_route *route)
{
	if (route->assigned && route->framed)
		router->ops->fd_del(router->chip, route->id, route->fd);
	else if (route->assigned)
		router->ops->route_del(router->chip, route->fd, route->id);
	route->assigned = false;
}

void irq_router_frame(struct irq_router *router, const struct irq_frame *frame)
{
	pthread_mutex_lock(&router->lock);
	for (struct irq_route *route = router->routes; route; route = route->next)
		route_deassign(router, route);
	router->frame = frame ? *frame : (struct irq_frame){ 0 };
	for (struct irq_route *route = router->routes; route; route = route->next)
		route_assign(router, route);
	pthread_mutex_unlock(&router->lock);
}

void irq_router_chip(struct irq_router *router, const struct irqchip_ops *ops, void *chip)
{
	pthread_mutex_lock(&router->lock);
	for (struct irq *irq = router->armed; irq; irq = irq->next)
		fd_deassign(router, irq);
	for (struct irq_route *route = router->routes; route; route = route->next)
		route_deassign(router, route);
	router->ops = ops;
	router->chip = chip;
	for (unsigned line = 0; line < IRQ_LINES; line++)
		if (router->lines[line].asserted)
			irq_drive(router, line, true);
	for (struct irq *irq = router->armed; irq; irq = irq->next)
		fd_assign(router, irq);
	for (struct irq_route *route = router->routes; route; route = route->next)
		route_assign(router, route);
	pthread_mutex_unlock(&router->lock);
}

/* Adds or takes away one source's assertion; the chip hears of it when the OR changes. Lock held. */
static void irq_assert(struct irq_router *router, unsigned line, bool level)
{
	struct irq_line *l = &router->lines[line];

	if (level) {
		if (l->asserted++ == 0)
			irq_drive(router, line, true);
	} else {
		if (--l->asserted == 0)
			irq_drive(router, line, false);
	}
}

static void fd_link(struct irq_router *router, struct irq *irq)
{
	irq->next = router->armed;
	router->armed = irq;
	fd_assign(router, irq);
}

static void fd_unlink(struct irq_router *router, struct irq *irq)
{
	struct irq **link = &router->armed;

	while (*link != irq)
		link = &(*link)->next;
	*link = irq->next;
	fd_deassign(router, irq);
}

int irq_connect(struct irq_router *router, struct irq *irq, unsigned line)
{
	struct irq_line *l;
	int rc = 0;

	if (line >= IRQ_LINES)
		return -EINVAL;
	if (irq->router)
		return -EBUSY;
	l = &router->lines[line];
	pthread_mutex_lock(&router->lock);
	if (l->sources && (l->trigger != irq->trigger || l->sources == UINT16_MAX)) {
		rc = -EBUSY;
	} else {
		l->sources++;
		l->trigger = (uint8_t)irq->trigger;
		irq->router = router;
		irq->line = line;
		if (irq->level)
			irq_assert(router, line, true);
		if (irq->armed)
			fd_link(router, irq);
	}
	pthread_mutex_unlock(&router->lock);
	return rc;
}

void irq_disconnect(struct irq *irq)
{
	struct irq_router *router = irq->router;

	if (!router)
		return;
	pthread_mutex_lock(&router->lock);
	if (irq->armed)
		fd_unlink(router, irq);
	if (irq->level)
		irq_assert(router, irq->line, false);
	router->lines[irq->line].sources--;
	pthread_mutex_unlock(&router->lock);
	irq->router = NULL;
}

void irq_set(struct irq *irq, bool level)
{
	struct irq_router *router = irq->router;

	if (irq->level == level)
		return;
	irq->level = level;
	irq->raised += level;
	if (!router)
		return;
	pthread_mutex_lock(&router->lock);
	irq_assert(router, irq->line, level);
	pthread_mutex_unlock(&router->lock);
}

void irq_pulse(struct irq *irq)
{
	struct irq_router *router = irq->router;

	irq_set(irq, false);
	irq->raised++;
	if (!router)
		return;
	pthread_mutex_lock(&router->lock);
	if (!router->lines[irq->line].asserted) {
		irq_drive(router, irq->line, true);
		irq_drive(router, irq->line, false);
	} else if (irq->trigger == IRQ_EDGE) {
		/* The line is up already: only a dip makes an edge that an edge-detecting input sees. */
		irq_drive(router, irq->line, false);
		irq_drive(router, irq->line, true);
	}
	pthread_mutex_unlock(&router->lock);
}

int irq_arm(struct irq *irq, int fd, int resample)
{
	struct irq_router *router = irq->router;

	if (fd < 0 || (resample >= 0) != (irq->trigger == IRQ_LEVEL))
		return -EINVAL;
	if (irq->armed)
		return -EEXIST;
	irq->fd = fd;
	irq->resample = resample;
	irq->armed = true;
	if (router) {
		pthread_mutex_lock(&router->lock);
		fd_link(router, irq);
		pthread_mutex_unlock(&router->lock);
	}
	return 0;
}

void irq_disarm(struct irq *irq)
{
	struct irq_router *router = irq->router;

	if (irq->armed && router) {
		pthread_mutex_lock(&router->lock);
		fd_unlink(router, irq);
		pthread_mutex_unlock(&router->lock);
	}
	irq->armed = false;
}

void irq_msi(struct irq_router *router, struct irq_message message)
{
	unsigned line;

	if (is_framed(router, message, &line)) {
		if (line == IRQ_NONE)
			return;
		pthread_mutex_lock(&router->lock);
		irq_drive(router, line, true);
		irq_drive(router, line, false);
		pthread_mutex_unlock(&router->lock);
	} else if (router->ops && router->ops->send_msi) {
		router->ops->send_msi(router->chip, message);
	}
}

void irq_route_arm(struct irq_router *router, struct irq_route *route, int fd, struct irq_message message)
{
	if (route->router)
		irq_route_disarm(route);
	*route = (struct irq_route){ .router = router, .message = message, .fd = fd };
	pthread_mutex_lock(&router->lock);
	route->next = router->routes;
	router->routes = route;
	route_assign(router, route);
	pthread_mutex_unlock(&router->lock);
}

void irq_route_disarm(struct irq_route *route)
{
	struct irq_router *router = route->router;
	struct irq_route **link;

	if (!router)
		return;
	pthread_mutex_lock(&router->lock);
	for (link = &router->routes; *link != route;)
		link = &(*link)->next;
	*link = route->next;
	route_deassign(router, route);
	pthread_mutex_unlock(&router->lock);
	route->router = NULL;
}
