/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vm.h - the machine: everything hangs from here, and two of them can live in one process.
 *
 * Devices see this much of it: the bus, guest memory, the clock, interrupts, the event loop and requests.
 * What runs it (vCPUs, KVM, the boot loader) is machine/'s business.
 */
#ifndef TRAPLINE_CORE_VM_H
#define TRAPLINE_CORE_VM_H

#include <stdint.h>

#include "bus/bus.h"
#include "core/chardev.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"
#include "core/list.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/run.h"

/* What a user can press. */
enum vm_button { BUTTON_POWER, BUTTON_SLEEP };

#define VM_STATUS_GIVEN 0x100

/* A cable that the user can pull, and plug in again: a network device's. On the event loop's thread. */
struct vm_link {
	const char *name; /* the device's */
	bool wanted;      /* the user's wish, as it was told by set() */
	void (*set)(struct vm_link *link, bool up);
	bool (*up)(struct vm_link *link); /* false also where its other end is gone */
	struct list node;                 /* of vm->links */
};

/* Ports that can talk to something: the serial ones, then those of a virtio console. */
#define VM_SERIALS 4
#define VM_HVCS    4
#define VM_PORTS   (VM_SERIALS + VM_HVCS)

/* Memory that the guest lends to the host, in bytes. */
struct vm_balloon {
	uint64_t want, has; /* what the user wants it to be, what the guest says that it is */
	bool told;          /* the guest has said what follows, at `when` on the clock */
	uint64_t when, total, free, available;
};

struct vm {
	struct bus *bus;
	struct mem mem;
	struct clock clock;
	struct loop loop;
	struct irq_router irqs;
	struct run run;
	struct list devices; /* struct device.node, in the order of the machine's table */
	struct list links;   /* struct vm_link.node, in the order of their devices */
	uint64_t ram_size;   /* bytes */
	/*
	 * Devices whose guest decides how many descriptors they hold, and which share
	 * what there are; known before they are made.
	 */
	unsigned file_holders;
	/* What serial0 and so on talk to; NULL: nothing. */
	struct chardev *ports[VM_PORTS];
	struct chardev *console;  /* the first one's, where others put what is for the same reader */
	struct chardev *debugcon; /* what the debug console talks to; NULL: the machine has none */
	uint64_t guest_faults;    /* misbehaviour that has no counter of its own; atomic */
	uint64_t ready_at;        /* when the guest said that it runs its init; ns of the clock, 0: not yet; atomic */
	uint32_t guest_status;    /* VM_STATUS_GIVEN and the byte that the guest gave, or 0; atomic */
	/* The device with the buttons, which sets it when it starts; NULL: the machine has none. See vm_press(). */
	bool (*press)(struct device *dev, enum vm_button button);
	struct device *press_dev;
	/* Likewise the device with keyboard and mouse; see vm_key() and vm_mouse(). */
	bool (*key)(struct device *dev, const uint8_t *codes, size_t n);
	bool (*mouse)(struct device *dev, int dx, int dy, uint8_t buttons);
	struct device *input_dev;
	/* Likewise the balloon; see vm_balloon(). */
	void (*balloon)(void *arg, const uint64_t *want, struct vm_balloon *now);
	void *balloon_arg;
	/* Likewise who wants to know that the terminal behind a port has such a size, in characters. */
	void (*resize)(void *arg, const struct chardev *chardev, uint16_t cols, uint16_t rows);
	void *resize_arg;
};

/*
 * bus, clock (manual or not), loop, run states, interrupt lines without a chip (see irq_router_chip()). 0 or -errno;
 * undone by vm_fini(), which copes with half of it and with one that is all zeros, and destroys the devices.
 */
int vm_init(struct vm *vm, bool manual_clock, struct error *err) __attribute__((warn_unused_result));
void vm_fini(struct vm *vm);

/*
 * Adds the devices' regions, already placed, in one publish, and links them. 0 or -errno, nothing changed and the
 * devices still the caller's: -EEXIST a name is taken, or a place (the text names both sides).
 */
int vm_add_devices(struct vm *vm, struct device **devices, unsigned n, struct error *err)
	__attribute__((warn_unused_result));
/* Stopped, off the bus and its lines, drained, destroyed. On the event loop's thread, or with no vCPU running. */
void vm_remove_device(struct device *dev);
/* The same for all of them, last first. */
void vm_remove_devices(struct vm *vm);
struct device *vm_device(struct vm *vm, const char *name); /* NULL: none of that name */

/* Requests, legal in handlers. */
void vm_reset(struct vm *vm);
void vm_stop(struct vm *vm, enum run_reason reason, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Presses a button and lets it go. True: the guest is told by an interrupt, which it has asked for. False: it has
 * not (it is still booting, or has no driver), or there is no such button; what happens then is the caller's choice. On
 * the event loop's thread.
 */
bool vm_press(struct vm *vm, enum vm_button button);
/*
 * One key's event, n bytes of scan code set 2, make or break. False: no keyboard, or the guest does not take its keys.
 * On the event loop's thread.
 */
bool vm_key(struct vm *vm, const uint8_t *codes, size_t n);
/*
 * The mouse moves by so many counts, right and up positive, and its buttons are so: 1 left, 2 right, 4 middle. False:
 * no mouse, or the guest has it off. On the event loop's thread.
 */
bool vm_mouse(struct vm *vm, int dx, int dy, uint8_t buttons);
/*
 * How the balloon is, after it was told to become *want, unless that is NULL; and the guest is asked for its figures,
 * for the next call. False: there is none. On the event loop's thread.
 */
bool vm_balloon(struct vm *vm, const uint64_t *want, struct vm_balloon *now);

#endif
