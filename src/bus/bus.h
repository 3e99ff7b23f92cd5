/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bus.h - one registry and one dispatch for every guest access that traps.
 *
 * See bus.c for the theory (who may wait, who may not, why removal needs no memory) and docs/design.md for
 * the whole picture. In short: lookups are RCU read sections that last over lookup and handler; an edit
 * builds a new map, publishes it and frees the old one after a grace period; a removal clears pointers in
 * the current map and cannot fail.
 */
#ifndef TRAPLINE_BUS_BUS_H
#define TRAPLINE_BUS_BUS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/trap.h"

enum region_kind {
	REGION_TRAP,  /* every access calls the handler */
	REGION_RAM,   /* host memory; a slot of the hypervisor backs it where one can */
	REGION_ROM,   /* reads are memory; writes call the handler, or vanish where there is none */
	REGION_HELD,  /* the kernel answers (in-kernel chips): listed, conflicts checked, never called */
	REGION_ALIAS, /* a window onto a place in a space, resolved at each access */
	NR_REGION_KINDS
};

/* Widths a handler takes: OR of the sizes themselves. */
enum { WIDTH_1 = 1, WIDTH_2 = 2, WIDTH_4 = 4, WIDTH_8 = 8, WIDTH_ANY = 15 };

/* Initiators that count in lanes of their own; those beyond share one more, and pay an atomic add for it. */
#define BUS_LANES   4
#define BUS_REGIONS (1U << 17) /* that can be live at a time */

struct region_count {
	uint64_t reads, writes; /* pieces; of HELD, what reached us all the same; of ALIAS, none */
};

/*
 * Host memory behind RAM and ROM regions, counted: it goes when the last region, slot or DMA user has let
 * go of it. `host` is page aligned.
 */
struct memory {
	void *host;
	uint64_t size;
	bool shared;                         /* mapped so: others may see it, and a page goes by a hole in its file */
	int fd;                              /* where shared: of the file of which it is all; release() closes it */
	unsigned refs;                       /* atomic */
	void (*release)(struct memory *mem); /* called when refs falls to 0; from any thread */
};

/* A write of `len` bytes at `offset` that the hypervisor may turn into a signal of `fd` without leaving the kernel. */
struct doorbell {
	uint64_t offset; /* in the region */
	uint8_t len;     /* 1, 2, 4, 8; 0: any */
	bool match;      /* only writes of `value` */
	uint64_t value;
	int fd; /* an eventfd, owned by the caller, open until bus_disarm() returned */
	/* the bus's own */
	struct region *region;
	struct doorbell *next;
	/* The listener has it in the kernel, for writes that begin at this place; if not, the handler serves. */
	bool assigned;
	enum space space;
	uint64_t addr;
};

/*
 * A stretch of one space that a device answers for. Embedded in its device and owned by it; the bus never
 * frees it, and neither may the owner before bus_drain() after its removal. Nor may it change anything but
 * base, space and kind before then; those, and only by bus_edit() while the region is live.
 */
struct region {
	const char *name;
	enum region_kind kind;
	enum space space;
	uint64_t base;
	uint64_t size;  /* bytes, at least 1; base + size - 1 does not wrap */
	uint8_t widths; /* WIDTH_*; 0 means WIDTH_ANY; those beyond `size` do not count */
	bool live;      /* decoded by the map; written by the bus under its edit lock */
	/*
	 * Writes to so many bytes from the start may be posted: the hypervisor may queue them and deliver them later,
	 * in order, and before any other access. 0: none. Written before the region is live.
	 */
	uint32_t coalesce;
	trap_fn *fn;           /* TRAP: required. ROM: writes; may be NULL */
	void *dev;             /* fn's first argument */
	pthread_mutex_t *lock; /* held around fn; NULL: fn says in a comment what protects it */
	struct memory *memory; /* RAM, ROM; the region holds a reference while it is live */
	uint64_t memory_offset;
	enum space target_space; /* ALIAS */
	uint64_t target_base;    /* ALIAS */
	const void *owner;       /* the device, for listings; opaque to the bus */
	/* the bus's own */
	struct doorbell *doorbells;
	uint32_t slot;            /* of the listener */
	bool slotted;             /* the listener backs the memory; if not, the bus copies */
	bool coalesced;           /* the listener queues the writes */
	unsigned removals;        /* atomic: a count that was begun before one ends there */
	struct change *pend;      /* scratch during an edit */
	uint32_t counter;         /* where it is counted while it is live; 0: nowhere */
	const struct bus *bus;    /* that has the counter */
	struct region_count past; /* from when it was live before */
};

