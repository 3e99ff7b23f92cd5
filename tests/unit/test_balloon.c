/* SPDX-License-Identifier: BSD-2-Clause */
/* test_balloon.c - the memory balloon behind MMIO registers, with a driver of the test's own; some of them hostile. */
#include "unit.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "arch/place.h"
#include "core/vm.h"
#include "virtio/balloon.h"
#include "virtq_driver.h"

#define MIB        0x100000ULL
#define RAM        (8 * MIB)
#define BASE       0xd0000000ULL
#define RINGS      0x10000ULL
#define BUFFERS    0x80000ULL
#define LENT       (4 * MIB) /* from where the guest lends */
#define PAGE       4096U
#define QUEUES     4
#define SLOTS      16
#define PATIENCE_S 20

struct bed {
	struct vm vm;
	struct memory *memory;
	struct region ram;
	struct virtio_config config;
	struct initiator from;
	struct vdriver d[QUEUES];
};

static uint32_t reg(struct bed *bed, unsigned offset)
{
	uint32_t value = 0;

	assert_int_equal(bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + offset, &value, 4, 1, false), 4);
	return value;
}

static void set(struct bed *bed, unsigned offset, uint32_t value)
{
	assert_int_equal(bus_access(bed->vm.bus, &bed->from, SPACE_MMIO, BASE + offset, &value, 4, 1, true), 4);
}

static uint8_t *at(struct bed *bed, uint64_t gpa)
{
	return (uint8_t *)bed->memory->host + gpa;
}

static void bed_init(struct bed *bed, const struct balloon_config *config, const char *second)
{
	const struct placement table[] = {
		{ .name = "balloon0",
			.type = &virtio_mmio_type,
			.config = &bed->config,
			.at = { MMIO(BASE) },
			.irqs = { IRQ_NONE } },
		{ .name = second,
			.type = &virtio_mmio_type,
			.config = &bed->config,
			.at = { MMIO(BASE + 0x200) },
			.irqs = { IRQ_NONE } },
	};
	struct error err;
	int r;

	memset(bed, 0, sizeof(*bed));
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(memory_new(RAM, &bed->memory), 0);
	bed->ram = (struct region){
		.name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM, .memory = bed->memory
	};
	assert_int_equal(bus_add(bed->vm.bus, &bed->ram), 0);
	bed->vm.ram_size = RAM;
	bed->config = (struct virtio_config){ .type = &virtio_balloon_type, .config = config };
	r = place_devices(&bed->vm, table, second ? 2 : 1, &err);
	if (second) {
		assert_true(r < 0);
		assert_non_null(strstr(err.text, "has it already"));
		/* The first went with the second. */
		assert_null(bed->vm.balloon);
	} else {
		assert_int_equal(r, 0);
	}
	bed->from.name = "test";
	bus_attach(bed->vm.bus, &bed->from);
}

static void bed_fini(struct bed *bed)
{
	struct vm_balloon now;

	bus_detach(&bed->from);
	vm_remove_devices(&bed->vm);
	assert_false(vm_balloon(&bed->vm, NULL, &now));
	bus_remove(bed->vm.bus, &bed->ram);
	vm_fini(&bed->vm);
	assert_int_equal(bed->memory->refs, 1);
	memory_put(bed->memory);
}

