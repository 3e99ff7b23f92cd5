/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci.h - PCI functions, their config space and BARs, and the bus that they sit on.
 *
 * A device that is a PCI function embeds a struct pci_function first. Its BARs are ordinary regions of the
 * one bus (bus/bus.h); what is special is who moves them: the guest, by trapped writes to config space. Each
 * such write ends in pci_bus_settle(), which makes what decodes agree with what the registers say (settle.c).
 *
 * Locks: pci_bus.lock protects config space, BAR state and the list of functions. It is taken after a
 * device's lock and before interrupt routing and the edit lock of bus/bus.h, and no device's lock is taken
 * under it; so a device may move its own BAR from inside its own handler.
 *
 * Power-on state: the machine places BARs from its windows, as firmware would, but leaves decoding off.
 * Linux with ACPI claims such placements as it finds them (pcibios_resource_survey takes disabled ones too)
 * and its drivers turn decoding on by pci_enable_device(). A function that is used without a driver (a frame
 * buffer) says so by `boot_command`. Reset returns to the same placements.
 */
#ifndef TRAPLINE_PCI_PCI_H
#define TRAPLINE_PCI_PCI_H

#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus.h"
#include "core/device.h"
#include "core/error.h"
#include "core/irq.h"

#define PCI_CONFIG_SIZE   4096 /* bytes; what ECAM shows of one function */
#define PCI_CONFIG_LEGACY 256  /* of them reachable through CF8/CFC */
#define PCI_BARS          6
#define PCI_SLOTS         32
#define PCI_FUNCTIONS     8 /* a slot */
#define PCI_PINS          4
#define PCI_ECAM_BUS_SIZE 0x100000 /* bytes of ECAM a bus: 32 slots, 8 functions, 4 KiB each */

/* Names a function on a bus, as in a config address. slot 0-31, function 0-7. */
static inline uint8_t pci_devfn(unsigned slot, unsigned function)
{
	return (uint8_t)(slot << 3 | function);
}

struct msix;
struct pci_bus;
struct pci_function;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, NR_PCI_BAR_KINDS };

/* One base address register, or a pair of them for PCI_BAR_MEM64. */
struct pci_bar {
	struct pci_function *fn;
	struct region *region; /* the device's; what decodes. Edited by settle.c alone */
	enum pci_bar_kind kind;
	bool prefetch;
	uint8_t index;
	uint64_t size;          /* bytes, a power of two, at least that of the region */
	uint64_t conflicts;     /* places that the guest chose and that could not be given */
	bool blocked;           /* should decode, and does not */
	uint64_t blocked_place; /* where, for counting each choice once */
	/* settle.c's own, valid during one call */
	bool wanted, refused;
	uint64_t place;
};

struct pci_ids {
	uint16_t vendor, device;
	uint16_t subsystem_vendor, subsystem;
	uint32_t class; /* base class << 16 | subclass << 8 | programming interface */
	uint8_t revision;
};

struct pci_function {
	struct device dev;   /* first */
	struct pci_bus *bus; /* NULL: not plugged in */
	uint8_t devfn;
	uint8_t pin;                       /* INTx: 1-4 for A-D, 0: none */
	uint8_t next_cap;                  /* free config space for capabilities starts here */
	uint16_t boot_command;             /* PCI_COMMAND_* that are on after power-on and reset */
	bool intx;                         /* what the device asks for, whether or not the wire may show it */
	struct irq irq;                    /* the pin's wire */
	struct pci_bar bars[PCI_BARS];     /* kind PCI_BAR_NONE: absent, or the upper half of the one before */
	uint8_t *config;                   /* PCI_CONFIG_SIZE bytes in the device's state struct */
	uint8_t reset[PCI_CONFIG_SIZE];    /* what they are after power-on and reset */
	uint8_t writable[PCI_CONFIG_SIZE]; /* bits that the guest can write */
	uint8_t clear[PCI_CONFIG_SIZE];    /* bits that the guest clears by writing 1 */
	/*
	 * Told after a guest's write to [reg, reg + len), with the PCI bus lock held: it may not take the
	 * device's lock, nor call back into this file except for pci_get() and pci_set(). May be NULL.
	 */
	void (*written)(struct pci_function *fn, unsigned reg, unsigned len);
	struct msix *msix; /* msix_init()'s; NULL: INTx or nothing */
	/*
	 * Four bytes of config space, at `window` (0: none), that are a window to something behind the device's own
	 * lock. Accesses inside them go here, with no lock of the PCI's held but, by way of ports, the host bridge's.
	 */
	unsigned window;
	void (*window_access)(struct pci_function *fn, unsigned offset, unsigned len, uint32_t *value, bool write);
};

/* For devices whose type is a PCI function's. */
static inline struct pci_function *pci_function_of(struct device *dev)
{
	return container_of(dev, struct pci_function, dev);
}

/* The field table of a type whose state struct holds `uint8_t member[PCI_CONFIG_SIZE]`. */
#define PCI_CONFIG_FIELD(type, member) FIELD_ARRAY(type, member)

struct pci_window {
	uint64_t base, size; /* size 0: none */
};

/* Where the machine lets BARs be. The I/O window is in SPACE_PIO, the others in SPACE_MMIO. */
struct pci_windows {
	struct pci_window io, mem32, mem64;
};

