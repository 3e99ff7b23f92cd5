/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci.c - virtio over PCI (virtio 1.2, section 4.1): modern, and transitional with the legacy interface beside it.
 *
 * BAR 0 is the legacy interface's ports, where there is one; BAR 1 has MSI-X's table; BAR 4, of 64 bits, has the
 * structures that the capabilities point to, doorbells among them: each queue has an address of its own, where a write
 * of any width becomes a signal of the queue's eventfd in the kernel. A legacy driver writes all queues' numbers to one
 * port, so its doorbells match the value.
 *
 * Where the processor has ports, BAR 2 has the same doorbells once more, and the capability that tells of them comes
 * first, for a driver takes the first that it can use (4.1.4.1): the exit for a port says what is written where, while
 * for memory KVM has to read and decode the guest's instruction. One in memory then becomes a signal when somebody has
 * rung it for the first time; mostly nobody does.
 *
 * Used buffers are told by MSI-X, or, while that is off, by the ISR and the function's wire. The ISR must be read by
 * every handler, which traps anyway and takes the wire down: an eventfd with resampling would save nothing there.
 *
 * Interrupts come from queues' threads. Vectors are read atomically, MSI-X has a lock of its own, and the ISR and the
 * wire are under the device's.
 */
#include <errno.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#include "bus/width.h"
#include "virtio/pci_inner.h"

enum { BAR_IO = 0, BAR_MSIX = 1, BAR_NOTIFY = 2, BAR_MEM = 4 };

#define VENDOR           0x1af4
#define MODERN_DEVICE    0x1040 /* and the device type's number */
#define MODERN_REVISION  1
#define MODERN_SUBSYSTEM 0x40 /* 4.1.2.1: at least this, so that no legacy driver takes it */
#define ISR_QUEUE        1
#define COMMON_SIZE      (VIRTIO_PCI_COMMON_Q_RESET + 2)

static const struct field vpci_fields[] = {
	PCI_CONFIG_FIELD(struct vpci_state, config),
	FIELD(struct vpci_state, device_select),
	FIELD(struct vpci_state, driver_select),
	FIELD(struct vpci_state, queue_select),
	FIELD(struct vpci_state, config_vector, .reset = VIRTIO_MSI_NO_VECTOR),
	FIELD_ARRAY(struct vpci_state, window),
	MSIX_FIELDS(struct vpci_state, msix),
	FIELD_END,
};

static struct vpci *to_vpci(struct device *dev)
{
	return container_of(dev, struct vpci, fn.dev);
}

/* ---- interrupts ---- */

static void raise_intx(struct vpci *p, uint8_t bit)
{
	pthread_mutex_lock(&p->fn.dev.lock);
	p->v->state.isr |= bit;
	pci_intx(&p->fn, true);
	pthread_mutex_unlock(&p->fn.dev.lock);
}

static void send_vector(struct vpci *p, const uint16_t *vector)
{
	uint16_t n = __atomic_load_n(vector, __ATOMIC_RELAXED);

	if (n != VIRTIO_MSI_NO_VECTOR)
		msix_send(&p->msix, n);
}

static void used(struct virtio *v, unsigned index)
{
	struct vpci *p = to_vpci(v->transport);

	if (msix_enabled(&p->msix))
		send_vector(p, &v->queues[index]->state.vector);
	else
		raise_intx(p, ISR_QUEUE);
}

/* The ISR tells of these with MSI-X too (4.1.4.5.1). */
static void config_changed(struct virtio *v)
{
	struct vpci *p = to_vpci(v->transport);

	raise_intx(p, VIRTIO_PCI_ISR_CONFIG);
	if (msix_enabled(&p->msix))
		send_vector(p, &p->state.config_vector);
}

static void was_reset(struct virtio *v)
{
	struct vpci *p = to_vpci(v->transport);

	__atomic_store_n(&p->state.config_vector, VIRTIO_MSI_NO_VECTOR, __ATOMIC_RELAXED);
	v->state.isr = 0;
	pci_intx(&p->fn, false);
}

/* ---- doorbells ---- */

/* Where it cannot be, the register's handler serves. */
static void arm(struct vpci *p, struct region *region, struct doorbell *bell, const struct doorbell *as)
{
	*bell = *as;
	if (bus_arm(p->v->vm->bus, region, bell))
		bell->fd = -1;
}

static void arm_in_memory(struct vpci *p, unsigned index)
{
	const struct doorbell as = { .fd = p->v->queues[index]->kick,
		.offset = VPCI_NOTIFY + VPCI_NOTIFY_STEP * index };

	arm(p, &p->mem, &p->bells[index], &as);
}

