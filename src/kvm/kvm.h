/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm.h - the only code that knows /dev/kvm: a machine's KVM side, its vCPUs, and the bus's listener.
 */
#ifndef TRAPLINE_KVM_KVM_H
#define TRAPLINE_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/run.h"
#include "core/thread.h"
#include "core/vm.h"

#define KVM_SLOTS    512
#define KVM_MESSAGES 2048 /* with an eventfd, at most */
#define VCPU_REASONS 64   /* KVM_EXIT_* that are counted apart; the last stands for all beyond */

struct kvm_coalesced_mmio_ring;
struct kvm;

/* An access that a vCPU exited for, as answered. For a post-mortem only. */
struct vcpu_trap {
	uint64_t addr, value; /* of the first, where there were several */
	uint32_t count;
	uint8_t space, len;
	bool write;
};

#define VCPU_TRAPS 8

struct vcpu {
	struct runner runner;
	struct initiator from;
	struct kvm *kvm;
	unsigned index;
	int fd;
	struct kvm_run *run; /* shared with the kernel; mapped run_size bytes */
	pthread_t thread;
	bool started;
	bool wanted;                    /* vcpu_call() was; atomic */
	bool entered;                   /* the guest, at least once */
	uint64_t exits;                 /* to user space */
	uint64_t interrupted;           /* KVM_RUN returned, but asked for nothing */
	uint64_t reasons[VCPU_REASONS]; /* of the exits, by KVM_EXIT_* */
	/* The vCPU's own thread writes these; read while it is parked. */
	struct vcpu_trap traps[VCPU_TRAPS]; /* the last ones: a ring, the next at nr_traps % VCPU_TRAPS */
	uint64_t nr_traps;
	bool failed;    /* it is why the guest ends, or resets: a triple fault, an error of KVM's */
	void *power_on; /* the architecture's: state to restore at reset */
	char name[16];
};

struct kvm {
	int dev, fd;
	struct vm *vm;
	size_t run_size;
	struct vcpu *vcpus;
	unsigned nr_vcpus;
	/* Called once, on the boot CPU's thread, before it first enters the guest; NULL: nobody. Set before the run. */
	void (*first_entry)(void *arg);
	void *first_entry_arg;
	/*
	 * The architecture's, on the vCPU's thread: a call that the guest made to whom it runs on, and a vcpu_call().
	 * NULL: it asks for neither. Set before there are threads.
	 */
	void (*hypercall)(struct vcpu *vcpu);
	void (*called)(struct vcpu *vcpu);
	void *arch;    /* its argument */
	bool no_ports; /* no vCPU has instructions for them: they are accessed by memory; set before kvm_create() */
	struct bus_listener listener;
	uint64_t slots[KVM_SLOTS / 64]; /* bitmap of those in use; under the bus's edit lock */
	unsigned max_slots;

	/* The ring of posted writes: one a VM, filled by all vCPUs, drained before any access is served. */
	struct kvm_coalesced_mmio_ring *ring; /* NULL: this KVM has none, or no vCPU yet */
	uint32_t ring_entries;
	unsigned ring_page;
	bool ring_pio;
	pthread_mutex_t ring_lock; /* consumers; taken only when the ring is not empty; outside any device's lock */
	struct initiator posted;   /* in whose name they are served; under ring_lock */
	uint64_t posted_writes;    /* served so; under ring_lock */
	unsigned zones;            /* coalesced regions; atomic */
	struct timer ring_timer;

	uint32_t first_line; /* KVM_IRQ_LINE's number of line 0; the architecture's */
	bool msi_sender;     /* this KVM wants to know who sends a message */
	bool closing;        /* the VM goes: nothing is taken away from it one by one */

	/* What eventfds of messages lead to (routes.c): KVM's whole table. Under the interrupt router's lock. */
	struct kvm_irq_routing *routes;           /* NULL: the architecture has not said what comes first in it */
	unsigned nr_lines;                        /* entries of lines; those of messages follow */
	uint32_t first_message;                   /* GSI of the first message's entry */
	uint64_t routes_taken[KVM_MESSAGES / 64]; /* messages that have an eventfd */
};

/* One capability that a machine needs, and what for, so that a KVM which lacks it can be named. */
struct kvm_need {
	int cap;
	const char *name, *why;
};

#define KVM_DEVICE "/dev/kvm" /* where it usually is */

/* Opens `path` and checks the API version. 0, or -errno and nothing is left. */
int kvm_open(struct kvm *kvm, const char *path, struct error *err) __attribute__((warn_unused_result));
/*
 * Makes the VM, of the architecture's `type` (0: the usual one), checks the `needs` (ended by a NULL name) and listens
 * to the bus, so that every RAM region gets its slot. 0 or -errno; kvm_close() undoes any part, and kvm_open(). Linux
 * takes milliseconds to make a VM: the VM's worker thread joins the caller's control groups, which waits for a grace
 * period.
 */
int kvm_create(struct kvm *kvm, struct vm *vm, const char *path, unsigned long type, const struct kvm_need *needs,
	struct error *err) __attribute__((warn_unused_result));
void kvm_close(struct kvm *kvm);

/*
 * Takes the VM's interrupts: lines by KVM_IRQ_LINE, messages by KVM_SIGNAL_MSI, eventfds by KVM_IRQFD. After the
 * irqchip is made.
 */
void kvm_take_irqs(struct kvm *kvm);
/*
 * The `n` routes of the irqchip's lines, set at once: KVM takes only whole tables, so those with messages begin with
 * them. Before kvm_take_irqs(); without it, eventfds of messages are not taken. 0 or -errno.
 */
int kvm_set_lines(struct kvm *kvm, const struct kvm_irq_routing_entry *lines, unsigned n)
	__attribute__((warn_unused_result));

/* Makes `n` vCPUs and maps their shared pages; no thread yet. */
int kvm_make_vcpus(struct kvm *kvm, unsigned n, struct error *err) __attribute__((warn_unused_result));
/*
 * Starts and ends their threads; they begin parked, each bound to its one of `host_cpus` where that is not NULL.
 * `first` becomes the boot CPU's, if it is up; its first work is done.
 */
int kvm_start_vcpus(struct kvm *kvm, struct early_thread *first, const unsigned *host_cpus, struct error *err)
	__attribute__((warn_unused_result));
/*
 * From any thread: kvm->called() is called on the vCPU's own, before it enters the
 * guest again, which it leaves for that.
 */
void vcpu_call(struct vcpu *vcpu);
void kvm_join_vcpus(struct kvm *kvm);

/* Before parked vCPUs go on after a pause: a guest's watchdogs are not to mind it, where its clock is KVM's. */
void kvm_was_paused(struct kvm *kvm);

/* Serves what the kernel has queued of posted writes. From any registered thread, never inside a handler. */
void kvm_drain_posted(struct kvm *kvm);

/* routes.c's side of the irqchip: see struct irqchip_ops. */
int kvm_route_add(void *chip, int fd, struct irq_message message, unsigned *id);
void kvm_route_del(void *chip, int fd, unsigned id);
/* An eventfd for a GSI, or (KVM_IRQFD_FLAG_DEASSIGN) no more. 0 or -errno. */
int kvm_irqfd(struct kvm *kvm, unsigned gsi, int fd, int resample, uint32_t flags);

/* listener.c's side of kvm_open(): fills in kvm->listener. */
void kvm_listener_init(struct kvm *kvm);

/* A KVM_CHECK_EXTENSION on the VM (or on the device, before there is one): 0 where the kernel knows it not. */
int kvm_check(const struct kvm *kvm, int cap);

#endif
