/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net.c - a network device (virtio 1.2, section 5.1): frames between its queues and a back end of the host's
 * (host/net.h).
 *
 * Each pair of queues has a thread, which waits for kicks and for the back end. Nothing is ever dropped for want of
 * room: a frame that comes when the guest has no buffers stays where it is, and the back end is not read until there
 * are some; a frame that the back end does not take stays in the guest's queue. What is dropped, and counted, is what
 * the guest has filtered out, what fits into no buffer of its, what is malformed, and all while the cable is out.
 *
 * A frame's header is ours on the way out: what the driver wrote is copied, what it may not say by the features that it
 * took is refused, and the copy goes to the host's kernel, which checks the rest.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/say.h"
#include "virtio/net_inner.h"

/* Frames, until the other direction has its turn. */
#define BATCH 128

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER, "a wire structure");
_Static_assert(sizeof(struct virtio_net_hdr_mrg_rxbuf) == NET_HEADER, "the same");

static void tell_link(struct net *net)
{
	uint16_t status = htole16(net_link_up(net) ? VIRTIO_NET_S_LINK_UP : 0);

	if (__atomic_exchange_n(&net->config.status, status, __ATOMIC_RELAXED) == status)
		return;
	net_vhost_link(net);
	virtio_config_changed(&net->v);
}

void net_back_end_gone(struct net *net)
{
	char how[CHILD_HOW];
	bool known;

	if (__atomic_exchange_n(&net->gone, true, __ATOMIC_RELAXED))
		return;
	tell_link(net);
	known = net->host->ops->why && net->host->ops->why(net->host, how);
	say(SAY_SOON_MS, "%s: %s is gone%s%s: the guest's link is down", net->name, net->host->name, known ? ", " : "",
		known ? how : "");
}

static void gone(struct net_pair *p)
{
	p->blocked = false;
	net_back_end_gone(p->net);
}

/* ---- what is waited for ---- */

/* Whether it is among those that the driver uses; what the back end says of another's state is not the end of it. */
static bool is_active(const struct net_pair *p)
{
	return p->index < __atomic_load_n(&p->net->active, __ATOMIC_ACQUIRE);
}

static bool wants_frames(const struct net_pair *p)
{
	return p->receiving && !p->starved && is_active(p);
}

static void watch(struct net_pair *p)
{
	/* Its end is of interest at all times; where there are several pairs, the idle ones' is none. */
	uint32_t events = p->index == 0 ? EPOLLRDHUP : 0;

	if (p->watch.fd < 0)
		return;
	if (__atomic_load_n(&p->net->gone, __ATOMIC_RELAXED)) {
		loop_unwatch(p->loop, &p->watch);
		return;
	}
	if (wants_frames(p))
		events |= EPOLLIN;
	if (p->blocked)
		events |= EPOLLOUT;
	(void)loop_watch(p->loop, &p->watch, events);
}

static void update(void *arg)
{
	watch(arg);
}

/* ---- receiving ---- */

/* Puts the buffers that were taken back. */
static void put_back(struct net_pair *p)
{
	while (p->nr_chains > 0)
		virtq_unpop(p->chains[--p->nr_chains]);
	p->room = 0;
}

/*
 * Takes buffers until there are `need` bytes. 1: there are. 0: not now, and those that there are stay taken. -EMSGSIZE:
 * the buffers are such that they never will be, and none is taken.
 */
static int gather(struct net_pair *p, struct virtq *q, size_t need)
{
	bool merge = virtio_has(&p->net->v, VIRTIO_NET_F_MRG_RXBUF);

	while (p->room < need) {
		struct virtq_chain *chain = NULL;
		int r = -EMSGSIZE;

		if (p->nr_chains < VIRTQ_MAX && p->nr_chains < q->state->size && (!p->nr_chains || merge))
			r = virtq_pop(q, &chain);
		/*
		 * A queue that is broken is like one that is empty. A frame is given up where the host has no memory.
		 */
		if (r == 0 || r == -EINVAL)
			return 0;
		if (r == 1) {
			p->chains[p->nr_chains++] = chain;
			p->room += chain->in_len;
		}
		/* The header lies in one buffer; one without any room helps nobody. */
		if (r != 1 || !chain->in_len || (p->nr_chains == 1 && chain->in_len < net_header_size(p->net))) {
			put_back(p);
			return -EMSGSIZE;
		}
	}
	return 1;
}

