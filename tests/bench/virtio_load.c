/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_load.c - what virtio devices are measured by: requests to a disk, a network or a shared folder.
 *
 *     load disk NAME DEVICE       random blocks of 4 KiB and runs of 1 MiB, read and written past the guest's cache
 *     load net NAME ADDRESS BYTES one byte there and back by TCP, and BYTES in each direction
 *     load tree NAME FOLDER       each folder listed, each file looked at and read
 *     load serve                  the network's other end, on the host
 *     load plant FOLDER           what to walk: folders with small files
 *
 * Each workload runs twice, each time with nothing in the guest's caches: as `time`, undisturbed, and as `count`, for
 * who counts meanwhile. Those of a network, where it matters who runs when, are timed and counted several times, each
 * by a connection of its own. Before and after it a line on the standard output tells so, and waits for one on the
 * standard input:
 *
 *     @ready NAME PASS
 *     @done NAME PASS REQUESTS BYTES NANOSECONDS
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS      1000 /* random requests at a depth of 1 */
#define DEEP_ROUNDS 4000
#define BLOCK       4096
#define RUN         (1U << 20)
#define DEPTH_MOST  32
#define REQUESTS    1000 /* of the network */
#define TIMES       4    /* that a network's workload is timed, and counted */
#define APART_US    1370
#define FOLDERS     20
#define FILES       25 /* in each */
#define PORT_ECHO   7001
#define PORT_SINK   7002
#define PORT_SOURCE 7003

static void fail(const char *what)
{
	printf("\n@failed %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void wait_for_line(void)
{
	char line[64];

	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		fail("standard input");
}

/* What a workload did. */
struct work {
	uint64_t requests, bytes;
};

/* What the guest has in its page cache and of names. */
static void forget(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	if (fd < 0 || write(fd, "3", 1) != 1)
		fail("drop_caches");
	close(fd);
}

static void pass(const char *name, const char *which, void (*run)(void *arg, struct work *work), void *arg)
{
	struct work work = { 0 };
	uint64_t begin, end;

	forget();
	printf("\n@ready %s %s\n", name, which);
	wait_for_line();
	begin = now();
	run(arg, &work);
	end = now();
	printf("\n@done %s %s %llu %llu %llu\n", name, which, (unsigned long long)work.requests,
		(unsigned long long)work.bytes, (unsigned long long)(end - begin));
	wait_for_line();
}

static void measure(const char *name, void (*run)(void *arg, struct work *work), void *arg)
{
	pass(name, "time", run, arg);
	pass(name, "count", run, arg);
}

/* ---- a disk ---- */

struct disk {
	int fd;
	uint64_t size;
	aio_context_t aio;
	uint8_t *buffers;
	/* this workload's */
	bool write, random;
	unsigned depth, length, rounds;
	uint64_t seed, at;
};

/* The same places each time. */
static uint64_t next_place(struct disk *disk)
{
	uint64_t blocks = disk->size / disk->length;

	if (!disk->random)
		return disk->at++ % blocks * disk->length;
	disk->seed = disk->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (disk->seed >> 33) % blocks * disk->length;
}

static void disk_run(void *arg, struct work *work)
{
	struct disk *disk = arg;
	struct iocb iocbs[DEPTH_MOST], *list[DEPTH_MOST];
	struct io_event events[DEPTH_MOST];
	unsigned begun = 0, ended = 0;
	long idle = disk->depth;

	disk->seed = 1;
	disk->at = 0;
	for (unsigned i = 0; i < disk->depth; i++)
		list[i] = &iocbs[i];
	while (ended < disk->rounds) {
		long n = 0;

		/* All that may be under way, in one call. */
		for (; n < idle && begun < disk->rounds; n++, begun++) {
			unsigned slot = (unsigned)(list[n] - iocbs);

			*list[n] = (struct iocb){ .aio_lio_opcode = disk->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				.aio_fildes = (uint32_t)disk->fd,
				.aio_buf = (uintptr_t)(disk->buffers + (size_t)slot * RUN),
				.aio_nbytes = disk->length,
				.aio_offset = (int64_t)next_place(disk) };
		}
		if (n && syscall(SYS_io_submit, disk->aio, n, list) != n)
			fail("io_submit");
		idle = syscall(SYS_io_getevents, disk->aio, 1L, (long)disk->depth, events, NULL);
		if (idle < 1)
			fail("io_getevents");
		for (long i = 0; i < idle; i++) {
			if (events[i].res != (int64_t)disk->length)
				fail("a request");
			list[i] = (struct iocb *)(uintptr_t)events[i].obj;
		}
		ended += (unsigned)idle;
	}
	work->requests = disk->rounds;
	work->bytes = (uint64_t)disk->rounds * disk->length;
}

static void disk_main(const char *name, const char *path)
{
	static const struct {
		const char *name;
		bool write, random;
		unsigned depth, length, rounds;
	} works[] = {
		{ "read-4k-1", false, true, 1, BLOCK, ROUNDS },
		{ "write-4k-1", true, true, 1, BLOCK, ROUNDS },
		{ "read-4k-32", false, true, 32, BLOCK, DEEP_ROUNDS },
		{ "write-4k-32", true, true, 32, BLOCK, DEEP_ROUNDS },
		{ "read-1m", false, false, 1, RUN, 64 },
		{ "write-1m", true, false, 1, RUN, 64 },
	};
	struct disk disk = { .fd = open(path, O_RDWR | O_DIRECT) };
	char text[64];

	if (disk.fd < 0 || ioctl(disk.fd, BLKGETSIZE64, &disk.size) < 0)
		fail(path);
	if (syscall(SYS_io_setup, DEPTH_MOST, &disk.aio) < 0 ||
		posix_memalign((void **)&disk.buffers, BLOCK, (size_t)DEPTH_MOST * RUN))
		fail("aio");
	memset(disk.buffers, 0x5a, (size_t)DEPTH_MOST * RUN);
	for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		disk.write = works[i].write;
		disk.random = works[i].random;
		disk.depth = works[i].depth;
		disk.length = works[i].length;
		disk.rounds = works[i].rounds;
		snprintf(text, sizeof(text), "%s-%s", name, works[i].name);
		measure(text, disk_run, &disk);
	}
}

/* ---- a network ---- */

struct net {
	int fd;
	uint64_t bytes;
};

static char block[64 << 10];

static void send_all(int fd, const void *data, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t sent = send(fd, (const char *)data + done, n - done, MSG_NOSIGNAL);

		if (sent < 0)
			fail("send");
		done += (size_t)sent;
	}
}

