/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * startup.c - from exec to the first byte that a program writes to standard output, for several programs in turn.
 *
 * startup ROUNDS [--- PROGRAM ARGS...]... prints a line a program with its time in microseconds of each round. The
 * rounds alternate, so that a moment in which the machine is busy hits all programs alike. Time runs from just before
 * the child's execve() to the byte's arrival here; the child is killed then.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAMS   8
#define TIMEOUT_MS 10000

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Shares our memory until it has called execve(), hence the times. */
static pid_t start(char **argv, int null, int out, volatile uint64_t *began)
{
	pid_t pid = vfork();

	if (pid < 0)
		die("vfork");
	if (pid == 0) {
		dup2(null, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		*began = now_ns();
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static double measure(char **argv, int null)
{
	volatile uint64_t began = 0;
	uint64_t end;
	struct pollfd wait;
	int ends[2];
	char byte;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	pid = start(argv, null, ends[1], &began);
	close(ends[1]);
	wait = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	if (poll(&wait, 1, TIMEOUT_MS) != 1 || read(ends[0], &byte, 1) != 1) {
		fprintf(stderr, "startup: %s said nothing\n", argv[0]);
		kill(pid, SIGKILL);
		exit(1);
	}
	end = now_ns();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ends[0]);
	return (double)(end - began) / 1000;
}

int main(int argc, char **argv)
{
	char **programs[PROGRAMS];
	unsigned n = 0, rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	double *us;

	for (int i = 2; i < argc && n < PROGRAMS; i++) {
		if (strcmp(argv[i], "---") == 0) {
			argv[i] = NULL;
			programs[n++] = &argv[i + 1];
		}
	}
	us = calloc((size_t)rounds * n + 1, sizeof(*us));
	if (!rounds || !n || null < 0 || !us) {
		fprintf(stderr, "usage: startup ROUNDS [--- PROGRAM ARGS...]...\n");
		return 2;
	}
	for (unsigned i = 0; i < n; i++)
		measure(programs[i], null); /* fills the page cache */
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < n; i++)
			us[i * rounds + r] = measure(programs[i], null);
	}
	for (unsigned i = 0; i < n; i++) {
		for (unsigned r = 0; r < rounds; r++)
			printf("%s%.1f", r ? " " : "", us[i * rounds + r]);
		printf("\n");
	}
	free(us);
	return 0;
}
