/* SPDX-License-Identifier: BSD-2-Clause */
/* test_cmos.c - the MC146818: time in all formats, setting it, alarm, periodic and update interrupts, memory sizes. */
#include "dev_rig.h"

#include <time.h>

#include "dev/cmos.h"

#define A       0x0a
#define B       0x0b
#define C       0x0c
#define D       0x0d
#define SET     0x80
#define PIE     0x40
#define AIE     0x20
#define UIE     0x10
#define BINARY  0x04
#define HOURS24 0x02
#define UIP     0x80
#define MS      1000000ULL

/* Friday, 29 February 2008, 23:59:58 UTC. */
#define LEAP 1204329598

static uint8_t get(struct rig *rig, uint8_t index)
{
	rig_write(rig, 0, 0, 1, index);
	return rig_read(rig, 0, 1, 1);
}

static void put(struct rig *rig, uint8_t index, uint8_t value)
{
	rig_write(rig, 0, 0, 1, index);
	rig_write(rig, 0, 1, 1, value);
}

static struct rig *cmos_rig(int64_t epoch, const struct cmos_config *config)
{
	struct rig *rig = rig_new(epoch);

	rig_add(rig, &cmos_type, config);
	return rig;
}

/* sec min hour wday mday month year century */
static void assert_time(struct rig *rig, const uint8_t expect[8])
{
	static const uint8_t index[8] = { 0, 2, 4, 6, 7, 8, 9, CMOS_CENTURY };

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(rig, index[i]), expect[i]);
}

static void test_power_on(void **state)
{
	struct rig *rig = cmos_rig(0, NULL);

	/* Only the index's writes may be posted. */
	assert_int_equal(rig->dev->regions[0]->coalesce, 1);
	assert_int_equal(get(rig, A), 0x26);
	assert_int_equal(get(rig, B), HOURS24);
	assert_int_equal(get(rig, C), 0);
	/* Linux takes bit 6 of status D for a sign that there is no clock at all. */
	assert_int_equal(get(rig, D), 0x80);
	put(rig, D, 0x7f);
	assert_int_equal(get(rig, D), 0x80);
	put(rig, C, 0xff);
	assert_int_equal(get(rig, C), 0);
	/* The index is for writing only, and its NMI bit is not part of it. */
	assert_int_equal(rig_read(rig, 0, 0, 1), 0xff);
	put(rig, 0x80 | 0x40, 0x5a);
	assert_int_equal(get(rig, 0x40), 0x5a);
	assert_int_equal(get(rig, 0xc0), 0x5a);
	/* A wide write is index, then data. */
	rig_write(rig, 0, 0, 2, 0xa541);
	assert_int_equal(get(rig, 0x41), 0xa5);
	assert_false(rig_level(rig, 0));
	rig_free(rig);
}

static void test_formats(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	assert_time(rig, (uint8_t[]){ 0x58, 0x59, 0x23, 6, 0x29, 0x02, 0x08, 0x20 });
	put(rig, B, HOURS24 | BINARY);
	assert_time(rig, (uint8_t[]){ 58, 59, 23, 6, 29, 2, 8, 20 });
	put(rig, B, BINARY);
	assert_time(rig, (uint8_t[]){ 58, 59, 0x80 | 11, 6, 29, 2, 8, 20 });
	put(rig, B, 0);
	assert_time(rig, (uint8_t[]){ 0x58, 0x59, 0x80 | 0x11, 6, 0x29, 0x02, 0x08, 0x20 });
	clock_step(&rig->vm.clock, 2 * NSEC_PER_SEC);
	assert_time(rig, (uint8_t[]){ 0x00, 0x00, 0x12, 7, 0x01, 0x03, 0x08, 0x20 });
	clock_step(&rig->vm.clock, 12 * 3600 * NSEC_PER_SEC);
	assert_time(rig, (uint8_t[]){ 0x00, 0x00, 0x80 | 0x12, 7, 0x01, 0x03, 0x08, 0x20 });
	clock_step(&rig->vm.clock, 3600 * NSEC_PER_SEC);
	assert_time(rig, (uint8_t[]){ 0x00, 0x00, 0x80 | 0x01, 7, 0x01, 0x03, 0x08, 0x20 });
	rig_free(rig);
}