/*
 * Who sends in bulk has the next frame soon. Where the guest shares a processor with this thread, as on a busy host,
 * and each frame took that from it, each would have an interrupt, and so would its acknowledgement; a guest that
 * receives would be taken from the copying of the last frame, the socket held, for the next. So the thread becomes
 * patient in a transfer, and finds many. No longer than that: who waits for an answer is served at once.
 */
static void count_turn(struct net_pair *p, unsigned *turns, bool bulk)
{
	*turns = !bulk ? 0 : *turns < NET_BULK_TURNS ? *turns + 1 : NET_BULK_TURNS;
	virtio_worker_be_patient(&p->worker, p->bulk_out == NET_BULK_TURNS || p->bulk_in == NET_BULK_TURNS);
}

/* Hands the waiting frame over. False: it goes on waiting. */
static bool deliver(struct net_pair *p, struct virtq *q)
{
	struct net *net = p->net;
	size_t size = net_header_size(net), before = net->host->vnet ? NET_HEADER : 0, len = p->frame_len - before;
	struct virtio_net_hdr_v1 hdr = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
	const uint8_t *frame = p->frame + before;
	unsigned n;
	int r = gather(p, q, size + len);

	if (r == 0)
		return false;
	if (r < 0) {
		net_count(&p->rx_oversized);
		return true;
	}
	if (before)
		memcpy(&hdr, p->frame, sizeof(hdr));
	if (!virtio_has(&net->v, VIRTIO_NET_F_GUEST_CSUM))
		hdr.flags = 0;
	n = p->nr_chains;
	hdr.num_buffers = htole16((uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		uint64_t done = i == 0 ? virtq_write(p->chains[i], &hdr, size) : 0, body;

		body = virtq_write(p->chains[i], frame, len);
		frame += body;
		len -= body;
		p->written[i] = (uint32_t)(done + body);
	}
	virtq_push_all(p->chains, p->written, n);
	p->nr_chains = 0;
	p->room = 0;
	net_count(&p->rx_frames);
	return true;
}

/* Whether the frame that has come is one for the guest. */
static bool wanted(struct net_pair *p)
{
	struct net *net = p->net;
	size_t before = net->host->vnet ? NET_HEADER : 0;
	bool yes;

	if (!net_link_up(net)) {
		net_count(&p->rx_unplugged);
		return false;
	}
	if (p->frame_len < before + NET_ETHERNET) {
		net_count(&p->rx_filtered);
		return false;
	}
	pthread_mutex_lock(&net->lock);
	yes = net_wants(&net->filter, net->config.mac, virtio_has(&net->v, VIRTIO_NET_F_CTRL_VLAN), p->frame + before,
		p->frame_len - before);
	pthread_mutex_unlock(&net->lock);
	if (!yes)
		net_count(&p->rx_filtered);
	return yes;
}

/* The next frame to hand over, into p->frame. False: there is none now. */
static bool fetch(struct net_pair *p)
{
	struct net_backend *host = p->net->host;
	ssize_t n;

	if (p->frame_len)
		return true;
	n = host->ops->receive(host, p->index, &p->frame);
	if (n > 0) {
		p->frame_len = (size_t)n;
		return true;
	}
	if (n != -EAGAIN && is_active(p))
		gone(p);
	return false;
}

static void receive(struct net_pair *p)
{
	struct virtq *q = net_queue(p->net, 2 * p->index);
	uint64_t bytes = 0;
	unsigned i;

	virtq_kicks_off(q);
	/* A frame that waits for buffers is told of by a kick. */
	for (i = 0; i < BATCH && wants_frames(p) && fetch(p); i++) {
		if (wanted(p)) {
			while (!deliver(p, q)) {
				p->starved = !virtq_kicks_on(q);
				if (p->starved)
					break;
				virtq_kicks_off(q);
			}
			if (p->starved)
				break;
			bytes += p->frame_len;
			/* Not an acknowledgement. */
			if (p->frame_len >= NET_BULK_BYTES)
				p->bulk_out = 0;
		}
		p->frame_len = 0;
	}
	if (bytes) {
		count_turn(p, &p->bulk_in, p->net->host->holds && bytes >= NET_BULK_IN);
		virtq_notify(q);
	}
	/* What is left after a batch may have left the socket already, and then epoll does not tell of it. */
	if (i == BATCH)
		virtio_kick(&p->net->v, 2 * p->index);
}

/* ---- transmitting ---- */

/* What the driver said of offloads, as far as it may; false: it may not. `len`: the frame's bytes. */
static bool check_header(const struct net *net, struct virtio_net_hdr_v1 *hdr, uint64_t len)
{
	uint8_t type = hdr->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	bool ecn = hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN, sum = hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	if (sum && (!virtio_has(&net->v, VIRTIO_NET_F_CSUM) ||
			   (uint64_t)le16toh(hdr->csum_start) + le16toh(hdr->csum_offset) + 2 > len))
		return false;
	if (type == VIRTIO_NET_HDR_GSO_NONE) {
		hdr->gso_type = VIRTIO_NET_HDR_GSO_NONE;
		hdr->gso_size = 0;
	} else {
		if (type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6)
			return false;
		if (!virtio_has(&net->v,
			    type == VIRTIO_NET_HDR_GSO_TCPV4 ? VIRTIO_NET_F_HOST_TSO4 : VIRTIO_NET_F_HOST_TSO6))
			return false;
		if ((ecn && !virtio_has(&net->v, VIRTIO_NET_F_HOST_ECN)) || !sum || !hdr->gso_size)
			return false;
	}
	/* A hint; the kernel refuses one beyond the frame. */
	if (le16toh(hdr->hdr_len) > len)
		hdr->hdr_len = htole16((uint16_t)len);
	hdr->flags = sum ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0;
	hdr->num_buffers = 0;
	return true;
}

/* What of the chain is behind `skip` bytes, into p->iov from `n` on. How many pieces there are then. */
static unsigned pieces(struct net_pair *p, const struct virtq_chain *chain, size_t skip, unsigned n)
{
	for (unsigned i = 0; i < chain->nr_out; i++) {
		size_t len = chain->out[i].iov_len, cut = skip < len ? skip : len;

		skip -= cut;
		if (len > cut)
			p->iov[n++] = (struct iovec){ (uint8_t *)chain->out[i].iov_base + cut, len - cut };
	}
	return n;
}

/* More pieces than a call takes become one. 0 or -ENOMEM. */
static int flatten(struct net_pair *p, struct virtq_chain *chain, unsigned *n, unsigned first)
{
	if (!p->bounce)
		p->bounce = malloc(NET_FRAME);
	if (!p->bounce)
		return -ENOMEM;
	p->iov[first] = (struct iovec){ p->bounce, virtq_read(chain, p->bounce, NET_FRAME) };
	*n = first + 1;
	return 0;
}

/* What came of the frames that the back end has gathered. */
static void settle_gathered(struct net_pair *p, uint64_t *counter)
{
	__atomic_fetch_add(counter, p->gathered, __ATOMIC_RELAXED);
	p->gathered = 0;
}

/* -EAGAIN: not now. Else it is over, sent, gathered or counted. */
static int transmit(struct net_pair *p, struct virtq_chain *chain)
{
	struct net *net = p->net;
	size_t size = net_header_size(net);
	struct virtio_net_hdr_v1 hdr = { .flags = 0 };
	unsigned first = net->host->vnet ? 1 : 0, n;
	uint64_t len;
	int r = 0;

	if (virtq_read(chain, &hdr, size) < size || chain->out_len - size < NET_ETHERNET) {
		net_count(&p->tx_malformed);
		return 0;
	}
	len = chain->out_len - size;
	if (len > NET_FRAME) {
		net_count(&p->tx_oversized);
		return 0;
	}
	if (!check_header(net, &hdr, len)) {
		net_count(&p->tx_malformed);
		return 0;
	}
	if (!net_link_up(net)) {
		net_count(&p->tx_unplugged);
		return 0;
	}
	p->iov[0] = (struct iovec){ &hdr, sizeof(hdr) };
	n = pieces(p, chain, size, first);
	if (n > NET_IOV)
		r = flatten(p, chain, &n, first);
	if (r == 0)
		r = net->host->ops->send(net->host, p->index, p->iov, n, len + (first ? sizeof(hdr) : 0));
	if (r == -EAGAIN)
		return r;
	if (r == -EPIPE) {
		/* It may have been those before it that did not get out. */
		settle_gathered(p, &p->tx_refused);
		if (is_active(p))
			gone(p);
	}
	if (r)
		net_count(&p->tx_refused);
	else if (net->host->ops->flush)
		p->gathered++;
	else
		net_count(&p->tx_frames);
	return 0;
}

static void flush(struct net_pair *p)
{
	struct net_backend *host = p->net->host;
	int r;

	p->blocked = false;
	if (!host->ops->flush || !net_link_up(p->net))
		return;
	r = host->ops->flush(host, p->index);
	p->blocked = r == -EAGAIN;
	if (p->blocked)
		return;
	settle_gathered(p, r ? &p->tx_refused : &p->tx_frames);
	if (r)
		gone(p);
}

static void serve_transmit(struct net_pair *p)
{
	unsigned index = 2 * p->index + 1, done = 0;
	int r = 0;
	struct virtq *q = net_queue(p->net, index);
	struct virtq_chain *chain;
	uint64_t bytes = 0, len;

	/* What is left of an earlier frame. If not even that is taken, nothing is. */
	flush(p);
	virtq_kicks_off(q);
	do {
		while (!p->blocked && done < BATCH && (r = virtq_pop(q, &chain)) == 1) {
			len = chain->out_len;
			if (transmit(p, chain) == -EAGAIN) {
				virtq_unpop(chain);
				p->blocked = true;
				break;
			}
			virtq_push(chain, 0);
			bytes += len;
			done++;
		}
		if (!p->blocked)
			flush(p);
		virtq_notify(q);
	} while (!p->blocked && done < BATCH && r >= 0 && virtq_kicks_on(q));
	if (done)
		count_turn(p, &p->bulk_out, bytes >= NET_BULK_BYTES);
	/* The others' turn; or memory may be there then. */
	if ((done == BATCH || r == -ENOMEM) && !p->blocked)
		virtio_kick(&p->net->v, index);
}

/* ---- what happens ---- */

static void back_end_ready(void *arg, uint32_t events)
{
	struct net_pair *p = arg;

	if (events & EPOLLOUT) {
		/* Here, as nobody may serve the queue just now. */
		flush(p);
		if (!p->blocked)
			virtio_kick(&p->net->v, 2 * p->index + 1);
	}
	if (wants_frames(p)) {
		if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))
			receive(p);
	} else if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
		gone(p);
	}
	watch(p);
}

