/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_transfer.c - many bytes over TCP, each of which is known; and answers of a name server. For both ends of a
 * network.
 *
 *   virtio_transfer listen PORT give|take|count BYTES TIMES  on any address of IPv4 and IPv6; one after the other
 *   virtio_transfer connect ADDRESS PORT give|take|count BYTES
 *   virtio_transfer names ADDRESS NAME IPV4                  UDP port 53: NAME has this address, others have none
 *
 * The one that gives ends the stream, and waits for the end of the other's; the one that takes sees that end, the one
 * that counts does not wait for it. A line tells how it went: "ok ..." or "wrong ...".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536

static void need(bool good, const char *what, uint64_t at)
{
	if (!good) {
		printf("wrong %s at byte %llu: %s\n", what, (unsigned long long)at, strerror(errno));
		exit(1);
	}
}

/* What the stream has from byte `at` on, a multiple of 8. */
static void fill(uint64_t *words, uint64_t at)
{
	for (unsigned i = 0; i < CHUNK / 8; i++)
		words[i] = htole64((at / 8 + i) * 0x9e3779b97f4a7c15ULL);
}

static void give(int fd, uint64_t bytes)
{
	static uint64_t words[CHUNK / 8];
	uint8_t *data = (uint8_t *)words;
	ssize_t n;

	for (uint64_t at = 0; at < bytes; at += (uint64_t)n) {
		uint64_t left = bytes - at;
		size_t in = at % CHUNK;

		if (in == 0)
			fill(words, at);
		n = send(fd, data + in, left < CHUNK - in ? left : CHUNK - in, MSG_NOSIGNAL);
		need(n > 0, "send", at);
	}
	need(shutdown(fd, SHUT_WR) == 0, "shutdown", bytes);
	n = read(fd, data, 1);
	need(n == 0, "the other's end", bytes);
}

static void take(int fd, uint64_t bytes, bool to_the_end)
{
	static uint64_t words[CHUNK / 8];
	static uint8_t got[CHUNK];
	uint64_t at = 0;
	ssize_t n;

	for (; to_the_end || at < bytes; at += (uint64_t)n) {
		size_t in = at % CHUNK;

		if (in == 0)
			fill(words, at);
		n = read(fd, got, CHUNK - in);
		need(n >= 0, "read", at);
		if (n == 0)
			break;
		need(memcmp(got, (uint8_t *)words + in, (size_t)n) == 0, "another byte came", at);
	}
	need(at == bytes, "the end", at);
}

static int connected(const char *address, unsigned port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool six = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	need(six || inet_pton(AF_INET, address, &v4.sin_addr) == 1, address, 0);
	need(connect(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof(v6) : sizeof(v4)) == 0, "connect", 0);
	return fd;
}

static int listens(unsigned port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 16) == 0, "listen", 0);
	printf("ok listens\n");
	return fd;
}

/*
 * A query's head is 12 bytes, its name words with their lengths before them; an
 * answer is the query and, if any, an address.
 */
static void names(const char *address, const char *name, const char *answer)
{
	static const uint8_t record[12] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53) }, from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint8_t data[512];

	inet_pton(AF_INET, address, &at.sin_addr);
	need(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0, "bind", 0);
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data) - 16, 0, (struct sockaddr *)&from, &len);
		char asked[512] = "";
		size_t end = 12;

		for (; n > 16 && end < (size_t)n && data[end]; end += data[end] + 1U)
			snprintf(asked + strlen(asked), sizeof(asked) - strlen(asked), "%s%.*s", *asked ? "." : "",
				data[end], data + end + 1);
		if (n < 17 || end + 5 > (size_t)n)
			continue;
		bool known = strcmp(asked, name) == 0, is_a = data[end + 2] == 1;

		n = (ssize_t)end + 5;
		data[2] |= 0x84;
		data[3] = known ? 0 : 3;
		memset(data + 6, 0, 6);
		if (known && is_a) {
			data[7] = 1;
			memcpy(data + n, record, sizeof(record));
			inet_pton(AF_INET, answer, data + n + sizeof(record));
			n += sizeof(record) + 4;
		}
		sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

/* One transfer, and the connection's end. */
static void transfer(int fd, const char *what, const char *bytes)
{
	need(fd >= 0, "connection", 0);
	if (strcmp(what, "give") == 0)
		give(fd, strtoull(bytes, NULL, 10));
	else
		take(fd, strtoull(bytes, NULL, 10), strcmp(what, "take") == 0);
	close(fd);
	printf("ok %s %s\n", what, bytes);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 5 && strcmp(argv[1], "names") == 0)
		names(argv[2], argv[3], argv[4]);
	if (argc == 6 && strcmp(argv[1], "connect") == 0) {
		transfer(connected(argv[2], (unsigned)atoi(argv[3])), argv[4], argv[5]);
		return 0;
	}
	if (argc != 6 || strcmp(argv[1], "listen") != 0)
		return 2;
	int fd = listens((unsigned)atoi(argv[2]));

	for (int times = atoi(argv[5]); times > 0; times--)
		transfer(accept(fd, NULL, NULL), argv[3], argv[4]);
	return 0;
}
