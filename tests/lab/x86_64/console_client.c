/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * console_client.c - a client of a console's socket: what it reads goes to standard output, standard input to the
 * socket, until the other end closes. Waits for the socket to be there. console_client PATH [milliseconds a read waits]
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int copy(int from, int to)
{
	static char bytes[65536];
	ssize_t n = read(from, bytes, sizeof(bytes));

	for (ssize_t done = 0; done < n;) {
		ssize_t r = write(to, bytes + done, (size_t)(n - done));

		if (r < 0)
			return -1;
		done += r;
	}
	return n > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct pollfd files[2] = { { .fd = 0, .events = POLLIN }, { .events = POLLIN } };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc < 2 || fd < 0)
		return 2;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno != ENOENT && errno != ECONNREFUSED)
			return 1;
		usleep(20000);
	}
	files[1].fd = fd;
	while (poll(files, 2, -1) > 0) {
		if (files[1].revents) {
			if (argc > 2)
				usleep((useconds_t)atoi(argv[2]) * 1000);
			if (copy(fd, 1))
				return 0;
		}
		if (files[0].revents && copy(0, fd)) {
			shutdown(fd, SHUT_WR);
			files[0].fd = -1;
		}
	}
	return 1;
}