static void receive_all(int fd, uint64_t n)
{
	while (n) {
		ssize_t got = recv(fd, block, n < sizeof(block) ? n : sizeof(block), 0);

		if (got <= 0)
			fail("receive");
		n -= (uint64_t)got;
	}
}

static void echo_run(void *arg, struct work *work)
{
	struct net *net = arg;

	for (unsigned i = 0; i < REQUESTS; i++) {
		send_all(net->fd, block, 1);
		receive_all(net->fd, 1);
	}
	work->requests = REQUESTS;
	work->bytes = REQUESTS;
}

/* The other end is told how much, and answers a byte when it has all. */
static void send_run(void *arg, struct work *work)
{
	struct net *net = arg;

	send_all(net->fd, &net->bytes, sizeof(net->bytes));
	for (uint64_t left = net->bytes; left;) {
		size_t n = left < sizeof(block) ? (size_t)left : sizeof(block);

		send_all(net->fd, block, n);
		left -= n;
	}
	receive_all(net->fd, 1);
	work->bytes = net->bytes;
	work->requests = net->bytes / sizeof(block);
}

static void receive_run(void *arg, struct work *work)
{
	struct net *net = arg;

	send_all(net->fd, &net->bytes, sizeof(net->bytes));
	receive_all(net->fd, net->bytes);
	work->bytes = net->bytes;
	work->requests = net->bytes / sizeof(block);
}

