/* SPDX-License-Identifier: BSD-2-Clause */
/* test_virtio_vhost_user.c - devices that a program serves: their types, and drivers that make rings up. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vhost_user_program.h"
#include "virtio/vhost_user.h"
#include "virtio_bed.h"
#include "virtio_hostile.h"

#define LIVES 200

static void types_have_names_and_numbers(void **state)
{
	static const char *const bad[] = { "", "0", "64", "-1", "+2", "2 ", " 2", "0x2", "bl", "blkk", "BLK" };
	struct virtio_user_options o;

	for (unsigned i = 0; virtio_user_names[i]; i++) {
		char number[8];
		uint16_t id;

		memset(&o, 0, sizeof(o));
		assert_true(virtio_user_type(&o, virtio_user_names[i]));
		assert_string_equal(o.type.name, virtio_user_names[i]);
		assert_true(o.type.shares_memory);
		id = o.type.id;
		snprintf(number, sizeof(number), "%u", id);
		memset(&o, 0, sizeof(o));
		assert_true(virtio_user_type(&o, number));
		assert_string_equal(o.type.name, virtio_user_names[i]);
		assert_int_equal(o.type.id, id);
	}
	memset(&o, 0, sizeof(o));
	assert_true(virtio_user_type(&o, "63"));
	assert_string_equal(o.type.name, "type 63");
	assert_true(virtio_user_has_queues(&o));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&o, 0, sizeof(o));
		assert_false(virtio_user_type(&o, bad[i]));
	}
}

/*
 * The rings are the program's, or ours between it and the driver; either way nothing is written that was not offered.
 */
static void hostile(void **state)
{
	for (unsigned way = 0; way < 3; way++) {
		struct virtio_user_options o = { .queues = 2 };
		struct program p;

		program_init(&p, "hostile");
		program_start(&p);
		assert_true(virtio_user_type(&o, "42"));
		o.host.path = p.path;
		o.host.reconnect = way == 1;
		o.host.account = way == 2;
		o.host.limit_ms = 20000;
		assert_int_equal(virtio_hostile(&o.type, &o, LIVES, 1, NULL), 0);
		program_kill(&p);
	}
}

/* ---- words ---- */

static void losses_of(void *arg, const char *name, uint64_t n)
{
	if (strcmp(name, "losses") == 0)
		*(uint64_t *)arg = n;
}

static uint8_t status_of(struct bed *bed)
{
	uint8_t status;

	pthread_mutex_lock(&bed->dev.lock);
	status = virtio_status(bed->v);
	pthread_mutex_unlock(&bed->dev.lock);
	return status;
}

/* The driver resets the device, and begins again. */
static void begin_again(struct bed *bed)
{
	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_status(bed->v, 0);
	pthread_mutex_unlock(&bed->dev.lock);
	for (unsigned i = 0; status_of(bed) && i < 10000; i++) {
		usleep(1000);
		settle(bed);
	}
	pthread_mutex_lock(&bed->dev.lock);
	virtio_set_features(bed->v, 1, 1);
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	vdriver_init(&bed->d, bed->memory->host, 0, &bed->v->queues[0]->state, bed->v->queues[0]->q.max,
		1ULL << VIRTIO_F_VERSION_1);
	virtio_enable_queue(bed->v, 0);
	virtio_set_status(bed->v, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&bed->dev.lock);
}

static void reached(void *arg)
{
	__atomic_store_n((bool *)arg, true, __ATOMIC_RELEASE);
}

/* What was posted to the thread that hands the queue over is done. */
static void wait_for_thread(struct bed *bed)
{
	bool done = false;
	struct loop_work work = { .fn = reached, .arg = &done };

	loop_post(bed->v->queues[0]->loop, &work);
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
		usleep(1000);
}

/* How often `word` stands in what is said. */
static unsigned count(FILE *said, const char *word)
{
	char line[512];
	unsigned n = 0;

	rewind(said);
	while (fgets(line, sizeof(line), said))
		n += strstr(line, word) != NULL;
	return n;
}

/* A guest can be why a program goes, life after life: it is told so often and no more, and counted. */
static void its_going_is_told_so_often(void **state)
{
	struct virtio_user_options o = { .queues = 2 };
	FILE *said = tmpfile();
	int stderr_fd = dup(STDERR_FILENO);
	uint64_t losses = 0;
	struct program p;
	struct bed *bed;

	program_init(&p, "words");
	program_start(&p);
	assert_true(virtio_user_type(&o, "42"));
	o.host.path = p.path;
	o.host.limit_ms = 20000;
	bed = bed_new(&o.type, &o, 0, 0);
	assert_int_equal(dup2(fileno(said), STDERR_FILENO), STDERR_FILENO);
	for (unsigned i = 0; i < VHOST_USER_WORDS + 4; i++) {
		wait_for_thread(bed);
		program_kill(&p);
		for (unsigned n = 0; !(status_of(bed) & VIRTIO_CONFIG_S_NEEDS_RESET) && n < 10000; n++) {
			usleep(1000);
			settle(bed);
		}
		program_start(&p);
		begin_again(bed);
	}
	assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
	close(stderr_fd);
	o.type.counts(bed->v, losses_of, &losses);
	assert_int_equal(losses, VHOST_USER_WORDS + 4);
	assert_int_equal(count(said, "is gone"), VHOST_USER_WORDS);
	assert_int_equal(count(said, VHOST_USER_LAST), 1);
	fclose(said);
	bed_free(bed);
	program_kill(&p);
}

/* ---- a program of ours ---- */

/* It answers nothing and does not end when it is told to: it is not told. */
static void one_that_never_answers(void **state)
{
	char folder[] = "/tmp/trapline-never-XXXXXX", command[512], marked[64], disk[64], path[128];
	struct virtio_user_options o = { .queues = 1 };
	struct error err = { .status = 0 };
	char *old = strdup(getenv("PATH"));
	struct virtio *v;
	struct vm vm;

	assert_non_null(mkdtemp(folder));
	snprintf(marked, sizeof(marked), "%s/told", folder);
	snprintf(disk, sizeof(disk), "%s/disk", folder);
	snprintf(command, sizeof(command),
		"cd %s && truncate -s 1M disk && printf '#!/bin/sh\ntrap \": >%s\" TERM\nwhile :; do sleep 0.05; "
		"done\n' >%s && chmod 755 %s",
		folder, marked, QSD_PROGRAM, QSD_PROGRAM);
	assert_int_equal(system(command), 0); /* NOLINT: it is ours */
	snprintf(path, sizeof(path), "%s:/usr/bin:/bin", folder);
	setenv("PATH", path, 1);
	assert_true(virtio_user_type(&o, "blk"));
	o.qsd.path = disk;
	o.qsd.queues = 1;
	o.host.limit_ms = 300;
	assert_int_equal(vm_init(&vm, true, &err), 0);
	assert_int_equal(o.type.create(&vm, "disk0", &o, &v, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "it does not answer"));
	assert_int_equal(access(marked, F_OK), -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	vm_fini(&vm);
	setenv("PATH", old, 1);
	free(old);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0); /* NOLINT: likewise */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(types_have_names_and_numbers),
		cmocka_unit_test(hostile),
		cmocka_unit_test(its_going_is_told_so_often),
		cmocka_unit_test(one_that_never_answers),
	};

	unit_bound(170);
	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