static void net_serve(struct virtio *v, unsigned index)
{
	struct net *net = (struct net *)(void *)v;
	struct net_pair *p = net->pair[index / 2 < net->pairs ? index / 2 : 0];

	if (virtio_has(v, VIRTIO_NET_F_CTRL_VQ) && index == net_control_index(net)) {
		net_serve_control(net, index);
		return;
	}
	if (index >= 2 * net->pairs)
		return;
	if (index % 2) {
		serve_transmit(p);
	} else {
		p->receiving = true;
		p->starved = false;
		receive(p);
	}
	watch(p);
}

static void net_quiesce(struct virtio *v, unsigned index)
{
	struct net *net = (struct net *)(void *)v;

	/* No chain is held but those that the frame which waits has got so far. */
	if (index < 2 * net->pairs) {
		struct net_pair *p = net->pair[index / 2];

		/* Frames that the back end has kept, and that were told as sent, still go. */
		if (index % 2 == 0) {
			put_back(p);
			p->receiving = p->starved = false;
			if (p->frame_len)
				net_count(&p->rx_reset);
			p->frame_len = 0;
		}
		watch(p);
	}
	virtio_vhost_quiesce(&net->vhost, index);
}

static bool net_pause(struct virtio *v, unsigned index)
{
	return virtio_vhost_pause(&((struct net *)(void *)v)->vhost, index);
}

