/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child.c - programs that work for us; see child.h.
 *
 * A child is born by vfork(): fork() would copy the page tables of the guest's memory, and write-protect it.
 * posix_spawn() does the same, but knows no PR_SET_PDEATHSIG. From there on it is known by a pidfd, which is no other
 * process's ever.
 *
 * Standard error is a pipe that never blocks the child. It is read when it is waited for or watched, and its end is
 * kept; once it is full what comes is lost.
 */
#include "host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/leave.h"
#include "core/status.h"

#define WORDS    1024 /* of what it said, at the end */
#define LINE     160  /* of that in a message */
#define CUT      "..."
#define READS    64 /* at a time: a pipe's fill */
#define END_MS   1000
#define KILL_MS  10000 /* a process that waits for a dead disk does not end even by SIGKILL */
#define NOT_BORN 127

extern char **environ;

struct child {
	char name[32];
	int pidfd, words;
	unsigned end_ms;
	bool over; /* reaped, with this: */
	siginfo_t end;
	char text[WORDS];
	size_t len;
	struct loop *loop;
	struct loop_watch death, saying;
	void (*gone)(void *arg, const char *how);
	void *arg;
};

/* ---- birth ---- */

struct birth {
	const struct child_config *config;
	const char *program;
	pid_t parent;
	int words, report; /* its standard error; where it tells why it could not be */
};

