/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock.c - sockets between guest and host (virtio 1.2, section 5.10). Packets are the kernel's business (vhost-vsock),
 * or host/vsock.c's, which has Unix sockets at their other end; here are the queues.
 *
 * The event queue is ours in both cases. There is one event: all connections are gone, though the guest did not end
 * them, as when it has reset one queue of a device that goes on.
 */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/vhost_kernel.h"
#include "host/vsock.h"
#include "virtio/vhost.h"

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, NR_QUEUES };

#define QUEUE_SIZE 128
#define F_STREAM   0  /* 5.10.3; not in the kernel's header */
#define BATCH      64 /* packets, until the other direction has its turn */

_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "a wire structure");

/* The features that we know; the kernel's own are among them. */
#define FEATURES (1ULL << F_STREAM | 1ULL << VIRTIO_VSOCK_F_SEQPACKET)

struct vsock_device {
	struct virtio v; /* first */
	struct virtio_vsock_config config;
	struct virtio_vhost vhost; /* v is its, also where we serve */
	/* What follows is the worker's. */
	struct virtio_worker worker; /* where we serve */
	struct vsock *host;
	bool receiving;   /* the guest has given buffers */
	bool sending;     /* and its packets are served */
	bool held_up;     /* its packets wait until it takes ours */
	bool interrupted; /* atomic: the guest is owed the event */
};

static struct vsock_device *device_of(struct virtio *v)
{
	return (struct vsock_device *)(void *)v;
}

static struct virtq *queue_of(struct vsock_device *d, unsigned index)
{
	return &d->v.queues[index]->q;
}

/* ---- the event ---- */

/* False: the host has no memory for it now, and it will be tried again. */
static bool tell_interrupted(struct vsock_device *d)
{
	const struct virtio_vsock_event event = { .id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };
	struct virtq *q = queue_of(d, QUEUE_EVENT);
	struct virtq_chain *chain;
	int r = __atomic_load_n(&d->interrupted, __ATOMIC_RELAXED) ? virtq_pop(q, &chain) : 0;

	if (r == -ENOMEM)
		virtio_kick(&d->v, QUEUE_EVENT);
	if (r != 1)
		return r != -ENOMEM;
	__atomic_store_n(&d->interrupted, false, __ATOMIC_RELAXED);
	virtq_push(chain, (uint32_t)virtq_write(chain, &event, sizeof(event)));
	virtq_notify(q);
	return true;
}

/* Buffers stay where they are until there is something to say. */
static void serve_events(struct vsock_device *d)
{
	struct virtq *q = queue_of(d, QUEUE_EVENT);

	virtq_kicks_off(q);
	while (tell_interrupted(d) && virtq_kicks_on(q) && __atomic_load_n(&d->interrupted, __ATOMIC_RELAXED))
		;
}

/* ---- packets ---- */

/* The guest's next buffer gets the next packet. False: there is no buffer, or nothing for it. */
static bool give(struct vsock_device *d, struct virtq *q)
{
	struct virtq_chain *chain;
	size_t len;
	int r;

	if (!vsock_pending(d->host))
		return false;
	r = virtq_pop(q, &chain);
	/* Memory may be there later. */
	if (r == -ENOMEM)
		virtio_kick(&d->v, QUEUE_RX);
	if (r != 1)
		return false;
	/* One that holds no more than a header would be the end of a stream; the driver may have others. */
	if (chain->in_len <= sizeof(struct virtio_vsock_hdr)) {
		__atomic_fetch_add(&d->v.vm->guest_faults, 1, __ATOMIC_RELAXED);
		virtq_push(chain, 0);
		return true;
	}
	len = vsock_give(d->host, chain->in, chain->nr_in);
	if (!len) {
		virtq_unpop(chain);
		return false;
	}
	virtq_push(chain, (uint32_t)len);
	return true;
}

