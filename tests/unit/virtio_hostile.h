/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_hostile.h - lives of a virtio device under drivers that make rings up: for the test of each device.
 *
 * Each life is a reset, features at random, queues of any size of both kinds, and then chains that are right, nearly
 * right or noise, with kicks and resets in between. What is judged: the reset comes to an end, and no byte of the
 * guest's memory has changed that was not offered to be written. The rest is for the sanitizers.
 */
#ifndef TRAPLINE_TESTS_VIRTIO_HOSTILE_H
#define TRAPLINE_TESTS_VIRTIO_HOSTILE_H

#include "unit.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backing.h"
#include "core/vm.h"
#include "virtio/virtio.h"

#define HOSTILE_RAM    0x80000ULL
#define HOSTILE_BASE   0xd0000000ULL
#define HOSTILE_RINGS  0x6000ULL  /* of each queue, from 0 on: descriptors, 0x4000 the driver's, 0x5000 the device's */
#define HOSTILE_TABLES 0x60000ULL /* indirect ones; what lies before, behind the rings, are buffers */
#define HOSTILE_QUEUES 8          /* that are driven, of those that the device has */
#define HOSTILE_SIZE   64         /* descriptors at most */

struct hostile {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	struct device *dev;
	struct initiator from;
	uint64_t random;
	unsigned nr_queues;
	bool legacy;
	bool packs;            /* it has packed rings */
	bool shared;           /* another program serves it, and takes its time */
	unsigned busy;         /* lives in which the device did anything */
	uint8_t *before, *may; /* the memory at the life's begin; what may change */
	/* What a request of this device begins with; NULL: noise. `n` bytes of it are wanted. */
	void (*request)(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n);
};

static inline uint32_t hostile_some(struct hostile *h, uint32_t below)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return (uint32_t)(h->random * 0x2545f4914f6cdd1d >> 32) % below;
}

static inline bool hostile_rarely(struct hostile *h)
{
	return hostile_some(h, 40) == 0;
}

static inline uint32_t hostile_get(struct hostile *h, unsigned offset)
{
	uint32_t value = 0;

	bus_access(h->vm.bus, &h->from, SPACE_MMIO, HOSTILE_BASE + offset, &value, 4, 1, false);
	return value;
}

static inline void hostile_set(struct hostile *h, unsigned offset, uint32_t value)
{
	bus_access(h->vm.bus, &h->from, SPACE_MMIO, HOSTILE_BASE + offset, &value, 4, 1, true);
}

static inline void hostile_quit(void *arg)
{
	loop_quit(arg);
}

static inline void hostile_turn(struct hostile *h)
{
	struct loop_work work = { .fn = hostile_quit, .arg = &h->vm.loop };

	loop_post(&h->vm.loop, &work);
	loop_run(&h->vm.loop);
}

static inline void *hostile_at(struct hostile *h, uint64_t gpa)
{
	return (uint8_t *)h->memory->host + gpa;
}

/* [gpa, gpa + len) may be written, as far as it is there. */
static inline void hostile_allow(struct hostile *h, uint64_t gpa, uint64_t len)
{
	if (gpa < HOSTILE_RAM)
		memset(h->may + gpa, 1, len < HOSTILE_RAM - gpa ? len : HOSTILE_RAM - gpa);
}

/* A descriptor that is right but for some. The flags without those of a packed ring. */
static inline uint16_t hostile_piece(
	struct hostile *h, unsigned queue, bool first, bool out, bool more, uint64_t *addr, uint32_t *len)
{
	uint64_t buffers = HOSTILE_RINGS * HOSTILE_QUEUES;
	uint16_t flags = (uint16_t)((out ? 0 : VRING_DESC_F_WRITE) | (more ? VRING_DESC_F_NEXT : 0));

