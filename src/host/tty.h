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

#define TTY_DEADLY 13

/* What the keys after Ctrl-A ask for; what only tty.c knows of (help, Ctrl-A itself) is not told. */
enum tty_action {
	TTY_QUIT,
	TTY_POWER,
	TTY_RESET,
	TTY_BREAK,
	TTY_CTRL_ALT_DEL,
	TTY_MOUSE,
	TTY_LINK,
	TTY_STATUS,
	TTY_PAUSE,
	TTY_TAKE,
	TTY_GIVE
};

struct tty_key;

struct tty {
	int fd; /* -1: no terminal, or not ours to change */
	struct termios saved;
	bool known;                          /* what `saved` is */
	bool escape;                         /* Ctrl-A was the last byte */
	const struct tty_key *then;          /* the next byte is this one's; NULL: it stands for itself */
	struct sigaction deadly[TTY_DEADLY]; /* what signals that kill did before */
	/*
	 * On the thread that filters. key: what was typed after TTY_BREAK, TTY_MOUSE and TTY_LINK, 0 with the others.
	 */
	void (*act)(void *arg, enum tty_action action, uint8_t key);
	void *arg;
};

/*
 * Whether `fd` is the terminal of a job of which this process is not in the foreground: reading or changing it
 * would stop us. False where it is a terminal outside of job control.
 */
bool tty_in_background(int fd);

/*
 * Makes `fd` raw if it is a terminal, and not in the background; otherwise does nothing. Crashes, and signals that
 * kill, restore it too. Only one terminal a process. `tty` has fd -1 and else zeros before the first call; it may be
 * called again, raw or not, when somebody else has had the terminal.
 */
void tty_raw(struct tty *tty, int fd);
/* As it was before the first tty_raw(); in the background it is left alone. */
void tty_restore(struct tty *tty);
void tty_crash(void); /* for handlers of signals: the terminal as it was, if one is raw */

/* Words of ours to the user, in lines of their own on standard error; never waits. */
void tty_say(const struct tty *tty, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A chardev's filter: takes what Ctrl-A escapes out of what the user typed. Ctrl-A h lists the keys; Ctrl-A a or
 * Ctrl-A Ctrl-A is one Ctrl-A for the guest. Returns how many of the n bytes are the guest's.
 */
size_t tty_filter(void *tty, uint8_t *bytes, size_t n);

#endif
