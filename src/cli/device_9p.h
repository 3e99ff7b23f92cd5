/* SPDX-License-Identifier: BSD-2-Clause */
/* device_9p.h - folders of the host's, for the options that share one. */
#ifndef TRAPLINE_CLI_DEVICE_9P_H
#define TRAPLINE_CLI_DEVICE_9P_H

#include "cli/devices.h"
#include "virtio/p9.h"

/*
 * Checks, and makes a struct virtio_p9_options; `chown` is the key's value, or NULL. 0 or -errno with a line in `err`.
 */
int device_9p_make(const char *path, const char *tag, bool ro, const char *chown, struct virtio_p9_options **out,
	struct error *err) __attribute__((warn_unused_result));
/* For struct device_option.beside: tags tell folders apart. */
int device_9p_beside(const void *config, const void *earlier, struct error *err);

#endif