int net_use_pairs(struct net *net, unsigned pairs)
{
	int r = 0;

	/* No thread is at work on a pair that is detached. */
	if (pairs < __atomic_load_n(&net->active, __ATOMIC_RELAXED))
		__atomic_store_n(&net->active, pairs, __ATOMIC_RELEASE);
	for (unsigned i = 1; r == 0 && i < net->pairs; i++)
		r = net->host->ops->attach ? net->host->ops->attach(net->host, i, i < pairs) : 0;
	if (r == 0)
		__atomic_store_n(&net->active, pairs, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < net->pairs; i++)
		loop_post(net->pair[i]->loop, &net->pair[i]->update);
	return r;
}

int net_set_offloads(struct net *net, uint64_t features)
{
	static const struct {
		unsigned feature, tun;
	} table[] = {
		{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
	};
	unsigned tun = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (features >> table[i].feature & 1)
			tun |= table[i].tun;
	}
	/* Segments want sums left undone (5.1.3.1); the kernel refuses them without. */
	if (!(tun & TUN_F_CSUM))
		tun = 0;
	return net->host->ops->offloads ? net->host->ops->offloads(net->host, tun) : 0;
}

static void net_ready(struct virtio *v)
{
	struct net *net = (struct net *)(void *)v;

	(void)net_set_offloads(net, v->state.features);
}

