/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * console.c - back ends of serial ports.
 *
 * Pseudo-terminals and sockets have clients that come and go; meanwhile the chardev keeps what the guest says. A
 * socket tells of its clients by itself. A pseudo-terminal does not: its master hears of a hang-up only, and of that
 * without end. So we hold the slave open, which also keeps it raw, and inotify tells who else opens and closes it.
 */
#include "host/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "host/tty.h"

#define ACCEPT_RETRY_NS NSEC_PER_SEC

/* What is told apart by kind. */
struct console_ops {
	const char *name, *synonym;
	bool path;
	int (*open)(struct console *console, struct error *err); /* 0 or -errno; what is half open, close() closes */
	void (*close)(struct console *console);
};

static int console_open_none(struct console *console, struct error *err)
{
	return 0;
}

static void console_close_fd(struct console *console)
{
	if (console->fd >= 0)
		close(console->fd);
	console->fd = -1;
}

static int console_error(struct console *console, int r, struct error *err)
{
	return error_set(err, r, "%s: %s", console->port, strerror(-r));
}

static int console_open_stdio(struct console *console, struct error *err)
{
	int in = tty_in_background(STDIN_FILENO) ? -1 : STDIN_FILENO;
	int r = chardev_init(&console->chardev, console->loop, in, STDOUT_FILENO);

	return r ? console_error(console, r, err) : 0;
}

static int console_open_file(struct console *console, struct error *err)
{
	/* Non-blocking: a named pipe without a reader is an error, and with one never holds us up. */
	int r = output_open(&console->file, console->config.path, O_NONBLOCK, console->port, err);

	if (r)
		return r;
	r = chardev_init(&console->chardev, console->loop, -1, console->file.fd);
	return r ? console_error(console, r, err) : 0;
}

static void console_close_file(struct console *console)
{
	output_close(&console->file);
}

static int console_open_fd(struct console *console, struct error *err)
{
	int r = chardev_init(&console->chardev, console->loop, -1, console->config.fd);

	return r ? console_error(console, r, err) : 0;
}

/* ---- pseudo-terminals ---- */

static void console_pty_openers(struct console *console, int openers)
{
	bool attached = console->chardev.out_fd >= 0;

	if (openers > 0 && !attached) {
		/* Where that fails there is no memory or descriptor just now: the next one to open has better luck. */
		(void)!chardev_attach_out(&console->chardev, console->fd);
	} else if (openers <= 0 && attached) {
		chardev_detach_out(&console->chardev);
		/* Nobody read it, and it is part of the history that the next one gets. */
		(void)tcflush(console->slave, TCIFLUSH);
	}
	console->openers = openers < 0 ? 0 : openers;
}

static void console_pty_event(void *arg, uint32_t events)
{
	struct console *console = arg;
	char buf[1024] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(console->watch.fd, buf, sizeof(buf));

	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
		const struct inotify_event *event = (const struct inotify_event *)(buf + at);

		at += (ssize_t)(sizeof(*event) + event->len);
		if (event->mask & IN_OPEN)
			console_pty_openers(console, console->openers + 1);
		else if (event->mask & IN_CLOSE)
			console_pty_openers(console, console->openers - 1);
	}
}

/* Watches who opens the slave. Where that cannot be, somebody is always taken to be there. */
static int console_watch_pty(struct console *console)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, console->pty, IN_OPEN | IN_CLOSE) < 0) {
		if (fd >= 0)
			close(fd);
		return chardev_attach_out(&console->chardev, console->fd);
	}
	console->watch = (struct loop_watch){ .fd = fd, .fn = console_pty_event, .arg = console };
	return loop_watch(console->loop, &console->watch, EPOLLIN);
}

static int console_open_pty(struct console *console, struct error *err)
{
	struct termios raw;
	int r;

	console->fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (console->fd < 0 || grantpt(console->fd) || unlockpt(console->fd) ||
		ptsname_r(console->fd, console->pty, sizeof(console->pty)))
		return error_set(err, -errno, "%s: no pseudo-terminal: %s", console->port, strerror(errno));
	console->slave = open(console->pty, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (console->slave < 0 || tcgetattr(console->slave, &raw))
		return error_set(err, -errno, "%s: %s: %s", console->port, console->pty, strerror(errno));
	cfmakeraw(&raw);
	(void)tcsetattr(console->slave, TCSANOW, &raw);
	r = chardev_init(&console->chardev, console->loop, console->fd, -1);
	if (r)
		return console_error(console, r, err);
	chardev_keep(&console->chardev);
	r = console_watch_pty(console);
	return r ? console_error(console, r, err) : 0;
}

static void console_close_pty(struct console *console)
{
	if (console->slave >= 0)
		close(console->slave);
	console_close_fd(console);
}

/* ---- sockets ---- */

static void console_drop_client(struct console *console)
{
	chardev_detach_out(&console->chardev);
	console_close_fd(console);
}

/* Who the guest has read last is gone. */
static void console_hang_up(void *arg)
{
	struct console *console = arg;
	bool turn = console->leftover >= 0 && console->fd >= 0;

	chardev_detach_in(&console->chardev);
	if (console->leftover >= 0)
		close(console->leftover);
	console->leftover = -1;
	if (!turn || chardev_attach_in(&console->chardev, console->fd))
		console_drop_client(console);
}

/* The client has closed, although something that it sent still waits for the guest. */
static bool console_client_gone(const struct console *console)
{
	struct pollfd pfd = { .fd = console->fd };

	return poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLHUP | POLLERR);
}

