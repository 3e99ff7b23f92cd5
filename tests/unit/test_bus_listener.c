/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bus_listener.c - the contract of the bus, as the hypervisor's side sees it: slots, doorbells, coalescing.
 *
 * The listener records each call, and with it whether the region answered at its place at that moment: on the
 * way out before the map changes, on the way in after it.
 */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"
#include "bus_chip.h"

static struct bus *bus;
static struct initiator cpu;

struct recorder {
	struct bus_listener listener;
	char log[1024]; /* "bell+a@1000 " and so on; "!" behind it: nobody answered there */
	int fail_memory, fail_doorbell, fail_coalesce;
};

static struct recorder recorder;

static void record_at(const char *what, const struct region *region, enum space space, uint64_t addr)
{
	size_t n = strlen(recorder.log);
	uint8_t data = 0;
	bool answers = bus_access(bus, &cpu, space, addr, &data, 1, 1, false);

	snprintf(recorder.log + n, sizeof(recorder.log) - n, "%s%s@%s%x%s ", what, region->name,
		space == SPACE_PIO ? "port " : "", (unsigned)addr, answers ? "" : "!");
}

static void record(const char *what, const struct region *region)
{
	record_at(what, region, region->space, region->base);
}

static int memory_add(struct bus_listener *listener, struct region *region)
{
	if (recorder.fail_memory)
		return recorder.fail_memory;
	record("slot+", region);
	return 0;
}

static void memory_del(struct bus_listener *listener, struct region *region)
{
	record("slot-", region);
}

static int doorbell_add(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	assert_ptr_equal(bell->region, region);
	if (recorder.fail_doorbell)
		return recorder.fail_doorbell;
	record_at("bell+", region, bell->space, bell->addr);
	return 0;
}

static void doorbell_del(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	record_at("bell-", region, bell->space, bell->addr);
}

static int coalesce_add(struct bus_listener *listener, struct region *region)
{
	if (recorder.fail_coalesce)
		return recorder.fail_coalesce;
	record("post+", region);
	return 0;
}

static void coalesce_del(struct bus_listener *listener, struct region *region)
{
	record("post-", region);
}

static int setup(void **state)
{
	bus = bus_new();
	memset(&cpu, 0, sizeof(cpu));
	bus_attach(bus, &cpu);
	recorder = (struct recorder){ .listener = { memory_add, memory_del, doorbell_add, doorbell_del, coalesce_add,
					      coalesce_del } };
	return bus_listen(bus, &recorder.listener);
}

static int teardown(void **state)
{
	bus_listen(bus, NULL);
	bus_detach(&cpu);
	bus_free(bus);
	return 0;
}

static void check_log(const char *want)
{
	assert_string_equal(recorder.log, want);
	recorder.log[0] = '\0';
}

static struct edit move_to(struct region *region, uint64_t base)
{
	return (struct edit){ .op = EDIT_MOVE, .region = region, .space = SPACE_MMIO, .base = base };
}

static void move(struct region *region, uint64_t base)
{
	assert_int_equal(bus_edit(bus, (struct edit[]){ move_to(region, base) }, 1, NULL, NULL), 0);
}

static void keep(struct memory *mem)
{
}

static uint8_t host[0x2000];
static struct memory mem = { .host = host, .size = sizeof(host), .refs = 1, .release = keep };

static struct region ram_at(const char *name, uint64_t base)
{
	return (struct region){
		.name = name, .kind = REGION_RAM, .space = SPACE_MMIO, .base = base, .size = 0x1000, .memory = &mem
	};
}

/* ---- doorbells ---- */

