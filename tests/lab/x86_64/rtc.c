/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rtc.c - run in a guest: what its driver makes of the clock chip. Time is read and set, alarms and updates interrupt;
 * a PC's periodic flag, which Linux has a timer of its own for, is polled at the ports. Prints a line a step.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#ifdef __x86_64__
#include <sys/io.h>
#endif

enum { INDEX = 0x70, DATA = 0x71, REG_A = 10, REG_C = 12, RATE_4_HZ = 14, PATIENCE_MS = 30000 };

static int rtc;

static void step(bool good, const char *what, long long got)
{
	printf("%s %s (%lld)\n", good ? "ok" : "wrong", what, got);
}

/* How often its interrupt arrived. */
static unsigned long interrupts(void)
{
	char line[200];
	unsigned long n = 0;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, "rtc0") || strstr(line, "rtc-pl031"))
			n = strtoul(strchr(line, ':') + 1, NULL, 10);
	if (file)
		fclose(file);
	return n;
}

static struct tm to_tm(const struct rtc_time *t)
{
	return (struct tm){ .tm_sec = t->tm_sec,
		.tm_min = t->tm_min,
		.tm_hour = t->tm_hour,
		.tm_mday = t->tm_mday,
		.tm_mon = t->tm_mon,
		.tm_year = t->tm_year };
}

static time_t rtc_now(void)
{
	struct rtc_time t;
	struct tm tm;

	if (ioctl(rtc, RTC_RD_TIME, &t))
		return -1;
	tm = to_tm(&t);
	return timegm(&tm);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What the chip shows, and between which two moments of the kernel's clock it was read or set. */
struct look {
	double after, before;
	time_t shows;
};

static struct look look(void)
{
	struct look look = { .after = now() };

	look.shows = rtc_now();
	look.before = now();
	return look;
}

/* Whether the chip, which tells whole seconds, has counted as the kernel's clock has, however long the looks took. */
static bool in_step(const struct look *a, const struct look *b)
{
	double counted = (double)(b->shows - a->shows);

	return counted > b->after - a->before - 1 && counted < b->before - a->after + 1;
}

static bool rtc_set(time_t at)
{
	struct tm tm;
	struct rtc_time t;

	gmtime_r(&at, &tm);
	t = (struct rtc_time){ .tm_sec = tm.tm_sec,
		.tm_min = tm.tm_min,
		.tm_hour = tm.tm_hour,
		.tm_mday = tm.tm_mday,
		.tm_mon = tm.tm_mon,
		.tm_year = tm.tm_year };
	return ioctl(rtc, RTC_SET_TIME, &t) == 0;
}

/* Waits for /dev/rtc0 to tell of an event of the kind. */
static bool event(unsigned long kind)
{
	struct pollfd poller = { .fd = rtc, .events = POLLIN };
	unsigned long data = 0;

	return poll(&poller, 1, PATIENCE_MS) == 1 && read(rtc, &data, sizeof(data)) == sizeof(data) && data & kind;
}

static void alarm_by(time_t in)
{
	struct rtc_wkalrm alarm = { .enabled = 1 };
	unsigned long before = interrupts();
	time_t at = rtc_now() + in;
	struct tm tm;

	gmtime_r(&at, &tm);
	alarm.time = (struct rtc_time){ .tm_sec = tm.tm_sec,
		.tm_min = tm.tm_min,
		.tm_hour = tm.tm_hour,
		.tm_mday = tm.tm_mday,
		.tm_mon = tm.tm_mon,
		.tm_year = tm.tm_year };
	step(ioctl(rtc, RTC_WKALM_SET, &alarm) == 0, "an alarm is set", errno);
	step(event(RTC_AF), "the alarm comes", in);
	step(rtc_now() >= at, "not before its time", rtc_now() - at);
	step(interrupts() > before, "by interrupt", (long long)interrupts());
}

#ifdef __x86_64__
/* A flag that is read late is read all the same, and one that is missed makes it take longer; never shorter. */
static void periodic(void)
{
	double begin;
	uint8_t a;
	int n = 0;

	if (iopl(3)) {
		step(false, "no ports", errno);
		return;
	}
	outb(REG_A, INDEX);
	a = inb(DATA);
	outb((a & 0x70) | RATE_4_HZ, DATA);
	begin = now();
	do {
		outb(REG_C, INDEX);
		n += inb(DATA) >> 6 & 1;
	} while (n < 12 && now() - begin < PATIENCE_MS / 1000);
	/* The first may be late where the machine is busy; at the next rate, 8 Hz, all would be there in 1.5 s. */
	step(n == 12 && now() - begin > 2.2, "12 periods of 4 Hz, in ms", (long long)(1000 * (now() - begin)));
	outb(REG_A, INDEX);
	outb(a & 0x7f, DATA);
}
#else
static void periodic(void)
{
}
#endif

/* Sets the chip and looks at it some seconds later. */
static void set(time_t at, const char *is_set, const char *is_read, unsigned seconds)
{
	struct look first = { .after = now(), .shows = at }, second;

	step(rtc_set(at), is_set, at);
	first.before = now();
	sleep(seconds);
	second = look();
	step(in_step(&first, &second), is_read, second.shows - at);
}

int main(int argc, char **argv)
{
	time_t then = argc > 1 ? strtoll(argv[1], NULL, 10) : 0;
	struct look first, second;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rtc = open("/dev/rtc0", O_RDONLY);
	if (rtc < 0) {
		step(false, "no clock", errno);
		return 1;
	}
	first = look();
	sleep(2);
	second = look();
	step(in_step(&first, &second), "it runs", second.shows - first.shows);
	alarm_by(2);
	step(ioctl(rtc, RTC_UIE_ON, 0) == 0, "update interrupts", errno);
	step(event(RTC_UF) && event(RTC_UF), "come every second", 0);
	ioctl(rtc, RTC_UIE_OFF, 0);
	periodic();
	/* Over the end of a century, which is a byte of its own. */
	set(4102444799, "set to the last second of 2099", "and on into 2100", 2);
	set(then, "set to where the test wants it", "and read there", 0);
	alarm_by(2);
	printf("ok end\n");
	return 0;
}
