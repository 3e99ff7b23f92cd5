/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_serial_break.c - a break that the guest sends, on the host's serial line: a pseudo-terminal that takes itself
 * for one, and shows by '<' and '>' among what it carries where a break begins and ends.
 */
#include "dev_rig.h"

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/chardev.h"
#include "dev/serial.h"
#include "dev/uart16550.h"

#define MS (NSEC_PER_SEC / 1000)

static bool is_serial;
static int unsent, error;

/* Instead of libc's. */
__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == TIOCMGET && is_serial)
		return *(int *)arg = 0;
	if (request == TIOCOUTQ)
		*(int *)arg = unsent;
	if (request == TIOCSBRK && error)
		return errno = error, -1;
	if (request == TIOCSBRK || request == TIOCCBRK)
		return write(fd, request == TIOCSBRK ? "<" : ">", 1) == 1 ? 0 : -1;
	return request == TIOCOUTQ ? 0 : (int)syscall(SYS_ioctl, fd, request, arg);
}

struct bed {
	struct rig *rig;
	struct chardev chardev;
	int master, slave;
};

static void bed_init(struct bed *bed, bool serial)
{
	struct serial_config config = { .chardev = &bed->chardev };

	is_serial = serial;
	unsent = error = 0;
	bed->rig = rig_new(0);
	assert_int_equal(openpty(&bed->master, &bed->slave, NULL, NULL, NULL), 0);
	assert_int_equal(chardev_init(&bed->chardev, &bed->rig->vm.loop, -1, bed->slave), 0);
	rig_add(bed->rig, &serial_type, &config);
}

static void bed_fini(struct bed *bed)
{
	vm_remove_device(bed->rig->dev);
	chardev_fini(&bed->chardev);
	rig_free(bed->rig);
	close(bed->master);
	close(bed->slave);
}

static void quit(void *arg)
{
	loop_quit(arg);
}

/* Time passes, and the loop does what there is to do; then what the line has carried is this. */
static void carries(struct bed *bed, uint64_t ms, const char *text)
{
	struct loop *loop = &bed->rig->vm.loop;
	struct pollfd pfd = { .fd = bed->master, .events = POLLIN };
	char got[64] = "";
	size_t n = 0;

	clock_step(&bed->rig->vm.clock, ms * MS);
	for (unsigned i = 0; i < 4; i++) {
		struct loop_work end = { .fn = quit, .arg = loop };

		loop_post(loop, &end);
		loop_run(loop);
	}
	while (n < sizeof(got) - 1 && poll(&pfd, 1, 0) > 0)
		n += (size_t)read(bed->master, got + n, sizeof(got) - 1 - n);
	got[n] = '\0';
	assert_string_equal(got, text);
}

static void say(struct bed *bed, const char *text)
{
	for (; *text; text++)
		rig_write(bed->rig, 0, UART_DATA, 1, (uint8_t)*text);
}

static void hold(struct bed *bed, bool low)
{
	rig_write(bed->rig, 0, UART_LCR, 1, low ? 0x43 : 0x03);
}

/* As long as the guest's, behind what was sent before and in front of what is sent after. */
static void test_a_break(void **state)
{
	struct bed bed;

	bed_init(&bed, true);
	say(&bed, "before");
	hold(&bed, true);
	carries(&bed, 0, "before");
	carries(&bed, 20, "<");
	carries(&bed, 5000, "");
	hold(&bed, false);
	say(&bed, "after");
	carries(&bed, 0, ">after");
	bed_fini(&bed);
}

/* One that is over before the line has come to it is no shorter than what a receiver takes for one. */
static void test_a_short_break(void **state)
{
	struct bed bed;

	bed_init(&bed, true);
	say(&bed, "before");
	unsent = 1;
	for (unsigned i = 0; i < 3; i++) {
		hold(&bed, true);
		hold(&bed, false);
	}
	say(&bed, "after");
	carries(&bed, 0, "before");
	carries(&bed, 20, "");
	carries(&bed, 20, "");
	unsent = 0;
	carries(&bed, 20, "<");
	carries(&bed, 240, "");
	carries(&bed, 10, ">after");
	bed_fini(&bed);
}

static void test_the_end_lets_go(void **state)
{
	struct bed bed;

	bed_init(&bed, true);
	hold(&bed, true);
	carries(&bed, 0, "");
	carries(&bed, 20, "<");
	hold(&bed, false);
	say(&bed, "last");
	chardev_flush(&bed.chardev, 1000);
	carries(&bed, 0, ">last");
	hold(&bed, true);
	carries(&bed, 0, "");
	carries(&bed, 20, "<");
	chardev_fini(&bed.chardev);
	carries(&bed, 0, ">");
	bed_fini(&bed);
}

/* A reset of the guest is the end of its break. */
static void test_a_reset_lets_go(void **state)
{
	struct bed bed;

	bed_init(&bed, true);
	hold(&bed, true);
	carries(&bed, 0, "");
	carries(&bed, 20, "<");
	carries(&bed, 1000, "");
	device_reset(bed.rig->dev);
	carries(&bed, 0, ">");
	bed_fini(&bed);
}

static void test_where_there_is_none(void **state)
{
	struct bed bed;

	bed_init(&bed, false);
	hold(&bed, true);
	hold(&bed, false);
	say(&bed, "at once");
	carries(&bed, 0, "at once");
	carries(&bed, 1000, "");
	bed_fini(&bed);
	/* A line that has gone. */
	bed_init(&bed, true);
	error = EIO;
	hold(&bed, true);
	hold(&bed, false);
	say(&bed, "on");
	carries(&bed, 0, "");
	carries(&bed, 20, "on");
	bed_fini(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_break),
		cmocka_unit_test(test_a_short_break),
		cmocka_unit_test(test_the_end_lets_go),
		cmocka_unit_test(test_a_reset_lets_go),
		cmocka_unit_test(test_where_there_is_none),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