static void doorbell_follows_adds_moves_and_removals(void **state)
{
	struct doorbell bell = { .offset = 0x10, .len = 2, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0); /* armed before it is live */
	check_log("");
	assert_int_equal(bus_add(bus, &a.region), 0);
	check_log("bell+a@1010 ");
	assert_true(bell.assigned);
	move(&a.region, 0x5000); /* deassigned from where it still answers, assigned where it already does */
	check_log("bell-a@1010 bell+a@5010 ");
	move(&a.region, 0x5000); /* to where it is: nothing to do, and doorbells are dear */
	check_log("");
	bus_remove(bus, &a.region);
	check_log("bell-a@5010 ");
	assert_false(bell.assigned);
	bus_drain(bus);
	assert_int_equal(bus_add(bus, &a.region), 0);
	check_log("bell+a@5010 ");
	bus_disarm(bus, &bell);
	check_log("bell-a@5010 ");
	bus_disarm(bus, &bell);
	bus_remove(bus, &a.region);
	check_log("");
}

static void no_address_changes_hands_before_its_deassign(void **state)
{
	struct doorbell bells[2] = { { .len = 4, .fd = 1 }, { .len = 4, .fd = 2 } };
	static struct chip a, b, c;
	struct edit swap[2];

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	chip_init(&b, "b", SPACE_MMIO, 0x2000, 0x1000, WIDTH_ANY);
	chip_init(&c, "c", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_int_equal(bus_add(bus, &b.region), 0);
	assert_int_equal(bus_arm(bus, &a.region, &bells[0]), 0);
	assert_int_equal(bus_arm(bus, &b.region, &bells[1]), 0);
	check_log("bell+a@1000 bell+b@2000 ");
	swap[0] = move_to(&a.region, 0x2000);
	swap[1] = move_to(&b.region, 0x1000);
	assert_int_equal(bus_edit(bus, swap, 2, NULL, NULL), 0);
	assert_non_null(strstr(recorder.log, "bell-a@1000"));
	assert_true(strstr(recorder.log, "bell-") < strstr(recorder.log, "bell+"));
	assert_true(strrchr(recorder.log, '-') < strchr(recorder.log, '+'));
	recorder.log[0] = '\0';
	/* One takes the place of another in a single batch. */
	swap[0] = (struct edit){ .op = EDIT_ADD, .region = &c.region };
	swap[1] = (struct edit){ .op = EDIT_REMOVE, .region = &b.region };
	assert_int_equal(bus_edit(bus, swap, 2, NULL, NULL), 0);
	check_log("bell-b@1000 ");
	bus_disarm(bus, &bells[0]);
}

static void failed_assign_leaves_the_handler_serving(void **state)
{
	struct doorbell bell = { .offset = 0, .len = 4, .fd = 1 };
	static struct chip a;

	recorder.fail_doorbell = -ENOSPC;
	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_false(bell.assigned);
	bus_access(bus, &cpu, SPACE_MMIO, 0x1000, &(uint32_t){ 1 }, 4, 1, true);
	assert_int_equal(a.traps, 1);
	move(&a.region, 0x2000); /* never deassigned, since never assigned; tried again at the new place */
	check_log("");
	recorder.fail_doorbell = 0;
	move(&a.region, 0x3000);
	check_log("bell+a@3000 ");
	bus_remove(bus, &a.region);
	check_log("bell-a@3000 ");
}

static void malformed_doorbells_are_refused(void **state)
{
	static const struct doorbell bad[] = {
		{ .len = 3, .fd = 1 },
		{ .len = 16, .fd = 1 },
		{ .len = 4, .offset = 2, .fd = 1 },
		{ .len = 4, .offset = 0x1000, .fd = 1 },
		{ .len = 8, .offset = UINT64_MAX - 7, .fd = 1 },
		{ .len = 0, .offset = 0x1000, .fd = 1 },
		{ .len = 0, .match = true, .fd = 1 },
		{ .len = 4, .fd = -1 },
	};
	struct doorbell bell = { .len = 0, .offset = 0xfff, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	assert_int_equal(bus_add(bus, &a.region), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct doorbell copy = bad[i];

		assert_int_equal(bus_arm(bus, &a.region, &copy), -EINVAL);
	}
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_arm(bus, &a.region, &bell), -EEXIST);
	bus_disarm(bus, &bell);
	assert_null(a.region.doorbells);
}

static void arm_in_handler(struct chip *chip, struct trap *trap)
{
	if (trap->write)
		assert_int_equal(bus_arm(bus, &chip->region, chip->arg), 0);
}

static void doorbells_are_armed_in_handlers(void **state)
{
	struct doorbell bell = { .offset = 4, .len = 4, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	a.hook = arm_in_handler;
	a.arg = &bell;
	assert_int_equal(bus_add(bus, &a.region), 0);
	bus_access(bus, &cpu, SPACE_MMIO, 0x1000, &(uint32_t){ 1 }, 4, 1, true);
	assert_true(bell.assigned);
	bus_disarm(bus, &bell);
	check_log("bell+a@1004 bell-a@1004 ");
}

/* ---- doorbells behind aliases ---- */

/* Nothing of the guest's begins in ports. */
static int setup_hidden(void **state)
{
	int r = setup(state);

	if (r == 0)
		r = bus_listen(bus, NULL);
	recorder.listener.hidden = 1U << SPACE_PIO;
	return r ? r : bus_listen(bus, &recorder.listener);
}

static struct region alias_at(const char *name, enum space space, uint64_t base, uint64_t target)
{
	return (struct region){ .name = name,
		.kind = REGION_ALIAS,
		.space = space,
		.base = base,
		.size = 0x1000,
		.target_space = SPACE_PIO,
		.target_base = target };
}

static void doorbell_is_where_an_alias_shows_it(void **state)
{
	struct region window = alias_at("window", SPACE_MMIO, 0x100000, 0x6000);
	struct doorbell bell = { .offset = 0x10, .len = 2, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_PIO, 0x6200, 0x20, WIDTH_ANY);
	a.region.coalesce = 1;
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_add(bus, &a.region), 0);
	/* There is no way to it, nor one for posted writes. */
	check_log("");
	assert_int_equal(bus_add(bus, &window), 0);
	check_log("bell+a@100210 ");
	assert_true(bell.assigned && !a.region.coalesced);
	/* Its region moves, within what the window shows and out of it. */
	assert_int_equal(bus_edit(bus, &(struct edit){ EDIT_MOVE, &a.region, SPACE_PIO, 0x6800, 0 }, 1, NULL, NULL), 0);
	check_log("bell-a@100210 bell+a@100810 ");
	assert_int_equal(bus_edit(bus, &(struct edit){ EDIT_MOVE, &a.region, SPACE_PIO, 0x7000, 0 }, 1, NULL, NULL), 0);
	check_log("bell-a@100810 ");
	assert_false(bell.assigned);
	assert_int_equal(bus_edit(bus, &(struct edit){ EDIT_MOVE, &a.region, SPACE_PIO, 0x6ff0, 0 }, 1, NULL, NULL), 0);
	check_log(""); /* as a whole it is shown, or not at all */
	assert_int_equal(
		bus_edit(bus, &(struct edit){ EDIT_MOVE, &a.region, SPACE_MMIO, 0x5000, 0 }, 1, NULL, NULL), 0);
	check_log("post+a@5000 bell+a@5010 ");
	assert_int_equal(bus_edit(bus, &(struct edit){ EDIT_MOVE, &a.region, SPACE_PIO, 0x6200, 0 }, 1, NULL, NULL), 0);
	check_log("bell-a@5010 post-a@5000 bell+a@100210 ");
	bus_remove(bus, &a.region);
	check_log("bell-a@100210 ");
	bus_disarm(bus, &bell);
	bus_remove(bus, &window);
	check_log("");
}

static void doorbell_follows_its_alias(void **state)
{
	struct region window = alias_at("window", SPACE_MMIO, 0x100000, 0x6000),
		      second = alias_at("second", SPACE_MMIO, 0x200000, 0x6100);
	struct doorbell bells[2] = { { .offset = 0x10, .len = 2, .fd = 1 }, { .offset = 0x10, .fd = 2 } };
	static struct chip a, b;

	chip_init(&a, "a", SPACE_PIO, 0x6200, 0x20, WIDTH_ANY);
	chip_init(&b, "b", SPACE_MMIO, 0x6200, 0x20, WIDTH_ANY);
	assert_int_equal(bus_add(bus, &window), 0);
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_int_equal(bus_add(bus, &b.region), 0);
	assert_int_equal(bus_arm(bus, &a.region, &bells[0]), 0);
	assert_int_equal(bus_arm(bus, &b.region, &bells[1]), 0);
	check_log("bell+a@100210 bell+b@6210 ");
	/* A second window changes nothing while there is the first; what is in another space stays anyway. */
	assert_int_equal(bus_add(bus, &second), 0);
	check_log("");
	move(&window, 0x180000);
	check_log("bell-a@100210 bell+a@180210 ");
	bus_remove(bus, &window);
	check_log("bell-a@180210 bell+a@200110 ");
	bus_remove(bus, &second);
	check_log("bell-a@200110 ");
	assert_false(bells[0].assigned);
	assert_true(bells[1].assigned);
	/* Both sides at once, and a window that comes as the other goes. */
	assert_int_equal(bus_edit(bus,
				 (struct edit[]){ { .op = EDIT_ADD, .region = &second },
					 { EDIT_MOVE, &a.region, SPACE_PIO, 0x6300, 0 } },
				 2, NULL, NULL),
		0);
	check_log("bell+a@200210 ");
	bus_drain(bus);
	assert_int_equal(bus_edit(bus,
				 (struct edit[]){ { EDIT_MOVE, &window, SPACE_MMIO, 0x200000, 0 },
					 { .op = EDIT_REMOVE, .region = &second } },
				 2, NULL, NULL),
		0);
	check_log("bell-a@200210 bell+a@200310 ");
	bus_disarm(bus, &bells[0]);
	check_log("bell-a@200310 ");
	bus_disarm(bus, &bells[1]);
	bus_remove(bus, &window);
	check_log("bell-b@6210 ");
}

/* As far as an access finds its way, and no further. */
static void doorbell_behind_aliases_of_aliases(void **state)
{
	struct region ways[] = { alias_at("window", SPACE_MMIO, 0x100000, 0x1000),
		alias_at("1", SPACE_PIO, 0x1000, 0x2000), alias_at("2", SPACE_PIO, 0x2000, 0x6000),
		alias_at("3", SPACE_PIO, 0x3000, 0x6000) };
	struct doorbell bell = { .offset = 0x10, .len = 2, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_PIO, 0x6200, 0x20, WIDTH_ANY);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_add(bus, &a.region), 0);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(bus_add(bus, &ways[i]), 0);
	check_log("");
	assert_int_equal(bus_add(bus, &ways[0]), 0);
	check_log("bell+a@100210 ");
	bus_remove(bus, &ways[2]);
	check_log("bell-a@100210 ");
	/* One more between the two. */
	bus_drain(bus);
	ways[2].target_base = 0x3000;
	assert_int_equal(bus_edit(bus, (struct edit[]){ { .op = EDIT_ADD, .region = &ways[2] } }, 1, NULL, NULL), 0);
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x100210, &(uint16_t){ 0 }, 2, 1, true), 0);
	check_log("");
	bus_disarm(bus, &bell);
	bus_remove(bus, &a.region);
	for (unsigned i = 0; i < 4; i++)
		bus_remove(bus, &ways[i]);
}

