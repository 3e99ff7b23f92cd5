/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_keep.c - a chardev whose readers come and go: what is kept for them, and what a chip sees of it. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/chardev.h"

struct bed {
	struct loop loop;
	struct chardev dev;
	int ours, theirs; /* the ends of a socket */
	unsigned hangups, writables;
	size_t rest; /* bytes that the chip still has to put when there is room */
};

static void hung_up(void *arg)
{
	struct bed *bed = arg;

	bed->hangups++;
	chardev_detach_in(&bed->dev);
	chardev_detach_out(&bed->dev);
}

static void writable(void *arg)
{
	struct bed *bed = arg;

	bed->writables++;
	for (; bed->rest && chardev_room(&bed->dev); bed->rest--)
		chardev_put(&bed->dev, 'r');
}

static void bed_init(struct bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	assert_int_equal(loop_init(&bed->loop, NULL), 0);
	assert_int_equal(chardev_init(&bed->dev, &bed->loop, -1, -1), 0);
	chardev_keep(&bed->dev);
	bed->dev.hangup = hung_up;
	bed->dev.hangup_arg = bed;
	bed->dev.writable = writable;
	bed->dev.writable_arg = bed;
	bed->ours = bed->theirs = -1;
}

static void bed_attach(struct bed *bed)
{
	int ends[2];

	if (bed->ours >= 0)
		close(bed->ours);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	bed->ours = ends[0];
	bed->theirs = ends[1];
	assert_int_equal(chardev_attach_in(&bed->dev, bed->ours), 0);
	assert_int_equal(chardev_attach_out(&bed->dev, bed->ours), 0);
}

static void bed_fini(struct bed *bed)
{
	chardev_fini(&bed->dev);
	loop_fini(&bed->loop);
	close(bed->ours);
}

static void put(struct bed *bed, const char *text)
{
	while (*text)
		chardev_put(&bed->dev, (uint8_t)*text++);
}

static void quit(void *arg)
{
	loop_quit(arg);
}

/* Runs the loop until it has nothing to do, and what output gathers for has passed. */
static void settle(struct bed *bed)
{
	struct loop_work work = { .fn = quit, .arg = &bed->loop };

	for (unsigned i = 0; i < 50; i++) {
		loop_post(&bed->loop, &work);
		loop_run(&bed->loop);
		usleep(100);
	}
}

