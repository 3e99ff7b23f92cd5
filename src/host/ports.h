/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ports.h - lists of ports to forward: [ADDRESS/]PORT[-PORT][:PORT[-PORT]], commas between; the host's, then the
 * guest's.
 */
#ifndef TRAPLINE_HOST_PORTS_H
#define TRAPLINE_HOST_PORTS_H

#include <stdbool.h>

#include "core/error.h"

/* Whether text is such a list. 0, or -EINVAL with a line in `err`. */
int ports_check(const char *text, struct error *err) __attribute__((warn_unused_result));
/* Whether all of them can be had now. 0, or -errno with a line that names the first that cannot. */
int ports_free(const char *text, bool udp, struct error *err) __attribute__((warn_unused_result));

#endif
