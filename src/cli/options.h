/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - command lines by a table: the parser, the grouped help and the "did you mean" are derived from it.
 */
#ifndef TRAPLINE_CLI_OPTIONS_H
#define TRAPLINE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"

/*
 * A STRING's value is a name of something and not empty, a TEXT's can be. An OPTIONAL's value is a string that only
 * --name=VALUE gives; without one it is "". So is that of REPEAT_OPTIONAL, which may be given more than once, as
 * REPEAT. RANGE: a count, of which `value` names the least and the most, "1-8". ALIAS: another name, which --help does
 * not tell, of the option that `value` names. TABLE: its target is another table, which stands here as if it were
 * written out.
 */
enum option_kind {
	OPTION_GROUP,
	OPTION_FLAG,
	OPTION_STRING,
	OPTION_TEXT,
	OPTION_OPTIONAL,
	OPTION_REPEAT,
	OPTION_REPEAT_OPTIONAL,
	OPTION_ALIAS,
	OPTION_TABLE,
	OPTION_COUNT,
	OPTION_RANGE,
	OPTION_SIZE,
	OPTION_END
};

/* The values of an option that may be given more than once, in the order of the command line. */
#define OPTION_VALUES 32
struct option_values {
	const char *text[OPTION_VALUES];
	unsigned n;
};

struct option_spec {
	enum option_kind kind;
	char letter;       /* 0: none */
	const char *name;  /* GROUP: its heading */
	const char *value; /* what --help calls the value */
	const char *help;
	void *target; /* bool, const char *, struct option_values, unsigned, uint64_t (bytes) */
};

/*
 * Arguments that are no options: how many; and one that may have been meant as one's value, "2M" of "--hugepages 2M".
 */
struct option_words {
	int n;
	const char *option, *astray; /* the option's name, which takes a value by '=' only, and the word. NULL: none */
};

/*
 * Fills in the targets. Arguments that are no options are left in argv, moved to its front, and *words tells of them.
 * 0, or -EINVAL with one line in `err`.
 */
int options_parse(const struct option_spec *specs, int argc, char **argv, struct option_words *words, struct error *err)
	__attribute__((warn_unused_result));
/* A word is wrong: hints at what may have been meant, where it went astray. */
void options_astray(const struct option_words *words, struct error *err);
void options_help(const struct option_spec *specs, FILE *out);

/* "512" MiB, or with a suffix B K M G T P (powers of 1,024). 0, or -EINVAL / -ERANGE with one line in `err`. */
int options_size(const char *text, uint64_t *bytes, struct error *err) __attribute__((warn_unused_result));

#endif
