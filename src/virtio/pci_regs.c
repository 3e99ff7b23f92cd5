/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci_regs.c - the registers of virtio over PCI: the structures of 4.1.4, and the legacy interface of 4.1.4.10.
 *
 * What is read has no side effects but for the ISR, so a read of any width is cut out of an image of all registers. A
 * write counts only with the width of the register that it hits (4.1.3.1); others vanish, and are counted.
 */
#include <endian.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <string.h>

#include "bus/width.h"
#include "virtio/pci_inner.h"

/* 4.1.4.3, with what came after the kernel's header for it. */
struct common {
	struct virtio_pci_common_cfg cfg;
	__le16 notify_data, queue_reset;
};

_Static_assert(sizeof(struct virtio_pci_common_cfg) == 56, "as far as version 1.0 went");
_Static_assert(offsetof(struct common, queue_reset) == VIRTIO_PCI_COMMON_Q_RESET, "queue_reset");

/* The legacy header, with the vectors that are there while MSI-X is on. */
struct legacy {
	__le32 device_features, driver_features, pfn;
	__le16 queue_size, queue_select, notify;
	uint8_t status, isr;
	__le16 config_vector, queue_vector;
} __attribute__((packed));

_Static_assert(sizeof(struct legacy) == VIRTIO_PCI_CONFIG_OFF(1), "the legacy header");
_Static_assert(offsetof(struct legacy, config_vector) == VIRTIO_PCI_CONFIG_OFF(0), "without vectors");

