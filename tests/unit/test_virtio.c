/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtio.c - the life of a virtio device: resets that wait for what is in flight, vCPUs held meanwhile, hosts that
 * do not answer, the config space. A device of the test's own, on MMIO, with real queues.
 *
 * The device keeps each chain until the test lets it go. Queue 0 is served by the machine's loop, queue 1 by a worker.
 */
#include "unit.h"

#include <linux/virtio_mmio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/vm.h"
#include "virtio/virtio.h"
#include "virtq_driver.h"

#define MIB     0x100000ULL
#define BASE    0xd0000000ULL
#define RINGS   0x10000ULL
#define BUFFERS 0x80000ULL
#define SIZE    16
#define QUEUES  2
#define CHAINS  8
#define FEATURE 5
#define RUNNING                                                                                                        \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

struct toy {
	struct virtio v;
	struct virtio_worker worker;
	struct {
		uint32_t low, high, more;
	} config;
	pthread_mutex_t lock;
	struct virtq_chain *kept[QUEUES][CHAINS];                   /* lock */
	unsigned n[QUEUES];                                         /* lock */
	bool leaving[QUEUES];                                       /* lock: asked to quiesce */
	bool halting[QUEUES];                                       /* lock: asked to pause */
	unsigned served[QUEUES], quiesced[QUEUES], resets, readies; /* atomic */
	unsigned written;
};

/* Its config: who wants to know where it is. */
struct toy_config {
	struct toy **made;
};

struct bed {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	struct device *dev;
	struct toy *toy;
	struct initiator from;
	struct vdriver d[QUEUES];
	bool level;
};

static unsigned load(unsigned *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void add(unsigned *p)
{
	__atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST);
}

/* ---- the device ---- */

static struct toy *toy_of(struct virtio *v)
{
	return container_of(v, struct toy, v);
}

static void toy_serve(struct virtio *v, unsigned index)
{
	struct toy *toy = toy_of(v);
	struct virtq_chain *chain;

	add(&toy->served[index]);
	pthread_mutex_lock(&toy->lock);
	while (toy->n[index] < CHAINS && virtq_pop(&v->queues[index]->q, &chain) == 1)
		toy->kept[index][toy->n[index]++] = chain;
	pthread_mutex_unlock(&toy->lock);
}

/* Gives all chains of a queue back, and says that it is quiet if it was asked to be. */
static void toy_let_go(struct toy *toy, unsigned index)
{
	bool tell, still;

	pthread_mutex_lock(&toy->lock);
	while (toy->n[index] > 0)
		virtq_push(toy->kept[index][--toy->n[index]], 0);
	tell = toy->leaving[index];
	still = toy->halting[index];
	toy->leaving[index] = toy->halting[index] = false;
	pthread_mutex_unlock(&toy->lock);
	virtq_notify(&toy->v.queues[index]->q);
	if (still)
		virtio_paused(&toy->v, index);
	if (tell)
		virtio_quiet(&toy->v, index);
}

/* Whether the queue rests; if not, *later says that it is to, when it does. */
static bool rests(struct toy *toy, unsigned index, bool *later)
{
	bool quiet;

	add(&toy->quiesced[index]);
	pthread_mutex_lock(&toy->lock);
	quiet = toy->n[index] == 0;
	*later = !quiet;
	pthread_mutex_unlock(&toy->lock);
	return quiet;
}

static bool toy_pause(struct virtio *v, unsigned index)
{
	struct toy *toy = toy_of(v);

	return rests(toy, index, &toy->halting[index]);
}

static void toy_quiesce(struct virtio *v, unsigned index)
{
	struct toy *toy = toy_of(v);

	if (rests(toy, index, &toy->leaving[index]))
		virtio_quiet(v, index);
}

static void toy_reset(struct virtio *v)
{
	add(&toy_of(v)->resets);
}

static void toy_ready(struct virtio *v)
{
	add(&toy_of(v)->readies);
}

