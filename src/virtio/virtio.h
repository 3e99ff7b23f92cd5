/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio.h - virtio devices and what carries them (virtio 1.2, section 2).
 *
 * A device file (rng.c, blk.c, net.c...) knows queues, features and its config space; a transport (pci.c, mmio.c) knows
 * registers and interrupts. Between them stands this file's struct virtio: device.c keeps status, negotiation and
 * the life of the queues for all transports.
 *
 * The transport is the struct device that the machine places; its config is a struct virtio_config. It makes the device
 * by type->create(), which calls virtio_init() and virtio_queue().
 *
 * Serving: each queue has an eventfd that kicks signal - by a doorbell in the kernel, or by the transport's trap
 * handler where the kernel does not take it - and a loop whose thread serves it: the machine's own (vm->loop) for what
 * never waits, or one of the device's, which a thread of its own runs (virtio_worker). type->serve(v, i) is called on
 * that thread only, while the queue is enabled and the driver is ready, with no lock held.
 *
 * Reset, by the driver or the machine, and the reset of one queue: the registers change at once; the loops that serve
 * are asked to leave the queue (on their own thread, so never in the middle of serve()), then type->quiesce() has the
 * device cancel or finish what is in flight and call virtio_quiet(). Until all of it is over no vCPU enters the
 * guest (run_hold() in core/run.h), so that nothing is written to a guest's memory after it has seen the reset; status
 * reads as it was until then. Handlers do not wait for it.
 */
#ifndef TRAPLINE_VIRTIO_VIRTIO_H
#define TRAPLINE_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdatomic.h>

#include "core/device.h"
#include "core/loop.h"
#include "core/vm.h"
#include "virtio/queue.h"

#define VIRTIO_QUEUES    64 /* of one device at most */
#define VIRTIO_NO_VECTOR 0xffff

struct virtio;

/* One of the things that a device counts over all its lives, by name. */
typedef void virtio_count_fn(void *arg, const char *name, uint64_t n);

struct virtio_type {
	const char *name;   /* "blk": in listings and in the transport's name */
	uint16_t id;        /* VIRTIO_ID_* */
	uint32_t pci_class; /* base class << 16 | subclass << 8 | interface */
	bool shares_memory; /* another process serves it: guest RAM is to be memory that it can map, by a descriptor */
	bool holds_files;   /* the guest decides how many descriptors it holds: see vm->file_holders */
	int (*create)(struct vm *vm, const char *name, const void *config, struct virtio **out, struct error *err);
	void (*destroy)(struct virtio *v); /* stopped, quiet; frees; copes with half-built ones */
	/*
	 * A driver's access to [offset, offset + len) of the config space, within config_len, with the device's lock
	 * held. NULL read: v->config is the answer. NULL write: writes vanish.
	 */
	void (*config_read)(struct virtio *v, unsigned offset, unsigned len, uint8_t *bytes);
	void (*config_write)(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes);
	/* DRIVER_OK came: features are final. With the device's lock held. May be NULL. */
	void (*ready)(struct virtio *v);
	/*
	 * Queue `index` is to be served from now on, until quiesce(). True: by somebody else, who takes its kicks
	 * (virtio/vhost.h). False: by serve(). On the serving loop's thread, with no lock held, so it may wait where
	 * that may. NULL: serve().
	 */
	bool (*hand_over)(struct virtio *v, unsigned index);
	/* Take what queue `index` holds, until virtq_kicks_on() says that there is no more. */
	void (*serve)(struct virtio *v, unsigned index);
	/*
	 * The queue is served no more; call virtio_quiet(v, index) as soon as no chain of it is in flight and none
	 * will be touched, from any thread, perhaps right here. On the serving loop's thread. NULL: nothing is ever in
	 * flight outside serve().
	 */
	void (*quiesce)(struct virtio *v, unsigned index);
	/*
	 * The queue is paused, which virtq_pause() sees to: on the serving loop's thread, what the device has in flight
	 * comes to rest, with no lock held. True: it has; false: virtio_paused() will tell. What it keeps of a driver's
	 * for an event of its own it keeps, while virtq_paused(). NULL: nothing is in flight outside serve().
	 */
	bool (*pause)(struct virtio *v, unsigned index);
	/* All queues are quiet after a reset: back to power-on. With the device's lock held. May be NULL. */
	void (*reset)(struct virtio *v);
	/*
	 * What --stats tells of the device besides its queues: a call of `one` for each. From any thread. May be NULL.
	 */
	void (*counts)(struct virtio *v, virtio_count_fn *one, void *arg);
};