static void guest_fault(struct vpci *p)
{
	__atomic_fetch_add(&p->v->vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static struct virtio_queue *queue_at(const struct vpci *p, unsigned index)
{
	return index < p->v->nr_queues ? p->v->queues[index] : NULL;
}

static struct virtio_queue *selected(const struct vpci *p)
{
	return queue_at(p, p->state.queue_select);
}

/* 4.1.5.1.2.1: what there is no vector for reads back as such. */
static uint16_t vector_of(const struct vpci *p, uint64_t vector)
{
	return vector < p->msix.n ? (uint16_t)vector : VIRTIO_MSI_NO_VECTOR;
}

static void set_queue_vector(struct vpci *p, uint64_t vector)
{
	if (!selected(p)) {
		guest_fault(p);
		return;
	}
	__atomic_store_n(&selected(p)->state.vector, vector_of(p, vector), __ATOMIC_RELAXED);
	vpci_follow_call(p, p->state.queue_select);
}

static void set_config_vector(struct vpci *p, uint64_t vector)
{
	__atomic_store_n(&p->state.config_vector, vector_of(p, vector), __ATOMIC_RELAXED);
}

/* Read to clear; the wire follows (4.1.4.5). */
static uint8_t take_isr(struct vpci *p)
{
	uint8_t isr = p->v->state.isr;

	p->v->state.isr = 0;
	pci_intx(&p->fn, false);
	return isr;
}

void vpci_notify(struct vpci *p, uint64_t index)
{
	if (index < p->v->nr_queues)
		virtio_kick(p->v, (unsigned)index);
	else
		guest_fault(p);
}

/* `len` bytes at `at` of an image that is `size` bytes long; zeros beyond. */
static uint64_t cut(const void *image, size_t size, uint64_t at, unsigned len)
{
	uint8_t bytes[8] = { 0 };

	if (at < size)
		memcpy(bytes, (const uint8_t *)image + at, len < size - at ? len : size - at);
	return load_value(bytes, len);
}

/* ---- common configuration ---- */

static void common_read(struct vpci *p, struct trap *trap)
{
	struct virtio *v = p->v;
	const struct virtio_queue *q = selected(p);
	const uint32_t ds = p->state.device_select, gs = p->state.driver_select;
	struct common image = {
		.cfg = {
			.device_feature_select = htole32(ds),
			.device_feature = htole32(ds < 2 ? virtio_offered(v, ds, false) : 0),
			.guest_feature_select = htole32(gs),
			.guest_feature = htole32(gs < 2 ? (uint32_t)(v->state.features >> 32 * gs) : 0),
			.msix_config = htole16(p->state.config_vector),
			.num_queues = htole16((uint16_t)v->nr_queues),
			.device_status = virtio_status(v),
			.config_generation = v->state.generation,
			.queue_select = htole16(p->state.queue_select),
			.queue_msix_vector = htole16(VIRTIO_MSI_NO_VECTOR),
		},
	};

	if (q) {
		const struct virtq_state *s = &q->state;

		image.cfg.queue_size = htole16(s->size);
		image.cfg.queue_msix_vector = htole16(s->vector);
		image.cfg.queue_enable = htole16(s->enabled);
		image.cfg.queue_notify_off = htole16(p->state.queue_select);
		image.cfg.queue_desc_lo = htole32((uint32_t)s->desc);
		image.cfg.queue_desc_hi = htole32((uint32_t)(s->desc >> 32));
		image.cfg.queue_avail_lo = htole32((uint32_t)s->driver);
		image.cfg.queue_avail_hi = htole32((uint32_t)(s->driver >> 32));
		image.cfg.queue_used_lo = htole32((uint32_t)s->device);
		image.cfg.queue_used_hi = htole32((uint32_t)(s->device >> 32));
		image.queue_reset = htole16(!q->quiet);
	}
	trap->value = cut(&image, sizeof(image), trap->offset, trap->len);
}

static unsigned common_width(uint64_t offset)
{
	if (offset < VIRTIO_PCI_COMMON_MSIX ||
		(offset >= VIRTIO_PCI_COMMON_Q_DESCLO && offset < VIRTIO_PCI_COMMON_Q_NDATA))
		return 4;
	return offset == VIRTIO_PCI_COMMON_STATUS || offset == VIRTIO_PCI_COMMON_CFGGENERATION ? 1 : 2;
}

static void set_half(uint64_t *address, bool high, uint64_t value)
{
	if (high)
		*address = (*address & UINT32_MAX) | value << 32;
	else
		*address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

/* What a queue is, which stands while it is enabled. */
static void queue_write(struct vpci *p, uint64_t offset, uint64_t value)
{
	struct virtio_queue *q = selected(p);

	if (!q || q->state.enabled) {
		guest_fault(p);
		return;
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		q->state.size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&q->state.desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&q->state.driver, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&q->state.device, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	default:
		/* queue_enable: a driver never writes 0 (4.1.4.3.2). */
		if (value == 1)
			virtio_enable_queue(p->v, p->state.queue_select);
		else
			guest_fault(p);
	}
}

static void reset_queue(struct vpci *p, uint64_t value)
{
	if (value == 1 && selected(p) && virtio_has(p->v, VIRTIO_F_RING_RESET))
		virtio_reset_queue(p->v, p->state.queue_select);
	else
		guest_fault(p);
}

static void common_write(struct vpci *p, const struct trap *trap)
{
	uint64_t value = trap->value;

	if (trap->len != common_width(trap->offset) || trap->offset % trap->len) {
		guest_fault(p);
		return;
	}
	switch (trap->offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		p->state.device_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		p->state.driver_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (p->state.driver_select < 2)
			virtio_set_features(p->v, p->state.driver_select, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		set_config_vector(p, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(p->v, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		p->state.queue_select = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		set_queue_vector(p, value);
		break;
	case VIRTIO_PCI_COMMON_Q_RESET:
		reset_queue(p, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_DESCLO ... VIRTIO_PCI_COMMON_Q_USEDHI:
		queue_write(p, trap->offset, value);
		break;
	default: /* read-only */
		guest_fault(p);
	}
}

/* ---- the rest of the memory BAR ---- */

static void device_access(struct vpci *p, struct trap *trap, uint64_t offset)
{
	uint8_t bytes[8] = { 0 };

	if (trap->write) {
		store_value(bytes, trap->value, trap->len);
		virtio_config_write(p->v, (unsigned)offset, trap->len, bytes);
	} else {
		virtio_config_read(p->v, (unsigned)offset, trap->len, bytes);
		trap->value = load_value(bytes, trap->len);
	}
}

void vpci_mem_access(struct vpci *p, struct trap *trap)
{
	uint64_t offset = trap->offset;

	if (offset >= VPCI_NOTIFY) {
		/* The place says which queue, whatever is written; there is nothing to read. */
		if (trap->write)
			vpci_notify(p, (offset - VPCI_NOTIFY) / VPCI_NOTIFY_STEP);
		else
			trap->value = 0;
	} else if (offset >= VPCI_DEVICE) {
		device_access(p, trap, offset - VPCI_DEVICE);
	} else if (offset >= VPCI_ISR) {
		if (!trap->write)
			trap->value = offset == VPCI_ISR ? take_isr(p) : 0;
	} else if (trap->write) {
		common_write(p, trap);
	} else {
		common_read(p, trap);
	}
}

/* ---- legacy ---- */

static void legacy_read(struct vpci *p, struct trap *trap, unsigned header)
{
	struct virtio *v = p->v;
	const struct virtio_queue *q = selected(p);
	struct legacy image = {
		.device_features = htole32(virtio_offered(v, 0, true)),
		.driver_features = htole32((uint32_t)v->state.features),
		.queue_select = htole16(p->state.queue_select),
		.status = virtio_status(v),
		.config_vector = htole16(p->state.config_vector),
		.queue_vector = htole16(q ? q->state.vector : VIRTIO_MSI_NO_VECTOR),
	};

	if (q) {
		image.queue_size = htole16(q->q.max);
		image.pfn = htole32(q->state.enabled ? (uint32_t)(q->state.desc >> VIRTIO_PCI_QUEUE_ADDR_SHIFT) : 0);
	}
	if (trap->offset <= VIRTIO_PCI_ISR && trap->offset + trap->len > VIRTIO_PCI_ISR)
		image.isr = take_isr(p);
	trap->value = cut(&image, header, trap->offset, trap->len);
}

/* One address says where all three parts are (2.7.2); 0 ends the queue. The size is the device's choice. */
static void set_pfn(struct vpci *p, uint32_t pfn)
{
	struct virtio_queue *q = selected(p);
	const uint64_t page = VIRTIO_PCI_VRING_ALIGN;
	struct virtq_state *s;

	if (!q || (pfn && q->state.enabled)) {
		guest_fault(p);
		return;
	}
	if (!pfn) {
		virtio_reset_queue(p->v, p->state.queue_select);
		return;
	}
	s = &q->state;
	s->size = q->q.max;
	s->desc = (uint64_t)pfn << VIRTIO_PCI_QUEUE_ADDR_SHIFT;
	s->driver = s->desc + 16ULL * s->size;
	s->device = (s->driver + 6 + 2ULL * s->size + page - 1) & ~(page - 1);
	virtio_enable_queue(p->v, p->state.queue_select);
}

static unsigned legacy_width(uint64_t offset)
{
	if (offset < VIRTIO_PCI_QUEUE_NUM)
		return 4;
	return offset == VIRTIO_PCI_STATUS || offset == VIRTIO_PCI_ISR ? 1 : 2;
}

static void legacy_write(struct vpci *p, const struct trap *trap)
{
	uint64_t value = trap->value;

	if (trap->len != legacy_width(trap->offset) || trap->offset % trap->len) {
		guest_fault(p);
		return;
	}
	switch (trap->offset) {
	case VIRTIO_PCI_GUEST_FEATURES:
		virtio_set_features(p->v, 0, (uint32_t)value);
		break;
	case VIRTIO_PCI_QUEUE_PFN:
		set_pfn(p, (uint32_t)value);
		break;
	case VIRTIO_PCI_QUEUE_SEL:
		p->state.queue_select = (uint16_t)value;
		break;
	case VIRTIO_PCI_QUEUE_NOTIFY:
		vpci_notify(p, value);
		break;
	case VIRTIO_PCI_STATUS:
		virtio_set_status(p->v, (uint8_t)value);
		break;
	case VIRTIO_MSI_CONFIG_VECTOR:
		set_config_vector(p, value);
		break;
	case VIRTIO_MSI_QUEUE_VECTOR:
		set_queue_vector(p, value);
		break;
	default: /* read-only */
		guest_fault(p);
	}
}

void vpci_legacy_access(struct vpci *p, struct trap *trap)
{
	unsigned header = VIRTIO_PCI_CONFIG_OFF(msix_enabled(&p->msix));

	if (trap->offset >= header)
		device_access(p, trap, trap->offset - header);
	else if (trap->write)
		legacy_write(p, trap);
	else
		legacy_read(p, trap, header);
}