/* Against the C library, over four centuries, in a step that meets all days and hours in time. */
static void test_calendar(void **state)
{
	struct rig *rig = cmos_rig(0, NULL);

	put(rig, B, HOURS24 | BINARY);
	for (int64_t t = -2 * 86400; t < 9000000000; t += 7 * 86400 + 3607) {
		time_t when = t;
		struct tm tm;

		rig->vm.clock.epoch = t * (int64_t)NSEC_PER_SEC;
		gmtime_r(&when, &tm);
		assert_time(rig, (uint8_t[]){ tm.tm_sec, tm.tm_min, tm.tm_hour, tm.tm_wday + 1, tm.tm_mday,
					 tm.tm_mon + 1, tm.tm_year % 100, 19 + tm.tm_year / 100 });
	}
	rig_free(rig);
}

/* As Linux does it: SET, divider reset, registers, and both back. */
static void set_time(struct rig *rig, const uint8_t time[8])
{
	static const uint8_t index[8] = { 0, 2, 4, 6, 7, 8, 9, CMOS_CENTURY };
	uint8_t control = get(rig, B), divider = get(rig, A) & 0x7f;

	put(rig, B, control | SET);
	put(rig, A, divider | 0x70);
	for (unsigned i = 0; i < 8; i++)
		put(rig, index[i], time[i]);
	assert_time(rig, time);
	put(rig, B, control);
	put(rig, A, divider);
}

static void test_set(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	clock_step(&rig->vm.clock, 123 * MS);
	set_time(rig, (uint8_t[]){ 0x59, 0x59, 0x23, 7, 0x31, 0x12, 0x99, 0x19 });
	assert_time(rig, (uint8_t[]){ 0x59, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19 });
	/* The first update comes half a second after the divider was let go. */
	clock_step(&rig->vm.clock, 499 * MS);
	assert_int_equal(get(rig, 0), 0x59);
	clock_step(&rig->vm.clock, 2 * MS);
	assert_time(rig, (uint8_t[]){ 0x00, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20 });
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_int_equal(get(rig, 0), 0x01);
	/* It survives a reset and a restore. */
	device_reset(rig->dev);
	assert_time(rig, (uint8_t[]){ 0x01, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20 });
	rig_restore(rig);
	assert_time(rig, (uint8_t[]){ 0x01, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20 });
	/* Power-on is the wall clock's time again. */
	device_power_on(rig->dev);
	assert_int_equal(get(rig, CMOS_CENTURY), 0x20);
	assert_int_equal(get(rig, 9), 0x08);
	rig_free(rig);
}

static void test_hold(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	clock_step(&rig->vm.clock, 300 * MS);
	put(rig, B, HOURS24 | SET);
	clock_step(&rig->vm.clock, 10 * NSEC_PER_SEC);
	assert_int_equal(get(rig, 0), 0x58);
	assert_int_equal(get(rig, A) & UIP, 0);
	put(rig, B, HOURS24);
	assert_int_equal(get(rig, 0), 0x58);
	/* SET does not stop the divider: the second ends when it would have. */
	clock_step(&rig->vm.clock, 699 * MS);
	assert_int_equal(get(rig, 0), 0x58);
	clock_step(&rig->vm.clock, 2 * MS);
	assert_int_equal(get(rig, 0), 0x59);
	/* A single register written while the clock runs. */
	put(rig, 4, 0x10);
	assert_time(rig, (uint8_t[]){ 0x59, 0x59, 0x10, 6, 0x29, 0x02, 0x08, 0x20 });
	rig_free(rig);
}

