/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_chardev.c - byte streams: slow readers, vanished readers, files that cannot be polled, terminals. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "core/chardev.h"

/* A chip behind a chardev, and the loop's thread. */
struct bed {
	struct loop loop;
	struct chardev dev;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool readable, writable; /* lock */
	unsigned writables;
	uint64_t loop_cpu_ns; /* set when the loop's thread ends */
};

static void bed_readable(void *arg)
{
	struct bed *bed = arg;

	pthread_mutex_lock(&bed->lock);
	bed->readable = true;
	pthread_cond_signal(&bed->cond);
	pthread_mutex_unlock(&bed->lock);
}

static void bed_writable(void *arg)
{
	struct bed *bed = arg;

	pthread_mutex_lock(&bed->lock);
	bed->writable = true;
	bed->writables++;
	pthread_cond_signal(&bed->cond);
	pthread_mutex_unlock(&bed->lock);
}

static void wait_for(struct bed *bed, bool *what)
{
	pthread_mutex_lock(&bed->lock);
	while (!*what)
		pthread_cond_wait(&bed->cond, &bed->lock);
	*what = false;
	pthread_mutex_unlock(&bed->lock);
}

static void *bed_thread(void *arg)
{
	struct bed *bed = arg;
	struct rusage usage;

	loop_run(&bed->loop);
	getrusage(RUSAGE_THREAD, &usage);
	bed->loop_cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NSEC_PER_SEC +
			   (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
	return NULL;
}

static void bed_init(struct bed *bed, int in_fd, int out_fd)
{
	memset(bed, 0, sizeof(*bed));
	pthread_mutex_init(&bed->lock, NULL);
	pthread_cond_init(&bed->cond, NULL);
	assert_int_equal(loop_init(&bed->loop, NULL), 0);
	assert_int_equal(chardev_init(&bed->dev, &bed->loop, in_fd, out_fd), 0);
	bed->dev.readable = bed_readable;
	bed->dev.readable_arg = bed;
	bed->dev.writable = bed_writable;
	bed->dev.writable_arg = bed;
}

static void bed_start(struct bed *bed)
{
	assert_int_equal(pthread_create(&bed->thread, NULL, bed_thread, bed), 0);
}

static void bed_stop(struct bed *bed)
{
	loop_quit(&bed->loop);
	pthread_join(bed->thread, NULL);
}

static void bed_fini(struct bed *bed)
{
	chardev_fini(&bed->dev);
	chardev_fini(&bed->dev);
	loop_fini(&bed->loop);
	pthread_cond_destroy(&bed->cond);
	pthread_mutex_destroy(&bed->lock);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i ^ (i >> 8) * 7 ^ (i >> 16) * 13);
}

static uint64_t dropped(struct bed *bed)
{
	uint64_t n;

	pthread_mutex_lock(&bed->dev.lock);
	n = bed->dev.dropped;
	pthread_mutex_unlock(&bed->dev.lock);
	return n;
}

static size_t ring_length(struct bed *bed, const size_t *len)
{
	size_t n;

	pthread_mutex_lock(&bed->dev.lock);
	n = *len;
	pthread_mutex_unlock(&bed->dev.lock);
	return n;
}

/* ---- output ---- */

struct reader {
	int fd;
	size_t want, got, wrong;
	unsigned pause_us;
	pthread_t thread;
};

static void *reader_thread(void *arg)
{
	struct reader *reader = arg;
	uint8_t buf[3000];

	while (reader->got < reader->want) {
		ssize_t n = read(reader->fd, buf, sizeof(buf));

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			reader->wrong += buf[i] != pattern(reader->got + (size_t)i);
		reader->got += (size_t)n;
		if (reader->pause_us)
			usleep(reader->pause_us);
	}
	return NULL;
}

/* The chip sends as a UART does: only where there is room, and told when there is again. Bytes `from` to `n`. */
static void send_with_flow_control(struct bed *bed, size_t from, size_t n)
{
	for (size_t i = from; i < n; i++) {
		while (!chardev_room(&bed->dev))
			wait_for(bed, &bed->writable);
		chardev_put(&bed->dev, pattern(i));
	}
}

