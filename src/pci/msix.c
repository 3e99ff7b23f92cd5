/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msix.c - MSI-X: the table, masks and pending bits, and vectors that an eventfd sends.
 *
 * An armed vector is in one of three states, which route_follow() alone changes. MSI-X is off: nobody of ours looks at
 * the eventfd. It may be sent: the interrupt chip has the eventfd, or, where that cannot, the event loop reads it and
 * sends. It is masked: the event loop reads the eventfd and sets the pending bit, and a guest that reads the pending
 * bits has them read first, so that it does not miss one that the loop has not come to yet. Changes lose nothing: a
 * signal that nobody has read stays in the eventfd, and the next who takes it looks there first.
 */
#include "pci/msix.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/vm.h"

enum msix_word { WORD_ADDR_LOW, WORD_ADDR_HIGH, WORD_DATA, WORD_CONTROL };

static_assert(PCI_MSIX_ENTRY_SIZE == MSIX_WORDS * 4, "an entry");
static_assert(PCI_MSIX_ENTRY_DATA == WORD_DATA * 4 && PCI_MSIX_ENTRY_VECTOR_CTRL == WORD_CONTROL * 4, "its words");

/* Bits that a guest can write; the address is one of a doubleword. */
static const uint32_t writable[MSIX_WORDS] = { ~3U, UINT32_MAX, UINT32_MAX, PCI_MSIX_ENTRY_CTRL_MASKBIT };

/* Pending bits on a page of their own would be the nicer, but 4 KiB hold both for all but the largest. */
#define PENDING_ALIGN 0x800

static uint32_t *entry(const struct msix *msix, unsigned vector)
{
	return msix->table + MSIX_WORDS * vector;
}

static struct irq_message message(const struct msix *msix, unsigned vector)
{
	const uint32_t *words = entry(msix, vector);

	return (struct irq_message){
		.addr = (uint64_t)words[WORD_ADDR_HIGH] << 32 | words[WORD_ADDR_LOW],
		.data = words[WORD_DATA],
		.sender = msix->fn->devfn,
	};
}

