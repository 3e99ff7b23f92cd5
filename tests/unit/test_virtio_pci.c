/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_virtio_pci.c - virtio's PCI transport, modern and legacy: registers, orders, widths, vectors, wires, doorbells.
 */
#include "pci_bed.h"

#include <linux/virtio_pci.h>
#include <sys/eventfd.h>

#include "pci/msix.h"
#include "virtio/pci_inner.h"
#include "virtio/virtio.h"

#define SLOT   12
#define QUEUES 3
#define SIZE   128
#define RING   0x10000ULL /* guest-physical: where rings lie, 64 KiB a queue */
#define CONFIG 12         /* bytes */
#define OWN    5          /* a feature bit of the device's */

/* ---- a device ---- */

struct toy {
	struct virtio v; /* first */
	uint8_t config[CONFIG];
	unsigned written_at, written_len;
	unsigned served[QUEUES];
};

static struct toy *toy;

static void toy_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes)
{
	toy->written_at = offset;
	toy->written_len = len;
	memcpy(toy->config + offset, bytes, len);
}

static void toy_serve(struct virtio *v, unsigned index)
{
	toy->served[index]++;
}

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err);

static void toy_destroy(struct virtio *v)
{
	virtio_fini(v);
	free(v);
	toy = NULL;
}

static const struct virtio_type toy_type = {
	.name = "toy",
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00,
	.create = toy_create,
	.destroy = toy_destroy,
	.config_write = toy_config_write,
	.serve = toy_serve,
};
/* One that came after the legacy interface. */
static const struct virtio_type new_type = { .name = "new", .id = VIRTIO_ID_FS, .create = toy_create };

static int toy_create(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err)
{
	int r = 0;

	toy = calloc(1, sizeof(*toy));
	assert_non_null(toy);
	virtio_init(&toy->v, &toy_type, vm, 1ULL << OWN, toy->config, sizeof(toy->config));
	for (unsigned i = 0; i < CONFIG; i++)
		toy->config[i] = (uint8_t)(0xa0 + i);
	for (unsigned i = 0; r == 0 && i < QUEUES; i++)
		r = virtio_queue(&toy->v, SIZE, &vm->loop, err);
	*out = &toy->v;
	return r;
}

/* ---- the machine ---- */

static struct bed *bed;
static struct device *dev;
static struct vpci *p;
static uint64_t mem, io, notify, msix;
static struct {
	unsigned messages;
	uint64_t addr;
	uint32_t data;
} chip;

static void send_msi(void *arg, struct irq_message message)
{
	chip.messages++;
	chip.addr = message.addr;
	chip.data = message.data;
}

/* Messages that eventfds send: by the fd, which vector's. */
static struct {
	int fd;
	uint32_t data;
} routes[QUEUES];

static int route_add(void *arg, int fd, struct irq_message message, unsigned *id)
{
	for (*id = 0; *id < QUEUES; ++*id) {
		if (routes[*id].fd)
			continue;
		routes[*id].fd = fd;
		routes[*id].data = message.data;
		return 0;
	}
	return -ENOSPC;
}

static void route_del(void *arg, int fd, unsigned id)
{
	assert_int_equal(routes[id].fd, fd);
	routes[id].fd = 0;
}

/* Which message the eventfd sends; 0: none. */
static uint32_t route_of(int fd)
{
	for (unsigned i = 0; i < QUEUES; i++)
		if (routes[i].fd == fd)
			return routes[i].data;
	return 0;
}

static const struct irqchip_ops pci_chip = {
	.set_line = bed_set_line, .send_msi = send_msi, .route_add = route_add, .route_del = route_del
};

/* The listener takes doorbells, and remembers which. */
static struct {
	struct bus_listener listener;
	unsigned n;
	const struct doorbell *last;
	const struct region *region;
} kernel;

static int doorbell_add(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	kernel.n++;
	kernel.last = bell;
	kernel.region = region;
	return 0;
}

static void doorbell_del(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	kernel.n--;
}

static int memory_add(struct bus_listener *listener, struct region *region)
{
	return 0;
}

static void memory_del(struct bus_listener *listener, struct region *region)
{
}

static int coalesce_add(struct bus_listener *listener, struct region *region)
{
	return -ENOTSUP;
}

static uint32_t cfg(unsigned reg, unsigned len)
{
	return cfg_read(bed, SLOT, reg, len);
}

