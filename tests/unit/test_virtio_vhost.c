/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtio_vhost.c - queues that a back end serves: what it is told and when, where rings stand when they change
 * hands, and what becomes of the device when the back end fails, goes or does not answer.
 *
 * The back end is one whose rings this file serves when told to, by the virtqueue code over the same memory; it knows
 * nothing but what the calls told it.
 */
#include "unit.h"

#include <errno.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/vhost.h"
#include "virtio_bed.h"

#define OWN   3 /* features of the device: the back end's, */
#define THEIR 5 /* and one that is not its business */
#define NEVER 7 /* and one that the back end has not */

#define PACKED   (1ULL << VIRTIO_F_RING_PACKED)
#define EVENT    (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

/* ---- the back end ---- */

struct far {
	struct vhost b; /* first */
	uint64_t can, features;
	struct vhost_map map;
	unsigned starts, stops, ring_starts, ring_stops, closes;
	bool running;
	struct vhost_ring ring;
	/* How it behaves. */
	int start_fails, ring_fails, place_fails;
	unsigned nr_left;
	uint16_t left[4]; /* of one with an account that is gone */
	sem_t *hangs;     /* stop_ring() waits for it */
	uint8_t config[4];
	unsigned wrote;
	/* The ring's server. */
	struct mem *mem;
	struct virtq q;
	struct virtq_state state;
};

static struct far *far_of(struct vhost *b)
{
	return (struct far *)(void *)b;
}

static int far_features(struct vhost *b, uint64_t *features)
{
	*features = far_of(b)->can;
	return 0;
}

static int far_start(struct vhost *b, uint64_t features, const struct vhost_range *ranges, unsigned n)
{
	struct far *f = far_of(b);

	f->starts++;
	f->features = features;
	return f->start_fails ? f->start_fails : vhost_map_set(&f->map, ranges, n);
}

static void call(void *arg)
{
	struct far *f = arg;

	assert_int_equal(eventfd_write(f->ring.call, 1), 0);
}

static int far_start_ring(struct vhost *b, unsigned index, const struct vhost_ring *ring)
{
	struct far *f = far_of(b);
	struct vhost_parts parts;
	int r = f->ring_fails;

	f->ring_starts++;
	if (r == 0)
		r = vhost_map_ring(&f->map, ring, f->features & PACKED, &parts);
	if (r)
		return r;
	f->ring = *ring;
	f->running = true;
	f->q.interrupt = call;
	f->q.arg = f;
	assert_int_equal(virtq_init(&f->q, f->mem, &f->state, ring->size), 0);
	f->state = (struct virtq_state){ .desc = ring->desc,
		.driver = ring->driver,
		.device = ring->device,
		.size = ring->size,
		.avail = ring->avail,
		.used = ring->used,
		.avail_wrap = ring->avail_wrap,
		.used_wrap = ring->used_wrap };
	assert_int_equal(virtq_start(&f->q, f->features), 0);
	return 0;
}

static int far_stop_ring(struct vhost *b, unsigned index, struct vhost_ring *ring)
{
	struct far *f = far_of(b);

	f->ring_stops++;
	if (f->hangs)
		sem_wait(f->hangs);
	ring->avail = f->state.avail;
	ring->used = f->state.used;
	ring->avail_wrap = f->state.avail_wrap;
	ring->used_wrap = f->state.used_wrap;
	ring->nr_left = f->nr_left;
	if (ring->left)
		memcpy(ring->left, f->left, sizeof(f->left));
	virtq_stop(&f->q);
	virtq_fini(&f->q);
	f->running = false;
	return f->place_fails;
}

static int far_stop(struct vhost *b)
{
	struct far *f = far_of(b);

	f->stops++;
	f->map.n = 0;
	return 0;
}

static int far_config_read(struct vhost *b, unsigned offset, unsigned len, uint8_t *bytes)
{
	memcpy(bytes, far_of(b)->config + offset, len);
	return 0;
}