static void check_stream(int out_fd, int read_fd, size_t n, unsigned pause_us)
{
	struct reader reader = { .fd = read_fd, .want = n, .pause_us = pause_us };
	struct bed bed;
	int flags = fcntl(out_fd, F_GETFL);
	size_t sent = 0;

	bed_init(&bed, -1, out_fd);
	assert_int_equal(fcntl(out_fd, F_GETFL), flags); /* shared with others: not ours to change */
	bed_start(&bed);
	/* The reader sleeps until the chip has found no room, if there is so much to send. */
	for (; sent < n && chardev_room(&bed.dev); sent++)
		chardev_put(&bed.dev, pattern(sent));
	assert_int_equal(pthread_create(&reader.thread, NULL, reader_thread, &reader), 0);
	send_with_flow_control(&bed, sent, n);
	pthread_join(reader.thread, NULL);
	bed_stop(&bed);
	assert_int_equal(reader.got, n);
	assert_int_equal(reader.wrong, 0);
	assert_int_equal(bed.dev.dropped, 0);
	if (sent < n)
		assert_true(bed.writables > 0);
	assert_int_equal(fcntl(out_fd, F_GETFL), flags);
	bed_fini(&bed);
}

static void test_slow_reader_loses_nothing(void **state)
{
	int p[2], s[2];

	assert_int_equal(pipe(p), 0);
	check_stream(p[1], p[0], 600000, 300);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	check_stream(s[0], s[1], 600000, 300);
	for (unsigned i = 0; i < 2; i++) {
		close(p[i]);
		close(s[i]);
	}
}

static void make_pty(int *master, int *slave)
{
	struct termios raw;

	memset(&raw, 0, sizeof(raw));
	cfmakeraw(&raw);
	assert_int_equal(openpty(master, slave, NULL, &raw, NULL), 0);
}

static void test_terminals(void **state)
{
	int master, slave;

	make_pty(&master, &slave);
	check_stream(slave, master, 600000, 300);
	check_stream(master, slave, 20000, 0); /* a back end's own pseudo-terminal: must not be opened anew */
	close(slave);
	close(master);
}

static void loop_reached(void *arg)
{
	bed_readable(arg);
}

/* A terminal that nobody reads (Ctrl-S): the loop goes on all the same, and so does the end. */
static void test_stuck_reader_blocks_nobody(void **state)
{
	struct loop_work work = { .fn = loop_reached };
	struct bed bed;
	int master, slave;

	make_pty(&master, &slave);
	bed_init(&bed, -1, slave);
	bed_start(&bed);
	for (size_t i = 0; i < 4 * CHARDEV_OUT_SIZE; i++)
		chardev_put(&bed.dev, pattern(i));
	usleep(20000);
	work.arg = &bed;
	loop_post(&bed.loop, &work);
	wait_for(&bed, &bed.readable);
	usleep(100000);
	bed_stop(&bed);
	assert_true(bed.loop_cpu_ns < 50000000);
	chardev_flush(&bed.dev, 20);
	assert_true(bed.dev.dropped > 0);
	assert_int_equal(bed.dev.out_len, 0);
	bed_fini(&bed);
	close(slave);
	close(master);
}

static void test_full_ring_counts(void **state)
{
	struct chardev dev;
	uint8_t buf[CHARDEV_OUT_SIZE];
	int p[2];

	/* No loop: nothing moves by itself. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(chardev_init(&dev, NULL, -1, p[1]), 0);
	assert_int_equal(chardev_room(&dev), CHARDEV_OUT_SIZE);
	for (size_t i = 0; i < CHARDEV_OUT_SIZE; i++)
		chardev_put(&dev, pattern(i));
	assert_int_equal(chardev_room(&dev), 0);
	assert_int_equal(dev.dropped, 0);
	chardev_put(&dev, 1);
	chardev_put(&dev, 1);
	assert_int_equal(dev.dropped, 2);
	chardev_flush(&dev, 0); /* a pipe takes 64 KiB */
	assert_int_equal(dev.dropped, 2);
	assert_int_equal(chardev_room(&dev), CHARDEV_OUT_SIZE);
	for (size_t got = 0; got < CHARDEV_OUT_SIZE;) {
		ssize_t n = read(p[0], buf, sizeof(buf));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(got + (size_t)i));
		got += (size_t)n;
	}
	/* The ring goes round. */
	for (size_t i = 0; i < 1000; i++)
		chardev_put(&dev, pattern(i));
	chardev_flush(&dev, 0);
	assert_int_equal(read(p[0], buf, sizeof(buf)), 1000);
	chardev_fini(&dev);
	close(p[0]);
	close(p[1]);
}

