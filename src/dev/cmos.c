/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmos.c - the MC146818; see cmos.h.
 *
 * Nothing ticks. While the clock runs, its registers are computed from the wall time when they are read, and
 * the flags of status C are brought up to date from the time that has passed since they were last looked at. A timer
 * runs only while an interrupt is enabled whose flag is not up yet. While the guest holds the clock (SET, or the
 * divider in reset) the registers are memory, and when it lets go they say what time it is.
 */
#include "dev/cmos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/vm.h"

enum {
	RTC_SECONDS = 0x00,
	RTC_SECONDS_ALARM = 0x01,
	RTC_MINUTES = 0x02,
	RTC_MINUTES_ALARM = 0x03,
	RTC_HOURS = 0x04,
	RTC_HOURS_ALARM = 0x05,
	RTC_WEEKDAY = 0x06, /* 1: Sunday */
	RTC_DAY = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_A = 0x0a,
	RTC_B = 0x0b,
	RTC_C = 0x0c,
	RTC_D = 0x0d,

	RTC_A_UIP = 0x80,
	RTC_A_RESET = 0x60, /* both bits: the divider chain is held in reset */
	RTC_A_RATE = 0x0f,
	RTC_A_POWER_ON = 0x26, /* 32768 Hz, 1024 periodic interrupts a second */

	RTC_B_SET = 0x80,
	RTC_B_PIE = 0x40,
	RTC_B_AIE = 0x20,
	RTC_B_UIE = 0x10,
	RTC_B_SQWE = 0x08,
	RTC_B_BINARY = 0x04,
	RTC_B_24H = 0x02,

	/* The flags stand where their enables do. */
	RTC_C_IRQF = 0x80,
	RTC_C_FLAGS = RTC_B_PIE | RTC_B_AIE | RTC_B_UIE,

	RTC_D_VALID = 0x80,

	RTC_PM = 0x80,        /* of the hours, in 12-hour mode */
	RTC_DONT_CARE = 0xc0, /* an alarm byte of at least this matches all */
};

/* The update cycle is announced 244 us before it begins and takes 1984 us; the new time shows at its end. */
#define RTC_UPDATE_NS   (244000 + 1984000)
#define RTC_BASE_HZ     32768
#define RTC_DAY_SECONDS 86400
#define RTC_RELEASE_NS  500000000     /* from the end of the divider's reset to the first update */
#define RTC_OFFSET_MAX  1000000000000 /* s; three decimal digits of centuries, more than the registers can say */
#define RTC_ALARM_MAX   300           /* rounds in search of an alarm's time */
#define CMOS_BYTES      128

struct cmos_state {
	uint8_t index, a, b, c;
	uint8_t ram[CMOS_BYTES]; /* time bytes only mean something while the clock is held */
	uint64_t seconds_offset; /* signed: guest seconds minus wall seconds */
	uint32_t phase;          /* ns added to the wall clock's: where in a second the guest's begins */
	uint64_t divider_start;  /* clock ns at which the divider chain began to count */
	uint64_t seen_ns;        /* clock ns up to which PF is accounted for */
	uint64_t seen_seconds;   /* signed: guest seconds up to which UF and AF are */
};

struct cmos {
	struct device dev;
	struct region region;
	struct irq irq;
	struct timer timer;
	struct cmos_config config;
	struct cmos_state state;
};

#define STATE struct cmos_state

/* The battery keeps everything but what the RESET pin clears. */
static const struct field cmos_fields[] = {
	FIELD(STATE, index),
	FIELD(STATE, a, .reset = RTC_A_POWER_ON, .keep = true),
	FIELD(STATE, b, .reset = RTC_B_24H, .keep = true),
	FIELD(STATE, c),
	FIELD_ARRAY(STATE, ram, .keep = true),
	FIELD(STATE, seconds_offset, .keep = true),
	FIELD(STATE, phase, .keep = true),
	FIELD(STATE, divider_start, .keep = true),
	FIELD(STATE, seen_ns, .keep = true),
	FIELD(STATE, seen_seconds, .keep = true),
	FIELD_END,
};

static bool cmos_is_time(unsigned index)
{
	return index == RTC_SECONDS || index == RTC_MINUTES || index == RTC_HOURS ||
	       (index >= RTC_WEEKDAY && index <= RTC_YEAR) || index == CMOS_CENTURY;
}

static bool cmos_divider_runs(const STATE *s)
{
	return (s->a & RTC_A_RESET) != RTC_A_RESET;
}