	*addr = buffers + hostile_some(h, (uint32_t)(HOSTILE_TABLES - buffers - 0x2000));
	*len = hostile_some(h, 3) ? hostile_some(h, 64) : hostile_some(h, 0x2000);
	if (first && out) {
		uint8_t bytes[64];

		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)hostile_some(h, 256);
		*len = hostile_rarely(h) ? *len : 16 + hostile_some(h, 48);
		if (h->request)
			h->request(h, queue, bytes, sizeof(bytes));
		memcpy(hostile_at(h, *addr), bytes, sizeof(bytes));
		memcpy(h->before + *addr, bytes, sizeof(bytes));
	}
	if (hostile_rarely(h))
		*len = hostile_some(h, 2) ? UINT32_MAX - hostile_some(h, 3) : 0;
	if (hostile_rarely(h))
		*addr = hostile_some(h, 2) ? HOSTILE_RAM - hostile_some(h, 32) : UINT64_MAX - hostile_some(h, 64);
	if (hostile_rarely(h))
		flags ^= (uint16_t)(1U << hostile_some(h, 3));
	return flags;
}

/* A table of descriptors, linked or in a row; what lies in it may be written where it says so. */
static inline unsigned hostile_table(
	struct hostile *h, unsigned queue, uint64_t gpa, unsigned room, bool packed, bool chained)
{
	unsigned n = 1 + hostile_some(h, 5), n_out = hostile_some(h, n + 1);

	n = n < room ? n : room;
	for (unsigned i = 0; i < n; i++) {
		uint64_t addr;
		uint32_t len;
		uint16_t flags = hostile_piece(h, queue, i == 0, i < n_out, i + 1 < n, &addr, &len);
		uint16_t next =
			hostile_rarely(h) ? (uint16_t)hostile_some(h, 0x10000) : (uint16_t)(chained ? i + 1 : i);
		struct vring_desc desc = { addr, len, flags, next };
		struct vring_packed_desc pdesc = { addr, len, next, flags };

		if (packed)
			memcpy(hostile_at(h, gpa + 16 * i), &pdesc, 16);
		else
			memcpy(hostile_at(h, gpa + 16 * i), &desc, 16);
		if (flags & VRING_DESC_F_WRITE)
			hostile_allow(h, addr, len);
	}
	return n;
}

static inline void hostile_fill(struct hostile *h, unsigned queue, unsigned size, bool packed, unsigned life)
{
	uint64_t rings = HOSTILE_RINGS * queue;
	struct vring_avail *avail = hostile_at(h, rings + 0x4000);
	unsigned slot = 0, chains = 0;

	while (slot < size && chains < 32) {
		uint64_t table = HOSTILE_TABLES + 16ULL * hostile_some(h, (HOSTILE_RAM - HOSTILE_TABLES) / 16 - 8);
		bool indirect = hostile_some(h, 4) == 0;
		uint64_t at = rings + 16 * slot;
		unsigned n = hostile_table(h, queue, indirect ? table : at, indirect ? 8 : size - slot, packed, true);
		uint16_t *words = hostile_at(h, at + 12);

		if (indirect) {
			uint64_t addr = hostile_rarely(h) ? HOSTILE_RAM - 16 * hostile_some(h, 3) : table;
			uint32_t len = hostile_rarely(h) ? hostile_some(h, 0x10000) : 16 * n;

			memcpy(hostile_at(h, at), &addr, 8);
			memcpy(hostile_at(h, at + 8), &len, 4);
			words[packed] = (uint16_t)(VRING_DESC_F_INDIRECT | (hostile_rarely(h) ? VRING_DESC_F_NEXT : 0));
			n = 1;
		}
		/* Linked within the ring: from where the chain begins. */
		for (unsigned i = 0; i < n && !indirect; i++) {
			uint16_t *link = hostile_at(h, at + 16 * i + 12);

			if (packed)
				link[1] |= 1U << VRING_PACKED_DESC_F_AVAIL;
			else if (!hostile_rarely(h))
				link[1] = (uint16_t)(slot + i + 1);
		}
		if (packed && indirect)
			words[1] |= 1U << VRING_PACKED_DESC_F_AVAIL;
		if (!packed)
			avail->ring[chains % size] = (uint16_t)(hostile_rarely(h) ? hostile_some(h, 0x10000) : slot);
		slot += n;
		chains++;
	}
	if (!packed) {
		avail->flags = (uint16_t)hostile_some(h, 2);
		avail->idx = (uint16_t)(hostile_rarely(h) ? hostile_some(h, 0x10000) : chains);
	}
	/*
	 * A packed chain that went round the ring's end would go on in what the device has given back there by then:
	 * used elements, of which nobody here knows what they allow.
	 */
	if (packed)
		*(uint16_t *)hostile_at(h, rings + 16 * (size - 1) + 14) &= (uint16_t)~VRING_DESC_F_NEXT;
	/* The used ring, or the descriptors that are given back, and the events. */
	hostile_allow(h, rings + 0x5000, 0x1000);
	if (packed)
		hostile_allow(h, rings, 16ULL * size);
}