/* Where accesses went astray, kept for the addresses most often hit: a guest cannot make the list grow. */
#define BUS_STRAYS 16
struct stray {
	uint64_t addr;
	uint64_t count; /* at most: it begins with that of the rarer address which it displaced; 0: free */
	enum space space;
};

/* Who may ask: embedded in a vCPU, a test, a replay. Used by one thread at a time; others may read the counts. */
struct initiator {
	const char *name;
	/* the bus's own */
	struct bus *bus;
	uint64_t *counters; /* of its lane */
	unsigned lane;
	uint64_t pad[4]; /* keeps what lies before out of the counters' cache line; the strays do it behind */
	/*
	 * Pieces that a region answered, and runs of neighbouring bytes that none did, by the space that was
	 * asked, aliases notwithstanding.
	 */
	union {
		struct {
			uint64_t reads[NR_SPACES], writes[NR_SPACES];
		};
		uint64_t served[2][NR_SPACES]; /* the same, by trap.write */
	};
	uint64_t unclaimed_reads[NR_SPACES], unclaimed_writes[NR_SPACES];
	uint64_t wrong_width[NR_SPACES]; /* of the unclaimed: a region was there, but not for this width */
	uint64_t split;                  /* pieces and runs beyond the first of each access */
	struct stray strays[BUS_STRAYS];
};

/*
 * What a hypervisor does about the map. All calls come with the bus's edit lock held, in this order around a
 * change: *_del for what leaves, publish, *_add for what came. `del` calls cannot fail. A failed add leaves
 * the handler (or the bounded copy, for memory) serving.
 */
struct bus_listener {
	int (*memory_add)(struct bus_listener *, struct region *);
	void (*memory_del)(struct bus_listener *, struct region *);
	int (*doorbell_add)(struct bus_listener *, struct region *, struct doorbell *);
	void (*doorbell_del)(struct bus_listener *, struct region *, struct doorbell *);
	int (*coalesce_add)(struct bus_listener *, struct region *);
	void (*coalesce_del)(struct bus_listener *, struct region *);
	/*
	 * Bit set: a space in which no access of the guest's begins, such as ports where its CPU has no instructions
	 * for them. Aliases lead there. A doorbell in such a space is added at the place of the first alias that leads
	 * to it, and follows both; posted writes are not asked for. Constant while it listens.
	 */
	unsigned hidden;
};

struct bus;

enum edit_op { EDIT_ADD, EDIT_MOVE, EDIT_REMOVE, EDIT_KIND };

struct edit {
	enum edit_op op;
	struct region *region;
	enum space space;      /* MOVE: to where; a region that is not live is added there */
	uint64_t base;         /* MOVE */
	enum region_kind kind; /* KIND: TRAP, RAM or ROM, live or not */
};

/* Makes a bus with two empty spaces; starts the deferred-free worker. NULL: no memory. */
struct bus *bus_new(void);
/* Waits for what is deferred, then frees. Regions still live are let go of. NULL is fine. */
void bus_free(struct bus *bus);

/*
 * Has the present listener, if any, let go of everything, and replays the map to the new one; NULL: to none. 0, or
 * -errno of the first memory_add that failed, none attached then. A memory_add that fails later, in an edit, shows
 * in region->slotted.
 */