/* A guest that dies with the clock in its hands does not leave it standing to the next. */
static void test_reset_while_held(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	put(rig, B, HOURS24 | SET);
	put(rig, A, 0x76);
	put(rig, 4, 0x11);
	clock_step(&rig->vm.clock, 10 * NSEC_PER_SEC);
	device_reset(rig->dev);
	cmos_type.start(rig->dev);
	assert_int_equal(get(rig, B), HOURS24);
	assert_int_equal(get(rig, A) & 0x7f, 0x26);
	assert_time(rig, (uint8_t[]){ 0x58, 0x59, 0x11, 6, 0x29, 0x02, 0x08, 0x20 });
	clock_step(&rig->vm.clock, 3 * NSEC_PER_SEC);
	assert_time(rig, (uint8_t[]){ 0x01, 0x00, 0x12, 6, 0x29, 0x02, 0x08, 0x20 });
	rig_free(rig);
}

/* Any bytes at all mean some time, and what is read of it is well-formed. */
static void test_nonsense(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);
	uint32_t seed = 7;

	for (unsigned round = 0; round < 3000; round++) {
		seed = seed * 1664525 + 1013904223;
		put(rig, seed >> 24 & 0x3f, seed >> 12);
		if (round % 7 == 0)
			clock_step(&rig->vm.clock, seed % (2 * NSEC_PER_SEC));
		if (round % 50 == 0) {
			put(rig, A, 0x26);
			put(rig, B, HOURS24);
			assert_in_range(get(rig, 0), 0, 0x59);
			assert_in_range(get(rig, 8), 1, 0x12);
			assert_in_range(get(rig, 7), 1, 0x31);
		}
		get(rig, C);
	}
	rig_free(rig);
}

static void test_uip(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	assert_int_equal(get(rig, A), 0x26);
	clock_step(&rig->vm.clock, 997 * MS);
	assert_int_equal(get(rig, A), 0x26);
	/* Not set: at least 244 us before anything changes. Set: the update ends with the second. */
	clock_step(&rig->vm.clock, 2700000);
	assert_int_equal(get(rig, A), 0x26 | UIP);
	assert_int_equal(get(rig, 0), 0x58);
	clock_step(&rig->vm.clock, 300000);
	assert_int_equal(get(rig, A), 0x26);
	assert_int_equal(get(rig, 0), 0x59);
	/* The bit cannot be written. */
	put(rig, A, 0xa6);
	assert_int_equal(get(rig, A), 0x26);
	rig_free(rig);
}

static void test_update_interrupt(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	/* Flags rise without their enables, and reading clears them. */
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & ~PIE, UIE);
	assert_int_equal(get(rig, C), 0);
	put(rig, B, HOURS24 | UIE);
	clock_step(&rig->vm.clock, 999 * MS);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 1 * MS);
	assert_true(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 5 * NSEC_PER_SEC);
	assert_int_equal(rig_rises(rig, 0), 1);
	assert_int_equal(get(rig, C) & ~(PIE | AIE), 0x80 | UIE);
	assert_false(rig_level(rig, 0));
	for (unsigned i = 0; i < 10; i++) {
		clock_step(&rig->vm.clock, NSEC_PER_SEC);
		assert_true(rig_level(rig, 0));
		get(rig, C);
	}
	assert_int_equal(rig_rises(rig, 0), 11);
	/* Enabled when the flag is up already: at once. */
	put(rig, B, HOURS24);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_false(rig_level(rig, 0));
	put(rig, B, HOURS24 | UIE);
	assert_true(rig_level(rig, 0));
	/* Setting SET takes the enable away. */
	put(rig, B, HOURS24 | UIE | SET);
	assert_int_equal(get(rig, B), HOURS24 | SET);
	assert_false(rig_level(rig, 0));
	get(rig, C);
	clock_step(&rig->vm.clock, 3 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & UIE, 0);
	rig_free(rig);
}

