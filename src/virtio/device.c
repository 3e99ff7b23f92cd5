/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device.c - what every virtio device has in common, whatever carries it: status, negotiation, the life of its queues.
 *
 * A queue's life. The driver enables it: virtq_start(), its doorbell is armed. With DRIVER_OK the loop begins to watch
 * its kicks, and is kicked once, for what was offered before. A reset of it makes it leave: doorbell off, and on the
 * loop's own thread, hence between two calls of serve(), the watch ends and the device is asked to quiesce. When the
 * device calls virtio_quiet(), its chains have been given back or dropped; the queue is as at power-on. While any queue
 * leaves, vCPUs are held (core/run.h), so the guest finds all of it done when its access returns.
 *
 * A pause is like that, but for what comes of it: the ring's state stays, and resuming kicks the queue once.
 *
 * A broken queue can be found by any thread, with or without the device's lock, so that it needs a reset is told from
 * the machine's loop.
 */
#include "virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/thread.h"

#define BIT(n) (1ULL << (n))

/* Those of the ring, and of all devices. */
#define COMMON_FEATURES                                                                                                \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                   \
		BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_RING_RESET) | BIT(VIRTIO_F_ANY_LAYOUT))
/* What drivers of before 1.0 can see. */
#define LEGACY_FEATURES UINT32_MAX

/* Bits of the status that a driver sets. */
#define DRIVER_BITS                                                                                                    \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                          \
		VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

/* How long the end of a machine's life waits for what a device has in flight on the host. */
#define QUIET_SECONDS 3

const struct field virtio_state_fields[] = {
	FIELD(struct virtio_state, features),
	FIELD(struct virtio_state, status),
	FIELD(struct virtio_state, generation),
	FIELD(struct virtio_state, isr),
	FIELD_END,
};

const struct field virtq_state_fields[] = {
	FIELD(struct virtq_state, desc),
	FIELD(struct virtq_state, driver),
	FIELD(struct virtq_state, device),
	FIELD(struct virtq_state, size),
	FIELD(struct virtq_state, enabled),
	FIELD(struct virtq_state, avail),
	FIELD(struct virtq_state, used),
	FIELD(struct virtq_state, avail_wrap, .reset = 1),
	FIELD(struct virtq_state, used_wrap, .reset = 1),
	FIELD(struct virtq_state, vector, .reset = VIRTIO_NO_VECTOR),
	FIELD_END,
};