/* With the lock held, as all that follow but the public ones. */
static bool may_send(const struct msix *msix, unsigned vector)
{
	return msix->enabled && !msix->masked && !(entry(msix, vector)[WORD_CONTROL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static bool is_pending(const struct msix *msix, unsigned vector)
{
	return msix->pending[vector / 64] >> vector % 64 & 1;
}

static void send_or_note(struct msix *msix, unsigned vector)
{
	uint64_t bit = 1ULL << vector % 64, *word = &msix->pending[vector / 64];

	if (!may_send(msix, vector)) {
		*word |= bit;
		return;
	}
	*word &= ~bit;
	msix->sent++;
	irq_msi(&msix->fn->dev.vm->irqs, message(msix, vector));
}

/* What was signalled, where nobody else reads it. */
static void collect(struct msix *msix, unsigned vector)
{
	struct msix_vector *v = &msix->vectors[vector];
	eventfd_t signals;

	if (v->armed && msix->enabled && !v->route.assigned && eventfd_read(v->watch.fd, &signals) == 0)
		send_or_note(msix, vector);
}

static void signalled(void *arg, uint32_t events)
{
	struct msix_vector *v = arg;
	struct msix *msix = v->msix;

	pthread_mutex_lock(&msix->lock);
	collect(msix, (unsigned)(v - msix->vectors));
	pthread_mutex_unlock(&msix->lock);
}

/* The eventfd goes to whom the vector's state says; not to two at a time, who would take signals from each other. */
static void route_follow(struct msix *msix, unsigned vector)
{
	struct msix_vector *v = &msix->vectors[vector];
	struct vm *vm = msix->fn->dev.vm;
	const struct irq_message now = message(msix, vector);

	if (!v->armed)
		return;
	if (may_send(msix, vector)) {
		if (v->route.router && v->route.message.addr == now.addr && v->route.message.data == now.data)
			return;
		loop_unwatch(&vm->loop, &v->watch);
		irq_route_arm(&vm->irqs, &v->route, v->watch.fd, now);
	} else {
		irq_route_disarm(&v->route);
	}
	/* Where it cannot be watched, for want of memory, pending bits are found when the guest reads them. */
	if (msix->enabled && !v->route.assigned)
		(void)loop_watch(&vm->loop, &v->watch, EPOLLIN);
	else
		loop_unwatch(&vm->loop, &v->watch);
}

/* Something changed that vectors depend on. */
static void vector_follow(struct msix *msix, unsigned vector)
{
	route_follow(msix, vector);
	if (is_pending(msix, vector) && may_send(msix, vector))
		send_or_note(msix, vector);
}

void msix_follow(struct msix *msix)
{
	uint32_t flags = pci_get(msix->fn, msix->cap + PCI_MSIX_FLAGS, 2);
	bool enabled = flags & PCI_MSIX_FLAGS_ENABLE, masked = flags & PCI_MSIX_FLAGS_MASKALL;

	pthread_mutex_lock(&msix->lock);
	if (enabled != msix->enabled || masked != msix->masked) {
		__atomic_store_n(&msix->enabled, enabled, __ATOMIC_RELEASE);
		msix->masked = masked;
		for (unsigned i = 0; i < msix->n; i++)
			vector_follow(msix, i);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_reset(struct msix *msix)
{
	pthread_mutex_lock(&msix->lock);
	__atomic_store_n(&msix->enabled, false, __ATOMIC_RELEASE);
	msix->masked = false;
	memset(msix->table, 0, MSIX_WORDS * msix->n * sizeof(*msix->table));
	memset(msix->pending, 0, (msix->n + 63) / 64 * sizeof(*msix->pending));
	for (unsigned i = 0; i < msix->n; i++) {
		entry(msix, i)[WORD_CONTROL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		route_follow(msix, i);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_send(struct msix *msix, unsigned vector)
{
	pthread_mutex_lock(&msix->lock);
	if (vector < msix->n && msix->enabled)
		send_or_note(msix, vector);
	else
		msix->lost++;
	pthread_mutex_unlock(&msix->lock);
}

int msix_arm(struct msix *msix, unsigned vector, int fd)
{
	struct msix_vector *v;
	int r = 0;

	if (vector >= msix->n || fd < 0)
		return -EINVAL;
	v = &msix->vectors[vector];
	pthread_mutex_lock(&msix->lock);
	if (v->armed) {
		r = -EEXIST;
	} else {
		v->armed = true;
		v->watch.fd = fd;
		route_follow(msix, vector);
	}
	pthread_mutex_unlock(&msix->lock);
	return r;
}

void msix_disarm(struct msix *msix, unsigned vector)
{
	struct msix_vector *v;

	if (vector >= msix->n)
		return;
	v = &msix->vectors[vector];
	pthread_mutex_lock(&msix->lock);
	if (v->armed) {
		irq_route_disarm(&v->route);
		loop_unwatch(&msix->fn->dev.vm->loop, &v->watch);
		collect(msix, vector);
		v->armed = false;
	}
	pthread_mutex_unlock(&msix->lock);
}

bool msix_direct(struct msix *msix, unsigned vector)
{
	bool direct;

	if (vector >= msix->n)
		return false;
	pthread_mutex_lock(&msix->lock);
	direct = msix->vectors[vector].route.assigned;
	pthread_mutex_unlock(&msix->lock);
	return direct;
}

/* 8 bytes are two words of one entry, the lower first, and take effect together. */
static void table_access(struct msix *msix, struct trap *trap)
{
	unsigned word = (unsigned)(trap->offset / 4), vector = word / MSIX_WORDS;
	uint64_t value = 0;

	if (vector >= msix->n)
		return;
	for (unsigned i = 0; i < trap->len / 4U; i++) {
		uint32_t bits = writable[(word + i) % MSIX_WORDS], *at = &msix->table[word + i];

		if (trap->write)
			*at = (uint32_t)(trap->value >> 32 * i) & bits;
		value |= (uint64_t)*at << 32 * i;
	}
	if (trap->write)
		vector_follow(msix, vector);
	else
		trap->value = value;
}

static void pending_access(struct msix *msix, struct trap *trap)
{
	unsigned first = (unsigned)(trap->offset * 8), last = first + trap->len * 8U;

	if (first >= (msix->n + 63) / 64 * 64 || trap->write)
		return;
	for (unsigned i = first; i < last && i < msix->n; i++)
		collect(msix, i);
	trap->value = msix->pending[first / 64] >> first % 64;
	if (trap->len == 4)
		trap->value &= UINT32_MAX;
}

static bool access_valid(const struct trap *trap)
{
	return (trap->len == 4 || trap->len == 8) && trap->offset % trap->len == 0 && trap->offset <= UINT16_MAX;
}

void msix_table_access(struct msix *msix, struct trap *trap)
{
	if (!access_valid(trap))
		return;
	pthread_mutex_lock(&msix->lock);
	table_access(msix, trap);
	pthread_mutex_unlock(&msix->lock);
}

void msix_pending_access(struct msix *msix, struct trap *trap)
{
	if (!access_valid(trap))
		return;
	pthread_mutex_lock(&msix->lock);
	pending_access(msix, trap);
	pthread_mutex_unlock(&msix->lock);
}

/* No lock of the device's: both halves take that of the vectors. */
static void bar_trap(void *dev, struct trap *trap)
{
	struct msix *msix = dev;
	uint64_t offset = trap->offset;

	if (offset < msix->pending_start) {
		msix_table_access(msix, trap);
	} else {
		trap->offset -= msix->pending_start;
		msix_pending_access(msix, trap);
		trap->offset = offset;
	}
}

static int declare(struct msix *msix, struct pci_function *fn, unsigned bar)
{
	uint64_t size = (uint64_t)msix->n * PCI_MSIX_ENTRY_SIZE;
	int r;

	msix->pending_start = (size + PENDING_ALIGN - 1) & ~(uint64_t)(PENDING_ALIGN - 1);
	r = pci_bar_init(fn, bar, PCI_BAR_MEM32, false, &msix->region, "MSI-X",
		msix->pending_start + (msix->n + 63) / 64 * 8, WIDTH_4 | WIDTH_8, bar_trap);
	if (r)
		return r;
	msix->region.dev = msix;
	msix->region.lock = NULL;
	msix->cap = pci_capability(fn, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	if (!msix->cap)
		return -ENOSPC;
	pci_init(fn, msix->cap + PCI_MSIX_FLAGS, 2, msix->n - 1, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_init(fn, msix->cap + PCI_MSIX_TABLE, 4, bar, 0);
	pci_init(fn, msix->cap + PCI_MSIX_PBA, 4, (uint32_t)msix->pending_start | bar, 0);
	return 0;
}

int msix_init(struct msix *msix, struct pci_function *fn, unsigned bar, unsigned n, uint32_t *table, uint64_t *pending)
{
	int r;

	if (n < 1 || n > MSIX_VECTORS)
		return -EINVAL;
	*msix = (struct msix){ .n = n, .table = table, .pending = pending };
	r = declare(msix, fn, bar);
	if (r)
		return r;
	msix->vectors = calloc(n, sizeof(*msix->vectors));
	if (!msix->vectors)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		msix->vectors[i].msix = msix;
		msix->vectors[i].watch = (struct loop_watch){ .fd = -1, .fn = signalled, .arg = &msix->vectors[i] };
	}
	pthread_mutex_init(&msix->lock, NULL);
	msix->fn = fn;
	fn->msix = msix;
	msix_reset(msix);
	return 0;
}

void msix_fini(struct msix *msix)
{
	if (!msix->fn)
		return;
	for (unsigned i = 0; i < msix->n; i++)
		msix_disarm(msix, i);
	msix->fn->msix = NULL;
	msix->fn = NULL;
	free(msix->vectors);
	pthread_mutex_destroy(&msix->lock);
}