static int far_config_write(struct vhost *b, unsigned offset, unsigned len, const uint8_t *bytes)
{
	struct far *f = far_of(b);

	f->wrote++;
	memcpy(f->config + offset, bytes, len);
	return 0;
}

static void far_close(struct vhost *b)
{
	far_of(b)->closes++;
}

static const struct vhost_ops far_ops = {
	.features = far_features,
	.start = far_start,
	.start_ring = far_start_ring,
	.stop_ring = far_stop_ring,
	.stop = far_stop,
	.config_read = far_config_read,
	.config_write = far_config_write,
	.close = far_close,
};

/* ---- the device ---- */

struct toy {
	struct virtio v; /* first */
	struct virtio_vhost vhost;
	uint8_t config[4];
	bool ours; /* serves by itself */
	unsigned served, gone;
};

static struct toy *toy_of(struct virtio *v)
{
	return (struct toy *)(void *)v;
}

/* Says 4 bytes. */
static void answer(struct virtq *q)
{
	struct virtq_chain *chain;

	virtq_kicks_off(q);
	do {
		while (virtq_pop(q, &chain) == 1)
			virtq_push(chain, (uint32_t)virtq_write(chain, "echo", 4));
	} while (virtq_kicks_on(q));
	virtq_notify(q);
}

static bool toy_hand_over(struct virtio *v, unsigned index)
{
	return !toy_of(v)->ours && virtio_vhost_start(&toy_of(v)->vhost, index);
}

static void toy_serve(struct virtio *v, unsigned index)
{
	toy_of(v)->served++;
	answer(&v->queues[index]->q);
}

static void toy_quiesce(struct virtio *v, unsigned index)
{
	virtio_vhost_quiesce(&toy_of(v)->vhost, index);
}

static bool toy_pause(struct virtio *v, unsigned index)
{
	return virtio_vhost_pause(&toy_of(v)->vhost, index);
}

static void toy_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	virtio_vhost_config_write(&toy_of(v)->vhost, offset, len, bytes);
}

static void toy_destroy(struct virtio *v)
{
	virtio_vhost_fini(&toy_of(v)->vhost);
	free(v);
}

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err);

static const struct virtio_type toy_type = {
	.name = "toy",
	.id = VIRTIO_ID_RNG,
	.create = toy_create,
	.destroy = toy_destroy,
	.hand_over = toy_hand_over,
	.serve = toy_serve,
	.quiesce = toy_quiesce,
	.pause = toy_pause,
	.config_write = toy_config_write,
};

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	struct far *f = (struct far *)(uintptr_t)config;
	struct toy *toy = calloc(1, sizeof(*toy));

	assert_non_null(toy);
	f->mem = &vm->mem;
	virtio_init(
		&toy->v, &toy_type, vm, 1ULL << OWN | 1ULL << THEIR | 1ULL << NEVER, toy->config, sizeof(toy->config));
	assert_int_equal(virtio_vhost_init(&toy->vhost, &toy->v, &f->b, 1ULL << THEIR, "toy", err), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(virtio_vhost_queue(&toy->vhost, 64, err), 0);
	*out = &toy->v;
	return 0;
}

/* ---- the bed ---- */

static const struct far fresh = {
	.b = { .ops = &far_ops, .name = "far" },
	.can = 1ULL << VIRTIO_F_VERSION_1 | PACKED | EVENT | INDIRECT | 1ULL << OWN,
	.config = { 1, 2, 3, 4 },
};

static void post(void *arg)
{
	sem_post(arg);
}

/* What the worker's loop comes to by itself, within ten seconds. */
#define eventually(bed, condition)                                                                                     \
	do {                                                                                                           \
		for (unsigned tries = 0; !(condition) && tries < 10000; tries++) {                                     \
			usleep(1000);                                                                                  \
			settle(bed);                                                                                   \
		}                                                                                                      \
		assert_true(condition);                                                                                \
	} while (0)

