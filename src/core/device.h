/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device.h - what every device is: a type from the table, regions, interrupts, a lock.
 *
 * create() declares regions and interrupts as data and registers nothing; the machine gives them their places
 * and publishes them all in one edit. A device file holds no address, no interrupt number and no #ifdef.
 */
#ifndef TRAPLINE_CORE_DEVICE_H
#define TRAPLINE_CORE_DEVICE_H

#include <pthread.h>

#include "bus/bus.h"
#include "core/error.h"
#include "core/field.h"
#include "core/irq.h"
#include "core/list.h"

#define DEVICE_REGIONS 16
#define DEVICE_IRQS    4

struct vm;
struct device;
struct aml;

struct device_type {
	const char *name;          /* "uart16550": the chip */
	const char *acpi_hid;      /* "PNP0501"; NULL: not described by itself */
	const char *drivers;       /* names a Linux driver claims its regions by, '|' between; NULL: none claims */
	const struct field *state; /* of device->state; NULL: no guest-visible state */
	size_t state_offset;       /* of that struct in the device */
	/* Allocates and declares. `config` is the type's own struct from the machine's table. 0 or -errno. */
	int (*create)(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err);
	void (*start)(struct device *dev); /* threads may run; after all are placed */
	void (*stop)(struct device *dev);  /* copes with one that was never started */
	/*
	 * With every vCPU parked, on the event loop's thread: comes to rest, and touches the guest's memory no more
	 * until it is resumed, stopped or reset. False: something on the host does not end, and it goes on. NULL: it
	 * only ever acts where a vCPU or the clock has it act.
	 */
	bool (*pause)(struct device *dev);
	void (*resume)(struct device *dev);  /* fine on one that is not paused */
	void (*reset)(struct device *dev);   /* after the field table's reset, with the device's lock held */
	void (*destroy)(struct device *dev); /* frees; off the bus and drained; copes with half-built ones */
	/* ACPI objects beyond _HID, _UID, _CRS, which are written from the regions and interrupts. */
	void (*acpi)(struct device *dev, struct aml *aml);
};

/* Embedded, first, in each device's struct. */
struct device {
	const struct device_type *type;
	char name[24]; /* "serial0": this one, unique in its machine */
	struct vm *vm;
	pthread_mutex_t lock;
	struct region *regions[DEVICE_REGIONS];
	unsigned nr_regions;
	struct irq *irqs[DEVICE_IRQS];
	unsigned nr_irqs;
	unsigned uid; /* of its kind in this machine, for _UID */
	struct list node;
};

/* Zeroes *dev. `name` is copied, cut to fit. */
void device_init(struct device *dev, const struct device_type *type, struct vm *vm, const char *name);
void device_fini(struct device *dev); /* off its lines; fine on one that is all zeros */
/*
 * Declares: at most DEVICE_REGIONS and DEVICE_IRQS. `fn` gets `dev` and runs with the device's lock held. Region and
 * irq are zeroed first; `name` is kept as a pointer. Space and base are the machine's to set.
 */
void device_region(
	struct device *dev, struct region *region, const char *name, uint64_t size, uint8_t widths, trap_fn *fn);
void device_irq(struct device *dev, struct irq *irq, const char *name, enum irq_trigger trigger);
/*
 * Power-on or reset: wires go low, field table (at power-on with the fields that survive a reset), then the type's
 * own reset. Takes the device's lock.
 */
void device_reset(struct device *dev);
void device_power_on(struct device *dev);

#endif