/* The host's side of PCI bus 0, the only one: there are no bridges. */
struct pci_bus {
	struct vm *vm;
	pthread_mutex_t lock;
	struct pci_windows windows;
	bool ports;             /* the processor has instructions for them: an access costs less than one to memory */
	uint32_t gsi[PCI_PINS]; /* slot s, pin p (0-3) raises gsi[(s + p) % 4]; IRQ_NONE: not connected */
	struct pci_function *functions[PCI_SLOTS * PCI_FUNCTIONS]; /* by devfn */
	unsigned nr_bars;                                          /* of all functions */
	struct pci_bar **placed; /* by power-on address, I/O and memory apart; those of functions that are plugged in */
	unsigned nr_placed, nr_standing;
	struct pci_bar **pending, **standing; /* scratch of settle.c, room for nr_bars */
	struct edit *edits;                   /* likewise */
	uint64_t settles;                     /* that found something to do */
	uint64_t conflicts;                   /* the sum of the BARs' */
	uint64_t failures; /* edits that failed for want of memory, or lost a race with another edit */
};

void pci_bus_init(struct pci_bus *bus, struct vm *vm, const struct pci_windows *windows, const uint32_t gsi[PCI_PINS]);
/* Unplugs what is left. Copes with a zeroed struct. */
void pci_bus_fini(struct pci_bus *bus);

/*
 * Declares: after device_init(&fn->dev, ...) in a type's create(). `config` lies in the type's state struct
 * and lives as long as fn. Registers nothing.
 */
void pci_function_init(struct pci_function *fn, const struct pci_ids *ids, uint8_t *config);
/*
 * BAR `index`, and index + 1 for PCI_BAR_MEM64. Sets the region up as device_region() does: size bytes, widths
 * WIDTH_*, fn called with the device's lock held; callers may change kind, lock and memory afterwards. The
 * register decodes the next power of two, at least 16 bytes of memory or 4 ports; bytes beyond the region's
 * end are unclaimed. 0 or -EINVAL: the index is taken or out of range, or the kind cannot have such a size (I/O:
 * 256, 32-bit memory: 2 GiB at most).
 */
int pci_bar_init(struct pci_function *fn, unsigned index, enum pci_bar_kind kind, bool prefetch, struct region *region,
	const char *name, uint64_t size, uint8_t widths, trap_fn *trap) __attribute__((warn_unused_result));
/* The function has an INTx wire: pin 1-4 for INTA-INTD. */
void pci_intx_init(struct pci_function *fn, unsigned pin);
/*
 * A capability of `len` bytes, its two-byte header included, appended to the list. Returns its offset in config
 * space, 0 where there is no room left. Its bytes are zero and read-only until pci_init()ed.
 */
unsigned pci_capability(struct pci_function *fn, uint8_t id, unsigned len);
/* Power-on value and writable bits of 1, 2 or 4 bytes, before the function is plugged in. */
void pci_init(struct pci_function *fn, unsigned reg, unsigned len, uint32_t value, uint32_t writable);
/* Unplugs, waits until no handler runs, undoes pci_function_init(). For destroy(); never in a handler. */
void pci_function_fini(struct pci_function *fn);

/*
 * Plugs fn in: connects its wire, gives its BARs places from the windows. Function 0 of a slot comes first.
 * 0 or -errno with nothing changed: -EINVAL slot or function out of range or no function 0, -EBUSY the place
 * is taken, -ENOSPC a window is full, -ENOMEM.
 */
int pci_bus_add(struct pci_bus *bus, struct pci_function *fn, unsigned slot, unsigned function, struct error *err)
	__attribute__((warn_unused_result));
/* Off the bus; legal in handlers; does not wait for those in flight. Idempotent. */
void pci_bus_remove(struct pci_function *fn);
/* Config space, BARs and wire to their power-on state. For a type's reset(), with the device's lock held. */
void pci_function_reset(struct pci_function *fn);

/*
 * One guest access to config space, len 1, 2 or 4, by function and register. Reads of absent functions, of
 * other widths or past the end give all ones; such writes vanish.
 */
uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned len);
void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned len, uint32_t value);

/* A device's own view of its config space, with the PCI bus lock held or before it is plugged in. */
uint32_t pci_get(const struct pci_function *fn, unsigned reg, unsigned len);
void pci_set(struct pci_function *fn, unsigned reg, unsigned len, uint32_t value);

/* After a restore: wire and BARs follow from config space. For a type's start(), with the device's lock held. */
void pci_function_sync(struct pci_function *fn);

/* Sets the level of the function's INTx wire, low while PCI_COMMAND_INTX_DISABLE or MSI-X is on. Legal in handlers. */
void pci_intx(struct pci_function *fn, bool level);
/* Bit n: BAR n decodes now. */
unsigned pci_bars_live(struct pci_function *fn);
/* The GSI that a slot's pin (1-4) raises, or IRQ_NONE. */
uint32_t pci_gsi(const struct pci_bus *bus, unsigned slot, unsigned pin);

/* What BAR holds as an address, flags cut off, whether it decodes or not. With the PCI bus lock held. */
uint64_t pci_bar_address(const struct pci_bar *bar);
/* Makes what decodes agree with the registers. With the PCI bus lock held; legal in handlers. See settle.c. */
void pci_bus_settle(struct pci_bus *bus);
/*
 * Gives fn's BARs places from the windows, in its power-on image, and lists them in bus->placed, which has room. 0 or
 * -ENOSPC with *full the BAR that found none, and none of them listed.
 */
int pci_place_bars(struct pci_bus *bus, struct pci_function *fn, struct pci_bar **full)
	__attribute__((warn_unused_result));
void pci_forget_bars(struct pci_bus *bus, const struct pci_function *fn);

#endif