static void serve_rx(struct vsock_device *d)
{
	struct virtq *q = queue_of(d, QUEUE_RX);
	unsigned n = 0, before;

	if (!d->receiving)
		return;
	virtq_kicks_off(q);
	do {
		before = n;
		while (n < BATCH && give(d, q))
			n++;
		/* Kicks are of interest only while something waits for a buffer. */
	} while (n < BATCH && vsock_pending(d->host) && virtq_kicks_on(q) && n > before);
	virtq_notify(q);
	if (n == BATCH)
		virtio_kick(&d->v, QUEUE_RX);
	if (n && d->held_up) {
		d->held_up = false;
		virtio_kick(&d->v, QUEUE_TX);
	}
}

/* What follows a header in the chain, as pieces. */
static unsigned payload(const struct virtq_chain *chain, struct iovec *iov)
{
	size_t skip = sizeof(struct virtio_vsock_hdr);
	unsigned n = 0;

	for (unsigned i = 0; i < chain->nr_out; i++) {
		size_t len = chain->out[i].iov_len, cut = skip < len ? skip : len;

		skip -= cut;
		if (len > cut)
			iov[n++] = (struct iovec){ (uint8_t *)chain->out[i].iov_base + cut, len - cut };
	}
	return n;
}

/* False: it has to wait. */
static bool take(struct vsock_device *d, struct virtq_chain *chain)
{
	struct iovec iov[VIRTQ_MAX];
	struct virtio_vsock_hdr hdr;

	if (virtq_read(chain, &hdr, sizeof(hdr)) < sizeof(hdr) || le32toh(hdr.len) > chain->out_len - sizeof(hdr)) {
		__atomic_fetch_add(&d->v.vm->guest_faults, 1, __ATOMIC_RELAXED);
		return true;
	}
	return vsock_take(d->host, &hdr, iov, payload(chain, iov));
}

static void serve_tx(struct vsock_device *d)
{
	struct virtq *q = queue_of(d, QUEUE_TX);
	uint64_t faults = vsock_faults(d->host);
	struct virtq_chain *chain;
	unsigned n = 0;
	int r = 0;

	if (d->held_up)
		return;
	virtq_kicks_off(q);
	do {
		while (n < BATCH && !d->held_up && (r = virtq_pop(q, &chain)) == 1) {
			d->held_up = !take(d, chain);
			if (d->held_up) {
				virtq_unpop(chain);
				break;
			}
			virtq_push(chain, 0);
			n++;
		}
	} while (n < BATCH && !d->held_up && r >= 0 && virtq_kicks_on(q));
	virtq_notify(q);
	faults = vsock_faults(d->host) - faults;
	__atomic_fetch_add(&d->v.vm->guest_faults, faults, __ATOMIC_RELAXED);
	if ((n == BATCH || r == -ENOMEM) && !d->held_up)
		virtio_kick(&d->v, QUEUE_TX);
	serve_rx(d);
}

static void host_wants(void *arg)
{
	serve_rx(arg);
}

/* ---- life ---- */

static void vsock_serve(struct virtio *v, unsigned index)
{
	struct vsock_device *d = device_of(v);

	if (index == QUEUE_EVENT) {
		serve_events(d);
		return;
	}
	if (!d->host)
		return;
	if (index == QUEUE_RX)
		d->receiving = true;
	else
		d->sending = true;
	/* A connection needs both; whichever comes back last after a reset of it finds what waits. */
	if (d->receiving && d->sending) {
		vsock_ready(d->host, true);
		(void)tell_interrupted(d);
	}
	if (index == QUEUE_RX)
		serve_rx(d);
	else
		serve_tx(d);
}

static bool vsock_hand_over(struct virtio *v, unsigned index)
{
	return !device_of(v)->host && index != QUEUE_EVENT && virtio_vhost_start(&device_of(v)->vhost, index);
}

