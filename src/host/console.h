/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * console.h - what a serial port talks to on the host: this terminal, a file, a pseudo-terminal, a socket, nothing.
 */
#ifndef TRAPLINE_HOST_CONSOLE_H
#define TRAPLINE_HOST_CONSOLE_H

#include <stdbool.h>

#include "core/chardev.h"
#include "core/error.h"
#include "host/output.h"
#include "host/unix.h"

enum console_kind {
	CONSOLE_NONE,
	CONSOLE_STDIO,
	CONSOLE_FILE,
	CONSOLE_PTY,
	CONSOLE_SOCKET,
	CONSOLE_FD,
	NR_CONSOLE_KINDS
};

struct console_config {
	enum console_kind kind;
	const char *path; /* of FILE and SOCKET */
	int fd;           /* of FD: the caller's, for output alone. A program's, not to be had by an option */
};

struct console {
	struct chardev chardev;
	struct console_config config;
	char port[16]; /* "serial0", in messages */
	struct loop *loop;
	bool up;
	struct output file;
	int fd;       /* the pseudo-terminal's master, the socket's client; -1: none */
	int leftover; /* an earlier client's, gone, of whose input the guest has yet to read the rest; -1: none */
	int slave;    /* the pseudo-terminal's other end, held so that it never hangs up */
	char pty[64]; /* its path */
	int openers;  /* who else has it open */
	struct loop_watch watch; /* for clients: the listening socket, or the pseudo-terminal's inotify */
	struct unix_listener listener;
	struct timer retry; /* to accept clients again, after there was no descriptor for one */
};

/* "stdio" ("serial" is the same), "none", "pty", "file:PATH", "socket:PATH". 0, or -EINVAL with a line in `err`. */
int console_parse(const char *text, struct console_config *config, struct error *err)
	__attribute__((warn_unused_result));
/*
 * Opens the file, makes the pseudo-terminal or socket. `port` names the serial port. `dry`: touches nothing of the
 * host's. 0, or -errno with a line in `err`. Zeroed before the first call; undone by console_close().
 */
int console_open(struct console *console, const char *port, const struct console_config *config, struct loop *loop,
	bool dry, struct error *err) __attribute__((warn_unused_result));
void console_begin(struct console *console);              /* the guest runs: now a file is emptied */
void console_close(struct console *console);              /* fine on one that is all zeros. Does not flush */
struct chardev *console_chardev(struct console *console); /* NULL: nothing is behind this port */

#endif