static void test_flush_waits_for_reader(void **state)
{
	struct reader reader = { .want = 2 * CHARDEV_OUT_SIZE, .pause_us = 500 };
	struct chardev dev;
	int p[2];

	assert_int_equal(pipe(p), 0);
	reader.fd = p[0];
	assert_int_equal(chardev_init(&dev, NULL, -1, p[1]), 0);
	for (size_t i = 0; i < CHARDEV_OUT_SIZE; i++)
		chardev_put(&dev, pattern(i));
	chardev_flush(&dev, 0);
	for (size_t i = CHARDEV_OUT_SIZE; i < 2 * CHARDEV_OUT_SIZE; i++)
		chardev_put(&dev, pattern(i)); /* the pipe is full of the first half */
	assert_int_equal(pthread_create(&reader.thread, NULL, reader_thread, &reader), 0);
	chardev_flush(&dev, 20000);
	pthread_join(reader.thread, NULL);
	assert_int_equal(reader.got, 2 * CHARDEV_OUT_SIZE);
	assert_int_equal(reader.wrong, 0);
	assert_int_equal(dev.dropped, 0);
	chardev_fini(&dev);
	close(p[0]);
	close(p[1]);
}

static void test_reader_gone(void **state)
{
	struct bed bed;
	int p[2];

	assert_int_equal(pipe(p), 0);
	bed_init(&bed, -1, p[1]);
	bed_start(&bed);
	close(p[0]);
	/* The chip is never held back by a reader that does not come back. */
	send_with_flow_control(&bed, 0, 3 * CHARDEV_OUT_SIZE);
	while (dropped(&bed) < 3 * CHARDEV_OUT_SIZE)
		usleep(500);
	assert_int_equal(chardev_room(&bed.dev), CHARDEV_OUT_SIZE);
	bed_stop(&bed);
	assert_int_equal(bed.dev.dropped, 3 * CHARDEV_OUT_SIZE);
	bed_fini(&bed);
	close(p[1]);
}

static void test_files_as_output(void **state)
{
	char path[] = "/tmp/trapline-chardev-XXXXXX";
	int fd = mkstemp(path), full, null;
	uint8_t buf[64];
	struct bed bed;
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "head", 4), 4);
	bed_init(&bed, -1, fd);
	bed_start(&bed);
	send_with_flow_control(&bed, 0, 100000);
	while (fstat(fd, &st) == 0 && st.st_size < 4 + 100000)
		usleep(500);
	bed_stop(&bed);
	chardev_flush(&bed.dev, 0);
	bed_fini(&bed);
	/* Appended where the file stood, and nothing before was overwritten. */
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	assert_memory_equal(buf, "head", 4);
	for (size_t i = 4; i < sizeof(buf); i++)
		assert_int_equal(buf[i], pattern(i - 4));
	unlink(path);
	close(fd);

	/* A full disk: dropped and counted, but tried again each time, without a spin. */
	full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(full >= 0);
	bed_init(&bed, -1, full);
	bed_start(&bed);
	send_with_flow_control(&bed, 0, 1000);
	while (dropped(&bed) < 1000)
		usleep(500);
	bed_stop(&bed);
	assert_int_equal(bed.dev.dropped, 1000);
	assert_false(bed.dev.out_dead);
	bed_fini(&bed);
	close(full);

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bed_init(&bed, null, null);
	bed_start(&bed);
	send_with_flow_control(&bed, 0, 3 * CHARDEV_OUT_SIZE);
	while (ring_length(&bed, &bed.dev.out_len))
		usleep(500);
	bed_stop(&bed);
	assert_int_equal(bed.dev.dropped, 0);
	assert_int_equal(bed.dev.out_len, 0);
	bed_fini(&bed);
	close(null);
}

/* ---- input ---- */

