/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passt.c - networking without privileges: passt, a program of its own, makes sockets of the host's out of what the guest
 * sends, and answers its DHCP, ARP, NDP and DNS. It is our child, speaks frames over a socket pair (netsock.c), and ends when
 * its end of that is closed.
 *
 * That it is ready is told by its PID file, which is a pipe of ours. What it says on standard error goes into another, for
 * the line with which we tell that it did not start; once that is full its words are lost, and it is never held up.
 */
#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/ports.h"

#define PROGRAM "passt"
/* Its descriptors. */
#define ITS_SOCKET 3
#define ITS_PID    4
#define READY_MS   10000
/* How long it has to end by itself. */
#define END_TRIES 100
#define END_MS    10

extern char **environ;

struct passt {
	struct net_backend b;
	struct net_backend *stream;
	pid_t pid;
	int words; /* the pipe's end that it does not know of; see above */
};

static struct passt *passt_of(struct net_backend *b)
{
	return (struct passt *)(void *)b;
}

static ssize_t passt_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	struct net_backend *stream = passt_of(b)->stream;

	return stream->ops->receive(stream, pair, frame);
}

static int passt_send(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes)
{
	struct net_backend *stream = passt_of(b)->stream;

	return stream->ops->send(stream, pair, iov, n, bytes);
}

static int passt_flush(struct net_backend *b, unsigned pair)
{
	struct net_backend *stream = passt_of(b)->stream;

	return stream->ops->flush(stream, pair);
}