static void toy_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	memcpy(v->config + offset, bytes, len);
	toy_of(v)->written += len;
}

static void toy_destroy(struct virtio *v)
{
	struct toy *toy = toy_of(v);

	virtio_worker_stop(&toy->worker);
	virtio_fini(v);
	pthread_mutex_destroy(&toy->lock);
	free(toy);
}

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err);

static const struct virtio_type toy_type = {
	.name = "toy",
	.id = 42,
	.create = toy_create,
	.destroy = toy_destroy,
	.serve = toy_serve,
	.quiesce = toy_quiesce,
	.pause = toy_pause,
	.reset = toy_reset,
	.ready = toy_ready,
	.config_write = toy_config_write,
};

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	struct toy *toy = calloc(1, sizeof(*toy));

	assert_non_null(toy);
	*((const struct toy_config *)config)->made = toy;
	pthread_mutex_init(&toy->lock, NULL);
	virtio_init(&toy->v, &toy_type, vm, 1ULL << FEATURE, &toy->config, sizeof(toy->config));
	assert_int_equal(virtio_worker_start(&toy->worker, "toy"), 0);
	assert_int_equal(virtio_queue(&toy->v, SIZE, &vm->loop, err), 0);
	assert_int_equal(virtio_queue(&toy->v, SIZE, &toy->worker.loop, err), 0);
	*out = &toy->v;
	return 0;
}

/* ---- the machine ---- */

static void set_line(void *chip, unsigned line, bool level)
{
	((struct bed *)chip)->level = level;
}

static const struct irqchip_ops chip = { .set_line = set_line };

static struct bed *bed_new(bool legacy)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	const struct toy_config toy = { &bed->toy };
	const struct virtio_config config = { .type = &toy_type, .config = &toy, .legacy = legacy };
	struct error err;

	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	irq_router_chip(&bed->vm.irqs, &chip, bed);
	assert_int_equal(memory_new(2 * MIB, &bed->memory), 0);
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = 2 * MIB, .memory = bed->memory
	};
	assert_int_equal(bus_add(bed->vm.bus, &bed->ram), 0);
	assert_int_equal(virtio_mmio_type.create(&bed->vm, "toy0", &config, &bed->dev, &err), 0);
	bed->dev->regions[0]->space = SPACE_MMIO;
	bed->dev->regions[0]->base = BASE;
	assert_int_equal(irq_connect(&bed->vm.irqs, bed->dev->irqs[0], 5), 0);
	assert_int_equal(vm_add_devices(&bed->vm, &bed->dev, 1, &err), 0);
	device_power_on(bed->dev);
	bed->from.name = "test";
	bus_attach(bed->vm.bus, &bed->from);
	run_resume(&bed->vm.run);
	return bed;
}

static void bed_free(struct bed *bed)
{
	for (unsigned i = 0; bed->toy && i < QUEUES; i++)
		toy_let_go(bed->toy, i);
	bus_detach(&bed->from);
	bus_remove(bed->vm.bus, &bed->ram);
	vm_fini(&bed->vm);
	memory_put(bed->memory);
	free(bed);
}

static uint32_t get(struct bed *bed, unsigned offset)
{
	uint32_t value = 0;

	bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + offset, &value, 4, 1, false);
	return value;
}

static void set(struct bed *bed, unsigned offset, uint32_t value)
{
	bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + offset, &value, 4, 1, true);
}

static void quit_loop(void *arg)
{
	loop_quit(arg);
}

/* What was posted to the machine's loop, and its kicks, are done. */
static void turn(struct bed *bed)
{
	struct loop_work work = { .fn = quit_loop, .arg = &bed->vm.loop };

	for (unsigned i = 0; i < 4; i++) {
		loop_post(&bed->vm.loop, &work);
		loop_run(&bed->vm.loop);
	}
}