/* Takes `n` bytes as a UART does, 16 at a time, and checks them. */
static void take(struct bed *bed, size_t n)
{
	uint8_t buf[16];
	size_t got = 0;

	while (got < n) {
		size_t k = chardev_get(&bed->dev, buf, sizeof(buf));

		if (!k) {
			wait_for(bed, &bed->readable);
			continue;
		}
		for (size_t i = 0; i < k; i++)
			assert_int_equal(buf[i], pattern(got + i));
		got += k;
	}
}

struct writer {
	int fd;
	size_t n;
	pthread_t thread;
};

static void *writer_thread(void *arg)
{
	struct writer *writer = arg;

	for (size_t done = 0; done < writer->n;) {
		uint8_t buf[5000];
		size_t k = writer->n - done < sizeof(buf) ? writer->n - done : sizeof(buf);

		for (size_t i = 0; i < k; i++)
			buf[i] = pattern(done + i);
		for (size_t sent = 0; sent < k;) {
			ssize_t w = write(writer->fd, buf + sent, k - sent);

			if (w < 0)
				return NULL;
			sent += (size_t)w;
		}
		done += k;
	}
	return NULL;
}

static void test_pasted_input_is_not_lost(void **state)
{
	struct writer writer = { .n = 300000 };
	struct bed bed;
	int p[2];

	assert_int_equal(pipe(p), 0);
	writer.fd = p[1];
	bed_init(&bed, p[0], -1);
	bed_start(&bed);
	assert_int_equal(pthread_create(&writer.thread, NULL, writer_thread, &writer), 0);
	/* The chip is not ready yet: the ring fills, and reading stops. */
	while (ring_length(&bed, &bed.dev.in_len) < CHARDEV_IN_SIZE)
		usleep(500);
	take(&bed, writer.n);
	pthread_join(writer.thread, NULL);
	assert_false(chardev_has_input(&bed.dev));
	/* The end of the file ends the watching: no spin on the hang-up. */
	close(p[1]);
	usleep(100000);
	bed_stop(&bed);
	assert_true(bed.dev.in_eof);
	bed_fini(&bed);
	close(p[0]);
}

static void check_no_spin(int in_fd)
{
	struct bed bed;

	bed_init(&bed, in_fd, -1);
	bed_start(&bed);
	usleep(100000);
	bed_stop(&bed);
	assert_true(bed.loop_cpu_ns < 50000000);
	bed_fini(&bed);
}

static void test_files_as_input(void **state)
{
	char path[] = "/tmp/trapline-chardev-XXXXXX";
	int fd = mkstemp(path), null, zero, p[2];
	struct writer writer = { .fd = fd, .n = 50000 };
	struct bed bed;

	assert_true(fd >= 0);
	writer_thread(&writer);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	bed_init(&bed, fd, -1);
	bed_start(&bed);
	take(&bed, writer.n);
	usleep(100000);
	bed_stop(&bed);
	assert_true(bed.dev.in_eof);
	assert_true(bed.loop_cpu_ns < 60000000);
	bed_fini(&bed);
	unlink(path);
	close(fd);

	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	check_no_spin(null);
	check_no_spin(zero); /* endless, and nobody takes it */
	assert_int_equal(pipe(p), 0);
	close(p[1]);
	check_no_spin(p[0]); /* a hang-up from the start */
	close(p[0]);
	close(null);
	close(zero);
}

static size_t drop_escape(void *arg, uint8_t *bytes, size_t n)
{
	unsigned *escapes = arg;
	size_t left = 0;

	for (size_t i = 0; i < n; i++)
		if (bytes[i] == 1)
			++*escapes;
		else
			bytes[left++] = bytes[i];
	return left;
}