/* Until the worker has done what it was asked for. */
static void sync_worker(struct bed *bed)
{
	struct loop_work work = { .arg = NULL };
	sem_t done;

	sem_init(&done, 0, 0);
	work.fn = post;
	work.arg = &done;
	loop_post(&toy_of(bed->v)->vhost.worker.loop, &work);
	sem_wait(&done);
	sem_destroy(&done);
	settle(bed);
}

static struct bed *begin(struct far *f, uint64_t features)
{
	struct bed *bed = bed_new(&toy_type, f, 1, features);

	sync_worker(bed);
	return bed;
}

static void end(struct bed *bed, struct far *f)
{
	bed_free(bed);
	assert_false(f->running);
	assert_int_equal(f->starts, f->stops);
	assert_int_equal(f->closes, 1);
}

static void on_worker(struct bed *bed, void (*fn)(void *arg))
{
	struct loop_work work = { .fn = fn, .arg = bed };

	loop_post(&toy_of(bed->v)->vhost.worker.loop, &work);
	sync_worker(bed);
}

static bool kicked(struct far *f)
{
	eventfd_t n;

	return eventfd_read(f->ring.kick, &n) == 0;
}

static void offer(struct bed *bed, unsigned n)
{
	const struct vdriver_buf buf = { BUFFERS, 64 };

	for (unsigned i = 0; i < n; i++)
		assert_true(vdriver_add(&bed->d, &buf, 1, 0, 0, bed));
}

static unsigned got(struct bed *bed)
{
	unsigned n = 0;
	uint32_t len;

	while (vdriver_get(&bed->d, &len)) {
		assert_int_equal(len, 4);
		n++;
	}
	return n;
}

/* So many come back, and no more. */
static void collect(struct bed *bed, unsigned n)
{
	unsigned have = 0;

	eventually(bed, (have += got(bed)) >= n);
	assert_int_equal(have, n);
}

static bool needs_reset(struct bed *bed)
{
	bool needs;

	settle(bed);
	pthread_mutex_lock(&bed->dev.lock);
	needs = virtio_status(bed->v) & VIRTIO_CONFIG_S_NEEDS_RESET;
	pthread_mutex_unlock(&bed->dev.lock);
	return needs;
}

static uint64_t faults_of(struct bed *bed)
{
	return __atomic_load_n(&bed->vm.guest_faults, __ATOMIC_ACQUIRE);
}

static void reset(struct bed *bed)
{
	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_status(bed->v, 0);
	pthread_mutex_unlock(&bed->dev.lock);
	sync_worker(bed);
	pthread_mutex_lock(&bed->dev.lock);
	assert_int_equal(virtio_status(bed->v), 0);
	pthread_mutex_unlock(&bed->dev.lock);
}

/* ---- tests ---- */

static void test_what_is_offered(void **state)
{
	struct far f = fresh;
	struct bed *bed;

	f.can &= ~PACKED;
	bed = begin(&f, 0);
	assert_true(bed->v->offered >> OWN & 1);
	assert_true(bed->v->offered >> THEIR & 1);
	assert_false(bed->v->offered >> NEVER & 1);
	assert_int_equal(bed->v->offered & PACKED, 0);
	assert_true(bed->v->offered & EVENT);
	assert_true(bed->v->offered >> VIRTIO_F_RING_RESET & 1);
	end(bed, &f);
}