static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	inet_pton(AF_INET, address, &to.sin_addr);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail(address);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void net_main(const char *name, const char *address, uint64_t bytes)
{
	static const struct {
		const char *name;
		uint16_t port;
		void (*run)(void *arg, struct work *work);
	} works[] = {
		{ "echo", PORT_ECHO, echo_run },
		{ "send", PORT_SINK, send_run },
		{ "receive", PORT_SOURCE, receive_run },
	};
	char text[64];

	for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		snprintf(text, sizeof(text), "%s-%s", name, works[i].name);
		for (unsigned time = 0; time < 2 * TIMES; time++) {
			struct net net = { .fd = connect_to(address, works[i].port), .bytes = bytes };

			/* Nothing here comes at the same time again. */
			usleep(APART_US * time);
			pass(text, time < TIMES ? "time" : "count", works[i].run, &net);
			close(net.fd);
		}
	}
}

static void serve_one(int fd, uint16_t port)
{
	uint64_t bytes;

	for (;;) {
		ssize_t n = recv(fd, port == PORT_ECHO ? (void *)block : (void *)&bytes,
			port == PORT_ECHO ? sizeof(block) : sizeof(bytes), port == PORT_ECHO ? 0 : MSG_WAITALL);

		if (n <= 0)
			return;
		if (port == PORT_ECHO) {
			send_all(fd, block, (size_t)n);
		} else if (port == PORT_SINK) {
			receive_all(fd, bytes);
			send_all(fd, block, 1);
		} else {
			for (uint64_t left = bytes; left;) {
				size_t part = left < sizeof(block) ? (size_t)left : sizeof(block);

				send_all(fd, block, part);
				left -= part;
			}
		}
	}
}

static void serve(void)
{
	struct pollfd ports[3];

	signal(SIGCHLD, SIG_IGN);

	for (unsigned i = 0; i < 3; i++) {
		struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(PORT_ECHO + i)) };
		int one = 1;

		ports[i] = (struct pollfd){ .fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN };
		setsockopt(ports[i].fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(ports[i].fd, (struct sockaddr *)&at, sizeof(at)) || listen(ports[i].fd, 8))
			fail("listen");
	}
	while (poll(ports, 3, -1) > 0) {
		for (unsigned i = 0; i < 3; i++) {
			int fd = ports[i].revents ? accept(ports[i].fd, NULL, NULL) : -1, one = 1;

			if (fd < 0)
				continue;
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			if (fork() == 0) {
				serve_one(fd, (uint16_t)(PORT_ECHO + i));
				_exit(0);
			}
			close(fd);
		}
	}
}

/* ---- a folder ---- */

static void walk(const char *path, struct work *work)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char below[512];
	struct stat st;

	if (!dir)
		fail(path);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (lstat(below, &st))
			fail(below);
		work->requests++;
		if (S_ISDIR(st.st_mode)) {
			walk(below, work);
		} else {
			int fd = open(below, O_RDONLY);
			ssize_t n;

			while ((n = read(fd, block, sizeof(block))) > 0)
				work->bytes += (uint64_t)n;
			if (fd < 0 || n < 0)
				fail(below);
			close(fd);
		}
	}
	closedir(dir);
}

static void tree_run(void *arg, struct work *work)
{
	walk(arg, work);
}

static void plant(const char *path)
{
	char name[512];

	for (unsigned i = 0; i < FOLDERS; i++) {
		snprintf(name, sizeof(name), "%s/%u", path, i);
		if (mkdir(name, 0755))
			fail(name);
		for (unsigned j = 0; j < FILES; j++) {
			FILE *file;

			snprintf(name, sizeof(name), "%s/%u/%u", path, i, j);
			file = fopen(name, "w");
			/* Of 64 bytes to 16 KiB. */
			if (!file || fwrite(block, 1, 64U << (i + j) % 9, file) == 0 || fclose(file))
				fail(name);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "disk"))
		disk_main(argv[2], argv[3]);
	else if (argc == 5 && !strcmp(argv[1], "net"))
		net_main(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	else if (argc == 4 && !strcmp(argv[1], "tree"))
		measure(argv[2], tree_run, argv[3]);
	else if (argc == 3 && !strcmp(argv[1], "plant"))
		plant(argv[2]);
	else if (argc == 2 && !strcmp(argv[1], "serve"))
		serve();
	else
		return 2;
	return 0;
}