static void enable_decoding(void)
{
	cfg_write(bed, SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	io = cfg(PCI_BASE_ADDRESS_0, 4) & ~3U;
	msix = cfg(PCI_BASE_ADDRESS_1, 4) & ~0xfU;
	notify = cfg(PCI_BASE_ADDRESS_2, 4) & ~3U;
	mem = (cfg(PCI_BASE_ADDRESS_4, 4) & ~0xfU) | (uint64_t)cfg(PCI_BASE_ADDRESS_5, 4) << 32;
}

static void set_up(void **state, bool legacy, bool ports)
{
	const struct virtio_config config = { .type = &toy_type, .legacy = legacy, .ports = ports };
	struct error err;

	bed_setup(state);
	bed = *state;
	memset(&chip, 0, sizeof(chip));
	memset(&kernel, 0, sizeof(kernel));
	memset(routes, 0, sizeof(routes));
	kernel.listener = (struct bus_listener){ .memory_add = memory_add,
		.memory_del = memory_del,
		.doorbell_add = doorbell_add,
		.doorbell_del = doorbell_del,
		.coalesce_add = coalesce_add };
	assert_int_equal(bus_listen(bed->vm.bus, &kernel.listener), 0);
	irq_router_chip(&bed->vm.irqs, &pci_chip, bed);
	assert_int_equal(virtio_pci_type.create(&bed->vm, "toy", &config, &dev, &err), 0);
	p = container_of(dev, struct vpci, fn.dev);
	assert_int_equal(vm_add_devices(&bed->vm, &dev, 1, &err), 0);
	assert_int_equal(pci_bus_add(bed->pci, &p->fn, SLOT, 0, &err), 0);
	device_power_on(dev);
	virtio_pci_type.start(dev);
	enable_decoding();
}

static int modern(void **state)
{
	set_up(state, false, false);
	return 0;
}

static int with_ports(void **state)
{
	set_up(state, false, true);
	return 0;
}

static int transitional(void **state)
{
	set_up(state, true, true);
	return 0;
}

static int tear_down(void **state)
{
	assert_int_equal(bus_listen(bed->vm.bus, NULL), 0);
	return bed_teardown(state);
}

static void quit(void *loop)
{
	loop_quit(loop);
}

/* What is due on the event loop is done: work, and watches. */
static void run_loop(void)
{
	struct loop_work last = { .fn = quit, .arg = &bed->vm.loop };

	for (unsigned i = 0; i < 2 * QUEUES; i++) {
		loop_post(&bed->vm.loop, &last);
		loop_run(&bed->vm.loop);
	}
}

/* ---- a driver ---- */

static uint64_t rd(uint64_t offset, unsigned len)
{
	return bed_read(bed, SPACE_MMIO, mem + offset, len);
}

static void wr(uint64_t offset, unsigned len, uint64_t value)
{
	bed_write(bed, SPACE_MMIO, mem + offset, len, value);
}

static uint32_t in(unsigned offset, unsigned len)
{
	return (uint32_t)bed_read(bed, SPACE_PIO, io + offset, len);
}

static void out(unsigned offset, unsigned len, uint32_t value)
{
	bed_write(bed, SPACE_PIO, io + offset, len, value);
}

static unsigned find_cap(uint8_t id, uint8_t type)
{
	for (unsigned at = cfg(PCI_CAPABILITY_LIST, 1); at; at = cfg(at + PCI_CAP_LIST_NEXT, 1))
		if (cfg(at, 1) == id && (id != PCI_CAP_ID_VNDR || cfg(at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type))
			return at;
	return 0;
}

static void msix_control(uint32_t flags)
{
	cfg_write(bed, SLOT, find_cap(PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, 2, flags);
}

static void program(unsigned vector)
{
	bed_write(bed, SPACE_MMIO, msix + 16 * vector, 8, 0xfee00000);
	bed_write(bed, SPACE_MMIO, msix + 16 * vector + 8, 8, 0x40 + vector);
}

static unsigned level(void)
{
	return bed->levels[pci_gsi(bed->pci, SLOT, 1)];
}

static uint64_t faults(void)
{
	uint64_t n = bed->vm.guest_faults;

	bed->vm.guest_faults = 0;
	return n;
}

static void negotiate(uint64_t features)
{
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 1);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		wr(VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		wr(VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32 * i));
	}
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 11);
}

