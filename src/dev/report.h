/* SPDX-License-Identifier: BSD-2-Clause */
/* report.h - what a guest tells its host: that it has panicked, that it is ready, a status with which to end. */
#ifndef TRAPLINE_DEV_REPORT_H
#define TRAPLINE_DEV_REPORT_H

#include <stdbool.h>

#include "core/device.h"

/* The pvpanic device's bits: what it reads is what it knows, what is written has happened. */
enum {
	PVPANIC_PANICKED = 1 << 0,
	PVPANIC_CRASH_LOADED = 1 << 1, /* the guest has panicked and goes on by itself: it has loaded a crash kernel */
};

/* No config; one region of a byte. A panic is vm_stop(REASON_PANIC), unless the guest handles it by itself. */
extern const struct device_type pvpanic_type;

/* Indices into the report device's regions. */
enum { REPORT_EXIT, REPORT_READY, NR_REPORT_REGIONS };

#define REPORT_EXIT_SIZE   4   /* bytes; the lowest of what is written is the status */
#define REPORT_READY_VALUE 123 /* to be written to `ready` when init runs; other values mean nothing */

struct report_config {
	bool exit; /* a status ends the machine; else it is not taken, and `exit` reads as all ones */
};

/* A status is vm_stop(REASON_GUEST_STATUS) and vm->guest_status; ready is vm->ready_at. */
extern const struct device_type report_type;

#endif