static void listener_without_hidden_spaces_ignores_aliases(void **state)
{
	struct region window = alias_at("window", SPACE_MMIO, 0x100000, 0x6000);
	struct doorbell bell = { .offset = 0x10, .len = 2, .fd = 1 };
	static struct chip a;

	chip_init(&a, "a", SPACE_PIO, 0x6200, 0x20, WIDTH_ANY);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_add(bus, &a.region), 0);
	check_log("bell+a@port 6210 ");
	assert_int_equal(bus_add(bus, &window), 0);
	bus_remove(bus, &window);
	check_log("");
	/* One for which they are hidden takes its place. */
	bus_drain(bus);
	assert_int_equal(bus_add(bus, &window), 0);
	assert_int_equal(bus_listen(bus, NULL), 0);
	recorder.listener.hidden = 1U << SPACE_PIO;
	assert_int_equal(bus_listen(bus, &recorder.listener), 0);
	check_log("bell-a@port 6210 bell+a@100210 ");
	bus_disarm(bus, &bell);
	bus_remove(bus, &a.region);
	bus_remove(bus, &window);
	recorder.log[0] = '\0';
}

/* ---- coalescing and memory ---- */

static void coalescing_follows_and_may_fail(void **state)
{
	static struct chip a;

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	a.region.coalesce = 1;
	assert_int_equal(bus_add(bus, &a.region), 0);
	move(&a.region, 0x2000);
	bus_remove(bus, &a.region);
	check_log("post+a@1000 post-a@1000 post+a@2000 post-a@2000 ");
	recorder.fail_coalesce = -ENOTSUP;
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_false(a.region.coalesced);
	bus_remove(bus, &a.region);
	check_log("");
}

