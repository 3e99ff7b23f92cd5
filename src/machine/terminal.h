/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * terminal.h - this terminal as a shell has it: whose it is just now (job control), and its size. While another job is
 * in the foreground its input and settings are left alone, so that nothing stops us; in the foreground they are ours.
 */
#ifndef TRAPLINE_MACHINE_TERMINAL_H
#define TRAPLINE_MACHINE_TERMINAL_H

#include <signal.h>

#include "core/chardev.h"
#include "core/error.h"

struct machine;

struct terminal {
	struct chardev *chardev;   /* who has its keys; NULL: nobody, or standard input is no terminal */
	struct loop_watch signals; /* a signalfd: SIGWINCH, SIGCONT; without `fn` there is none */
	struct loop_watch look;    /* a timerfd, which runs while another job has the terminal */
};

/*
 * Adds those that tell of the terminal. They are blocked before any thread is made, also of a library's: one that would
 * take them ignores them. SIGCONT lets us go on all the same.
 */
void terminal_signals(sigset_t *set);
/*
 * Standard input's terminal, if it is one: raw and read by `chardev` in the foreground, and m->vm.resize told of its
 * size. 0, or -errno with a line in `err`. terminal_signals() are blocked.
 */
int terminal_up(struct machine *m, struct chardev *chardev, struct error *err) __attribute__((warn_unused_result));
void terminal_down(struct machine *m); /* the terminal as it was. Fine on one that is not up */

#endif
