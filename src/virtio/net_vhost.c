/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net_vhost.c - a network device whose frames the host's kernel carries (vhost-net) between the guest's queues and a
 * tap.
 *
 * The control queue, the config space and the cable stay ours. What the guest may have filtered on the user-space way
 * it is not offered here: nobody of ours sees its frames. While the cable is out, the rings are ours too, and served by
 * nobody.
 */
#include <linux/virtio_ring.h>
#include <string.h>

#include "host/vhost_kernel.h"
#include "virtio/net_inner.h"

/* Frames that came while the cable was out are not for the guest. */
static void drain(struct net_pair *p)
{
	const uint8_t *frame;

	for (unsigned i = 0; i < 4096 && p->net->host->ops->receive(p->net->host, p->index, &frame) > 0; i++)
		;
}

static bool is_data(const struct net *net, unsigned index)
{
	bool control = virtio_has(&net->v, VIRTIO_NET_F_CTRL_VQ) && index == net_control_index(net);

	return index < 2 * net->pairs && !control;
}

static void noticed(void *arg, uint32_t events)
{
	struct net *net = arg;

	if (!net->host->ops->gone(net->host))
		return;
	loop_unwatch(&net->vhost.worker.loop, &net->notice);
	net_back_end_gone(net);
}

bool net_vhost_hand_over(struct virtio *v, unsigned index)
{
	struct net *net = (struct net *)(void *)v;

	if (!net->vhost.backend || !is_data(net, index))
		return false;
	if (net->notice.fd >= 0 && !__atomic_load_n(&net->gone, __ATOMIC_RELAXED))
		(void)loop_watch(&net->vhost.worker.loop, &net->notice, EPOLLIN);
	if (!net_link_up(net))
		return true;
	/* The kernel leaves the header to the tap, of the size that the driver expects (5.1.6.1). */
	if (net->host->ops->header(net->host, (unsigned)net_header_size(net))) {
		virtq_break(&v->queues[index]->q);
		return true;
	}
	if (!virtio_vhost_start(&net->vhost, index))
		return false;
	net_patience_begin(net, index);
	return true;
}

static void relink(void *arg)
{
	struct net *net = arg;
	bool up = net_link_up(net);

	for (unsigned i = 0; i < 2 * net->pairs; i++) {
		if (!up) {
			virtio_vhost_take_back(&net->vhost, i);
			continue;
		}
		if (i % 2 == 0 && !net->vhost.ring[i].running)
			drain(net->pair[i / 2]);
		virtio_enter(&net->v, i);
	}
}

void net_vhost_link(struct net *net)
{
	if (net->vhost.backend)
		loop_post(&net->vhost.worker.loop, &net->relink);
}

/* Nobody of ours would see by its frames that the back end is gone. It is watched from the first ring on. */
static int open_notice(struct net *net, struct error *err)
{
	int fd = net->host->ops->notice ? net->host->ops->notice(net->host) : -1;

	if (net->host->ops->notice && fd < 0)
		return error_set(err, fd, "%s: nothing would tell that %s is gone: %s", net->name, net->host->name,
			strerror(-fd));
	net->notice = (struct loop_watch){ .fd = fd, .fn = noticed, .arg = net };
	return 0;
}

int net_vhost_open(struct net *net, struct error *err)
{
	/* What is between the guest and the tap, whoever carries the frames, is ours to offer. */
	const uint64_t not_ours = 1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
				  1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_F_RING_PACKED |
				  1ULL << VIRTIO_F_VERSION_1;
	struct vhost *backend;
	int r = vhost_net_open(net->host->fds, net->pairs, &backend, err);

	if (r) {
		if (*err->hint) {
			const struct error first = *err;

			error_hint(err, "%.150s; or without vhost, which needs no device", first.hint);
		}
		return error_prefix(err, r, "%s", net->name);
	}
	net->relink = (struct loop_work){ .fn = relink, .arg = net };
	r = virtio_vhost_init(&net->vhost, &net->v, backend, ~not_ours, net->name, err);
	if (r)
		return r;
	r = net_patience_open(net);
	if (r)
		return error_set(err, r, "%s: no timer: %s", net->name, strerror(-r));
	return open_notice(net, err);
}