static void served_with(uint64_t features)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, features | 1ULL << THEIR | 1ULL << OWN);

	assert_int_equal(f.starts, 1);
	assert_int_equal(f.ring_starts, 1);
	assert_int_equal(f.features, features | 1ULL << OWN | 1ULL << VIRTIO_F_VERSION_1);
	assert_int_equal(f.map.n, 1);
	assert_ptr_equal(f.map.range[0].host, bed->memory->host);
	assert_int_equal(f.map.range[0].len, RAM);
	assert_int_equal(f.ring.size, 64);
	/* For what was offered before; and each kick after. */
	assert_true(kicked(&f));
	assert_false(kicked(&f));
	for (unsigned round = 0; round < 40; round++) {
		vdriver_wish(&bed->d, true, 0);
		offer(bed, 5);
		virtio_kick(bed->v, 1);
		assert_true(kicked(&f));
		answer(&f.q);
		collect(bed, 5);
		eventually(bed, __atomic_load_n(&bed->interrupts, __ATOMIC_ACQUIRE) == round + 1);
	}
	assert_int_equal(toy_of(bed->v)->served, 0);
	assert_int_equal(bed->v->queues[1]->kicks, 0);
	assert_int_equal(bed->v->queues[1]->interrupts, 40);
	reset(bed);
	assert_int_equal(f.ring_stops, 1);
	assert_int_equal(f.stops, 1);
	assert_int_equal(f.map.n, 0);
	end(bed, &f);
}

static void test_served(void **state)
{
	served_with(0);
	served_with(EVENT);
	served_with(PACKED);
	served_with(PACKED | EVENT);
}

static void take_over(void *arg)
{
	struct bed *bed = arg;

	toy_of(bed->v)->ours = true;
	virtio_vhost_take_back(&toy_of(bed->v)->vhost, 1);
	virtio_enter(bed->v, 1);
}

static void hand_over(void *arg)
{
	struct bed *bed = arg;

	toy_of(bed->v)->ours = false;
	virtio_enter(bed->v, 1);
}

/*
 * It changes hands again and again, in the middle of the ring, with chains that wait; nothing is lost or served twice.
 */
static void changes_hands_with(uint64_t features)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, features);

	for (unsigned round = 0; round < 30; round++) {
		offer(bed, 7);
		answer(&f.q);
		offer(bed, 6);
		collect(bed, 7);
		on_worker(bed, take_over);
		assert_false(f.running);
		assert_int_equal(f.stops, round + 1);
		collect(bed, 6);
		offer(bed, 3);
		virtio_kick(bed->v, 1);
		collect(bed, 3);
		on_worker(bed, hand_over);
		assert_true(f.running);
	}
	assert_true(toy_of(bed->v)->served >= 60);
	end(bed, &f);
}

static void test_changes_hands(void **state)
{
	changes_hands_with(0);
	changes_hands_with(EVENT);
	changes_hands_with(PACKED);
	changes_hands_with(PACKED | EVENT);
}

/* A pause takes it back too, and nobody serves it; afterwards it stands where it stood. */
static void pauses_with(uint64_t features, bool ours)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, features);

	if (ours)
		on_worker(bed, take_over);
	for (unsigned round = 0; round < 30; round++) {
		offer(bed, 7);
		if (ours)
			virtio_kick(bed->v, 1);
		else
			answer(&f.q);
		collect(bed, 7);
		assert_true(virtio_pause(bed->v));
		assert_false(f.running);
		offer(bed, 6);
		virtio_kick(bed->v, 1);
		sync_worker(bed);
		assert_int_equal(got(bed), 0);
		virtio_resume(bed->v);
		sync_worker(bed);
		if (!ours) {
			assert_true(f.running);
			assert_true(kicked(&f));
			answer(&f.q);
		}
		collect(bed, 6);
	}
	assert_true(virtio_pause(bed->v));
	reset(bed);
	end(bed, &f);
}

static void test_pauses(void **state)
{
	for (unsigned ours = 0; ours < 2; ours++) {
		pauses_with(0, ours);
		pauses_with(EVENT, ours);
		pauses_with(PACKED, ours);
		pauses_with(PACKED | EVENT, ours);
	}
}

/* What was signalled and not seen when a ring is taken back is told all the same. */
static void test_last_call(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);

	vdriver_wish(&bed->d, true, 0);
	offer(bed, 1);
	answer(&f.q);
	on_worker(bed, take_over);
	eventually(bed, __atomic_load_n(&bed->interrupts, __ATOMIC_ACQUIRE) == 1);
	end(bed, &f);
}

