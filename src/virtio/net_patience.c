/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net_patience.c - when the kernel's thread that carries a guest's frames (vhost-net) may wait for its turn.
 *
 * Where that thread shares a processor with the guest, and each kick gives it that, the two go in lockstep: a frame
 * goes out, is acknowledged, and each has an interrupt for itself. In a transfer it is better patient, as our own
 * threads are (count_turn() in net.c), and finds many; at other times it would only keep the guest waiting for an
 * answer. But nobody of ours sees the frames. So as long as there are some, the rings are looked at every few
 * milliseconds; when there are none for a while, the guest's next one is waited for by its kick, and nothing runs. (Who
 * only ever receives is not seen; TCP acknowledges.) What the guest has written there is taken for a hint: one that
 * lies has its own thread wait.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "virtio/net_inner.h"

#define LOOK_NS     5000000L
#define LOOKS_QUIET 3  /* looks in a row that have seen nothing */
#define ENTRIES     8  /* of a ring that are looked at, the newest */
#define PIECES      32 /* of a frame */
#define ONE_WAY     8  /* a transfer has so many times the bytes of what goes the other way */

/* Not where the machine may be gone, and only a host that did not answer keeps the thread (see used() in vhost.c). */
static bool runs(const struct net *net, unsigned pair)
{
	return !__atomic_load_n(&net->v.abandoned, __ATOMIC_ACQUIRE) && net->vhost.ring[2 * pair].running &&
	       net->vhost.ring[2 * pair + 1].running;
}

static struct virtq_state state_of(const struct net *net, unsigned index)
{
	struct virtq_state state;

	pthread_mutex_lock(&net->v.transport->lock);
	state = net->v.queues[index]->state;
	pthread_mutex_unlock(&net->v.transport->lock);
	return state;
}

/* As far as it is looked at; each word by itself, as the guest may be writing. 0 or -EFAULT. */
static int load_desc(struct mem_window *w, uint64_t at, struct vring_desc *d)
{
	uint32_t low, high, len;
	uint16_t flags, next;

	if (mem_window_load32(w, at, &low) || mem_window_load32(w, at + 4, &high) ||
		mem_window_load32(w, at + offsetof(struct vring_desc, len), &len) ||
		mem_window_load16(w, at + offsetof(struct vring_desc, flags), &flags) ||
		mem_window_load16(w, at + offsetof(struct vring_desc, next), &next))
		return -EFAULT;
	*d = (struct vring_desc){ (uint64_t)high << 32 | low, len, flags, next };
	return 0;
}

/* Bytes of the frame at `head` of the descriptor table (2.7.5), as far as it can be read. */
static uint64_t frame_bytes(struct mem_window *w, const struct virtq_state *s, unsigned head)
{
	uint64_t table = s->desc, bytes = 0;
	unsigned size = s->size, at = head;
	struct vring_desc d;

	for (unsigned i = 0; i < PIECES && at < size; i++) {
		if (load_desc(w, table + (uint64_t)at * sizeof(d), &d))
			break;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (table != s->desc)
				break;
			table = d.addr;
			size = d.len / sizeof(d);
			at = 0;
			continue;
		}
		bytes += d.len;
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
		at = d.next;
	}
	return bytes;
}

/* How long the frames are that the driver has offered last, of `n`: their mean. */
static uint64_t sent_mean(struct mem_window *w, const struct virtq_state *s, uint16_t idx, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 1; i <= n; i++) {
		uint64_t at = offsetof(struct vring_avail, ring) + (uint16_t)(idx - i) % s->size * sizeof(uint16_t);
		uint16_t head;

		if (mem_window_load16(w, s->driver + at, &head))
			return 0;
		bytes += frame_bytes(w, s, head);
	}
	return bytes / n;
}

/* How much is in the buffers that the driver got back last, of `n`: the mean. */
static uint64_t received_mean(struct mem_window *w, const struct virtq_state *s, uint16_t idx, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 1; i <= n; i++) {
		const size_t size = sizeof(struct vring_used_elem);
		uint64_t at = offsetof(struct vring_used, ring) + (uint16_t)(idx - i) % s->size * size;
		uint32_t len;

		if (mem_window_load32(w, s->device + at + offsetof(struct vring_used_elem, len), &len))
			return 0;
		bytes += len;
	}
	return bytes / n;
}

/* What went one way since the last look. */
struct way {
	uint16_t frames; /* or buffers */
	uint64_t mean;   /* of the newest ones' bytes */
};

/*
 * Not questions and answers of about the same length; short ones with long answers are taken for a transfer, as they
 * are by our own threads.
 */
static bool is_bulk(const struct way *way, const struct way *back)
{
	uint64_t bytes = way->mean * way->frames;

	return way->mean >= NET_BULK_BYTES && bytes >= NET_BULK_IN && bytes / ONE_WAY >= back->mean * back->frames;
}

