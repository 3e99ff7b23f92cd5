/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dispatch.c - what a trapped access costs from bus_access() to its handler and back, beside the reference.
 *
 * One process, one set of devices, one list of random addresses for both dispatchers. Their rounds alternate,
 * with several passes over all rows, so that a moment in which the machine is busy hits all alike. Figures are
 * nanoseconds of wall time per access of one thread. For one thread alone it is the fastest round: what is slower
 * than that, the machine's other work did. For two it is the first quartile: in the fastest round of all they may
 * hardly have met. Handlers read or write a register of their device. Two threads want two CPUs that have nothing
 * else to do, and 65,536 regions a far cache that nobody else uses: they need some 10 MiB of it, and on a shared
 * machine get it now and then only; the quartile beside tells.
 */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"
#include "reference.h"

#define ADDRESSES   (1 << 17) /* of one thread */
#define BASE        0x10000000
#define PASSES      3
#define ROUNDS      11      /* of each pass */
#define SLICE_NS    2000000 /* a round of one dispatcher with one number of threads */
#define MAX_THREADS 2

enum layout { MIXED, WIDE, LOCKED };
enum sharing { DIFFERENT, SAME };
enum dispatcher { OURS, REFERENCE, NR_DISPATCHERS };

static const char *const layout_names[] = { "mixed", "wide", "locked" };
static const char *const sharing_names[] = { "different", "same" };

/* What a handler touches. As everywhere in the project, the chip is one thing and its attachment another. */
struct chip {
	uint32_t regs[16];
};

struct attachment {
	struct region region;
	pthread_mutex_t lock;
};

struct worker {
	struct bench *bench;
	struct initiator from;
	pthread_t thread;
	uint32_t *addrs[MAX_THREADS + 1]; /* by threads; from BASE, in units of 4 bytes, to be small in the caches */
	unsigned id;
	double ns;
};

/* One row of the table: a population of regions and a way to use it. */
struct bench {
	enum layout layout;
	enum sharing sharing;
	unsigned regions;
	struct bus *bus;
	struct reference *ref;
	struct chip *chips;
	struct attachment *attachments;
	struct worker workers[MAX_THREADS];
	enum dispatcher dispatcher; /* of this round, as are the next two */
	unsigned nr_threads, accesses;
	pthread_barrier_t start;
	unsigned nr_rounds, slice[NR_DISPATCHERS][MAX_THREADS + 1];
	double rounds[NR_DISPATCHERS][MAX_THREADS + 1][PASSES * ROUNDS];
	double fastest[NR_DISPATCHERS][MAX_THREADS + 1]; /* by number of threads */
	double quartile[NR_DISPATCHERS][MAX_THREADS + 1];
};

static uint64_t seed = 1;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "dispatch: %s\n", what);
	exit(2);
}

static void chip_trap(void *dev, struct trap *trap)
{
	struct chip *chip = dev;

	if (trap->write)
		chip->regs[trap->offset / 4 % 16] = (uint32_t)trap->value;
	else
		trap->value = chip->regs[trap->offset / 4 % 16];
}

/* Sizes that BARs and legacy chips have; every fourth is crowded into the page of the one before. */
static uint64_t region_size(enum layout layout)
{
	static const uint64_t mixed[] = { 0x8, 0x20, 0x80, 0x100, 0x200, 0x1000, 0x1000, 0x4000 };
	static const uint64_t wide[] = { 0x20000, 0x40000, 0x100000, 0x800000 };

	return layout == WIDE ? wide[rnd() % 4] : mixed[rnd() % 8];
}

static void *slab(size_t size)
{
	size_t huge = 2 << 20;
	void *memory;

	size = (size + huge - 1) & -huge;
	memory = aligned_alloc(huge, size);
	if (!memory)
		die("no memory");
	return memset(memory, 0, size);
}

static void populate(struct bench *b)
{
	struct edit *edits = calloc(b->regions, sizeof(*edits));
	uint64_t base = BASE;

	b->bus = bus_new();
	b->ref = reference_new();
	b->chips = slab(b->regions * sizeof(*b->chips));
	b->attachments = slab(b->regions * sizeof(*b->attachments));
	if (!edits || !b->bus || !b->ref)
		die("no memory");
	for (unsigned i = 0; i < b->regions; i++) {
		struct attachment *a = &b->attachments[i];
		uint64_t size = region_size(b->layout);

		base = (base + size - 1) & -size;
		pthread_mutex_init(&a->lock, NULL);
		a->region = (struct region){ .name = "chip",
			.space = SPACE_MMIO,
			.base = base,
			.size = size,
			.widths = WIDTH_1 | WIDTH_2 | WIDTH_4,
			.fn = chip_trap,
			.dev = &b->chips[i],
			.lock = b->layout == LOCKED ? &a->lock : NULL };
		edits[i] = (struct edit){ .op = EDIT_ADD, .region = &a->region };
		if (reference_add(b->ref, base, size, chip_trap, &b->chips[i], a->region.lock))
			die("no memory");
		base += size;
		if (rnd() % 4)
			base = (base + 0xfff) & ~(uint64_t)0xfff;
	}
	if (bus_edit(b->bus, edits, b->regions, NULL, NULL))
		die("cannot populate the bus");
	free(edits);
}