static void expect(struct bed *bed, const char *text)
{
	char buf[4096];
	ssize_t n;

	settle(bed);
	n = recv(bed->theirs, buf, sizeof(buf), MSG_DONTWAIT);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

static void test_history(void **state)
{
	struct bed bed;

	bed_init(&bed);
	put(&bed, "before\n");
	bed_attach(&bed);
	expect(&bed, "before\n");
	put(&bed, "while\n");
	expect(&bed, "while\n");
	close(bed.theirs);
	settle(&bed);
	assert_int_equal(bed.hangups, 1);
	put(&bed, "between\n");
	bed_attach(&bed);
	expect(&bed, "before\nwhile\nbetween\n");
	/* A write finds out before a read does. */
	close(bed.theirs);
	put(&bed, "into nothing\n");
	settle(&bed);
	bed_attach(&bed);
	expect(&bed, "before\nwhile\nbetween\ninto nothing\n");
	assert_int_equal(bed.dev.dropped, 0);
	close(bed.theirs);
	bed_fini(&bed);
}

/* No more than the bound, from a line's beginning, whatever has been round the ring. */
static void test_history_is_bounded(void **state)
{
	static char all[5 * CHARDEV_OUT_SIZE], got[CHARDEV_OUT_SIZE];
	size_t len = 0, n = 0;
	struct bed bed;

	bed_init(&bed);
	while (len < sizeof(all) - 20)
		len += (size_t)sprintf(all + len, "line %zu\n", len);
	put(&bed, all);
	bed_attach(&bed);
	for (;;) {
		ssize_t r;

		settle(&bed);
		r = recv(bed.theirs, got + n, sizeof(got) - n, MSG_DONTWAIT);
		if (r < 0)
			break;
		n += (size_t)r;
	}
	assert_true(n <= CHARDEV_HISTORY && n > CHARDEV_HISTORY - 20);
	assert_memory_equal(got, "line ", 5);
	assert_memory_equal(got, all + len - n, n);
	close(bed.theirs);
	/* One without an end of line is shown from where it is cut. */
	for (size_t i = 0; i < CHARDEV_OUT_SIZE; i++)
		chardev_put(&bed.dev, '.');
	settle(&bed);
	bed_attach(&bed);
	settle(&bed);
	assert_int_equal(recv(bed.theirs, got, sizeof(got), MSG_DONTWAIT), CHARDEV_HISTORY);
	close(bed.theirs);
	bed_fini(&bed);
}

/* Fills ring and socket; how many bytes that took. */
static size_t fill(struct bed *bed)
{
	size_t n = 0;

	while (chardev_room(&bed->dev)) {
		for (; chardev_room(&bed->dev); n++)
			chardev_put(&bed->dev, 'x');
		settle(bed);
	}
	return n;
}

/* A client that reads nothing makes the chip wait; one that goes lets it go on. */
static void test_stuck_client(void **state)
{
	struct bed bed;

	bed_init(&bed);
	bed_attach(&bed);
	(void)fill(&bed);
	bed.rest = 100;
	assert_int_equal(bed.dev.dropped, 0);
	close(bed.theirs);
	settle(&bed);
	assert_int_equal(bed.hangups, 1);
	assert_int_equal(bed.rest, 0);
	assert_int_equal(chardev_room(&bed.dev), CHARDEV_OUT_SIZE);
	assert_int_equal(bed.dev.dropped, 0);
	bed_fini(&bed);
}

/* A client's input may have to wait until what the last one sent has been read; `full`: its output waits by then. */
static void check_input_attached_later(bool full)
{
	static char got[CHARDEV_OUT_SIZE];
	size_t sent = 0, came = 0;
	uint8_t buf[8];
	struct bed bed;
	int ends[2];
	ssize_t n;

	bed_init(&bed);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	bed.ours = ends[0];
	bed.theirs = ends[1];
	assert_int_equal(chardev_attach_out(&bed.dev, bed.ours), 0);
	if (full)
		sent = fill(&bed);
	assert_int_equal(chardev_attach_in(&bed.dev, bed.ours), 0);
	if (!full)
		sent = fill(&bed);
	assert_int_equal(bed.dev.dropped, 0);
	assert_int_equal(write(bed.theirs, "in", 2), 2);
	settle(&bed);
	assert_int_equal(chardev_get(&bed.dev, buf, sizeof(buf)), 2);
	while ((n = recv(bed.theirs, got, sizeof(got), MSG_DONTWAIT)) > 0) {
		came += (size_t)n;
		settle(&bed);
	}
	assert_int_equal(came, sent);
	close(bed.theirs);
	settle(&bed);
	assert_int_equal(bed.hangups, 1);
	bed_fini(&bed);
}

static void test_input_attached_later(void **state)
{
	check_input_attached_later(true);
	check_input_attached_later(false);
}

/*
 * Half a hang-up: all was sent, but the answer is still read. Input of one that has gone is the guest's all the same.
 */
static void test_half_closed(void **state)
{
	uint8_t buf[8];
	struct bed bed;

	bed_init(&bed);
	bed_attach(&bed);
	assert_int_equal(write(bed.theirs, "abc", 3), 3);
	shutdown(bed.theirs, SHUT_WR);
	settle(&bed);
	assert_int_equal(chardev_get(&bed.dev, buf, sizeof(buf)), 3);
	put(&bed, "answer");
	expect(&bed, "answer");
	assert_int_equal(bed.hangups, 0);
	close(bed.theirs);
	settle(&bed);
	assert_int_equal(bed.hangups, 1);

	bed_attach(&bed);
	assert_int_equal(write(bed.theirs, "def", 3), 3);
	close(bed.theirs);
	settle(&bed);
	assert_int_equal(bed.hangups, 2);
	assert_int_equal(chardev_get(&bed.dev, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "def", 3);
	bed_fini(&bed);
}

/* At the end, what the chip has yet to put is written too. */
static void test_flush_takes_the_chips_rest(void **state)
{
	static char got[2 * CHARDEV_OUT_SIZE];
	struct chardev *dev;
	struct bed bed;
	int p[2];

	bed_init(&bed);
	chardev_fini(&bed.dev);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	dev = &bed.dev;
	assert_int_equal(chardev_init(dev, &bed.loop, -1, p[1]), 0);
	dev->writable = writable;
	dev->writable_arg = &bed;
	while (chardev_room(dev))
		chardev_put(dev, 'x');
	bed.rest = 16;
	assert_true(fcntl(p[1], F_SETPIPE_SZ, sizeof(got)) >= (int)sizeof(got));
	chardev_flush(dev, 1000);
	assert_int_equal(bed.rest, 0);
	assert_int_equal(dev->dropped, 0);
	assert_int_equal(read(p[0], got, sizeof(got)), CHARDEV_OUT_SIZE + 16);
	assert_int_equal(got[CHARDEV_OUT_SIZE + 15], 'r');
	bed_fini(&bed);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_history_is_bounded),
		cmocka_unit_test(test_stuck_client),
		cmocka_unit_test(test_input_attached_later),
		cmocka_unit_test(test_half_closed),
		cmocka_unit_test(test_flush_takes_the_chips_rest),
	};

	signal(SIGPIPE, SIG_IGN);
	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
