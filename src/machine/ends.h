/* SPDX-License-Identifier: BSD-2-Clause */
/* ends.h - ends that the user asks for, by signals or by time; a part of machine.c's life. */
#ifndef TRAPLINE_MACHINE_ENDS_H
#define TRAPLINE_MACHINE_ENDS_H

#include <stdbool.h>

#include "core/error.h"
#include "core/loop.h"

struct machine;

#define SHUTDOWN_TIMEOUT 60 /* seconds, unless the user says otherwise: below the 90 after which systemd kills */

struct ends {
	struct loop_watch signals;  /* a signalfd: SIGINT, SIGTERM, SIGHUP, but those that were ignored */
	struct loop_watch shutdown; /* a timerfd, running from the first of them on */
	struct loop_watch boot;     /* likewise, until the guest has to have said that it is ready */
	bool asked;                 /* the guest was asked to power off */
	uint64_t asked_at;          /* CLOCK_MONOTONIC, ns */
};

/*
 * Whether a signal that ends a guest in order (core/leave.h), blocked, is waiting: start-up ends, with a line in `err`.
 */
bool ends_signalled(struct error *err);

/* 0 or -errno; nothing is left on failure. */
int ends_up(struct machine *m, struct error *err) __attribute__((warn_unused_result));
void ends_down(struct machine *m);
/* A life of the guest's begins, with no vCPU running. */
void ends_await_boot(struct machine *m);
/*
 * The guest has ended, for m->ended, and every vCPU is parked: says what it was doing, where it did not end by its own
 * will. The exit status, and a line in `err` where there is something to say.
 */
int ends_status(struct machine *m, struct error *err);

#endif