static void reset_signals(void)
{
	static const int ours[] = { SIGPIPE, SIGXFSZ }; /* that we ignore, and exec() keeps ignored */
	sigset_t none;

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Gives everything its number. Each is first put beyond the numbers that are given, so that none is in another's place.
 */
static bool place(const struct birth *b)
{
	const int end = CHILD_FIRST_FD + (int)b->config->nr_fds;
	int lifted[CHILD_FDS], null, words = fcntl(b->words, F_DUPFD_CLOEXEC, end);

	if (words < 0)
		return false;
	for (unsigned i = 0; i < b->config->nr_fds; i++) {
		lifted[i] = b->config->fds[i] < 0 ? -1 : fcntl(b->config->fds[i], F_DUPFD_CLOEXEC, end);
		if (b->config->fds[i] >= 0 && lifted[i] < 0)
			return false;
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return false;
	if (dup2(words, STDERR_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return false;
	for (unsigned i = 0; i < b->config->nr_fds; i++) {
		if (lifted[i] < 0)
			close(CHILD_FIRST_FD + (int)i);
		else if (dup2(lifted[i], CHILD_FIRST_FD + (int)i) < 0)
			return false;
	}
	return true;
}

/* Marks what somebody let us inherit, and we do not hand on. Kernels before 5.11 cannot, and it is handed on there. */
static void keep_the_rest(const struct birth *b)
{
	(void)close_range(CHILD_FIRST_FD + b->config->nr_fds, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* In the child, on our memory and stack: it calls the system and nothing else. */
static __attribute__((noreturn, noinline)) void be_born(const struct birth *b)
{
	int report = fcntl(b->report, F_DUPFD_CLOEXEC, CHILD_FIRST_FD + (int)b->config->nr_fds), error = errno;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* We may have ended before that. */
	if (getppid() != b->parent)
		_exit(NOT_BORN);
	setpgid(0, 0);
	if (report >= 0) {
		if (place(b)) {
			keep_the_rest(b);
			reset_signals();
			execvpe(b->program, (char **)(uintptr_t)b->config->argv, environ);
		}
		error = errno;
	}
	/* Without another number it still has its own: nothing was placed. Nothing told would pass for a birth. */
	(void)!write(report >= 0 ? report : b->report, &error, sizeof(error));
	_exit(NOT_BORN);
}

static __attribute__((noinline)) pid_t give_birth(const struct birth *b)
{
	sigset_t all, old;
	pid_t pid;

	/* No handler of ours runs in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pid = vfork(); /* NOLINT: see above */
	if (pid == 0)
		be_born(b);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/* 0, or -errno: it is as if it had never been. */
static int try_program(struct child *child, struct birth *b)
{
	int report[2], error = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	b->report = report[1];
	pid = give_birth(b);
	if (pid < 0)
		error = errno;
	close(report[1]);
	do {
		n = pid < 0 ? 0 : read(report[0], &error, sizeof(error));
	} while (n < 0 && errno == EINTR);
	close(report[0]);
	if (pid > 0 && !error) {
		child->pidfd = pidfd_open(pid, 0);
		if (child->pidfd >= 0)
			return 0;
		error = errno;
		kill(pid, SIGKILL);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -error;
}

static int try_all(struct child *child, struct birth *b)
{
	const char *const *also = b->config->also;
	int r;

	b->program = b->config->argv[0];
	r = try_program(child, b);
	while (r == -ENOENT && also && *also) {
		b->program = *also++;
		r = try_program(child, b);
	}
	return r;
}

int child_start(const struct child_config *config, struct child **out, struct error *err)
{
	struct birth b = { .config = config, .parent = getpid() };
	struct child *child = calloc(1, sizeof(*child));
	int words[2], r;

	if (!child)
		return error_set(err, -ENOMEM, "no memory");
	if (pipe2(words, O_CLOEXEC | O_NONBLOCK)) {
		free(child);
		return error_set(err, -errno, "no pipe for %s: %s", config->name, strerror(errno));
	}
	snprintf(child->name, sizeof(child->name), "%s", config->name);
	child->end_ms = config->end_ms ? config->end_ms : END_MS;
	child->words = words[0];
	b.words = words[1];
	r = try_all(child, &b);
	close(words[1]);
	if (r == 0) {
		*out = child;
		return 0;
	}
	close(words[0]);
	free(child);
	error_set(err, r, "%s: %s", config->name, r == -ENOENT ? "not installed" : strerror(-r));
	if (r == -ENOENT)
		error_hint(err, "apt install %s%s%s", config->package, config->otherwise ? "; or " : "",
			config->otherwise ? config->otherwise : "");
	return r;
}

/* ---- its words ---- */

/* Reads what it said so far, within reason; the last of it stays. False: it will say nothing more. */
static bool listen_to(struct child *child)
{
	char more[WORDS];

	for (unsigned i = 0; i < READS; i++) {
		ssize_t n = read(child->words, more, sizeof(more));
		size_t keep;

		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		keep = sizeof(child->text) - (size_t)n < child->len ? sizeof(child->text) - (size_t)n : child->len;
		memmove(child->text, child->text + child->len - keep, keep);
		memcpy(child->text + keep, more, (size_t)n);
		child->len = keep + (size_t)n;
	}
	return true;
}

/* The last line of them; of one that is too long the end, where the reason is. */
static void last_words(struct child *child, char line[LINE])
{
	size_t end, begin, skip;

	(void)listen_to(child);
	for (end = child->len; end && (child->text[end - 1] == '\n' || child->text[end - 1] == '\r');)
		end--;
	for (begin = end; begin && child->text[begin - 1] != '\n';)
		begin--;
	skip = end - begin < LINE ? 0 : end - begin - (LINE - 1 - strlen(CUT));
	snprintf(line, LINE, "%s%.*s", skip ? CUT : "", (int)(end - begin - skip), child->text + begin + skip);
	for (; *line; line++) {
		if ((unsigned char)*line < ' ' || *line == 0x7f)
			*line = '?';
	}
}

/* ---- its end ---- */

/* Until it has ended, at most `ms`. Whether it has. */
static bool reap(struct child *child, int ms)
{
	struct pollfd pfd = { .fd = child->pidfd, .events = POLLIN };
	struct timespec now;
	int64_t end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + ms;
	while (!child->over && poll(&pfd, 1, ms) < 0 && errno == EINTR) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		ms = (int)(end - now.tv_sec * 1000LL - now.tv_nsec / 1000000);
		ms = ms < 0 ? 0 : ms;
	}
	if (child->over || !(pfd.revents & POLLIN))
		return child->over;
	/* Where SIGCHLD is ignored the kernel has reaped it, and nobody learns how it ended. */
	while (waitid(P_PIDFD, (id_t)child->pidfd, &child->end, WEXITED) < 0 && errno == EINTR)
		;
	child->over = true;
	return true;
}

static void describe(struct child *child, char how[CHILD_HOW])
{
	const char *name = child->end.si_code == CLD_EXITED ? NULL : sigdescr_np(child->end.si_status);
	char line[LINE];

	last_words(child, line);
	if (child->end.si_code == CLD_EXITED)
		snprintf(how, CHILD_HOW, "ended with status %d%s%s", child->end.si_status, *line ? ": " : "", line);
	else
		snprintf(how, CHILD_HOW, "killed by signal %d (%s)%s%s", child->end.si_status, name ? name : "unknown",
			*line ? ": " : "", line);
}

bool child_ended(struct child *child, unsigned ms, char how[CHILD_HOW])
{
	if (!reap(child, (int)ms))
		return false;
	describe(child, how);
	return true;
}

int child_await(struct child *child, int fd, unsigned ms, struct error *err)
{
	struct pollfd pfd[] = { { .fd = fd, .events = POLLIN }, { .fd = child->pidfd, .events = POLLIN },
		{ .fd = leave_fd(), .events = POLLIN } };
	char line[LINE], how[CHILD_HOW];
	int r;

	do {
		r = poll(pfd, 3, (int)ms);
	} while (r < 0 && errno == EINTR);
	if (pfd[2].fd >= 0)
		close(pfd[2].fd);
	if (pfd[0].revents & POLLIN) {
		/* What it said until then is no reason for what comes. */
		(void)listen_to(child);
		child->len = 0;
		return 0;
	}
	if (pfd[2].revents) {
		err->status = STATUS_QUIT;
		return error_set(err, -EINTR, "%s: a signal ended the wait until it is ready", child->name);
	}
	if (r == 0)
		return error_set(err, -ETIMEDOUT, "%s was not ready within %u s", child->name, ms / 1000);
	/* It closes what it has before it is seen to end. */
	if (reap(child, END_MS))
		describe(child, how);
	else
		snprintf(how, sizeof(how), "it says that it will not be ready");
	last_words(child, line);
	return error_set(err, -EIO, "%s did not start: %s", child->name, *line ? line : how);
}

static void has_died(void *arg, uint32_t events)
{
	struct child *child = arg;
	char how[CHILD_HOW];

	if (!reap(child, 0))
		return;
	describe(child, how);
	loop_unwatch(child->loop, &child->death);
	loop_unwatch(child->loop, &child->saying);
	child->gone(child->arg, how);
}

static void has_spoken(void *arg, uint32_t events)
{
	struct child *child = arg;

	if (!listen_to(child))
		loop_unwatch(child->loop, &child->saying);
}

int child_watch(struct child *child, struct loop *loop, void (*gone)(void *arg, const char *how), void *arg)
{
	int r;

	child->loop = loop;
	child->gone = gone;
	child->arg = arg;
	child->death = (struct loop_watch){ .fd = child->pidfd, .fn = has_died, .arg = child };
	child->saying = (struct loop_watch){ .fd = child->words, .fn = has_spoken, .arg = child };
	r = loop_watch(loop, &child->death, EPOLLIN);
	if (r == 0)
		r = loop_watch(loop, &child->saying, EPOLLIN);
	if (r)
		loop_unwatch(loop, &child->death);
	return r;
}

void child_kill(struct child *child)
{
	if (reap(child, 0))
		return;
	(void)pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
	(void)reap(child, KILL_MS);
}

void child_end(struct child *child, int signal)
{
	if (!child)
		return;
	if (child->loop) {
		loop_unwatch(child->loop, &child->death);
		loop_unwatch(child->loop, &child->saying);
	}
	if (!child->over && signal)
		(void)pidfd_send_signal(child->pidfd, signal, NULL, 0);
	if (!reap(child, (int)child->end_ms))
		child_kill(child);
	close(child->pidfd);
	close(child->words);
	free(child);
}