static void tell(struct net *net, unsigned pair, bool patient)
{
	struct net_patience_pair *p = &net->patience.pair[pair];
	struct vhost *b = net->vhost.backend;

	if (p->patient == patient)
		return;
	p->patient = b->ops->be_patient(b, 2 * pair, patient) == 0 && patient;
	if (p->patient)
		net_count(&net->pair[pair]->vhost_patient);
}

static unsigned newest(uint16_t frames)
{
	return frames < ENTRIES ? frames : ENTRIES;
}

/* What went by since the last look. */
static void look_through(struct net *net, unsigned pair, struct way *out, struct way *in)
{
	struct net_patience_pair *p = &net->patience.pair[pair];
	const struct virtq_state rx = state_of(net, 2 * pair), tx = state_of(net, 2 * pair + 1);
	struct mem_window *w = &net->patience.window;
	uint16_t sent, received;

	if (!tx.size || !rx.size || mem_window_load16(w, tx.driver + offsetof(struct vring_avail, idx), &sent) ||
		mem_window_load16(w, rx.device + offsetof(struct vring_used, idx), &received))
		return;
	out->frames = (uint16_t)(sent - p->sent);
	in->frames = (uint16_t)(received - p->received);
	if (out->frames)
		out->mean = sent_mean(w, &tx, sent, newest(out->frames));
	if (in->frames)
		in->mean = received_mean(w, &rx, received, newest(in->frames));
	p->sent = sent;
	p->received = received;
}

/* Whether frames went by since the last look. */
static bool look_at(struct net *net, unsigned pair)
{
	struct way out = { 0 }, in = { 0 };

	if (runs(net, pair)) {
		mem_window_open(&net->patience.window, &net->v.vm->mem);
		look_through(net, pair, &out, &in);
		mem_window_close(&net->patience.window);
	}
	tell(net, pair, is_bulk(&out, &in) || is_bulk(&in, &out));
	return out.frames || in.frames;
}

static void set_timer(struct net *net, bool on)
{
	const long ns = on ? LOOK_NS : 0;
	const struct itimerspec when = { { 0, ns }, { 0, ns } };

	if (timerfd_settime(net->patience.timer.fd, 0, &when, NULL) == 0)
		net->patience.looking = on;
}

/* A watch for edges tells of the kicks that there have been, once, and then of each. */
static void await_kick(struct net *net, unsigned pair)
{
	struct net_patience_pair *p = &net->patience.pair[pair];

	p->kick.fd = net->v.queues[2 * pair + 1]->kick;
	(void)loop_watch(&net->vhost.worker.loop, &p->kick, EPOLLIN | EPOLLET);
}

static void look(void *arg, uint32_t events)
{
	struct net *net = arg;
	bool moved = false;
	uint64_t n;

	if (read(net->patience.timer.fd, &n, sizeof(n)) != sizeof(n))
		return;
	for (unsigned i = 0; i < net->pairs; i++)
		moved |= look_at(net, i);
	net->patience.quiet = moved ? 0 : net->patience.quiet + 1;
	if (net->patience.quiet < LOOKS_QUIET)
		return;
	set_timer(net, false);
	for (unsigned i = 0; i < net->pairs; i++)
		if (runs(net, i))
			await_kick(net, i);
}

static void kicked(void *arg, uint32_t events)
{
	struct net_patience_pair *p = arg;
	struct net *net = p->net;
	unsigned pair = (unsigned)(p - net->patience.pair);

	if (!runs(net, pair)) {
		loop_unwatch(&net->vhost.worker.loop, &p->kick);
		return;
	}
	/* Not by a kick of before. */
	if (!look_at(net, pair))
		return;
	for (unsigned i = 0; i < net->pairs; i++)
		loop_unwatch(&net->vhost.worker.loop, &net->patience.pair[i].kick);
	net->patience.quiet = 0;
	set_timer(net, true);
}

void net_patience_begin(struct net *net, unsigned index)
{
	unsigned pair = index / 2;

	if (net->patience.timer.fd < 0 || !runs(net, pair))
		return;
	(void)look_at(net, pair);
	if (!net->patience.looking)
		await_kick(net, pair);
}

int net_patience_open(struct net *net)
{
	struct vhost *b = net->vhost.backend;
	int fd;

	for (unsigned i = 0; i < NET_PAIRS; i++)
		net->patience.pair[i] = (struct net_patience_pair){ .net = net,
			.kick = { .fn = kicked, .arg = &net->patience.pair[i] } };
	/* Where the host lets nobody tell its thread, there is nothing to look for. */
	if (!b->ops->be_patient || b->ops->be_patient(b, 0, false))
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	net->patience.timer = (struct loop_watch){ .fd = fd, .fn = look, .arg = net };
	return loop_watch(&net->vhost.worker.loop, &net->patience.timer, EPOLLIN);
}

void net_patience_close(struct net *net)
{
	if (net->patience.timer.fd >= 0)
		close(net->patience.timer.fd);
}
