/* SPDX-License-Identifier: BSD-2-Clause */
/* test_core_loop.c - watches, posted work, quitting. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/loop.h"

struct bed {
	struct loop loop;
	struct loop_work work, other;
	struct loop_watch *victim;
	unsigned calls, other_calls, left;
};

static void bed_init(struct bed *bed)
{
	*bed = (struct bed){ .calls = 0 };
	assert_int_equal(loop_init(&bed->loop, NULL), 0);
}

static void quit_fn(void *arg)
{
	struct bed *bed = arg;

	bed->calls++;
	loop_quit(&bed->loop);
}

static void test_quit_before_run(void **state)
{
	struct bed bed;

	bed_init(&bed);
	loop_quit(&bed.loop);
	loop_run(&bed.loop);
	/* That quit is used up; the loop may be run again. */
	bed.work = (struct loop_work){ .fn = quit_fn, .arg = &bed };
	loop_post(&bed.loop, &bed.work);
	loop_run(&bed.loop);
	assert_int_equal(bed.calls, 1);
	loop_fini(&bed.loop);
}

static void again_fn(void *arg)
{
	struct bed *bed = arg;

	bed->calls++;
	if (bed->left--)
		loop_post(&bed->loop, &bed->work);
	else
		loop_quit(&bed->loop);
}

static void never_fn(void *arg)
{
	struct bed *bed = arg;

	bed->other_calls++;
}

static void test_post_and_cancel(void **state)
{
	struct loop_work c = { 0 };
	struct bed bed;

	bed_init(&bed);
	bed.work = (struct loop_work){ .fn = again_fn, .arg = &bed };
	bed.other = (struct loop_work){ .fn = never_fn, .arg = &bed };
	c = bed.other;
	bed.left = 1000;
	loop_cancel(&bed.loop, &bed.other); /* not posted: nothing */
	loop_post(&bed.loop, &bed.other);
	loop_post(&bed.loop, &bed.work);
	loop_post(&bed.loop, &bed.work); /* pending already */
	loop_post(&bed.loop, &c);
	loop_cancel(&bed.loop, &c); /* the last: the tail must follow */
	loop_cancel(&bed.loop, &bed.other);
	loop_post(&bed.loop, &c);
	loop_run(&bed.loop);
	assert_int_equal(bed.calls, 1001);
	assert_int_equal(bed.other_calls, 1);
	loop_fini(&bed.loop);
}

/* More work at once than one wake-up does: the rest is not forgotten. */
static void countdown_fn(void *arg)
{
	struct bed *bed = arg;

	if (!--bed->left)
		loop_quit(&bed->loop);
}

static void test_much_work(void **state)
{
	struct loop_work *works = calloc(1000, sizeof(*works));
	struct bed bed;

	assert_non_null(works);
	bed_init(&bed);
	bed.left = 1000;
	for (unsigned i = 0; i < 1000; i++) {
		works[i] = (struct loop_work){ .fn = countdown_fn, .arg = &bed };
		loop_post(&bed.loop, &works[i]);
	}
	loop_run(&bed.loop);
	assert_int_equal(bed.left, 0);
	loop_fini(&bed.loop);
	free(works);
}

static void remove_fn(void *arg, uint32_t events)
{
	struct bed *bed = arg;
	struct loop_watch *victim = bed->victim;

	bed->calls++;
	/* Both files are ready. Whichever is called first removes the other, whose memory goes. */
	if (victim) {
		loop_unwatch(&bed->loop, victim);
		free(victim);
	}
	loop_quit(&bed->loop);
}