/* The client makes room for the next, but what it sent still comes before what that one sends. */
static void console_set_aside(struct console *console)
{
	if (console->leftover < 0) {
		console->leftover = console->fd;
		console->fd = -1;
	}
	console_drop_client(console);
}

static void console_refuse(const struct console *console, int fd)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "trapline: %s has a client already\r\n", console->port);

	(void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

static void console_accept_again(void *arg)
{
	struct console *console = arg;

	(void)loop_watch(console->loop, &console->watch, EPOLLIN);
}

static void console_client(void *arg, uint32_t events)
{
	struct console *console = arg;
	int fd = accept4(console->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		/* The client stays in the queue, and would keep us busy for nothing. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			loop_unwatch(console->loop, &console->watch);
			timer_arm(&console->retry, clock_now(console->retry.clock) + ACCEPT_RETRY_NS);
		}
		return;
	}
	if (console->fd >= 0 && console_client_gone(console))
		console_set_aside(console);
	if (console->fd >= 0) {
		console_refuse(console, fd);
		return;
	}
	console->fd = fd;
	if (console->leftover < 0 && chardev_attach_in(&console->chardev, fd))
		console_drop_client(console);
	else if (chardev_attach_out(&console->chardev, fd))
		console_hang_up(console);
}

static int console_open_socket(struct console *console, struct error *err)
{
	int r = unix_listen(&console->listener, console->config.path, err);

	if (r)
		return error_prefix(err, r, "%s", console->port);
	r = chardev_init(&console->chardev, console->loop, -1, -1);
	if (r)
		return console_error(console, r, err);
	chardev_keep(&console->chardev);
	console->chardev.hangup = console_hang_up;
	console->chardev.hangup_arg = console;
	timer_init(&console->retry, console->loop->clock, console_accept_again, console, NULL);
	console->watch = (struct loop_watch){ .fd = console->listener.fd, .fn = console_client, .arg = console };
	r = loop_watch(console->loop, &console->watch, EPOLLIN);
	return r ? console_error(console, r, err) : 0;
}

static void console_close_socket(struct console *console)
{
	timer_cancel(&console->retry);
	if (console->leftover >= 0)
		close(console->leftover);
	console_close_fd(console);
	console->watch.fd = -1; /* the listener's, closed with it */
	unix_unlisten(&console->listener);
}

/* ---- all of them ---- */

static const struct console_ops console_kinds[] = {
	[CONSOLE_NONE] = { "none", NULL, false, console_open_none, console_close_fd },
	[CONSOLE_STDIO] = { "stdio", "serial", false, console_open_stdio, console_close_fd },
	[CONSOLE_FILE] = { "file", NULL, true, console_open_file, console_close_file },
	[CONSOLE_PTY] = { "pty", NULL, false, console_open_pty, console_close_pty },
	[CONSOLE_SOCKET] = { "socket", NULL, true, console_open_socket, console_close_socket },
	[CONSOLE_FD] = { "", NULL, false, console_open_fd, console_close_fd },
};
_Static_assert(sizeof(console_kinds) / sizeof(console_kinds[0]) == NR_CONSOLE_KINDS, "each kind has its functions");

int console_parse(const char *text, struct console_config *config, struct error *err)
{
	size_t len = strcspn(text, ":");

	for (unsigned i = 0; i < CONSOLE_FD; i++) {
		const struct console_ops *ops = &console_kinds[i];
		bool named = strlen(ops->name) == len && memcmp(text, ops->name, len) == 0;

		if (!named && !(ops->synonym && strcmp(text, ops->synonym) == 0))
			continue;
		if (ops->path && (!text[len] || !text[len + 1]))
			return error_set(err, -EINVAL, "'%s' needs a path: %s:PATH", text, ops->name);
		if (!ops->path && text[len])
			return error_set(err, -EINVAL, "'%s' takes no path", ops->name);
		*config = (struct console_config){ .kind = (enum console_kind)i };
		if (ops->path)
			config->path = text + len + 1;
		return i == CONSOLE_SOCKET ? unix_check(config->path, err) : 0;
	}
	return error_set(
		err, -EINVAL, "'%.100s' is no kind of console: stdio, none, pty, file:PATH or socket:PATH", text);
}

int console_open(struct console *console, const char *port, const struct console_config *config, struct loop *loop,
	bool dry, struct error *err)
{
	int r;

	console->config = *config;
	console->loop = loop;
	console->fd = console->leftover = console->slave = console->listener.fd = console->watch.fd = -1;
	console->file.fd = -1;
	console->up = true;
	snprintf(console->port, sizeof(console->port), "%s", port);
	if (dry)
		return 0;
	r = console_kinds[config->kind].open(console, err);
	if (r)
		console_close(console);
	return r;
}

void console_begin(struct console *console)
{
	if (console->up)
		output_begin(&console->file);
}

void console_close(struct console *console)
{
	if (!console->up)
		return;
	loop_unwatch(console->loop, &console->watch);
	chardev_fini(&console->chardev);
	console_kinds[console->config.kind].close(console);
	if (console->watch.fd >= 0)
		close(console->watch.fd);
	console->up = false;
}

struct chardev *console_chardev(struct console *console)
{
	return console->chardev.out ? &console->chardev : NULL;
}
