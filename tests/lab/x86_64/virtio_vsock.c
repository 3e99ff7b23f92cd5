// SPDX-License-Identifier: BSD-2-Clause
/*
 * The two ends of streams, for guest and host: serve what comes, or check what comes back. An address is
 * "vsock:CID:PORT", "unix:PATH", or "uds:PATH:PORT", where "CONNECT PORT" is said first.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
/* Wants the former. */
#include <linux/vm_sockets.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 50000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool wrong;

static void say(bool good, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&lock);
	wrong |= !good;
	va_start(ap, fmt);
	fputs(good ? "ok " : "wrong ", stdout);
	vprintf(fmt, ap);
	puts("");
	fflush(stdout);
	va_end(ap);
	pthread_mutex_unlock(&lock);
}

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_vm vm;
		struct sockaddr_un un;
	};
	socklen_t len;
	const char *greet; /* the port, or NULL */
};

static struct address parse(char *text)
{
	struct address a = { .len = 0 };
	char *kind = strsep(&text, ":"), *first = strsep(&text, ":");

	if (strcmp(kind, "vsock") == 0) {
		a.vm.svm_family = AF_VSOCK;
		a.vm.svm_cid = (unsigned)strtoul(first, NULL, 10);
		a.vm.svm_port = (unsigned)strtoul(text, NULL, 10);
		a.len = sizeof(a.vm);
		return a;
	}
	a.un.sun_family = AF_UNIX;
	snprintf(a.un.sun_path, sizeof(a.un.sun_path), "%s", first);
	a.len = sizeof(a.un);
	a.greet = text;
	return a;
}

/* -1, errno. */
static int reach(const struct address *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM, 0);
	char text[64], *at = text;

	if (fd < 0 || connect(fd, &a->any, a->len)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!a->greet)
		return fd;
	dprintf(fd, "CONNECT %s\n", a->greet);
	while (at < text + sizeof(text) - 1 && read(fd, at, 1) == 1 && *at != '\n')
		at++;
	*at = 0;
	if (strncmp(text, "OK ", 3) == 0)
		return fd;
	close(fd);
	errno = ECONNRESET;
	return -1;
}

/* ---- serving ---- */

static void *echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char *buf = malloc(CHUNK);
	ssize_t n;

	while ((n = read(fd, buf, CHUNK)) > 0) {
		for (ssize_t at = 0, w; at < n; at += w) {
			w = send(fd, buf + at, (size_t)(n - at), MSG_NOSIGNAL);
			if (w < 0)
				goto out;
		}
	}
out:
	free(buf);
	close(fd);
	return NULL;
}

static int serve(struct address *a)
{
	int listener = socket(a->any.sa_family, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, &a->any, a->len) || listen(listener, 64)) {
		say(false, "listening: %s", strerror(errno));
		return 1;
	}
	for (;;) {
		pthread_t thread;
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0 && pthread_create(&thread, NULL, echo, (void *)(intptr_t)fd) == 0)
			pthread_detach(thread);
	}
}

/* ---- checking ---- */

struct job {
	const struct address *a;
	unsigned number;
	size_t bytes;
};

/* The byte at `at` of a stream. */
static uint8_t pattern(unsigned number, size_t at)
{
	return (uint8_t)((at * 2654435761u >> 13) + (at >> 16) + number * 77);
}

struct sender {
	int fd;
	const struct job *job;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;
	uint8_t *buf = malloc(CHUNK);

	for (size_t at = 0; at < s->job->bytes;) {
		size_t n = s->job->bytes - at < CHUNK ? s->job->bytes - at : CHUNK;
		ssize_t w;

		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(s->job->number, at + i);
		w = send(s->fd, buf, n, MSG_NOSIGNAL);
		if (w < 0) {
			say(false, "stream %u: sending at %zu: %s", s->job->number, at, strerror(errno));
			break;
		}
		at += (size_t)w;
	}
	/* The other end sees the end of this direction, and this one goes on. */
	if (shutdown(s->fd, SHUT_WR))
		say(false, "stream %u: its end: %s", s->job->number, strerror(errno));
	free(buf);
	return NULL;
}

static void *check(void *arg)
{
	const struct job *job = arg;
	struct sender s = { reach(job->a), job };
	uint8_t *buf = malloc(CHUNK);
	size_t at = 0;
	pthread_t thread;
	ssize_t n;

	if (s.fd < 0) {
		say(false, "stream %u: connecting: %s", job->number, strerror(errno));
		return NULL;
	}
	pthread_create(&thread, NULL, send_all, &s);
	while ((n = read(s.fd, buf, CHUNK)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != pattern(job->number, at + (size_t)i)) {
				say(false, "stream %u: another byte came at %zu", job->number, at + (size_t)i);
				shutdown(s.fd, SHUT_RDWR);
				n = -1;
				break;
			}
		}
		at += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		say(false, "stream %u: reading at %zu: %s", job->number, at, strerror(errno));
	pthread_join(thread, NULL);
	if (at != job->bytes)
		say(false, "stream %u: %zu of %zu bytes came back", job->number, at, job->bytes);
	close(s.fd);
	free(buf);
	return NULL;
}

static void check_all(const struct address *a, unsigned streams, size_t bytes)
{
	pthread_t thread[256];
	struct job job[256];

	for (unsigned i = 0; i < streams; i++) {
		job[i] = (struct job){ a, i, bytes };
		pthread_create(&thread[i], NULL, check, &job[i]);
	}
	for (unsigned i = 0; i < streams; i++)
		pthread_join(thread[i], NULL);
	if (!wrong)
		say(true, "%u streams of %zu bytes came back", streams, bytes);
}

static void refused(const struct address *a)
{
	int fd = reach(a);

	say(fd < 0 && errno == ECONNRESET, "nobody listens: %s", fd < 0 ? strerror(errno) : "connected");
}

/* One stream that is open until the other end goes. */
static void hold(const struct address *a)
{
	int fd = reach(a);
	char byte = 'x';

	say(fd >= 0 && write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1, "held");
	say(fd >= 0 && read(fd, &byte, 1) <= 0, "over");
}

static void own_cid(unsigned wanted)
{
	int fd = open("/dev/vsock", O_RDONLY);
	unsigned cid = 0;
	bool known = fd >= 0 && ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) == 0;

	say(known && cid == wanted, "CID %u", cid);
}

int main(int argc, char **argv)
{
	struct address a;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 2 && strcmp(argv[1], "cid") == 0) {
		own_cid((unsigned)atoi(argv[2]));
		return wrong;
	}
	if (argc < 3)
		return 2;
	a = parse(argv[2]);
	if (strcmp(argv[1], "serve") == 0)
		return serve(&a);
	if (strcmp(argv[1], "check") == 0 && argc > 4)
		check_all(&a, (unsigned)atoi(argv[3]), (size_t)atol(argv[4]));
	else if (strcmp(argv[1], "refused") == 0)
		refused(&a);
	else if (strcmp(argv[1], "hold") == 0)
		hold(&a);
	return wrong;
}
