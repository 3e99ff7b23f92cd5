/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_irq.c - lines shared and not, edges, messages. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/irq.h"

struct chip {
	char log[128]; /* "4+ 4- " */
	unsigned changes, sum;
	uint64_t addr;
	uint32_t data;
	bool level[IRQ_LINES];
	int refuse; /* what fd_add answers */
};

static void chip_set_line(void *arg, unsigned line, bool level)
{
	struct chip *chip = arg;
	size_t n = strlen(chip->log);

	chip->changes++;
	chip->level[line] = level;
	if (n + 8 < sizeof(chip->log))
		snprintf(chip->log + n, sizeof(chip->log) - n, "%u%c ", line, level ? '+' : '-');
}

static void chip_send_msi(void *arg, struct irq_message message)
{
	struct chip *chip = arg;

	chip->addr = message.addr;
	chip->data = message.data;
}

static int chip_fd_add(void *arg, unsigned line, int fd, int resample)
{
	struct chip *chip = arg;
	size_t n = strlen(chip->log);

	snprintf(chip->log + n, sizeof(chip->log) - n, "%u:%d/%d ", line, fd, resample);
	return chip->refuse;
}

static void chip_fd_del(void *arg, unsigned line, int fd)
{
	struct chip *chip = arg;
	size_t n = strlen(chip->log);

	snprintf(chip->log + n, sizeof(chip->log) - n, "%u!%d ", line, fd);
}

static int chip_route_add(void *arg, int fd, struct irq_message message, unsigned *id)
{
	struct chip *chip = arg;
	size_t n = strlen(chip->log);

	*id = (unsigned)fd * 10;
	snprintf(chip->log + n, sizeof(chip->log) - n, "%d=%x/%x ", fd, (unsigned)message.addr, message.data);
	return chip->refuse;
}

static void chip_route_del(void *arg, int fd, unsigned id)
{
	struct chip *chip = arg;
	size_t n = strlen(chip->log);

	snprintf(chip->log + n, sizeof(chip->log) - n, "%d!%u ", fd, id);
}

static const struct irqchip_ops chip_ops = {
	.set_line = chip_set_line,
	.send_msi = chip_send_msi,
	.fd_add = chip_fd_add,
	.fd_del = chip_fd_del,
	.route_add = chip_route_add,
	.route_del = chip_route_del,
};

static void check_log(struct chip *chip, const char *want)
{
	assert_string_equal(chip->log, want);
	chip->log[0] = '\0';
}

static void test_line(void **state)
{
	struct irq irq = { .name = "a", .trigger = IRQ_LEVEL };
	struct irq_router router;
	struct chip chip = { 0 };

	irq_router_init(&router, &chip_ops, &chip);
	assert_int_equal(irq_connect(&router, &irq, IRQ_LINES), -EINVAL);
	assert_int_equal(irq_connect(&router, &irq, IRQ_NONE), -EINVAL);
	assert_int_equal(irq_connect(&router, &irq, 7), 0);
	assert_int_equal(irq_connect(&router, &irq, 8), -EBUSY);
	irq_set(&irq, false);
	check_log(&chip, "");
	irq_set(&irq, true);
	irq_set(&irq, true);
	check_log(&chip, "7+ ");
	assert_int_equal(irq.raised, 1);
	irq_set(&irq, false);
	check_log(&chip, "7- ");
	irq_set(&irq, true);
	irq_disconnect(&irq);
	check_log(&chip, "7+ 7- ");
	irq_disconnect(&irq);
	irq_set(&irq, false);
	irq_set(&irq, true); /* unconnected: noted, unheard */
	check_log(&chip, "");
	assert_int_equal(irq.raised, 3);
	/* A wire that is up when it is soldered brings the line up. */
	assert_int_equal(irq_connect(&router, &irq, 9), 0);
	check_log(&chip, "9+ ");
	irq_disconnect(&irq);
	irq_router_fini(&router);
}

static void test_shared_is_or(void **state)
{
	struct irq a = { .trigger = IRQ_LEVEL }, b = { .trigger = IRQ_LEVEL }, e = { .trigger = IRQ_EDGE };
	struct irq_router router;
	struct chip chip = { 0 };

	irq_router_init(&router, &chip_ops, &chip);
	assert_int_equal(irq_connect(&router, &a, 9), 0);
	assert_int_equal(irq_connect(&router, &b, 9), 0);
	assert_int_equal(irq_connect(&router, &e, 9), -EBUSY);
	assert_null(e.router);
	irq_set(&a, true);
	irq_set(&b, true);
	irq_set(&a, false);
	check_log(&chip, "9+ ");
	irq_set(&b, false);
	check_log(&chip, "9- ");
	irq_set(&a, true);
	irq_set(&b, true);
	irq_disconnect(&a);
	check_log(&chip, "9+ ");
	irq_disconnect(&b);
	check_log(&chip, "9- ");
	/* All gone: the line may be of the other kind now. */
	assert_int_equal(irq_connect(&router, &e, 9), 0);
	irq_disconnect(&e);
	irq_router_fini(&router);
}

