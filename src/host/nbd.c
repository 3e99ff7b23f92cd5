/* SPDX-License-Identifier: BSD-2-Clause */
/* nbd.c - URIs of network block devices; see nbd.h. */
#include "host/nbd.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT "10809"

bool nbd_is(const char *text)
{
	return strncmp(text, "nbd", 3) == 0 && strstr(text, "://");
}

static int digit(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
					    : -1;
}

/* [from, from + len) with %XX as the byte. False: too long, or not so written. */
static bool decode(const char *from, size_t len, char *to, size_t size)
{
	const char *end = from + len;
	size_t n = 0;

	for (; from < end; from++) {
		char c = *from;

		if (c == '%') {
			if (end - from < 3 || digit(from[1]) < 0 || digit(from[2]) < 0)
				return false;
			c = (char)(digit(from[1]) << 4 | digit(from[2]));
			from += 2;
		}
		if (!c || n + 1 >= size)
			return false;
		to[n++] = c;
	}
	to[n] = '\0';
	return true;
}

/* "host", "host:port", "[::1]:port" of `len` characters. */
static bool take_server(const char *text, size_t len, struct nbd *out)
{
	const char *end = text + len, *host = text, *stop, *port;

	if (len && *text == '[') {
		host++;
		stop = memchr(text, ']', len);
		port = stop ? stop + 1 : NULL;
	} else {
		stop = memchr(text, ':', len);
		port = stop = stop ? stop : end;
	}
	if (!stop || stop == host || memchr(text, '@', len) ||
		!decode(host, (size_t)(stop - host), out->host, sizeof(out->host)))
		return false;
	snprintf(out->port, sizeof(out->port), PORT);
	if (port == end)
		return true;
	port++;
	if (port[-1] != ':' || port == end || end - port > 5)
		return false;
	for (const char *c = port; c < end; c++) {
		if (!isdigit((unsigned char)*c))
			return false;
	}
	snprintf(out->port, sizeof(out->port), "%.*s", (int)(end - port), port);
	return strtoul(out->port, NULL, 10) > 0 && strtoul(out->port, NULL, 10) <= 65535;
}

/* "socket=PATH" */
static bool take_socket(const char *query, struct nbd *out)
{
	return query && strncmp(query, "socket=", 7) == 0 && query[7] && !strchr(query, '&') &&
	       decode(query + 7, strlen(query + 7), out->host, sizeof(out->host));
}

int nbd_parse(const char *uri, struct nbd *out, struct error *err)
{
	const char *server, *path, *query;
	size_t len;
	bool good;

	*out = (struct nbd){ .local = strncmp(uri, "nbd+unix://", 11) == 0 };
	if (!out->local && strncmp(uri, "nbd://", 6) != 0) {
		error_set(err, -EINVAL, "there are nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH%s",
			strncmp(uri, "nbds", 4) == 0 ? ", and none of them with TLS" : "");
		return -EINVAL;
	}
	server = strstr(uri, "://") + 3;
	len = strcspn(server, "/?");
	path = server + len + (server[len] == '/');
	query = strchr(path, '?');
	good = decode(path, query ? (size_t)(query - path) : strlen(path), out->export, sizeof(out->export));
	if (out->local)
		good = good && !len && take_socket(query ? query + 1 : NULL, out);
	else
		good = good && !query && take_server(server, len, out);
	if (!good)
		return error_set(err, -EINVAL, "not of the form %s",
			out->local ? "nbd+unix:///EXPORT?socket=PATH" : "nbd://HOST[:PORT]/EXPORT");
	return 0;
}
