/* SPDX-License-Identifier: BSD-2-Clause */
/* testdev.c - the PCI function for tests. */
#include "pci/testdev.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/vm.h"
#include "pci/msix.h"

#define INTX_WIRE 1U
#define INTX_FD   2U
#define MSIX_SEND 4U
#define MSIX_FD   8U

struct pci_test_state {
	uint8_t config[PCI_CONFIG_SIZE];
	struct MSIX_STATE(1) msix;
	uint32_t intx, count, move_lo, move_hi, moves, scratch, armed;
	uint8_t memory0[PCI_TEST_BAR0_BYTES];
	uint64_t memory2[PCI_TEST_BAR2_SIZE / 8]; /* byte n is bits 8n of its word */
};

struct pci_test {
	struct pci_function fn; /* first */
	struct region bar0, bar2, bar4;
	struct msix msix;
	int message;                 /* an eventfd that sends the vector */
	int signal;                  /* an eventfd that raises the INTx pin */
	struct loop_watch resampled; /* an eventfd that tells of the guest's end of interrupt */
	struct pci_test_state state;
};

static const struct field test_fields[] = {
	PCI_CONFIG_FIELD(struct pci_test_state, config),
	MSIX_FIELDS(struct pci_test_state, msix),
	FIELD(struct pci_test_state, intx),
	FIELD(struct pci_test_state, count),
	FIELD(struct pci_test_state, move_lo),
	FIELD(struct pci_test_state, move_hi),
	FIELD(struct pci_test_state, moves),
	FIELD(struct pci_test_state, scratch),
	FIELD(struct pci_test_state, armed),
	FIELD_ARRAY(struct pci_test_state, memory0),
	FIELD_ARRAY(struct pci_test_state, memory2),
	FIELD_END,
};

static_assert(PCI_TEST_BAR2_SIZE / 8 <= UINT16_MAX, "a field's count");

static const struct pci_ids test_ids = {
	.vendor = PCI_TEST_VENDOR,
	.device = PCI_TEST_DEVICE,
	.subsystem_vendor = PCI_TEST_VENDOR,
	.subsystem = PCI_TEST_DEVICE,
	.class = 0xff0000,
};

static struct pci_test *to_test(struct device *dev)
{
	return container_of(dev, struct pci_test, fn.dev);
}

/*
 * Config space as a driver would write it. The PCI bus lock comes after this device's, which the bus holds
 * around the handler, and the edit is legal here: the region that is moved may be the one being accessed.
 */
static void move_bar(struct pci_test *test, uint32_t index)
{
	struct pci_function *fn = &test->fn;
	struct pci_bus *bus = __atomic_load_n(&fn->bus, __ATOMIC_ACQUIRE); /* it may be unplugged meanwhile */
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * index;

	if (index >= PCI_BARS || !bus)
		return;
	test->state.moves++;
	pci_config_write(bus, fn->devfn, reg, 4, test->state.move_lo);
	if (fn->bars[index].kind == PCI_BAR_MEM64)
		pci_config_write(bus, fn->devfn, reg + 4, 4, test->state.move_hi);
}

/* A level that is up is signalled when it rises, and after each end of interrupt that finds it still up. */
static void signal_level(struct pci_test *test)
{
	if (test->state.intx & INTX_FD)
		(void)eventfd_write(test->signal, 1);
}

static void resampled(void *arg, uint32_t events)
{
	struct pci_test *test = arg;
	eventfd_t ends;

	pthread_mutex_lock(&test->fn.dev.lock);
	if (eventfd_read(test->resampled.fd, &ends) == 0)
		signal_level(test);
	pthread_mutex_unlock(&test->fn.dev.lock);
}

