/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json.c - jansson's functions under their own names, found in the library at each call.
 *
 * A run that prints no JSON does not map it. The library is loaded once and stays; asking for it again costs a
 * microsecond or two, which is nothing beside the printing.
 */
#include "core/json.h"

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>

#ifdef TRAPLINE_STATIC

/* The library's own functions are linked. */
int json_load(struct error *err)
{
	return 0;
}

#else

#define LIBRARY "libjansson.so.4"

static void *function(const char *name)
{
	void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);

	return library ? dlsym(library, name) : NULL;
}

int json_load(struct error *err)
{
	if (function("json_vpack_ex"))
		return 0;
	error_set(err, -ENOENT, "JSON needs %s, which cannot be loaded", LIBRARY);
	error_hint(err, "Debian's package is libjansson4");
	return -ENOENT;
}

/* What the library's function `name` returns, or `failed` where there is no library. */
#define CALL(failed, name, ...)                                                                                        \
	({                                                                                                             \
		__typeof__(&name) fn = (__typeof__(&name))function(#name);                                             \
		fn ? fn(__VA_ARGS__) : failed;                                                                         \
	})

json_t *json_object(void)
{
	return CALL(NULL, json_object);
}

json_t *json_array(void)
{
	return CALL(NULL, json_array);
}

json_t *json_integer(json_int_t value)
{
	return CALL(NULL, json_integer, value);
}

int json_object_set_new(json_t *object, const char *key, json_t *value)
{
	return CALL(-1, json_object_set_new, object, key, value);
}

int json_array_append_new(json_t *array, json_t *value)
{
	return CALL(-1, json_array_append_new, array, value);
}

json_t *json_pack(const char *fmt, ...)
{
	json_t *json;
	va_list ap;

	va_start(ap, fmt);
	json = CALL(NULL, json_vpack_ex, NULL, 0, fmt, ap);
	va_end(ap);
	return json;
}

int json_dumpf(const json_t *json, FILE *output, size_t flags)
{
	return CALL(-1, json_dumpf, json, output, flags);
}

char *json_dumps(const json_t *json, size_t flags)
{
	return CALL(NULL, json_dumps, json, flags);
}

/* What json_decref() calls for the last reference. */
void json_delete(json_t *json)
{
	void (*fn)(json_t *) = (void (*)(json_t *))function("json_delete");

	if (fn)
		fn(json);
}

#endif