/* While the loop turns. */
#define WAIT(bed, condition)                                                                                           \
	do {                                                                                                           \
		turn(bed);                                                                                             \
		if (!(condition))                                                                                      \
			usleep(200);                                                                                   \
	} while (!(condition))

static void enable(struct bed *bed, unsigned index)
{
	struct virtq_state q;

	vdriver_init(&bed->d[index], bed->memory->host, RINGS + index * VDRIVER_RINGS, &q, SIZE, 0);
	set(bed, VIRTIO_MMIO_QUEUE_SEL, index);
	set(bed, VIRTIO_MMIO_QUEUE_NUM, SIZE);
	set(bed, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q.desc);
	set(bed, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q.driver);
	set(bed, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q.device);
	set(bed, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void start(struct bed *bed)
{
	set(bed, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), 0);
	set(bed, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1U << (VIRTIO_F_VERSION_1 - 32) | 1U << (VIRTIO_F_RING_RESET - 32));
	set(bed, VIRTIO_MMIO_STATUS, RUNNING & ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned i = 0; i < QUEUES; i++)
		enable(bed, i);
	set(bed, VIRTIO_MMIO_STATUS, RUNNING);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING);
}

static void offer(struct bed *bed, unsigned index)
{
	const struct vdriver_buf buf = { BUFFERS, 64 };

	assert_true(vdriver_add(&bed->d[index], &buf, 1, 0, 0, bed));
	set(bed, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

static unsigned kept(struct bed *bed, unsigned index)
{
	unsigned n;

	pthread_mutex_lock(&bed->toy->lock);
	n = bed->toy->n[index];
	pthread_mutex_unlock(&bed->toy->lock);
	return n;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- tests ---- */

static void reset_waits_for_what_is_in_flight(void **state)
{
	struct bed *bed = bed_new(false);
	unsigned resets;
	uint32_t len;

	start(bed);
	resets = load(&bed->toy->resets);
	for (unsigned i = 0; i < QUEUES; i++) {
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
	}
	set(bed, VIRTIO_MMIO_STATUS, 0);
	/* The handler has not waited, nor does anybody see the reset. */
	assert_true(run_interrupted(&bed->vm.run));
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING);
	WAIT(bed, load(&bed->toy->quiesced[0]) && load(&bed->toy->quiesced[1]));
	assert_int_equal(load(&bed->toy->resets), resets);
	toy_let_go(bed->toy, 0);
	turn(bed);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING);
	assert_true(run_interrupted(&bed->vm.run));
	/* Nor does it help to write once more, or other bits. */
	set(bed, VIRTIO_MMIO_STATUS, 0);
	set(bed, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FAILED);
	toy_let_go(bed->toy, 1);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), 0);
	assert_false(run_interrupted(&bed->vm.run));
	assert_int_equal(load(&bed->toy->resets), resets + 1);
	/* What came back meanwhile is given back while the queue lives; the interrupt is gone with the reset. */
	assert_int_equal(bed->level, 0);
	assert_int_equal(get(bed, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_non_null(vdriver_get(&bed->d[0], &len));
	/* No kick and no chain of the last life is served in the next. */
	bed->toy->served[0] = 0;
	start(bed);
	WAIT(bed, load(&bed->toy->served[0]));
	assert_int_equal(kept(bed, 0), 0);
	bed_free(bed);
}

static void reset_of_one_queue_leaves_the_other(void **state)
{
	struct bed *bed = bed_new(false);
	uint32_t len;

	for (unsigned index = 0; index < QUEUES; index++) {
		start(bed);
		offer(bed, index);
		WAIT(bed, kept(bed, index) == 1);
		set(bed, VIRTIO_MMIO_QUEUE_SEL, index);
		set(bed, 0xc0, 1);
		assert_int_equal(get(bed, 0xc0), 1);
		assert_true(run_interrupted(&bed->vm.run));
		/* Too early. */
		set(bed, VIRTIO_MMIO_QUEUE_READY, 1);
		WAIT(bed, load(&bed->toy->quiesced[index]));
		toy_let_go(bed->toy, index);
		assert_false(run_interrupted(&bed->vm.run));
		assert_int_equal(get(bed, 0xc0), 0);
		assert_int_equal(get(bed, VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING);
		offer(bed, !index);
		WAIT(bed, kept(bed, !index) == 1);
		toy_let_go(bed->toy, !index);
		assert_non_null(vdriver_get(&bed->d[!index], &len));
		enable(bed, index);
		assert_int_equal(get(bed, VIRTIO_MMIO_QUEUE_READY), 1);
		offer(bed, index);
		WAIT(bed, kept(bed, index) == 1);
		toy_let_go(bed->toy, index);
		assert_non_null(vdriver_get(&bed->d[index], &len));
		set(bed, VIRTIO_MMIO_STATUS, 0);
		WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
		bed->toy->quiesced[0] = bed->toy->quiesced[1] = 0;
	}
	bed_free(bed);
}

/* A thread that lets chains go while the machine is stopped and waits for them. */
static void *let_go_later(void *arg)
{
	struct bed *bed = arg;

	thread_adopt();
	while (!load(&bed->toy->quiesced[0]) || !load(&bed->toy->quiesced[1]))
		usleep(200);
	usleep(20000);
	toy_let_go(bed->toy, 0);
	toy_let_go(bed->toy, 1);
	thread_release();
	return NULL;
}

static void machine_reset_waits(void **state)
{
	struct bed *bed = bed_new(false);
	pthread_t thread;

	/* Power-on is none. */
	assert_int_equal(bed->toy->v.resets, 0);
	start(bed);
	assert_int_equal(bed->toy->v.resets, 1);
	for (unsigned i = 0; i < QUEUES; i++) {
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
	}
	assert_int_equal(pthread_create(&thread, NULL, let_go_later, bed), 0);
	bed->dev->type->stop(bed->dev);
	assert_int_equal(kept(bed, 0) + kept(bed, 1), 0);
	device_reset(bed->dev);
	assert_int_equal(bed->toy->v.resets, 2);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), 0);
	assert_false(run_interrupted(&bed->vm.run));
	pthread_join(thread, NULL);
	/* In the middle of a driver's reset, too. */
	start(bed);
	offer(bed, 1);
	WAIT(bed, kept(bed, 1) == 1);
	bed->toy->quiesced[0] = bed->toy->quiesced[1] = 0;
	set(bed, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(pthread_create(&thread, NULL, let_go_later, bed), 0);
	bed->dev->type->stop(bed->dev);
	pthread_join(thread, NULL);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), 0);
	start(bed);
	bed_free(bed);
}

