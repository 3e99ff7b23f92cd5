/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.h - a whole machine's life: stages run forward to build it, and backward to take it down.
 */
#ifndef TRAPLINE_MACHINE_MACHINE_H
#define TRAPLINE_MACHINE_MACHINE_H

#include <signal.h>
#include <stdbool.h>

#include "arch/arch.h"
#include "core/backing.h"
#include "core/status.h"
#include "core/thread.h"
#include "core/vm.h"
#include "host/console.h"
#include "host/output.h"
#include "host/tty.h"
#include "kvm/kvm.h"
#include "machine/ends.h"
#include "machine/terminal.h"
#include "machine/timings.h"

struct machine_config {
	struct guest_config guest;
	struct backing_config backing; /* of its RAM */
	const unsigned *host_cpus;     /* one a vCPU, to which its thread is bound; NULL: any */
	const struct arch *arch;
	const char *name;       /* in messages; NULL: none */
	const char *kvm_device; /* KVM_DEVICE, or what the user says */
	struct console_config consoles[VM_PORTS];
	bool no_reboot;
	unsigned boot_timeout;     /* seconds until the guest has to be ready; 0: any time */
	unsigned shutdown_timeout; /* seconds from a signal to the guest's end */
	const char *dump_dtb;      /* a file for the device tree that the guest gets; NULL: none is written */
	bool debug;                /* tell of stages, resets and traps on stderr */
	struct timings timings;    /* begun by the command */
	bool dry_run;              /* build everything that needs no KVM, no terminal and no thread */
	/* With dry_run: the clock stands until it is stepped, and the consoles are what config says. */
	bool device_test;
	const char *debugcon; /* see debugcon.h; NULL: there is none */
	int64_t epoch;        /* that clock's: ns since 1970 */
};

/* The boot CPU's thread loads the guest while KVM is made ready for it. */
struct loading {
	struct early_thread thread;
	int result; /* with its line, when the thread has loaded it */
	struct error err;
};

struct machine {
	struct machine_config config;
	struct vm vm;
	struct backing ram;
	struct board *board;
	struct kvm kvm;
	struct loading loading;
	struct console consoles[VM_PORTS];
	struct chardev debugcon;
	struct output debugcon_file;
	struct tty tty;
	struct terminal terminal;
	struct ends ends;
	sigset_t old_signals;
	void (*old_sigpipe)(int), (*old_sigxfsz)(int);
	struct loop_work requested, entered;
	enum run_reason ended; /* why the loop was left */
	bool paused;           /* machine_pause() */
	unsigned resets;
	unsigned stages_up; /* how many stages are up */
};

/*
 * Runs the stages. 0, or an exit status (enum status) with one line in `err`; then nothing is left behind.
 * The machine is as big as it says: make it with calloc() or on a large stack.
 */
int machine_up(struct machine *machine, const struct machine_config *config, struct error *err)
	__attribute__((warn_unused_result));
/* Runs the guest until it ends. Returns an exit status; a line in `err` where there is something to say. */
int machine_run(struct machine *machine, struct error *err);
/*
 * Resets it in place, on the loop's thread. 0, or -errno with a line in `err`: what a loader loads cannot be loaded
 * again, and no vCPU runs any more. machine_run() does it by itself where a guest asks for it.
 */
int machine_reset(struct machine *machine, struct error *err) __attribute__((warn_unused_result));
/*
 * On the loop's thread: vCPUs and virtio queues come to rest, and no device touches the guest's memory; clocks go on,
 * as for a process that was stopped. 0, or -EBUSY with a line in `err`: it runs on. Paused already, or not, is fine
 * with both; a reset resumes.
 */
int machine_pause(struct machine *machine, struct error *err) __attribute__((warn_unused_result));
void machine_resume(struct machine *machine);
void machine_down(struct machine *machine);

/* One line to the user while the guest runs; lost where nobody reads, since the event loop must not wait. */
void machine_tell(const struct machine *machine, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
