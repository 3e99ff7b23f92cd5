/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_bed.h - one virtio device behind a transport that only counts, with a
 * driver for one of its queues: for unit tests.
 */
#ifndef TRAPLINE_TESTS_VIRTIO_BED_H
#define TRAPLINE_TESTS_VIRTIO_BED_H

#include "unit.h"

#include <stdlib.h>

#include "virtio/virtio.h"
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
static inline void bed_used(struct virtio *v, unsigned index)
{
	__atomic_fetch_add(&container_of(v->transport, struct bed, dev)->interrupts, 1, __ATOMIC_RELEASE);
}

static inline void bed_nothing(struct virtio *v)
{
}

static const struct virtio_transport_ops bed_ops = { .used = bed_used, .config = bed_nothing, .broken = bed_nothing };
static const struct device_type bed_type = { .name = "test" };

/* The device, ready, with queue `index` enabled and no other; bits of `features` and VERSION_1 negotiated. */
static inline struct bed *bed_new(
	const struct virtio_type *virtio, const void *config, unsigned index, uint64_t features)
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
	device_init(&bed->dev, &bed_type, &bed->vm, "device0");
	assert_int_equal(virtio->create(&bed->vm, "device0", config, &bed->v, &err), 0);
	virtio_attach(bed->v, &bed->dev, &bed_ops);
	features |= 1ULL << VIRTIO_F_VERSION_1;
	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_features(bed->v, 0, (uint32_t)features);
	virtio_set_features(bed->v, 1, (uint32_t)(features >> 32));
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	vdriver_init(
		&bed->d, bed->memory->host, 0, &bed->v->queues[index]->state, bed->v->queues[index]->q.max, features);
	virtio_enable_queue(bed->v, index);
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(virtio_status(bed->v) & VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&bed->dev.lock);
	return bed;
}

static inline void bed_free(struct bed *bed)
{
	virtio_stop(bed->v);
	assert_true(virtio_destroy(bed->v));
	device_fini(&bed->dev);
	bus_remove(bed->vm.bus, &bed->ram);
	vm_fini(&bed->vm);
	memory_put(bed->memory);
	free(bed);
}

static inline void bed_quit(void *arg)
{
	loop_quit(arg);
}

/* Until everything that is ready has been served. */
static inline void settle(struct bed *bed)
{
	struct loop_work work = { .fn = bed_quit, .arg = &bed->vm.loop };

	for (unsigned i = 0; i < 20; i++) {
		loop_post(&bed->vm.loop, &work);
		loop_run(&bed->vm.loop);
	}
}

#endif
