/* SPDX-License-Identifier: BSD-2-Clause */
/* test_msix.c - MSI-X: masks, pending bits, odd accesses, reset, vectors with an eventfd. */
#include "pci_bed.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "pci/msix.h"

#define VECTORS 70 /* two words of pending bits */
#define SLOT    10
#define TABLE   bar
#define PENDING (bar + 0x800)

struct msix_dev_state {
	uint8_t config[PCI_CONFIG_SIZE];
	struct MSIX_STATE(VECTORS) msix;
};

struct msix_dev {
	struct pci_function fn; /* first */
	struct msix msix;
	struct msix_dev_state state;
};

static const struct field dev_fields[] = {
	PCI_CONFIG_FIELD(struct msix_dev_state, config),
	MSIX_FIELDS(struct msix_dev_state, msix),
	FIELD_END,
};

static struct msix_dev *dev;
static struct bed *bed;
static uint64_t bar;

/* The interrupt chip: what it was told last, and eventfds that it has. */
static struct {
	unsigned messages, routes, unroutes, wrong;
	uint64_t addr, route_addr;
	uint32_t data, route_data, sender;
	int fd, refuse;
} chip;

static void send_msi(void *arg, struct irq_message message)
{
	chip.messages++;
	chip.addr = message.addr;
	chip.data = message.data;
	chip.sender = message.sender;
}

static int route_add(void *arg, int fd, struct irq_message message, unsigned *id)
{
	if (chip.refuse)
		return chip.refuse;
	chip.routes++;
	chip.fd = fd;
	chip.route_addr = message.addr;
	chip.route_data = message.data;
	chip.sender = message.sender;
	*id = 5;
	return 0;
}

static void route_del(void *arg, int fd, unsigned id)
{
	assert_int_equal(fd, chip.fd);
	assert_int_equal(id, 5);
	chip.unroutes++;
	chip.fd = -1;
}

static const struct irqchip_ops msix_chip = {
	.set_line = bed_set_line, .send_msi = send_msi, .route_add = route_add, .route_del = route_del
};

static void dev_reset(struct device *d)
{
	pci_function_reset(pci_function_of(d));
}

static void dev_destroy(struct device *d)
{
	struct msix_dev *m = container_of(d, struct msix_dev, fn.dev);

	pci_function_fini(&m->fn);
	msix_fini(&m->msix);
	device_fini(d);
	free(m);
}

static const struct device_type dev_type = {
	.name = "msix",
	.state = dev_fields,
	.state_offset = offsetof(struct msix_dev, state),
	.reset = dev_reset,
	.destroy = dev_destroy,
};

static struct msix_dev *new_dev(struct vm *vm)
{
	const struct pci_ids ids = { .vendor = 0x1234, .device = 1, .class = 0xff0000 };
	struct msix_dev *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	device_init(&m->fn.dev, &dev_type, vm, "msix");
	pci_function_init(&m->fn, &ids, m->state.config);
	return m;
}

static unsigned cap_at(void)
{
	return cfg_read(bed, SLOT, PCI_CAPABILITY_LIST, 1);
}

static void control(uint32_t flags)
{
	cfg_write(bed, SLOT, cap_at() + PCI_MSIX_FLAGS, 2, flags);
}

static uint64_t rd(uint64_t addr, unsigned len)
{
	return bed_read(bed, SPACE_MMIO, addr, len);
}

static void wr(uint64_t addr, unsigned len, uint64_t value)
{
	bed_write(bed, SPACE_MMIO, addr, len, value);
}

static void mask(unsigned vector, bool masked)
{
	wr(TABLE + 16 * vector + 12, 4, masked);
}

/* The message of vector n, and unmasked. */
static void program(unsigned vector)
{
	wr(TABLE + 16 * vector, 4, 0xfee00000 + 0x1000 * vector);
	wr(TABLE + 16 * vector + 4, 4, 0);
	wr(TABLE + 16 * vector + 8, 4, 0x4000 + vector);
	mask(vector, false);
}

static void expect_messages(unsigned n, unsigned vector)
{
	assert_int_equal(chip.messages, n);
	chip.messages = 0;
	if (n) {
		assert_int_equal(chip.addr, 0xfee00000 + 0x1000 * vector);
		assert_int_equal(chip.data, 0x4000 + vector);
	}
}

