/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chardev_break.c - a break that the chip sends, on a serial line of the host's.
 *
 * It follows the bytes that were put before it: those in the ring first (DUE), then those in the host's own chip
 * (WAIT); then the line is low for as long as anybody would notice (LOW), and longer where the chip holds it (HELD).
 * What is put meanwhile waits in the ring.
 */
#include <sys/ioctl.h>

#include "core/chardev_inner.h"

/* As long as tcsendbreak()'s. */
#define CHARDEV_BREAK_NS (NSEC_PER_SEC / 4)
/* What a UART sends of its FIFO, at 9600 baud. Nobody tells when that is done without waiting for it. */
#define CHARDEV_DRAIN_NS (NSEC_PER_SEC / 50)

void chardev_line_up(struct chardev *dev)
{
	bool low;

	if (dev->line_timer.clock)
		timer_cancel(&dev->line_timer);
	pthread_mutex_lock(&dev->lock);
	low = dev->line >= CHARDEV_LINE_LOW;
	dev->line = CHARDEV_LINE_IDLE;
	pthread_mutex_unlock(&dev->lock);
	if (low)
		(void)ioctl(dev->write_fd, TIOCCBRK);
}

void chardev_line_step(struct chardev *dev)
{
	bool wait = false, up;

	pthread_mutex_lock(&dev->lock);
	if (dev->line == CHARDEV_LINE_DUE && !dev->line_after) {
		dev->line = CHARDEV_LINE_WAIT;
		wait = true;
	}
	up = dev->line == CHARDEV_LINE_HELD && !dev->breaking;
	pthread_mutex_unlock(&dev->lock);
	if (wait)
		timer_arm(&dev->line_timer, clock_now(dev->line_timer.clock) + CHARDEV_DRAIN_NS);
	if (up) {
		chardev_line_up(dev);
		loop_post(dev->loop, &dev->kick);
	}
}

void chardev_line_tick(void *arg)
{
	struct chardev *dev = arg;
	enum chardev_line line;
	uint64_t now = clock_now(dev->line_timer.clock);
	int left = 0;

	/* The loop's thread alone changes it from here on. */
	pthread_mutex_lock(&dev->lock);
	line = dev->line;
	pthread_mutex_unlock(&dev->lock);
	if (line == CHARDEV_LINE_WAIT && ioctl(dev->write_fd, TIOCOUTQ, &left) == 0 && left) {
		timer_arm(&dev->line_timer, now + CHARDEV_DRAIN_NS);
		return;
	}
	if (line == CHARDEV_LINE_WAIT) {
		line = ioctl(dev->write_fd, TIOCSBRK) ? CHARDEV_LINE_IDLE : CHARDEV_LINE_LOW;
		if (line == CHARDEV_LINE_LOW)
			timer_arm(&dev->line_timer, now + CHARDEV_BREAK_NS);
	} else if (line == CHARDEV_LINE_LOW) {
		line = CHARDEV_LINE_HELD;
	}
	pthread_mutex_lock(&dev->lock);
	dev->line = line;
	pthread_mutex_unlock(&dev->lock);
	loop_post(dev->loop, &dev->kick);
}

void chardev_break(struct chardev *dev, bool low)
{
	bool kick;

	if (!dev || !dev->line_timer.clock)
		return;
	pthread_mutex_lock(&dev->lock);
	kick = dev->breaks && low != dev->breaking;
	dev->breaking = low;
	if (kick && low && dev->line == CHARDEV_LINE_IDLE) {
		dev->line = CHARDEV_LINE_DUE;
		dev->line_after = dev->out_len;
	}
	pthread_mutex_unlock(&dev->lock);
	if (kick)
		loop_post(dev->loop, &dev->kick);
}