/* Waits for its end, which is made sure of. */
static void passt_reap(pid_t pid)
{
	for (unsigned i = 0; i < END_TRIES; i++) {
		const struct timespec pause = { .tv_nsec = END_MS * 1000000L };
		pid_t got = waitpid(pid, NULL, WNOHANG);

		if (got == pid || (got < 0 && errno != EINTR))
			return;
		nanosleep(&pause, NULL);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void passt_close(struct net_backend *b)
{
	struct passt *passt = passt_of(b);

	net_close(passt->stream);
	if (passt->pid > 0)
		passt_reap(passt->pid);
	if (passt->words >= 0)
		close(passt->words);
	free(passt);
}

static const struct net_ops passt_ops = {
	.receive = passt_receive,
	.send = passt_send,
	.flush = passt_flush,
	.close = passt_close,
};

/* Three pairs of descriptors: [0] ours, [1] its own. */
struct channels {
	int socket[2], pid[2], words[2];
};

static void close_two(int fds[2])
{
	for (unsigned i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static void channels_close(struct channels *c)
{
	close_two(c->socket);
	close_two(c->pid);
	close_two(c->words);
}

/* Beyond the numbers that the child gives to its own, so that none is in another's place. */
static int lift(int fds[2])
{
	for (unsigned i = 0; i < 2; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, ITS_PID + 1);

		if (fd < 0)
			return -errno;
		close(fds[i]);
		fds[i] = fd;
	}
	return 0;
}

static int channels_open(struct channels *c)
{
	*c = (struct channels){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->socket) || pipe2(c->pid, O_CLOEXEC) ||
		pipe2(c->words, O_CLOEXEC | O_NONBLOCK) || lift(c->socket) || lift(c->pid) || lift(c->words))
		return -errno;
	/* Started by root it becomes nobody before it opens it. */
	return fchmod(c->pid[1], 0222) ? -errno : 0;
}

static int passt_spawn(pid_t *pid, const struct net_config *config, const struct channels *c)
{
	char socket_fd[16], pid_file[32];
	const char *argv[16] = { PROGRAM, "-f", "-q", "--fd", socket_fd, "-P", pid_file };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	unsigned n = 7;
	sigset_t none;
	int r;

	snprintf(socket_fd, sizeof(socket_fd), "%d", ITS_SOCKET);
	snprintf(pid_file, sizeof(pid_file), "/proc/self/fd/%d", ITS_PID);
	if (config->tcp) {
		argv[n++] = "-t";
		argv[n++] = config->tcp;
	}
	if (config->udp) {
		argv[n++] = "-u";
		argv[n++] = config->udp;
	}
	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
	r = r ? r : posix_spawn_file_actions_adddup2(&files, c->words[1], STDERR_FILENO);
	r = r ? r : posix_spawn_file_actions_adddup2(&files, c->socket[1], ITS_SOCKET);
	r = r ? r : posix_spawn_file_actions_adddup2(&files, c->pid[1], ITS_PID);
	/* A group of its own: what the terminal's keys or a shell send to ours is for us, and the guest, to end by. */
	r = r ? r : posix_spawnattr_setpgroup(&attr, 0);
	r = r ? r : posix_spawnattr_setsigmask(&attr, &none);
	r = r ? r : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	r = r ? r : posix_spawnp(pid, PROGRAM, &files, &attr, (char **)(uintptr_t)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

/* The last line of what it said. */
static void last_words(int fd, char *line, size_t size)
{
	char text[4096], *begin;
	ssize_t n = read(fd, text, sizeof(text) - 1);

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	text[n > 0 ? n : 0] = '\0';
	begin = strrchr(text, '\n');
	snprintf(line, size, "%.200s", *text ? begin ? begin + 1 : text : "it said nothing");
}

/* Waits until it is ready. 0, or -errno with a line in `err`. */
static int passt_ready(const struct channels *c, struct error *err)
{
	struct pollfd pfd = { .fd = c->pid[0], .events = POLLIN };
	char byte, line[256];
	int r;

	do {
		r = poll(&pfd, 1, READY_MS);
	} while (r < 0 && errno == EINTR);
	if (r > 0 && read(c->pid[0], &byte, 1) == 1)
		return 0;
	if (r == 0)
		return error_set(err, -ETIMEDOUT, PROGRAM " was not ready within %d s", READY_MS / 1000);
	last_words(c->words[0], line, sizeof(line));
	return error_set(err, -EIO, PROGRAM " did not start: %s", line);
}

static int passt_start(struct passt *passt, const struct net_config *config, struct channels *c, struct error *err)
{
	int r = channels_open(c);

	if (r)
		return error_set(err, r, "no pipes for " PROGRAM ": %s", strerror(-r));
	r = passt_spawn(&passt->pid, config, c);
	if (r) {
		passt->pid = -1;
		error_set(err, r, PROGRAM ": %s", strerror(-r));
		if (r == -ENOENT)
			error_hint(err, "apt install passt; or --network tap");
		return r;
	}
	close(c->pid[1]);
	c->pid[1] = -1;
	close(c->socket[1]);
	c->socket[1] = -1;
	r = passt_ready(c, err);
	if (r)
		return r;
	r = netsock_wrap(c->socket[0], PROGRAM, &passt->stream);
	if (r)
		return error_set(err, r, "no memory");
	c->socket[0] = -1;
	passt->words = c->words[0];
	c->words[0] = -1;
	return 0;
}

int passt_open(const struct net_config *config, struct net_backend **out, struct error *err)
{
	struct passt *passt;
	struct channels c;
	int r = 0;

	/* It goes on without what it does not get. */
	if (config->tcp)
		r = ports_free(config->tcp, false, err);
	if (r == 0 && config->udp)
		r = ports_free(config->udp, true, err);
	if (r)
		return r;
	passt = calloc(1, sizeof(*passt));
	if (!passt)
		return error_set(err, -ENOMEM, "no memory");
	passt->words = -1;
	r = passt_start(passt, config, &c, err);
	channels_close(&c);
	if (r) {
		if (passt->pid > 0)
			kill(passt->pid, SIGTERM);
		passt_close(&passt->b);
		return r;
	}
	passt->b = *passt->stream;
	passt->b.ops = &passt_ops;
	*out = &passt->b;
	return 0;
}