static void memory_is_copied_whenever_no_slot_backs_it(void **state)
{
	struct region ram = ram_at("ram", 0x10000);
	uint32_t data = 0x12345678;

	assert_int_equal(bus_add(bus, &ram), 0);
	assert_true(ram.slotted);
	move(&ram, 0x20000);
	check_log("slot+ram@10000 slot-ram@10000 slot+ram@20000 ");
	recorder.fail_memory = -ENOSPC;
	move(&ram, 0x30000);
	check_log("slot-ram@20000 ");
	assert_false(ram.slotted);
	assert_int_equal(bus_access(bus, &cpu, SPACE_MMIO, 0x30010, &data, 4, 1, true), 4);
	assert_memory_equal(host + 0x10, "\x78\x56\x34\x12", 4);
	bus_remove(bus, &ram);
	check_log("");
}

static void rom_leaves_its_slot_to_be_trapped(void **state)
{
	static struct chip flash;
	struct edit edit = { .op = EDIT_KIND, .region = &flash.region, .kind = REGION_TRAP };

	chip_init(&flash, "flash", SPACE_MMIO, 0x1000, 0x1000, WIDTH_1);
	flash.region.kind = REGION_ROM;
	flash.region.memory = &mem;
	assert_int_equal(bus_add(bus, &flash.region), 0);
	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
	check_log("slot+flash@1000 slot-flash@1000 ");
	edit.kind = REGION_ROM;
	assert_int_equal(bus_edit(bus, &edit, 1, NULL, NULL), 0);
	bus_remove(bus, &flash.region);
	check_log("slot+flash@1000 slot-flash@1000 ");
}

