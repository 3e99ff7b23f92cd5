/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * routes.c - messages (MSI) that signals of an eventfd send without leaving the kernel.
 *
 * KVM names a message by a GSI, and takes GSIs only as a whole table of routes, the lines' among them. An entry whose
 * eventfd has gone keeps its message, since it most often comes back with the same one: a guest masks a vector and
 * unmasks it again, and that then costs no new table. All of it is under the interrupt router's lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/kvm.h"

static size_t table_size(unsigned entries)
{
	return sizeof(struct kvm_irq_routing) + entries * sizeof(struct kvm_irq_routing_entry);
}

int kvm_set_lines(struct kvm *kvm, const struct kvm_irq_routing_entry *lines, unsigned n)
{
	struct kvm_irq_routing *routes = calloc(1, table_size(n));

	if (!routes)
		return -ENOMEM;
	free(kvm->routes);
	kvm->routes = routes;
	routes->nr = kvm->nr_lines = n;
	memcpy(routes->entries, lines, n * sizeof(*lines));
	kvm->first_message = 0;
	for (unsigned i = 0; i < n; i++)
		if (lines[i].gsi >= kvm->first_message)
			kvm->first_message = lines[i].gsi + 1;
	return ioctl(kvm->fd, KVM_SET_GSI_ROUTING, routes) ? -errno : 0;
}

static bool taken(const struct kvm *kvm, unsigned message)
{
	return kvm->routes_taken[message / 64] >> message % 64 & 1;
}

static struct kvm_irq_routing_entry entry_of(const struct kvm *kvm, unsigned message, struct irq_message m)
{
	struct kvm_irq_routing_entry entry = { .gsi = kvm->first_message + message, .type = KVM_IRQ_ROUTING_MSI };

	entry.u.msi.address_lo = (uint32_t)m.addr;
	entry.u.msi.address_hi = (uint32_t)(m.addr >> 32);
	entry.u.msi.data = m.data;
	if (kvm->msi_sender) {
		entry.flags = KVM_MSI_VALID_DEVID;
		entry.u.msi.devid = m.sender;
	}
	return entry;
}

static bool same(const struct kvm *kvm, unsigned message, struct irq_message m)
{
	const struct kvm_irq_routing_entry entry = entry_of(kvm, message, m);

	return memcmp(&kvm->routes->entries[kvm->nr_lines + message], &entry, sizeof(entry)) == 0;
}

/* The free message that says the same already; else any free one; else one past the last. */
static unsigned find_message(const struct kvm *kvm, struct irq_message m)
{
	unsigned n = kvm->routes->nr - kvm->nr_lines, found = n;

	for (unsigned i = 0; i < n; i++) {
		if (taken(kvm, i))
			continue;
		if (same(kvm, i, m))
			return i;
		if (found == n)
			found = i;
	}
	return found;
}

/* Room for entry `at`, which is at most one past the last. */
static int grow_table(struct kvm *kvm, unsigned at)
{
	struct kvm_irq_routing *more;

	if (at < kvm->routes->nr)
		return 0;
	if (at - kvm->nr_lines >= KVM_MESSAGES || (int)at >= kvm_check(kvm, KVM_CAP_IRQ_ROUTING))
		return -ENOSPC;
	more = realloc(kvm->routes, table_size(at + 1));
	if (!more)
		return -ENOMEM;
	kvm->routes = more;
	return 0;
}

static int set_message(struct kvm *kvm, unsigned message, struct irq_message m)
{
	unsigned at = kvm->nr_lines + message, nr = kvm->routes->nr;
	struct kvm_irq_routing_entry *entry, old = { 0 };
	int r;

	if (at < nr && same(kvm, message, m))
		return 0;
	r = grow_table(kvm, at);
	if (r)
		return r;
	entry = &kvm->routes->entries[at];
	if (at < nr)
		old = *entry;
	else
		kvm->routes->nr = at + 1;
	*entry = entry_of(kvm, message, m);
	if (ioctl(kvm->fd, KVM_SET_GSI_ROUTING, kvm->routes) == 0)
		return 0;
	r = -errno;
	*entry = old;
	kvm->routes->nr = nr;
	return r;
}

int kvm_route_add(void *chip, int fd, struct irq_message m, unsigned *id)
{
	struct kvm *kvm = chip;
	unsigned message;
	int r;

	if (!kvm->routes)
		return -ENOTSUP;
	message = find_message(kvm, m);
	r = set_message(kvm, message, m);
	if (r == 0)
		r = kvm_irqfd(kvm, kvm->first_message + message, fd, -1, 0);
	if (r)
		return r;
	kvm->routes_taken[message / 64] |= 1ULL << message % 64;
	*id = message;
	return 0;
}

void kvm_route_del(void *chip, int fd, unsigned id)
{
	struct kvm *kvm = chip;

	kvm_irqfd(kvm, kvm->first_message + id, fd, -1, KVM_IRQFD_FLAG_DEASSIGN);
	kvm->routes_taken[id / 64] &= ~(1ULL << id % 64);
}