/* A transport's side. `v->transport` is its struct device, whose lock guards status and registers. */
struct virtio_transport_ops {
	void (*used)(struct virtio *v,
		unsigned index);          /* used buffers on a queue: interrupt. From any thread, no lock held */
	void (*config)(struct virtio *v); /* the config space changed: interrupt. Likewise */
	void (*broken)(struct virtio *v); /* DEVICE_NEEDS_RESET was set: a config interrupt. Likewise */
	/* Queue `index` is enabled or no more: arm or disarm its doorbell. With the device's lock held. May be NULL. */
	void (*enabled)(struct virtio *v, unsigned index, bool on);
	/*
	 * From now on signals of the eventfd `fd` interrupt as used() would, without us where that can be; -1: no more.
	 * Those that nobody takes yet stay in it, and who called watches it as well. With the device's lock held. NULL:
	 * it cannot.
	 */
	void (*call)(struct virtio *v, unsigned index, int fd);
	/*
	 * A reset is over, and nothing of the device's last life will call used() or config() any more: the transport's
	 * own registers and wires to power-on. With the device's lock held. May be NULL.
	 */
	void (*reset)(struct virtio *v);
};

struct virtio_queue {
	struct virtq q;
	struct virtq_state state;
	int kick;          /* eventfd; the transport's doorbell signals it, virtio_kick() too */
	struct loop *loop; /* that serves it */
	struct loop_watch watch;
	struct loop_work enter; /* hand_over, on that loop's thread */
	struct loop_work leave; /* quiesce, likewise */
	struct loop_work halt;  /* pause, likewise */
	struct virtio *v;
	unsigned index; /* of itself */
	bool quiet;     /* under the device's lock: false from the begin of a reset of it until nothing is in flight */
	bool asked;     /* likewise: to leave, and has not yet */
	bool armed;     /* likewise: it is served: the loop watches `kick`, or it is or will be handed over */
	bool halting;   /* likewise: to pause, and has not yet */
	bool halted;    /* likewise: paused, and to be served on */
	atomic_ullong kicks, interrupts; /* for statistics: how often its loop was woken, and the driver told */
};

struct virtio {
	const struct virtio_type *type;
	struct device *transport;
	const struct virtio_transport_ops *ops;
	struct vm *vm;
	uint64_t offered; /* features, the transport's and the queues' included */
	bool legacy;      /* the transport's, after virtio_attach(): drivers of before 1.0 are served too */
	struct virtio_state {
		uint64_t features;  /* that the driver took */
		uint8_t status;     /* VIRTIO_CONFIG_S_* */
		uint8_t generation; /* of the config space */
		uint8_t isr;        /* 1: used buffers, 2: config; the transport's */
	} state;
	uint8_t *config; /* the device's config space, little-endian; config_len bytes, in the device's struct */
	unsigned config_len;
	struct virtio_queue *queues[VIRTIO_QUEUES];
	unsigned nr_queues;
	unsigned leaving; /* queues that are not quiet yet, under the device's lock */
	unsigned halting; /* those that are not paused yet, likewise */
	bool resetting;   /* a whole reset waits for them */
	uint64_t resets;  /* atomic: whole ones, the driver's and the machine's */
	/* device.c's own */
	bool stuck;               /* virtio_stop() has waited for it in vain, and will not again */
	bool abandoned;           /* it never became quiet, and the machine is gone: see virtio_destroy() */
	struct mem nowhere;       /* the guest's memory for what is abandoned */
	pthread_cond_t all_quiet; /* with the device's lock: leaving fell to 0, or halting */
	struct loop_work broken;  /* on vm->loop: a queue broke */
};

/* What the machine hands to a transport's create(). */
struct virtio_config {
	const struct virtio_type *type;
	const void *config; /* the type's own */
	bool legacy;        /* PCI: transitional, with the legacy I/O BAR; MMIO: version 1 */
	bool ports;         /* PCI: the processor has instructions for ports, so doorbells are there as well */
};

/*
 * For create(): zeroes *v first. `features`: what the device offers of its own bits; those of the ring and VERSION_1
 * are added by device.c. `config` lives as long as v.
 */
void virtio_init(struct virtio *v, const struct virtio_type *type, struct vm *vm, uint64_t features, void *config,
	unsigned config_len);
/* The next queue: at most `max` descriptors, served on `loop`. 0 or -errno, with a line. */
int virtio_queue(struct virtio *v, uint16_t max, struct loop *loop, struct error *err)
	__attribute__((warn_unused_result));
void virtio_fini(struct virtio *v); /* for destroy(); copes with half of it */

static inline bool virtio_has(const struct virtio *v, unsigned bit)
{
	return v->state.features >> bit & 1;
}

