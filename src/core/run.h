/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.h - run states, and the one rendezvous that parks every vCPU outside handlers.
 *
 * A vCPU thread calls run_enter() before each entry into the guest; while the machine is not RUNNING it waits
 * there. Whoever wants the machine still calls run_park() from a thread that is no vCPU; pause, reset, save and
 * the debugger all use it. Handlers only ever *request*: a vCPU must not wait for itself.
 */
#ifndef TRAPLINE_CORE_RUN_H
#define TRAPLINE_CORE_RUN_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum run_state { RUN_PAUSED, RUN_RUNNING, RUN_RESETTING, RUN_STOPPED };

/* Why a machine ends or restarts. The first request of an end wins; a reset never overrides an end. */
enum run_reason {
	REASON_NONE,
	REASON_RESET,        /* asked for by the guest: 0xfe to the i8042, the ACPI reset register */
	REASON_TRIPLE_FAULT, /* a reset, as reboot=t means it */
	REASON_POWER_OFF,    /* ACPI S5 */
	REASON_QUIT,         /* the user: Ctrl-A x, or a signal and no power-off */
	REASON_PANIC,        /* told by pvpanic */
	REASON_GUEST_STATUS, /* the guest gave a status: vm->guest_status */
	REASON_BOOT_TIMEOUT, /* --boot-timeout: it never said that it is ready */
	REASON_KVM_ERROR,    /* KVM_EXIT_INTERNAL_ERROR, FAIL_ENTRY and their like */
	REASON_HOST_FAILURE,
	NR_REASONS
};

/* A vCPU, as far as the rendezvous knows it. Embedded in struct vcpu. */
struct runner {
	struct run *run;
	/*
	 * Makes the thread leave the guest and look at run_enter(); from any thread; may be spurious. Called with
	 * the run's lock held. It must last: where the vCPU is between run_enter() and the guest, it does not enter.
	 * So what it sets (immediate_exit) is cleared by the vCPU before run_enter(), never between that and the entry.
	 */
	void (*kick)(struct runner *runner);
	/* Completes a pending exit, so that the registers are the guest's; on the vCPU's thread, before it parks. */
	void (*complete)(struct runner *runner);
	bool parked;
	struct runner *next;
};

struct run {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum run_state state;   /* written under lock, read atomically */
	enum run_reason reason; /* of a request not yet carried out; atomic */
	char why[256];          /* a word more for people; stands still from an end's request on */
	bool ending;            /* an end was asked for; later requests are ignored */
	struct runner *runners;
	unsigned nr_runners, nr_parked;
	unsigned held;                /* holds that are not released yet; written under lock, read atomically */
	void (*requested)(void *arg); /* tells the control thread that there is a request; never waits */
	void *requested_arg;
};

void run_init(struct run *run); /* PAUSED */
void run_fini(struct run *run);
void run_join(struct run *run, struct runner *runner);  /* before the vCPU's first run_enter() */
void run_leave(struct run *run, struct runner *runner); /* after its last; each joined runner leaves */

/* From any thread: kicks this one, unless it has left (its thread may be gone then). Says nothing else to it. */
void run_call(struct run *run, struct runner *runner);

/* On a vCPU's thread: true to enter the guest, after waiting out any pause; false when STOPPED: end the thread. */
bool run_enter(struct runner *runner);
/* On a vCPU's thread: whether it should come back to run_enter() rather than enter the guest. Cheap. */
bool run_interrupted(struct run *run);

/* From any thread, handlers included. The asking vCPU does not enter the guest again before it is carried out. */
void run_request(struct run *run, enum run_reason reason);
/* The same with a word more for people, in run->why if this request is the one that counts. fmt may be NULL. */
void run_request_text(struct run *run, enum run_reason reason, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
/*
 * From any thread, handlers included: until it is released, no vCPU that comes out of the guest enters it again, and
 * all of them are made to come out; it waits for none of them. Holds nest. A hold is no pause: the state is as it was,
 * and held vCPUs count as parked for run_park(), and end at run_stop(). For what a guest must find done when
 * its access has returned, but a handler must not wait for.
 */
void run_hold(struct run *run);
void run_release(struct run *run);
/*
 * Takes the pending request, REASON_NONE if there is none. The machine is not RUNNING afterwards, so that nobody
 * enters the guest before the taker has carried it out: by run_park() and run_resume(), or run_stop().
 */
enum run_reason run_take_request(struct run *run);
bool run_reason_is_end(enum run_reason reason); /* neither none nor a kind of reset */
enum run_state run_state(struct run *run);

/*
 * Not on a vCPU's thread: changes the state to PAUSED or RESETTING and waits until every runner is parked outside
 * handlers. A stopped machine stays so, and is not waited for.
 */
void run_park(struct run *run, enum run_state state);
/* RUNNING, unless stopped. Requests of a reset that came while RESETTING are answered by that reset. */
void run_resume(struct run *run);
/* All runners' run_enter() returns false. Does not wait for threads to end. */
void run_stop(struct run *run);

const char *run_reason_name(enum run_reason reason);
const char *run_state_name(enum run_state state);

#endif
