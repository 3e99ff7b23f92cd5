/* SPDX-License-Identifier: BSD-2-Clause */
/* test_virtio_rng.c - the entropy device: what it gives, how much at a time, and what it does with made-up rings. */
#include "unit.h"

#include <unistd.h>

#include "virtio/rng.h"
#include "virtio_bed.h"
#include "virtio_hostile.h"

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
	struct bed *bed = bed_new(&virtio_rng_type, NULL, 0, features);
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
	struct bed *bed = bed_new(&virtio_rng_type, NULL, 0, 0);
	uint8_t *ram = bed->memory->host;
	struct loop_work work = { .fn = bed_quit, .arg = &bed->vm.loop };
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

	unit_bound(150);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