static uint32_t register_read(struct pci_test *test, unsigned reg)
{
	switch (reg) {
	case PCI_TEST_ID:
		return PCI_TEST_ID_VALUE;
	case PCI_TEST_INTX:
		return test->state.intx | (test->fn.msix && msix_direct(&test->msix, 0) ? MSIX_FD : 0);
	case PCI_TEST_COUNT:
		return test->state.count - 1; /* this one */
	case PCI_TEST_LIVE:
		return pci_bars_live(&test->fn);
	case PCI_TEST_MOVE_LO:
		return test->state.move_lo;
	case PCI_TEST_MOVE_HI:
		return test->state.move_hi;
	case PCI_TEST_MOVE:
		return test->state.moves;
	case PCI_TEST_SCRATCH:
		return test->state.scratch;
	default:
		return UINT32_MAX;
	}
}

/* Writes the bits in `mask`, which are those of the bytes that were accessed. */
static void register_write(struct pci_test *test, unsigned reg, uint32_t value, uint32_t mask)
{
	uint32_t merged = (register_read(test, reg) & ~mask) | (value & mask);

	switch (reg) {
	case PCI_TEST_LIVE:
		test->state.armed = (value & mask) == PCI_TEST_ARM;
		break;
	case PCI_TEST_INTX:
		test->state.intx = merged & (INTX_WIRE | INTX_FD);
		pci_intx(&test->fn, merged & INTX_WIRE);
		signal_level(test);
		if (value & mask & MSIX_SEND && test->fn.msix)
			msix_send(&test->msix, 0);
		if (value & mask & MSIX_FD && test->fn.msix)
			(void)eventfd_write(test->message, 1);
		break;
	case PCI_TEST_COUNT:
		test->state.count = 0;
		break;
	case PCI_TEST_MOVE_LO:
		test->state.move_lo = merged;
		break;
	case PCI_TEST_MOVE_HI:
		test->state.move_hi = merged;
		break;
	case PCI_TEST_MOVE:
		move_bar(test, value & mask);
		break;
	case PCI_TEST_SCRATCH:
		test->state.scratch = merged;
		break;
	}
}

static uint64_t width_mask(unsigned len)
{
	return UINT64_MAX >> (64 - 8 * len);
}

/* An access of 8 bytes is two registers, the lower first; one of 1 or 2 bytes lies inside one. */
static void register_access(struct pci_test *test, struct trap *trap)
{
	unsigned first = (unsigned)trap->offset & ~3U, shift = 8 * ((unsigned)trap->offset & 3);
	uint64_t mask = width_mask(trap->len) << shift, value = trap->write ? trap->value << shift : 0;

	/* From a read, because its answer is still to be put into a register when the reset has set them all. */
	if (!trap->write && test->state.armed)
		vm_reset(test->fn.dev.vm);
	for (unsigned i = 0; i < 8 && mask >> 8 * i; i += 4) {
		if (trap->write)
			register_write(test, first + i, (uint32_t)(value >> 8 * i), (uint32_t)(mask >> 8 * i));
		else
			value |= (uint64_t)register_read(test, first + i) << 8 * i;
	}
	if (!trap->write)
		trap->value = value >> shift & width_mask(trap->len);
}

static void memory0_access(struct pci_test *test, struct trap *trap)
{
	uint8_t *bytes = test->state.memory0 + (trap->offset - PCI_TEST_MEMORY);

	if (!trap->write)
		trap->value = 0;
	for (unsigned i = 0; i < trap->len; i++) {
		if (trap->write)
			bytes[i] = (uint8_t)(trap->value >> 8 * i);
		else
			trap->value |= (uint64_t)bytes[i] << 8 * i;
	}
}

static void bar0_trap(void *dev, struct trap *trap)
{
	struct pci_test *test = to_test(dev);

	test->state.count++;
	/* Between the registers and the memory, and where there is no register, nothing: all ones. */
	if (trap->offset >= PCI_TEST_MEMORY)
		memory0_access(test, trap);
	else if (trap->offset < PCI_TEST_REGISTERS)
		register_access(test, trap);
}

static void bar2_trap(void *dev, struct trap *trap)
{
	struct pci_test *test = to_test(dev);
	uint64_t *word = &test->state.memory2[trap->offset / 8];
	unsigned shift = 8 * (trap->offset & 7);
	uint64_t mask = width_mask(trap->len);

	test->state.count++;
	if (trap->write)
		*word = (*word & ~(mask << shift)) | (trap->value & mask) << shift;
	else
		trap->value = *word >> shift & mask;
}

