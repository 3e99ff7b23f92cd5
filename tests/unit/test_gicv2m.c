/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_gicv2m.c - a GICv2's frame for messages: what it tells of itself, writes of the
 * guest's, messages of devices and of eventfds.
 */
#include "dev_rig.h"

#include "dev/gicv2m.h"

#define INTID 128
#define LINE  3
#define N     4

enum { TYPER = 0x008, IIDR = 0xfcc };

/* The frame is where the rig puts a device's first region. */
#define SETSPI (RIG_STRIDE + GICV2M_SETSPI)

/* Eventfds that the chip has, by line. */
static int fds[RIG_LINES];

static int fd_add(void *chip, unsigned line, int fd, int resample)
{
	assert_true(line < RIG_LINES && resample == -1);
	fds[line] = fd;
	return 0;
}

static void fd_del(void *chip, unsigned line, int fd)
{
	assert_int_equal(fds[line], fd);
	fds[line] = 0;
}

static unsigned messages;

static void send_msi(void *chip, struct irq_message message)
{
	messages++;
}

static int route_add(void *chip, int fd, struct irq_message message, unsigned *id)
{
	messages++;
	*id = 7;
	return 0;
}

static void route_del(void *chip, int fd, unsigned id)
{
	assert_int_equal(id, 7);
	messages--;
}

static const struct irqchip_ops chip = {
	.set_line = rig_set_line,
	.send_msi = send_msi,
	.fd_add = fd_add,
	.fd_del = fd_del,
	.route_add = route_add,
	.route_del = route_del,
};

static struct rig *frame_rig(void)
{
	static const struct gicv2m_config config = { .intid = INTID, .line = LINE, .n = N };
	struct rig *rig = rig_new(0);

	memset(fds, 0, sizeof(fds));
	messages = 0;
	irq_router_chip(&rig->vm.irqs, &chip, rig);
	rig_add(rig, &gicv2m_type, &config);
	return rig;
}

static void check_rises(struct rig *rig, unsigned line, unsigned want)
{
	assert_int_equal(rig->line[line].rises, want);
	assert_false(rig->line[line].level);
}

static void test_registers(void **state)
{
	struct rig *rig = frame_rig();

	assert_int_equal(rig_read(rig, 0, TYPER, 4), INTID << 16 | N);
	assert_int_equal(rig_read(rig, 0, TYPER + 2, 2), 0);
	assert_int_equal(rig_read(rig, 0, IIDR, 4), 0x43b);
	assert_int_equal(rig_read(rig, 0, GICV2M_SETSPI, 4), 0);
	assert_int_equal(rig_read(rig, 0, 0, 4), 0);
	rig_write(rig, 0, TYPER, 4, 0);
	assert_int_equal(rig_read(rig, 0, TYPER, 4), INTID << 16 | N);
	rig_free(rig);
}

static void test_guest_writes(void **state)
{
	struct rig *rig = frame_rig();

	rig_write(rig, 0, GICV2M_SETSPI, 4, INTID);
	rig_write(rig, 0, GICV2M_SETSPI, 2, INTID + 3);
	rig_write(rig, 0, GICV2M_SETSPI, 4, INTID + 3);
	check_rises(rig, LINE, 1);
	check_rises(rig, LINE + 3, 2);
	assert_int_equal(rig->vm.guest_faults, 0);
	/* Interrupts that are not the frame's, and registers that are none. */
	rig_write(rig, 0, GICV2M_SETSPI, 4, INTID - 1);
	rig_write(rig, 0, GICV2M_SETSPI, 4, INTID + N);
	rig_write(rig, 0, GICV2M_SETSPI, 4, 0);
	rig_write(rig, 0, 0, 4, INTID);
	assert_int_equal(rig->vm.guest_faults, 4);
	for (unsigned line = 0; line < RIG_LINES; line++)
		check_rises(rig, line, line == LINE ? 1 : line == LINE + 3 ? 2 : 0);
	assert_int_equal(messages, 0);
	rig_free(rig);
}