static void enable(struct bed *bed, uint64_t rings)
{
	struct virtio *v = bed->v;

	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_features(v, 1, 1);
	virtio_set_status(v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	vdriver_init(&bed->d, bed->memory->host, 0, &v->queues[1]->state, v->queues[1]->q.max, 0);
	v->queues[1]->state.driver += rings;
	virtio_enable_queue(v, 1);
	virtio_set_status(v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&bed->dev.lock);
	sync_worker(bed);
}

/* A back end that cannot start: the driver hears of it, and another life can be better. */
static void test_start_fails(void **state)
{
	struct far f = fresh;
	struct bed *bed;

	f.start_fails = -ENOMEM;
	bed = begin(&f, 0);
	assert_true(needs_reset(bed));
	assert_int_equal(f.ring_starts, 0);
	reset(bed);
	assert_int_equal(f.stops, 0);
	f.start_fails = 0;
	f.ring_fails = -EIO;
	enable(bed, 0);
	assert_true(needs_reset(bed));
	reset(bed);
	assert_int_equal(f.stops, 1);
	f.ring_fails = 0;
	enable(bed, 0);
	assert_false(needs_reset(bed));
	offer(bed, 2);
	answer(&f.q);
	collect(bed, 2);
	f.starts--; /* the one that failed has no stop */
	end(bed, &f);
}

/* A ring that is not in memory is the driver's fault, and counted. */
static void test_ring_is_nowhere(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);
	uint64_t faults;

	reset(bed);
	faults = faults_of(bed);
	enable(bed, RAM);
	assert_true(needs_reset(bed));
	assert_true(faults_of(bed) > faults);
	assert_false(toy_of(bed->v)->vhost.told);
	end(bed, &f);
}

static void test_driver_errs(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);
	uint64_t faults = faults_of(bed);

	assert_int_equal(eventfd_write(f.ring.error, 1), 0);
	eventually(bed, needs_reset(bed));
	assert_int_equal(faults_of(bed), faults + 1);
	/* Until the next life, no word more. */
	assert_int_equal(eventfd_write(f.ring.error, 1), 0);
	usleep(10000);
	sync_worker(bed);
	assert_int_equal(faults_of(bed), faults + 1);
	reset(bed);
	enable(bed, 0);
	assert_false(needs_reset(bed));
	end(bed, &f);
}

static void tell_gone(void *arg)
{
	struct bed *bed = arg;
	struct vhost *b = toy_of(bed->v)->vhost.backend;

	b->event(b->arg, VHOST_GONE);
}

static void tell_back(void *arg)
{
	struct bed *bed = arg;
	struct vhost *b = toy_of(bed->v)->vhost.backend;

	b->event(b->arg, VHOST_BACK);
}

static void test_gone(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);

	on_worker(bed, tell_gone);
	assert_true(needs_reset(bed));
	assert_int_equal(f.stops, 1);
	/* Nor is it of use to the next driver. */
	reset(bed);
	enable(bed, 0);
	assert_true(needs_reset(bed));
	assert_int_equal(f.starts, 1);
	end(bed, &f);
}

static bool toy_serves(struct virtio_vhost *h)
{
	struct toy *toy = toy_of(h->v);

	toy->gone++;
	toy->ours = true;
	return true;
}

static struct bed *begin_with_heir(struct far *f)
{
	struct bed *bed = begin(f, 0);
	struct toy *toy = toy_of(bed->v);

	toy->vhost.gone_for_good = toy_serves;
	toy->vhost.serves = true;
	f->b.restarts = true;
	return bed;
}