/* A driver that takes these features, and brings up `queues` queues. */
static void drive(struct bed *bed, uint64_t features, unsigned queues)
{
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	set(bed, VIRTIO_MMIO_STATUS, status);
	for (unsigned i = 0; i < 2; i++) {
		set(bed, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		set(bed, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		assert_int_equal((uint32_t)(features >> 32 * i) & ~reg(bed, VIRTIO_MMIO_DEVICE_FEATURES), 0);
		set(bed, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
	}
	set(bed, VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	assert_int_equal(reg(bed, VIRTIO_MMIO_STATUS), status);
	for (unsigned i = 0; i < queues; i++) {
		struct virtq_state state = { .size = 0 };

		vdriver_init(&bed->d[i], bed->memory->host, RINGS + i * VDRIVER_RINGS, &state, SLOTS, features);
		set(bed, VIRTIO_MMIO_QUEUE_SEL, i);
		assert_true(reg(bed, VIRTIO_MMIO_QUEUE_NUM_MAX) >= SLOTS);
		set(bed, VIRTIO_MMIO_QUEUE_NUM, SLOTS);
		set(bed, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)state.desc);
		set(bed, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)state.driver);
		set(bed, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)state.device);
		set(bed, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	set(bed, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void offer(struct bed *bed, unsigned queue, const struct vdriver_buf *bufs, unsigned n, unsigned n_out)
{
	assert_true(vdriver_add(&bed->d[queue], bufs, n, n_out, 0, bed));
	set(bed, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static bool comes_back(struct bed *bed, unsigned queue, time_t seconds)
{
	uint32_t len;

	for (time_t end = time(NULL) + seconds + 1; time(NULL) < end; usleep(500))
		if (vdriver_get(&bed->d[queue], &len))
			return len == 0;
	return false;
}

static void exchange(struct bed *bed, unsigned queue, const struct vdriver_buf *bufs, unsigned n, unsigned n_out)
{
	offer(bed, queue, bufs, n, n_out);
	assert_true(comes_back(bed, queue, PATIENCE_S));
}

static uint64_t faults(struct bed *bed)
{
	return __atomic_load_n(&bed->vm.guest_faults, __ATOMIC_RELAXED);
}

static bool resident(struct bed *bed, uint64_t gpa)
{
	unsigned char page;

	assert_int_equal(mincore(at(bed, gpa), PAGE, &page), 0);
	return page & 1;
}

/* What the guest has in the pages that it may lend: its own, told apart. Small pages, so that single ones can go. */
static void fill(struct bed *bed)
{
	(void)madvise(bed->memory->host, RAM, MADV_NOHUGEPAGE);
	for (unsigned i = 0; i < 64; i++)
		memset(at(bed, LENT + i * PAGE), (int)i + 1, PAGE);
}

static bool is_lent(struct bed *bed, unsigned i)
{
	const uint8_t *page = at(bed, LENT + (uint64_t)i * PAGE);
	bool gone = !resident(bed, LENT + (uint64_t)i * PAGE);

	for (unsigned k = 0; k < PAGE; k++)
		assert_int_equal(page[k], gone ? 0 : i + 1);
	return gone;
}

#define VERSION_1 (1ULL << VIRTIO_F_VERSION_1)
#define STATS     (1ULL << VIRTIO_BALLOON_F_STATS_VQ)
#define REPORTS   (1ULL << VIRTIO_BALLOON_F_REPORTING)
#define ON_OOM    (1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM)
#define NUM_PAGES (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, num_pages))
#define ACTUAL    (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, actual))

static void test_lent_pages_go_to_the_host(void **state)
{
	/* In any order, one of them twice, in two pieces. */
	static const uint8_t lent[] = { 9, 8, 7, 40, 41, 42, 43, 20, 63, 0, 20 };
	struct vdriver_buf bufs[] = { { BUFFERS, 4 * 5 }, { BUFFERS + 0x1000, 4 * 6 } };
	struct bed bed;

	bed_init(&bed, NULL, NULL);
	drive(&bed, VERSION_1 | ON_OOM, 2);
	fill(&bed);
	for (unsigned i = 0; i < 11; i++) {
		uint32_t pfn = (uint32_t)(LENT / PAGE + lent[i]);

		memcpy(at(&bed, i < 5 ? BUFFERS + 4 * i : BUFFERS + 0x1000 + 4 * (i - 5)), &pfn, 4);
	}
	exchange(&bed, 0, bufs, 2, 2);
	for (unsigned i = 0; i < 64; i++) {
		bool want = memchr(lent, (int)i, sizeof(lent)) != NULL;

		assert_int_equal(is_lent(&bed, i), want);
	}
	/* Taken back: they are the guest's again, and nothing else changes. */
	exchange(&bed, 1, bufs, 2, 2);
	*at(&bed, LENT) = 1;
	assert_true(resident(&bed, LENT));
	assert_int_equal(faults(&bed), 0);
	bed_fini(&bed);
}

static void test_hostile_numbers(void **state)
{
	static const uint32_t pfns[] = { UINT32_MAX, RAM / PAGE, RAM / PAGE + 1, 0x80000000, BASE / PAGE,
		LENT / PAGE + 3 };
	struct vdriver_buf odd[] = { { BUFFERS, sizeof(pfns) }, { BUFFERS + 0x100, 3 } };
	struct vdriver_buf in = { LENT + 5 * PAGE, PAGE }, large = { 2 * MIB, MIB };
	uint64_t before;
	struct bed bed;

	bed_init(&bed, NULL, NULL);
	drive(&bed, VERSION_1, 2);
	fill(&bed);
	memcpy(at(&bed, BUFFERS), pfns, sizeof(pfns));
	exchange(&bed, 0, odd, 2, 2);
	/* Three runs beyond RAM, one that is no RAM, and an odd length. */
	assert_int_equal(faults(&bed), 5);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(is_lent(&bed, i), i == 3);
	/* For the device to write, where it has nothing to: nothing is lent, nothing written. */
	exchange(&bed, 0, &in, 1, 0);
	assert_false(is_lent(&bed, 5));
	/* More numbers than anybody sends: the first of them count, and it is told. */
	before = faults(&bed);
	for (uint32_t i = 0, pfn; i < MIB / 4; i++) {
		pfn = (uint32_t)(LENT / PAGE) + (i < 4096 ? 10 : 11);
		memcpy(at(&bed, 2 * MIB + 4 * i), &pfn, 4);
	}
	exchange(&bed, 0, &large, 1, 1);
	assert_true(is_lent(&bed, 10));
	assert_false(is_lent(&bed, 11));
	assert_int_equal(faults(&bed), before + 1);
	assert_int_equal(reg(&bed, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	bed_fini(&bed);
}

/* What is free is reported by the last queue of those that there are. */
static void test_reported_pages(void **state)
{
	struct bed bed;

	for (unsigned stats = 0; stats < 2; stats++) {
		/* The second is half a page more at either end. */
		struct vdriver_buf bufs[] = { { LENT + 2 * PAGE, 3 * PAGE },
			{ LENT + 20 * PAGE - 100, 2 * PAGE + 200 } };

		bed_init(&bed, NULL, NULL);
		drive(&bed, VERSION_1 | REPORTS | (stats ? STATS : 0), 3 + stats);
		fill(&bed);
		exchange(&bed, 2 + stats, bufs, 2, 0);
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(is_lent(&bed, i), (i >= 2 && i < 5) || i == 20 || i == 21);
		assert_int_equal(faults(&bed), 0);
		/* To read: nothing is reported by that. */
		exchange(&bed, 2 + stats, &(struct vdriver_buf){ LENT + 30 * PAGE, PAGE }, 1, 1);
		assert_false(is_lent(&bed, 30));
		assert_int_equal(faults(&bed), 1);
		bed_fini(&bed);
	}
}

static void put_figures(struct bed *bed, uint64_t free, struct vdriver_buf *buf)
{
	const struct virtio_balloon_stat stats[] = { { VIRTIO_BALLOON_S_MEMTOT, 7 * MIB },
		{ VIRTIO_BALLOON_S_MEMFREE, free }, { 0x7777, 1 }, { VIRTIO_BALLOON_S_AVAIL, free + MIB } };

	memcpy(at(bed, BUFFERS), stats, sizeof(stats));
	*buf = (struct vdriver_buf){ BUFFERS, sizeof(stats) };
}

static bool told(struct bed *bed, struct vm_balloon *now, uint64_t free)
{
	for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end; usleep(500)) {
		/* Not vm_balloon(), which would ask for more. */
		assert_true(vm_balloon(&bed->vm, NULL, now));
		if (now->told && now->free == free)
			return true;
	}
	return false;
}

static void test_figures(void **state)
{
	struct vm_balloon now;
	struct vdriver_buf buf;
	struct bed bed;

	bed_init(&bed, NULL, NULL);
	drive(&bed, VERSION_1 | STATS, 3);
	assert_true(vm_balloon(&bed.vm, NULL, &now));
	assert_false(now.told);
	bed.vm.clock.now = 5;
	put_figures(&bed, 3 * MIB, &buf);
	offer(&bed, 2, &buf, 1, 1);
	assert_true(told(&bed, &now, 3 * MIB));
	assert_int_equal(now.total, 7 * MIB);
	assert_int_equal(now.available, 4 * MIB);
	assert_int_equal(now.when, 5);
	/* Whoever looks asks for more: the buffer comes back, and again it stays until somebody looks. */
	assert_true(comes_back(&bed, 2, PATIENCE_S));
	put_figures(&bed, 2 * MIB, &buf);
	offer(&bed, 2, &buf, 1, 1);
	assert_true(told(&bed, &now, 2 * MIB));
	assert_true(comes_back(&bed, 2, PATIENCE_S));
	put_figures(&bed, 1 * MIB, &buf);
	offer(&bed, 2, &buf, 1, 1);
	/* Once more perhaps, for the last look of ours. */
	if (comes_back(&bed, 2, 0)) {
		offer(&bed, 2, &buf, 1, 1);
		assert_false(comes_back(&bed, 2, 0));
	}
	/* A second one sends the first home. */
	offer(&bed, 2, &buf, 1, 1);
	assert_true(comes_back(&bed, 2, PATIENCE_S));
	/* A reset with the buffer in hand ends, and the figures with it. */
	set(&bed, VIRTIO_MMIO_STATUS, 0);
	for (time_t end = time(NULL) + PATIENCE_S; reg(&bed, VIRTIO_MMIO_STATUS) && time(NULL) < end;)
		usleep(500);
	assert_int_equal(reg(&bed, VIRTIO_MMIO_STATUS), 0);
	assert_true(vm_balloon(&bed.vm, NULL, &now));
	assert_false(now.told);
	assert_int_equal(faults(&bed), 0);
	bed_fini(&bed);
}

static void test_what_is_wanted(void **state)
{
	const struct balloon_config config = { .want = 2 * MIB };
	uint64_t want = 3 * MIB;
	struct vm_balloon now;
	uint32_t generation;
	struct bed bed;

	bed_init(&bed, &config, NULL);
	assert_int_equal(reg(&bed, NUM_PAGES), 512);
	drive(&bed, VERSION_1, 2);
	generation = reg(&bed, VIRTIO_MMIO_CONFIG_GENERATION);
	assert_true(vm_balloon(&bed.vm, &want, &now));
	assert_int_equal(now.want, want);
	assert_int_equal(reg(&bed, NUM_PAGES), 768);
	assert_int_not_equal(reg(&bed, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(reg(&bed, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG);
	/* What the guest has given is its to say, what is wanted is not. */
	set(&bed, NUM_PAGES, 1);
	set(&bed, ACTUAL, 700);
	assert_int_equal(reg(&bed, NUM_PAGES), 768);
	assert_int_equal(reg(&bed, ACTUAL), 700);
	assert_true(vm_balloon(&bed.vm, NULL, &now));
	assert_int_equal(now.has, 700 * PAGE);
	set(&bed, VIRTIO_MMIO_STATUS, 0);
	for (time_t end = time(NULL) + PATIENCE_S; reg(&bed, VIRTIO_MMIO_STATUS) && time(NULL) < end;)
		usleep(500);
	assert_int_equal(reg(&bed, NUM_PAGES), 768);
	assert_int_equal(reg(&bed, ACTUAL), 0);
	assert_true(vm_balloon(&bed.vm, NULL, &now));
	assert_int_equal(now.has, 0);
	bed_fini(&bed);
}

static void test_one_a_machine(void **state)
{
	struct bed bed;

	bed_init(&bed, NULL, "balloon1");
	bed_fini(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lent_pages_go_to_the_host),
		cmocka_unit_test(test_hostile_numbers),
		cmocka_unit_test(test_reported_pages),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_what_is_wanted),
		cmocka_unit_test(test_one_a_machine),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
