/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.c - what KVM does about the bus's map: memory slots, doorbells (ioeventfd), posted writes
 * (coalesced MMIO and PIO).
 *
 * All listener calls come under the bus's edit lock. The ring of posted writes is one a VM; the kernel appends
 * under its own lock and advances `last`, we serve and advance `first`. It is drained before any access is
 * served, so a device sees writes in the order in which each vCPU made them, and from a timer, so none stays
 * longer than POSTED_NS.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Long, so that an idle guest costs little (four wake-ups a second): any exit of any vCPU drains the ring too. */
#define POSTED_NS (NSEC_PER_SEC / 4)

static struct kvm *kvm_of(struct bus_listener *listener)
{
	return container_of(listener, struct kvm, listener);
}

static int slot_take(struct kvm *kvm, uint32_t *slot)
{
	for (uint32_t i = 0; i < kvm->max_slots; i++) {
		if (!(kvm->slots[i / 64] & (1ULL << (i % 64)))) {
			kvm->slots[i / 64] |= 1ULL << (i % 64);
			*slot = i;
			return 0;
		}
	}
	return -ENOSPC;
}

static void slot_give(struct kvm *kvm, uint32_t slot)
{
	kvm->slots[slot / 64] &= ~(1ULL << (slot % 64));
}

static int set_slot(struct kvm *kvm, const struct region *region, uint32_t slot, uint64_t size)
{
	struct kvm_userspace_memory_region slot_region = {
		.slot = slot,
		.flags = region->kind == REGION_ROM ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = region->base,
		.memory_size = size,
		.userspace_addr = (uintptr_t)region->memory->host + region->memory_offset,
	};

	return ioctl(kvm->fd, KVM_SET_USER_MEMORY_REGION, &slot_region) ? -errno : 0;
}

static int memory_add(struct bus_listener *listener, struct region *region)
{
	struct kvm *kvm = kvm_of(listener);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t slot;
	int r;

	/* Ports have no slots, and KVM maps whole pages: what does not fit is served by the bus's bounded copy. */
	if (region->space != SPACE_MMIO || ((region->base | region->size | region->memory_offset) & (page - 1)))
		return -EINVAL;
	r = slot_take(kvm, &slot);
	if (r)
		return r;
	r = set_slot(kvm, region, slot, region->size);
	if (r) {
		slot_give(kvm, slot);
		return r;
	}
	region->slot = slot;
	return 0;
}

static void memory_del(struct bus_listener *listener, struct region *region)
{
	struct kvm *kvm = kvm_of(listener);

	if (!kvm->closing)
		set_slot(kvm, region, region->slot, 0);
	slot_give(kvm, region->slot);
}

static int set_doorbell(struct kvm *kvm, const struct doorbell *bell, uint32_t flags)
{
	struct kvm_ioeventfd arg = {
		.datamatch = bell->value,
		.addr = bell->addr,
		.len = bell->len,
		.fd = bell->fd,
		.flags = flags | (bell->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (bell->space == SPACE_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0),
	};

	return ioctl(kvm->fd, KVM_IOEVENTFD, &arg) ? -errno : 0;
}

static int doorbell_add(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	return set_doorbell(kvm_of(listener), bell, 0);
}

static void doorbell_del(struct bus_listener *listener, struct region *region, struct doorbell *bell)
{
	struct kvm *kvm = kvm_of(listener);

	if (!kvm->closing)
		set_doorbell(kvm, bell, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static struct kvm_coalesced_mmio_zone zone_of(const struct region *region)
{
	return (struct kvm_coalesced_mmio_zone){
		.addr = region->base, .size = region->coalesce, .pio = region->space == SPACE_PIO
	};
}

static int coalesce_add(struct bus_listener *listener, struct region *region)
{
	struct kvm *kvm = kvm_of(listener);
	struct kvm_coalesced_mmio_zone zone = zone_of(region);

	if (!kvm->ring_page || (zone.pio && !kvm->ring_pio))
		return -ENOTSUP;
	if (ioctl(kvm->fd, KVM_REGISTER_COALESCED_MMIO, &zone))
		return -errno;
	if (atomic_fetch_add((_Atomic unsigned *)&kvm->zones, 1) == 0)
		timer_arm(&kvm->ring_timer, clock_now(&kvm->vm->clock) + POSTED_NS);
	return 0;
}

static void coalesce_del(struct bus_listener *listener, struct region *region)
{
	struct kvm *kvm = kvm_of(listener);
	struct kvm_coalesced_mmio_zone zone = zone_of(region);

	if (!kvm->closing)
		ioctl(kvm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone);
	atomic_fetch_sub((_Atomic unsigned *)&kvm->zones, 1);
}

void kvm_drain_posted(struct kvm *kvm)
{
	struct kvm_coalesced_mmio_ring *ring = kvm->ring;
	uint32_t first, last;

	/*
	 * Not empty while one is being served, since `first` moves after the handler has returned: whoever finds
	 * it so waits for the lock, and no access overtakes a write that was posted before it.
	 */
	if (!ring || __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&kvm->ring_lock);
	first = ring->first;
	/* What was posted up to now, and no more: other vCPUs may post faster than one thread serves. */
	last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	while (first != last) {
		struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[first];
		uint64_t data;

		memcpy(&data, entry->data, sizeof(data));
		bus_access(kvm->vm->bus, &kvm->posted, entry->pio ? SPACE_PIO : SPACE_MMIO, entry->phys_addr, &data,
			entry->len, 1, true);
		kvm->posted_writes++;
		first = (first + 1) % kvm->ring_entries;
		__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&kvm->ring_lock);
}

static void drain_on_timer(void *arg)
{
	struct kvm *kvm = arg;

	kvm_drain_posted(kvm);
	if (atomic_load((_Atomic unsigned *)&kvm->zones))
		timer_arm(&kvm->ring_timer, clock_now(&kvm->vm->clock) + POSTED_NS);
}

void kvm_listener_init(struct kvm *kvm)
{
	kvm->listener = (struct bus_listener){
		.memory_add = memory_add,
		.memory_del = memory_del,
		.doorbell_add = doorbell_add,
		.doorbell_del = doorbell_del,
		.coalesce_add = coalesce_add,
		.coalesce_del = coalesce_del,
		.hidden = kvm->no_ports ? 1U << SPACE_PIO : 0,
	};
	pthread_mutex_init(&kvm->ring_lock, NULL);
	kvm->posted.name = "posted writes";
	bus_attach(kvm->vm->bus, &kvm->posted);
	timer_init(&kvm->ring_timer, &kvm->vm->clock, drain_on_timer, kvm, NULL);
}
