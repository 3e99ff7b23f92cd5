/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * boot_stopwatch.c - runs a monitor and tells when the guest's init spoke.
 *
 *     stopwatch [-m] [-c COUNTER]... COMMAND [WORD...]
 *
 * The command's output is a pipe that is read as soon as something comes. Printed are the nanoseconds from just before
 * exec to the mark, the bytes that came until then, and the command's end:
 *
 *     @mark NANOSECONDS BYTES
 *     @end exit STATUS | @end signal NUMBER | @end late
 *
 * Each COUNTER is a file of a trace point's histogram or of one number, which is copied line by line, as `@at-mark NAME
 * LINE` when the mark was seen and as `@at-end NAME LINE` when the command has ended; NAME is the file's. With -m the
 * command's memory is told at the mark, its /proc/PID/smaps as `@smaps LINE`.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boot_mark.h"

#define COUNTERS    16
#define BOOT_MS     60000
#define POWEROFF_MS 2000

static const char *counters[COUNTERS];
static unsigned nr_counters;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void copy_counters(const char *when)
{
	char line[512];

	for (unsigned i = 0; i < nr_counters; i++) {
		FILE *file = fopen(counters[i], "r");

		if (!file) {
			printf("@%s cannot read %s: %s\n", when, counters[i], strerror(errno));
			continue;
		}
		while (fgets(line, sizeof(line), file)) {
			if (line[0] == '{' || (line[0] >= '0' && line[0] <= '9'))
				printf("@%s %s %s", when, strrchr(counters[i], '/') + 1, line);
		}
		fclose(file);
	}
}

static void copy_smaps(pid_t pid)
{
	char line[512];
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/smaps", (int)pid);
	file = fopen(line, "r");
	while (file && fgets(line, sizeof(line), file))
		printf("@smaps %s", line);
	if (file)
		fclose(file);
}

/* Output up to the first mark; what the kernel says of the command line holds none. */
static int watch(int fd, uint64_t begin, pid_t smaps)
{
	static char text[1 << 20];
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	uint64_t limit = begin + BOOT_MS * 1000000ULL;
	size_t have = 0, bytes = 0;
	int marked = 0;

	for (;;) {
		uint64_t at = now();
		ssize_t n;

		if (at >= limit)
			return -1;
		if (poll(&ready, 1, (int)((limit - at) / 1000000 + 1)) <= 0)
			continue;
		n = read(fd, text + have, sizeof(text) - 1 - have);
		if (n <= 0)
			return marked;
		at = now();
		have += (size_t)n;
		bytes += (size_t)n;
		text[have] = '\0';
		if (!marked && strstr(text, "\n" BOOT_MARK)) {
			printf("@mark %llu %zu\n", (unsigned long long)(at - begin), bytes);
			usleep(BOOT_PAUSE_MS * 1000 / 10); /* the line's end has to leave the guest, too */
			copy_counters("at-mark");
			if (smaps)
				copy_smaps(smaps);
			marked = 1;
			limit = now() + POWEROFF_MS * 1000000ULL;
		}
		/* The mark's length is all that has to be kept. */
		if (have > 64) {
			memmove(text, text + have - 64, 64);
			have = 64;
		}
	}
}

int main(int argc, char **argv)
{
	int fds[2], status, option, memory = 0;
	uint64_t begin;
	pid_t pid;

	while ((option = getopt(argc, argv, "+mc:")) != -1 && option != '?') {
		memory |= option == 'm';
		if (option == 'm')
			continue;
		if (nr_counters == COUNTERS)
			return 2;
		counters[nr_counters++] = optarg;
	}
	if (option != -1 || optind == argc || pipe(fds))
		return 2;
	begin = now();
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		execvp(argv[optind], argv + optind);
		_exit(127);
	}
	close(fds[1]);
	if (pid < 0)
		return 2;
	if (watch(fds[0], begin, memory ? pid : 0) < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		printf("@end late\n");
	} else {
		waitpid(pid, &status, 0);
		if (WIFSIGNALED(status))
			printf("@end signal %d\n", WTERMSIG(status));
		else
			printf("@end exit %d\n", WEXITSTATUS(status));
	}
	copy_counters("at-end");
	return 0;
}
