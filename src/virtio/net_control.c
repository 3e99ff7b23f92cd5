/* SPDX-License-Identifier: BSD-2-Clause */
/* net_control.c - a network device's control queue, and the filter that it sets (virtio 1.2, section 5.1.6.5). */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "virtio/net_inner.h"

#define VLAN_TAG      0x8100
#define CONTROL_BATCH 64 /* commands, until others have their turn */

void net_filter_reset(struct net_filter *filter)
{
	memset(filter, 0, sizeof(*filter));
	filter->promisc = true;
}

static bool vlan_wanted(const struct net_filter *filter, const uint8_t *frame, size_t len)
{
	unsigned vid;

	if (len < NET_ETHERNET + 4 || (frame[12] << 8 | frame[13]) != VLAN_TAG)
		return true;
	vid = (unsigned)(frame[14] << 8 | frame[15]) & (NET_VLANS - 1);
	return filter->vlans[vid / 8] >> vid % 8 & 1;
}

static bool listed(const struct net_filter *filter, const uint8_t *mac)
{
	for (unsigned i = 0; i < filter->nr_macs; i++) {
		if (memcmp(filter->macs[i], mac, 6) == 0)
			return true;
	}
	return false;
}

bool net_wants(const struct net_filter *filter, const uint8_t mac[6], bool vlans, const uint8_t *frame, size_t len)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (filter->promisc)
		return true;
	if (vlans && !vlan_wanted(filter, frame, len))
		return false;
	if (memcmp(frame, broadcast, 6) == 0)
		return !filter->nobcast;
	if (frame[0] & 1)
		return !filter->nomulti && (filter->allmulti || filter->all_multi_listed || listed(filter, frame));
	return !filter->nouni &&
	       (filter->alluni || filter->all_uni_listed || memcmp(frame, mac, 6) == 0 || listed(filter, frame));
}

/* ---- commands: true where they were carried out ---- */

static bool take_all(struct virtq_chain *chain, void *buf, size_t n)
{
	return virtq_read(chain, buf, n) == n;
}

/* How much of the command is not read yet. */
static uint64_t left(const struct virtq_chain *chain)
{
	return chain->out_len - chain->out_at;
}

