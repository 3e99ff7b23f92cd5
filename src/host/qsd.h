/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qsd.h - qemu-storage-daemon, the program that serves disks that are not raw files of this host, by vhost-user:
 * started, and ended. It locks the image itself, writes what a guest has written before it ends, and names what it does
 * not like.
 */
#ifndef TRAPLINE_HOST_QSD_H
#define TRAPLINE_HOST_QSD_H

#include <stdbool.h>

#include "core/error.h"
#include "host/child.h"
#include "host/disk_format.h"
#include "host/nbd.h"

#define QSD_PROGRAM "qemu-storage-daemon"
#define QSD_PACKAGE "qemu-system-common"

/* Strings are the caller's, and outlive it. */
struct qsd_config {
	const char *path;                 /* of the image; with `remote`: for messages */
	const struct nbd *remote;         /* instead of a file; NULL: a file */
	const struct disk_format *format; /* NULL: raw */
	bool ro, direct;
	unsigned queues; /* at least 1 */
};

struct qsd {
	struct qsd_config config;
	struct child *child; /* NULL: it does not run */
	bool told;           /* that its files cannot be locked */
};

/* The values of its --blockdev and --export, malloc'd. 0 or -ENOMEM. */
int qsd_words(const struct qsd_config *config, char **blockdev, char **export) __attribute__((warn_unused_result));
/*
 * For vhost_user_config.connect, with a struct qsd: starts it, after the end of one before, and returns a socket that
 * is connected to it; or -errno with a line. That the image is no good shows afterwards, by the end of that: see
 * qsd_ended().
 */
int qsd_connect(void *qsd, struct error *err);
/* After its connection was lost: how it ended, in `how`; false: it has not. */
bool qsd_ended(void *qsd, char how[CHILD_HOW]);
/* Takes the guest's memory from it: child_kill(). Fine where it does not run. */
void qsd_kill(void *qsd);
/* Its socket is closed: tells it to end, and waits until it has written what there is. Fine where it does not run. */
void qsd_end(void *qsd);

#endif