static void net_reset(struct virtio *v)
{
	struct net *net = (struct net *)(void *)v;

	pthread_mutex_lock(&net->lock);
	net_filter_reset(&net->filter);
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
	pthread_mutex_unlock(&net->lock);
	(void)net_use_pairs(net, 1);
	(void)net_set_offloads(net, 0);
}

/* Drivers of before 1.0 set the address by writing it (5.1.4.3), byte by byte. */
static void net_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	struct net *net = (struct net *)(void *)v;

	if (virtio_has(v, VIRTIO_F_VERSION_1) || virtio_has(v, VIRTIO_NET_F_CTRL_MAC_ADDR))
		return;
	pthread_mutex_lock(&net->lock);
	for (unsigned i = 0; i < len && offset + i < sizeof(net->config.mac); i++)
		net->config.mac[offset + i] = bytes[i];
	pthread_mutex_unlock(&net->lock);
}

/* The user pulls the cable, or plugs it in again. */
static void set_link(struct vm_link *link, bool up)
{
	struct net *net = container_of(link, struct net, link);

	__atomic_store_n(&net->plugged, up, __ATOMIC_RELAXED);
	tell_link(net);
}

static bool link_is_up(struct vm_link *link)
{
	return net_link_up(container_of(link, struct net, link));
}

/* ---- life ---- */