static void test_alarm(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	/* 00:00:10, in 12 seconds. */
	put(rig, 1, 0x10);
	put(rig, 3, 0x00);
	put(rig, 5, 0x00);
	put(rig, B, HOURS24 | AIE);
	clock_step(&rig->vm.clock, 12 * NSEC_PER_SEC - 1);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, 1);
	assert_true(rig_level(rig, 0));
	assert_int_equal(get(rig, C) & 0xb0, 0x80 | AIE | UIE);
	assert_int_equal(get(rig, 0), 0x10);
	/* And once a day. */
	clock_step(&rig->vm.clock, 86399 * NSEC_PER_SEC);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_true(rig_level(rig, 0));
	get(rig, C);
	/* Don't care: every minute at second 30. */
	put(rig, 1, 0x30);
	put(rig, 3, 0xc0);
	put(rig, 5, 0xff);
	for (unsigned i = 0; i < 5; i++) {
		clock_step(&rig->vm.clock, (i ? 60 : 20) * NSEC_PER_SEC);
		assert_true(rig_level(rig, 0));
		get(rig, C);
	}
	/* Every second. */
	put(rig, 1, 0xc0);
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_true(rig_level(rig, 0));
	get(rig, C);
	/* A time that no clock shows never comes. */
	put(rig, 1, 0x60);
	clock_step(&rig->vm.clock, 2 * 86400 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, 0);
	rig_free(rig);
}

/* The alarm is seen by polling too, however long the guest looked away, and in each format. */
static void test_alarm_polled(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	put(rig, B, BINARY);
	put(rig, 1, 5);
	put(rig, 3, 30);
	put(rig, 5, 0x80 | 1);
	get(rig, C);
	clock_step(&rig->vm.clock, 13 * 3600 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, 0);
	clock_step(&rig->vm.clock, 30 * 60 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, 0);
	clock_step(&rig->vm.clock, 9 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, AIE);
	clock_step(&rig->vm.clock, 86390 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, 0);
	clock_step(&rig->vm.clock, 1000 * 86400 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & AIE, AIE);
	rig_free(rig);
}

/* CPU time of an access while the alarm is awaited. */
static uint64_t alarm_cost(struct rig *rig, uint8_t second)
{
	struct timespec from, to;

	put(rig, 1, second);
	put(rig, 3, 0xff);
	put(rig, 5, 0xff);
	put(rig, B, HOURS24 | AIE);
	get(rig, C);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (unsigned i = 0; i < 200; i++)
		put(rig, 0x40, 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return (uint64_t)(to.tv_sec - from.tv_sec) * NSEC_PER_SEC + (uint64_t)(to.tv_nsec - from.tv_nsec);
}

/* A guest cannot make the chip look through a whole day, second by second, at each access. */
static void test_alarm_cost(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);
	uint64_t far = alarm_cost(rig, 0x57), never = alarm_cost(rig, 0x99);

	assert_in_range(never, 0, 20 * far);
	rig_free(rig);
}

static void test_periodic(void **state)
{
	/* Periods in 1/32768 s by rate. */
	static const unsigned period[16] = { 0, 128, 256, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
		16384 };

	for (unsigned rate = 1; rate < 16; rate++) {
		struct rig *rig = cmos_rig(LEAP, NULL);
		uint64_t ns = (period[rate] * NSEC_PER_SEC + 32767) / 32768;

		put(rig, A, 0x20 | rate);
		put(rig, B, HOURS24 | PIE);
		get(rig, C);
		clock_step(&rig->vm.clock, ns - 1000);
		assert_false(rig_level(rig, 0));
		clock_step(&rig->vm.clock, 1000);
		assert_true(rig_level(rig, 0));
		/* Seconds of interrupts, each answered: their number is right, none drifts. */
		for (unsigned i = 2; i <= 50; i++) {
			assert_int_equal(get(rig, C) & 0xc0, 0xc0);
			assert_false(rig_level(rig, 0));
			clock_step(&rig->vm.clock,
				i * period[rate] * NSEC_PER_SEC / 32768 + 1 - clock_now(&rig->vm.clock));
			assert_true(rig_level(rig, 0));
		}
		rig_free(rig);
	}
}