/* What one with an account had not answered is served first, and all that it had not taken after that. */
static void test_heir(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin_with_heir(&f);
	struct toy *toy = toy_of(bed->v);
	struct virtq_chain *chain[5];

	offer(bed, 7);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(virtq_pop(&f.q, &chain[i]), 1);
	/* Out of their order. */
	for (unsigned i = 3; i < 5; i++)
		virtq_push(chain[i], (uint32_t)virtq_write(chain[i], "echo", 4));
	for (unsigned i = 0; i < 3; i++) {
		f.left[i] = chain[i]->id;
		virtq_drop(chain[i]);
	}
	f.nr_left = 3;
	collect(bed, 2);
	on_worker(bed, tell_gone);
	assert_int_equal(toy->gone, 1);
	collect(bed, 5);
	assert_false(needs_reset(bed));
	assert_int_equal(f.ring_stops, 1);
	/* So it goes on, whole rings of it. */
	for (unsigned i = 0; i < 3; i++) {
		offer(bed, 60);
		virtio_kick(bed->v, 1);
		collect(bed, 60);
	}
	/* And a next life is another's. */
	reset(bed);
	toy->ours = false;
	f.nr_left = 0;
	enable(bed, 0);
	assert_true(f.running);
	end(bed, &f);
}

/* One that does not even start leaves nobody waiting either; the driver's own faults are its own. */
static void test_heir_of_nobody(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin_with_heir(&f);
	struct toy *toy = toy_of(bed->v);

	reset(bed);
	f.start_fails = -ENOENT;
	enable(bed, 0);
	assert_int_equal(toy->gone, 1);
	assert_false(needs_reset(bed));
	offer(bed, 3);
	virtio_kick(bed->v, 1);
	collect(bed, 3);
	/* In a pause, with what it had not answered. */
	toy->ours = false;
	f.start_fails = 0;
	reset(bed);
	enable(bed, 0);
	offer(bed, 2);
	f.left[0] = (uint16_t)(*(uint16_t *)(void *)((uint8_t *)bed->d.host + bed->d.avail + 4));
	f.nr_left = 1;
	f.state.avail = 1;
	f.start_fails = -ECONNRESET;
	assert_true(virtio_pause(bed->v));
	assert_true(f.b.resting);
	assert_int_equal(got(bed), 0);
	virtio_resume(bed->v);
	collect(bed, 2);
	assert_int_equal(toy->gone, 2);
	f.nr_left = 0;
	toy->ours = false;
	f.start_fails = -EFAULT;
	reset(bed);
	enable(bed, 0);
	assert_true(needs_reset(bed));
	assert_int_equal(toy->gone, 2);
	f.starts = f.stops;
	end(bed, &f);
}

/* One that comes back goes on: where it stood if it knows, else from what the driver got back. */
static void comes_back(uint64_t features, int place)
{
	struct far f = fresh;
	struct bed *bed;

	f.b.returns = true;
	f.place_fails = place;
	bed = begin(&f, features);
	offer(bed, 5);
	answer(&f.q);
	offer(bed, 4);
	on_worker(bed, tell_gone);
	assert_false(needs_reset(bed));
	assert_false(f.running);
	collect(bed, 5);
	on_worker(bed, tell_back);
	assert_true(f.running);
	assert_true(kicked(&f));
	answer(&f.q);
	collect(bed, 4);
	/* A driver that resets meanwhile, and another that begins. */
	on_worker(bed, tell_gone);
	reset(bed);
	enable(bed, 0);
	assert_false(needs_reset(bed));
	assert_false(f.running);
	on_worker(bed, tell_back);
	assert_true(f.running);
	end(bed, &f);
}

static void test_comes_back(void **state)
{
	comes_back(0, 0);
	comes_back(PACKED, 0);
	comes_back(0, -EPIPE);
}