/* A request on the host does not end: the user can quit all the same, and what the request uses stays. */
static void a_host_that_does_not_answer(void **state)
{
	struct bed *bed = bed_new(false);
	struct toy *toy = bed->toy;
	struct device *dev = bed->dev;
	double begin;

	start(bed);
	offer(bed, 1);
	WAIT(bed, kept(bed, 1) == 1);
	begin = seconds();
	dev->type->stop(dev);
	assert_true(seconds() - begin < 10);
	assert_int_equal(run_take_request(&bed->vm.run), REASON_HOST_FAILURE);
	assert_non_null(strstr(bed->vm.run.why, "toy0"));
	/* Nobody waits twice. */
	begin = seconds();
	device_reset(dev);
	dev->type->stop(dev);
	bed->toy = NULL;
	bus_detach(&bed->from);
	bus_remove(bed->vm.bus, &bed->ram);
	vm_remove_devices(&bed->vm);
	assert_true(seconds() - begin < 2.5); /* to wait would take three */
	/* The request ends after all, when the machine is gone. */
	memset(&bed->vm.mem, 0xff, sizeof(bed->vm.mem));
	toy_let_go(toy, 1);
	/* What is left of it, which a program that ends need not take away. */
	toy_destroy(&toy->v);
	device_fini(dev);
	free(dev);
	vm_fini(&bed->vm);
	memory_put(bed->memory);
	free(bed);
}

