/* SPDX-License-Identifier: BSD-2-Clause */
/* main.c - options in, exit status out: the only file that prints errors or exits. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/say.h"
#include "core/thread.h"
#include "core/word.h"
#include "host/lost.h"

static const struct command commands[] = {
	{ "run", "run a guest", cmd_run },
	{ "device-test", "drive a machine's devices by lines of text, without KVM", cmd_device_test },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *out)
{
	fprintf(out, "usage: trapline COMMAND [options]\n\nCommands:\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "  %-12s %s\n  %-12s %s\n", "help", "print this", "version", "print the version");
	fprintf(out, "\n'trapline COMMAND --help' tells more, 'man trapline' all.\n");
}

static int unknown_command(const char *word, struct error *err)
{
	const char *names[NR_COMMANDS + 3] = { "help", "version" };
	const char *nearest;

	for (size_t i = 0; i < NR_COMMANDS; i++)
		names[2 + i] = commands[i].name;
	nearest = word_nearest(word, names);
	error_set(err, -1, "unknown command '%.100s'", word);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	else
		error_hint(err, "'trapline help' lists the commands");
	return STATUS_USAGE;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* Of all, or of one command: that is its own --help. */
static int help_on(const char *name, struct error *err)
{
	const struct command *command = name ? find(name) : NULL;
	char option[] = "--help", *argv[] = { option, option, NULL };

	if (command)
		return command->run(2, argv, err);
	if (name)
		return unknown_command(name, err);
	help(stdout);
	return STATUS_OK;
}

static int dispatch(int argc, char **argv, struct error *err)
{
	const char *word = argc > 1 ? argv[1] : "";

	const struct command *command = find(word);

	if (argc < 2) {
		help(stderr);
		return STATUS_USAGE;
	}
	if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		return help_on(argc > 2 ? argv[2] : NULL, err);
	if (strcmp(word, "version") == 0 || strcmp(word, "--version") == 0) {
		if (argc > 2) {
			error_set(err, -EINVAL, "%s takes no more words: '%.100s'", word, argv[2]);
			return STATUS_USAGE;
		}
		printf("trapline %s\n", TRAPLINE_VERSION);
		return STATUS_OK;
	}
	return command ? command->run(argc - 1, argv + 1, err) : unknown_command(word, err);
}

/* A standard stream that was closed would be the first file that we open: a kernel read from "stdin". */
static void fill_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	struct error err = { 0 };
	int status;

	fill_standard_streams();
	lost_memory_ends();
	thread_small();
	thread_adopt();
	status = dispatch(argc, argv, &err);
	/* What was printed may not have got out: a full disk. */
	if ((fflush(stdout) || ferror(stdout)) && status == STATUS_OK) {
		error_set(&err, -EIO, "standard output: %s", strerror(errno));
		status = STATUS_HOST;
	}
	if (err.text[0])
		say(SAY_MS, "%s%s%s", err.text, err.hint[0] ? "; " : "", err.hint);
	thread_release();
	return status;
}
