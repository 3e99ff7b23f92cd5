/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mmio.c - virtio over memory-mapped registers: version 2, and version 1 for drivers of before 1.0 (virtio 1.2, 4.2).
 *
 * Registers are 32 bits wide; the device's config space, behind them, is read in any width up to that. The wire is
 * level-triggered: up while the interrupt status is not 0.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/virtio.h"

#define MAGIC        0x74726976 /* "virt" */
#define VENDOR       0x50415254 /* "TRAP" */
#define REGION_SIZE  0x200
#define QUEUE_RESET  0x0c0 /* not in the kernel's header */
#define LEGACY_ALIGN 4096  /* of the used ring, where a driver does not say */

struct mmio_state {
	uint32_t features_sel, driver_features_sel, queue_sel;
	uint32_t page_size;            /* version 1 */
	uint32_t align[VIRTIO_QUEUES]; /* likewise */
	uint32_t pfn[VIRTIO_QUEUES];   /* likewise */
};

static const struct field mmio_fields[] = {
	FIELD(struct mmio_state, features_sel),
	FIELD(struct mmio_state, driver_features_sel),
	FIELD(struct mmio_state, queue_sel),
	/* A driver's reset leaves it: Linux tells it once, and resets the device then. */
	FIELD(struct mmio_state, page_size, .keep = true),
	FIELD_ARRAY(struct mmio_state, align, .reset = LEGACY_ALIGN),
	FIELD_ARRAY(struct mmio_state, pfn),
	FIELD_END,
};

struct mmio {
	struct device dev;
	struct region region;
	struct irq irq;
	struct mmio_state state;
	struct virtio *v;
	bool legacy;
	struct doorbell bells[VIRTIO_QUEUES];
};

static struct mmio *mmio_of(struct virtio *v)
{
	return container_of(v->transport, struct mmio, dev);
}

static void mmio_fault(struct mmio *m)
{
	__atomic_fetch_add(&m->dev.vm->guest_faults, 1, __ATOMIC_RELAXED);
}

/* ---- what device.c calls ---- */

static void update_wire(struct mmio *m)
{
	irq_set(&m->irq, m->v->state.isr != 0);
}

static void interrupt(struct virtio *v, uint8_t why)
{
	struct mmio *m = mmio_of(v);

	pthread_mutex_lock(&m->dev.lock);
	v->state.isr |= why;
	update_wire(m);
	pthread_mutex_unlock(&m->dev.lock);
}

static void mmio_used(struct virtio *v, unsigned index)
{
	interrupt(v, VIRTIO_MMIO_INT_VRING);
}

static void mmio_config(struct virtio *v)
{
	interrupt(v, VIRTIO_MMIO_INT_CONFIG);
}

static void mmio_enabled(struct virtio *v, unsigned index, bool on)
{
	struct mmio *m = mmio_of(v);
	struct doorbell *bell = &m->bells[index];

	if (!on) {
		bus_disarm(m->dev.vm->bus, bell);
		return;
	}
	*bell = (struct doorbell){ .offset = VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.match = true,
		.value = index,
		.fd = v->queues[index]->kick };
	/* Without it, the handler serves. */
	(void)!bus_arm(m->dev.vm->bus, &m->region, bell);
}

static void mmio_reset_over(struct virtio *v)
{
	struct mmio *m = mmio_of(v);

	field_reset(mmio_fields, &m->state);
	update_wire(m);
}

static const struct virtio_transport_ops mmio_ops = {
	.used = mmio_used,
	.config = mmio_config,
	.broken = mmio_config,
	.enabled = mmio_enabled,
	.reset = mmio_reset_over,
};

/* ---- registers, with the device's lock held ---- */

/* The selected one, or NULL. */
static struct virtio_queue *selected(struct mmio *m)
{
	return m->state.queue_sel < m->v->nr_queues ? m->v->queues[m->state.queue_sel] : NULL;
}

/* NULL, and counted: a queue that is not there, or that the driver may not set up any more. */
static struct virtq_state *settable(struct mmio *m)
{
	struct virtio_queue *vq = selected(m);

