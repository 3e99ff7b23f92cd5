/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qsd.c - qemu-storage-daemon as our child; see qsd.h.
 *
 * Its words are lists of KEY=VALUE with commas between; a comma in a value is written twice. Nothing in them is left to
 * be guessed: neither the format nor where the bytes come from.
 */
#include "host/qsd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/disk_chain.h"
#include "host/disk_lock.h"
#include "host/unix.h"

/* Its time to end, in which it writes to the medium all that lies in the host's page cache. */
#define END_MS   60000
#define ENDED_MS 1000

static void put(FILE *out, const char *key, const char *value)
{
	fprintf(out, ",%s=", key);
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', out);
		fputc(*value, out);
	}
}

/* Where the bytes come from: `of` is "" or "file.", as the node is the disk itself or below a format's. */
static void put_source(FILE *out, const struct qsd_config *c, const char *of)
{
	char key[32];
	struct stat st;
	bool device = !c->remote && stat(c->path, &st) == 0 && S_ISBLK(st.st_mode);

	fprintf(out, "%sdriver=%s", of, c->remote ? "nbd" : device ? "host_device" : "file");
	if (c->remote) {
		fprintf(out, ",%sserver.type=%s", of, c->remote->local ? "unix" : "inet");
		snprintf(key, sizeof(key), "%sserver.%s", of, c->remote->local ? "path" : "host");
		put(out, key, c->remote->host);
		if (!c->remote->local)
			fprintf(out, ",%sserver.port=%s", of, c->remote->port);
		snprintf(key, sizeof(key), "%sexport", of);
		put(out, key, c->remote->export);
	} else {
		snprintf(key, sizeof(key), "%sfilename", of);
		put(out, key, c->path);
	}
	fprintf(out, ",%sdiscard=unmap,%sread-only=%s,%scache.direct=%s", of, of, c->ro ? "on" : "off", of,
		c->direct ? "on" : "off");
}

int qsd_words(const struct qsd_config *c, char **blockdev, char **export)
{
	size_t n;
	FILE *out = open_memstream(blockdev, &n);

	if (!out)
		return -ENOMEM;
	if (c->format)
		fprintf(out, "driver=%s,discard=unmap,read-only=%s,cache.direct=%s,", c->format->name,
			c->ro ? "on" : "off", c->direct ? "on" : "off");
	put_source(out, c, c->format ? "file." : "");
	fprintf(out, ",node-name=disk");
	if (fclose(out))
		return -ENOMEM;
	if (asprintf(export,
		    "type=vhost-user-blk,id=disk,node-name=disk,addr.type=fd,addr.str=%d,writable=%s,num-queues=%u",
		    CHILD_FIRST_FD, c->ro ? "off" : "on", c->queues) < 0) {
		free(*blockdev);
		return -ENOMEM;
	}
	return 0;
}

static int start(struct qsd *qsd, int listener, struct error *err)
{
	char *blockdev, *export;
	const char *argv[] = { QSD_PROGRAM, "--blockdev", NULL, "--export", NULL, NULL };
	const struct child_config child = {
		.argv = argv,
		.name = QSD_PROGRAM,
		.package = QSD_PACKAGE,
		.otherwise = "qemu-img convert -O raw makes a raw image",
		.fds = &listener,
		.nr_fds = 1,
		.end_ms = END_MS,
	};
	int r = qsd_words(&qsd->config, &blockdev, &export);

	if (r)
		return error_set(err, r, "no memory");
	argv[2] = blockdev;
	argv[4] = export;
	r = child_start(&child, &qsd->child, err);
	free(blockdev);
	free(export);
	return r;
}

/* It locks the image itself, and says when it cannot, though not who has it. */
static int check_free(struct qsd *qsd, struct error *err)
{
	const struct qsd_config *c = &qsd->config;
	int fd, r;

	if (c->remote)
		return 0;
	fd = open(c->path, (c->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set(err, -errno, "disk '%s': %s", c->path, strerror(errno));
	r = disk_lock(fd, c->path, c->ro, &qsd->told, err);
	close(fd);
	if (r || !c->format)
		return r;
	r = disk_chain_check(c->path, c->format, &qsd->told, err);
	return r ? error_prefix(err, r, "disk") : 0;
}

int qsd_connect(void *arg, struct error *err)
{
	struct qsd *qsd = arg;
	int listener, fd, r;

	qsd_end(qsd);
	r = check_free(qsd, err);
	if (r)
		return r;
	fd = unix_pair(&listener);
	if (fd < 0)
		return error_set(err, fd, "no socket for " QSD_PROGRAM " in " UNIX_PAIR_IN ": %s", strerror(-fd));
	r = start(qsd, listener, err);
	close(listener);
	if (r) {
		close(fd);
		return r;
	}
	return fd;
}

bool qsd_ended(void *arg, char how[CHILD_HOW])
{
	/* It repeats its words before it says what is wrong with them. */
	static const char repeated[] = ",node-name=disk: ";
	struct qsd *qsd = arg;
	char *words, *at;

	if (!qsd->child || !child_ended(qsd->child, ENDED_MS, how))
		return false;
	words = strstr(how, ": ");
	at = strstr(how, repeated);
	if (at && words)
		memmove(words + 2, at + sizeof(repeated) - 1, strlen(at + sizeof(repeated) - 1) + 1);
	return true;
}

void qsd_kill(void *arg)
{
	struct qsd *qsd = arg;

	if (qsd->child)
		child_kill(qsd->child);
}

void qsd_end(void *arg)
{
	struct qsd *qsd = arg;

	child_end(qsd->child, SIGTERM);
	qsd->child = NULL;
}