static void place_queue(unsigned i)
{
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 4, RING + 0x10000 * i);
	wr(VIRTIO_PCI_COMMON_Q_AVAILLO, 4, RING + 0x10000 * i + 0x4000);
	wr(VIRTIO_PCI_COMMON_Q_USEDLO, 4, RING + 0x10000 * i + 0x8000);
	wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void drive(void)
{
	negotiate(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_RESET);
	for (unsigned i = 0; i < QUEUES; i++)
		place_queue(i);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

/* ---- tests ---- */

static void test_ids(void **state)
{
	assert_int_equal(cfg(PCI_VENDOR_ID, 4), 0x10441af4);
	assert_int_equal(cfg(PCI_REVISION_ID, 1), 1);
	assert_int_equal(cfg(PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1af4);
	assert_true(cfg(PCI_SUBSYSTEM_ID, 2) >= 0x40);
	assert_int_equal(cfg(PCI_CLASS_REVISION, 4) >> 8, 0x00ff00);
	assert_int_equal(cfg(PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(cfg(PCI_BASE_ADDRESS_0, 4), 0);
}

static void test_transitional_ids(void **state)
{
	assert_int_equal(cfg(PCI_VENDOR_ID, 4), 0x10051af4);
	assert_int_equal(cfg(PCI_REVISION_ID, 1), 0);
	assert_int_equal(cfg(PCI_SUBSYSTEM_ID, 2), VIRTIO_ID_RNG);
	assert_int_equal(cfg(PCI_BASE_ADDRESS_0, 4) & 1, 1);
	assert_true(find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_COMMON_CFG) > 0);
}

static void test_no_legacy_id(void **state)
{
	const struct virtio_config config = { .type = &new_type, .legacy = true };
	struct device *other = NULL;
	struct error err;

	assert_int_equal(virtio_pci_type.create(&bed->vm, "new", &config, &other, &err), -EINVAL);
	assert_non_null(strstr(err.text, "legacy"));
	assert_null(other);
}

static void test_capabilities(void **state)
{
	static const struct {
		uint8_t type, len;
		uint32_t offset, size;
	} want[] = {
		{ VIRTIO_PCI_CAP_COMMON_CFG, 16, VPCI_COMMON, 60 },
		{ VIRTIO_PCI_CAP_ISR_CFG, 16, VPCI_ISR, 1 },
		{ VIRTIO_PCI_CAP_DEVICE_CFG, 16, VPCI_DEVICE, CONFIG },
		{ VIRTIO_PCI_CAP_NOTIFY_CFG, 20, VPCI_NOTIFY, 4 * QUEUES },
	};
	unsigned at;

	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		at = find_cap(PCI_CAP_ID_VNDR, want[i].type);
		assert_true(at > 0);
		assert_int_equal(cfg(at + VIRTIO_PCI_CAP_LEN, 1), want[i].len);
		assert_int_equal(cfg(at + VIRTIO_PCI_CAP_BAR, 1), 4);
		assert_int_equal(cfg(at + VIRTIO_PCI_CAP_OFFSET, 4), want[i].offset);
		assert_int_equal(cfg(at + VIRTIO_PCI_CAP_LENGTH, 4), want[i].size);
	}
	assert_int_equal(cfg(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
	at = find_cap(PCI_CAP_ID_MSIX, 0);
	assert_int_equal(cfg(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE, QUEUES);
}

static void test_common(void **state)
{
	wr(VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	assert_true(rd(VIRTIO_PCI_COMMON_DF, 4) & 1 << OWN);
	wr(VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	assert_true(rd(VIRTIO_PCI_COMMON_DF, 4) & 1);
	wr(VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_DF, 4), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_DFSELECT, 4), 2);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), SIZE);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	drive();
	assert_int_equal(faults(), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 15);
	wr(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_GF, 4), 1 | 1 << (VIRTIO_F_RING_RESET - 32));
	for (unsigned i = 0; i < QUEUES; i++) {
		wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_NOFF, 2), i);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), RING + 0x10000 * i);
		/* Two registers at once, where somebody reads so. */
		assert_true(rd(VIRTIO_PCI_COMMON_Q_USEDLO, 8) == RING + 0x10000 * i + 0x8000);
	}
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
}

static void test_wrong_indices(void **state)
{
	static const uint16_t indices[] = { QUEUES, VIRTIO_QUEUES, 0x100, 0xffff };

	negotiate(1ULL << VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
		wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, indices[i]);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SELECT, 2), indices[i]);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_NOFF, 2), 0);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		(void)faults();
		wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
		wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
		wr(VIRTIO_PCI_COMMON_Q_DESCLO, 4, RING);
		wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		wr(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
		assert_int_equal(faults(), 5);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	}
	for (unsigned at = VPCI_NOTIFY + 4 * QUEUES; at < VPCI_MEM_SIZE; at += 4)
		wr(at, 2, 0);
	assert_int_equal(faults(), (VPCI_MEM_SIZE - VPCI_NOTIFY) / 4 - QUEUES);
	wr(VIRTIO_PCI_COMMON_GFSELECT, 4, UINT32_MAX);
	wr(VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_GF, 4), 0);
}