/* ---- attaching, failing ---- */

static void failed_edit_does_not_reach_the_listener(void **state)
{
	struct doorbell bell = { .len = 4, .fd = 1 };
	struct region ram = ram_at("ram", 0x10000);
	static struct chip a, b;
	struct edit edits[3];

	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	chip_init(&b, "b", SPACE_MMIO, 0x10ff8, 0x10, WIDTH_ANY);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_int_equal(bus_add(bus, &ram), 0);
	check_log("bell+a@1000 slot+ram@10000 ");
	edits[0] = move_to(&a.region, 0x2000);
	edits[1] = move_to(&ram, 0x11000);
	edits[2] = (struct edit){ .op = EDIT_ADD, .region = &b.region };
	assert_int_equal(bus_edit(bus, edits, 3, NULL, NULL), -EEXIST);
	check_log("");
	assert_true(bell.assigned && ram.slotted);
	bus_disarm(bus, &bell);
	bus_remove(bus, &ram);
}

static void listener_that_comes_late_gets_the_map_replayed(void **state)
{
	struct doorbell bell = { .len = 4, .fd = 1 };
	struct region ram = ram_at("ram", 0x10000), gone = ram_at("gone", 0x20000);
	static struct chip a;

	assert_int_equal(bus_listen(bus, NULL), 0);
	chip_init(&a, "a", SPACE_MMIO, 0x1000, 0x1000, WIDTH_ANY);
	a.region.coalesce = 1;
	assert_int_equal(bus_add(bus, &a.region), 0);
	assert_int_equal(bus_arm(bus, &a.region, &bell), 0);
	assert_int_equal(bus_add(bus, &ram), 0);
	assert_int_equal(bus_add(bus, &gone), 0);
	bus_remove(bus, &gone);
	assert_false(bell.assigned || ram.slotted || a.region.coalesced);
	check_log("");
	assert_int_equal(bus_listen(bus, &recorder.listener), 0);
	/* KVM takes milliseconds over a slot that comes after the others. */
	check_log("slot+ram@10000 post+a@1000 bell+a@1000 ");
	assert_int_equal(bus_listen(bus, NULL), 0);
	check_log("bell-a@1000 post-a@1000 slot-ram@10000 ");
	/* A machine whose RAM has no slots cannot run: that is told, and the listener is not attached. */
	recorder.fail_memory = -ENOSPC;
	assert_int_equal(bus_listen(bus, &recorder.listener), -ENOSPC);
	check_log("");
	move(&a.region, 0x3000);
	check_log("");
	bus_disarm(bus, &bell);
	bus_remove(bus, &ram);
}

