/* SPDX-License-Identifier: BSD-2-Clause */
/* timings.c - microseconds of a start, collected and told. */
#include "machine/timings.h"

#include <stdio.h>
#include <time.h>

#include "core/say.h"

static uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void timings_begin(struct timings *t)
{
	t->before = now(CLOCK_PROCESS_CPUTIME_ID);
	t->began = t->last = now(CLOCK_MONOTONIC);
	t->n = 0;
}

void timings_mark(struct timings *t, const char *name)
{
	uint64_t ns = now(CLOCK_MONOTONIC);

	if (t->n < TIMINGS_MAX) {
		t->stages[t->n].name = name;
		t->stages[t->n++].ns = ns - t->last;
	}
	t->last = ns;
}

static double us(uint64_t ns)
{
	return (double)ns / 1000;
}

/* Names are ours, so nothing in them has to be escaped. */
static size_t print_json(const struct timings *t, char *text, size_t size)
{
	size_t n = (size_t)snprintf(text, size, "{\"before_cpu_us\": %.1f, \"stages\": [", us(t->before));

	for (unsigned i = 0; i < t->n; i++)
		n += (size_t)snprintf(text + n, size - n, "%s{\"name\": \"%s\", \"us\": %.1f}", i ? ", " : "",
			t->stages[i].name, us(t->stages[i].ns));
	n += (size_t)snprintf(text + n, size - n, "], \"total_us\": %.1f}\n", us(t->last - t->began));
	return n;
}

static size_t print_table(const struct timings *t, char *text, size_t size)
{
	size_t n =
		(size_t)snprintf(text, size, "trapline: processor time before the command %10.1f us\n", us(t->before));

	for (unsigned i = 0; i < t->n; i++)
		n += (size_t)snprintf(
			text + n, size - n, "trapline: %-33s %10.1f us\n", t->stages[i].name, us(t->stages[i].ns));
	n += (size_t)snprintf(text + n, size - n, "trapline: %-33s %10.1f us\n", "to the guest's first instruction",
		us(t->last - t->began));
	return n;
}

void timings_print(const struct timings *t)
{
	/* Of TIMINGS_MAX lines and two more, none over 100 bytes: a stage's name is one word. */
	char text[(TIMINGS_MAX + 2) * 100];

	say_text(text, t->json ? print_json(t, text, sizeof(text)) : print_table(t, text, sizeof(text)), SAY_MS);
}
