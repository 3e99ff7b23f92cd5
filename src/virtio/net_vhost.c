/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net_vhost.c - a network device whose frames the host's kernel carries (vhost-net) between the guest's queues and a tap.
 *
 * The control queue, the config space and the cable stay ours. What the guest may have filtered on the user-space way it is
 * not offered here: nobody of ours sees its frames. While the cable is out, the rings are ours too, and served by nobody. That
 * an interface was deleted the kernel tells only to who waits for frames, and so not to us.
 */
#include <linux/virtio_ring.h>

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

bool net_vhost_hand_over(struct virtio *v, unsigned index)
{
	struct net *net = (struct net *)(void *)v;

	if (!net->vhost.backend || !is_data(net, index))
		return false;
	if (!net_link_up(net))
		return true;
	/* The kernel leaves the header to the tap, of the size that the driver expects (5.1.6.1). */
	if (net->host->ops->header(net->host, (unsigned)net_header_size(net))) {
		virtq_break(&v->queues[index]->q);
		return true;
	}
	return virtio_vhost_start(&net->vhost, index);
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
	return virtio_vhost_init(&net->vhost, &net->v, backend, ~not_ours, net->name, err);
}