static void test_messages(void **state)
{
	struct rig *rig = frame_rig();

	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = INTID + 1, .sender = 8 });
	check_rises(rig, LINE + 1, 1);
	/* To nobody's interrupt, and to elsewhere: the latter is the chip's affair. */
	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = INTID + N });
	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = INTID - 1 });
	assert_int_equal(messages, 0);
	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI + 4, .data = INTID });
	assert_int_equal(messages, 1);
	check_rises(rig, LINE, 0);
	device_reset(rig->dev);
	rig->dev->type->start(rig->dev);
	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = INTID });
	check_rises(rig, LINE, 1);
	rig_free(rig);
}

/* Bits that are reserved say nothing, whoever sets them; those of the interrupt's number all count. */
static void test_reserved_bits(void **state)
{
	static const uint32_t reserved[] = { 0x400, 0x8000, 0x10000, 0x80000000, 0xfffffc00 };
	struct rig *rig = frame_rig();
	struct irq_route route = { 0 };

	for (unsigned i = 0; i < 5; i++) {
		rig_write(rig, 0, GICV2M_SETSPI, 4, reserved[i] | (INTID + 1));
		irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = reserved[i] | (INTID + 2) });
		irq_route_arm(&rig->vm.irqs, &route, 50,
			(struct irq_message){ .addr = SETSPI, .data = reserved[i] | (INTID + 3) });
		assert_true(route.assigned);
		assert_int_equal(fds[LINE + 3], 50);
		irq_route_disarm(&route);
		check_rises(rig, LINE + 1, i + 1);
		check_rises(rig, LINE + 2, i + 1);
	}
	rig_write(rig, 0, GICV2M_SETSPI, 2, 0xfc00 | (INTID + 1));
	check_rises(rig, LINE + 1, 6);
	assert_int_equal(rig->vm.guest_faults, 0);
	rig_write(rig, 0, GICV2M_SETSPI, 4, 0x200 | INTID);
	irq_msi(&rig->vm.irqs, (struct irq_message){ .addr = SETSPI, .data = 0x200 | INTID });
	assert_int_equal(rig->vm.guest_faults, 1);
	check_rises(rig, LINE, 0);
	assert_int_equal(messages, 0);
	rig_free(rig);
}

/* An eventfd goes to the chip as one of the line, and is no message of the chip's. */
static void test_eventfds(void **state)
{
	struct rig *rig = frame_rig();
	struct irq_route route = { 0 }, stray = { 0 }, other = { 0 };

	irq_route_arm(&rig->vm.irqs, &route, 50, (struct irq_message){ .addr = SETSPI, .data = INTID + 2 });
	assert_true(route.assigned);
	assert_int_equal(fds[LINE + 2], 50);
	assert_int_equal(messages, 0);
	irq_route_arm(&rig->vm.irqs, &stray, 51, (struct irq_message){ .addr = SETSPI, .data = INTID + N });
	assert_false(stray.assigned);
	irq_route_arm(&rig->vm.irqs, &other, 52, (struct irq_message){ .addr = SETSPI + 8, .data = INTID });
	assert_true(other.assigned);
	assert_int_equal(messages, 1);
	/* It changes its message; and without the frame it is one of the chip's. */
	irq_route_arm(&rig->vm.irqs, &route, 50, (struct irq_message){ .addr = SETSPI, .data = INTID });
	assert_int_equal(fds[LINE + 2], 0);
	assert_int_equal(fds[LINE], 50);
	vm_remove_device(rig->dev);
	assert_int_equal(fds[LINE], 0);
	assert_true(route.assigned && stray.assigned);
	assert_int_equal(messages, 3);
	irq_route_disarm(&route);
	irq_route_disarm(&stray);
	irq_route_disarm(&other);
	assert_int_equal(messages, 0);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_guest_writes),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_eventfds),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
