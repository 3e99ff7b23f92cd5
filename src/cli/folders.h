/* SPDX-License-Identifier: BSD-2-Clause */
/* folders.h - what options that share a folder with the guest have in common. */
#ifndef TRAPLINE_CLI_FOLDERS_H
#define TRAPLINE_CLI_FOLDERS_H

#include <stddef.h>

#include "core/error.h"

/* Each 0, or -errno with a line. */
int folders_check(const char *path, struct error *err); /* it is a folder that we can read */
int folders_tag(const char *tag, size_t most, struct error *err);
/* The guest mounts by the tag, so it has to tell folders apart. */
int folders_beside(const char *tag, const char *other_tag, const char *other_path, struct error *err);

#endif
