/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * p9.c - the 9P transport: messages in one queue, each with room for its reply; the tag in the config space. The
 * specification has its id and nothing else; the layout is <linux/virtio_9p.h>.
 *
 * File systems make one wait, so a thread of the device's own serves. It takes one message after the other: a client
 * has few that wait for anything, and none that wait for another, for locks are never waited for.
 */
#include "virtio/p9.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_9p.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 128

struct p9_space {
	uint8_t tag_len[2];
	char tag[P9_TAG_MAX];
};
_Static_assert(offsetof(struct p9_space, tag) == sizeof(struct virtio_9p_config), "as the driver reads it");

struct virtio_p9 {
	struct virtio v;
	struct virtio_worker worker;
	struct p9 *server;
	struct p9_space space;
};

static void answer(struct virtio *v, unsigned index, struct virtq_chain *chain)
{
	struct virtio_p9 *p9 = container_of(v, struct virtio_p9, v);
	const struct p9_io io = {
		.out = chain->out,
		.in = chain->in,
		.nr_out = chain->nr_out,
		.nr_in = chain->nr_in,
		.out_len = chain->out_len,
		.in_len = chain->in_len,
	};
	uint64_t faults = p9_faults(p9->server);
	uint32_t written = p9_serve(p9->server, &io);

	if (p9_faults(p9->server) != faults)
		__atomic_fetch_add(&p9->v.vm->guest_faults, 1, __ATOMIC_RELAXED);
	virtq_push(chain, written);
	/* The next may take a while. */
	virtq_notify(&v->queues[index]->q);
}

static void p9_serve_queue(struct virtio *v, unsigned index)
{
	virtio_take(v, index, answer);
}

/* On the worker's thread: closing files may wait, too. */
static void p9_quiesce(struct virtio *v, unsigned index)
{
	struct virtio_p9 *p9 = container_of(v, struct virtio_p9, v);

	p9_reset(p9->server);
	virtio_quiet(v, index);
}

static void p9_destroy(struct virtio *v)
{
	struct virtio_p9 *p9 = container_of(v, struct virtio_p9, v);

	virtio_worker_stop(&p9->worker);
	virtio_fini(v);
	p9_close(p9->server);
	free(p9);
}

static int start_worker(struct virtio_p9 *p9, const char *name, struct error *err)
{
	int r = virtio_worker_start(&p9->worker, name);

	return r ? error_set(err, r, "%s: no thread: %s", name, strerror(-r)) : 0;
}

static int p9_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	const struct virtio_p9_options *options = config;
	struct p9_config folder = options->folder;
	size_t len = strlen(options->tag);
	struct virtio_p9 *p9 = calloc(1, sizeof(*p9));
	int r;

	if (!p9)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	p9->space.tag_len[0] = (uint8_t)len;
	memcpy(p9->space.tag, options->tag, len);
	virtio_init(&p9->v, &virtio_p9_type, vm, 1ULL << VIRTIO_9P_MOUNT_TAG, &p9->space,
		(unsigned)(offsetof(struct p9_space, tag) + len));
	folder.sharers = vm->file_holders;
	r = p9_open(&folder, &p9->server, err);
	if (r == 0)
		r = start_worker(p9, name, err);
	if (r == 0)
		r = virtio_queue(&p9->v, QUEUE_SIZE, &p9->worker.loop, err);
	if (r) {
		p9_destroy(&p9->v);
		return r;
	}
	*out = &p9->v;
	return 0;
}

const struct virtio_type virtio_p9_type = {
	.name = "9p",
	.id = VIRTIO_ID_9P,
	.pci_class = 0x018000, /* mass storage, other */
	.holds_files = true,
	.create = p9_create,
	.destroy = p9_destroy,
	.serve = p9_serve_queue,
	.quiesce = p9_quiesce,
};
