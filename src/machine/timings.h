/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timings.h - what each stage of a start takes, up to the guest's first instruction.
 *
 * No clock tells when execve() was called: the kernel's start time of a process is in hundredths of a second. So the
 * wall clock begins with the command, and for what went before (execve's end, the dynamic loader) there is the
 * processor time that the process has used until then.
 */
#ifndef TRAPLINE_MACHINE_TIMINGS_H
#define TRAPLINE_MACHINE_TIMINGS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMINGS_MAX 32

struct timings {
	bool wanted, json;
	uint64_t before;      /* processor time at timings_begin(), ns */
	uint64_t began, last; /* CLOCK_MONOTONIC, ns */
	unsigned n;
	struct {
		const char *name;
		uint64_t ns;
	} stages[TIMINGS_MAX];
};

/* As the command begins. */
void timings_begin(struct timings *timings);
/* What went by since the last call was `name`'s (a constant). */
void timings_mark(struct timings *timings, const char *name);
/* On standard error: a table, or one line of JSON. */
void timings_print(const struct timings *timings);

#endif
