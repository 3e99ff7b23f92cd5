/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rng.c - the entropy device: the host's random bytes for the guest's pool (virtio 1.2, 5.4).
 *
 * It is served on the machine's own loop, so both what a buffer gets and how many buffers are filled before others have
 * their turn is bounded; a device may use less than the buffer (5.4.6.1).
 */
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define QUEUE_SIZE 64
#define BITE       4096 /* bytes of one buffer at most */

struct rng {
	struct virtio v;
};

/* `n` bytes, at most BITE. Once the host's pool is ready, which rng_create() asks, this neither fails nor waits. */
static size_t random_bytes(uint8_t *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = getrandom(buf + got, n - got, GRND_NONBLOCK);

		if (r < 0 && errno != EINTR)
			break;
		if (r > 0)
			got += (size_t)r;
	}
	return got;
}

static void fill(struct virtio *v, unsigned index, struct virtq_chain *chain)
{
	uint8_t bytes[BITE];
	size_t n = chain->in_len < BITE ? (size_t)chain->in_len : BITE;

	/* 5.4.6: the buffers are the device's to write, and no others. */
	if (!n || chain->out_len)
		__atomic_fetch_add(&v->vm->guest_faults, 1, __ATOMIC_RELAXED);
	n = random_bytes(bytes, n);
	virtq_push(chain, (uint32_t)virtq_write(chain, bytes, n));
	explicit_bzero(bytes, n);
}

static void rng_serve(struct virtio *v, unsigned index)
{
	virtio_take(v, index, fill);
}

static void rng_destroy(struct virtio *v)
{
	struct rng *rng = container_of(v, struct rng, v);

	virtio_fini(v);
	free(rng);
}

static int rng_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	struct rng *rng = calloc(1, sizeof(*rng));
	uint8_t byte;
	int r;

	if (!rng)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	virtio_init(&rng->v, &virtio_rng_type, vm, 0, NULL, 0);
	r = virtio_queue(&rng->v, QUEUE_SIZE, &vm->loop, err);
	if (r == 0 && getrandom(&byte, 1, GRND_NONBLOCK) != 1) {
		r = error_set(err, -EAGAIN, "%s: the host has no random numbers yet: %s", name, strerror(errno));
		error_hint(err, "it has just been started; try again in a moment");
	}
	if (r) {
		rng_destroy(&rng->v);
		return r;
	}
	*out = &rng->v;
	return 0;
}

const struct virtio_type virtio_rng_type = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00, /* none of the classes fits */
	.create = rng_create,
	.destroy = rng_destroy,
	.serve = rng_serve,
};