static void fault(struct virtio *v)
{
	__atomic_fetch_add(&v->vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static void lock(struct virtio *v)
{
	pthread_mutex_lock(&v->transport->lock);
}

static void unlock(struct virtio *v)
{
	pthread_mutex_unlock(&v->transport->lock);
}

static bool is_broken(const struct virtio *v)
{
	for (unsigned i = 0; i < v->nr_queues; i++)
		if (__atomic_load_n(&v->queues[i]->q.broken, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

/* On the machine's loop: some queue broke. By now the driver may have reset it. */
static void tell_broken(void *arg)
{
	struct virtio *v = arg;
	bool tell;

	lock(v);
	tell = is_broken(v) && !v->resetting && !v->abandoned && !(v->state.status & VIRTIO_CONFIG_S_NEEDS_RESET);
	if (tell)
		v->state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	/* No notification before DRIVER_OK (2.1.2). */
	tell = tell && v->state.status & VIRTIO_CONFIG_S_DRIVER_OK;
	unlock(v);
	if (tell)
		v->ops->broken(v);
}

static void queue_broke(void *arg)
{
	struct virtio_queue *vq = arg;

	/* Of what is abandoned nobody wants to know, and nobody may be there. */
	if (__atomic_load_n(&vq->v->abandoned, __ATOMIC_ACQUIRE))
		return;
	fault(vq->v);
	loop_post(&vq->v->vm->loop, &vq->v->broken);
}

static void queue_interrupts(void *arg)
{
	struct virtio_queue *vq = arg;

	atomic_fetch_add_explicit(&vq->interrupts, 1, memory_order_relaxed);
	vq->v->ops->used(vq->v, vq->index);
}

/* ---- serving ---- */

static void kicked(void *arg, uint32_t events)
{
	struct virtio_queue *vq = arg;

	/* The eventfd is not read: a watch for edges tells of each signal, whatever its counter says. */
	atomic_fetch_add_explicit(&vq->kicks, 1, memory_order_relaxed);
	if (!__atomic_load_n(&vq->q.broken, __ATOMIC_ACQUIRE))
		vq->v->type->serve(vq->v, vq->index);
}

static void signal_kick(struct virtio_queue *vq)
{
	uint64_t one = 1;

	/* Fails only where the counter is full, and then the loop is told already. */
	while (write(vq->kick, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* With the device's lock held. */
static void watch_kicks(struct virtio_queue *vq)
{
	/* No memory in the kernel: the driver is told that this device is of no use. */
	if (loop_watch(vq->loop, &vq->watch, EPOLLIN | EPOLLET))
		vq->v->state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	else
		signal_kick(vq);
}

static void enter(void *arg)
{
	struct virtio_queue *vq = arg;

	virtio_enter(vq->v, vq->index);
}

void virtio_enter(struct virtio *v, unsigned index)
{
	struct virtio_queue *vq = v->queues[index];

	bool armed;

	/* Kicks are served by one of the two. What came before is told of by one more. */
	lock(v);
	loop_unwatch(vq->loop, &vq->watch);
	armed = vq->armed;
	unlock(v);
	if (!armed)
		return;
	if (v->type->hand_over(v, index)) {
		signal_kick(vq);
		return;
	}
	lock(v);
	if (vq->armed)
		watch_kicks(vq);
	unlock(v);
}

/* With the device's lock held, as all that follows up to virtio_quiet(). */
static void serve_from_now(struct virtio_queue *vq)
{
	if (vq->armed || vq->halting || vq->halted || !vq->state.enabled || !vq->quiet ||
		!(vq->v->state.status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	vq->armed = true;
	if (vq->v->type->hand_over)
		loop_post(vq->loop, &vq->enter);
	else
		watch_kicks(vq);
}

/* ---- resets ---- */

static void finish_reset(struct virtio *v)
{
	v->resetting = false;
	if (v->type->reset)
		v->type->reset(v);
	field_reset(virtio_state_fields, &v->state);
	if (v->ops->reset)
		v->ops->reset(v);
}

static void queue_power_on(struct virtio_queue *vq)
{
	uint64_t count;

	vq->halted = false;
	virtq_stop(&vq->q);
	/* Kicks of its last life. */
	(void)!read(vq->kick, &count, sizeof(count));
}

/* On the loop's thread. */
static void leave(void *arg)
{
	struct virtio_queue *vq = arg;
	struct virtio *v = vq->v;

	lock(v);
	loop_cancel(vq->loop, &vq->enter);
	loop_unwatch(vq->loop, &vq->watch);
	vq->armed = vq->asked = false;
	unlock(v);
	if (v->type->quiesce)
		v->type->quiesce(v, vq->index);
	else
		virtio_quiet(v, vq->index);
}

static void queue_leave(struct virtio_queue *vq)
{
	struct virtio *v = vq->v;

	if (!vq->quiet)
		return;
	if (!vq->state.enabled) {
		queue_power_on(vq);
		return;
	}
	if (vq->halting)
		v->halting--;
	vq->halting = false;
	vq->quiet = false;
	if (v->leaving++ == 0)
		run_hold(&v->vm->run);
	if (v->ops->enabled)
		v->ops->enabled(v, vq->index, false);
	/* Who serves it just now comes to an end. */
	virtq_pause(&vq->q, true);
	vq->asked = true;
	loop_post(vq->loop, &vq->leave);
}

static void begin_reset(struct virtio *v)
{
	if (v->resetting)
		return;
	v->resetting = true;
	__atomic_fetch_add(&v->resets, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < v->nr_queues; i++)
		queue_leave(v->queues[i]);
	if (v->leaving == 0)
		finish_reset(v);
}

void virtio_quiet(struct virtio *v, unsigned index)
{
	struct virtio_queue *vq = v->queues[index];

	lock(v);
	if (vq->quiet || v->abandoned) {
		unlock(v);
		return;
	}
	queue_power_on(vq);
	vq->quiet = true;
	if (--v->leaving == 0) {
		if (v->resetting)
			finish_reset(v);
		run_release(&v->vm->run);
		pthread_cond_broadcast(&v->all_quiet);
	}
	unlock(v);
}

/* ---- pauses ---- */

void virtio_paused(struct virtio *v, unsigned index)
{
	struct virtio_queue *vq = v->queues[index];

	lock(v);
	/* It may be late, of a pause that was given up. */
	if (vq->halting && vq->halted) {
		vq->halting = false;
		if (--v->halting == 0)
			pthread_cond_broadcast(&v->all_quiet);
	}
	unlock(v);
}

/* On the loop's thread. */
static void halt(void *arg)
{
	struct virtio_queue *vq = arg;
	struct virtio *v = vq->v;
	bool still;

	lock(v);
	still = !vq->halting;
	if (!still) {
		loop_cancel(vq->loop, &vq->enter);
		loop_unwatch(vq->loop, &vq->watch);
		vq->armed = false;
		vq->halted = true;
		virtq_pause(&vq->q, true);
	}
	unlock(v);
	/* It was resumed or reset meanwhile. */
	if (still)
		return;
	if (!v->type->pause || v->type->pause(v, vq->index))
		virtio_paused(v, vq->index);
}

/* ---- the driver's side, with the device's lock held ---- */

void virtio_attach(struct virtio *v, struct device *transport, const struct virtio_transport_ops *ops)
{
	v->transport = transport;
	v->ops = ops;
}

uint8_t virtio_status(struct virtio *v)
{
	return v->state.status;
}

/* 2.2.2, 6.1: what was not offered, and a driver of before 1.0 where there are no such. */
static bool features_good(const struct virtio *v)
{
	return !(v->state.features & ~v->offered) && virtio_has(v, VIRTIO_F_VERSION_1);
}

/* A driver of before 1.0 has no FEATURES_OK, and sees half of the features. */
static void settle_legacy(struct virtio *v)
{
	if (!(v->state.status & VIRTIO_CONFIG_S_FEATURES_OK))
		v->state.features &= v->offered & LEGACY_FEATURES;
}

static void driver_ok(struct virtio *v)
{
	if (!(v->state.status & VIRTIO_CONFIG_S_FEATURES_OK) && !v->legacy) {
		fault(v);
		return;
	}
	settle_legacy(v);
	v->state.status |= VIRTIO_CONFIG_S_DRIVER_OK;
	if (v->type->ready)
		v->type->ready(v);
	for (unsigned i = 0; i < v->nr_queues; i++)
		serve_from_now(v->queues[i]);
	/* What broke before is told now. */
	if (is_broken(v))
		loop_post(&v->vm->loop, &v->broken);
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
	uint8_t added = (uint8_t)(status & DRIVER_BITS & ~v->state.status);

	if (status == 0) {
		begin_reset(v);
		return;
	}
	if (v->resetting) {
		fault(v);
		return;
	}
	/* 2.1.1: a driver clears no bit. */
	if (v->state.status & DRIVER_BITS & ~status)
		fault(v);
	v->state.status |= added & (uint8_t) ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
		/* Too late once it is at work; a driver that has no VERSION_1 does not know the bit. */
		if (features_good(v) && !(v->state.status & VIRTIO_CONFIG_S_DRIVER_OK))
			v->state.status |= VIRTIO_CONFIG_S_FEATURES_OK;
		else
			fault(v);
	}
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		driver_ok(v);
}

static bool any_enabled(const struct virtio *v)
{
	for (unsigned i = 0; i < v->nr_queues; i++)
		if (v->queues[i]->state.enabled)
			return true;
	return false;
}

void virtio_set_features(struct virtio *v, unsigned index, uint32_t bits)
{
	/* The bits from 64 on are nobody's. */
	if (v->state.status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK) || v->resetting ||
		any_enabled(v) || (index > 1 && bits)) {
		fault(v);
		return;
	}
	if (index > 1)
		return;
	v->state.features &= ~((uint64_t)UINT32_MAX << 32 * index);
	v->state.features |= (uint64_t)bits << 32 * index;
}

uint32_t virtio_offered(const struct virtio *v, unsigned index, bool legacy)
{
	uint64_t offered = legacy ? v->offered & LEGACY_FEATURES : v->offered & ~BIT(VIRTIO_F_ANY_LAYOUT);

	return index > 1 ? 0 : (uint32_t)(offered >> 32 * index);
}

void virtio_enable_queue(struct virtio *v, unsigned index)
{
	struct virtio_queue *vq = index < v->nr_queues ? v->queues[index] : NULL;

	if (!vq || vq->state.enabled || !vq->quiet || v->resetting ||
		(!(v->state.status & VIRTIO_CONFIG_S_FEATURES_OK) && !v->legacy)) {
		fault(v);
		return;
	}
	settle_legacy(v);
	if (virtq_start(&vq->q, v->state.features))
		return;
	if (v->ops->enabled)
		v->ops->enabled(v, index, true);
	serve_from_now(vq);
}

void virtio_reset_queue(struct virtio *v, unsigned index)
{
	if (index < v->nr_queues && !v->resetting)
		queue_leave(v->queues[index]);
	else
		fault(v);
}

void virtio_config_read(struct virtio *v, unsigned offset, unsigned len, uint8_t *bytes)
{
	unsigned end = v->config_len;

	memset(bytes, 0, len);
	if (offset >= end)
		return;
	if (len > end - offset)
		len = end - offset;
	if (v->type->config_read)
		v->type->config_read(v, offset, len, bytes);
	else
		memcpy(bytes, v->config + offset, len);
}

void virtio_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	unsigned end = v->config_len;

	if (offset >= end || !v->type->config_write)
		return;
	v->type->config_write(v, offset, len < end - offset ? len : end - offset, bytes);
}

/* ---- the device's side ---- */

void virtio_init(struct virtio *v, const struct virtio_type *type, struct vm *vm, uint64_t features, void *config,
	unsigned config_len)
{
	memset(v, 0, sizeof(*v));
	v->type = type;
	v->vm = vm;
	v->offered = features | COMMON_FEATURES;
	v->config = config;
	v->config_len = config_len;
	v->broken = (struct loop_work){ .fn = tell_broken, .arg = v };
	pthread_cond_init(&v->all_quiet, NULL);
	field_init(virtio_state_fields, &v->state);
}

int virtio_queue(struct virtio *v, uint16_t max, struct loop *loop, struct error *err)
{
	struct virtio_queue *vq;
	int r;

	if (v->nr_queues == VIRTIO_QUEUES)
		return error_set(err, -E2BIG, "virtio %s: more than %d queues", v->type->name, VIRTIO_QUEUES);
	vq = calloc(1, sizeof(*vq));
	if (!vq)
		return error_set(err, -ENOMEM, "virtio %s: no memory for a queue", v->type->name);
	vq->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = vq->kick < 0 ? -errno : 0;
	vq->v = v;
	vq->index = v->nr_queues;
	vq->loop = loop;
	vq->quiet = true;
	vq->watch = (struct loop_watch){ .fd = vq->kick, .fn = kicked, .arg = vq };
	vq->enter = (struct loop_work){ .fn = enter, .arg = vq };
	vq->leave = (struct loop_work){ .fn = leave, .arg = vq };
	vq->halt = (struct loop_work){ .fn = halt, .arg = vq };
	vq->q.fault = queue_broke;
	vq->q.interrupt = queue_interrupts;
	vq->q.arg = vq;
	if (r == 0)
		r = virtq_init(&vq->q, &v->vm->mem, &vq->state, max);
	if (r) {
		if (vq->kick >= 0)
			close(vq->kick);
		free(vq);
		return error_set(err, r, "virtio %s: no queue: %s", v->type->name, strerror(-r));
	}
	v->queues[v->nr_queues++] = vq;
	return 0;
}

void virtio_fini(struct virtio *v)
{
	if (!v->type)
		return;
	while (v->nr_queues > 0) {
		struct virtio_queue *vq = v->queues[--v->nr_queues];

		/* Nothing is posted to its loop, which may be gone: it is quiet, or never lived. */
		virtq_fini(&vq->q);
		close(vq->kick);
		free(vq);
	}
	loop_cancel(&v->vm->loop, &v->broken);
	pthread_cond_destroy(&v->all_quiet);
	v->type = NULL;
}

void virtio_kick(struct virtio *v, unsigned index)
{
	if (index >= v->nr_queues) {
		fault(v);
		return;
	}
	signal_kick(v->queues[index]);
}

void virtio_take(
	struct virtio *v, unsigned index, void (*take)(struct virtio *v, unsigned index, struct virtq_chain *chain))
{
	struct virtq *q = &v->queues[index]->q;
	struct virtq_chain *chain;
	unsigned n = 0;
	int r = 0;

	virtq_kicks_off(q);
	while (n < VIRTIO_TURN) {
		r = virtq_pop(q, &chain);
		if (r == 1) {
			take(v, index, chain);
			n++;
		} else if (r < 0 || !virtq_kicks_on(q)) {
			break;
		}
	}
	virtq_notify(q);
	/* There may be more, for the next turn; or memory may be there then. */
	if (n == VIRTIO_TURN || r == -ENOMEM)
		virtio_kick(v, index);
}

void virtio_config_set(struct virtio *v, unsigned offset, const void *bytes, unsigned len)
{
	bool tell;

	lock(v);
	if (bytes)
		memcpy(v->config + offset, bytes, len);
	v->state.generation++;
	tell = v->state.status & VIRTIO_CONFIG_S_DRIVER_OK && !v->resetting && !v->abandoned;
	unlock(v);
	if (tell)
		v->ops->config(v);
}

void virtio_config_changed(struct virtio *v)
{
	virtio_config_set(v, 0, NULL, 0);
}

/* ---- the machine's side ---- */

/*
 * Waits until *n falls to 0, with the lock held, where `asked` tells what work each queue has to do for it: what this
 * thread serves does it here and now; the others' threads run. A host that does not end a request (a network disk's
 * server is gone) must not keep a user from quitting. Whether it fell.
 */
static bool wait_for_queues(
	struct virtio *v, const unsigned *n, struct loop_work *(*asked)(struct virtio_queue *vq), bool *stuck)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += QUIET_SECONDS;
	for (unsigned i = 0; i < v->nr_queues; i++) {
		struct virtio_queue *vq = v->queues[i];
		struct loop_work *work = asked(vq);

		if (!work || vq->loop != &v->vm->loop)
			continue;
		unlock(v);
		loop_cancel(vq->loop, work);
		work->fn(work->arg);
		lock(v);
	}
	while (*n > 0 && !*stuck)
		*stuck = pthread_cond_timedwait(&v->all_quiet, &v->transport->lock, &until) != 0 && *n > 0;
	return *n == 0;
}

static struct loop_work *asked_to_leave(struct virtio_queue *vq)
{
	return vq->asked ? &vq->leave : NULL;
}

static struct loop_work *asked_to_halt(struct virtio_queue *vq)
{
	return vq->halting ? &vq->halt : NULL;
}

void virtio_stop(struct virtio *v)
{
	bool quiet;

	lock(v);
	begin_reset(v);
	quiet = wait_for_queues(v, &v->leaving, asked_to_leave, &v->stuck);
	unlock(v);
	if (!quiet)
		vm_stop(v->vm, REASON_HOST_FAILURE, "%s: a request on the host does not end", v->transport->name);
}

bool virtio_pause(struct virtio *v)
{
	bool quiet, stuck = false;

	lock(v);
	(void)wait_for_queues(v, &v->leaving, asked_to_leave, &stuck);
	for (unsigned i = 0; !stuck && i < v->nr_queues; i++) {
		struct virtio_queue *vq = v->queues[i];

		if (!vq->armed || vq->halting)
			continue;
		vq->halting = true;
		v->halting++;
		loop_post(vq->loop, &vq->halt);
	}
	quiet = !stuck && wait_for_queues(v, &v->halting, asked_to_halt, &stuck);
	unlock(v);
	if (!quiet)
		virtio_resume(v);
	return quiet;
}

void virtio_resume(struct virtio *v)
{
	lock(v);
	for (unsigned i = 0; i < v->nr_queues; i++) {
		struct virtio_queue *vq = v->queues[i];

		if (vq->halting)
			v->halting--;
		vq->halting = false;
		if (!vq->halted)
			continue;
		vq->halted = false;
		virtq_pause(&vq->q, false);
		serve_from_now(vq);
	}
	unlock(v);
}

void virtio_power_on(struct virtio *v)
{
	if (v->leaving == 0)
		finish_reset(v);
}

struct virtio *virtio_of(struct device *dev)
{
	if (dev->type == &virtio_mmio_type)
		return virtio_mmio_carries(dev);
	return dev->type == &virtio_pci_type ? virtio_pci_carries(dev) : NULL;
}

bool virtio_destroy(struct virtio *v)
{
	if (!v)
		return true;
	lock(v);
	__atomic_store_n(&v->abandoned, v->leaving > 0, __ATOMIC_RELEASE);
	if (v->abandoned) {
		/* Chains that come back are dropped from now on, and touch no guest memory. */
		for (unsigned i = 0; i < v->nr_queues; i++) {
			virtq_stop(&v->queues[i]->q);
			v->queues[i]->q.mem = &v->nowhere;
		}
		loop_cancel(&v->vm->loop, &v->broken);
	}
	unlock(v);
	if (v->abandoned)
		return false;
	v->type->destroy(v);
	return true;
}

static void *worker_thread(void *arg)
{
	struct virtio_worker *worker = arg;

	loop_run(&worker->loop);
	return NULL;
}

int virtio_worker_start(struct virtio_worker *worker, const char *name)
{
	int r = loop_init(&worker->loop, NULL);

	if (r)
		return r;
	r = thread_start(&worker->thread, name, worker_thread, worker);
	if (r)
		loop_fini(&worker->loop);
	worker->running = r == 0;
	return r;
}

void virtio_worker_be_patient(struct virtio_worker *worker, bool yes)
{
	const struct sched_param none = { 0 };

	if (!worker->running || worker->patient == yes || (yes && sched_getscheduler(0) != SCHED_OTHER))
		return;
	if (sched_setscheduler(0, yes ? SCHED_BATCH : SCHED_OTHER, &none) == 0)
		worker->patient = yes;
}

void virtio_worker_stop(struct virtio_worker *worker)
{
	if (!worker->running)
		return;
	loop_quit(&worker->loop);
	pthread_join(worker->thread, NULL);
	loop_fini(&worker->loop);
	worker->running = false;
}