static void bar4_trap(void *dev, struct trap *trap)
{
	struct pci_test *test = to_test(dev);

	test->state.count++;
	register_access(test, trap);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void test_destroy(struct device *dev)
{
	struct pci_test *test = to_test(dev);

	irq_disarm(&test->fn.irq);
	pci_function_fini(&test->fn);
	msix_fini(&test->msix);
	device_fini(dev);
	close_fd(test->signal);
	close_fd(test->message);
	close_fd(test->resampled.fd);
	free(test);
}

static int declare_bars(struct pci_test *test, bool msix)
{
	struct pci_function *fn = &test->fn;
	int r = pci_bar_init(
		fn, 0, PCI_BAR_MEM32, false, &test->bar0, "pci-test BAR0", PCI_TEST_BAR0_SIZE, WIDTH_ANY, bar0_trap);

	if (r == 0)
		r = pci_bar_init(fn, 2, PCI_BAR_MEM64, true, &test->bar2, "pci-test BAR2", PCI_TEST_BAR2_SIZE,
			WIDTH_ANY, bar2_trap);
	if (r == 0)
		r = pci_bar_init(fn, 4, PCI_BAR_IO, false, &test->bar4, "pci-test BAR4", PCI_TEST_REGISTERS,
			WIDTH_1 | WIDTH_2 | WIDTH_4, bar4_trap);
	if (r == 0 && msix)
		r = msix_init(&test->msix, fn, 5, 1, test->state.msix.table, test->state.msix.pending);
	return r;
}

static int make_eventfds(struct pci_test *test)
{
	test->resampled =
		(struct loop_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = resampled, .arg = test };
	test->signal = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	test->message = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return test->signal < 0 || test->message < 0 || test->resampled.fd < 0 ? -errno : 0;
}

static int test_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct pci_test_config *c = config;
	struct pci_test *test = calloc(1, sizeof(*test));
	struct pci_function *fn;
	int r;

	if (!test)
		return error_set(err, -ENOMEM, "no memory for %s", name);
	fn = &test->fn;
	device_init(&fn->dev, &pci_test_type, vm, name);
	pci_function_init(fn, &test_ids, test->state.config);
	r = make_eventfds(test);
	if (r) {
		test_destroy(&fn->dev);
		return error_set(err, r, "%s: eventfds for its interrupts: %s", name, strerror(-r));
	}
	r = declare_bars(test, c && c->msix);
	if (r) {
		test_destroy(&fn->dev);
		return error_set(err, r, "%s: its BARs cannot be declared", name);
	}
	pci_intx_init(fn, c ? c->pin : 1);
	r = irq_arm(&fn->irq, test->signal, test->resampled.fd);
	if (r == 0 && fn->msix)
		r = msix_arm(&test->msix, 0, test->message);
	if (r) {
		test_destroy(&fn->dev);
		return error_set(err, r, "%s: eventfds for its interrupts: %s", name, strerror(-r));
	}
	*out = &fn->dev;
	return 0;
}

static void test_reset(struct device *dev)
{
	pci_function_reset(&to_test(dev)->fn);
}

/* Without the watch, an interrupt by eventfd comes once and no more; nothing else depends on it. */
static void test_start(struct device *dev)
{
	(void)loop_watch(&dev->vm->loop, &to_test(dev)->resampled, EPOLLIN);
	pthread_mutex_lock(&dev->lock);
	pci_function_sync(&to_test(dev)->fn);
	pthread_mutex_unlock(&dev->lock);
}

static void test_stop(struct device *dev)
{
	loop_unwatch(&dev->vm->loop, &to_test(dev)->resampled);
}

const struct device_type pci_test_type = {
	.name = "pci-test",
	.state = test_fields,
	.state_offset = offsetof(struct pci_test, state),
	.create = test_create,
	.start = test_start,
	.stop = test_stop,
	.reset = test_reset,
	.destroy = test_destroy,
};