static void test_removal_at_once(void **state)
{
	int a[2], b[2];
	struct bed bed;
	struct loop_watch *wa = calloc(1, sizeof(*wa)), *wb = calloc(1, sizeof(*wb));

	bed_init(&bed);
	assert_int_equal(pipe(a) | pipe(b), 0);
	*wa = (struct loop_watch){ .fd = a[0], .fn = remove_fn, .arg = &bed };
	*wb = (struct loop_watch){ .fd = b[0], .fn = remove_fn, .arg = &bed };
	assert_int_equal(loop_watch(&bed.loop, wa, EPOLLIN), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	loop_run(&bed.loop); /* a alone: nothing to remove yet */
	assert_int_equal(bed.calls, 1);
	assert_int_equal(loop_watch(&bed.loop, wb, EPOLLIN), 0);
	assert_int_equal(write(b[1], "x", 1), 1);
	bed.victim = wb;
	wa->arg = &bed;
	wb->fn = NULL; /* called after its removal, it would crash */
	assert_int_equal(loop_watch(&bed.loop, wb, 0), 0);
	assert_false(wb->added);
	wb->fn = remove_fn;
	assert_int_equal(loop_watch(&bed.loop, wb, EPOLLIN), 0);
	/* Leave a as the only one that can be called first: b's turn comes after it. */
	loop_unwatch(&bed.loop, wb);
	loop_unwatch(&bed.loop, wa);
	assert_int_equal(loop_watch(&bed.loop, wa, EPOLLIN), 0);
	assert_int_equal(loop_watch(&bed.loop, wb, EPOLLIN), 0);
	loop_run(&bed.loop);
	assert_int_equal(bed.calls, 2);
	bed.victim = NULL;
	loop_run(&bed.loop); /* a again, b never */
	assert_int_equal(bed.calls, 3);
	loop_unwatch(&bed.loop, wa);
	loop_unwatch(&bed.loop, wa);
	free(wa);
	loop_fini(&bed.loop);
	for (unsigned i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void count_fn(void *arg, uint32_t events)
{
	struct bed *bed = arg;

	bed->other_calls++;
}

static void test_watch_kinds(void **state)
{
	struct loop_watch file = { .fn = count_fn }, null = { .fn = count_fn }, hup = { .fn = count_fn },
			  bad = { .fd = 999 };
	struct bed bed;
	int p[2];

	bed_init(&bed);
	file.arg = null.arg = hup.arg = &bed;
	file.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	null.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(pipe(p), 0);
	hup.fd = p[0];
	assert_int_equal(loop_watch(&bed.loop, &file, EPOLLIN), -EPERM);
	assert_false(file.added);
	loop_unwatch(&bed.loop, &file);
	assert_int_equal(loop_watch(&bed.loop, &null, EPOLLOUT), -EPERM);
	assert_int_equal(loop_watch(&bed.loop, &bad, EPOLLIN), -EBADF);
	/* With no events asked for, a hang-up is not told either. */
	assert_int_equal(loop_watch(&bed.loop, &hup, EPOLLIN), 0);
	assert_int_equal(loop_watch(&bed.loop, &hup, 0), 0);
	close(p[1]);
	bed.work = (struct loop_work){ .fn = again_fn, .arg = &bed };
	bed.left = 500;
	loop_post(&bed.loop, &bed.work);
	loop_run(&bed.loop);
	assert_int_equal(bed.other_calls, 0);
	/* Work that posts itself for ever does not keep a file from its turn. */
	assert_int_equal(loop_watch(&bed.loop, &hup, EPOLLIN), 0);
	bed.left = 5000;
	loop_post(&bed.loop, &bed.work);
	loop_run(&bed.loop);
	assert_true(bed.other_calls > 0);
	loop_unwatch(&bed.loop, &hup);
	close(file.fd);
	close(null.fd);
	close(p[0]);
	loop_fini(&bed.loop);
}

/* Posts from many threads: each that came after the work began is followed by another run of it. */
#define POSTERS 4
#define POSTS   20000

struct poster {
	struct bed *bed;
	struct loop_work work;
	unsigned posted, seen; /* atomic */
	pthread_t thread;
};

static void poster_fn(void *arg)
{
	struct poster *poster = arg;

	__atomic_store_n(&poster->seen, __atomic_load_n(&poster->posted, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static void *poster_thread(void *arg)
{
	struct poster *poster = arg;

	for (unsigned i = 1; i <= POSTS; i++) {
		__atomic_store_n(&poster->posted, i, __ATOMIC_RELEASE);
		loop_post(&poster->bed->loop, &poster->work);
	}
	while (__atomic_load_n(&poster->seen, __ATOMIC_ACQUIRE) != POSTS)
		usleep(100);
	return NULL;
}

static void *bed_thread(void *arg)
{
	struct bed *bed = arg;

	loop_run(&bed->loop);
	return NULL;
}

static void test_no_lost_post(void **state)
{
	struct poster posters[POSTERS] = { 0 };
	struct bed bed;
	pthread_t thread;

	bed_init(&bed);
	assert_int_equal(pthread_create(&thread, NULL, bed_thread, &bed), 0);
	for (unsigned i = 0; i < POSTERS; i++) {
		posters[i].bed = &bed;
		posters[i].work = (struct loop_work){ .fn = poster_fn, .arg = &posters[i] };
		assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_thread, &posters[i]), 0);
	}
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	loop_quit(&bed.loop);
	pthread_join(thread, NULL);
	loop_fini(&bed.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quit_before_run),
		cmocka_unit_test(test_post_and_cancel),
		cmocka_unit_test(test_much_work),
		cmocka_unit_test(test_removal_at_once),
		cmocka_unit_test(test_watch_kinds),
		cmocka_unit_test(test_no_lost_post),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