/* Device and rings stand still, whatever the driver or the test does; then nothing is lost. */
static void a_pause_keeps_the_rings(void **state)
{
	struct bed *bed = bed_new(false);
	uint8_t before[QUEUES * VDRIVER_RINGS];
	pthread_t thread;
	uint32_t len;

	start(bed);
	/* What is in flight is waited for. */
	for (unsigned i = 0; i < QUEUES; i++) {
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
	}
	assert_int_equal(pthread_create(&thread, NULL, let_go_later, bed), 0);
	assert_true(bed->dev->type->pause(bed->dev));
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_non_null(vdriver_get(&bed->d[i], &len));
		offer(bed, i);
		assert_true(virtq_empty(&bed->toy->v.queues[i]->q));
	}
	memcpy(before, (uint8_t *)bed->memory->host + RINGS, sizeof(before));
	bed->toy->served[0] = bed->toy->served[1] = 0;
	for (unsigned i = 0; i < 50; i++) {
		/* As for an event of the device's own. */
		toy_serve(&bed->toy->v, 0);
		assert_false(virtq_kicks_on(&bed->toy->v.queues[0]->q));
		turn(bed);
		usleep(200);
	}
	assert_int_equal(load(&bed->toy->served[1]), 0);
	assert_int_equal(kept(bed, 0) + kept(bed, 1), 0);
	assert_memory_equal(before, (uint8_t *)bed->memory->host + RINGS, sizeof(before));
	bed->dev->type->resume(bed->dev);
	bed->dev->type->resume(bed->dev);
	for (unsigned i = 0; i < QUEUES; i++) {
		WAIT(bed, kept(bed, i) == 1);
		toy_let_go(bed->toy, i);
		assert_non_null(vdriver_get(&bed->d[i], &len));
	}
	/* A reset ends it. */
	assert_true(bed->dev->type->pause(bed->dev));
	set(bed, VIRTIO_MMIO_STATUS, 0);
	WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
	start(bed);
	for (unsigned i = 0; i < QUEUES; i++) {
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
		toy_let_go(bed->toy, i);
	}
	bed_free(bed);
}

/* The machine is told, and goes on as if nobody had asked. */
static void a_pause_that_cannot_be(void **state)
{
	struct bed *bed = bed_new(false);
	uint32_t len;

	start(bed);
	for (unsigned i = 0; i < QUEUES; i++) {
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
	}
	assert_false(bed->dev->type->pause(bed->dev));
	for (unsigned i = 0; i < QUEUES; i++) {
		toy_let_go(bed->toy, i);
		assert_non_null(vdriver_get(&bed->d[i], &len));
		offer(bed, i);
		WAIT(bed, kept(bed, i) == 1);
		toy_let_go(bed->toy, i);
		assert_non_null(vdriver_get(&bed->d[i], &len));
	}
	assert_true(bed->dev->type->pause(bed->dev));
	bed->dev->type->resume(bed->dev);
	bed_free(bed);
}