static void test_filter_and_feed(void **state)
{
	unsigned escapes = 0;
	struct bed bed;
	uint8_t buf[16];
	int p[2];

	assert_int_equal(pipe(p), 0);
	bed_init(&bed, p[0], -1);
	bed.dev.filter = drop_escape;
	bed.dev.filter_arg = &escapes;
	bed_start(&bed);
	assert_int_equal(write(p[1], "a\001b\001\001c", 6), 6);
	wait_for(&bed, &bed.readable);
	assert_true(chardev_has_input(&bed.dev));
	assert_int_equal(chardev_get(&bed.dev, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "abc", 3);
	bed_stop(&bed);
	assert_int_equal(escapes, 3);
	assert_int_equal(chardev_feed(&bed.dev, (const uint8_t *)"x\001y", 3), 3); /* not filtered */
	assert_int_equal(chardev_get(&bed.dev, buf, 2), 2);
	assert_memory_equal(buf, "x\001", 2);
	bed_fini(&bed);
	close(p[0]);
	close(p[1]);
}

static size_t see_escape(void *arg, uint8_t *bytes, size_t n)
{
	if (memchr(bytes, 1, n))
		loop_quit(arg);
	return n;
}

/* Who has typed more at a dead guest than the ring holds still gets at the filter; a file's bytes just wait. */
static void test_filter_sees_a_terminal_behind_a_full_ring(void **state)
{
	uint8_t bytes[1024];
	struct clock clock;
	struct loop loop;
	struct chardev dev;
	int master, slave;

	memset(bytes, 'z', sizeof(bytes));
	make_pty(&master, &slave);
	clock_init(&clock, false, 0);
	assert_int_equal(loop_init(&loop, &clock), 0);
	assert_int_equal(chardev_init(&dev, &loop, slave, -1), 0);
	dev.filter = see_escape;
	dev.filter_arg = &loop;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(write(master, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(write(master, "\001", 1), 1);
	loop_run(&loop);
	assert_int_equal(dev.in_len, CHARDEV_IN_SIZE);
	assert_int_equal(dev.in_dropped, sizeof(bytes) + 1);
	/* Once the guest reads again, input waits for it again. */
	assert_int_equal(chardev_get(&dev, bytes, 1), 1);
	assert_false(dev.in_stuck);
	chardev_fini(&dev);
	loop_fini(&loop);
	clock_fini(&clock);
	close(master);
	close(slave);
}

static void test_one_file_both_ways(void **state)
{
	struct reader reader = { .want = 600000, .pause_us = 300 }; /* more than a socket's buffer */
	struct writer writer = { .n = 200000 };
	struct bed bed;
	int s[2], master, slave;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	bed_init(&bed, s[0], s[0]);
	bed_start(&bed);
	reader.fd = writer.fd = s[1];
	assert_int_equal(pthread_create(&reader.thread, NULL, reader_thread, &reader), 0);
	assert_int_equal(pthread_create(&writer.thread, NULL, writer_thread, &writer), 0);
	send_with_flow_control(&bed, 0, reader.want);
	take(&bed, writer.n);
	pthread_join(reader.thread, NULL);
	pthread_join(writer.thread, NULL);
	assert_int_equal(reader.got, reader.want);
	assert_int_equal(reader.wrong, 0);
	bed_stop(&bed);
	assert_int_equal(bed.dev.dropped, 0);
	bed_fini(&bed);
	close(s[0]);
	close(s[1]);

	make_pty(&master, &slave);
	bed_init(&bed, slave, slave);
	bed_start(&bed);
	assert_int_equal(write(master, "\0\1\2", 3), 3);
	take(&bed, 3);
	chardev_put(&bed.dev, 'k');
	assert_int_equal(read(master, &(char){ 0 }, 1), 1);
	/* The terminal goes away: input ends, output vanishes, nothing spins. */
	close(master);
	usleep(100000);
	bed_stop(&bed);
	assert_true(bed.dev.in_eof);
	assert_true(bed.loop_cpu_ns < 50000000);
	bed_fini(&bed);
	close(slave);
}

static void test_last_output(void **state)
{
	struct chardev dev, zeros = { 0 };
	uint8_t buf[2 * CHARDEV_OUT_SIZE];
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(chardev_last(NULL, buf, 1), 0);
	assert_int_equal(chardev_last(&zeros, buf, 1), 0);
	assert_int_equal(chardev_init(&dev, NULL, -1, p[1]), 0);
	assert_int_equal(chardev_last(&dev, buf, 10), 0);
	for (size_t i = 0; i < 100; i++)
		chardev_put(&dev, pattern(i));
	assert_int_equal(chardev_last(&dev, buf, 1000), 100);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(buf[i], pattern(i));
	/* What was read too, together with what was not. */
	chardev_flush(&dev, 0);
	for (size_t i = 100; i < 120; i++)
		chardev_put(&dev, pattern(i));
	assert_int_equal(chardev_last(&dev, buf, 50), 50);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(buf[i], pattern(70 + i));
	/* Round the ring, and never more than it holds. */
	chardev_flush(&dev, 0);
	assert_int_equal(read(p[0], buf, sizeof(buf)), 120);
	for (size_t i = 120; i < CHARDEV_OUT_SIZE; i++)
		chardev_put(&dev, pattern(i));
	chardev_flush(&dev, 0);
	for (size_t i = CHARDEV_OUT_SIZE; i < CHARDEV_OUT_SIZE + 200; i++)
		chardev_put(&dev, pattern(i));
	assert_int_equal(chardev_last(&dev, buf, sizeof(buf)), CHARDEV_OUT_SIZE);
	for (size_t i = 0; i < CHARDEV_OUT_SIZE; i++)
		assert_int_equal(buf[i], pattern(200 + i));
	chardev_fini(&dev);
	close(p[0]);
	close(p[1]);
}

static void test_nothing_behind_it(void **state)
{
	struct chardev dev, zeros = { 0 };
	uint8_t byte;

	chardev_put(NULL, 'x');
	assert_int_equal(chardev_get(NULL, &byte, 1), 0);
	assert_int_equal(chardev_room(NULL), CHARDEV_OUT_SIZE);
	assert_false(chardev_has_input(NULL));
	chardev_fini(&zeros);
	assert_int_equal(chardev_init(&dev, NULL, 987, -1), -EBADF);
	assert_int_equal(chardev_init(&dev, NULL, -1, 987), -EBADF);
	assert_int_equal(chardev_init(&dev, NULL, -1, -1), 0);
	for (size_t i = 0; i < 2 * CHARDEV_OUT_SIZE; i++)
		chardev_put(&dev, 'x');
	assert_int_equal(dev.dropped, 0);
	assert_int_equal(chardev_room(&dev), CHARDEV_OUT_SIZE);
	chardev_flush(&dev, 10);
	chardev_fini(&dev);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* A console's bytes, 20 us apart: a write for each millisecond, not for each byte, and the first at once. */
static void test_output_is_gathered(void **state)
{
	struct timeval patience = { .tv_sec = 20 };
	struct itimerspec armed;
	unsigned packets = 0, got = 0, bytes = 300;
	uint64_t begin, took;
	char text[1024];
	struct bed bed;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	bed_init(&bed, -1, fds[1]);
	/* The loop looks at the empty ring first: that is no output to wait for. */
	loop_post(&bed.loop, &bed.dev.kick);
	bed_start(&bed);
	usleep(300);
	begin = now_ns();
	chardev_put(&bed.dev, '!');
	assert_int_equal(timerfd_gettime(bed.dev.gather.fd, &armed), 0);
	assert_int_equal(armed.it_value.tv_nsec, 0);
	assert_int_equal(recv(fds[0], text, sizeof(text), 0), 1);
	for (unsigned i = 0; i < bytes; i++) {
		uint64_t next = now_ns() + 20000;

		chardev_put(&bed.dev, 'x');
		while (now_ns() < next)
			;
	}
	for (; got < bytes; packets++) {
		ssize_t n = recv(fds[0], text, sizeof(text), 0);

		assert_true(n > 0);
		got += (unsigned)n;
	}
	took = now_ns() - begin;
	assert_int_equal(got, bytes);
	/* What comes while a round writes is written by the next, at once: a few more on a slow host. */
	assert_true(packets <= 4 * (took / 1000000 + 1));
	bed_stop(&bed);
	bed_fini(&bed);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_reader_loses_nothing),
		cmocka_unit_test(test_terminals),
		cmocka_unit_test(test_stuck_reader_blocks_nobody),
		cmocka_unit_test(test_full_ring_counts),
		cmocka_unit_test(test_flush_waits_for_reader),
		cmocka_unit_test(test_reader_gone),
		cmocka_unit_test(test_files_as_output),
		cmocka_unit_test(test_pasted_input_is_not_lost),
		cmocka_unit_test(test_files_as_input),
		cmocka_unit_test(test_filter_and_feed),
		cmocka_unit_test(test_filter_sees_a_terminal_behind_a_full_ring),
		cmocka_unit_test(test_one_file_both_ways),
		cmocka_unit_test(test_output_is_gathered),
		cmocka_unit_test(test_last_output),
		cmocka_unit_test(test_nothing_behind_it),
	};

	signal(SIGPIPE, SIG_IGN);
	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