static void test_periodic_off(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	put(rig, A, 0x20);
	put(rig, B, HOURS24 | PIE);
	get(rig, C);
	clock_step(&rig->vm.clock, 10 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & PIE, 0);
	/* A divider in reset counts nothing; then half of its period is the first. */
	put(rig, A, 0x76);
	clock_step(&rig->vm.clock, 10 * NSEC_PER_SEC);
	assert_int_equal(get(rig, C) & PIE, 0);
	put(rig, A, 0x26);
	clock_step(&rig->vm.clock, 2 * MS);
	assert_true(rig_level(rig, 0));
	/* A reset takes the enable, and the wire down. */
	device_reset(rig->dev);
	assert_false(rig_level(rig, 0));
	assert_int_equal(get(rig, B), HOURS24);
	rig_free(rig);
}

/* A restored clock goes on: the alarm that was armed comes. */
static void test_restore(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);

	put(rig, 1, 0xff);
	put(rig, 3, 0x01);
	put(rig, 5, 0xff);
	put(rig, B, HOURS24 | AIE);
	rig_restore(rig);
	clock_step(&rig->vm.clock, 61 * NSEC_PER_SEC);
	assert_false(rig_level(rig, 0));
	clock_step(&rig->vm.clock, NSEC_PER_SEC);
	assert_true(rig_level(rig, 0));
	rig_free(rig);
}

static unsigned word(struct rig *rig, uint8_t index)
{
	return get(rig, index) | get(rig, index + 1) << 8;
}

static void test_memory_sizes(void **state)
{
	static const struct {
		uint64_t low, high;
		unsigned base, extended, above16, above4g;
	} sizes[] = {
		{ 128 << 20, 0, 640, 0xffff, 112 * 16, 0 },
		{ 512 << 10, 0, 512, 0, 0, 0 },
		{ 8 << 20, 0, 640, 7 << 10, 0, 0 },
		{ 0xd0000000, 0x7b0000000, 640, 0xffff, 0xd000 - 256, 0x7b000 },
		{ 0xd0000000, 1ULL << 60, 640, 0xffff, 0xd000 - 256, 0xffffff },
	};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct cmos_config config = { .ram_low = sizes[i].low, .ram_high = sizes[i].high };
		struct rig *rig = cmos_rig(LEAP, &config);
		unsigned sum = 0;

		assert_int_equal(word(rig, 0x15), sizes[i].base);
		assert_int_equal(word(rig, 0x17), sizes[i].extended);
		assert_int_equal(word(rig, 0x30), sizes[i].extended);
		assert_int_equal(word(rig, 0x34), sizes[i].above16);
		assert_int_equal(word(rig, 0x5b) | get(rig, 0x5d) << 16, sizes[i].above4g);
		for (unsigned j = 0x10; j <= 0x2d; j++)
			sum += get(rig, j);
		assert_int_equal(get(rig, 0x2e) << 8 | get(rig, 0x2f), sum);
		/* What a guest keeps there stays over a reset. */
		put(rig, 0x60, 0x77);
		device_reset(rig->dev);
		assert_int_equal(get(rig, 0x60), 0x77);
		rig_free(rig);
	}
}

/* A state from a damaged file must do no harm. */
static void test_hostile_state(void **state)
{
	struct rig *rig = cmos_rig(LEAP, NULL);
	const struct field *f = cmos_type.state;
	uint8_t *bytes = (uint8_t *)rig->dev + cmos_type.state_offset;
	uint32_t seed = 3;

	for (unsigned round = 0; round < 500; round++) {
		for (const struct field *g = f; g->name; g++)
			for (unsigned i = 0; i < (unsigned)g->width * g->count; i++)
				bytes[g->offset + i] = (seed = seed * 1664525 + 1013904223) >> 24;
		cmos_type.start(rig->dev);
		clock_step(&rig->vm.clock, 100 * MS);
		for (unsigned i = 0; i < 64; i++)
			get(rig, i);
	}
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_on),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_calendar),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_reset_while_held),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_uip),
		cmocka_unit_test(test_update_interrupt),
		cmocka_unit_test(test_alarm),
		cmocka_unit_test(test_alarm_polled),
		cmocka_unit_test(test_alarm_cost),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_periodic_off),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_memory_sizes),
		cmocka_unit_test(test_hostile_state),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
