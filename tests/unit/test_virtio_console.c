/* SPDX-License-Identifier: BSD-2-Clause */
/* test_virtio_console.c - the virtio console keeps no loop for itself, and lives through made-up rings. */
#include "unit.h"

#include <unistd.h>

#include "core/chardev.h"
#include "virtio/console.h"
#include "virtio_bed.h"
#include "virtio_hostile.h"

enum { RX0, TX0 };

static const struct vconsole_config config = { .nr_ports = 3 };

/* Behind its ports: a reader who never reads, nobody, and one with input. */
static struct chardev never_reads, has_input;

static int create(struct vm *vm, const char *name, const void *c, struct virtio **out, struct error *err)
{
	static const uint8_t input[CHARDEV_IN_SIZE] = "typed";

	/* Without a loop nothing is written out. */
	assert_int_equal(chardev_init(&never_reads, NULL, -1, STDOUT_FILENO), 0);
	assert_int_equal(chardev_init(&has_input, NULL, -1, -1), 0);
	chardev_keep(&has_input);
	assert_int_equal(chardev_feed(&has_input, input, sizeof(input)), sizeof(input));
	vm->ports[VM_SERIALS] = &never_reads;
	vm->ports[VM_SERIALS + 2] = &has_input;
	return vconsole_type.create(vm, name, c, out, err);
}

static const struct virtio_type console = { .name = "console", .create = create };

static void gone(void)
{
	chardev_fini(&never_reads);
	chardev_fini(&has_input);
}

static unsigned given_back(struct bed *bed)
{
	unsigned n = 0;
	uint32_t len;

	while (vdriver_get(&bed->d, &len))
		n++;
	return n;
}

static void a_turn_is_bounded(void **state)
{
	struct bed *bed = bed_new(&console, &config, TX0, 0);
	const struct vdriver_buf byte = { BUFFERS, 1 };

	settle(bed);
	for (unsigned i = 0; i < bed->v->queues[TX0]->q.max; i++)
		assert_true(vdriver_add(&bed->d, &byte, 1, 1, 0, bed));
	vconsole_type.serve(bed->v, TX0);
	assert_int_equal(given_back(bed), VIRTIO_TURN);
	/* The rest comes by itself. */
	settle(bed);
	assert_int_equal(given_back(bed), bed->v->queues[TX0]->q.max - VIRTIO_TURN);
	bed_free(bed);
	gone();
}

static void no_room_keeps_the_chain(void **state)
{
	struct bed *bed = bed_new(&console, &config, TX0, 0);
	const struct vdriver_buf much = { BUFFERS, CHARDEV_OUT_SIZE - 1000 };

	settle(bed);
	for (unsigned i = 0; i < 3; i++)
		assert_true(vdriver_add(&bed->d, &much, 1, 1, 0, bed));
	virtio_kick(bed->v, TX0);
	settle(bed);
	assert_int_equal(given_back(bed), 1);
	assert_int_equal(bed->v->queues[TX0]->q.in_flight, 1);
	assert_int_equal(never_reads.dropped, 0);
	bed_free(bed);
	gone();
}

/* Buffers that hold nothing take no input, and are given back by turns too. */
static void empty_receive_buffers(void **state)
{
	struct bed *bed = bed_new(&console, &config, 6, 0); /* the third port's */
	const struct vdriver_buf wrong = { BUFFERS, 16 };
	unsigned all = bed->v->queues[6]->q.max;

	settle(bed);
	for (unsigned i = 0; i < all; i++)
		assert_true(vdriver_add(&bed->d, &wrong, 1, 1, 0, bed));
	vconsole_type.serve(bed->v, 6);
	assert_int_equal(given_back(bed), VIRTIO_TURN);
	settle(bed);
	assert_int_equal(given_back(bed), all - VIRTIO_TURN);
	assert_int_equal(has_input.in_len, CHARDEV_IN_SIZE);
	bed_free(bed);
	gone();
}

static void hostile(void **state)
{
	assert_int_equal(virtio_hostile(&console, &config, 2000, 1, NULL), 0);
	gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_turn_is_bounded),
		cmocka_unit_test(no_room_keeps_the_chain), cmocka_unit_test(empty_receive_buffers),
		cmocka_unit_test(hostile) };

	unit_bound(150);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
