/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_test.c - `trapline device-test`: a whole machine without vCPUs and without KVM, served on standard input and
 * output or on a Unix socket.
 *
 * Lines are carried out on the event loop's thread, one at a time, and between two of them the loop does what devices
 * have posted to it; so the same lines give the same answers, however they arrive.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/options.h"
#include "cli/tester.h"
#include "core/word.h"
#include "host/unix.h"

#define ARCHS         8                                     /* names of architectures in a line, at most */
#define DEFAULT_EPOCH (946684800LL * (int64_t)NSEC_PER_SEC) /* 2000-01-01, a Saturday */
/* What a pipe that is writable takes without making us wait. */
#define WRITE_CHUNK 4096

struct device_test {
	struct machine_config config;
	const char *arch, *socket_path;
	struct option_values place;
	struct devices devices;
	bool help;

	struct machine machine;
	struct tester tester;
	struct unix_listener listener; /* fd -1: standard input and output */
	int in, out;                   /* -1: no client */
	bool always;                   /* `in` is a file that is always ready and cannot be watched */
	bool end;                      /* of the input */
	bool gone;                     /* the client does not read any more */
	bool skip;                     /* up to the end of a line that is too long */
	size_t length;                 /* of what is in `line` */
	size_t consumed;               /* of that, by earlier commands */
	char line[TESTER_LINE + 1];
	struct loop_watch input, clients, signals;
	struct loop_work serve;
	bool finished;
	int status;
};

/* The first reason counts. */
static void finish(struct device_test *d, int status)
{
	if (!d->finished)
		d->status = status;
	d->finished = true;
	loop_quit(&d->machine.vm.loop);
}