static void config_space(void **state)
{
	struct bed *bed = bed_new(false);
	const uint64_t both = 0x1122334455667788;
	uint32_t before;
	uint64_t value = 0;

	start(bed);
	before = get(bed, VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_config_set(&bed->toy->v, 0, &both, sizeof(both));
	assert_int_not_equal(get(bed, VIRTIO_MMIO_CONFIG_GENERATION), before);
	assert_int_equal(bed->level, 1);
	assert_int_equal(get(bed, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	set(bed, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(bed->level, 0);
	assert_int_equal(get(bed, VIRTIO_MMIO_CONFIG), 0x55667788);
	assert_int_equal(get(bed, VIRTIO_MMIO_CONFIG + 4), 0x11223344);
	/* Any width; and what lies beyond the end is zeros, and not written. */
	bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + VIRTIO_MMIO_CONFIG + 1, &value, 1, 1, false);
	assert_int_equal(value, 0x77);
	value = ~0ULL;
	bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + VIRTIO_MMIO_CONFIG + 10, &value, 4, 1, true);
	assert_int_equal(bed->toy->written, 2);
	assert_int_equal(get(bed, VIRTIO_MMIO_CONFIG + 8), 0xffff0000);
	assert_int_equal(get(bed, VIRTIO_MMIO_CONFIG + 12), 0);
	set(bed, VIRTIO_MMIO_CONFIG + 12, 1);
	assert_int_equal(bed->toy->written, 2);
	/* Before DRIVER_OK there is nobody to be told. */
	set(bed, VIRTIO_MMIO_STATUS, 0);
	WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
	virtio_config_changed(&bed->toy->v);
	assert_int_equal(bed->level, 0);
	bed_free(bed);
}

static void broken_queue_is_told(void **state)
{
	struct bed *bed = bed_new(false);

	start(bed);
	for (unsigned index = 0; index < QUEUES; index++) {
		const struct vdriver_buf nowhere = { 1ULL << 40, 16 };

		assert_true(vdriver_add(&bed->d[index], &nowhere, 1, 0, 0, bed));
		set(bed, VIRTIO_MMIO_QUEUE_NOTIFY, index);
		WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
		WAIT(bed, bed->level);
		assert_true(get(bed, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
		set(bed, VIRTIO_MMIO_STATUS, RUNNING);
		assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
		set(bed, VIRTIO_MMIO_STATUS, 0);
		WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
		start(bed);
		offer(bed, index);
		WAIT(bed, kept(bed, index) == 1);
		toy_let_go(bed->toy, index);
	}
	bed_free(bed);
}

static void doorbells_follow_queues(void **state)
{
	struct bed *bed = bed_new(false);
	const struct region *region = bed->dev->regions[0];
	unsigned n = 0;

	assert_null(region->doorbells);
	start(bed);
	for (const struct doorbell *bell = region->doorbells; bell; bell = bell->next, n++) {
		assert_int_equal(bell->offset, VIRTIO_MMIO_QUEUE_NOTIFY);
		assert_true(bell->match && bell->value < QUEUES && bell->len == 4);
		assert_int_equal(bell->fd, bed->toy->v.queues[bell->value]->kick);
	}
	assert_int_equal(n, QUEUES);
	set(bed, VIRTIO_MMIO_STATUS, 0);
	assert_null(region->doorbells);
	WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
	bed_free(bed);
}

static void negotiation(void **state)
{
	struct bed *bed = bed_new(false);
	const uint32_t before = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	assert_int_equal(bed->toy->readies, 0);
	set(bed, VIRTIO_MMIO_STATUS, before);
	/* All steps in one write: as far as they may go. */
	set(bed, VIRTIO_MMIO_STATUS, RUNNING);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), before);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1U << (FEATURE + 1));
	set(bed, VIRTIO_MMIO_STATUS, RUNNING);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), before);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1U << FEATURE);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set(bed, VIRTIO_MMIO_STATUS, RUNNING);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING);
	assert_int_equal(bed->toy->readies, 1);
	assert_true(virtio_has(&bed->toy->v, FEATURE));
	/* No more once it is done, nor DRIVER_OK twice. */
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	assert_true(virtio_has(&bed->toy->v, FEATURE));
	set(bed, VIRTIO_MMIO_STATUS, RUNNING);
	assert_int_equal(bed->toy->readies, 1);
	set(bed, VIRTIO_MMIO_STATUS, RUNNING | VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), RUNNING | VIRTIO_CONFIG_S_FAILED);
	bed_free(bed);
	/* A driver of before 1.0 gets what it may have of what it took. */
	bed = bed_new(true);
	set(bed, VIRTIO_MMIO_DRIVER_FEATURES, 1U << FEATURE | 1U << (FEATURE + 1));
	set(bed, VIRTIO_MMIO_STATUS, before | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(get(bed, VIRTIO_MMIO_STATUS), before | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(virtio_has(&bed->toy->v, FEATURE) && !virtio_has(&bed->toy->v, FEATURE + 1));
	assert_false(virtio_has(&bed->toy->v, VIRTIO_F_VERSION_1));
	bed_free(bed);
}

/* Resets while other threads kick, complete and look on: none is lost, and none serves what is not enabled. */
static void *complete_always(void *arg)
{
	struct bed *bed = arg;

	thread_adopt();
	while (!load(&bed->toy->written)) {
		toy_let_go(bed->toy, 0);
		toy_let_go(bed->toy, 1);
	}
	thread_release();
	return NULL;
}

static void resets_under_load(void **state)
{
	struct bed *bed = bed_new(false);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, complete_always, bed), 0);
	for (unsigned round = 0; round < 300; round++) {
		start(bed);
		for (unsigned i = 0; i < 8; i++) {
			offer(bed, i % QUEUES);
			if (i == round % 9)
				turn(bed);
		}
		set(bed, VIRTIO_MMIO_STATUS, 0);
		WAIT(bed, get(bed, VIRTIO_MMIO_STATUS) == 0);
		assert_false(run_interrupted(&bed->vm.run));
	}
	__atomic_store_n(&bed->toy->written, 1, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	bed_free(bed);
}