static bool cmos_held(const STATE *s)
{
	return s->b & RTC_B_SET || !cmos_divider_runs(s);
}

/* Guest time: whole seconds since 1970 (signed), and ns into the second. */
static int64_t cmos_time(struct cmos *cmos, uint32_t *ns)
{
	int64_t wall = clock_wall(&cmos->dev.vm->clock) + (int64_t)cmos->state.phase;
	int64_t rest = wall % (int64_t)NSEC_PER_SEC;

	if (rest < 0)
		rest += (int64_t)NSEC_PER_SEC;
	if (ns)
		*ns = (uint32_t)rest;
	return (wall - rest) / (int64_t)NSEC_PER_SEC + (int64_t)cmos->state.seconds_offset;
}

static uint8_t cmos_encode(const STATE *s, unsigned value)
{
	return s->b & RTC_B_BINARY ? value : (value / 10) << 4 | value % 10;
}

static unsigned cmos_decode(const STATE *s, uint8_t byte)
{
	return s->b & RTC_B_BINARY ? byte : (byte >> 4) * 10u + (byte & 0x0f);
}

static uint8_t cmos_encode_hour(const STATE *s, unsigned hour)
{
	if (s->b & RTC_B_24H)
		return cmos_encode(s, hour);
	return cmos_encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? RTC_PM : 0);
}

static unsigned cmos_decode_hour(const STATE *s, uint8_t byte)
{
	if (s->b & RTC_B_24H)
		return cmos_decode(s, byte);
	return cmos_decode(s, byte & ~RTC_PM) % 12 + (byte & RTC_PM ? 12 : 0);
}

/*
 * Days since 1970 and the Gregorian calendar, in eras of 400 years that begin on the first of March, so that
 * the leap day comes last.
 */
