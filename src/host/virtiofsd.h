/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtiofsd.h - virtiofsd, the program that serves a folder of the host's as a virtio file system: started, watched and
 * ended.
 */
#ifndef TRAPLINE_HOST_VIRTIOFSD_H
#define TRAPLINE_HOST_VIRTIOFSD_H

#include <stdbool.h>

#include "core/error.h"
#include "host/child.h"

#define VIRTIOFSD_PATH "/usr/lib/qemu/virtiofsd" /* Debian 12's, which is of no other place */

/* Strings are the caller's, and outlive it. */
struct virtiofsd_config {
	const char *folder; /* NULL: there is none */
	bool ro;
	bool chroot;         /* it locks itself in by that, where it cannot have namespaces */
	const char *program; /* NULL: VIRTIOFSD_PATH */
};

struct virtiofsd {
	struct virtiofsd_config config;
	struct child *child; /* NULL: it does not run */
};

/* Why it cannot be had here, as the end of a line: "wants root"; NULL: it can. */
const char *virtiofsd_lacks(const struct virtiofsd_config *config);
/*
 * For vhost_user_config.connect, with a struct virtiofsd: starts it, after the end of one before, and returns a socket
 * that is connected to it; or -errno with a line.
 */
int virtiofsd_connect(void *fsd, struct error *err);
/* After its connection was lost: how it ended, in `how`; false: it has not. */
bool virtiofsd_ended(void *fsd, char how[CHILD_HOW]);
/* Takes the guest's memory from it: child_kill(). Fine where it does not run. */
void virtiofsd_kill(void *fsd);
/* Its socket is closed: waits for its end. Fine where it does not run. */
void virtiofsd_end(void *fsd);

#endif
