/* SPDX-License-Identifier: BSD-2-Clause */
/* consoles.h - the back ends of a machine's consoles, and the keys of whoever sits at its terminal. */
#ifndef TRAPLINE_MACHINE_CONSOLES_H
#define TRAPLINE_MACHINE_CONSOLES_H

#include "core/error.h"

struct machine;

/* A stage: opens what config.consoles asks for, and makes it what the ports talk to. */
int consoles_up(struct machine *m, struct error *err) __attribute__((warn_unused_result));
/* The guest runs: files are emptied. */
void consoles_begin(struct machine *m);
void consoles_down(struct machine *m);
/* Writes out what the guest has said; see chardev_flush(). */
void consoles_flush(struct machine *m);
/* A stage: this terminal, where it is a port's, becomes raw, and its Ctrl-A keys are ours. */
int consoles_take_tty(struct machine *m, struct error *err) __attribute__((warn_unused_result));
void consoles_leave_tty(struct machine *m); /* copes with one that was never taken */
/* "serial0": a port's name; `line` below VM_PORTS. */
const char *consoles_port(unsigned line);

#endif