static void freeing_the_bus_lets_go_of_everything(void **state)
{
	struct bus *second = bus_new(), *first = bus;
	struct initiator visitor = { .name = "visitor" };
	struct region ram = ram_at("ram", 0x10000);

	bus_listen(first, NULL);
	bus_attach(second, &visitor);
	bus_detach(&cpu);
	bus = second; /* for the recorder's accesses */
	bus_attach(bus, &cpu);
	assert_int_equal(bus_listen(second, &recorder.listener), 0);
	assert_int_equal(bus_add(second, &ram), 0);
	bus_free(second);
	check_log("slot+ram@10000 slot-ram@10000 ");
	assert_false(ram.live || ram.slotted);
	bus = first;
	bus_attach(bus, &cpu);
}

static void memory_references_add_up(void **state)
{
	assert_int_equal(bus_listen(bus, NULL), 0);
	bus_drain(bus);
	assert_int_equal(mem.refs, 1); /* all tests before returned what their regions held */
}

#define TEST(name)   cmocka_unit_test_setup_teardown(name, setup, teardown)
#define HIDDEN(name) cmocka_unit_test_setup_teardown(name, setup_hidden, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(doorbell_follows_adds_moves_and_removals),
		TEST(no_address_changes_hands_before_its_deassign),
		TEST(failed_assign_leaves_the_handler_serving),
		TEST(malformed_doorbells_are_refused),
		TEST(doorbells_are_armed_in_handlers),
		HIDDEN(doorbell_is_where_an_alias_shows_it),
		HIDDEN(doorbell_follows_its_alias),
		HIDDEN(doorbell_behind_aliases_of_aliases),
		TEST(listener_without_hidden_spaces_ignores_aliases),
		TEST(coalescing_follows_and_may_fail),
		TEST(memory_is_copied_whenever_no_slot_backs_it),
		TEST(rom_leaves_its_slot_to_be_trapped),
		TEST(failed_edit_does_not_reach_the_listener),
		TEST(listener_that_comes_late_gets_the_map_replayed),
		TEST(freeing_the_bus_lets_go_of_everything),
		TEST(memory_references_add_up),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