	if (vq && !vq->state.enabled && vq->quiet)
		return &vq->state;
	mmio_fault(m);
	return NULL;
}

static void set_low(uint64_t *value, uint32_t low)
{
	*value = (*value & ~(uint64_t)UINT32_MAX) | low;
}

static void set_high(uint64_t *value, uint32_t high)
{
	*value = (*value & UINT32_MAX) | (uint64_t)high << 32;
}

/* Those that both versions have. */
static uint32_t read_common(struct mmio *m, uint64_t offset)
{
	struct virtio *v = m->v;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return m->legacy ? 1 : 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return v->type->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_offered(v, m->state.features_sel, m->legacy);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return selected(m) ? selected(m)->q.max : 0;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return v->state.isr;
	case VIRTIO_MMIO_STATUS:
		return virtio_status(v);
	default:
		return 0;
	}
}

static uint32_t read_register(struct mmio *m, uint64_t offset)
{
	struct virtio_queue *vq = selected(m);

	if (m->legacy)
		return offset == VIRTIO_MMIO_QUEUE_PFN && vq ? m->state.pfn[vq->index] : read_common(m, offset);
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_READY:
		return vq ? vq->state.enabled : 0;
	case QUEUE_RESET:
		return vq && !vq->quiet;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no shared memory, whichever is selected (4.2.2) */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return m->v->state.generation;
	default:
		return read_common(m, offset);
	}
}

static void write_size(struct mmio *m, uint32_t value)
{
	struct virtq_state *q = settable(m);

	if (!q)
		return;
	if (value == 0 || value > selected(m)->q.max)
		mmio_fault(m);
	else
		q->size = (uint16_t)value;
}

static void write_ready(struct mmio *m, uint32_t value)
{
	if (value == 1)
		virtio_enable_queue(m->v, m->state.queue_sel);
	else if (value == 0)
		virtio_reset_queue(m->v, m->state.queue_sel);
	else
		mmio_fault(m);
}