static void test_wrong_widths(void **state)
{
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 64);
	(void)faults();
	wr(VIRTIO_PCI_COMMON_STATUS, 2, 1);
	wr(VIRTIO_PCI_COMMON_STATUS, 4, 1);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 1, 2);
	wr(VIRTIO_PCI_COMMON_Q_SIZE + 1, 1, 2);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 4, 0x00010002);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 2, 2);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO + 2, 2, 2);
	wr(VIRTIO_PCI_COMMON_NUMQ, 2, 2);
	wr(VIRTIO_PCI_COMMON_Q_NOFF, 2, 2);
	wr(VIRTIO_PCI_COMMON_DF, 4, 0);
	wr(VIRTIO_PCI_COMMON_CFGGENERATION, 1, 7);
	wr(0x40, 4, 0);
	wr(0xffc, 4, 0);
	assert_int_equal(faults(), 13);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	assert_int_equal(rd(0x40, 4), 0);
	/* Reads of any width are parts of the whole. */
	for (unsigned i = 0; i < 64; i += 4)
		for (unsigned n = 0; n < 4; n++)
			assert_int_equal(rd(i + n, 1), rd(i, 4) >> 8 * n & 0xff);
	/* 8 bytes are two registers of 4. */
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x123456789000);
	assert_true(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0x123456789000);
}

static void test_wrong_orders(void **state)
{
	/* Enabled before anything was agreed on, with nonsense, twice, never 0. */
	place_queue(0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	drive();
	(void)faults();
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x500000);
	wr(VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 1);
	wr(VIRTIO_PCI_COMMON_Q_USEDHI, 4, 1);
	wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(faults(), 5);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), SIZE);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), RING + 0x10000);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	/* Not agreed on: resets of queues. */
	negotiate(1ULL << VIRTIO_F_VERSION_1);
	place_queue(0);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 15);
	wr(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void test_queue_reset(void **state)
{
	drive();
	assert_int_equal(kernel.n, QUEUES);
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 64);
	wr(VIRTIO_PCI_COMMON_Q_RESET, 2, 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	wr(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	run_loop();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), SIZE);
	assert_int_equal(kernel.n, QUEUES - 1);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 32);
	place_queue(1);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 32);
	assert_int_equal(kernel.n, QUEUES);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 15);
}

static void test_config_space(void **state)
{
	assert_int_equal(rd(VPCI_DEVICE, 4), 0xa3a2a1a0);
	assert_int_equal(rd(VPCI_DEVICE + 9, 1), 0xa9);
	assert_int_equal(rd(VPCI_DEVICE + 10, 2), 0xabaa);
	assert_int_equal(rd(VPCI_DEVICE + CONFIG, 4), 0);
	assert_int_equal(rd(VPCI_DEVICE + 0xffc, 4), 0);
	wr(VPCI_DEVICE + 4, 2, 0x1234);
	assert_int_equal(toy->written_at, 4);
	assert_int_equal(toy->written_len, 2);
	assert_int_equal(rd(VPCI_DEVICE + 4, 2), 0x1234);
	toy->written_len = 0;
	wr(VPCI_DEVICE + CONFIG, 4, 0);
	wr(VPCI_DEVICE + 0xffc, 4, 0);
	assert_int_equal(toy->written_len, 0);
	virtio_config_changed(&toy->v);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), toy->v.state.generation);
}

static void test_vectors(void **state)
{
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i <= QUEUES; i++)
		program(i);
	drive();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	/* Without a vector nothing is told. */
	p->v->ops->used(p->v, 1);
	assert_int_equal(chip.messages, 0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, QUEUES);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), QUEUES);
	p->v->ops->used(p->v, 1);
	assert_int_equal(chip.messages, 1);
	assert_int_equal(chip.data, 0x40 + QUEUES);
	/* One that is not there reads back as none, and the old one is gone. */
	for (unsigned bad = QUEUES + 1; bad < 0x10000; bad = bad * 2 + 1) {
		wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, bad);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		wr(VIRTIO_PCI_COMMON_MSIX, 2, bad);
		assert_int_equal(rd(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	}
	p->v->ops->used(p->v, 1);
	assert_int_equal(chip.messages, 1);
	wr(VIRTIO_PCI_COMMON_MSIX, 2, 0);
	virtio_config_changed(&toy->v);
	run_loop();
	assert_int_equal(chip.messages, 2);
	assert_int_equal(chip.data, 0x40);
	assert_int_equal(level(), 0);
	/* The ISR tells of the configuration all the same, and not of queues. */
	assert_int_equal(rd(VPCI_ISR, 1), VIRTIO_PCI_ISR_CONFIG);
	/* A reset forgets them. */
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
}

