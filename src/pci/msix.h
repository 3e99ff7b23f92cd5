/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msix.h - MSI-X of a PCI function (PCI Local Bus 3.0, 6.8.2): vectors, each a message with a mask and a pending bit.
 *
 * Table and pending bits lie in a BAR. A vector that is masked, by itself or with the whole function, notes that it is
 * pending and is sent when it is unmasked. An eventfd can be a vector's second end, so that a back end outside this
 * process signals the guest without us: in the kernel while the vector may be sent, by the event loop while not or
 * where the kernel has no such thing.
 *
 * Locks: msix.lock protects the table, the pending bits and what follows from them. It is taken after a device's lock
 * and that of the PCI bus, and before interrupt routing.
 */
#ifndef TRAPLINE_PCI_MSIX_H
#define TRAPLINE_PCI_MSIX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/irq.h"
#include "core/loop.h"
#include "pci/pci.h"

#define MSIX_VECTORS 2048 /* of a function, at most */

/*
 * The guest-visible part, for the device's state struct: `struct MSIX_STATE(n) msix;`, with MSIX_FIELDS() in its field
 * table. Reset is msix_reset()'s, under its lock, so the fields are kept.
 */
#define MSIX_WORDS 4 /* of a vector: address low and high, data, control */
#define MSIX_STATE(n)                                                                                                  \
	{                                                                                                              \
		uint32_t table[MSIX_WORDS * (n)];                                                                      \
		uint64_t pending[((n) + 63) / 64];                                                                     \
	}
#define MSIX_FIELDS(type, member)                                                                                      \
	FIELD_ARRAY(type, member.table, .keep = true), FIELD_ARRAY(type, member.pending, .keep = true)

struct msix;

/* What a vector has beyond its table entry: an eventfd, if armed. */
struct msix_vector {
	struct msix *msix;
	bool armed;
	struct irq_route route;  /* while the chip sends it */
	struct loop_watch watch; /* while not */
};

struct msix {
	struct pci_function *fn; /* NULL: none */
	pthread_mutex_t lock;
	unsigned n;
	unsigned cap;           /* the capability's offset in config space */
	bool enabled;           /* MSI-X rather than INTx; written under the lock, read atomically */
	bool masked;            /* the whole function */
	uint32_t *table;        /* MSIX_WORDS * n */
	uint64_t *pending;      /* bits of vectors */
	uint64_t sent;          /* messages, those of the kernel not counted */
	uint64_t lost;          /* sent by the device while MSI-X was off, or of no vector */
	struct region region;   /* of the BAR that msix_init() made: the table, and the pending bits behind it */
	uint64_t pending_start; /* in that BAR */
	struct msix_vector *vectors;
};

/*
 * Declares: a capability with `n` vectors (1 to MSIX_VECTORS), table and pending bits in BAR `bar`, of 32-bit memory,
 * which is theirs alone. `table` and `pending` are those of a struct MSIX_STATE(n). After pci_function_init(), before
 * the function is plugged in. 0, -EINVAL as pci_bar_init() and for n, -ENOSPC no room for the capability, -ENOMEM.
 */
int msix_init(struct msix *msix, struct pci_function *fn, unsigned bar, unsigned n, uint32_t *table, uint64_t *pending)
	__attribute__((warn_unused_result));
/* After pci_function_fini(). Disarms; copes with one that is all zeros. On the event loop's thread, or with no loop. */
void msix_fini(struct msix *msix);

/* Whether the guest uses MSI-X; then INTx stays low (pci_intx() knows). From any thread. */
static inline bool msix_enabled(const struct msix *msix)
{
	return __atomic_load_n(&msix->enabled, __ATOMIC_ACQUIRE);
}

/*
 * Sends vector's message, or notes that it is pending. Where MSI-X is off, or for a vector that is not there, nothing
 * happens but counting. From any thread, legal in handlers.
 */
void msix_send(struct msix *msix, unsigned vector);
/*
 * Has each signal of `fd`, a non-blocking eventfd that the caller keeps open until msix_disarm() returned, send the
 * vector. While MSI-X is off nobody reads it but who armed. 0, -EINVAL there is no such vector or fd, -EEXIST armed
 * already. Legal in handlers, but can take milliseconds.
 */
int msix_arm(struct msix *msix, unsigned vector, int fd) __attribute__((warn_unused_result));
void msix_disarm(struct msix *msix, unsigned vector); /* fine on one that is not armed */
/* Whether signals of the vector's eventfd are sent without us, now. */
bool msix_direct(struct msix *msix, unsigned vector);

/*
 * For a table and pending bits that lie in a BAR with something else: an access at an offset into either, of 4 or 8
 * bytes and aligned. Beyond the end reads are all ones, and writes vanish. Both take the lock.
 */
void msix_table_access(struct msix *msix, struct trap *trap);
void msix_pending_access(struct msix *msix, struct trap *trap);

/* pci.c's: config space says something new, which took or may have taken effect. With the PCI bus lock held. */
void msix_follow(struct msix *msix);
/* All vectors masked, none pending, MSI-X off. From pci_function_reset(). */
void msix_reset(struct msix *msix);

#endif
