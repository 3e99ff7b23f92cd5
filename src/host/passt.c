/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passt.c - networking without privileges: passt, a program of its own, makes sockets of the host's out of what the
 * guest sends, and answers its DHCP, ARP, NDP and DNS. It is our child, speaks frames over a socket pair (netsock.c),
 * and ends when its end of that is closed. That it is ready is told by its PID file, which is a pipe of ours.
 */
#include "host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/child.h"
#include "host/ports.h"

#define PROGRAM "passt"
/* Its descriptors, as text. */
#define ITS_SOCKET "3"
#define ITS_PID    "/proc/self/fd/4"
#define READY_MS   10000
/* From the end of its socket to its own. */
#define GONE_MS 1000

struct passt {
	struct net_backend b;
	struct net_backend *stream;
	struct child *child;
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

/* Its socket has ended, and so it has, or is about to. */
static bool passt_why(struct net_backend *b, char how[CHILD_HOW])
{
	return child_ended(passt_of(b)->child, GONE_MS, how);
}

static void passt_close(struct net_backend *b)
{
	struct passt *passt = passt_of(b);

	/* By this it ends; where it has no socket yet, by the signal. */
	net_close(passt->stream);
	child_end(passt->child, passt->stream ? 0 : SIGTERM);
	free(passt);
}

static const struct net_ops passt_ops = {
	.receive = passt_receive,
	.send = passt_send,
	.flush = passt_flush,
	.why = passt_why,
	.close = passt_close,
};

/* Two pairs of descriptors: [0] ours, [1] its own. */
struct channels {
	int socket[2], pid[2];
};

static void channels_close(struct channels *c)
{
	const int fds[] = { c->socket[0], c->socket[1], c->pid[0], c->pid[1] };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static int channels_open(struct channels *c)
{
	*c = (struct channels){ { -1, -1 }, { -1, -1 } };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->socket) || pipe2(c->pid, O_CLOEXEC))
		return -errno;
	/* Started by root it becomes nobody before it opens it. */
	return fchmod(c->pid[1], 0222) ? -errno : 0;
}

/*
 * What it announces by DHCP and router advertisement, which not every guest heeds; so the device tells it too. With
 * frames of 1,500 bytes passt fills its socket to us at once, drops the rest, and sends all of the window again.
 */
static unsigned mtu_of(const struct net_config *config)
{
	return config->mtu ? config->mtu : NET_USER_MTU;
}

static int passt_spawn(
	struct child **child, const struct net_config *config, const struct channels *c, struct error *err)
{
	char mtu[16];
	const char *argv[16] = { PROGRAM, "-f", "-q", "--fd", ITS_SOCKET, "-P", ITS_PID, "-m", mtu };
	const int fds[] = { c->socket[1], c->pid[1] };
	const struct child_config child_config = {
		.argv = argv,
		.name = PROGRAM,
		.package = "passt",
		.otherwise = "--network tap",
		.fds = fds,
		.nr_fds = 2,
	};
	unsigned n = 9;

	snprintf(mtu, sizeof(mtu), "%u", mtu_of(config));
	if (config->tcp) {
		argv[n++] = "-t";
		argv[n++] = config->tcp;
	}
	if (config->udp) {
		argv[n++] = "-u";
		argv[n++] = config->udp;
	}
	return child_start(&child_config, child, err);
}

static int passt_start(struct passt *passt, const struct net_config *config, struct channels *c, struct error *err)
{
	int r = channels_open(c);

	if (r)
		return error_set(err, r, "no pipes for " PROGRAM ": %s", strerror(-r));
	r = passt_spawn(&passt->child, config, c, err);
	if (r)
		return r;
	/* Its own ends are its alone. */
	close(c->pid[1]);
	close(c->socket[1]);
	c->pid[1] = c->socket[1] = -1;
	r = child_await(passt->child, c->pid[0], READY_MS, err);
	/* Its words where the host has no route to anywhere. */
	if (r && strstr(err->text, "interface not usable"))
		error_hint(err, "the host needs a network to give the guest one; -n none does without");
	/* It has nothing yet to bring to an end. */
	if (r == -EINTR)
		child_kill(passt->child);
	if (r)
		return r;
	r = netsock_wrap(c->socket[0], PROGRAM, &passt->stream);
	if (r)
		return error_set(err, r, "no memory");
	c->socket[0] = -1;
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
	r = passt_start(passt, config, &c, err);
	channels_close(&c);
	if (r) {
		passt_close(&passt->b);
		return r;
	}
	passt->b = *passt->stream;
	passt->b.ops = &passt_ops;
	passt->b.mtu = mtu_of(config);
	*out = &passt->b;
	return 0;
}