/* One thread alone uses all chips, two use the even and the odd ones; or all the same one. */
static void choose_addresses(struct bench *b)
{
	unsigned one = (unsigned)(rnd() % b->regions);

	for (unsigned w = 0; w < MAX_THREADS; w++) {
		struct worker *worker = &b->workers[w];

		worker->bench = b;
		worker->id = w;
		worker->from.name = "bench";
		bus_attach(b->bus, &worker->from);
		for (unsigned threads = 1; threads <= MAX_THREADS; threads++) {
			uint32_t *addrs = worker->addrs[threads] = slab(ADDRESSES * sizeof(*addrs));

			for (unsigned i = 0; i < ADDRESSES; i++) {
				unsigned chip = (unsigned)(rnd() % (b->regions / threads)) * threads + w % threads;
				struct region *region = &b->attachments[b->sharing == SAME ? one : chip].region;

				addrs[i] = (uint32_t)((region->base - BASE) / 4 + rnd() % (region->size / 4));
			}
		}
	}
}

/* Reads, and between different devices every other a write: two threads that write one register pay for that. */
static uint32_t access_all(struct worker *w, unsigned n)
{
	struct bench *b = w->bench;
	const uint32_t *addrs = w->addrs[b->nr_threads];
	unsigned writes = b->sharing == DIFFERENT;
	uint32_t data = 0, sum = 0;

	for (unsigned i = 0; i < n; i++, sum += data) {
		uint64_t addr = BASE + 4 * (uint64_t)addrs[i % ADDRESSES];

		if (b->dispatcher == OURS)
			bus_access(b->bus, &w->from, SPACE_MMIO, addr, &data, 4, 1, i & writes);
		else
			reference_access(b->ref, addr, &data, 4, i & writes);
	}
	return sum;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint32_t sum;
	cpu_set_t cpus;
	double start;

	CPU_ZERO(&cpus);
	CPU_SET(w->id, &cpus);
	(void)sched_setaffinity(0, sizeof(cpus), &cpus); /* steadier where it works; nothing depends on it */
	bus_thread_enter();
	/* The other dispatcher was at the caches. */
	sum = access_all(w, w->bench->regions * 2 > ADDRESSES / 4 ? w->bench->regions * 2 : ADDRESSES / 4);
	pthread_barrier_wait(&w->bench->start);
	start = now_ns();
	sum += access_all(w, w->bench->accesses);
	w->ns = (now_ns() - start) / w->bench->accesses;
	bus_thread_leave();
	return (void *)(uintptr_t)sum;
}

static double round_ns(struct bench *b, enum dispatcher dispatcher, unsigned nr_threads, unsigned accesses)
{
	double ns = 0;

	b->dispatcher = dispatcher;
	b->nr_threads = nr_threads;
	b->accesses = accesses;
	pthread_barrier_init(&b->start, NULL, nr_threads);
	for (unsigned t = 0; t < nr_threads; t++) {
		if (pthread_create(&b->workers[t].thread, NULL, work, &b->workers[t]))
			die("cannot start a thread");
	}
	for (unsigned t = 0; t < nr_threads; t++) {
		pthread_join(b->workers[t].thread, NULL);
		ns += b->workers[t].ns / nr_threads;
	}
	pthread_barrier_destroy(&b->start);
	return ns;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void measure(struct bench *b)
{
	for (unsigned r = 0; r < ROUNDS; r++, b->nr_rounds++) {
		for (unsigned t = 1; t <= MAX_THREADS; t++) {
			for (int d = 0; d < NR_DISPATCHERS; d++)
				b->rounds[d][t][b->nr_rounds] = round_ns(b, (enum dispatcher)d, t, b->slice[d][t]);
		}
	}
}

static void set_up(struct bench *b)
{
	populate(b);
	choose_addresses(b);
	/* How many accesses fill a slice; with many regions, not so few that most are met but once. */
	for (int d = 0; d < NR_DISPATCHERS; d++) {
		for (unsigned t = 1; t <= MAX_THREADS; t++) {
			double n = SLICE_NS / round_ns(b, (enum dispatcher)d, t, ADDRESSES / 4);

			b->slice[d][t] = n > 4 * b->regions ? (unsigned)n : 4 * b->regions;
		}
	}
}

static void tear_down(struct bench *b)
{
	for (int d = 0; d < NR_DISPATCHERS; d++) {
		for (unsigned t = 1; t <= MAX_THREADS; t++) {
			double *rounds = b->rounds[d][t];

			qsort(rounds, b->nr_rounds, sizeof(*rounds), by_value);
			b->fastest[d][t] = rounds[0];
			b->quartile[d][t] = rounds[b->nr_rounds / 4];
		}
	}
	for (unsigned w = 0; w < MAX_THREADS; w++) {
		bus_detach(&b->workers[w].from);
		for (unsigned t = 1; t <= MAX_THREADS; t++)
			free(b->workers[w].addrs[t]);
	}
	bus_free(b->bus);
	reference_free(b->ref);
	free(b->chips);
	free(b->attachments);
}

static void *mutex_pairs(void *arg)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	double *ns = arg, rounds[ROUNDS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		double start = now_ns();

		for (unsigned i = 0; i < 100000; i++) {
			pthread_mutex_lock(&lock);
			pthread_mutex_unlock(&lock);
		}
		rounds[r] = (now_ns() - start) / 100000;
	}
	qsort(rounds, ROUNDS, sizeof(rounds[0]), by_value);
	*ns = rounds[0];
	return NULL;
}

