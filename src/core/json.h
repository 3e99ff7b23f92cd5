/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json.h - jansson, loaded by who asks for JSON and by nobody else.
 *
 * Include <jansson.h> and use it as ever: json.c has the functions that are in use here, and each finds its namesake in
 * the library when it is called. Another one of jansson's is one more line there.
 */
#ifndef TRAPLINE_CORE_JSON_H
#define TRAPLINE_CORE_JSON_H

#include "core/error.h"

/* 0, or -ENOENT where the library is not: before the first JSON. Without it, what is made is NULL. */
int json_load(struct error *err) __attribute__((warn_unused_result));

#endif