static void queue_enabled(struct virtio *v, unsigned index, bool on)
{
	struct vpci *p = to_vpci(v->transport);
	bool modern = virtio_has(v, VIRTIO_F_VERSION_1);
	struct doorbell as = { .fd = v->queues[index]->kick, .offset = VPCI_NOTIFY_STEP * index };

	bus_disarm(v->vm->bus, &p->bells[index]);
	bus_disarm(v->vm->bus, &p->port_bells[index]);
	__atomic_fetch_and(&p->due, ~(1ULL << index), __ATOMIC_RELAXED);
	if (!on || !(modern || p->legacy))
		return;
	if (!modern) {
		as.offset = VIRTIO_PCI_QUEUE_NOTIFY;
		as.len = 2;
		as.match = true;
		as.value = index;
		arm(p, &p->io, &p->port_bells[index], &as);
		return;
	}
	if (p->ports) {
		arm(p, &p->notify, &p->port_bells[index], &as);
		__atomic_fetch_or(&p->due, 1ULL << index, __ATOMIC_RELAXED);
	} else {
		arm_in_memory(p, index);
	}
}

/* A doorbell in memory was rung, and the handler has served. */
static void rung(struct vpci *p, uint64_t index)
{
	uint64_t bit = index < VIRTIO_QUEUES ? 1ULL << index : 0;

	if (!(__atomic_load_n(&p->due, __ATOMIC_RELAXED) & bit))
		return;
	pthread_mutex_lock(&p->fn.dev.lock);
	if (__atomic_fetch_and(&p->due, ~bit, __ATOMIC_RELAXED) & bit)
		arm_in_memory(p, (unsigned)index);
	pthread_mutex_unlock(&p->fn.dev.lock);
}

/* ---- eventfds that interrupt ---- */

void vpci_follow_call(struct vpci *p, unsigned index)
{
	struct vpci_call *call = &p->calls[index];
	uint16_t vector = call->fd >= 0 ? p->v->queues[index]->state.vector : VIRTIO_MSI_NO_VECTOR;

	if (vector == call->vector)
		return;
	if (call->vector != VIRTIO_MSI_NO_VECTOR)
		msix_disarm(&p->msix, call->vector);
	/*
	 * A vector that queues share is armed for one of them; who called watches
	 * for the others, as while MSI-X is off.
	 */
	if (vector != VIRTIO_MSI_NO_VECTOR && msix_arm(&p->msix, vector, call->fd))
		vector = VIRTIO_MSI_NO_VECTOR;
	call->vector = vector;
}

static void queue_call(struct virtio *v, unsigned index, int fd)
{
	struct vpci *p = to_vpci(v->transport);

	/* Another fd, perhaps for the same vector. */
	p->calls[index].fd = -1;
	vpci_follow_call(p, index);
	p->calls[index].fd = fd;
	vpci_follow_call(p, index);
}

static const struct virtio_transport_ops vpci_ops = {
	.used = used,
	.config = config_changed,
	.broken = config_changed,
	.enabled = queue_enabled,
	.call = queue_call,
	.reset = was_reset,
};

/* ---- BARs and the window in config space ---- */

/* The lock is taken here, since kicks need none. */
static void mem_trap(void *dev, struct trap *trap)
{
	struct vpci *p = to_vpci(dev);

	if (trap->offset >= VPCI_NOTIFY) {
		vpci_mem_access(p, trap);
		if (trap->write)
			rung(p, (trap->offset - VPCI_NOTIFY) / VPCI_NOTIFY_STEP);
		return;
	}
	pthread_mutex_lock(&p->fn.dev.lock);
	vpci_mem_access(p, trap);
	pthread_mutex_unlock(&p->fn.dev.lock);
}

static void notify_trap(void *dev, struct trap *trap)
{
	trap->offset += VPCI_NOTIFY;
	vpci_mem_access(to_vpci(dev), trap);
}

static void io_trap(void *dev, struct trap *trap)
{
	vpci_legacy_access(to_vpci(dev), trap);
}

/* What the capability in front of the window says: an access to the memory BAR, or nothing that can be done. */
static bool window_target(struct pci_function *fn, struct trap *trap)
{
	struct pci_bus *bus = __atomic_load_n(&fn->bus, __ATOMIC_ACQUIRE);
	unsigned cap = fn->window - sizeof(struct virtio_pci_cap);
	uint32_t bar, offset, len;

	if (!bus)
		return false;
	bar = pci_config_read(bus, fn->devfn, cap + VIRTIO_PCI_CAP_BAR, 1);
	offset = pci_config_read(bus, fn->devfn, cap + VIRTIO_PCI_CAP_OFFSET, 4);
	len = pci_config_read(bus, fn->devfn, cap + VIRTIO_PCI_CAP_LENGTH, 4);
	if ((len != 1 && len != 2 && len != 4) || offset % len)
		return false;
	if (bar == BAR_NOTIFY && to_vpci(&fn->dev)->ports && offset < VPCI_MEM_SIZE - VPCI_NOTIFY)
		offset += VPCI_NOTIFY;
	else if (bar != BAR_MEM || offset >= VPCI_MEM_SIZE)
		return false;
	*trap = (struct trap){ .offset = offset, .len = (uint8_t)len };
	return true;
}

