/* SPDX-License-Identifier: BSD-2-Clause */
/* terminal.c - job control and the size of this terminal; see terminal.h. */
#include "machine/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "machine/machine.h"
#include "machine/watch.h"

/* A shell that brings a running job to the foreground sends it nothing: it has to look. */
#define LOOK_NS 250000000L

static void tell_size(struct machine *m)
{
	struct winsize size;

	if (m->vm.resize && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		m->vm.resize(m->vm.resize_arg, m->terminal.chardev, size.ws_col, size.ws_row);
}

/*
 * Takes the terminal or leaves it, as it is ours or not. Who was stopped finds other settings, and maybe another size.
 */
static void follow(struct machine *m)
{
	struct chardev *chardev = m->terminal.chardev;
	struct itimerspec when = { 0 };
	bool ours = !tty_in_background(STDIN_FILENO);

	if (!ours) {
		chardev_detach_in(chardev);
		tty_restore(&m->tty);
	} else if (chardev->in_fd >= 0 || chardev_attach_in(chardev, STDIN_FILENO) == 0) {
		tty_raw(&m->tty, STDIN_FILENO);
		tell_size(m);
	} else {
		ours = false; /* no memory just now */
	}
	when.it_value.tv_nsec = when.it_interval.tv_nsec = ours ? 0 : LOOK_NS;
	/* Only an invalid time is refused. */
	(void)timerfd_settime(m->terminal.look.fd, 0, &when, NULL);
}

static void signalled(void *arg, uint32_t events)
{
	struct machine *m = arg;
	struct signalfd_siginfo info;

	while (read(m->terminal.signals.fd, &info, sizeof(info)) == sizeof(info))
		;
	follow(m);
}

static void looks(void *arg, uint32_t events)
{
	struct machine *m = arg;
	uint64_t times;

	if (read(m->terminal.look.fd, &times, sizeof(times)) == sizeof(times) && !tty_in_background(STDIN_FILENO))
		follow(m);
}

void terminal_signals(sigset_t *set)
{
	sigaddset(set, SIGWINCH);
	sigaddset(set, SIGCONT);
	/* Who reads in the background, before it has heard that it is there, gets an error instead of being stopped. */
	sigaddset(set, SIGTTIN);
}

int terminal_up(struct machine *m, struct chardev *chardev, struct error *err)
{
	struct terminal *t = &m->terminal;
	sigset_t set;
	int r;

	if (!isatty(STDIN_FILENO))
		return 0;
	sigemptyset(&set);
	terminal_signals(&set);
	t->chardev = chardev;
	r = watch_up(m, &t->signals, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), signalled, "the terminal", err);
	if (r == 0)
		r = watch_up(m, &t->look, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), looks,
			"the terminal", err);
	if (r)
		terminal_down(m);
	else
		follow(m);
	return r;
}

void terminal_down(struct machine *m)
{
	tty_restore(&m->tty);
	watch_down(m, &m->terminal.look);
	watch_down(m, &m->terminal.signals);
}
