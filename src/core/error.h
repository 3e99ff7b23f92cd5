/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.h - why set-up failed, in one line, for main() to print.
 *
 * Functions that can fail in set-up take a `struct error *` and return -errno. Neither a guest's misbehaviour
 * (a counter) nor a host failure at run time (vm_stop()) is an error in this sense.
 */
#ifndef TRAPLINE_CORE_ERROR_H
#define TRAPLINE_CORE_ERROR_H

struct error {
	int status;     /* exit status, where the function knows better than its stage; 0: the stage's */
	char text[512]; /* what, where, why; no newline, no full stop */
	char hint[256]; /* the remedy, if there is one to name */
};

/* Sets the text, printf-like. Returns `code`, a negative errno, so that callers can `return error_set(...)`. */
int error_set(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "what: " before the text that is there. Returns `code`. */
int error_prefix(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/*
 * What an option names is to blame for the failure `code`, or the host that has run out of something: the first sets
 * the status (usage), unless there is one already. Returns `code`.
 */
int error_of_option(struct error *err, int code);
void error_hint(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