/* 4.1.4.9: for those who cannot reach a BAR yet, firmware above all. */
static void window_access(struct pci_function *fn, unsigned offset, unsigned len, uint32_t *value, bool write)
{
	struct vpci *p = to_vpci(&fn->dev);
	struct trap trap;

	pthread_mutex_lock(&fn->dev.lock);
	if (write)
		store_value(p->state.window + offset, *value, len);
	if (window_target(fn, &trap)) {
		trap.write = write;
		trap.value = write ? load_value(p->state.window, trap.len) : UINT64_MAX;
		vpci_mem_access(p, &trap);
		if (!write)
			store_value(p->state.window, trap.value, trap.len);
	}
	if (!write)
		*value = (uint32_t)load_value(p->state.window + offset, len);
	pthread_mutex_unlock(&fn->dev.lock);
}

/* ---- declaring ---- */

/* 4.1.2.1: the ids from 0x1000 on; 0: the type came after them. */
static uint16_t transitional_id(uint16_t type)
{
	static const uint8_t order[] = { VIRTIO_ID_NET, VIRTIO_ID_BLOCK, VIRTIO_ID_BALLOON, VIRTIO_ID_CONSOLE,
		VIRTIO_ID_SCSI, VIRTIO_ID_RNG };

	for (unsigned i = 0; i < sizeof(order); i++)
		if (order[i] == type)
			return (uint16_t)(0x1000 + i);
	return type == VIRTIO_ID_9P ? 0x1009 : 0;
}

static struct pci_ids ids_of(const struct virtio_type *type, bool legacy)
{
	return (struct pci_ids){
		.vendor = VENDOR,
		.device = legacy ? transitional_id(type->id) : (uint16_t)(MODERN_DEVICE + type->id),
		.subsystem_vendor = VENDOR,
		.subsystem = legacy ? type->id : (uint16_t)(MODERN_SUBSYSTEM + type->id),
		.class = type->pci_class,
		.revision = legacy ? 0 : MODERN_REVISION,
	};
}

/* 4.1.4. The capability's offset, 0 where there is no room. */
static unsigned structure(
	struct pci_function *fn, uint8_t type, unsigned len, unsigned bar, uint32_t offset, uint32_t size)
{
	unsigned at = pci_capability(fn, PCI_CAP_ID_VNDR, len);

	if (at) {
		pci_init(fn, at + VIRTIO_PCI_CAP_LEN, 1, len, 0);
		pci_init(fn, at + VIRTIO_PCI_CAP_CFG_TYPE, 1, type, 0);
		pci_init(fn, at + VIRTIO_PCI_CAP_BAR, 1, bar, 0);
		pci_init(fn, at + VIRTIO_PCI_CAP_OFFSET, 4, offset, 0);
		pci_init(fn, at + VIRTIO_PCI_CAP_LENGTH, 4, size, 0);
	}
	return at;
}

/* 4.1.4.4 */
static bool notify_structure(struct vpci *p, unsigned bar, uint32_t offset)
{
	unsigned at = structure(&p->fn, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap), bar, offset,
		VPCI_NOTIFY_STEP * p->v->nr_queues);

	if (at)
		pci_init(&p->fn, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, VPCI_NOTIFY_STEP, 0);
	return at;
}

static int declare_structures(struct vpci *p)
{
	struct pci_function *fn = &p->fn;
	const unsigned plain = sizeof(struct virtio_pci_cap);
	unsigned at;

	if (!structure(fn, VIRTIO_PCI_CAP_COMMON_CFG, plain, BAR_MEM, VPCI_COMMON, COMMON_SIZE) ||
		!structure(fn, VIRTIO_PCI_CAP_ISR_CFG, plain, BAR_MEM, VPCI_ISR, 1))
		return -ENOSPC;
	if (p->v->config_len &&
		!structure(fn, VIRTIO_PCI_CAP_DEVICE_CFG, plain, BAR_MEM, VPCI_DEVICE, (uint32_t)p->v->config_len))
		return -ENOSPC;
	if ((p->ports && !notify_structure(p, BAR_NOTIFY, 0)) || !notify_structure(p, BAR_MEM, VPCI_NOTIFY))
		return -ENOSPC;
	at = structure(fn, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap), 0, 0, 0);
	if (!at)
		return -ENOSPC;
	pci_init(fn, at + VIRTIO_PCI_CAP_BAR, 1, 0, UINT8_MAX);
	pci_init(fn, at + VIRTIO_PCI_CAP_OFFSET, 4, 0, UINT32_MAX);
	pci_init(fn, at + VIRTIO_PCI_CAP_LENGTH, 4, 0, UINT32_MAX);
	fn->window = at + plain;
	fn->window_access = window_access;
	return 0;
}

