/* SPDX-License-Identifier: BSD-2-Clause */
/* ports.c - lists of ports to forward, "8080:80,127.0.0.1/2200-2210", and whether the host has them free. */
#include "host/ports.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct ports {
	char address[64]; /* "": all */
	unsigned first, last;
};

/* "80" or "80-90", not more than the text up to `end`. False: it is none. */
static bool range(const char *text, const char *end, unsigned *first, unsigned *last)
{
	unsigned n[2] = { 0, 0 }, i = 0, digits = 0;

	for (; text < end; text++) {
		if (*text == '-' && i == 0 && digits) {
			i = 1;
			digits = 0;
			continue;
		}
		if (!isdigit((unsigned char)*text) || ++digits > 5)
			return false;
		n[i] = n[i] * 10 + (unsigned)(*text - '0');
	}
	*first = n[0];
	*last = i ? n[1] : n[0];
	return digits && *first >= 1 && *first <= *last && *last <= 65535;
}

/* Takes the entry at *at, which moves behind its comma or becomes NULL. */
static int entry(const char **at, struct ports *ports, struct error *err)
{
	const char *whole = *at, *text = whole, *end = strchrnul(text, ','), *slash, *colon;
	unsigned first, last;
	size_t len;

	*at = *end ? end + 1 : NULL;
	slash = memchr(text, '/', (size_t)(end - text));
	len = slash ? (size_t)(slash - text) : 0;
	if (len >= sizeof(ports->address) || (slash && !len))
		goto bad;
	memcpy(ports->address, text, len);
	ports->address[len] = '\0';
	if (slash) {
		uint8_t raw[sizeof(struct in6_addr)];

		if (inet_pton(AF_INET, ports->address, raw) != 1 && inet_pton(AF_INET6, ports->address, raw) != 1)
			goto bad;
		text = slash + 1;
	}
	colon = memchr(text, ':', (size_t)(end - text));
	if (!range(text, colon ? colon : end, &ports->first, &ports->last))
		goto bad;
	if (!colon)
		return 0;
	if (range(colon + 1, end, &first, &last) && last - first == ports->last - ports->first)
		return 0;
bad:
	error_set(err, -EINVAL, "'%.*s' is no port to forward", (int)(end - whole > 60 ? 60 : end - whole), whole);
	error_hint(err, "HOST:GUEST, 8080:80, or 127.0.0.1/8080:80; with a comma between two");
	return -EINVAL;
}

int ports_check(const char *text, struct error *err)
{
	struct ports ports;

	while (text) {
		int r = entry(&text, &ports, err);

		if (r)
			return r;
	}
	return 0;
}

/* 0 or -errno: as whoever listens there would find it. */
static int probe(const struct ports *ports, unsigned port, bool udp)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool six = inet_pton(AF_INET6, ports->address, &v6.sin6_addr) == 1;
	const int on = 1;
	int fd, r = 0;

	if (!six && *ports->address)
		inet_pton(AF_INET, ports->address, &v4.sin_addr);
	fd = socket(six ? AF_INET6 : AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A port whose last user has just gone is free. */
	if (!udp)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, six ? sizeof(v6) : sizeof(v4)))
		r = -errno;
	close(fd);
	return r;
}

int ports_free(const char *text, bool udp, struct error *err)
{
	struct ports ports;

	while (text) {
		int r = entry(&text, &ports, err);

		if (r)
			return r;
		for (unsigned port = ports.first; port <= ports.last; port++) {
			r = probe(&ports, port, udp);
			if (!r)
				continue;
			error_set(err, r, "%s port %u of the host%s%s: %s", udp ? "UDP" : "TCP", port,
				*ports.address ? " at " : "", ports.address, strerror(-r));
			if (r == -EADDRINUSE)
				error_hint(err, "another program has it; forward another, such as %u:%u",
					port < 55535 ? port + 10000 : port - 10000, port);
			else if (r == -EACCES)
				error_hint(err,
					"ports below 1024 are the administrator's; forward another, such as "
					"%u:%u",
					port + 8000, port);
			return r;
		}
	}
	return 0;
}