static inline void hostile_queue(struct hostile *h, unsigned queue, unsigned size)
{
	uint32_t rings = (uint32_t)(HOSTILE_RINGS * queue), odd = hostile_rarely(h) ? hostile_some(h, 64) : 0;

	hostile_set(h, VIRTIO_MMIO_QUEUE_SEL, queue);
	hostile_set(h, VIRTIO_MMIO_QUEUE_NUM, size);
	hostile_set(h, VIRTIO_MMIO_QUEUE_DESC_LOW, rings);
	hostile_set(h, VIRTIO_MMIO_QUEUE_AVAIL_LOW, rings + 0x4000 + odd);
	hostile_set(h, VIRTIO_MMIO_QUEUE_USED_LOW, rings + 0x5000);
	hostile_set(h, VIRTIO_MMIO_QUEUE_READY, 1);
}

static inline void hostile_negotiate(struct hostile *h, bool packed)
{
	uint32_t low, high;

	hostile_set(h, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	hostile_set(h, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = hostile_get(h, VIRTIO_MMIO_DEVICE_FEATURES);
	hostile_set(h, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	high = hostile_get(h, VIRTIO_MMIO_DEVICE_FEATURES);
	if (hostile_some(h, 2))
		low &= (uint32_t)(h->random >> 20) | 1U << VIRTIO_RING_F_INDIRECT_DESC;
	if (!packed)
		high &= ~(1U << (VIRTIO_F_RING_PACKED - 32));
	hostile_set(h, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	hostile_set(h, VIRTIO_MMIO_DRIVER_FEATURES, low);
	hostile_set(h, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	hostile_set(h, VIRTIO_MMIO_DRIVER_FEATURES, high);
	hostile_set(h, VIRTIO_MMIO_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
}

static inline void hostile_reset(struct hostile *h)
{
	hostile_set(h, VIRTIO_MMIO_STATUS, 0);
	while (hostile_get(h, VIRTIO_MMIO_STATUS)) {
		hostile_turn(h);
		usleep(20);
	}
}

/* False: a byte changed that was not offered. */
static inline bool hostile_judge(struct hostile *h)
{
	const uint8_t *now = h->memory->host;

	h->busy += memcmp(now, h->before, HOSTILE_RAM) != 0;
	for (uint64_t at = 0; at < HOSTILE_RAM; at++) {
		if (now[at] != h->before[at] && !h->may[at]) {
			print_message("the device wrote to 0x%llx, which nobody has offered\n", (unsigned long long)at);
			return false;
		}
	}
	return true;
}

/* Nothing has come back yet, by the used indices of split rings, which others may be writing. */
static inline bool hostile_idle(struct hostile *h)
{
	for (unsigned i = 0; i < h->nr_queues; i++) {
		uint64_t at = HOSTILE_RINGS * i + 0x5000 + 2;
		uint16_t before;

		memcpy(&before, h->before + at, sizeof(before));
		if (__atomic_load_n((uint16_t *)hostile_at(h, at), __ATOMIC_ACQUIRE) != before)
			return false;
	}
	return true;
}

static inline bool hostile_life(struct hostile *h, unsigned life)
{
	bool packed = hostile_some(h, 2) && h->packs;
	unsigned sizes[HOSTILE_QUEUES];

	hostile_reset(h);
	memset(h->memory->host, 0, HOSTILE_RAM);
	memset(h->before, 0, HOSTILE_RAM);
	memset(h->may, 0, HOSTILE_RAM);
	hostile_negotiate(h, packed);
	for (unsigned i = 0; i < h->nr_queues; i++) {
		sizes[i] = 1U << hostile_some(h, 7);
		hostile_fill(h, i, sizes[i], packed, life);
		hostile_queue(h, i, sizes[i]);
	}
	/* All that is there now is the driver's, and stays; the rest is judged. */
	memcpy(h->before, h->memory->host, HOSTILE_RAM);
	hostile_set(h, VIRTIO_MMIO_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
			VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned i = hostile_some(h, 6); i > 0; i--) {
		hostile_set(h, VIRTIO_MMIO_QUEUE_NOTIFY, hostile_some(h, h->nr_queues + 1));
		hostile_turn(h);
	}
	if (hostile_some(h, 4) == 0)
		usleep(hostile_some(h, 200));
	/*
	 * Other threads and processes serve when the scheduler lets them: where too
	 * few lives were busy, this one waits.
	 */
	bool patient = (h->shared && hostile_some(h, 2)) || h->busy < (life + 3) / 4;
	for (unsigned n = patient ? 150 : 0; n > 0 && hostile_idle(h); n--)
		usleep(1000);
	hostile_reset(h);
	return hostile_judge(h);
}

/*
 * `rounds` lives of one device; in how many of them it wrote where it must not. What bounds the time is unit_bound().
 * In a quarter of them at least it gets to do something.
 */
static inline unsigned virtio_hostile(const struct virtio_type *type, const void *config, unsigned rounds,
	uint64_t seed, void (*request)(struct hostile *h, unsigned queue, uint8_t *bytes, size_t n))
{
	const struct virtio_config transport = { .type = type, .config = config };
	struct hostile *h = calloc(1, sizeof(*h));
	unsigned wrong = 0;
	struct error err;

	assert_non_null(h);
	h->random = seed;
	h->request = request;
	h->before = malloc(HOSTILE_RAM);
	h->may = malloc(HOSTILE_RAM);
	assert_true(h->before && h->may);
	assert_int_equal(vm_init(&h->vm, true, &err), 0);
	h->shared = type->shares_memory;
	if (h->shared) {
		const struct backing_config shared = { .shared = true };
		struct backing backing;

		assert_int_equal(backing_new(&shared, HOSTILE_RAM, &backing, &err), 0);
		h->memory = backing.memory;
	} else {
		assert_int_equal(memory_new(HOSTILE_RAM, &h->memory), 0);
	}
	h->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = HOSTILE_RAM, .memory = h->memory
	};
	assert_int_equal(bus_add(h->vm.bus, &h->ram), 0);
	assert_int_equal(virtio_mmio_type.create(&h->vm, "hostile", &transport, &h->dev, &err), 0);
	h->dev->regions[0]->space = SPACE_MMIO;
	h->dev->regions[0]->base = HOSTILE_BASE;
	assert_int_equal(irq_connect(&h->vm.irqs, h->dev->irqs[0], 5), 0);
	assert_int_equal(vm_add_devices(&h->vm, &h->dev, 1, &err), 0);
	device_power_on(h->dev);
	bus_attach(h->vm.bus, &h->from);
	run_resume(&h->vm.run);
	for (unsigned i = 0; i < HOSTILE_QUEUES; i++) {
		hostile_set(h, VIRTIO_MMIO_QUEUE_SEL, i);
		h->nr_queues += hostile_get(h, VIRTIO_MMIO_QUEUE_NUM_MAX) >= HOSTILE_SIZE;
	}
	assert_true(h->nr_queues > 0);
	hostile_set(h, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	h->packs = hostile_get(h, VIRTIO_MMIO_DEVICE_FEATURES) >> (VIRTIO_F_RING_PACKED - 32) & 1;
	for (unsigned life = 0; life < rounds; life++)
		wrong += !hostile_life(h, life);
	assert_true(h->busy >= rounds / 4);
	bus_detach(&h->from);
	vm_remove_devices(&h->vm);
	bus_remove(h->vm.bus, &h->ram);
	vm_fini(&h->vm);
	memory_put(h->memory);
	free(h->may);
	free(h->before);
	free(h);
	return wrong;
}

#endif