static int setup(void **state)
{
	struct error err;
	struct device *d;

	bed_setup(state);
	bed = *state;
	memset(&chip, 0, sizeof(chip));
	chip.fd = -1;
	irq_router_chip(&bed->vm.irqs, &msix_chip, bed);
	dev = new_dev(&bed->vm);
	pci_intx_init(&dev->fn, 1);
	assert_int_equal(
		msix_init(&dev->msix, &dev->fn, 1, VECTORS, dev->state.msix.table, dev->state.msix.pending), 0);
	d = &dev->fn.dev;
	assert_int_equal(vm_add_devices(&bed->vm, &d, 1, &err), 0);
	assert_int_equal(pci_bus_add(bed->pci, &dev->fn, SLOT, 0, &err), 0);
	device_power_on(d);
	cfg_write(bed, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	bar = cfg_read(bed, SLOT, bar_reg(1), 4) & ~0xfU;
	return 0;
}

static void test_capability(void **state)
{
	unsigned cap = cap_at();

	assert_int_equal(cfg_read(bed, SLOT, cap, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(cfg_read(bed, SLOT, cap + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(cfg_read(bed, SLOT, cap + PCI_MSIX_TABLE, 4), 1);
	assert_int_equal(cfg_read(bed, SLOT, cap + PCI_MSIX_PBA, 4), 0x800 | 1);
	control(0xffff);
	assert_int_equal(cfg_read(bed, SLOT, cap + PCI_MSIX_FLAGS, 2), 0xc000 | (VECTORS - 1));
	cfg_write(bed, SLOT, cap + PCI_MSIX_TABLE, 4, UINT32_MAX);
	assert_int_equal(cfg_read(bed, SLOT, cap + PCI_MSIX_TABLE, 4), 1);
	/* The control is the upper half of a doubleword that drivers may write whole, or byte by byte. */
	cfg_write(bed, SLOT, cap, 4, 0);
	assert_false(msix_enabled(&dev->msix));
	cfg_write(bed, SLOT, cap + PCI_MSIX_FLAGS + 1, 1, 0x80);
	assert_true(msix_enabled(&dev->msix));
	cfg_write(bed, SLOT, cap, 1, 0);
	assert_true(msix_enabled(&dev->msix));
}

static void test_starts_masked(void **state)
{
	control(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < VECTORS; i++) {
		assert_int_equal(rd(TABLE + 16 * i, 8), 0);
		assert_int_equal(rd(TABLE + 16 * i + 8, 8), 1ULL << 32);
		msix_send(&dev->msix, i);
	}
	expect_messages(0, 0);
	assert_true(rd(PENDING, 8) == UINT64_MAX);
	assert_int_equal(rd(PENDING + 8, 8), (1 << (VECTORS - 64)) - 1);
}

static void test_vector_mask(void **state)
{
	control(PCI_MSIX_FLAGS_ENABLE);
	program(3);
	program(69);
	msix_send(&dev->msix, 3);
	expect_messages(1, 3);
	mask(3, true);
	msix_send(&dev->msix, 3);
	msix_send(&dev->msix, 3);
	expect_messages(0, 0);
	msix_send(&dev->msix, 69);
	expect_messages(1, 69);
	assert_int_equal(rd(PENDING, 8), 1 << 3);
	assert_int_equal(rd(PENDING, 4), 1 << 3);
	assert_int_equal(rd(PENDING + 4, 4), 0);
	/* Once, however often it was asked for; with the message that it has by then. */
	wr(TABLE + 16 * 3 + 8, 4, 0x77);
	expect_messages(0, 0);
	mask(3, false);
	assert_int_equal(chip.messages, 1);
	assert_int_equal(chip.data, 0x77);
	assert_int_equal(rd(PENDING, 8), 0);
	mask(3, true);
	mask(3, false);
	assert_int_equal(chip.messages, 1);
	mask(69, true);
	msix_send(&dev->msix, 69);
	assert_int_equal(rd(PENDING + 8, 8), 1 << 5);
	assert_int_equal(rd(PENDING + 8, 4), 1 << 5);
	assert_int_equal(dev->msix.sent, 3);
}

static void test_function_mask(void **state)
{
	control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	program(1);
	program(2);
	msix_send(&dev->msix, 1);
	msix_send(&dev->msix, 2);
	mask(2, true);
	expect_messages(0, 0);
	assert_int_equal(rd(PENDING, 8), 6);
	control(PCI_MSIX_FLAGS_ENABLE);
	expect_messages(1, 1);
	assert_int_equal(rd(PENDING, 8), 4);
	mask(2, false);
	expect_messages(1, 2);
}

static void test_off(void **state)
{
	program(1);
	msix_send(&dev->msix, 1);
	expect_messages(0, 0);
	assert_int_equal(rd(PENDING, 8), 0);
	assert_int_equal(dev->msix.lost, 1);
	control(PCI_MSIX_FLAGS_ENABLE);
	expect_messages(0, 0);
	msix_send(&dev->msix, VECTORS);
	msix_send(&dev->msix, UINT32_MAX);
	expect_messages(0, 0);
	assert_int_equal(dev->msix.lost, 3);
	msix_send(&dev->msix, 1);
	expect_messages(1, 1);
}

/* A wire and MSI-X are never both used. */
static void test_intx(void **state)
{
	unsigned gsi = pci_gsi(bed->pci, SLOT, 1);

	pci_intx(&dev->fn, true);
	assert_int_equal(bed->levels[gsi], 1);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(bed->levels[gsi], 0);
	pci_intx(&dev->fn, false);
	pci_intx(&dev->fn, true);
	assert_int_equal(bed->levels[gsi], 0);
	control(0);
	assert_int_equal(bed->levels[gsi], 1);
	cfg_write(bed, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(bed->levels[gsi], 0);
}

static void test_widths(void **state)
{
	uint64_t wrong = bed->cpu.wrong_width[SPACE_MMIO];

	control(PCI_MSIX_FLAGS_ENABLE);
	program(0);
	wr(TABLE + 8, 2, 0);
	wr(TABLE + 12, 1, 1);
	assert_int_equal(rd(TABLE + 8, 1), 0xff);
	assert_int_equal(rd(TABLE + 8, 2), 0xffff);
	assert_true(bed->cpu.wrong_width[SPACE_MMIO] > wrong);
	msix_send(&dev->msix, 0);
	expect_messages(1, 0);
	/* Address and data in one, and data with control. */
	wr(TABLE + 16, 8, 0x00000001fee01003);
	wr(TABLE + 24, 8, 0xfffffffe00004001);
	assert_true(rd(TABLE + 16, 8) == 0x00000001fee01000);
	assert_int_equal(rd(TABLE + 24, 8), 0x4001);
	msix_send(&dev->msix, 1);
	assert_true(chip.addr == 0x00000001fee01000);
	assert_int_equal(chip.data, 0x4001);
	/* Pending bits are not the guest's to write. */
	wr(PENDING, 8, UINT64_MAX);
	wr(PENDING, 4, UINT32_MAX);
	assert_int_equal(rd(PENDING, 8), 0);
}

static void test_past_the_end(void **state)
{
	struct trap trap = { .offset = 16 * VECTORS, .value = UINT64_MAX, .len = 8 };

	wr(TABLE + 16 * VECTORS, 4, 1);
	wr(TABLE + 0x7f8, 8, 1);
	assert_int_equal(rd(TABLE + 16 * VECTORS, 4), UINT32_MAX);
	assert_true(rd(TABLE + 0x7f8, 8) == UINT64_MAX);
	assert_true(rd(PENDING + 16, 8) == UINT64_MAX);
	/* The same where both lie in somebody else's BAR, and offsets are whatever that says. */
	for (unsigned i = 0; i < 2; i++) {
		static const uint64_t offsets[] = { 16 * VECTORS, 0xfff8, 0x10000, 1ULL << 32, UINT64_MAX - 7, 4, 12 };

		for (unsigned o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
			trap = (struct trap){ .offset = offsets[o], .value = UINT64_MAX, .len = 8, .write = i };
			msix_table_access(&dev->msix, &trap);
			assert_true(trap.value == UINT64_MAX);
			if (offsets[o] == 4)
				continue;
			msix_pending_access(&dev->msix, &trap);
			assert_true(trap.value == UINT64_MAX);
		}
	}
	trap = (struct trap){ .offset = 0, .value = 5, .len = 2 };
	msix_table_access(&dev->msix, &trap);
	assert_int_equal(trap.value, 5);
	msix_disarm(&dev->msix, VECTORS);
	assert_false(msix_direct(&dev->msix, VECTORS));
}

static void test_reset(void **state)
{
	control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	program(7);
	msix_send(&dev->msix, 7);
	device_reset(&dev->fn.dev);
	assert_false(msix_enabled(&dev->msix));
	assert_int_equal(cfg_read(bed, SLOT, cap_at() + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	cfg_write(bed, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(rd(TABLE + 16 * 7 + 12, 4), 1);
	assert_int_equal(rd(TABLE + 16 * 7, 8), 0);
	assert_int_equal(rd(PENDING, 8), 0);
	expect_messages(0, 0);
}

static void test_init_refuses(void **state)
{
	struct msix_dev *m = new_dev(&bed->vm);
	struct msix *x = &m->msix;

	assert_int_equal(msix_init(x, &m->fn, 1, 0, m->state.msix.table, m->state.msix.pending), -EINVAL);
	assert_int_equal(
		msix_init(x, &m->fn, 1, MSIX_VECTORS + 1, m->state.msix.table, m->state.msix.pending), -EINVAL);
	assert_int_equal(msix_init(x, &m->fn, 6, 1, m->state.msix.table, m->state.msix.pending), -EINVAL);
	assert_true(pci_capability(&m->fn, PCI_CAP_ID_VNDR, 184) > 0);
	assert_int_equal(msix_init(x, &m->fn, 1, 1, m->state.msix.table, m->state.msix.pending), -ENOSPC);
	dev_destroy(&m->fn.dev);
}

static bool holds(int fd)
{
	eventfd_t n;

	return eventfd_read(fd, &n) == 0;
}

/* What the event loop would do; it does not run. */
static void run_loop(void)
{
	struct epoll_event event;

	while (epoll_wait(bed->vm.loop.epoll, &event, 1, 0) == 1) {
		struct loop_watch *watch = event.data.ptr;

		if (!watch || watch < &dev->msix.vectors[0].watch || watch > &dev->msix.vectors[VECTORS - 1].watch)
			break;
		watch->fn(watch->arg, event.events);
	}
}

static void test_eventfd_in_the_chip(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(msix_arm(&dev->msix, VECTORS, fd), -EINVAL);
	assert_int_equal(msix_arm(&dev->msix, 2, -1), -EINVAL);
	assert_int_equal(msix_arm(&dev->msix, 2, fd), 0);
	assert_int_equal(msix_arm(&dev->msix, 2, fd), -EEXIST);
	/* MSI-X is off: the eventfd is its owner's to read. */
	program(2);
	assert_int_equal(eventfd_write(fd, 1), 0);
	run_loop();
	assert_true(holds(fd));
	assert_int_equal(chip.routes, 0);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(chip.fd, fd);
	assert_true(chip.route_addr == 0xfee02000);
	assert_int_equal(chip.route_data, 0x4002);
	assert_int_equal(chip.sender, pci_devfn(SLOT, 0));
	assert_true(msix_direct(&dev->msix, 2));
	/* The chip's now; nobody here takes signals from it. */
	assert_int_equal(eventfd_write(fd, 1), 0);
	run_loop();
	(void)rd(PENDING, 8);
	assert_true(holds(fd));
	/* Its message changes while it may be sent: the chip is told. Writing the same again tells nobody. */
	wr(TABLE + 32 + 8, 4, 0x55);
	assert_int_equal(chip.route_data, 0x55);
	assert_int_equal(chip.routes, 2);
	wr(TABLE + 32 + 8, 4, 0x55);
	assert_int_equal(chip.routes, 2);
	/* Masked: pending bits, by the loop or when the guest looks first. */
	mask(2, true);
	assert_int_equal(chip.unroutes, 2);
	assert_false(msix_direct(&dev->msix, 2));
	assert_int_equal(rd(PENDING, 8), 0);
	assert_int_equal(eventfd_write(fd, 1), 0);
	assert_int_equal(rd(PENDING, 8), 4);
	expect_messages(0, 0);
	mask(2, false);
	assert_int_equal(chip.messages, 1);
	assert_int_equal(chip.fd, fd);
	chip.messages = 0;
	control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_int_equal(chip.fd, -1);
	assert_int_equal(eventfd_write(fd, 3), 0);
	run_loop();
	assert_false(holds(fd));
	assert_int_equal(rd(PENDING, 8), 4);
	control(0);
	assert_int_equal(chip.fd, -1);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(chip.messages, 1);
	assert_int_equal(chip.fd, fd);
	/* And the device may send it as ever. */
	msix_send(&dev->msix, 2);
	assert_int_equal(chip.messages, 2);
	msix_disarm(&dev->msix, 2);
	msix_disarm(&dev->msix, 2);
	assert_int_equal(chip.fd, -1);
	close(fd);
}

static void test_eventfd_without_the_chip(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	chip.refuse = -ENOTSUP;
	control(PCI_MSIX_FLAGS_ENABLE);
	program(4);
	assert_int_equal(msix_arm(&dev->msix, 4, fd), 0);
	assert_false(msix_direct(&dev->msix, 4));
	assert_int_equal(eventfd_write(fd, 1), 0);
	run_loop();
	expect_messages(1, 4);
	mask(4, true);
	assert_int_equal(eventfd_write(fd, 1), 0);
	run_loop();
	expect_messages(0, 0);
	assert_int_equal(rd(PENDING, 8), 1 << 4);
	mask(4, false);
	expect_messages(1, 4);
	/* Signalled, and disarmed before the loop came: sent all the same. */
	assert_int_equal(eventfd_write(fd, 1), 0);
	msix_disarm(&dev->msix, 4);
	expect_messages(1, 4);
	assert_int_equal(eventfd_write(fd, 1), 0);
	run_loop();
	expect_messages(0, 0);
	close(fd);
}

static void test_reset_while_armed(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	control(PCI_MSIX_FLAGS_ENABLE);
	program(0);
	assert_int_equal(msix_arm(&dev->msix, 0, fd), 0);
	assert_int_equal(chip.fd, fd);
	device_reset(&dev->fn.dev);
	assert_int_equal(chip.fd, -1);
	cfg_write(bed, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(chip.fd, -1);
	program(0);
	assert_int_equal(chip.fd, fd);
	/* Left armed: the device's end disarms. */
	vm_remove_device(&dev->fn.dev);
	assert_int_equal(chip.fd, -1);
	assert_null(bed->vm.irqs.routes);
	close(fd);
}

#define SENDS 20000

static void strict_msi(void *arg, struct irq_message message)
{
	/* Under the vectors' lock, so no atomics; ThreadSanitizer watches. */
	chip.wrong += dev->state.msix.table[3] != 0 || message.data != 0x4000;
	chip.messages++;
}

static const struct irqchip_ops strict_chip = { .send_msi = strict_msi };

static void *sender(void *arg)
{
	for (unsigned i = 0; i < SENDS; i++)
		msix_send(&dev->msix, 0);
	return NULL;
}

/* A device's threads send while the guest masks and unmasks: nothing comes while masked, and the last word is heard. */
static void test_threads(void **state)
{
	pthread_t threads[2];

	irq_router_chip(&bed->vm.irqs, &strict_chip, NULL);
	control(PCI_MSIX_FLAGS_ENABLE);
	program(0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sender, NULL), 0);
	for (unsigned i = 0; i < 2000; i++)
		mask(0, i % 2 == 0);
	mask(0, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(chip.wrong, 0);
	msix_send(&dev->msix, 0);
	chip.messages = 0;
	mask(0, false);
	assert_int_equal(chip.messages, 1);
	assert_int_equal(rd(PENDING, 8), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_capability, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_starts_masked, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_vector_mask, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_function_mask, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_intx, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_widths, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_past_the_end, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_init_refuses, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_eventfd_in_the_chip, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_eventfd_without_the_chip, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_reset_while_armed, setup, bed_teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, bed_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