static int64_t cmos_days(int64_t year, unsigned month, unsigned day)
{
	int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400, day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + (int64_t)day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void cmos_date(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
	*month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
	*year = yoe + era * 400 + (*month <= 2);
}

/* Writes the time bytes of `ram` for the given second. */
static void cmos_fill_time(const STATE *s, int64_t seconds, uint8_t *ram)
{
	int64_t tod = seconds % RTC_DAY_SECONDS, days, year;
	unsigned month, day;

	if (tod < 0)
		tod += RTC_DAY_SECONDS;
	days = (seconds - tod) / RTC_DAY_SECONDS;
	cmos_date(days, &year, &month, &day);
	ram[RTC_SECONDS] = cmos_encode(s, tod % 60);
	ram[RTC_MINUTES] = cmos_encode(s, tod / 60 % 60);
	ram[RTC_HOURS] = cmos_encode_hour(s, tod / 3600);
	/* The first of January 1970 was a Thursday. */
	ram[RTC_WEEKDAY] = cmos_encode(s, ((days + 4) % 7 + 7) % 7 + 1);
	ram[RTC_DAY] = cmos_encode(s, day);
	ram[RTC_MONTH] = cmos_encode(s, month);
	ram[RTC_YEAR] = cmos_encode(s, (year % 100 + 100) % 100);
	ram[CMOS_CENTURY] = cmos_encode(s, (year / 100 % 100 + 100) % 100);
}

/* The second that time bytes mean. Any bytes mean some second: a guest may write nonsense. */
static int64_t cmos_read_time(const STATE *s, const uint8_t *ram)
{
	unsigned month = cmos_decode(s, ram[RTC_MONTH]);
	int64_t year = cmos_decode(s, ram[CMOS_CENTURY]) * 100 + cmos_decode(s, ram[RTC_YEAR]);

	month = month < 1 ? 1 : month > 12 ? 12 : month;
	return cmos_days(year, month, cmos_decode(s, ram[RTC_DAY])) * RTC_DAY_SECONDS +
	       cmos_decode_hour(s, ram[RTC_HOURS]) * 3600 + cmos_decode(s, ram[RTC_MINUTES]) * 60 +
	       cmos_decode(s, ram[RTC_SECONDS]);
}

/* From now on it is `seconds`; what was missed by the jump raises no flag. */
static void cmos_set_time(struct cmos *cmos, int64_t seconds)
{
	STATE *s = &cmos->state;

	s->seconds_offset += (uint64_t)(seconds - cmos_time(cmos, NULL));
	s->seen_seconds = (uint64_t)seconds;
}

/*
 * The first second after `after`, within a day, that the alarm bytes match; INT64_MAX if none does. They
 * are compared as the chip does, byte with byte.
 */
static int64_t cmos_next_alarm(const STATE *s, int64_t after)
{
	const uint8_t hour = s->ram[RTC_HOURS_ALARM], minute = s->ram[RTC_MINUTES_ALARM],
		      second = s->ram[RTC_SECONDS_ALARM];
	int64_t at = after + 1, tod = at % RTC_DAY_SECONDS, left = RTC_DAY_SECONDS;

	if (tod < 0)
		tod += RTC_DAY_SECONDS;
	/*
	 * Steps by hours, minutes, seconds. What can match does so within 24 + 2 * 60 + 2 * 60 rounds; a second that
	 * no clock shows, in any minute of any hour, would take one for each second of the day.
	 */
	for (unsigned rounds = 0; left > 0 && rounds < RTC_ALARM_MAX; rounds++) {
		int64_t step;

		if (hour < RTC_DONT_CARE && hour != cmos_encode_hour(s, tod / 3600))
			step = 3600 - tod % 3600;
		else if (minute < RTC_DONT_CARE && minute != cmos_encode(s, tod / 60 % 60))
			step = 60 - tod % 60;
		else if (second < RTC_DONT_CARE && second != cmos_encode(s, tod % 60))
			step = 1;
		else
			return at;
		at += step;
		left -= step;
		tod = (tod + step) % RTC_DAY_SECONDS;
	}
	return INT64_MAX;
}

/* Ticks of the 32768 Hz divider chain in `ns`, and back (rounded up). */
static uint64_t cmos_ticks(uint64_t ns)
{
	return ns / NSEC_PER_SEC * RTC_BASE_HZ + ns % NSEC_PER_SEC * RTC_BASE_HZ / NSEC_PER_SEC;
}

static uint64_t cmos_tick_ns(uint64_t ticks)
{
	return ticks / RTC_BASE_HZ * NSEC_PER_SEC +
	       (ticks % RTC_BASE_HZ * NSEC_PER_SEC + RTC_BASE_HZ - 1) / RTC_BASE_HZ;
}

/* The periodic interrupt's period in ticks; 0: none. Rates 1 and 2 are those of 8 and 9. */
static uint64_t cmos_period(const STATE *s)
{
	unsigned rate = s->a & RTC_A_RATE;

	if (!rate || !cmos_divider_runs(s))
		return 0;
	return 1ULL << ((rate <= 2 ? rate + 7 : rate) - 1);
}

/* Clock time since the divider chain started; 0 before that, after a restored clock. */
static uint64_t cmos_divider_ns(const STATE *s, uint64_t now)
{
	return now > s->divider_start ? now - s->divider_start : 0;
}

/* Brings the flags up to date. */
static void cmos_catch_up(struct cmos *cmos)
{
	STATE *s = &cmos->state;
	uint64_t now = clock_now(&cmos->dev.vm->clock), period = cmos_period(s);
	int64_t seconds, seen = (int64_t)s->seen_seconds;

	if (period &&
		cmos_ticks(cmos_divider_ns(s, now)) / period != cmos_ticks(cmos_divider_ns(s, s->seen_ns)) / period)
		s->c |= RTC_B_PIE;
	s->seen_ns = now;
	if (cmos_held(s))
		return;
	seconds = cmos_time(cmos, NULL);
	if (seconds > seen) {
		s->c |= RTC_B_UIE;
		if (!(s->c & RTC_B_AIE) && cmos_next_alarm(s, seen) <= seconds)
			s->c |= RTC_B_AIE;
	}
	/* The host's clock may step back; the seconds that come again are news again. */
	s->seen_seconds = (uint64_t)seconds;
}

/* Drives the interrupt pin, and sets the timer for the next flag that would. */
static void cmos_update(struct cmos *cmos)
{
	STATE *s = &cmos->state;
	uint8_t waiting = s->b & ~s->c & RTC_C_FLAGS;
	uint64_t now = s->seen_ns, deadline = CLOCK_NEVER, period = cmos_period(s);
	int64_t wait = INT64_MAX, seconds;
	uint32_t ns;

	irq_set(&cmos->irq, s->b & s->c & RTC_C_FLAGS);
	if (waiting & RTC_B_PIE && period) {
		uint64_t tick = cmos_ticks(cmos_divider_ns(s, now)) / period * period + period;

		deadline = s->divider_start + cmos_tick_ns(tick);
	}
	if (waiting & (RTC_B_UIE | RTC_B_AIE) && !cmos_held(s)) {
		seconds = cmos_time(cmos, &ns);
		if (waiting & RTC_B_AIE) {
			int64_t next = cmos_next_alarm(s, seconds);

			wait = next == INT64_MAX ? next : next - seconds;
		}
		if (waiting & RTC_B_UIE)
			wait = 1;
		if (wait != INT64_MAX) {
			uint64_t at = now + (uint64_t)wait * NSEC_PER_SEC - ns;

			deadline = at < deadline ? at : deadline;
		}
	}
	if (deadline == CLOCK_NEVER)
		timer_cancel(&cmos->timer);
	else
		timer_arm(&cmos->timer, deadline);
}

static uint8_t cmos_read_a(struct cmos *cmos)
{
	STATE *s = &cmos->state;
	uint32_t ns;

	cmos_time(cmos, &ns);
	if (!cmos_held(s) && ns >= NSEC_PER_SEC - RTC_UPDATE_NS)
		return s->a | RTC_A_UIP;
	return s->a;
}

static uint8_t cmos_read_c(struct cmos *cmos)
{
	STATE *s = &cmos->state;
	uint8_t value;

	cmos_catch_up(cmos);
	value = s->c | (s->b & s->c & RTC_C_FLAGS ? RTC_C_IRQF : 0);
	s->c = 0;
	cmos_update(cmos);
	return value;
}

static uint8_t cmos_read(struct cmos *cmos, unsigned index)
{
	STATE *s = &cmos->state;
	uint8_t now[CMOS_BYTES];

	switch (index) {
	case RTC_A:
		return cmos_read_a(cmos);
	case RTC_B:
		return s->b;
	case RTC_C:
		return cmos_read_c(cmos);
	case RTC_D:
		return RTC_D_VALID;
	}
	if (!cmos_is_time(index) || cmos_held(s))
		return s->ram[index];
	cmos_fill_time(s, cmos_time(cmos, NULL), now);
	return now[index];
}

/* Writes A and B, which hold the clock, let it go, and change how it counts. */
static void cmos_control(struct cmos *cmos, uint8_t a, uint8_t b)
{
	STATE *s = &cmos->state;
	bool was_held = cmos_held(s), ran = cmos_divider_runs(s);

	cmos_catch_up(cmos);
	if (!was_held)
		cmos_fill_time(s, cmos_time(cmos, NULL), s->ram);
	s->a = a & ~RTC_A_UIP;
	/* Setting SET clears the update interrupt's enable. */
	s->b = b & RTC_B_SET ? b & ~RTC_B_UIE : b;
	if (!ran && cmos_divider_runs(s)) {
		uint32_t ns;

		s->divider_start = s->seen_ns;
		/* Half a second of the first second is gone. */
		cmos_time(cmos, &ns);
		s->phase = (uint32_t)((s->phase + NSEC_PER_SEC + RTC_RELEASE_NS - ns) % NSEC_PER_SEC);
	}
	if (was_held && !cmos_held(s))
		cmos_set_time(cmos, cmos_read_time(s, s->ram));
	cmos_update(cmos);
}

static void cmos_write(struct cmos *cmos, unsigned index, uint8_t value)
{
	STATE *s = &cmos->state;

	switch (index) {
	case RTC_A:
		cmos_control(cmos, value, s->b);
		return;
	case RTC_B:
		cmos_control(cmos, s->a, value);
		return;
	case RTC_C:
	case RTC_D:
		return;
	}
	cmos_catch_up(cmos);
	if (cmos_is_time(index) && !cmos_held(s)) {
		cmos_fill_time(s, cmos_time(cmos, NULL), s->ram);
		s->ram[index] = value;
		cmos_set_time(cmos, cmos_read_time(s, s->ram));
	} else {
		s->ram[index] = value;
	}
	cmos_update(cmos);
}

static void cmos_trap(void *arg, struct trap *trap)
{
	struct cmos *cmos = arg;
	STATE *s = &cmos->state;

	if (trap->offset == 0) {
		/* The index is for writing only. Its bit 7 masks NMIs, which is not the clock's business. */
		if (trap->write)
			s->index = trap->value & (CMOS_BYTES - 1);
	} else if (trap->write) {
		cmos_write(cmos, s->index, trap->value);
	} else {
		trap->value = cmos_read(cmos, s->index);
	}
}

static void cmos_timer(void *arg)
{
	struct cmos *cmos = arg;

	cmos_catch_up(cmos);
	cmos_update(cmos);
}

static void cmos_put16(uint8_t *ram, unsigned index, uint64_t value, uint64_t most)
{
	if (value > most)
		value = most;
	ram[index] = value & 0xff;
	ram[index + 1] = value >> 8 & 0xff;
}

/* What a PC's firmware leaves in the CMOS: memory sizes, equipment, and the checksum over 0x10 to 0x2d. */
static void cmos_firmware(struct cmos *cmos)
{
	const struct cmos_config *c = &cmos->config;
	uint8_t *ram = cmos->state.ram;
	uint64_t kib = c->ram_low >> 10, high = c->ram_high >> 16;
	unsigned sum = 0;

	if (!c->ram_low)
		return;
	ram[0x14] = 0x06; /* a coprocessor and a mouse; no diskette */
	cmos_put16(ram, 0x15, kib, 640);
	cmos_put16(ram, 0x17, kib > 1024 ? kib - 1024 : 0, 0xffff);
	cmos_put16(ram, 0x30, kib > 1024 ? kib - 1024 : 0, 0xffff);
	cmos_put16(ram, 0x34, kib > 16384 ? (kib - 16384) >> 6 : 0, 0xffff);
	high = high > 0xffffff ? 0xffffff : high;
	cmos_put16(ram, 0x5b, high & 0xffff, 0xffff);
	ram[0x5d] = (uint8_t)(high >> 16);
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += ram[i];
	ram[0x2e] = sum >> 8 & 0xff;
	ram[0x2f] = sum & 0xff;
}

/* A saved state is only as good as the file it came from: arithmetic must not overflow over it. */
static void cmos_sanitise(STATE *s)
{
	int64_t offset = (int64_t)s->seconds_offset;

	s->index %= CMOS_BYTES;
	s->phase %= NSEC_PER_SEC;
	if (offset < -RTC_OFFSET_MAX || offset > RTC_OFFSET_MAX)
		s->seconds_offset = 0;
	if ((int64_t)s->seen_seconds < -2 * RTC_OFFSET_MAX || (int64_t)s->seen_seconds > 2 * RTC_OFFSET_MAX)
		s->seen_seconds = 0;
}

/*
 * The RESET pin: interrupts off, flags down; the clock goes on. A guest that was reset while it held the clock would
 * leave it standing to the next one, which does not look: as a PC's firmware does, let it go.
 */
static void cmos_reset(struct device *dev)
{
	struct cmos *cmos = container_of(dev, struct cmos, dev);
	STATE *s = &cmos->state;

	cmos_sanitise(s);
	s->b &= ~(RTC_B_PIE | RTC_B_AIE | RTC_B_UIE | RTC_B_SQWE);
	cmos_control(cmos, cmos_divider_runs(s) ? s->a : RTC_A_POWER_ON, s->b & ~RTC_B_SET);
	s->c = 0;
	cmos_firmware(cmos);
	cmos_update(cmos);
}

static int cmos_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct cmos_config *c = config;
	struct cmos *cmos = calloc(1, sizeof(*cmos));

	if (!cmos)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&cmos->dev, &cmos_type, vm, name);
	device_region(&cmos->dev, &cmos->region, "rtc", 2, WIDTH_1, cmos_trap);
	/* The index is a latch: nothing follows from it before the data register is asked. */
	cmos->region.coalesce = 1;
	device_irq(&cmos->dev, &cmos->irq, "rtc", c ? c->trigger : IRQ_EDGE);
	timer_init(&cmos->timer, &vm->clock, cmos_timer, cmos, &cmos->dev.lock);
	if (c)
		cmos->config = *c;
	*out = &cmos->dev;
	return 0;
}

/* After a restore too: the timer follows from the state. */
static void cmos_start(struct device *dev)
{
	struct cmos *cmos = container_of(dev, struct cmos, dev);

	pthread_mutex_lock(&dev->lock);
	cmos_sanitise(&cmos->state);
	cmos_timer(cmos);
	pthread_mutex_unlock(&dev->lock);
}

static void cmos_destroy(struct device *dev)
{
	struct cmos *cmos = container_of(dev, struct cmos, dev);

	timer_cancel(&cmos->timer);
	device_fini(dev);
	free(cmos);
}

const struct device_type cmos_type = {
	.name = "mc146818",
	.acpi_hid = "PNP0B00",
	.drivers = "rtc",
	.state = cmos_fields,
	.state_offset = offsetof(struct cmos, state),
	.create = cmos_create,
	.start = cmos_start,
	.reset = cmos_reset,
	.destroy = cmos_destroy,
};