/* Waits until the client takes more, but not when a signal asks for an end. */
static bool wait_for_room(struct device_test *d)
{
	struct pollfd fds[] = { { .fd = d->out, .events = POLLOUT }, { .fd = d->signals.fd, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return !fds[1].revents;
}

static void say(void *arg, const char *line, size_t length)
{
	struct device_test *d = arg;

	while (length && !d->gone && d->out >= 0) {
		size_t piece = length < WRITE_CHUNK ? length : WRITE_CHUNK;
		ssize_t n;

		if (!wait_for_room(d)) {
			d->gone = true;
			finish(d, STATUS_QUIT);
			break;
		}
		n = d->listener.fd >= 0 ? send(d->out, line, piece, MSG_DONTWAIT | MSG_NOSIGNAL)
					: write(d->out, line, piece);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			d->gone = true;
		if (n > 0) {
			line += n;
			length -= (size_t)n;
		}
	}
}

/* ---- input ---- */

static void disconnect(struct device_test *d)
{
	loop_unwatch(&d->machine.vm.loop, &d->input);
	loop_cancel(&d->machine.vm.loop, &d->serve);
	if (d->listener.fd >= 0 && d->in >= 0)
		close(d->in);
	d->in = d->out = -1;
	d->end = d->gone = d->skip = false;
	d->length = d->consumed = 0;
	/* The next one has waited in the socket's queue. */
	if (d->listener.fd >= 0 && loop_watch(&d->machine.vm.loop, &d->clients, EPOLLIN))
		finish(d, STATUS_HOST);
}

/* Carries out the line that begins at `consumed`, if all of it is there. */
static bool one_line(struct device_test *d)
{
	char *begin = d->line + d->consumed;
	size_t left = d->length - d->consumed;
	char *newline = memchr(begin, '\n', left);
	size_t n = newline ? (size_t)(newline - begin) : left;

	if (!newline && !(d->end && left))
		return false;
	d->consumed += newline ? n + 1 : n;
	if (d->skip)
		d->skip = false;
	else
		tester_line(&d->tester, begin, n);
	return true;
}

/* Reads what there is behind what is left. A line that fills all of the buffer is refused at once. */
static void read_more(struct device_test *d)
{
	ssize_t n;

	memmove(d->line, d->line + d->consumed, d->length - d->consumed);
	d->length -= d->consumed;
	d->consumed = 0;
	if (d->length == TESTER_LINE) {
		if (!d->skip)
			tester_refuse(&d->tester, "the line is too long");
		d->skip = true;
		d->length = 0;
	}
	n = read(d->in, d->line + d->length, TESTER_LINE - d->length);
	if (n > 0)
		d->length += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		d->end = true;
}

/* One line, then back to the loop. */
static void serve(void *arg)
{
	struct device_test *d = arg;
	struct loop *loop = &d->machine.vm.loop;
	bool more = one_line(d);

	if (d->tester.quit || (d->gone && d->listener.fd < 0)) {
		finish(d, STATUS_OK);
	} else if (more) {
		loop_post(loop, &d->serve);
	} else if (d->end || d->gone) {
		disconnect(d);
		if (d->listener.fd < 0)
			finish(d, STATUS_OK);
	} else if (d->always) {
		read_more(d);
		loop_post(loop, &d->serve);
	} else if (loop_watch(loop, &d->input, EPOLLIN)) {
		finish(d, STATUS_HOST);
	}
}

static void readable(void *arg, uint32_t events)
{
	struct device_test *d = arg;

	/* Not again before what is read has been carried out. */
	loop_unwatch(&d->machine.vm.loop, &d->input);
	read_more(d);
	loop_post(&d->machine.vm.loop, &d->serve);
}

static int begin(struct device_test *d, int in, int out)
{
	int r;

	d->in = in;
	d->out = out;
	d->input = (struct loop_watch){ .fd = in, .fn = readable, .arg = d };
	r = loop_watch(&d->machine.vm.loop, &d->input, EPOLLIN);
	d->always = r == -EPERM;
	if (d->always) {
		loop_post(&d->machine.vm.loop, &d->serve);
		r = 0;
	}
	return r;
}

/* ---- the socket ---- */

static void arrived(void *arg, uint32_t events)
{
	struct device_test *d = arg;
	int fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	/* One at a time: the machine has no idea of who asks. */
	loop_unwatch(&d->machine.vm.loop, &d->clients);
	if (begin(d, fd, fd))
		disconnect(d);
}

static int listen_at(struct device_test *d, struct error *err)
{
	int r = unix_listen(&d->listener, d->socket_path, err);

	if (r)
		return error_prefix(err, r, "--socket");
	d->clients = (struct loop_watch){ .fd = d->listener.fd, .fn = arrived, .arg = d };
	return loop_watch(&d->machine.vm.loop, &d->clients, EPOLLIN);
}

/* ---- the command ---- */

static void signalled(void *arg, uint32_t events)
{
	finish(arg, STATUS_QUIT);
}

static int serve_machine(struct device_test *d, struct error *err)
{
	struct loop *loop = &d->machine.vm.loop;
	int r;

	d->in = d->out = d->listener.fd = -1;
	d->serve = (struct loop_work){ .fn = serve, .arg = d };
	tester_init(&d->tester, &d->machine, say, d);
	r = loop_watch(loop, &d->signals, EPOLLIN);
	if (r == 0)
		r = d->socket_path ? listen_at(d, err) : begin(d, STDIN_FILENO, STDOUT_FILENO);
	if (r == 0)
		loop_run(loop);
	else if (!err->text[0])
		error_set(
			err, r, "cannot watch %s: %s", d->socket_path ? "the socket" : "standard input", strerror(-r));
	disconnect(d);
	loop_unwatch(loop, &d->signals);
	if (d->listener.fd >= 0) {
		loop_unwatch(loop, &d->clients);
		unix_unlisten(&d->listener);
	}
	tester_fini(&d->tester);
	return r ? err->status ? err->status : STATUS_HOST : d->status;
}

/* What the guest sends by a serial port goes into a file in memory, which never makes it wait. */
static int open_consoles(struct device_test *d, struct error *err)
{
	for (unsigned i = 0; i < VM_PORTS; i++) {
		int fd = memfd_create("console", MFD_CLOEXEC);

		if (fd < 0)
			return error_set(err, -errno, "no file for a console's output: %s", strerror(errno));
		d->config.consoles[i] = (struct console_config){ .kind = CONSOLE_FD, .fd = fd };
	}
	return 0;
}

static int with_machine(struct device_test *d, struct error *err)
{
	int status = open_consoles(d, err) ? STATUS_HOST : machine_up(&d->machine, &d->config, err);

	if (status == STATUS_OK) {
		status = serve_machine(d, err);
		machine_down(&d->machine);
	}
	for (unsigned i = 0; i < VM_PORTS; i++) {
		if (d->config.consoles[i].kind == CONSOLE_FD)
			close(d->config.consoles[i].fd);
	}
	return status;
}

static int with_signals(struct device_test *d, struct error *err)
{
	sigset_t set, old;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	d->signals = (struct loop_watch){ .fd = signalfd(-1, &set, SFD_CLOEXEC), .fn = signalled, .arg = d };
	if (d->signals.fd < 0) {
		error_set(err, -errno, "signalfd: %s", strerror(errno));
		return STATUS_HOST;
	}
	/* Who reads the answers may go: that is an end, and none to die of. */
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	status = with_machine(d, err);
	close(d->signals.fd);
	return status;
}

static int no_arch(const char *name, struct error *err)
{
	const char *names[ARCHS + 1] = { NULL }, *nearest;
	char all[ARCHS * 16] = "";

	for (unsigned i = 0; i < ARCHS && archs[i]; i++) {
		size_t at = strlen(all);

		names[i] = archs[i]->name;
		snprintf(all + at, sizeof(all) - at, "%s%s", i ? " and " : "", names[i]);
	}
	nearest = word_nearest(name, names);
	error_set(err, -EINVAL, "--arch '%.100s': there are %s", name, all);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return STATUS_USAGE;
}

static int parse(struct device_test *d, int argc, char **argv, struct error *err)
{
	struct machine_config *m = &d->config;
	const struct option_spec specs[] = {
		{ OPTION_GROUP, 0, "Machine:", NULL, NULL, NULL },
		{ OPTION_STRING, 0, "arch", "ARCH", "the machine's architecture; default: this host's", &d->arch },
		OPTION_MEM(m),
		OPTION_CPUS(m),
		OPTION_IRQCHIP(m),
		OPTION_RTC(&m->guest.arm),
		OPTION_FIRMWARE_ADDRESS(&m->guest.arm),
		OPTION_PLACE(&d->place),
		OPTION_FIRMWARE(m),
		OPTION_EXIT_PORT(m),
		OPTION_DEBUGCON(m),
		OPTION_FLASH(m),
		OPTIONS_PCI_TEST(m),
		OPTIONS_DEVICES(&d->devices),
		{ OPTION_GROUP, 0, "Lines:", NULL, NULL, NULL },
		{ OPTION_STRING, 0, "socket", "PATH", "listen there; default: standard input and output",
			&d->socket_path },
		{ OPTION_FLAG, 'h', "help", NULL, "print this", &d->help },
		{ OPTION_END, 0, NULL, NULL, NULL, NULL },
	};
	struct option_words words;

	devices_init(&d->devices, NULL);
	if (options_parse(specs, argc - 1, argv + 1, &words, err))
		return STATUS_USAGE;
	if (d->help) {
		printf("usage: trapline device-test [options]\n");
		options_help(specs, stdout);
		printf("\nEach line is a command; 'help' lists them. Its answer is a line, 'ok ...' or 'error ...'.\n"
		       "Exit status: 0 'quit' or the input's end, 1 host failure, 2 usage, 20 a signal.\n");
		return STATUS_OK;
	}
	if (words.n) {
		error_set(err, -EINVAL, "device-test takes no words: '%s'", argv[1]);
		options_astray(&words, err);
		return STATUS_USAGE;
	}
	if (d->socket_path && unix_check(d->socket_path, err)) {
		error_prefix(err, 0, "--socket");
		return STATUS_USAGE;
	}
	m->guest.place = d->place.text;
	m->guest.nr_place = d->place.n;
	m->guest.hvcs.nr_ports = VM_HVCS; /* of a virtio console, where one is asked for */
	m->arch = arch_find(d->arch);
	if (!m->arch)
		return no_arch(d->arch, err);
	return devices_config(&d->devices, m, err) ? err->status : STATUS_OK;
}

int cmd_device_test(int argc, char **argv, struct error *err)
{
	struct device_test *d = calloc(1, sizeof(*d));
	int status;

	if (!d) {
		error_set(err, -ENOMEM, "no memory for the machine");
		return STATUS_HOST;
	}
	d->arch = arch_host()->name;
	d->config = (struct machine_config){
		.guest = { .ram = DEFAULT_RAM, .cpus = DEFAULT_CPUS },
		.dry_run = true,
		.device_test = true,
		.epoch = DEFAULT_EPOCH,
	};
	status = parse(d, argc, argv, err);
	if (status == STATUS_OK && !d->help)
		status = with_signals(d, err);
	devices_free(&d->devices);
	free(d);
	return status;
}
