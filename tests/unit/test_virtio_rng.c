/* SPDX-License-Identifier: BSD-2-Clause */
/* test_virtio_rng.c - the entropy device: what it gives, how much at a time, and what it does with made-up rings. */
#include "unit.h"

#include <unistd.h>

#include "virtio/rng.h"
#include "virtio_hostile.h"
#include "virtq_driver.h"

#define RAM     0x200000ULL
#define BUFFERS 0x100000ULL
#define TABLE   0x80000ULL

struct bed {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	struct device dev;
	struct virtio *v;
	struct vdriver d;
	unsigned interrupts;
};

/* A transport that counts. */
static void used(struct virtio *v, unsigned index)
{
	container_of(v->transport, struct bed, dev)->interrupts++;
}

static void nothing(struct virtio *v)
{
}

static const struct virtio_transport_ops ops = { .used = used, .config = nothing, .broken = nothing };
static const struct device_type type = { .name = "test" };

static struct bed *bed_new(uint64_t features)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct error err;

	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(memory_new(RAM, &bed->memory), 0);
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM, .memory = bed->memory
	};
	assert_int_equal(bus_add(bed->vm.bus, &bed->ram), 0);
	device_init(&bed->dev, &type, &bed->vm, "rng0");
	assert_int_equal(virtio_rng_type.create(&bed->vm, "rng0", NULL, &bed->v, &err), 0);
	virtio_attach(bed->v, &bed->dev, &ops);
	features |= 1ULL << VIRTIO_F_VERSION_1;
	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_features(bed->v, 0, (uint32_t)features);
	virtio_set_features(bed->v, 1, (uint32_t)(features >> 32));
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	vdriver_init(&bed->d, bed->memory->host, 0, &bed->v->queues[0]->state, bed->v->queues[0]->q.max, features);
	virtio_enable_queue(bed->v, 0);
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(virtio_status(bed->v) & VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&bed->dev.lock);
	return bed;
}

static void bed_free(struct bed *bed)
{
	virtio_stop(bed->v);
	assert_true(virtio_destroy(bed->v));
	device_fini(&bed->dev);
	bus_remove(bed->vm.bus, &bed->ram);
	vm_fini(&bed->vm);
	memory_put(bed->memory);
	free(bed);
}

static void quit(void *arg)
{
	loop_quit(arg);
}

/* Until everything that is ready has been served. */
static void settle(struct bed *bed)
{
	struct loop_work work = { .fn = quit, .arg = &bed->vm.loop };

	for (unsigned i = 0; i < 20; i++) {
		loop_post(&bed->vm.loop, &work);
		loop_run(&bed->vm.loop);
	}
}

static void offer(struct bed *bed, uint64_t gpa, uint32_t len, uint64_t table)
{
	const struct vdriver_buf buf = { gpa, len };

	assert_true(vdriver_add(&bed->d, &buf, 1, 0, table, bed));
}

static bool all_zeros(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i])
			return false;
	return true;
}

static void gives_bytes_with(uint64_t features)
{
	struct bed *bed = bed_new(features);
	uint8_t *ram = bed->memory->host;
	uint32_t len;

	settle(bed);
	vdriver_wish(&bed->d, true, 0);
	offer(bed, BUFFERS, 64, features >> VIRTIO_RING_F_INDIRECT_DESC & 1 ? TABLE : 0);
	if (vdriver_kick(&bed->d))
		virtio_kick(bed->v, 0);
	settle(bed);
	assert_ptr_equal(vdriver_get(&bed->d, &len), bed);
	assert_int_equal(len, 64);
	assert_int_equal(bed->interrupts, 1);
	assert_false(all_zeros(ram + BUFFERS, 64));
	assert_true(all_zeros(ram + BUFFERS + 64, 4096));
	/* No interrupt where none is wanted. */
	vdriver_wish(&bed->d, false, 0);
	offer(bed, BUFFERS, 64, 0);
	if (vdriver_kick(&bed->d))
		virtio_kick(bed->v, 0);
	settle(bed);
	assert_non_null(vdriver_get(&bed->d, &len));
	assert_int_equal(bed->interrupts, 1);
	bed_free(bed);
}

static void gives_bytes(void **state)
{
	const uint64_t packed = 1ULL << VIRTIO_F_RING_PACKED, event = 1ULL << VIRTIO_RING_F_EVENT_IDX,
		       indirect = 1ULL << VIRTIO_RING_F_INDIRECT_DESC;

	gives_bytes_with(0);
	gives_bytes_with(packed);
	gives_bytes_with(packed | indirect);
	gives_bytes_with(indirect);
	gives_bytes_with(event | indirect);
	gives_bytes_with(packed | event | indirect);
}

/* However large a buffer, it gets one bite; and others of the loop have their turn between. */
static void bites_and_turns(void **state)
{
	struct bed *bed = bed_new(0);
	uint8_t *ram = bed->memory->host;
	struct loop_work work = { .fn = quit, .arg = &bed->vm.loop };
	unsigned max = bed->v->queues[0]->q.max, n = 0, turns = 0;
	uint32_t len;

	settle(bed);
	for (unsigned i = 0; i < max; i++)
		offer(bed, BUFFERS, 0x10000, 0);
	virtio_kick(bed->v, 0);
	while (n < max && turns < 100) {
		unsigned before = n;

		loop_post(&bed->vm.loop, &work);
		loop_run(&bed->vm.loop);
		while (vdriver_get(&bed->d, &len)) {
			assert_int_equal(len, 4096);
			n++;
		}
		assert_true(n - before <= 32);
		turns++;
	}
	assert_int_equal(n, max);
	assert_true(all_zeros(ram + BUFFERS + 4096, 0x10000 - 4096));
	bed_free(bed);
}

static void hostile(void **state)
{
	assert_int_equal(virtio_hostile(&virtio_rng_type, NULL, 3000, 1, NULL), 0);
}

/* The judge sees a byte that goes where it must not. */
static void bad_serve(struct virtio *v, unsigned index)
{
	virtio_rng_type.serve(v, index);
	assert_int_equal(mem_fill(&v->vm->mem, HOSTILE_RAM - 1, 0x5a, 1), 0);
}

static int bad_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	static struct virtio_type bad;
	int r = virtio_rng_type.create(vm, name, config, out, err);

	bad = virtio_rng_type;
	bad.serve = bad_serve;
	if (r == 0)
		(*out)->type = &bad;
	return r;
}

static void hostile_control(void **state)
{
	const struct virtio_type bad = { .name = "bad", .create = bad_create };

	assert_int_not_equal(virtio_hostile(&bad, NULL, 20, 1, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(gives_bytes), cmocka_unit_test(bites_and_turns),
		cmocka_unit_test(hostile), cmocka_unit_test(hostile_control) };

	alarm(150);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
