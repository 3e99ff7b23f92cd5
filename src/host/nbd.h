/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd.h - network block devices by their URIs, as NBD's doc/uri.md has them:
 * nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH.
 */
#ifndef TRAPLINE_HOST_NBD_H
#define TRAPLINE_HOST_NBD_H

#include <stdbool.h>

#include "core/error.h"

struct nbd {
	bool local;        /* by a Unix socket */
	char host[256];    /* a name or an address; else the socket's path */
	char port[8];      /* "10809" */
	char export[1024]; /* its name there; may be empty */
};

/* Whether it has the form of a URI, of this scheme or one that is like it, and so is no file's name. */
bool nbd_is(const char *text);
/* 0, or -EINVAL with a line in `err`. Nothing is asked of anybody. */
int nbd_parse(const char *uri, struct nbd *out, struct error *err) __attribute__((warn_unused_result));

#endif
