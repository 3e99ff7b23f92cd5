/* SPDX-License-Identifier: BSD-2-Clause */
/* net.c - back ends of network devices, by kind; and the one of a machine that is only looked at. */
#include "host/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static ssize_t nothing_receive(struct net_backend *b, unsigned pair, const uint8_t **frame)
{
	return -EAGAIN;
}

static int nothing_send(struct net_backend *b, unsigned pair, const struct iovec *iov, unsigned n, size_t bytes)
{
	return 0;
}

static int nothing_attach(struct net_backend *b, unsigned pair, bool on)
{
	return 0;
}

static int nothing_offloads(struct net_backend *b, unsigned tun)
{
	return 0;
}

static void nothing_close(struct net_backend *b)
{
	free(b);
}

static const struct net_ops nothing_ops = {
	.receive = nothing_receive,
	.send = nothing_send,
	.attach = nothing_attach,
	.offloads = nothing_offloads,
	.close = nothing_close,
};

static int nothing_open(const struct net_config *config, struct net_backend **out, struct error *err)
{
	struct net_backend *b = calloc(1, sizeof(*b));

	if (!b)
		return error_set(err, -ENOMEM, "no memory");
	b->ops = &nothing_ops;
	b->pairs = config->kind == NET_TAP ? config->pairs : 1;
	b->vnet = config->kind == NET_TAP;
	if (config->kind == NET_USER)
		b->mtu = config->mtu ? config->mtu : NET_USER_MTU;
	for (unsigned i = 0; i < NET_PAIRS; i++)
		b->fds[i] = -1;
	*out = b;
	return 0;
}

int net_open(const struct net_config *config, const char *device, struct net_backend **out, struct error *err)
{
	int r = -EINVAL;

	*out = NULL;
	if (config->dry) {
		r = nothing_open(config, out, err);
	} else {
		switch (config->kind) {
		case NET_USER:
			r = passt_open(config, out, err);
			break;
		case NET_TAP:
			r = tap_open(config, out, err);
			break;
		case NET_SOCKET:
			r = netsock_open(config->path, out, err);
			break;
		}
	}
	return r ? error_prefix(err, r, "%s", device) : 0;
}

void net_close(struct net_backend *b)
{
	if (b)
		b->ops->close(b);
}