static void test_pulse(void **state)
{
	struct irq a = { .trigger = IRQ_EDGE }, b = { .trigger = IRQ_EDGE };
	struct irq c = { .trigger = IRQ_LEVEL }, d = { .trigger = IRQ_LEVEL };
	struct irq_router router;
	struct chip chip = { 0 };

	irq_router_init(&router, &chip_ops, &chip);
	assert_int_equal(irq_connect(&router, &a, 4), 0);
	assert_int_equal(irq_connect(&router, &b, 4), 0); /* a PC's UARTs share their lines */
	irq_pulse(&a);
	check_log(&chip, "4+ 4- ");
	assert_int_equal(a.raised, 1);
	irq_set(&b, true);
	irq_pulse(&a); /* held up by b: still an edge, and b's level stands */
	check_log(&chip, "4+ 4- 4+ ");
	irq_set(&b, false);
	check_log(&chip, "4- ");
	irq_set(&a, true);
	irq_pulse(&a); /* its own level ends */
	check_log(&chip, "4+ 4- 4+ 4- ");
	assert_false(a.level);

	assert_int_equal(irq_connect(&router, &c, 5), 0);
	assert_int_equal(irq_connect(&router, &d, 5), 0);
	irq_set(&c, true);
	irq_pulse(&d);
	check_log(&chip, "5+ ");
	irq_router_fini(&router);
}

static void test_chip_comes_late(void **state)
{
	struct irq a = { .trigger = IRQ_LEVEL };
	struct irq_router router;
	struct chip chip = { 0 };

	irq_router_init(&router, NULL, NULL);
	irq_msi(&router, (struct irq_message){ 1, 2 });
	assert_int_equal(irq_connect(&router, &a, 1023), 0);
	irq_set(&a, true);
	irq_pulse(&a);
	irq_set(&a, true);
	irq_router_chip(&router, &chip_ops, &chip);
	check_log(&chip, "1023+ ");
	irq_msi(&router, (struct irq_message){ 0xfee00000, 0x4021 });
	assert_true(chip.addr == 0xfee00000);
	assert_int_equal(chip.data, 0x4021);
	irq_router_chip(&router, NULL, NULL);
	irq_set(&a, false);
	check_log(&chip, "");
	irq_router_fini(&router);
}

/* Descriptors need not be open: only the chip looks at them. */
static void test_eventfd(void **state)
{
	struct irq edge = { .trigger = IRQ_EDGE }, level = { .trigger = IRQ_LEVEL };
	struct irq_router router;
	struct chip chip = { 0 };

	irq_router_init(&router, &chip_ops, &chip);
	assert_int_equal(irq_arm(&edge, -1, -1), -EINVAL);
	assert_int_equal(irq_arm(&edge, 10, 11), -EINVAL);
	assert_int_equal(irq_arm(&level, 10, -1), -EINVAL);
	/* Before it is connected, and after. */
	assert_int_equal(irq_arm(&edge, 10, -1), 0);
	assert_int_equal(irq_arm(&edge, 12, -1), -EEXIST);
	check_log(&chip, "");
	assert_int_equal(irq_connect(&router, &edge, 3), 0);
	check_log(&chip, "3:10/-1 ");
	assert_int_equal(irq_connect(&router, &level, 5), 0);
	assert_int_equal(irq_arm(&level, 20, 21), 0);
	check_log(&chip, "5:20/21 ");
	assert_true(edge.assigned && level.assigned);
	/* The wire itself goes on as ever. */
	irq_set(&level, true);
	irq_set(&level, false);
	check_log(&chip, "5+ 5- ");
	irq_disconnect(&edge);
	check_log(&chip, "3!10 ");
	irq_disarm(&edge);
	irq_disarm(&edge);
	irq_disarm(&level);
	check_log(&chip, "5!20 ");
	irq_disconnect(&level);
	irq_router_fini(&router);
}

