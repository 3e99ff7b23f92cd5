/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tester.h - a machine without vCPUs, driven by lines of text. docs/device-test.md has the language.
 *
 * A line in, a line out: "ok ..." or "error ...". What a device asks of the machine is a line of its own, "event ...",
 * before the answer to the command during which it was asked for.
 */
#ifndef TRAPLINE_CLI_TESTER_H
#define TRAPLINE_CLI_TESTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/machine.h"

#define TESTER_LINE  16384 /* bytes of the longest command, its newline included */
#define TESTER_WORDS 1088
#define TESTER_MSIS  64 /* kept until they are asked for */

struct tester_line {
	bool level;
	uint64_t raised; /* rising edges that the interrupt chip saw */
};

struct tester_msi {
	uint64_t addr;
	uint32_t data;
};

struct tester {
	struct machine *machine;
	struct initiator from;
	struct tester_line lines[IRQ_LINES]; /* under the router's lock, like the messages */
	struct tester_msi msis[TESTER_MSIS]; /* the newest */
	uint64_t nr_msis;
	off_t taken[VM_PORTS]; /* bytes of what the guest sent by each port that were asked for */
	struct loop_work requested;
	bool quit;     /* by the command of that name */
	bool lost;     /* the machine could not be reset: nothing more is served */
	char *text;    /* the answer that is being made */
	size_t length; /* of it */
	size_t size;   /* of its buffer */
	bool cut;      /* there was no memory for all of it */
	char *words[TESTER_WORDS];
	/* Takes one line, its newline included. On the loop's thread. */
	void (*say)(void *arg, const char *line, size_t length);
	void *say_arg;
};

/*
 * Drives a machine that was built with `device_test`; each of its consoles is a CONSOLE_FD, an empty file.
 * All on the loop's thread, or while that does not run. Undone by tester_fini(), before machine_down().
 */
void tester_init(struct tester *tester, struct machine *machine,
	void (*say)(void *arg, const char *line, size_t length), void *say_arg);
void tester_fini(struct tester *tester);
/*
 * Carries out one command and says its answer. `line` is `length` bytes without a newline, followed by one byte that
 * may be written to; all of it may be changed. Any bytes are fine; blanks alone, and what begins with '#', have no
 * answer.
 */
void tester_line(struct tester *tester, char *line, size_t length);
/* Says that a line was not carried out. */
void tester_refuse(struct tester *tester, const char *why);

#endif
