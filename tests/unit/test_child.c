/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_child.c - programs that work for us: what they get, how they are missed, how they end; with the shell for one.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/leave.h"
#include "core/status.h"
#include "host/child.h"

#define SOON_MS 30000 /* on a busy machine, too */

struct made {
	struct child *child;
	int pipe[2]; /* [1] is its descriptor 3 */
	struct error err;
};

static int start(struct made *m, const char *script)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct child_config config = { .argv = argv, .name = "helper", .package = "help", .nr_fds = 1, .end_ms = 200 };
	int r;

	*m = (struct made){ .child = NULL };
	assert_int_equal(pipe2(m->pipe, O_CLOEXEC), 0);
	config.fds = &m->pipe[1];
	r = child_start(&config, &m->child, &m->err);
	close(m->pipe[1]);
	return r;
}

/* Nobody is left, not even as a zombie; and everybody who had the pipe has ended. */
static void finish(struct made *m, int signal)
{
	char rest[256];
	ssize_t n;

	child_end(m->child, signal);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	do
		n = read(m->pipe[0], rest, sizeof(rest));
	while (n > 0);
	assert_int_equal(n, 0);
	close(m->pipe[0]);
}

/* All that it writes to 3, until it closes that. */
static const char *hear(const struct made *m, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(m->pipe[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

static void it_gets_what_it_is_given_and_nothing_else(void **state)
{
	int inherited = open("/dev/null", O_RDONLY), far = fcntl(inherited, F_DUPFD, 100);
	struct made m;
	char text[4096], *group, *end;

	signal(SIGPIPE, SIG_IGN);
	/* Without a pipe of the shell's own; and while it waits for another program it blocks signals. */
	assert_int_equal(
		start(&m,
			"for i in 0 1; do [ /proc/$$/fd/$i -ef /dev/null ] && s=\"$s null\"; done;"
			"for i in 2 3 4 5 6 7 8 9 100 101; do [ -e /proc/$$/fd/$i ] && s=\"$s $i\"; done; echo $s >&3;"
			"cut -d' ' -f5 /proc/$$/stat >&3; echo $$ >&3; exec grep -E 'SigBlk|SigIgn' /proc/self/status "
			">&3"),
		0);
	hear(&m, text, sizeof(text));
	assert_int_equal(strncmp(text, "null null 2 3\n", 14), 0);
	assert_non_null(strstr(text, "SigBlk:\t0000000000000000\nSigIgn:\t"));
	/* Not what we ignore; what whoever started us ignores is another matter. */
	assert_int_equal(strtoull(strstr(text, "SigIgn:") + 7, NULL, 16) >> (SIGPIPE - 1) & 1, 0);
	finish(&m, 0);
	/* A group of its own. */
	group = strchr(text, '\n');
	assert_true(strtoul(group, &end, 10) > 1);
	assert_int_equal(strtoul(group, NULL, 10), strtoul(end, NULL, 10));
	signal(SIGPIPE, SIG_DFL);
	close(inherited);
	close(far);
}

/* Each in another's place, as far as that goes. */
static void descriptors_that_lie_in_each_others_places(void **state)
{
	static const char *const argv[] = { "sh", "-c", "echo a >&3; echo b >&4; [ ! -e /proc/$$/fd/5 ] && echo c >&6",
		NULL };
	struct child_config config = { .argv = argv, .name = "helper", .package = "help", .nr_fds = 4 };
	int pipes[3][2], fds[4];
	struct child *child;
	struct error err;
	char text[3] = "";

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
	fds[0] = pipes[2][1];
	fds[1] = pipes[1][1];
	fds[2] = -1;
	fds[3] = pipes[0][1];
	config.fds = fds;
	assert_int_equal(child_start(&config, &child, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		close(pipes[i][1]);
		assert_int_equal(read(pipes[i][0], text, 2), 2);
		assert_int_equal(text[0], 'c' - (char)i);
		close(pipes[i][0]);
	}
	child_end(child, 0);
}

static void one_that_is_not_there(void **state)
{
	static const char *const argv[] = { "no-such-program", "-c", "echo $0 >&3", "x", NULL };
	static const char *const also[] = { "/nonexistent/sh", "/bin/sh", NULL }, *const denied[] = { "/etc/passwd",
		NULL };
	struct child_config config = { .argv = argv, .name = "helper", .package = "help", .nr_fds = 1 };
	struct error err = { .status = 0 };
	struct child *child;
	char text[8] = "";
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	config.fds = &fds[1];
	assert_int_equal(child_start(&config, &child, &err), -ENOENT);
	assert_string_equal(err.text, "helper: not installed");
	assert_string_equal(err.hint, "apt install help");
	config.otherwise = "--network tap";
	assert_int_equal(child_start(&config, &child, &err), -ENOENT);
	assert_string_equal(err.hint, "apt install help; or --network tap");
	config.also = denied;
	assert_int_equal(child_start(&config, &child, &err), -EACCES);
	assert_string_equal(err.text, "helper: Permission denied");
	config.also = also;
	assert_int_equal(child_start(&config, &child, &err), 0);
	assert_int_equal(read(fds[0], text, sizeof(text)), 2);
	assert_string_equal(text, "x\n");
	child_end(child, 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

#define FEW 48

/* With so few descriptors left it either runs, or the reason is told. */
static void one_for_which_there_are_no_descriptors(void **state)
{
	const char *argv[] = { "sh", "-c", "echo . >&3", NULL };
	struct child_config config = { .argv = argv, .name = "helper", .package = "help", .nr_fds = 1 };
	struct rlimit old, few;
	unsigned nr_fds = 0, born = 0, not_born = 0;
	int pipe[2], fds[FEW];
	char how[CHILD_HOW];

	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	config.fds = &pipe[1];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ .rlim_cur = FEW, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((fds[nr_fds] = fcntl(pipe[0], F_DUPFD_CLOEXEC, 0)) >= 0)
		nr_fds++;
	assert_true(nr_fds > 16);
	for (unsigned left = 1; left <= 16; left++) {
		struct error err = { .status = 0 };
		struct child *child;

		close(fds[--nr_fds]);
		if (child_start(&config, &child, &err) == 0) {
			assert_true(child_ended(child, SOON_MS, how));
			assert_string_equal(how, "ended with status 0");
			child_end(child, 0);
			born++;
		} else {
			assert_int_equal(born, 0);
			assert_non_null(strstr(err.text, "Too many open files"));
			not_born++;
		}
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(born && not_born >= 6);
	while (nr_fds)
		close(fds[--nr_fds]);
	close(pipe[0]);
	close(pipe[1]);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void ready_or_not(void **state)
{
	struct made m;
	char byte;

	assert_int_equal(start(&m, "echo . >&3; exec sleep 1000"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), 0);
	assert_int_equal(read(m.pipe[0], &byte, 1), 1);
	assert_int_equal(read(m.pipe[0], &byte, 1), 1);
	assert_int_equal(child_await(m.child, m.pipe[0], 10, &m.err), -ETIMEDOUT);
	assert_non_null(strstr(m.err.text, "helper was not ready within 0 s"));
	finish(&m, SIGTERM);
	assert_int_equal(start(&m, "echo first >&2; printf 'no \\033[1mroom\\r\\n\\n' >&2; exit 3"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), -EIO);
	assert_string_equal(m.err.text, "helper did not start: no ?[1mroom");
	finish(&m, SIGTERM);
	assert_int_equal(start(&m, "head -c 500 /dev/zero | tr '\\0' x >&2; echo ': the reason' >&2; exit 3"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), -EIO);
	assert_non_null(strstr(m.err.text, "helper did not start: ...xxxx"));
	assert_non_null(strstr(m.err.text, "xxxx: the reason"));
	finish(&m, SIGTERM);
	assert_int_equal(start(&m, "kill -11 $$"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), -EIO);
	assert_string_equal(m.err.text, "helper did not start: killed by signal 11 (Segmentation fault)");
	finish(&m, SIGTERM);
}

/*
 * A signal that is blocked, as in set-up, ends the wait and stays for who takes it; what is said already comes first.
 */
static void the_user_wants_to_leave(void **state)
{
	static const struct timespec at_once = { 0 };
	sigset_t ours, old;
	struct made m;

	/* nohup ignores it. */
	signal(SIGHUP, SIG_DFL);
	sigemptyset(&ours);
	sigaddset(&ours, SIGHUP);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &ours, &old), 0);
	assert_false(leave_pending());
	assert_int_equal(start(&m, "echo . >&3; exec sleep 1000"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), 0);
	assert_int_equal(kill(getpid(), SIGHUP), 0);
	assert_true(leave_pending());
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), 0);
	finish(&m, SIGTERM);
	assert_int_equal(start(&m, "exec sleep 1000"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), -EINTR);
	assert_int_equal(m.err.status, STATUS_QUIT);
	assert_string_equal(m.err.text, "helper: a signal ended the wait until it is ready");
	finish(&m, SIGTERM);
	assert_int_equal(sigtimedwait(&ours, NULL, &at_once), SIGHUP);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
}

struct watched {
	struct loop loop;
	unsigned times;
	char how[CHILD_HOW];
};

static void gone(void *arg, const char *how)
{
	struct watched *w = arg;

	w->times++;
	snprintf(w->how, sizeof(w->how), "%s", how);
	loop_quit(&w->loop);
}

static void its_end_in_mid_run_is_told(void **state)
{
	static const struct {
		const char *script, *how;
	} ends[] = {
		{ "kill -9 $$", "killed by signal 9 (Killed)" },
		{ "exit 0", "ended with status 0" },
		{ "echo one >&2; echo the disk is full >&2; exit 7", "ended with status 7: the disk is full" },
		/* More than a pipe holds; it is never held up, and heard again when there is room. */
		{ "head -c 200000 /dev/zero | tr '\\0' x >&2; until printf '\\nthe last\\n' >&2; do sleep 0.01; done; "
		  "kill -6 $$",
			"killed by signal 6 (Aborted): the last" },
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct watched w = { .times = 0 };
		struct made m;

		assert_int_equal(loop_init(&w.loop, NULL), 0);
		assert_int_equal(start(&m, ends[i].script), 0);
		assert_int_equal(child_watch(m.child, &w.loop, gone, &w), 0);
		loop_run(&w.loop);
		assert_int_equal(w.times, 1);
		assert_string_equal(w.how, ends[i].how);
		finish(&m, SIGTERM);
		loop_fini(&w.loop);
	}
}

/* gone() is for an end that nobody asked for. */
static void one_that_is_told_to_end_is_not_gone(void **state)
{
	struct watched w = { .times = 0 };
	struct made m;

	assert_int_equal(loop_init(&w.loop, NULL), 0);
	assert_int_equal(start(&m, "exec sleep 1000"), 0);
	assert_int_equal(child_watch(m.child, &w.loop, gone, &w), 0);
	finish(&m, SIGTERM);
	loop_quit(&w.loop);
	loop_run(&w.loop);
	assert_int_equal(w.times, 0);
	loop_fini(&w.loop);
}

static void one_that_does_not_end_is_killed(void **state)
{
	char how[CHILD_HOW];
	struct made m;

	assert_int_equal(start(&m, "trap '' TERM; echo . >&3; while :; do sleep 0.01; done"), 0);
	assert_int_equal(child_await(m.child, m.pipe[0], SOON_MS, &m.err), 0);
	assert_false(child_ended(m.child, 0, how));
	finish(&m, SIGTERM);
	/* Nor one that was not told, and for which nothing has happened that it would end by. */
	assert_int_equal(start(&m, "exec sleep 1000"), 0);
	finish(&m, 0);
}

/* We are killed, so nobody tells it; it has told us where it is, by what it keeps open. */
static void none_is_left_behind(void **state)
{
	struct made m;
	struct pollfd pfd;
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		const char *argv[] = { "sh", "-c", "echo . >&3; exec sleep 1000", NULL };
		struct child_config config = {
			.argv = argv, .name = "helper", .package = "help", .nr_fds = 1, .fds = &fds[1]
		};

		if (child_start(&config, &m.child, &m.err) == 0)
			pause();
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	pfd = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, 100), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(poll(&pfd, 1, SOON_MS), 1);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_gets_what_it_is_given_and_nothing_else),
		cmocka_unit_test(descriptors_that_lie_in_each_others_places),
		cmocka_unit_test(one_that_is_not_there),
		cmocka_unit_test(one_for_which_there_are_no_descriptors),
		cmocka_unit_test(ready_or_not),
		cmocka_unit_test(the_user_wants_to_leave),
		cmocka_unit_test(its_end_in_mid_run_is_told),
		cmocka_unit_test(one_that_is_told_to_end_is_not_gone),
		cmocka_unit_test(one_that_does_not_end_is_killed),
		cmocka_unit_test(none_is_left_behind),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