/* In a second thread: glibc's mutexes are cheaper while a process has but one. */
static double mutex_pair_ns(void)
{
	pthread_t thread;
	double ns = 0;

	if (pthread_create(&thread, NULL, mutex_pairs, &ns))
		die("cannot start a thread");
	pthread_join(thread, NULL);
	return ns;
}

static struct bench benches[] = {
	{ .layout = MIXED, .sharing = DIFFERENT, .regions = 16 },
	{ .layout = MIXED, .sharing = DIFFERENT, .regions = 64 },
	{ .layout = MIXED, .sharing = DIFFERENT, .regions = 1024 },
	{ .layout = MIXED, .sharing = DIFFERENT, .regions = 65536 },
	{ .layout = MIXED, .sharing = SAME, .regions = 16 },
	{ .layout = MIXED, .sharing = SAME, .regions = 64 },
	{ .layout = MIXED, .sharing = SAME, .regions = 1024 },
	{ .layout = MIXED, .sharing = SAME, .regions = 65536 },
	{ .layout = WIDE, .sharing = DIFFERENT, .regions = 64 },
	{ .layout = WIDE, .sharing = DIFFERENT, .regions = 1024 },
	{ .layout = LOCKED, .sharing = DIFFERENT, .regions = 64 },
};
#define NR_BENCHES (sizeof(benches) / sizeof(benches[0]))

static const struct bench *bench_of(enum layout layout, enum sharing sharing, unsigned regions)
{
	for (unsigned i = 0; i < NR_BENCHES; i++) {
		const struct bench *b = &benches[i];

		if (b->layout == layout && b->sharing == sharing && b->regions == regions)
			return b;
	}
	die("no such row");
	return NULL;
}

struct target {
	char text[96];
	double value, limit;
	bool at_least;
};

static bool met(const struct target *t)
{
	return t->at_least ? t->value >= t->limit : t->value <= t->limit;
}

static void add(struct target **t, const char *text, double value, double limit, bool at_least)
{
	**t = (struct target){ .value = value, .limit = limit, .at_least = at_least };
	snprintf((*t)->text, sizeof((*t)->text), "%s", text);
	++*t;
}

static unsigned judge(struct target *targets)
{
	const struct bench *b16 = bench_of(MIXED, DIFFERENT, 16), *b64 = bench_of(MIXED, DIFFERENT, 64),
			   *b64k = bench_of(MIXED, DIFFERENT, 65536);
	struct target *t = targets;
	char text[sizeof(t->text)];

	add(&t, "64 regions, 1 thread: reference / ours", b64->fastest[REFERENCE][1] / b64->fastest[OURS][1], 3, true);
	for (int s = DIFFERENT; s <= SAME; s++) {
		const struct bench *b = bench_of(MIXED, (enum sharing)s, 64);

		snprintf(text, sizeof(text), "64 regions, 2 threads, %s: reference / ours", sharing_names[s]);
		add(&t, text, b->quartile[REFERENCE][2] / b->quartile[OURS][2], 10, true);
	}
	for (unsigned i = 0; i < NR_BENCHES; i++) {
		const struct bench *b = &benches[i];

		if (b->layout != MIXED)
			continue;
		snprintf(text, sizeof(text), "%u regions, %s: 2 threads / 1", b->regions, sharing_names[b->sharing]);
		add(&t, text, b->quartile[OURS][2] / b->quartile[OURS][1], 1.3, false);
	}
	add(&t, "1 thread: 65536 regions / 16", b64k->fastest[OURS][1] / b16->fastest[OURS][1], 5, false);
	return (unsigned)(t - targets);
}