void virtio_net_mac(const char *guest, const char *device, uint8_t mac[6])
{
	/* FNV-1a of "GUEST/DEVICE". */
	uint64_t hash = 0xcbf29ce484222325;

	for (const char *at = guest; *at; at++)
		hash = (hash ^ (uint8_t)*at) * 0x100000001b3;
	hash = (hash ^ '/') * 0x100000001b3;
	for (const char *at = device; *at; at++)
		hash = (hash ^ (uint8_t)*at) * 0x100000001b3;
	/* The upper bits are what the last bytes have reached least. */
	hash ^= hash >> 29;
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)(hash >> 8 * i);
	mac[0] = (uint8_t)((mac[0] & ~1) | 2);
}

static int choose_mac(struct net *net, const struct virtio_net_options *o, struct error *err)
{
	if (o->has_mac) {
		memcpy(net->mac, o->mac, sizeof(net->mac));
	} else if (o->guest) {
		virtio_net_mac(o->guest, net->name, net->mac);
	} else {
		if (getrandom(net->mac, sizeof(net->mac), 0) != sizeof(net->mac))
			return error_set(err, -EIO, "%s: the host has no random numbers", net->name);
		net->mac[0] = (uint8_t)((net->mac[0] & ~1) | 2);
	}
	return 0;
}

static uint64_t features(const struct net *net)
{
	uint64_t f = 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_STATUS | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
		     1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_CTRL_MAC_ADDR;

	/* Who sees no frame filters none. */
	if (!net->kernel)
		f |= 1ULL << VIRTIO_NET_F_CTRL_RX | 1ULL << VIRTIO_NET_F_CTRL_RX_EXTRA | 1ULL << VIRTIO_NET_F_CTRL_VLAN;
	if (net->host->vnet)
		f |= 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_TSO4 |
		     1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN | 1ULL << VIRTIO_NET_F_HOST_TSO4 |
		     1ULL << VIRTIO_NET_F_HOST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_ECN |
		     1ULL << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
	if (net->pairs > 1)
		f |= 1ULL << VIRTIO_NET_F_MQ;
	if (net->config.mtu)
		f |= 1ULL << VIRTIO_NET_F_MTU;
	return f;
}

static void net_destroy(struct virtio *v)
{
	struct net *net = (struct net *)(void *)v;

	list_del(&net->link.node);
	for (unsigned i = 0; i < NET_PAIRS; i++) {
		if (net->pair[i])
			virtio_worker_stop(&net->pair[i]->worker);
	}
	virtio_vhost_fini(&net->vhost);
	virtio_fini(v);
	for (unsigned i = 0; i < NET_PAIRS; i++) {
		if (net->pair[i])
			free(net->pair[i]->bounce);
		free(net->pair[i]);
	}
	net_close(net->host);
	pthread_mutex_destroy(&net->lock);
	net_patience_close(net);
	free(net);
}

static int make_queue(struct net *net, struct loop *loop, struct error *err)
{
	if (net->vhost.backend)
		return virtio_vhost_queue(&net->vhost, NET_QUEUE, err);
	return virtio_queue(&net->v, NET_QUEUE, loop, err);
}

static int make_pair(struct net *net, unsigned index, bool dry, struct error *err)
{
	struct net_pair *p = calloc(1, sizeof(*p));
	char thread[40];
	int r = 0;

	if (!p)
		return error_set(err, -ENOMEM, "%s: no memory", net->name);
	net->pair[index] = p;
	p->net = net;
	p->index = index;
	p->watch = (struct loop_watch){ .fd = net->host->fds[index], .fn = back_end_ready, .arg = p };
	p->update = (struct loop_work){ .fn = update, .arg = p };
	p->loop = &net->v.vm->loop;
	if (net->vhost.backend) {
		p->loop = &net->vhost.worker.loop;
	} else if (!dry) {
		snprintf(thread, sizeof(thread), "%.11s/%u", net->name, index);
		r = virtio_worker_start(&p->worker, thread);
		p->loop = &p->worker.loop;
	}
	if (r)
		return error_set(err, r, "%s: no thread: %s", net->name, strerror(-r));
	r = make_queue(net, p->loop, err);
	return r ? r : make_queue(net, p->loop, err);
}