/* How its thread is scheduled, before and after it was told to be patient, and when it was told otherwise. */
struct patience {
	struct loop_work work;
	struct virtio_worker worker;
	int policy[4];
	int done; /* atomic */
};

static void be_patient(void *arg)
{
	struct patience *p = arg;

	p->policy[0] = sched_getscheduler(0);
	virtio_worker_be_patient(&p->worker, true);
	p->policy[1] = sched_getscheduler(0);
	virtio_worker_be_patient(&p->worker, false);
	p->policy[2] = sched_getscheduler(0);
	/* Whoever has chosen something else keeps it. */
	(void)sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){ 0 });
	virtio_worker_be_patient(&p->worker, true);
	virtio_worker_be_patient(&p->worker, false);
	p->policy[3] = sched_getscheduler(0);
	__atomic_store_n(&p->done, 1, __ATOMIC_RELEASE);
}

static void a_patient_worker(void **state)
{
	struct patience p = { .work = { .fn = be_patient, .arg = &p } };

	/* Nothing runs: it is not this thread's. */
	virtio_worker_be_patient(&p.worker, true);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	assert_int_equal(virtio_worker_start(&p.worker, "patient"), 0);
	loop_post(&p.worker.loop, &p.work);
	while (!__atomic_load_n(&p.done, __ATOMIC_ACQUIRE))
		sched_yield();
	virtio_worker_stop(&p.worker);
	assert_int_equal(p.policy[0], SCHED_OTHER);
	assert_int_equal(p.policy[1], SCHED_BATCH);
	assert_int_equal(p.policy[2], SCHED_OTHER);
	assert_int_equal(p.policy[3], SCHED_IDLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_patient_worker),
		cmocka_unit_test(reset_waits_for_what_is_in_flight),
		cmocka_unit_test(reset_of_one_queue_leaves_the_other),
		cmocka_unit_test(machine_reset_waits),
		cmocka_unit_test(a_host_that_does_not_answer),
		cmocka_unit_test(a_pause_keeps_the_rings),
		cmocka_unit_test(a_pause_that_cannot_be),
		cmocka_unit_test(config_space),
		cmocka_unit_test(broken_queue_is_told),
		cmocka_unit_test(doorbells_follow_queues),
		cmocka_unit_test(negotiation),
		cmocka_unit_test(resets_under_load),
	};

	if (unit_bound(150))
		return 1;
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
