/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost.h - virtio devices whose queues somebody else serves: the host's kernel or another program (host/vhost.h).
 *
 * A device type embeds a struct virtio_vhost beside its struct virtio. Its hand_over() says which queues go to the back
 * end, by virtio_vhost_start(); its quiesce() calls virtio_vhost_quiesce() for these. Everything else about it,
 * negotiation, resets, transports, is as for other devices.
 *
 * A kick is the queue's own eventfd, which the transport's doorbell signals in the kernel. The call is an eventfd that
 * the transport leads to the driver without us where it can (MSI-X, a vector of the queue's own); the device's loop
 * watches it as well, for when it cannot: a kernel's irqfd takes a signal before any other who waits for it sees it
 * (since Linux 5.11; before that it is only told twice).
 */
#ifndef TRAPLINE_VIRTIO_VHOST_H
#define TRAPLINE_VIRTIO_VHOST_H

#include "host/vhost.h"
#include "virtio/virtio.h"

struct virtio_vhost;

struct virtio_vhost_ring {
	struct virtio_vhost *h;
	unsigned index;
	int call, error; /* eventfds */
	struct loop_watch call_watch, error_watch;
	bool running; /* the back end has it */
	bool waiting; /* it will, when the back end comes back */
};

/* Between init and fini all is the worker's, but for what `v->transport->lock` guards. */
struct virtio_vhost {
	struct virtio *v;
	struct vhost *backend; /* NULL: nobody serves, for machines that are only looked at */
	struct virtio_worker worker;
	uint64_t features; /* the back end's */
	bool started, gone, told;
	unsigned nr_running;
	struct virtio_vhost_ring ring[VIRTIO_QUEUES];
	struct memory *memory[VHOST_RANGES]; /* references, from start() to stop() */
	unsigned nr_memory;
	struct loop_work write;        /* of what the driver wrote to the config space */
	unsigned write_from, write_to; /* that part; under the device's lock */
	/*
	 * The device's own, after virtio_vhost_init(): a back end that does not return is gone, and it is for this to
	 * tell the user. True: hand_over() returns false from now on, for serve() serves, what the back end had not
	 * answered first where that is known (vhost.accounts). NULL: a line is said, and the queues are broken.
	 */
	bool (*gone_for_good)(struct virtio_vhost *h);
	bool serves; /* likewise: it will return true, so it is called for a back end that cannot be started as well */
};

/*
 * After virtio_init(), which was told all the device's features that we know. Takes the back end, which is closed by
 * virtio_vhost_fini() whatever this returns. What the back end cannot is offered no more, but for `ours`: features that
 * do not concern it. `thread`: the worker's name, at most 15 characters. Where the config space is the back end's it is
 * read. 0, or -errno with a line.
 */
int virtio_vhost_init(struct virtio_vhost *h, struct virtio *v, struct vhost *backend, uint64_t ours,
	const char *thread, struct error *err) __attribute__((warn_unused_result));
/* Instead of virtio_fini(); copes with half of it and with one that is all zeros. */
void virtio_vhost_fini(struct virtio_vhost *h);
/* The next queue, on the worker's loop, whether the back end is to have it or not. As virtio_queue(). */
int virtio_vhost_queue(struct virtio_vhost *h, uint16_t max, struct error *err) __attribute__((warn_unused_result));

/*
 * For hand_over(): the back end has queue `index` from now on. Where that fails, the queue is broken, and it is true
 * all the same; false: gone_for_good() says that serve() serves. On the worker's thread, as the next two.
 */
bool virtio_vhost_start(struct virtio_vhost *h, unsigned index);
/* In the queue's life: it is ours again, from where the back end left it. virtio_enter() goes on. */
void virtio_vhost_take_back(struct virtio_vhost *h, unsigned index);
/* For quiesce(). Calls virtio_quiet(). */
void virtio_vhost_quiesce(struct virtio_vhost *h, unsigned index);
/*
 * For pause(): it is ours until the queue is handed over again. Always true; but where the back end does not stop in
 * time, and does not tell what it still has, the queue is broken.
 */
bool virtio_vhost_pause(struct virtio_vhost *h, unsigned index);
/* For config_write(), where the config space is the back end's. */
void virtio_vhost_config_write(struct virtio_vhost *h, unsigned offset, unsigned len, const uint8_t *bytes);

#endif