static void test_eventfd_follows_the_chip(void **state)
{
	const struct irqchip_ops cannot = { .set_line = chip_set_line };
	struct irq a = { .trigger = IRQ_EDGE }, b = { .trigger = IRQ_EDGE };
	struct irq_router router;
	struct chip chip = { 0 }, other = { 0 };

	irq_router_init(&router, NULL, NULL);
	assert_int_equal(irq_arm(&a, 10, -1), 0);
	assert_int_equal(irq_connect(&router, &a, 3), 0);
	assert_int_equal(irq_connect(&router, &b, 4), 0);
	assert_false(a.assigned);
	irq_router_chip(&router, &chip_ops, &chip);
	check_log(&chip, "3:10/-1 ");
	assert_true(a.assigned);
	irq_router_chip(&router, &chip_ops, &other);
	check_log(&chip, "3!10 ");
	check_log(&other, "3:10/-1 ");
	/* What the chip refuses is armed all the same, and its owner is told; it is not taken back from the chip. */
	other.refuse = -ENOSPC;
	assert_int_equal(irq_arm(&b, 20, -1), 0);
	assert_true(b.armed && !b.assigned);
	check_log(&other, "4:20/-1 ");
	irq_router_chip(&router, &cannot, &other);
	check_log(&other, "3!10 ");
	assert_false(a.assigned || b.assigned);
	irq_disconnect(&a);
	assert_int_equal(irq_connect(&router, &a, 3), 0);
	irq_disconnect(&a);
	check_log(&other, "");
	irq_disarm(&b);
	irq_disconnect(&b);
	irq_disarm(&a);
	irq_router_fini(&router);
}

static void test_message_by_eventfd(void **state)
{
	const struct irqchip_ops cannot = { .set_line = chip_set_line };
	struct irq_route a = { 0 }, b = { 0 };
	struct irq_router router;
	struct chip chip = { 0 }, other = { 0 };

	irq_router_init(&router, &chip_ops, &chip);
	irq_route_disarm(&a);
	irq_route_arm(&router, &a, 10, (struct irq_message){ 0xfee00000, 0x21 });
	check_log(&chip, "10=fee00000/21 ");
	assert_true(a.assigned);
	irq_route_arm(&router, &b, 11, (struct irq_message){ 0xfee00000, 0x22 });
	check_log(&chip, "11=fee00000/22 ");
	/* Another message for the same eventfd, and another eventfd. */
	irq_route_arm(&router, &a, 10, (struct irq_message){ 0xfee01000, 0x31 });
	check_log(&chip, "10!100 10=fee01000/31 ");
	irq_route_disarm(&b);
	irq_route_disarm(&b);
	check_log(&chip, "11!110 ");
	/* They follow the chip, and tell who must serve them where it cannot, or will not. */
	irq_router_chip(&router, &cannot, &other);
	check_log(&chip, "10!100 ");
	assert_false(a.assigned);
	other.refuse = -ENOSPC;
	irq_router_chip(&router, &chip_ops, &other);
	check_log(&other, "10=fee01000/31 ");
	assert_false(a.assigned);
	irq_route_arm(&router, &b, 11, (struct irq_message){ 0xfee00000, 0x22 });
	assert_false(b.assigned);
	irq_route_disarm(&b);
	check_log(&other, "11=fee00000/22 ");
	irq_router_chip(&router, &chip_ops, &chip);
	check_log(&other, "");
	assert_true(a.assigned);
	check_log(&chip, "10=fee01000/31 ");
	irq_route_disarm(&a);
	check_log(&chip, "10!100 ");
	assert_null(router.routes);
	irq_router_fini(&router);
}

/*
 * Sources in many threads on one line: at the end its level is that of the last word, and the chip heard only changes.
 */
struct player {
	struct irq irq;
	pthread_t thread;
};

static void *player_thread(void *arg)
{
	struct player *player = arg;

	for (unsigned i = 0; i < 20000; i++)
		irq_set(&player->irq, i % 2 == 0);
	return NULL;
}

static unsigned strict_level;

static void strict_set_line(void *arg, unsigned line, bool level)
{
	unsigned *bad = arg;

	/* Under the router's lock, so no atomics; ThreadSanitizer watches. */
	*bad += strict_level == level;
	strict_level = level;
}

static const struct irqchip_ops strict_ops = { .set_line = strict_set_line };

static void test_threads(void **state)
{
	struct player players[4] = { 0 };
	struct irq_router router;
	unsigned bad = 0;

	strict_level = 0;
	irq_router_init(&router, &strict_ops, &bad);
	for (unsigned i = 0; i < 4; i++) {
		players[i].irq.trigger = IRQ_LEVEL;
		assert_int_equal(irq_connect(&router, &players[i].irq, 9), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&players[i].thread, NULL, player_thread, &players[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(players[i].thread, NULL);
	assert_int_equal(bad, 0);
	assert_int_equal(strict_level, 0);
	assert_int_equal(router.lines[9].asserted, 0);
	assert_int_equal(router.lines[9].sources, 4);
	irq_router_fini(&router);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_shared_is_or),
		cmocka_unit_test(test_pulse),
		cmocka_unit_test(test_chip_comes_late),
		cmocka_unit_test(test_eventfd),
		cmocka_unit_test(test_eventfd_follows_the_chip),
		cmocka_unit_test(test_message_by_eventfd),
		cmocka_unit_test(test_threads),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
