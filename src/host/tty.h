/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tty.h - the user's terminal: raw while the guest has it, as it was after every end; escape keys.
 */
#ifndef TRAPLINE_HOST_TTY_H
#define TRAPLINE_HOST_TTY_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

#define TTY_DEADLY 14

struct tty {
	int fd; /* -1: no terminal, or not ours to change */
	struct termios saved;
	bool escape;                         /* Ctrl-A was the last byte */
	struct sigaction deadly[TTY_DEADLY]; /* what signals that kill did before */
	void (*quit)(void *arg);
	void *arg;
};

/*
 * Whether `fd` is the terminal of a job of which this process is not in the foreground: reading or changing it
 * would stop us. False where it is a terminal outside of job control.
 */
bool tty_in_background(int fd);

/*
 * Makes `fd` raw if it is a terminal, and not in the background; otherwise does nothing. Crashes, and signals that
 * kill, restore it too. Only one terminal a process.
 */
void tty_raw(struct tty *tty, int fd);
void tty_restore(struct tty *tty);

/*
 * A chardev's filter: takes the escape sequences out of what the user typed. Ctrl-A x calls `quit`, Ctrl-A a or
 * Ctrl-A Ctrl-A is one Ctrl-A for the guest. Returns how many of the n bytes are the guest's.
 */
size_t tty_filter(void *tty, uint8_t *bytes, size_t n);

#endif