static bool set_rx(struct net *net, uint8_t command, struct virtq_chain *chain)
{
	struct net_filter *f = &net->filter;
	bool *const modes[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	unsigned feature = command <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (command >= sizeof(modes) / sizeof(modes[0]) || !virtio_has(&net->v, feature) || !take_all(chain, &on, 1))
		return false;
	pthread_mutex_lock(&net->lock);
	*modes[command] = on;
	pthread_mutex_unlock(&net->lock);
	return true;
}

/* One of the two lists: a count and so many addresses. */
static bool take_macs(struct virtq_chain *chain, struct net_filter *new, bool *all)
{
	uint32_t entries;
	uint8_t mac[6];

	if (!take_all(chain, &entries, sizeof(entries)))
		return false;
	entries = le32toh(entries);
	if ((uint64_t)entries * sizeof(mac) > left(chain))
		return false;
	*all = entries > NET_MAC_TABLE - new->nr_macs;
	for (uint32_t i = 0; i < entries; i++) {
		/* What is not kept is left for the next list to begin behind it; its length is the chain's, bounded. */
		if (!take_all(chain, mac, sizeof(mac)))
			return false;
		if (!*all)
			memcpy(new->macs[new->nr_macs++], mac, sizeof(mac));
	}
	return true;
}

static bool set_mac(struct net *net, uint8_t command, struct virtq_chain *chain)
{
	struct net_filter new = { .nr_macs = 0 };
	uint8_t mac[6];

	if (command == VIRTIO_NET_CTRL_MAC_ADDR_SET && virtio_has(&net->v, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
		if (left(chain) != sizeof(mac) || !take_all(chain, mac, sizeof(mac)))
			return false;
		pthread_mutex_lock(&net->lock);
		memcpy(net->config.mac, mac, sizeof(mac));
		pthread_mutex_unlock(&net->lock);
		return true;
	}
	if (command != VIRTIO_NET_CTRL_MAC_TABLE_SET || !virtio_has(&net->v, VIRTIO_NET_F_CTRL_RX))
		return false;
	if (!take_macs(chain, &new, &new.all_uni_listed) || !take_macs(chain, &new, &new.all_multi_listed))
		return false;
	pthread_mutex_lock(&net->lock);
	net->filter.all_uni_listed = new.all_uni_listed;
	net->filter.all_multi_listed = new.all_multi_listed;
	net->filter.nr_macs = new.nr_macs;
	memcpy(net->filter.macs, new.macs, sizeof(new.macs));
	pthread_mutex_unlock(&net->lock);
	return true;
}

static bool set_vlan(struct net *net, uint8_t command, struct virtq_chain *chain)
{
	uint16_t vid;

	if (!virtio_has(&net->v, VIRTIO_NET_F_CTRL_VLAN) || !take_all(chain, &vid, sizeof(vid)))
		return false;
	vid = le16toh(vid);
	if (vid >= NET_VLANS || command > VIRTIO_NET_CTRL_VLAN_DEL)
		return false;
	pthread_mutex_lock(&net->lock);
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		net->filter.vlans[vid / 8] |= (uint8_t)(1 << vid % 8);
	else
		net->filter.vlans[vid / 8] &= (uint8_t) ~(1 << vid % 8);
	pthread_mutex_unlock(&net->lock);
	return true;
}

static bool set_pairs(struct net *net, uint8_t command, struct virtq_chain *chain)
{
	uint16_t pairs;

	if (command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !virtio_has(&net->v, VIRTIO_NET_F_MQ) ||
		!take_all(chain, &pairs, sizeof(pairs)))
		return false;
	pairs = le16toh(pairs);
	return pairs >= 1 && pairs <= net->pairs && net_use_pairs(net, pairs) == 0;
}

static bool set_offloads(struct net *net, uint8_t command, struct virtq_chain *chain)
{
	uint64_t offloads;

	if (command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || !virtio_has(&net->v, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
		!take_all(chain, &offloads, sizeof(offloads)))
		return false;
	offloads = le64toh(offloads);
	return !(offloads & ~net->v.state.features) && net_set_offloads(net, offloads) == 0;
}

static bool command(struct net *net, struct virtq_chain *chain)
{
	struct virtio_net_ctrl_hdr hdr;

	if (!take_all(chain, &hdr, sizeof(hdr)))
		return false;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return set_rx(net, hdr.cmd, chain);
	case VIRTIO_NET_CTRL_MAC:
		return set_mac(net, hdr.cmd, chain);
	case VIRTIO_NET_CTRL_VLAN:
		return set_vlan(net, hdr.cmd, chain);
	case VIRTIO_NET_CTRL_MQ:
		return set_pairs(net, hdr.cmd, chain);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return set_offloads(net, hdr.cmd, chain);
	default:
		return false;
	}
}

void net_serve_control(struct net *net, unsigned index)
{
	struct virtq *q = net_queue(net, index);
	struct virtq_chain *chain;
	unsigned done = 0;
	int r = 0;

	virtq_kicks_off(q);
	do {
		while (done < CONTROL_BATCH && (r = virtq_pop(q, &chain)) == 1) {
			uint8_t ack = VIRTIO_NET_OK;

			if (!command(net, chain)) {
				ack = VIRTIO_NET_ERR;
				net_count(&net->control_errors);
			}
			virtq_push(chain, (uint32_t)virtq_write(chain, &ack, 1));
			done++;
		}
		virtq_notify(q);
	} while (done < CONTROL_BATCH && r >= 0 && virtq_kicks_on(q));
	if (done == CONTROL_BATCH || r == -ENOMEM)
		virtio_kick(&net->v, index);
}