static void print_table(double pair, const struct target *targets, unsigned nr_targets)
{
	const struct bench *b = bench_of(MIXED, DIFFERENT, 64);

	printf("ns per access and thread: alone, the fastest of %d rounds (their first quartile); two threads, the\n"
	       "first quartile; a bare mutex pair: %.1f ns\n\n",
		PASSES * ROUNDS, pair);
	printf("%-8s %-10s %8s | %15s %8s | %15s %8s | %6s %6s\n", "layout", "devices", "regions", "ours 1T        ",
		"2T", "reference 1T   ", "2T", "x 1T", "x 2T");
	for (b = benches; b < benches + NR_BENCHES; b++) {
		printf("%-8s %-10s %8u", layout_names[b->layout], sharing_names[b->sharing], b->regions);
		for (int d = 0; d < NR_DISPATCHERS; d++)
			printf(" | %7.1f (%5.1f) %8.1f", b->fastest[d][1], b->quartile[d][1], b->quartile[d][2]);
		printf(" | %6.1f %6.1f\n", b->fastest[REFERENCE][1] / b->fastest[OURS][1],
			b->quartile[REFERENCE][2] / b->quartile[OURS][2]);
	}
	printf("\n");
	for (const struct target *t = targets; t < targets + nr_targets; t++) {
		printf("%-4s %-52s %6.2f (%s %g)\n", met(t) ? "ok" : "MISS", t->text, t->value,
			t->at_least ? "at least" : "at most", t->limit);
	}
}

static void print_json(FILE *out, double pair, const struct target *targets, unsigned nr_targets)
{
	fprintf(out, "{\"mutex_pair_ns\": %.2f, \"rounds\": %d, \"rows\": [", pair, PASSES * ROUNDS);
	for (const struct bench *b = benches; b < benches + NR_BENCHES; b++) {
		fprintf(out, "%s\n  {\"layout\": \"%s\", \"devices\": \"%s\", \"regions\": %u", b == benches ? "" : ",",
			layout_names[b->layout], sharing_names[b->sharing], b->regions);
		for (int d = 0; d < NR_DISPATCHERS; d++)
			fprintf(out, ", \"%s\": {\"fastest_ns\": [%.2f, %.2f], \"quartile_ns\": [%.2f, %.2f]}",
				d == OURS ? "ours" : "reference", b->fastest[d][1], b->fastest[d][2], b->quartile[d][1],
				b->quartile[d][2]);
		fprintf(out, "}");
	}
	fprintf(out, "],\n \"targets\": [");
	for (const struct target *t = targets; t < targets + nr_targets; t++) {
		fprintf(out, "%s\n  {\"target\": \"%s\", \"value\": %.3f, \"%s\": %g, \"met\": %s}",
			t == targets ? "" : ",", t->text, t->value, t->at_least ? "min" : "max", t->limit,
			met(t) ? "true" : "false");
	}
	fprintf(out, "]}\n");
}

/*
 * Starts the program again with huge pages for all of its heap, ours and the reference's, where the host gives
 * them to who asks (on most they are given unasked): it is the dispatch that is measured, not page walks.
 */
static void ask_for_huge_pages(char **argv)
{
	const char *name = "GLIBC_TUNABLES";

	if (!getenv(name) && setenv(name, "glibc.malloc.hugetlb=1", 1) == 0)
		execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "json", required_argument, NULL, 'j' },
		{ "check", no_argument, NULL, 'c' }, { NULL, 0, NULL, 0 } };
	struct target targets[16];
	bool check = false, missed = false;
	FILE *json = NULL;
	unsigned nr_targets;
	double pair;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == '?') {
			fprintf(stderr, "usage: %s [--json=FILE] [--check]\n", argv[0]);
			return 2;
		}
		if (opt == 'j' && !(json = fopen(optarg, "we")))
			die("cannot write the JSON");
		check |= opt == 'c';
	}
	ask_for_huge_pages(argv);
	bus_thread_enter();
	for (unsigned i = 0; i < NR_BENCHES; i++)
		set_up(&benches[i]);
	for (unsigned i = 0; i < PASSES * NR_BENCHES; i++)
		measure(&benches[i % NR_BENCHES]);
	for (unsigned i = 0; i < NR_BENCHES; i++)
		tear_down(&benches[i]);
	pair = mutex_pair_ns();
	bus_thread_leave();
	nr_targets = judge(targets);
	print_table(pair, targets, nr_targets);
	if (json) {
		print_json(json, pair, targets, nr_targets);
		fclose(json);
	}
	for (unsigned i = 0; i < nr_targets; i++)
		missed |= !met(&targets[i]);
	return check && missed;
}