static void lead(unsigned index, int fd)
{
	pthread_mutex_lock(&dev->lock);
	p->v->ops->call(p->v, index, fd);
	pthread_mutex_unlock(&dev->lock);
}

/* An eventfd takes the place of used(): it follows the queue's vector. */
static void test_calls(void **state)
{
	const int fds[2] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };

	assert_true(fds[0] >= 0 && fds[1] >= 0);
	drive();
	for (unsigned i = 0; i <= QUEUES; i++)
		program(i);
	/* MSI-X is off, and there is no vector. */
	lead(0, fds[0]);
	lead(1, fds[1]);
	assert_int_equal(route_of(fds[0]), 0);
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	assert_int_equal(route_of(fds[0]), 0);
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(route_of(fds[0]), 0x41);
	assert_int_equal(route_of(fds[1]), 0);
	/* Another vector, and none. */
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_int_equal(route_of(fds[0]), 0x42);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(route_of(fds[0]), 0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	/* A vector that two queues share has one eventfd; the other's is told by used(). */
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_int_equal(route_of(fds[0]), 0x42);
	assert_int_equal(route_of(fds[1]), 0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 3);
	assert_int_equal(route_of(fds[1]), 0x43);
	msix_control(0);
	assert_int_equal(route_of(fds[0]), 0);
	assert_int_equal(route_of(fds[1]), 0);
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(route_of(fds[0]), 0x42);
	assert_int_equal(route_of(fds[1]), 0x43);
	/* No more: nothing of the guest's brings them back. */
	lead(0, -1);
	assert_int_equal(route_of(fds[0]), 0);
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	assert_int_equal(route_of(fds[0]), 0);
	lead(1, fds[0]);
	assert_int_equal(route_of(fds[0]), 0x43);
	assert_int_equal(route_of(fds[1]), 0);
	lead(1, -1);
	assert_int_equal(route_of(fds[0]), 0);
	close(fds[0]);
	close(fds[1]);
}

static void test_wire(void **state)
{
	drive();
	p->v->ops->used(p->v, 0);
	assert_int_equal(level(), 1);
	p->v->ops->used(p->v, 2);
	assert_int_equal(chip.messages, 0);
	assert_int_equal(rd(VPCI_ISR + 1, 1), 0);
	wr(VPCI_ISR, 1, 0);
	assert_int_equal(level(), 1);
	assert_int_equal(rd(VPCI_ISR, 1), 1);
	assert_int_equal(level(), 0);
	assert_int_equal(rd(VPCI_ISR, 1), 0);
	virtio_config_changed(&toy->v);
	p->v->ops->used(p->v, 0);
	run_loop();
	assert_int_equal(level(), 1);
	assert_int_equal(rd(VPCI_ISR, 4), 3);
	assert_int_equal(level(), 0);
	/* On, and off again. */
	p->v->ops->used(p->v, 0);
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(level(), 0);
	msix_control(0);
	assert_int_equal(level(), 1);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	assert_int_equal(level(), 0);
	assert_int_equal(rd(VPCI_ISR, 1), 0);
}

static bool kicked(unsigned i)
{
	eventfd_t n;

	return eventfd_read(toy->v.queues[i]->kick, &n) == 0;
}

