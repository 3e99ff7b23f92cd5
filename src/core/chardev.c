/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chardev.c - rings between a chip and a host file.
 *
 * Output must not block the loop, yet O_NONBLOCK belongs to the open file description, which stdout shares
 * with the shell and with whatever else writes there: set on it, it would break others and outlive us. So a
 * terminal or a pipe is opened anew through /proc/self/fd, which gives a description of our own; a socket is
 * written with MSG_DONTWAIT; a regular file never blocks, and opened anew would lose its offset. What cannot
 * be opened anew (a terminal of another user's) is polled and then written in pieces small enough not to block.
 *
 * The loop's thread alone takes bytes out of the output ring and puts bytes into the input ring, so it writes
 * from the one without the lock: a chip only ever appends behind.
 */
#include "core/chardev_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* What a blocking pipe takes at once when poll says that it is writable (PIPE_BUF), and a terminal. */
#define CHARDEV_PIPE_CHUNK 4096
#define CHARDEV_TTY_CHUNK  256
/* A terminal's input is read and dropped when the chip has taken none of a full ring for so long. */
#define CHARDEV_STALL_NS NSEC_PER_SEC
/* How soon after output the next is written: a thousand wake-ups a second at most, and no eye sees the wait. */
#define CHARDEV_GATHER_NS 1000000
/* Rounds in one callback; other files get their turn, epoll comes back. */
#define CHARDEV_ROUNDS 16

static int chardev_reopen(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* A pseudo-terminal's master: opened anew, it would be another terminal. */
static bool chardev_is_master(int fd)
{
	unsigned number;

	return ioctl(fd, TIOCGPTN, &number) == 0;
}

/* Only a serial line has lines to a modem. Others would accept a break too, and do nothing. */
static bool chardev_is_serial(int fd)
{
	int lines;

	return ioctl(fd, TIOCMGET, &lines) == 0;
}

/* Decides how output to `fd` is written; see the top. 0 or -errno. */
static int chardev_open_out(struct chardev *dev, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;
	bool tty, breaks;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	dev->write_fd = fd;
	dev->own_write_fd = false;
	dev->chunk = CHARDEV_OUT_SIZE;
	dev->socket = S_ISSOCK(st.st_mode);
	tty = S_ISCHR(st.st_mode) && isatty(fd);
	breaks = tty && chardev_is_serial(fd);
	pthread_mutex_lock(&dev->lock);
	dev->breaks = breaks;
	pthread_mutex_unlock(&dev->lock);
	if (!(flags & O_NONBLOCK) && (tty || S_ISFIFO(st.st_mode))) {
		int anew = chardev_is_master(fd) ? -1 : chardev_reopen(fd);

		if (anew >= 0) {
			dev->write_fd = anew;
			dev->own_write_fd = true;
		} else {
			dev->chunk = tty ? CHARDEV_TTY_CHUNK : CHARDEV_PIPE_CHUNK;
		}
	}
	if (!dev->own_write_fd && (dev->write_fd == dev->in_fd || dev->keeps)) {
		/* A second one to watch it by, for epoll takes each once: the first is, or may become, the input's. */
		dev->write_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (dev->write_fd < 0)
			return -errno;
		dev->own_write_fd = true;
	}
	dev->out_watch.fd = dev->write_fd;
	return 0;
}

static void chardev_close_out(struct chardev *dev)
{
	chardev_line_up(dev);
	if (dev->loop)
		loop_unwatch(dev->loop, &dev->out_watch);
	if (dev->own_write_fd && dev->write_fd >= 0)
		close(dev->write_fd);
	dev->own_write_fd = false;
	dev->write_fd = -1;
}

static uint64_t chardev_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Bytes written, or -errno; -EAGAIN: no room now. */
static ssize_t chardev_write(struct chardev *dev, const uint8_t *bytes, size_t n)
{
	struct pollfd pfd = { .fd = dev->write_fd, .events = POLLOUT };
	ssize_t done;

	if (n > dev->chunk)
		n = dev->chunk;
	if (dev->chunk != CHARDEV_OUT_SIZE && poll(&pfd, 1, 0) <= 0)
		return -EAGAIN;
	do {
		if (dev->socket)
			done = send(dev->write_fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			done = write(dev->write_fd, bytes, n);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

/* With the lock held: n bytes of the ring are done with, and stay in it as history. */
static void chardev_retire(struct chardev *dev, size_t n)
{
	dev->out_head = (dev->out_head + n) % CHARDEV_OUT_SIZE;
	dev->out_len -= n;
	dev->out_kept += n;
	if (dev->out_kept > CHARDEV_OUT_SIZE - dev->out_len)
		dev->out_kept = CHARDEV_OUT_SIZE - dev->out_len;
	dev->line_after -= n < dev->line_after ? n : dev->line_after;
}

/* With the lock held: nobody reads just now, and what is put waits for somebody as history. */
static bool chardev_is_kept(const struct chardev *dev)
{
	return dev->keeps && (dev->out_fd < 0 || dev->out_dead);
}

/* With the lock held. */
static void chardev_drop_output(struct chardev *dev)
{
	dev->dropped += dev->out_len;
	dev->out_len = dev->line_after = 0;
}

/* With the lock held: the write failed. A full disk may have room again; a reader that has gone stays away. */
static void chardev_write_failed(struct chardev *dev, int rc)
{
	if (dev->keeps)
		chardev_retire(dev, dev->out_len);
	else
		chardev_drop_output(dev);
	if (rc != -ENOSPC && rc != -EDQUOT && rc != -EFBIG)
		dev->out_dead = true;
}

/* Whether the chip is to be told of room: at half full, so that it is not told for every byte. Lock held. */
static bool chardev_room_again(struct chardev *dev)
{
	if (!dev->want_room || dev->out_len > CHARDEV_OUT_SIZE / 2)
		return false;
	dev->want_room = false;
	return true;
}

/* Writes one piece of the ring. 0 (look again), 1 (nothing is left), or -EAGAIN. */
static int chardev_drain(struct chardev *dev)
{
	size_t head, n;
	ssize_t done;
	bool tell;
	int rc = 0;

	pthread_mutex_lock(&dev->lock);
	head = dev->out_head;
	n = dev->line == CHARDEV_LINE_IDLE ? dev->out_len : dev->line == CHARDEV_LINE_DUE ? dev->line_after : 0;
	pthread_mutex_unlock(&dev->lock);
	if (!n)
		return 1;
	if (n > CHARDEV_OUT_SIZE - head)
		n = CHARDEV_OUT_SIZE - head;
	done = chardev_write(dev, dev->out + head, n);
	if (done == -EAGAIN)
		return -EAGAIN;

	pthread_mutex_lock(&dev->lock);
	if (done < 0)
		chardev_write_failed(dev, (int)done);
	else
		chardev_retire(dev, (size_t)done);
	if (!dev->out_len || (dev->line == CHARDEV_LINE_DUE && !dev->line_after))
		rc = 1;
	tell = chardev_room_again(dev);
	pthread_mutex_unlock(&dev->lock);
	if (!tell || !dev->writable)
		return rc;
	/* The chip may have had more to put. */
	dev->writable(dev->writable_arg);
	return 0;
}

/* On the loop's thread: writes while it may, then lets epoll say when to go on. */
static void chardev_output(struct chardev *dev)
{
	int rc = 0;

	if (dev->write_fd < 0)
		return;
	pthread_mutex_lock(&dev->lock);
	if (dev->out_len)
		dev->wrote_at = chardev_now();
	pthread_mutex_unlock(&dev->lock);
	for (unsigned i = 0; i < CHARDEV_ROUNDS && !rc; i++)
		rc = chardev_drain(dev);
	if (rc == 1) {
		loop_unwatch(dev->loop, &dev->out_watch);
		/*
		 * A byte put between the last look and now has posted the kick, as
		 * the ring was empty; so does a break's end.
		 */
		chardev_line_step(dev);
		return;
	}
	rc = loop_watch(dev->loop, &dev->out_watch, EPOLLOUT);
	if (rc == -EPERM) {
		/* Always ready: come back by way of the work list. */
		loop_post(dev->loop, &dev->kick);
	} else if (rc) {
		pthread_mutex_lock(&dev->lock);
		chardev_drop_output(dev);
		pthread_mutex_unlock(&dev->lock);
	}
}

static void chardev_out_ready(void *arg, uint32_t events)
{
	chardev_output(arg);
}

static void chardev_gathered(void *arg, uint32_t events)
{
	struct chardev *dev = arg;
	uint64_t count;

	(void)!read(dev->gather.fd, &count, sizeof(count));
	chardev_output(dev);
}

/* Where there is none each silence's end is a kick, which is slower and no less right. */
static void chardev_make_gather(struct chardev *dev)
{
	dev->gather.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (dev->gather.fd >= 0 && loop_watch(dev->loop, &dev->gather, EPOLLIN)) {
		close(dev->gather.fd);
		dev->gather.fd = -1;
	}
}

/* With the lock held: appends what fits. */
static size_t chardev_store(struct chardev *dev, const uint8_t *bytes, size_t n)
{
	size_t tail = (dev->in_head + dev->in_len) % CHARDEV_IN_SIZE, first;

	if (n > CHARDEV_IN_SIZE - dev->in_len)
		n = CHARDEV_IN_SIZE - dev->in_len;
	first = n < CHARDEV_IN_SIZE - tail ? n : CHARDEV_IN_SIZE - tail;
	memcpy(dev->in + tail, bytes, first);
	memcpy(dev->in, bytes + first, n - first);
	dev->in_len += n;
	return n;
}

size_t chardev_feed(struct chardev *dev, const uint8_t *bytes, size_t n)
{
	pthread_mutex_lock(&dev->lock);
	n = chardev_store(dev, bytes, n);
	pthread_mutex_unlock(&dev->lock);
	if (n && dev->readable)
		dev->readable(dev->readable_arg);
	return n;
}

/* With the lock held: whether the ring is full, which it then notes. */
static bool chardev_pause(struct chardev *dev)
{
	dev->in_paused = dev->in_len == CHARDEV_IN_SIZE && !dev->in_stuck;
	return dev->in_paused;
}

/* Reads once, as much as the ring has room for. Whether to read on if the file is always ready. */
static bool chardev_read(struct chardev *dev)
{
	uint8_t bytes[CHARDEV_IN_SIZE];
	size_t room;
	ssize_t n;

	pthread_mutex_lock(&dev->lock);
	room = chardev_pause(dev) ? 0 : dev->in_stuck ? CHARDEV_IN_SIZE : CHARDEV_IN_SIZE - dev->in_len;
	pthread_mutex_unlock(&dev->lock);
	if (!room)
		return false;
	do {
		n = read(dev->in_fd, bytes, room);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		dev->in_eof = true;
		return false;
	}
	if (dev->filter)
		n = (ssize_t)dev->filter(dev->filter_arg, bytes, (size_t)n);
	dev->in_dropped += (size_t)n - chardev_feed(dev, bytes, (size_t)n);
	return true;
}

/* On the loop's thread: looks after a while whether the chip still takes. */
static void chardev_watch_stall(struct chardev *dev)
{
	if (!dev->filter || !dev->in_tty || !dev->in_stall.clock)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->in_taken_seen = dev->in_taken;
	pthread_mutex_unlock(&dev->lock);
	timer_arm(&dev->in_stall, clock_now(dev->in_stall.clock) + CHARDEV_STALL_NS);
}

static void chardev_stalled(void *arg)
{
	struct chardev *dev = arg;
	bool paused, taken;

	pthread_mutex_lock(&dev->lock);
	paused = dev->in_paused;
	taken = dev->in_taken != dev->in_taken_seen;
	if (paused && !taken) {
		dev->in_stuck = true;
		dev->in_paused = false;
	}
	pthread_mutex_unlock(&dev->lock);
	if (paused && taken)
		chardev_watch_stall(dev);
	else if (paused)
		loop_post(dev->loop, &dev->kick);
}

/* On the loop's thread. */
static void chardev_input(struct chardev *dev)
{
	bool paused;

	if (dev->in_fd < 0 || dev->in_eof)
		return;
	if (dev->in_always) {
		unsigned i;

		for (i = 0; i < CHARDEV_ROUNDS && chardev_read(dev); i++)
			;
		if (i == CHARDEV_ROUNDS)
			loop_post(dev->loop, &dev->kick);
		return;
	}
	chardev_read(dev);
	pthread_mutex_lock(&dev->lock);
	paused = chardev_pause(dev);
	pthread_mutex_unlock(&dev->lock);
	if (paused || dev->in_eof)
		loop_unwatch(dev->loop, &dev->in_watch);
	/* Who has sent all may still read. */
	if (dev->in_eof && dev->hangup && loop_watch(dev->loop, &dev->in_watch, EPOLLHUP))
		dev->hangup(dev->hangup_arg);
	else if (paused)
		chardev_watch_stall(dev);
}

static void chardev_in_ready(void *arg, uint32_t events)
{
	struct chardev *dev = arg;

	/* After the end of the input only the far end's going is watched. */
	if (dev->in_eof && dev->hangup)
		dev->hangup(dev->hangup_arg);
	else
		chardev_input(dev);
}

/* Starts to watch the input, or to read it where it cannot be watched. */
static int chardev_watch_input(struct chardev *dev)
{
	int rc;

	if (dev->in_fd < 0 || dev->in_eof)
		return 0;
	rc = dev->in_always ? -EPERM : loop_watch(dev->loop, &dev->in_watch, EPOLLIN);
	if (rc != -EPERM)
		return rc;
	dev->in_always = true;
	return 0;
}

/* Bytes to write, or room to read into: on the loop's thread. */
static void chardev_kicked(void *arg)
{
	struct chardev *dev = arg;
	bool paused;

	chardev_output(dev);
	pthread_mutex_lock(&dev->lock);
	paused = dev->in_paused;
	pthread_mutex_unlock(&dev->lock);
	if (paused)
		return;
	if (chardev_watch_input(dev))
		dev->in_eof = true;
	else if (dev->in_always)
		chardev_input(dev);
}

int chardev_init(struct chardev *dev, struct loop *loop, int in_fd, int out_fd)
{
	int rc = 0;

	*dev = (struct chardev){ .loop = loop, .in_fd = in_fd, .out_fd = out_fd, .write_fd = -1 };
	dev->in_watch = (struct loop_watch){ .fd = in_fd, .fn = chardev_in_ready, .arg = dev };
	dev->out_watch = (struct loop_watch){ .fd = -1, .fn = chardev_out_ready, .arg = dev };
	dev->kick = (struct loop_work){ .fn = chardev_kicked, .arg = dev };
	pthread_mutex_init(&dev->lock, NULL);
	dev->out = malloc(CHARDEV_OUT_SIZE);
	if (!dev->out) {
		pthread_mutex_destroy(&dev->lock);
		return -ENOMEM;
	}
	if (loop && loop->clock) {
		timer_init(&dev->in_stall, loop->clock, chardev_stalled, dev, NULL);
		timer_init(&dev->line_timer, loop->clock, chardev_line_tick, dev, NULL);
	}
	dev->in_tty = in_fd >= 0 && isatty(in_fd);
	if (out_fd >= 0)
		rc = chardev_open_out(dev, out_fd);
	dev->gather = (struct loop_watch){ .fd = -1, .fn = chardev_gathered, .arg = dev };
	if (loop && out_fd >= 0)
		chardev_make_gather(dev);
	if (!rc && in_fd >= 0 && fcntl(in_fd, F_GETFL) < 0)
		rc = -errno;
	if (rc)
		chardev_fini(dev);
	else if (loop && in_fd >= 0)
		/* Watched from the loop's thread, where the chip has set its callbacks by then. */
		loop_post(loop, &dev->kick);
	return rc;
}

void chardev_keep(struct chardev *dev)
{
	dev->keeps = true;
	if (dev->loop)
		chardev_make_gather(dev);
}

/* With the lock held: what was written before goes out once more, as far as there is any. */
static void chardev_replay(struct chardev *dev)
{
	size_t n = dev->out_kept < CHARDEV_HISTORY ? dev->out_kept : CHARDEV_HISTORY, skip = 0;
	size_t begin = (dev->out_head + CHARDEV_OUT_SIZE - n) % CHARDEV_OUT_SIZE;

	/* Cut in the middle of a line, which might be that of an escape sequence: from the next one on. */
	if (n < dev->out_kept || n == CHARDEV_HISTORY) {
		while (skip < n && dev->out[(begin + skip) % CHARDEV_OUT_SIZE] != '\n')
			skip++;
		skip = skip < n ? skip + 1 : 0;
	}
	dev->out_head = (begin + skip) % CHARDEV_OUT_SIZE;
	dev->out_len += n - skip;
	dev->out_kept -= n - skip;
}

int chardev_attach_in(struct chardev *dev, int fd)
{
	int rc;

	chardev_detach_in(dev);
	dev->in_watch.fd = fd;
	rc = loop_watch(dev->loop, &dev->in_watch, EPOLLIN);
	if (rc)
		return rc;
	dev->in_fd = fd;
	dev->in_tty = isatty(fd);
	dev->in_eof = dev->in_always = false;
	return 0;
}

int chardev_attach_out(struct chardev *dev, int fd)
{
	int rc;

	chardev_detach_out(dev);
	rc = chardev_open_out(dev, fd);
	if (rc) {
		chardev_close_out(dev);
		return rc;
	}
	pthread_mutex_lock(&dev->lock);
	dev->out_fd = fd;
	dev->out_dead = false;
	chardev_replay(dev);
	pthread_mutex_unlock(&dev->lock);
	chardev_output(dev);
	return 0;
}

void chardev_detach_in(struct chardev *dev)
{
	if (dev->in_fd < 0)
		return;
	loop_unwatch(dev->loop, &dev->in_watch);
	timer_cancel(&dev->in_stall);
	pthread_mutex_lock(&dev->lock);
	dev->in_paused = dev->in_stuck = false;
	pthread_mutex_unlock(&dev->lock);
	dev->in_fd = -1;
}

void chardev_detach_out(struct chardev *dev)
{
	bool tell;

	if (dev->write_fd < 0)
		return;
	chardev_close_out(dev);
	pthread_mutex_lock(&dev->lock);
	dev->out_fd = -1;
	chardev_retire(dev, dev->out_len);
	tell = chardev_room_again(dev);
	pthread_mutex_unlock(&dev->lock);
	if (tell && dev->writable)
		dev->writable(dev->writable_arg);
}

static int64_t chardev_now_ms(void)
{
	return (int64_t)(chardev_now() / 1000000);
}

void chardev_flush(struct chardev *dev, int timeout_ms)
{
	int64_t begin = chardev_now_ms(), moved = begin, now;
	int rc;

	if (!dev->out || dev->write_fd < 0)
		return;
	chardev_line_up(dev);
	while ((rc = chardev_drain(dev)) != 1) {
		struct pollfd pfd = { .fd = dev->write_fd, .events = POLLOUT };

		now = chardev_now_ms();
		if (rc == 0)
			moved = now;
		if (now >= moved + timeout_ms || now >= begin + (int64_t)timeout_ms * CHARDEV_FLUSH_MAX)
			break;
		if (rc)
			poll(&pfd, 1, (int)(moved + timeout_ms - now));
	}
	pthread_mutex_lock(&dev->lock);
	chardev_drop_output(dev);
	pthread_mutex_unlock(&dev->lock);
}

void chardev_fini(struct chardev *dev)
{
	if (!dev->out)
		return;
	chardev_close_out(dev);
	if (dev->loop) {
		loop_unwatch(dev->loop, &dev->in_watch);
		timer_cancel(&dev->in_stall);
		loop_unwatch(dev->loop, &dev->gather);
		loop_cancel(dev->loop, &dev->kick);
	}
	if (dev->gather.fd >= 0)
		close(dev->gather.fd);
	free(dev->out);
	dev->out = NULL;
	pthread_mutex_destroy(&dev->lock);
}

/*
 * Wakes the loop for output: at once for what comes after a silence, else when CHARDEV_GATHER_NS have passed since it
 * last wrote. A guest's console comes byte by byte, and a wake-up and a write for each cost more than the byte's exits.
 */
static void chardev_kick_output(struct chardev *dev)
{
	struct itimerspec when = { 0 };
	uint64_t since;

	pthread_mutex_lock(&dev->lock);
	since = chardev_now() - dev->wrote_at;
	pthread_mutex_unlock(&dev->lock);
	when.it_value.tv_nsec = (long)(CHARDEV_GATHER_NS - since);
	if (since >= CHARDEV_GATHER_NS || dev->gather.fd < 0 || timerfd_settime(dev->gather.fd, 0, &when, NULL) < 0)
		loop_post(dev->loop, &dev->kick);
}

void chardev_put(struct chardev *dev, uint8_t byte)
{
	bool kick = false;

	if (!dev || (!dev->keeps && dev->out_fd < 0))
		return;
	pthread_mutex_lock(&dev->lock);
	if (dev->out_len == CHARDEV_OUT_SIZE || (dev->out_dead && !dev->keeps)) {
		dev->dropped++;
	} else {
		dev->out[(dev->out_head + dev->out_len) % CHARDEV_OUT_SIZE] = byte;
		/* While the ring holds bytes, the loop has the file watched or the kick posted. */
		kick = dev->out_len++ == 0;
		if (dev->out_kept > CHARDEV_OUT_SIZE - dev->out_len)
			dev->out_kept = CHARDEV_OUT_SIZE - dev->out_len;
		if (chardev_is_kept(dev)) {
			chardev_retire(dev, dev->out_len);
			kick = false;
		}
	}
	pthread_mutex_unlock(&dev->lock);
	if (kick && dev->loop)
		chardev_kick_output(dev);
}

size_t chardev_room(struct chardev *dev)
{
	size_t room = CHARDEV_OUT_SIZE;

	if (!dev || (!dev->keeps && dev->out_fd < 0))
		return room;
	pthread_mutex_lock(&dev->lock);
	if (!dev->out_dead)
		room -= dev->out_len;
	if (!room)
		dev->want_room = true;
	pthread_mutex_unlock(&dev->lock);
	return room;
}

size_t chardev_get(struct chardev *dev, uint8_t *buf, size_t n)
{
	bool resume = false;
	size_t first;

	if (!dev)
		return 0;
	pthread_mutex_lock(&dev->lock);
	if (n > dev->in_len)
		n = dev->in_len;
	first = n < CHARDEV_IN_SIZE - dev->in_head ? n : CHARDEV_IN_SIZE - dev->in_head;
	memcpy(buf, dev->in + dev->in_head, first);
	memcpy(buf + first, dev->in, n - first);
	dev->in_head = (dev->in_head + n) % CHARDEV_IN_SIZE;
	dev->in_len -= n;
	dev->in_taken += n;
	if (n)
		dev->in_stuck = false;
	/* Resumed at half full, so that the file is not touched for every byte. */
	if (dev->in_paused && dev->in_len <= CHARDEV_IN_SIZE / 2) {
		dev->in_paused = false;
		resume = true;
	}
	pthread_mutex_unlock(&dev->lock);
	if (resume && dev->loop)
		loop_post(dev->loop, &dev->kick);
	return n;
}

bool chardev_has_input(struct chardev *dev)
{
	bool has;

	if (!dev)
		return false;
	pthread_mutex_lock(&dev->lock);
	has = dev->in_len != 0;
	pthread_mutex_unlock(&dev->lock);
	return has;
}

size_t chardev_last(struct chardev *dev, uint8_t *buf, size_t n)
{
	size_t from;

	if (!dev)
		return 0;
	pthread_mutex_lock(&dev->lock);
	if (n > dev->out_kept + dev->out_len)
		n = dev->out_kept + dev->out_len;
	from = dev->out_head + dev->out_len + CHARDEV_OUT_SIZE - n;
	for (size_t i = 0; i < n; i++)
		buf[i] = dev->out[(from + i) % CHARDEV_OUT_SIZE];
	pthread_mutex_unlock(&dev->lock);
	return n;
}
