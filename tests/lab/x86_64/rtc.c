/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rtc.c - run in a guest: what rtc_cmos makes of the clock chip. Time is read and set, alarms and updates interrupt; the
 * periodic flag, which Linux has a timer of its own for, is polled at the ports. Prints a line a step.
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
#include <sys/io.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { INDEX = 0x70, DATA = 0x71, REG_A = 10, REG_C = 12, RATE_4_HZ = 14 };

static int rtc;

static void step(bool good, const char *what, long long got)
{
	printf("%s %s (%lld)\n", good ? "ok" : "wrong", what, got);
}

/* How often interrupt 8 arrived. */
static unsigned long interrupts(void)
{
	char line[200];
	unsigned long n = 0;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, "rtc0"))
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
static bool event(unsigned long kind, int seconds)
{
	struct pollfd poller = { .fd = rtc, .events = POLLIN };
	unsigned long data = 0;

	return poll(&poller, 1, seconds * 1000) == 1 && read(rtc, &data, sizeof(data)) == sizeof(data) && data & kind;
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
	step(event(RTC_AF, 10), "the alarm comes", in);
	step(rtc_now() >= at && rtc_now() <= at + 2, "at its time", rtc_now() - at);
	step(interrupts() > before, "by interrupt", (long long)interrupts());
}

/* Slow enough for a machine with other work: a flag that is read late is read all the same. */
static void periodic(void)
{
	struct timespec begin, now;
	uint8_t a;
	int n = 0;

	outb(REG_A, INDEX);
	a = inb(DATA);
	outb((a & 0x70) | RATE_4_HZ, DATA);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		outb(REG_C, INDEX);
		n += inb(DATA) >> 6 & 1;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec < 3000000000LL);
	outb(REG_A, INDEX);
	outb(a & 0x7f, DATA);
	step(n >= 9 && n <= 13, "4 Hz for three seconds", n);
}

int main(int argc, char **argv)
{
	time_t then = argc > 1 ? strtoll(argv[1], NULL, 10) : 0, was;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rtc = open("/dev/rtc0", O_RDONLY);
	if (rtc < 0 || iopl(3)) {
		step(false, "no clock, or no ports", errno);
		return 1;
	}
	was = rtc_now();
	sleep(2);
	step(rtc_now() - was >= 2 && rtc_now() - was <= 4, "it runs", rtc_now() - was);
	alarm_by(2);
	step(ioctl(rtc, RTC_UIE_ON, 0) == 0, "update interrupts", errno);
	step(event(RTC_UF, 3) && event(RTC_UF, 3), "come every second", 0);
	ioctl(rtc, RTC_UIE_OFF, 0);
	periodic();
	/* Over the end of a century, which is a byte of its own. */
	step(rtc_set(4102444799), "set to the last second of 2099", errno);
	sleep(2);
	step(rtc_now() >= 4102444800 && rtc_now() <= 4102444803, "and on into 2100", rtc_now() - 4102444800);
	step(rtc_set(then), "set to where the test wants it", then);
	step(rtc_now() >= then && rtc_now() <= then + 2, "and read there", rtc_now() - then);
	alarm_by(2);
	printf("ok end\n");
	return 0;
}
