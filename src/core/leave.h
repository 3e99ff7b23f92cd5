/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leave.h - the user wants to leave, by SIGINT, SIGTERM or SIGHUP, while set-up waits for somebody. The signals are
 * blocked then (machine.c), and stay pending for who takes them: here they are only seen.
 */
#ifndef TRAPLINE_CORE_LEAVE_H
#define TRAPLINE_CORE_LEAVE_H

#include <signal.h>
#include <stdbool.h>

/* Those of them that whoever started us has not ignored, as nohup does. */
void leave_signals(sigset_t *set);
bool leave_pending(void);
/*
 * A new descriptor for poll(), to be closed and not to be read: it is readable while
 * one is pending. -1: there is none to be had.
 */
int leave_fd(void);

#endif
