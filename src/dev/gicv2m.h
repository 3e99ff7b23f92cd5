/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gicv2m.h - a GICv2's frame for messages (Arm's Server Base System Architecture, appendix "GICv2m"): a page with a
 * register, a write of an interrupt's number to which raises that interrupt.
 *
 * What devices of ours send there is known by its address and never becomes an access: see irq_router_frame().
 */
#ifndef TRAPLINE_DEV_GICV2M_H
#define TRAPLINE_DEV_GICV2M_H

#include "core/device.h"

#define GICV2M_SETSPI 0x40 /* where messages go, in the page */

/* Copied by create(). */
struct gicv2m_config {
	uint32_t intid; /* of its first shared peripheral interrupt, from 32 on */
	unsigned line;  /* what the router calls that one */
	unsigned n;     /* how many, at most 1023 */
};

/* Region 0: the page. */
extern const struct device_type gicv2m_type;

#endif