static int net_fill(struct net *net, const struct virtio_net_options *o, struct error *err)
{
	int r = choose_mac(net, o, err);

	if (r == 0)
		r = net->kernel ? net_vhost_open(net, err) : virtio_vhost_init(&net->vhost, &net->v, NULL, 0, "", err);
	for (unsigned i = 0; r == 0 && i < net->pairs; i++)
		r = make_pair(net, i, o->host.dry, err);
	if (r == 0)
		r = make_queue(net, net->pair[0]->loop, err);
	if (r)
		return r;
	net->active = 1;
	net->plugged = true;
	net->config.status = htole16(VIRTIO_NET_S_LINK_UP);
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
	net_filter_reset(&net->filter);
	return 0;
}

static int net_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct virtio_net_options *o = config;
	struct net *net = calloc(1, sizeof(*net));
	unsigned mtu;
	int r;

	if (!net)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	pthread_mutex_init(&net->lock, NULL);
	list_init(&net->link.node);
	snprintf(net->name, sizeof(net->name), "%s", name);
	r = net_open(&o->host, name, &net->host, err);
	if (r) {
		pthread_mutex_destroy(&net->lock);
		free(net);
		return r;
	}
	net->pairs = net->host->pairs;
	net->kernel = o->vhost && !o->host.dry;
	net->patience.timer.fd = -1;
	mtu = o->mtu ? o->mtu : net->host->mtu;
	net->config.max_virtqueue_pairs = htole16((uint16_t)net->pairs);
	net->config.mtu = htole16((uint16_t)mtu);
	/* Up to and with the MTU. */
	virtio_init(&net->v, &virtio_net_type, vm, features(net), &net->config,
		offsetof(struct virtio_net_config, mtu) + sizeof(net->config.mtu));
	r = net_fill(net, o, err);
	if (r) {
		net_destroy(&net->v);
		return r;
	}
	net->link.name = net->name;
	net->link.wanted = true;
	net->link.set = set_link;
	net->link.up = link_is_up;
	list_add_tail(&vm->links, &net->link.node);
	*out = &net->v;
	return 0;
}

/* Of all pairs together. */
static void net_counts(struct virtio *v, virtio_count_fn *one, void *arg)
{
	static const struct {
		const char *name;
		size_t at;
	} counters[] = {
		{ "rx_frames", offsetof(struct net_pair, rx_frames) },
		{ "rx_filtered", offsetof(struct net_pair, rx_filtered) },
		{ "rx_oversized", offsetof(struct net_pair, rx_oversized) },
		{ "rx_unplugged", offsetof(struct net_pair, rx_unplugged) },
		{ "rx_reset", offsetof(struct net_pair, rx_reset) },
		{ "tx_frames", offsetof(struct net_pair, tx_frames) },
		{ "tx_malformed", offsetof(struct net_pair, tx_malformed) },
		{ "tx_oversized", offsetof(struct net_pair, tx_oversized) },
		{ "tx_refused", offsetof(struct net_pair, tx_refused) },
		{ "tx_unplugged", offsetof(struct net_pair, tx_unplugged) },
		{ "vhost_patient", offsetof(struct net_pair, vhost_patient) },
	};
	const struct net *net = container_of(v, struct net, v);

	for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		uint64_t sum = 0;

		for (unsigned pair = 0; pair < net->pairs; pair++) {
			const uint8_t *at = (const uint8_t *)net->pair[pair] + counters[i].at;

			sum += __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
		}
		one(arg, counters[i].name, sum);
	}
}

const struct virtio_type virtio_net_type = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.create = net_create,
	.destroy = net_destroy,
	.config_write = net_config_write,
	.ready = net_ready,
	.hand_over = net_vhost_hand_over,
	.serve = net_serve,
	.quiesce = net_quiesce,
	.pause = net_pause,
	.reset = net_reset,
	.counts = net_counts,
};
