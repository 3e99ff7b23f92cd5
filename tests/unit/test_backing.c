/* SPDX-License-Identifier: BSD-2-Clause */
/* test_backing.c - what backs RAM, and lists of CPUs: values, refusals, and what is left behind. */
#include "unit.h"

#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/host_options.h"
#include "core/backing.h"
#include "core/room.h"
#include "core/status.h"
#include "host/lost.h"
#include "resident.h"

#define SIZE (4ULL << 20)

static char path[64];

static int set_up(void **state)
{
	snprintf(path, sizeof(path), "/tmp/trapline-backing-%d", (int)getpid());
	unlink(path);
	return 0;
}

static int tear_down(void **state)
{
	unlink(path);
	return 0;
}

static bool exists(void)
{
	return access(path, F_OK) == 0;
}

static void lists_of_cpus(void **state)
{
	static const struct {
		const char *list;
		unsigned n, cpus[4];
	} good[] = {
		{ "0", 1, { 0 } },
		{ "0,1", 2, { 0, 1 } },
		{ "0-3", 4, { 0, 1, 2, 3 } },
		{ "7,2-3,7", 4, { 7, 2, 3, 7 } },
		{ "8191", 1, { 8191 } },
	};
	static const char *const bad[] = { "", ",", "0,", ",0", "0,,1", "1-", "-1", "2-1", "0-", "8192", "0-8192",
		"99999999999999999999", "x", "0 ", "0;1" };
	struct error err = { 0 };
	unsigned cpus[4];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(host_options_cpus(good[i].list, cpus, good[i].n, &err), 0);
		assert_memory_equal(cpus, good[i].cpus, good[i].n * sizeof(cpus[0]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(host_options_cpus(bad[i], cpus, 4, &err), -EINVAL);
	/* More than there is room for are counted, not stored. */
	cpus[1] = 77;
	assert_int_equal(host_options_cpus("0-8191", cpus, 1, &err), -EINVAL);
	assert_int_equal(cpus[1], 77);
}

static void plain_memory(void **state)
{
	const struct backing_config config = { .prefault = true };
	struct backing backing;
	struct error err = { 0 };

	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	assert_int_equal(backing.memory->size, SIZE);
	assert_int_equal((uintptr_t)backing.memory->host % (2 << 20), 0);
	assert_false(backing.used);
	backing_free(&backing);
	backing_free(&backing); /* nothing is left of it */
}

static unsigned asked;

static bool at_the_third(struct error *err)
{
	if (++asked < 3)
		return false;
	error_set(err, -EINTR, "SIGTERM");
	return true;
}

static void filling_it_can_be_interrupted(void **state)
{
	struct backing_config config = { .prefault = true, .interrupted = at_the_third };
	struct backing backing;
	struct error err = { 0 };

	asked = 0;
	assert_int_equal(backing_new(&config, 256ULL << 20, &backing, &err), -EINTR);
	assert_int_equal(err.status, STATUS_QUIT);
	assert_string_equal(err.text, "SIGTERM");
	assert_null(backing.memory);
	/* Where nobody interrupts, all of it is there, the odd end too. */
	config.interrupted = NULL;
	assert_int_equal(backing_new(&config, (65ULL << 20) + 4096, &backing, &err), 0);
	assert_int_equal(resident(backing.memory), backing.memory->size / 4096);
	backing_free(&backing);
}

static void write_text(const char *root, const char *name, const char *text)
{
	char file[256], *slash;
	FILE *out;

	snprintf(file, sizeof(file), "%s/%s", root, name);
	for (slash = strchr(file + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(file, 0700);
		*slash = '/';
	}
	out = fopen(file, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void room_is_what_the_host_and_the_groups_have(void **state)
{
	char root[] = "/tmp/trapline-room-XXXXXX", command[64];

	assert_non_null(mkdtemp(root));
	assert_true(room_now(root) == UINT64_MAX);
	write_text(root, "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4096 kB\nSwapFree: 1024 kB\n");
	assert_int_equal(room_now(root), 5120 << 10);
	/* Version 2: the group has no limit, the one that it is in has. */
	write_text(root, "proc/self/cgroup", "1:name=systemd:/\n0::/one/two\n");
	write_text(root, "sys/fs/cgroup/one/two/memory.max", "max\n");
	write_text(root, "sys/fs/cgroup/one/memory.max", "3145728\n");
	assert_int_equal(room_now(root), (3072 + 1024) << 10);
	write_text(root, "sys/fs/cgroup/one/memory.current", "2097152\n");
	assert_int_equal(room_now(root), (1024 + 1024) << 10);
	write_text(root, "sys/fs/cgroup/one/memory.stat", "anon 1\ninactive_file 1048576\nactive_file 4096\n");
	assert_int_equal(room_now(root), (2052 + 1024) << 10);
	/* More used than it may be: a limit that was lowered. */
	write_text(root, "sys/fs/cgroup/one/memory.max", "4096\n");
	assert_int_equal(room_now(root), 1024 << 10);
	/* Version 1, whose limit is a large number where there is none. */
	write_text(root, "proc/self/cgroup", "4:memory:/three\n0::/\n");
	write_text(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(room_now(root), 5120 << 10);
	write_text(root, "sys/fs/cgroup/memory/three/memory.limit_in_bytes", "2097152\n");
	assert_int_equal(room_now(root), (2048 + 1024) << 10);
	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
	/* This host says something. */
	assert_true(room_now("") > SIZE);
}

static void a_new_file_goes_unless_it_is_kept(void **state)
{
	const struct backing_config config = { .file = path };
	struct backing backing;
	struct error err = { 0 };
	struct stat st;

	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 0777, 0600);
	backing_free(&backing);
	assert_false(exists());
	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	memcpy(backing.memory->host, "kept", 4);
	backing_keep(&backing);
	backing_free(&backing);
	assert_true(exists());
	/* Now it is an older one, and stays in any case. */
	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	assert_true(backing.used);
	assert_memory_equal(backing.memory->host, "kept", 4);
	backing_free(&backing);
	assert_true(exists());
}

static void a_file_of_another_size_is_refused_and_stays(void **state)
{
	struct backing_config config = { .file = path };
	struct backing backing;
	struct error err = { 0 };
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	assert_int_equal(backing_check(&config, SIZE, &err), -EINVAL);
	assert_int_equal(err.status, STATUS_USAGE);
	err.status = 0;
	assert_int_equal(backing_new(&config, SIZE, &backing, &err), -EINVAL);
	assert_int_equal(err.status, STATUS_USAGE);
	assert_null(backing.memory);
	assert_true(exists());
	assert_int_equal(backing_check(&config, 4096, &err), 0);
}

static void a_later_failure_removes_the_new_file(void **state)
{
	/* No host has node 1023; the check that would have said so was not asked. */
	const struct backing_config config = { .file = path, .bind = true, .node = 1023 };
	struct backing backing;
	struct error err = { 0 };

	assert_true(backing_new(&config, SIZE, &backing, &err) < 0);
	assert_non_null(strstr(err.text, "--numa-node 1023"));
	assert_null(backing.memory);
	assert_false(exists());
}

static void memory_that_others_map(void **state)
{
	const struct backing_config config = { .shared = true, .prefault = true };
	struct backing backing;
	struct error err = { 0 };
	uint8_t *other;
	int fd;

	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	assert_true(backing.memory->shared);
	assert_int_equal((uintptr_t)backing.memory->host % (2 << 20), 0);
	fd = backing.memory->fd;
	other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	memcpy((uint8_t *)backing.memory->host + 0x1000, "ours", 4);
	memcpy(other + SIZE - 6, "theirs", 6);
	assert_memory_equal(other + 0x1000, "ours", 4);
	assert_memory_equal((uint8_t *)backing.memory->host + SIZE - 6, "theirs", 6);
	/* What the other does with the file takes nothing away from under us. */
	assert_int_equal(ftruncate(fd, SIZE / 2), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	munmap(other, SIZE);
	backing_free(&backing);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void a_file_is_shared_as_it_is(void **state)
{
	const struct backing_config config = { .file = path, .shared = true };
	struct backing backing;
	struct error err = { 0 };
	char text[4] = "";

	assert_int_equal(backing_new(&config, SIZE, &backing, &err), 0);
	assert_int_equal((uintptr_t)backing.memory->host % (2 << 20), 0);
	memcpy((uint8_t *)backing.memory->host + 0x1000, "both", 4);
	assert_int_equal(pread(backing.memory->fd, text, 4, 0x1000), 4);
	assert_memory_equal(text, "both", 4);
	backing_free(&backing);
}

/* Few hosts have huge pages to give; then it is told how many are missing, and nothing stays. */
/* Somebody cuts the file short: the first who touches what is gone says so, and a status tells it. */
static void a_file_that_is_cut_short(void **state)
{
	const struct backing_config c = { .file = path };
	struct backing b = { 0 };
	char text[512] = "";
	int words[2], status;
	struct error err;
	ssize_t n;
	pid_t pid;

	assert_int_equal(backing_new(&c, SIZE, &b, &err), 0);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(pipe(words), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(words[1], STDERR_FILENO);
		lost_memory_ends();
		*(volatile uint8_t *)b.memory->host = 1;
		*((volatile uint8_t *)b.memory->host + 8192) = 1;
		_exit(77);
	}
	close(words[1]);
	n = read(words[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_HOST);
	assert_int_equal(strncmp(text, "trapline: memory was lost (SIGBUS)", 34), 0);
	assert_ptr_equal(strchr(text, '\n'), text + n - 1);
	close(words[0]);
	memory_put(b.memory);
	/* One that somebody sends kills as ever. */
	pid = fork();
	if (pid == 0) {
		lost_memory_ends();
		raise(SIGBUS);
		_exit(77);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void huge_pages_are_shared(void **state)
{
	struct backing_config config = { .huge = true, .huge_page = 2 << 20, .shared = true };
	struct backing backing;
	struct error err = { 0 };
	int r = backing_new(&config, SIZE, &backing, &err);

	if (r) {
		assert_non_null(strstr(err.text, "--hugepages"));
		assert_null(backing.memory);
		skip();
	}
	assert_true(backing.memory->shared);
	assert_int_equal(ftruncate(backing.memory->fd, SIZE / 2), -1);
	memcpy(backing.memory->host, "huge", 4);
	backing_free(&backing);
}

static void words_for_a_dry_run(void **state)
{
	const struct backing_config all = { .file = "/x", .prefault = true, .bind = true, .node = 3 };
	const struct backing_config huge = { .hugetlbfs = "/h", .huge_page = 1 << 30 };
	const struct backing_config none = { 0 };
	const struct backing_config shared = { .shared = true };
	char text[64], small[8];

	backing_text(&all, text, sizeof(text));
	assert_string_equal(text, "file /x, filled at start, from NUMA node 3");
	backing_text(&huge, text, sizeof(text));
	assert_string_equal(text, "huge pages of 1024 MiB from /h");
	backing_text(&none, small, sizeof(small));
	assert_string_equal(small, "anonymo");
	backing_text(&shared, text, sizeof(text));
	assert_string_equal(text, "memory that other processes map (memfd)");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_cpus),
		cmocka_unit_test(plain_memory),
		cmocka_unit_test(filling_it_can_be_interrupted),
		cmocka_unit_test(room_is_what_the_host_and_the_groups_have),
		cmocka_unit_test_setup_teardown(a_new_file_goes_unless_it_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_of_another_size_is_refused_and_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_later_failure_removes_the_new_file, set_up, tear_down),
		cmocka_unit_test(memory_that_others_map),
		cmocka_unit_test_setup_teardown(a_file_is_shared_as_it_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_that_is_cut_short, set_up, tear_down),
		cmocka_unit_test(huge_pages_are_shared),
		cmocka_unit_test(words_for_a_dry_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