static void test_doorbells(void **state)
{
	assert_int_equal(kernel.n, 0);
	drive();
	assert_int_equal(kernel.n, QUEUES);
	assert_ptr_equal(kernel.region, p->ports ? &p->notify : &p->mem);
	assert_int_equal(kernel.last->offset, (p->ports ? 0 : VPCI_NOTIFY) + 4 * (QUEUES - 1));
	assert_false(kernel.last->match);
	assert_int_equal(kernel.last->fd, toy->v.queues[QUEUES - 1]->kick);
	/* They follow the BAR. */
	cfg_write(bed, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(kernel.n, 0);
	enable_decoding();
	assert_int_equal(kernel.n, QUEUES);
	/*
	 * And where there is no kernel to take them, the handler serves: each address its queue, whatever is written.
	 */
	run_loop();
	for (unsigned i = 0; i < QUEUES; i++)
		(void)kicked(i);
	wr(VPCI_NOTIFY + 4, 2, 0);
	assert_true(kicked(1));
	assert_false(kicked(0) || kicked(2));
	wr(VPCI_NOTIFY + 8, 4, 0xffff0001);
	assert_true(kicked(2));
	assert_int_equal(rd(VPCI_NOTIFY, 2), 0);
	assert_false(kicked(0));
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	assert_int_equal(kernel.n, 0);
}

static unsigned window;

static void aim(unsigned bar, uint32_t offset, uint32_t len)
{
	window = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	cfg_write(bed, SLOT, window + VIRTIO_PCI_CAP_BAR, 1, bar);
	cfg_write(bed, SLOT, window + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	cfg_write(bed, SLOT, window + VIRTIO_PCI_CAP_LENGTH, 4, len);
	window += sizeof(struct virtio_pci_cap);
}

/* Where the processor has ports, the same doorbells are there, and a driver finds these first. */
static void test_port_doorbells(void **state)
{
	unsigned at = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG), next = cfg(at + PCI_CAP_LIST_NEXT, 1);

	assert_int_equal(cfg(at + VIRTIO_PCI_CAP_BAR, 1), 2);
	assert_int_equal(cfg(at + VIRTIO_PCI_CAP_OFFSET, 4), 0);
	assert_int_equal(cfg(at + VIRTIO_PCI_CAP_LENGTH, 4), 4 * QUEUES);
	assert_int_equal(cfg(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
	assert_int_equal(cfg(next + VIRTIO_PCI_CAP_CFG_TYPE, 1), VIRTIO_PCI_CAP_NOTIFY_CFG);
	assert_int_equal(cfg(next + VIRTIO_PCI_CAP_BAR, 1), 4);
	drive();
	assert_int_equal(kernel.n, QUEUES);
	run_loop();
	for (unsigned i = 0; i < QUEUES; i++)
		(void)kicked(i);
	for (unsigned len = 1; len <= 4; len *= 2) {
		bed_write(bed, SPACE_PIO, notify + 4, len, 2);
		assert_true(kicked(1));
		assert_false(kicked(0) || kicked(2));
	}
	assert_int_equal(bed_read(bed, SPACE_PIO, notify, 2), 0);
	assert_false(kicked(0));
	assert_int_equal(kernel.n, QUEUES);
	/* In memory each is the kernel's from the second time on. */
	for (unsigned i = 0; i < 2; i++) {
		wr(VPCI_NOTIFY + 4, 2, 1);
		assert_true(kicked(1));
		assert_int_equal(kernel.n, QUEUES + 1);
		assert_ptr_equal(kernel.region, &p->mem);
		assert_int_equal(kernel.last->offset, VPCI_NOTIFY + 4);
	}
	wr(VPCI_NOTIFY + 4 * QUEUES, 2, 1);
	assert_int_equal(kernel.n, QUEUES + 1);
	assert_int_equal(faults(), 1);
	aim(2, 8, 2);
	cfg_write(bed, SLOT, window, 2, 0);
	assert_true(kicked(2));
	assert_int_equal(faults(), 0);
	aim(2, VPCI_MEM_SIZE - VPCI_NOTIFY, 2);
	cfg_write(bed, SLOT, window, 2, 0);
	assert_false(kicked(0) || kicked(1) || kicked(2));
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	run_loop();
	assert_int_equal(kernel.n, 0);
	wr(VPCI_NOTIFY + 4, 2, 1);
	assert_int_equal(kernel.n, 0);
}

static void test_window(void **state)
{
	/* With no BAR decoding. */
	drive();
	(void)faults();
	cfg_write(bed, SLOT, PCI_COMMAND, 2, 0);
	aim(4, VIRTIO_PCI_COMMON_NUMQ, 2);
	assert_int_equal(cfg(window, 4) & 0xffff, QUEUES);
	assert_int_equal(cfg(window, 2), QUEUES);
	assert_int_equal(cfg(window + 1, 1), 0);
	aim(4, VPCI_DEVICE + 8, 4);
	assert_int_equal(cfg(window, 4), 0xabaaa9a8);
	cfg_write(bed, SLOT, window, 4, 0x44332211);
	assert_int_equal(toy->written_at, 8);
	assert_int_equal(toy->written_len, 4);
	assert_int_equal(port_read(bed, SLOT, window, 4), 0x44332211);
	/* One byte of the four makes an access of the whole length. */
	port_write(bed, SLOT, window + 3, 1, 0x99);
	assert_int_equal(cfg(window, 4), 0x99332211);
	aim(4, VPCI_NOTIFY + 4, 2);
	(void)kicked(1);
	cfg_write(bed, SLOT, window, 2, 1);
	assert_true(kicked(1));
	/* Not to be done: kept, and no more. */
	toy->written_len = 0;
	for (unsigned len = 0; len < 10; len += 1 + 2 * (len == 2)) {
		aim(4, VPCI_DEVICE + 1, len);
		if (len != 1)
			cfg_write(bed, SLOT, window, 4, 0);
	}
	aim(0, VPCI_DEVICE, 4);
	cfg_write(bed, SLOT, window, 4, 0);
	aim(255, VPCI_DEVICE, 4);
	cfg_write(bed, SLOT, window, 4, 0);
	aim(4, VPCI_MEM_SIZE, 4);
	cfg_write(bed, SLOT, window, 4, 0x5a5a5a5a);
	assert_int_equal(cfg(window, 4), 0x5a5a5a5a);
	aim(4, 0xfffffffc, 4);
	cfg_write(bed, SLOT, window, 4, 0);
	assert_int_equal(toy->written_len, 0);
	assert_int_equal(faults(), 0);
}

static void legacy_drive(void)
{
	out(VIRTIO_PCI_STATUS, 1, 0);
	run_loop();
	out(VIRTIO_PCI_STATUS, 1, 1);
	out(VIRTIO_PCI_STATUS, 1, 3);
	out(VIRTIO_PCI_GUEST_FEATURES, 4, 1 << OWN);
	for (unsigned i = 0; i < QUEUES; i++) {
		out(VIRTIO_PCI_QUEUE_SEL, 2, i);
		out(VIRTIO_PCI_QUEUE_PFN, 4, (RING + 0x10000 * i) >> 12);
	}
	out(VIRTIO_PCI_STATUS, 1, 7);
}

static void test_legacy(void **state)
{
	const struct virtq_state *q = toy ? &toy->v.queues[1]->state : NULL;

	assert_true(in(VIRTIO_PCI_HOST_FEATURES, 4) & 1 << OWN);
	legacy_drive();
	assert_int_equal(faults(), 0);
	assert_int_equal(in(VIRTIO_PCI_STATUS, 1), 7);
	assert_int_equal(in(VIRTIO_PCI_GUEST_FEATURES, 4), 1 << OWN);
	out(VIRTIO_PCI_QUEUE_SEL, 2, 1);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_NUM, 2), SIZE);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_PFN, 4), (RING + 0x10000) >> 12);
	/* 2.7.2: 16 bytes a descriptor; the available ring behind them; the used ring on the next page. */
	assert_true(q->enabled && q->desc == RING + 0x10000);
	assert_true(q->driver == q->desc + 16 * SIZE);
	assert_true(q->device == q->desc + 0x1000);
	/* All queues by one port, told apart by what is written. */
	assert_int_equal(kernel.n, QUEUES);
	assert_ptr_equal(kernel.region, &p->io);
	assert_true(kernel.last->match && kernel.last->len == 2 && kernel.last->value == QUEUES - 1);
	assert_int_equal(kernel.last->offset, VIRTIO_PCI_QUEUE_NOTIFY);
	run_loop();
	for (unsigned i = 0; i < QUEUES; i++)
		(void)kicked(i);
	out(VIRTIO_PCI_QUEUE_NOTIFY, 2, 2);
	assert_true(kicked(2));
	assert_false(kicked(0) || kicked(1));
	/* 0 ends a queue; it may come again. */
	out(VIRTIO_PCI_QUEUE_PFN, 4, 0);
	run_loop();
	assert_int_equal(in(VIRTIO_PCI_QUEUE_PFN, 4), 0);
	assert_int_equal(kernel.n, QUEUES - 1);
	out(VIRTIO_PCI_QUEUE_PFN, 4, 0x100);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_PFN, 4), 0x100);
	assert_int_equal(kernel.n, QUEUES);
	out(VIRTIO_PCI_STATUS, 1, 0);
	run_loop();
	assert_int_equal(in(VIRTIO_PCI_STATUS, 1), 0);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_PFN, 4), 0);
	assert_int_equal(kernel.n, 0);
}