static void write_address(struct mmio *m, uint64_t offset, uint32_t value)
{
	struct virtq_state *q = settable(m);

	if (!q)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&q->desc, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&q->desc, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		set_low(&q->driver, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_high(&q->driver, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		set_low(&q->device, value);
		break;
	default:
		set_high(&q->device, value);
	}
}

/* 4.2.4: the three parts in one piece, the used ring on a bound of its own; 0 takes the queue back. */
static void write_pfn(struct mmio *m, uint32_t pfn)
{
	struct virtio_queue *vq = selected(m);
	struct virtq_state *q;
	uint64_t align;

	if (vq && pfn == 0) {
		m->state.pfn[vq->index] = 0;
		virtio_reset_queue(m->v, vq->index);
		return;
	}
	q = settable(m);
	if (!q)
		return;
	align = m->state.align[vq->index];
	if (!m->state.page_size) {
		mmio_fault(m);
		return;
	}
	q->desc = (uint64_t)pfn * m->state.page_size;
	q->driver = q->desc + sizeof(struct vring_desc) * q->size;
	/* Flags, index, ring, and the event's index. */
	q->device = q->driver + sizeof(uint16_t) * (3ULL + q->size);
	q->device = (q->device + align - 1) & ~(align - 1);
	m->state.pfn[vq->index] = pfn;
	virtio_enable_queue(m->v, vq->index);
}

static void write_align(struct mmio *m, uint32_t value)
{
	if (!settable(m))
		return;
	if (value && !(value & (value - 1)))
		m->state.align[m->state.queue_sel] = value;
	else
		mmio_fault(m);
}

static void write_common(struct mmio *m, uint64_t offset, uint32_t value)
{
	struct virtio *v = m->v;

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->state.features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->state.driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_set_features(v, m->state.driver_features_sel, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->state.queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
		write_size(m, value);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_kick(v, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		v->state.isr &= (uint8_t)~value;
		update_wire(m);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(v, (uint8_t)value);
		break;
	default:
		mmio_fault(m); /* read-only, or nothing */
	}
}

static void write_register(struct mmio *m, uint64_t offset, uint32_t value)
{
	if (m->legacy && offset == VIRTIO_MMIO_GUEST_PAGE_SIZE)
		m->state.page_size = value;
	else if (m->legacy && offset == VIRTIO_MMIO_QUEUE_ALIGN)
		write_align(m, value);
	else if (m->legacy && offset == VIRTIO_MMIO_QUEUE_PFN)
		write_pfn(m, value);
	else if (!m->legacy && offset == VIRTIO_MMIO_QUEUE_READY)
		write_ready(m, value);
	else if (!m->legacy && offset >= VIRTIO_MMIO_QUEUE_DESC_LOW && offset <= VIRTIO_MMIO_QUEUE_USED_HIGH)
		write_address(m, offset, value);
	else if (!m->legacy && offset == VIRTIO_MMIO_SHM_SEL)
		; /* there is none */
	else if (!m->legacy && offset == QUEUE_RESET && value == 1 && virtio_has(m->v, VIRTIO_F_RING_RESET))
		virtio_reset_queue(m->v, m->state.queue_sel);
	else
		write_common(m, offset, value);
}

static void access_config(struct mmio *m, struct trap *trap)
{
	unsigned offset = (unsigned)(trap->offset - VIRTIO_MMIO_CONFIG);
	uint8_t bytes[8];

	if (trap->write) {
		for (unsigned i = 0; i < trap->len; i++)
			bytes[i] = (uint8_t)(trap->value >> 8 * i);
		virtio_config_write(m->v, offset, trap->len, bytes);
		return;
	}
	virtio_config_read(m->v, offset, trap->len, bytes);
	trap->value = 0;
	for (unsigned i = 0; i < trap->len; i++)
		trap->value |= (uint64_t)bytes[i] << 8 * i;
}

static void mmio_trap(void *arg, struct trap *trap)
{
	struct mmio *m = arg;

	if (trap->offset >= VIRTIO_MMIO_CONFIG)
		access_config(m, trap);
	else if (trap->len != 4)
		mmio_fault(m); /* 4.2.2.2; a read is all ones */
	else if (trap->write)
		write_register(m, trap->offset, (uint32_t)trap->value);
	else
		trap->value = read_register(m, trap->offset);
}

/* ---- the machine's side ---- */

struct virtio *virtio_mmio_carries(struct device *dev)
{
	return container_of(dev, struct mmio, dev)->v;
}

static void mmio_stop(struct device *dev)
{
	virtio_stop(container_of(dev, struct mmio, dev)->v);
}

static bool mmio_pause(struct device *dev)
{
	return virtio_pause(container_of(dev, struct mmio, dev)->v);
}

static void mmio_resume(struct device *dev)
{
	virtio_resume(container_of(dev, struct mmio, dev)->v);
}

static void mmio_reset(struct device *dev)
{
	struct mmio *m = container_of(dev, struct mmio, dev);

	m->state.page_size = 0;
	virtio_power_on(m->v);
}

static void mmio_destroy(struct device *dev)
{
	struct mmio *m = container_of(dev, struct mmio, dev);

	if (!virtio_destroy(m->v))
		return;
	device_fini(dev);
	free(m);
}

static int mmio_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct virtio_config *c = config;
	struct mmio *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&m->dev, &virtio_mmio_type, vm, name);
	device_region(&m->dev, &m->region, "registers", REGION_SIZE, WIDTH_1 | WIDTH_2 | WIDTH_4, mmio_trap);
	device_irq(&m->dev, &m->irq, "interrupt", IRQ_LEVEL);
	m->legacy = c->legacy;
	r = c->type->create(vm, name, c->config, &m->v, err);
	if (r) {
		device_fini(&m->dev);
		free(m);
		return r;
	}
	virtio_attach(m->v, &m->dev, &mmio_ops);
	m->v->legacy = c->legacy;
	*out = &m->dev;
	return 0;
}

const struct device_type virtio_mmio_type = {
	.name = "virtio-mmio",
	.acpi_hid = "LNRO0005",
	.state = mmio_fields,
	.state_offset = offsetof(struct mmio, state),
	.create = mmio_create,
	.stop = mmio_stop,
	.pause = mmio_pause,
	.resume = mmio_resume,
	.reset = mmio_reset,
	.destroy = mmio_destroy,
};