/*
 * A plain device's serve(): `take` gets each chain, to push or drop, and the driver is told. After VIRTIO_TURN of them
 * it is the loop's other work's turn, and a kick brings the rest: no guest keeps a loop for itself.
 */
#define VIRTIO_TURN 32
void virtio_take(
	struct virtio *v, unsigned index, void (*take)(struct virtio *v, unsigned index, struct virtq_chain *chain));

/* A queue's eventfd is signalled, as by the driver. From any thread, legal in handlers. */
void virtio_kick(struct virtio *v, unsigned index);
/*
 * Queue `index` is handed over or taken back anew, in its life: hand_over() again. On
 * the serving loop's thread, no lock held.
 */
void virtio_enter(struct virtio *v, unsigned index);
/* See quiesce() above. From any thread, with no lock held or the serving thread's own. */
void virtio_quiet(struct virtio *v, unsigned index);
/* See pause() above. From any thread, with no lock held. */
void virtio_paused(struct virtio *v, unsigned index);
/*
 * The device changed its config space: generation, interrupt. From any thread, no lock held. A field that a driver
 * reads in more than one access (4 bytes at a time) is changed by virtio_config_set() instead, with the generation at
 * once.
 */
void virtio_config_changed(struct virtio *v);
void virtio_config_set(struct virtio *v, unsigned offset, const void *bytes, unsigned len);

/* A thread that runs a loop of its own, for work that may wait. 0 or -errno. `name`: at most 15 characters. */
struct virtio_worker {
	struct loop loop;
	pthread_t thread;
	bool running;
	bool patient; /* it has made itself so; its own */
};
int virtio_worker_start(struct virtio_worker *worker, const char *name) __attribute__((warn_unused_result));
void virtio_worker_stop(struct virtio_worker *worker); /* copes with one that never started */
/*
 * Patient, a thread that is woken does not take a processor from who is at work there, such as the vCPU that has woken
 * it: it has its turn when that rests or has used up its own, and at once where a processor is idle. By its own thread;
 * one that the user has scheduled in some way of theirs, or that is no worker's, stays as it is.
 */
void virtio_worker_be_patient(struct virtio_worker *worker, bool yes);

/* For transports, with the device's lock held. */
void virtio_attach(struct virtio *v, struct device *transport, const struct virtio_transport_ops *ops);
/* The driver wrote `status` (2.1, 3.1): 0 resets; bits are only ever added; FEATURES_OK may be refused. */
void virtio_set_status(struct virtio *v, uint8_t status);
uint8_t virtio_status(struct virtio *v);
/* 32 bits of the driver's features by index; ignored once FEATURES_OK stands (legacy: DRIVER_OK). */
void virtio_set_features(struct virtio *v, unsigned index, uint32_t bits);
uint32_t virtio_offered(const struct virtio *v, unsigned index, bool legacy);
/* The driver enables queue `index` with what its state says. Illegal orders and indices are ignored. */
void virtio_enable_queue(struct virtio *v, unsigned index);
/* Whether it may by the rules (VIRTIO_F_RING_RESET, a legacy PFN of 0) is the transport's to know. */
void virtio_reset_queue(struct virtio *v, unsigned index);
void virtio_config_read(struct virtio *v, unsigned offset, unsigned len, uint8_t *bytes); /* beyond the end: zeros */
void virtio_config_write(struct virtio *v, unsigned offset, unsigned len, const uint8_t *bytes);

/* For a transport's device_type. */
/*
 * stop(): resets the device, and waits until it is quiet, but not for ever: where a request on the host does not end,
 * the machine is ended (vm_stop()). On the thread of vm->loop or while that does not run, with no lock held;
 * idempotent.
 */
void virtio_stop(struct virtio *v);
/* pause() and resume(). */
bool virtio_pause(struct virtio *v) __attribute__((warn_unused_result));
void virtio_resume(struct virtio *v);
void virtio_power_on(struct virtio *v); /* reset(), with the device's lock held; stopped */
/*
 * destroy(): frees *v, stopped. False: something on the host still uses it, which has to be left as it is, the
 * transport's struct device with it. NULL is fine.
 */
bool virtio_destroy(struct virtio *v);

/* The device that `dev` carries; NULL: it is no virtio transport. */
struct virtio *virtio_of(struct device *dev);

/* Tables of the guest-visible state: struct virtio_state and struct virtq_state. */
extern const struct field virtio_state_fields[], virtq_state_fields[];

struct virtio *virtio_mmio_carries(struct device *dev);
struct virtio *virtio_pci_carries(struct device *dev);

extern const struct device_type virtio_pci_type;  /* config: struct virtio_config */
extern const struct device_type virtio_mmio_type; /* likewise; one region of 0x200 bytes, one irq */

#endif