static void test_legacy_wire(void **state)
{
	legacy_drive();
	p->v->ops->used(p->v, 0);
	assert_int_equal(level(), 1);
	assert_int_equal(in(VIRTIO_PCI_STATUS, 1), 7);
	assert_int_equal(level(), 1);
	assert_int_equal(in(VIRTIO_PCI_ISR, 1), 1);
	assert_int_equal(level(), 0);
	assert_int_equal(in(VIRTIO_PCI_ISR, 1), 0);
	p->v->ops->used(p->v, 0);
	assert_int_equal(in(VIRTIO_PCI_STATUS, 2), 0x107);
	assert_int_equal(level(), 0);
}

/* The device's config space moves up while MSI-X is on, and the vectors are in between. */
static void test_legacy_config(void **state)
{
	assert_int_equal(in(20, 4), 0xa3a2a1a0);
	assert_int_equal(in(20 + CONFIG - 1, 1), 0xab);
	out(24, 1, 0x77);
	assert_int_equal(toy->written_at, 4);
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(in(VIRTIO_MSI_CONFIG_VECTOR, 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(in(24, 4), 0xa3a2a1a0);
	assert_int_equal(in(28, 1), 0x77);
	program(1);
	program(2);
	legacy_drive();
	out(VIRTIO_PCI_QUEUE_SEL, 2, 2);
	out(VIRTIO_MSI_QUEUE_VECTOR, 2, 2);
	assert_int_equal(in(VIRTIO_MSI_QUEUE_VECTOR, 2), 2);
	out(VIRTIO_MSI_CONFIG_VECTOR, 2, 1);
	assert_int_equal(in(VIRTIO_MSI_CONFIG_VECTOR, 2), 1);
	p->v->ops->used(p->v, 2);
	assert_int_equal(chip.data, 0x42);
	p->v->ops->config(p->v);
	assert_int_equal(chip.data, 0x41);
	out(VIRTIO_MSI_QUEUE_VECTOR, 2, QUEUES + 1);
	assert_int_equal(in(VIRTIO_MSI_QUEUE_VECTOR, 2), VIRTIO_MSI_NO_VECTOR);
	msix_control(0);
	assert_int_equal(in(20, 4), 0xa3a2a1a0);
}

static void test_legacy_wrong(void **state)
{
	legacy_drive();
	(void)faults();
	out(VIRTIO_PCI_QUEUE_PFN, 4, 1); /* enabled already */
	out(VIRTIO_PCI_QUEUE_SEL, 2, 0xffff);
	out(VIRTIO_PCI_QUEUE_PFN, 4, 1);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_NUM, 2), 0);
	assert_int_equal(in(VIRTIO_PCI_QUEUE_PFN, 4), 0);
	out(VIRTIO_PCI_QUEUE_NOTIFY, 2, QUEUES);
	out(VIRTIO_PCI_QUEUE_NOTIFY, 2, 0xffff);
	out(VIRTIO_PCI_QUEUE_NOTIFY, 1, 0);
	out(VIRTIO_PCI_QUEUE_NOTIFY, 4, 0);
	out(VIRTIO_PCI_QUEUE_PFN, 2, 0);
	out(VIRTIO_PCI_HOST_FEATURES, 4, 0);
	out(VIRTIO_PCI_QUEUE_NUM, 2, 1);
	out(VIRTIO_PCI_ISR, 1, 1);
	assert_int_equal(faults(), 10);
	assert_int_equal(in(VIRTIO_PCI_STATUS, 1), 7);
	/* Beyond the end of the device's config space, and of the BAR. */
	assert_int_equal(in(20 + CONFIG, 4), 0);
	assert_int_equal(in(24 + CONFIG, 4), UINT32_MAX);
	/* A page beyond RAM: the device needs a reset, and everything else stands. */
	out(VIRTIO_PCI_QUEUE_SEL, 2, 0);
	out(VIRTIO_PCI_QUEUE_PFN, 4, 0);
	run_loop();
	out(VIRTIO_PCI_QUEUE_PFN, 4, UINT32_MAX);
	run_loop();
	out(VIRTIO_PCI_STATUS, 1, 0);
	run_loop();
	assert_int_equal(in(VIRTIO_PCI_STATUS, 1), 0);
}

