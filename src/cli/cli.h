/* SPDX-License-Identifier: BSD-2-Clause */
/* cli.h - the commands. Each returns an exit status, and one line in `err` where there is one to say. */
#ifndef TRAPLINE_CLI_CLI_H
#define TRAPLINE_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "core/error.h"
#include "core/status.h"
#include "machine/machine.h"

struct command {
	const char *name, *summary;
	int (*run)(int argc, char **argv, struct error *err); /* argv[0] is the command's name */
};

int cmd_run(int argc, char **argv, struct error *err);

/* The machine as it would be built. */
void dry_run_text(const struct machine *machine, FILE *out);
int dry_run_json(const struct machine *machine, FILE *out); /* 0 or -EILSEQ (text that is not UTF-8), -EIO */

#endif