static void vsock_quiesce(struct virtio *v, unsigned index)
{
	struct vsock_device *d = device_of(v);

	if (d->host && index != QUEUE_EVENT) {
		if (index == QUEUE_RX)
			d->receiving = false;
		else
			d->sending = false;
		/* What it waits for is gone with the queue, and nobody else would wake it. */
		if (index == QUEUE_RX && d->held_up)
			virtio_kick(v, QUEUE_TX);
		d->held_up = false;
		/* If not all of the device is reset, the driver is told when it has the queue again. */
		if (vsock_connections(d->host))
			__atomic_store_n(&d->interrupted, true, __ATOMIC_RELAXED);
		vsock_ready(d->host, false);
	}
	virtio_vhost_quiesce(&d->vhost, index);
}

static bool vsock_pause(struct virtio *v, unsigned index)
{
	return virtio_vhost_pause(&device_of(v)->vhost, index);
}

static void vsock_reset(struct virtio *v)
{
	__atomic_store_n(&device_of(v)->interrupted, false, __ATOMIC_RELAXED);
}

static void vsock_destroy(struct virtio *v)
{
	struct vsock_device *d = device_of(v);

	virtio_worker_stop(&d->worker);
	vsock_close(d->host);
	virtio_vhost_fini(&d->vhost);
	virtio_fini(v);
	free(d);
}

static int open_kernel(
	struct vsock_device *d, const struct virtio_vsock_options *o, const char *name, struct error *err)
{
	struct vhost *backend = NULL;
	int r = o->dry ? 0 : vhost_vsock_open(o->cid, &backend, err);

	if (r == 0)
		return virtio_vhost_init(&d->vhost, &d->v, backend, 0, name, err);
	if (r != -EADDRINUSE && *err->hint) {
		const struct error first = *err;

		error_hint(err, "%.150s; or uds=PATH, which needs no device", first.hint);
	}
	return error_prefix(err, r, "%s", name);
}

static int open_user(struct vsock_device *d, const struct virtio_vsock_options *o, const char *name, struct error *err)
{
	int r = virtio_vhost_init(&d->vhost, &d->v, NULL, 0, name, err);

	if (r == 0)
		r = virtio_worker_start(&d->worker, name);
	if (r)
		return error_set(err, r, "%s: no thread: %s", name, strerror(-r));
	r = vsock_open(o->path, o->cid, d->v.vm->file_holders, &d->worker.loop, host_wants, d, &d->host, err);
	return r ? error_prefix(err, r, "%s", name) : 0;
}

static int vsock_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct virtio_vsock_options *o = config;
	struct vsock_device *d = calloc(1, sizeof(*d));
	bool user = o->path && !o->dry;
	int r;

	if (!d)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	d->config.guest_cid = htole64(o->cid);
	virtio_init(
		&d->v, &virtio_vsock_type, vm, o->path ? 1ULL << F_STREAM : FEATURES, &d->config, sizeof(d->config));
	r = user ? open_user(d, o, name, err) : open_kernel(d, o, name, err);
	for (unsigned i = 0; r == 0 && i < NR_QUEUES; i++)
		r = user ? virtio_queue(&d->v, QUEUE_SIZE, &d->worker.loop, err)
			 : virtio_vhost_queue(&d->vhost, QUEUE_SIZE, err);
	if (r) {
		vsock_destroy(&d->v);
		return r;
	}
	*out = &d->v;
	return 0;
}

static void vsock_counts(struct virtio *v, virtio_count_fn *one, void *arg)
{
	const struct vsock_device *d = device_of(v);

	/* The kernel does not tell of its own. */
	if (!d->host)
		return;
	one(arg, "refused", vsock_refused(d->host));
	one(arg, "malformed", vsock_faults(d->host));
}

const struct virtio_type virtio_vsock_type = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.pci_class = 0x028000, /* network, other */
	.holds_files = true,
	.create = vsock_create,
	.destroy = vsock_destroy,
	.hand_over = vsock_hand_over,
	.serve = vsock_serve,
	.quiesce = vsock_quiesce,
	.pause = vsock_pause,
	.reset = vsock_reset,
	.counts = vsock_counts,
};