static void test_machine_reset(void **state)
{
	msix_control(PCI_MSIX_FLAGS_ENABLE);
	drive();
	wr(VIRTIO_PCI_COMMON_MSIX, 2, 1);
	virtio_pci_type.stop(dev);
	device_reset(dev);
	virtio_pci_type.start(dev);
	assert_int_equal(kernel.n, 0);
	assert_int_equal(rd(0, 4), UINT32_MAX);
	enable_decoding();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(rd(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	assert_false(msix_enabled(&p->msix));
	drive();
	assert_int_equal(rd(VIRTIO_PCI_COMMON_STATUS, 1), 15);
	assert_int_equal(kernel.n, QUEUES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ids, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_transitional_ids, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_no_legacy_id, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_capabilities, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_common, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_indices, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_widths, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_orders, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_queue_reset, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_config_space, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_vectors, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_calls, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_wire, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_doorbells, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_doorbells, with_ports, tear_down),
		cmocka_unit_test_setup_teardown(test_port_doorbells, with_ports, tear_down),
		cmocka_unit_test_setup_teardown(test_window, modern, tear_down),
		cmocka_unit_test_setup_teardown(test_legacy, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_legacy_wire, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_legacy_config, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_legacy_wrong, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_machine_reset, modern, tear_down),
		/* A transitional device is a modern one too. */
		cmocka_unit_test_setup_teardown(test_common, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_vectors, transitional, tear_down),
		cmocka_unit_test_setup_teardown(test_doorbells, transitional, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