/* Where it is not told how far the ring had come, nobody guesses: only what is empty goes on. */
static void test_pause_without_a_place(void **state)
{
	struct far f = fresh;
	struct bed *bed;

	f.place_fails = -ETIMEDOUT;
	bed = begin(&f, 0);
	offer(bed, 3);
	answer(&f.q);
	collect(bed, 3);
	assert_true(virtio_pause(bed->v));
	virtio_resume(bed->v);
	sync_worker(bed);
	assert_true(f.running);
	assert_false(needs_reset(bed));
	offer(bed, 3);
	assert_true(virtio_pause(bed->v));
	virtio_resume(bed->v);
	sync_worker(bed);
	assert_false(f.running);
	assert_true(needs_reset(bed));
	assert_true(f.b.resting);
	f.place_fails = 0;
	reset(bed);
	assert_int_equal(got(bed), 0);
	enable(bed, 0);
	assert_true(f.running);
	reset(bed);
	assert_false(f.b.resting);
	end(bed, &f);
}

static void test_packed_place_unknown(void **state)
{
	struct far f = fresh;
	struct bed *bed;

	f.b.returns = true;
	f.place_fails = -EPIPE;
	bed = begin(&f, PACKED);
	on_worker(bed, tell_gone);
	assert_true(needs_reset(bed));
	end(bed, &f);
}

static void tell_config(void *arg)
{
	struct bed *bed = arg;
	struct vhost *b = toy_of(bed->v)->vhost.backend;

	b->event(b->arg, VHOST_CONFIG);
}

static void test_config(void **state)
{
	const uint8_t written[2] = { 8, 9 };
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);
	uint8_t bytes[4], generation = bed->v->state.generation;

	virtio_config_read(bed->v, 0, 4, bytes);
	assert_memory_equal(bytes, "\1\2\3\4", 4);
	pthread_mutex_lock(&bed->dev.lock);
	virtio_config_write(bed->v, 1, 1, written);
	virtio_config_write(bed->v, 3, 1, written + 1);
	virtio_config_read(bed->v, 0, 4, bytes);
	pthread_mutex_unlock(&bed->dev.lock);
	assert_memory_equal(bytes, "\1\10\3\11", 4);
	sync_worker(bed);
	assert_in_range(f.wrote, 1, 2);
	assert_memory_equal(f.config, "\1\10\3\11", 4);
	f.config[0] = 7;
	on_worker(bed, tell_config);
	virtio_config_read(bed->v, 0, 4, bytes);
	assert_memory_equal(bytes, "\7\10\3\11", 4);
	assert_true(bed->v->state.generation != generation);
	end(bed, &f);
}

/* Nobody is kept from quitting by a back end that does not stop. */
static void test_hangs(void **state)
{
	struct far f = fresh;
	struct bed *bed = begin(&f, 0);
	struct toy *toy = toy_of(bed->v);
	sem_t hangs;

	sem_init(&hangs, 0, 0);
	f.hangs = &hangs;
	virtio_stop(bed->v);
	assert_int_equal(run_take_request(&bed->vm.run), REASON_HOST_FAILURE);
	assert_false(virtio_destroy(bed->v));
	assert_int_equal(f.closes, 0);
	/* The host wakes up after all. */
	sem_post(&hangs);
	virtio_worker_stop(&toy->vhost.worker);
	assert_int_equal(f.ring_stops, 1);
	toy_destroy(&toy->v);
	sem_destroy(&hangs);
	device_fini(&bed->dev);
	bus_remove(bed->vm.bus, &bed->ram);
	vm_fini(&bed->vm);
	memory_put(bed->memory);
	free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_offered),
		cmocka_unit_test(test_served),
		cmocka_unit_test(test_changes_hands),
		cmocka_unit_test(test_pauses),
		cmocka_unit_test(test_pause_without_a_place),
		cmocka_unit_test(test_last_call),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_ring_is_nowhere),
		cmocka_unit_test(test_driver_errs),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_heir),
		cmocka_unit_test(test_heir_of_nobody),
		cmocka_unit_test(test_comes_back),
		cmocka_unit_test(test_packed_place_unknown),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_hangs),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