int bus_listen(struct bus *bus, struct bus_listener *listener);

/* Every thread that accesses or edits is registered, once; core/thread.c does it for all threads born there. */
void bus_thread_enter(void);
void bus_thread_leave(void);

void bus_attach(struct bus *bus, struct initiator *from); /* before its first access */
void bus_detach(struct initiator *from);

/*
 * 0 or -errno, nothing changed on failure: -EINVAL the region is malformed or its base is not aligned to its
 * widest width, -EEXIST another region is in the way (or this one is live already), -ENOMEM (or BUS_REGIONS are live).
 */
int bus_add(struct bus *bus, struct region *region) __attribute__((warn_unused_result));
/*
 * All of `edits`, in their order, in one publish, or none. Conflicts are judged on the result, so two regions
 * can swap places. On -EEXIST *mine and *other name the two sides, on -EINVAL *mine the malformed region;
 * both pointers may be NULL. Removing what is not live is fine.
 */
int bus_edit(struct bus *bus, const struct edit *edits, unsigned n, struct region **mine, struct region **other)
	__attribute__((warn_unused_result));
/* Cannot fail, allocates nothing, legal in any handler, the region's own included. Idempotent. */
void bus_remove(struct bus *bus, struct region *region);
/*
 * Waits until no handler still runs that was found before an earlier removal, move or switch. Never inside a
 * handler or with a lock held that one may take.
 */
void bus_drain(struct bus *bus);
/*
 * For a vCPU that has left its handler and holds no lock: waits while more retired maps than a fixed bound
 * await their grace period, but only if this thread has edited since its last call. Cheap otherwise.
 */
void bus_throttle(struct bus *bus);
/* How many retired maps await their grace period now. */
unsigned bus_retired(struct bus *bus);

/*
 * Asks for a doorbell, on a region live or not; it follows the region. In the kernel if the listener can, else
 * the handler is called as ever. 0, -EINVAL if malformed, -EEXIST if this bell is armed already. Both are legal
 * in a handler, but can take milliseconds in the kernel.
 */
int bus_arm(struct bus *bus, struct region *region, struct doorbell *bell) __attribute__((warn_unused_result));
void bus_disarm(struct bus *bus, struct doorbell *bell);

/*
 * One guest access: `len` bytes (1 to 8) at `addr`, `count` times at the same place (REP INS); `data` holds
 * or receives len * count bytes, little-endian. Returns how many of the len * count bytes were claimed.
 * A ROM without a handler claims the writes that it ignores, and HELD what the kernel should have answered.
 */
unsigned bus_access(struct bus *bus, struct initiator *from, enum space space, uint64_t addr, void *data, unsigned len,
	unsigned count, bool write);

/*
 * The host's view of guest memory at `gpa`: a pointer, and in *len how many bytes follow it in one piece (at
 * most what *len asked for). NULL where there is no RAM (or, for a write, only ROM). Valid inside
 * bus_read_lock()/bus_read_unlock() only, unless a reference is taken on *mem (may be NULL).
 */
void *bus_memory(struct bus *bus, uint64_t gpa, uint64_t *len, bool write, struct memory **mem);
/*
 * How often the map has changed. While it is as in an earlier read section, in which it was asked before bus_memory()
 * was, what that told holds in this one. Inside a read section only.
 */
uint64_t bus_changes(struct bus *bus);
void bus_read_lock(void);
void bus_read_unlock(void);
void memory_get(struct memory *mem);
void memory_put(struct memory *mem);

/* Calls fn for each live region of a space in ascending order, under the edit lock: fn may not edit. */
void bus_for_each(struct bus *bus, enum space space, void (*fn)(struct region *region, void *arg), void *arg);
/* What another thread has in flight while the region is removed may go uncounted. */
struct region_count region_counts(const struct region *region);

#endif
