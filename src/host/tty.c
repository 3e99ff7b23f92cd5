/* SPDX-License-Identifier: BSD-2-Clause */
/* tty.c - raw mode with a way back, and the Ctrl-A escapes. */
#include "host/tty.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/say.h"

#define CTRL_A 0x01

/*
 * The one mutable static: a crash leaves no other way to the terminal's settings than what a signal handler can
 * reach without arguments. Written before `crash_fd` is, read only after.
 */
static struct termios crash_saved;
static volatile sig_atomic_t crash_fd = -1;

/* What kills by default and can be caught: crashes (but SIGBUS: host/lost.c), and what somebody may send. */
static const int deadly[] = { SIGSEGV, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGQUIT, SIGXCPU, SIGALRM, SIGVTALRM,
	SIGPROF, SIGUSR1, SIGUSR2 };
_Static_assert(sizeof(deadly) / sizeof(deadly[0]) == TTY_DEADLY, "room for what each did before");

void tty_crash(void)
{
	if (crash_fd >= 0)
		tcsetattr(crash_fd, TCSANOW, &crash_saved);
}

static void restore_and_die(int sig)
{
	tty_crash();
	/* SA_RESETHAND: now the default action, with the core dump that it brings. */
	raise(sig);
}

static void catch_deadly(struct tty *tty)
{
	const struct sigaction act = { .sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < TTY_DEADLY; i++) {
		sigaction(deadly[i], NULL, &tty->deadly[i]);
		if (tty->deadly[i].sa_handler != SIG_IGN)
			sigaction(deadly[i], &act, NULL);
	}
}

bool tty_in_background(int fd)
{
	/* -1: not our controlling terminal, as with an init's shell; nobody is stopped for using that. */
	pid_t foreground = isatty(fd) ? tcgetpgrp(fd) : -1;

	return foreground >= 0 && foreground != getpgrp();
}

void tty_raw(struct tty *tty, int fd)
{
	struct termios raw;

	/* In the background it is somebody else's just now. */
	if (!isatty(fd) || tty_in_background(fd))
		return;
	/* Once: a shell may give a job that goes on the settings that it had, which are raw. */
	if (!tty->known && tcgetattr(fd, &tty->saved))
		return;
	tty->known = true;
	if (tty->fd < 0) {
		tty->escape = false;
		tty->then = NULL;
		crash_saved = tty->saved;
		crash_fd = fd;
		catch_deadly(tty);
		tty->fd = fd;
	}
	raw = tty->saved;
	cfmakeraw(&raw);
	/* Output keeps its processing: messages of ours and of a shell in the pipeline want their "\n" whole. */
	raw.c_oflag = tty->saved.c_oflag;
	(void)tcsetattr(fd, TCSANOW, &raw);
}

void tty_restore(struct tty *tty)
{
	if (tty->fd < 0)
		return;
	/*
	 * At once: output was processed the same way all the time, and a line that is stuck must not hold us up. Who
	 * was stopped and is in the background now has no settings there any more, and would be stopped for changing
	 * them.
	 */
	while (!tty_in_background(tty->fd) && tcsetattr(tty->fd, TCSANOW, &tty->saved) && errno == EINTR)
		;
	crash_fd = -1;
	for (size_t i = 0; i < TTY_DEADLY; i++)
		sigaction(deadly[i], &tty->deadly[i], NULL);
	tty->fd = -1;
}

static const struct tty_key {
	char key;
	bool more; /* another key follows, which says what exactly */
	enum tty_action action;
	const char *help;
} keys[] = {
	{ 'x', false, TTY_QUIT, "quit" },
	{ 'p', false, TTY_POWER, "press the power button" },
	{ 'r', false, TTY_RESET, "reset the guest" },
	{ 'b', true, TTY_BREAK, "then a key: a break on the serial line and the key, which is Linux's SysRq" },
	{ 'k', false, TTY_CTRL_ALT_DEL, "Ctrl-Alt-Del on the guest's keyboard" },
	{ 'm', true, TTY_MOUSE, "then h, j, k or l: move the guest's mouse left, down, up, right; 1, 2 or 3: click" },
	{ 'n', true, TTY_LINK, "then 0 to 9: pull the cable of that network device, or plug it in again" },
	{ 'z', false, TTY_PAUSE, "pause the guest, or let it go on" },
	{ 's', false, TTY_STATUS, "show how the guest is doing" },
	{ '+', false, TTY_TAKE, "the balloon takes a sixteenth of the guest's memory" },
	{ '-', false, TTY_GIVE, "the balloon gives a sixteenth back" },
};

void tty_say(const struct tty *tty, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* The line begins at the left whatever the terminal makes of a "\n". */
	say(SAY_SOON_MS, "%s%s", text, tty->fd >= 0 ? "\r" : "");
}

static void tty_help(const struct tty *tty)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		tty_say(tty, "Ctrl-A %c  %s", keys[i].key, keys[i].help);
	tty_say(tty, "Ctrl-A a  send Ctrl-A to the guest");
	tty_say(tty, "Ctrl-A h  this list");
}

/* The key after Ctrl-A. Whether the guest gets a Ctrl-A. */
static bool tty_key(struct tty *tty, uint8_t byte)
{
	if (byte == 'a' || byte == CTRL_A)
		return true;
	/* What is said must not begin in the middle of the guest's line. */
	if (memchr("hps+-z", byte, 6))
		say_text("\r\n", 2, 0);
	if (byte == 'h')
		tty_help(tty);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (byte != keys[i].key)
			continue;
		if (keys[i].more)
			tty->then = &keys[i];
		else
			tty->act(tty->arg, keys[i].action, 0);
		return false;
	}
	if (byte != 'h') {
		say_text("\r\n", 2, 0);
		tty_say(tty, "Ctrl-A h lists the keys");
	}
	return false;
}

size_t tty_filter(void *arg, uint8_t *bytes, size_t n)
{
	struct tty *tty = arg;
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t byte = bytes[i];

		if (tty->then) {
			if (tty->then->action == TTY_LINK)
				say_text("\r\n", 2, 0);
			tty->act(tty->arg, tty->then->action, byte);
			tty->then = NULL;
		} else if (tty->escape) {
			tty->escape = false;
			if (tty_key(tty, byte))
				bytes[kept++] = CTRL_A;
		} else if (byte == CTRL_A) {
			tty->escape = true;
		} else {
			bytes[kept++] = byte;
		}
	}
	return kept;
}