static int declare(struct vpci *p)
{
	struct pci_function *fn = &p->fn;
	const uint8_t widths = WIDTH_1 | WIDTH_2 | WIDTH_4;
	int r = 0;

	if (p->legacy)
		r = pci_bar_init(fn, BAR_IO, PCI_BAR_IO, false, &p->io, "virtio-pci-legacy",
			VIRTIO_PCI_CONFIG_OFF(1) + p->v->config_len, widths, io_trap);
	if (r == 0)
		r = msix_init(&p->msix, fn, BAR_MSIX, p->v->nr_queues + 1, p->state.msix.table, p->state.msix.pending);
	if (r == 0 && p->ports)
		r = pci_bar_init(fn, BAR_NOTIFY, PCI_BAR_IO, false, &p->notify, "virtio-pci-notify",
			VPCI_NOTIFY_STEP * p->v->nr_queues, widths, notify_trap);
	if (r == 0)
		r = pci_bar_init(fn, BAR_MEM, PCI_BAR_MEM64, false, &p->mem, "virtio-pci-modern", VPCI_MEM_SIZE, widths,
			mem_trap);
	if (r)
		return r;
	p->mem.lock = NULL;
	p->notify.lock = NULL;
	pci_intx_init(fn, 1);
	return declare_structures(p);
}

static void vpci_destroy(struct device *dev)
{
	struct vpci *p = to_vpci(dev);

	for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
		bus_disarm(dev->vm->bus, &p->bells[i]);
		bus_disarm(dev->vm->bus, &p->port_bells[i]);
	}
	/* No handler runs from here on; then the device's threads end, which may interrupt until then. */
	pci_function_fini(&p->fn);
	if (!virtio_destroy(p->v))
		return;
	msix_fini(&p->msix);
	device_fini(dev);
	free(p);
}

static int make(struct vpci *p, const struct virtio_config *c, struct error *err)
{
	const char *name = p->fn.dev.name;
	const struct pci_ids ids = ids_of(c->type, c->legacy);
	int r = c->type->create(p->fn.dev.vm, name, c->config, &p->v, err);

	if (r)
		return r;
	pthread_mutex_lock(&p->fn.dev.lock);
	virtio_attach(p->v, &p->fn.dev, &vpci_ops);
	p->v->legacy = c->legacy;
	pthread_mutex_unlock(&p->fn.dev.lock);
	pci_function_init(&p->fn, &ids, p->state.config);
	r = declare(p);
	return r ? error_set(err, r, "%s: its BARs and capabilities cannot be declared", name) : 0;
}

static int vpci_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct virtio_config *c = config;
	struct vpci *p;
	int r;

	if (c->legacy && !transitional_id(c->type->id)) {
		error_set(
			err, -EINVAL, "%s: virtio-%s has no legacy interface; use transport=pci", name, c->type->name);
		return error_of_option(err, -EINVAL);
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return error_set(err, -ENOMEM, "no memory for %s", name);
	p->legacy = c->legacy;
	p->ports = c->ports;
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		p->calls[i] = (struct vpci_call){ .fd = -1, .vector = VIRTIO_MSI_NO_VECTOR };
	device_init(&p->fn.dev, &virtio_pci_type, vm, name);
	r = make(p, c, err);
	if (r) {
		vpci_destroy(&p->fn.dev);
		return r;
	}
	*out = &p->fn.dev;
	return 0;
}

/* ---- life ---- */

static void vpci_reset(struct device *dev)
{
	struct vpci *p = to_vpci(dev);

	virtio_power_on(p->v);
	pci_function_reset(&p->fn);
}

static void vpci_start(struct device *dev)
{
	pthread_mutex_lock(&dev->lock);
	pci_function_sync(pci_function_of(dev));
	pthread_mutex_unlock(&dev->lock);
}

struct virtio *virtio_pci_carries(struct device *dev)
{
	return to_vpci(dev)->v;
}

static void vpci_stop(struct device *dev)
{
	virtio_stop(to_vpci(dev)->v);
}

static bool vpci_pause(struct device *dev)
{
	return virtio_pause(to_vpci(dev)->v);
}

static void vpci_resume(struct device *dev)
{
	virtio_resume(to_vpci(dev)->v);
}

const struct device_type virtio_pci_type = {
	.name = "virtio-pci",
	.drivers = "virtio-pci-modern|virtio-pci-legacy",
	.state = vpci_fields,
	.state_offset = offsetof(struct vpci, state),
	.create = vpci_create,
	.start = vpci_start,
	.stop = vpci_stop,
	.pause = vpci_pause,
	.resume = vpci_resume,
	.reset = vpci_reset,
	.destroy = vpci_destroy,
};
