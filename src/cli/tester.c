/* SPDX-License-Identifier: BSD-2-Clause */
/* tester.c - the commands of `trapline device-test`: a table of them, each of which makes the rest of an "ok" line. */
#include "cli/tester.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/json.h"

#define BYTES_MAX  4096 /* that one command moves */
#define COUNT_MAX  1024 /* accesses of one command */
#define STEP_MAX   (86400 * NSEC_PER_SEC)
#define CLOCK_MAX  (1LL << 61) /* ns, some 73 years: sums of such times fit */
#define WORD_SHOWN 40

/* 0, or -errno with a line in `err`. argv[0] is the command's name. */
typedef int command_fn(struct tester *t, unsigned argc, char **argv, struct error *err);

struct tester_command {
	const char *name, *arguments, *summary;
	unsigned min, max; /* how many arguments */
	command_fn *fn;
};

/* ---- answers ---- */

static void add_bytes(struct tester *t, const char *bytes, size_t n)
{
	if (t->length + n > t->size) {
		size_t size = (t->length + n) * 2;
		char *text = realloc(t->text, size);

		if (!text) {
			t->cut = true;
			return;
		}
		t->text = text;
		t->size = size;
	}
	memcpy(t->text + t->length, bytes, n);
	t->length += n;
}

static void add(struct tester *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct tester *t, const char *fmt, ...)
{
	char piece[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(piece, sizeof(piece), fmt, ap);
	va_end(ap);
	add_bytes(t, piece, n < (int)sizeof(piece) ? (size_t)n : sizeof(piece) - 1);
}

static void add_hex(struct tester *t, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(t, "%02x", bytes[i]);
}

static int add_json(struct tester *t, json_t *json, struct error *err)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r = json_load(err);

	json_decref(json);
	if (!text)
		return r ? r : error_set(err, -ENOMEM, "no memory for the JSON");
	add_bytes(t, " ", 1);
	add_bytes(t, text, strlen(text));
	free(text);
	return 0;
}

static void say(struct tester *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct tester *t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	/* What devices and users put into a text may be any bytes. */
	for (int i = 0; i < n; i++) {
		if ((unsigned char)line[i] < ' ' || (unsigned char)line[i] > '~')
			line[i] = '?';
	}
	line[n++] = '\n';
	t->say(t->say_arg, line, (size_t)n);
}

void tester_refuse(struct tester *t, const char *why)
{
	say(t, "error %s", why);
}

/* ---- words ---- */

/* A number as in C, but without octal ones: decimal, or hexadecimal after 0x. */
static int number(const char *word, const char *what, uint64_t most, uint64_t *value, struct error *err)
{
	bool hex = word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
	const char *digits = hex ? word + 2 : word;
	char *end;

	errno = 0;
	*value = strtoull(digits, &end, hex ? 16 : 10);
	if (!(hex ? isxdigit((unsigned char)digits[0]) : isdigit((unsigned char)digits[0])) || *end)
		return error_set(err, -EINVAL, "%s: '%.*s' is not a number", what, WORD_SHOWN, word);
	if (errno || *value > most)
		return error_set(err, -ERANGE, hex ? "%s: %.*s is beyond 0x%" PRIx64 : "%s: %.*s is beyond %" PRIu64,
			what, WORD_SHOWN, word, most);
	return 0;
}

static int nanoseconds(const char *word, int64_t most, int64_t *value, struct error *err)
{
	bool minus = word[0] == '-';
	uint64_t n;
	int r = number(word + minus, "NS", (uint64_t)most, &n, err);

	*value = minus ? -(int64_t)n : (int64_t)n;
	return r;
}

static int space_of(const char *word, enum space *space, struct error *err)
{
	for (unsigned i = 0; i < NR_SPACES; i++) {
		if (strcmp(word, space_name((enum space)i)) == 0) {
			*space = (enum space)i;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "SPACE: '%.*s' is neither pio nor mmio", WORD_SHOWN, word);
}

static int nibble(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Pairs of hexadecimal digits. Returns how many bytes, or -errno. */
static int hex_bytes(const char *word, uint8_t *bytes, struct error *err)
{
	size_t n = strlen(word);

	if (n % 2 || n / 2 > BYTES_MAX || n != strspn(word, "0123456789abcdefABCDEF"))
		return error_set(err, -EINVAL, "HEX: pairs of hexadecimal digits, at most %u", BYTES_MAX);
	for (size_t i = 0; i < n / 2; i++)
		bytes[i] = (uint8_t)(nibble(word[2 * i]) << 4 | nibble(word[2 * i + 1]));
	return (int)(n / 2);
}

/* ---- accesses ---- */

struct access {
	enum space space;
	uint64_t addr, len;
	uint8_t data[8 * COUNT_MAX];
};

static int parse_access(struct access *access, char **argv, struct error *err)
{
	int r = space_of(argv[1], &access->space, err);

	if (r == 0)
		r = number(argv[2], "ADDR", UINT64_MAX, &access->addr, err);
	if (r == 0)
		r = number(argv[3], "LEN", 8, &access->len, err);
	if (r == 0 && access->len == 0)
		r = error_set(err, -EINVAL, "LEN: 1 to 8");
	return r;
}

static void carry_out(struct tester *t, struct access *access, unsigned count, bool write)
{
	unsigned claimed = bus_access(t->machine->vm.bus, &t->from, access->space, access->addr, access->data,
		(unsigned)access->len, count, write);

	bus_throttle(t->machine->vm.bus);
	add(t, " %u", claimed);
}

static int cmd_read(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct access access;
	uint64_t count = 1;
	int r = parse_access(&access, argv, err);

	if (r == 0 && argc > 4)
		r = number(argv[4], "COUNT", COUNT_MAX, &count, err);
	if (r == 0 && count == 0)
		r = error_set(err, -EINVAL, "COUNT: 1 to %u", COUNT_MAX);
	if (r)
		return r;
	carry_out(t, &access, (unsigned)count, false);
	for (uint64_t i = 0; i < count; i++) {
		add(t, " 0x");
		for (uint64_t byte = access.len; byte > 0; byte--)
			add(t, "%02x", access.data[i * access.len + byte - 1]);
	}
	return 0;
}

static int cmd_write(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct access access;
	unsigned count = argc - 4;
	int r = parse_access(&access, argv, err);

	if (r)
		return r;
	for (unsigned i = 0; i < count; i++) {
		uint64_t value;

		r = number(argv[4 + i], "VALUE", UINT64_MAX >> (64 - 8 * access.len), &value, err);
		if (r)
			return r;
		for (uint64_t byte = 0; byte < access.len; byte++)
			access.data[i * access.len + byte] = (uint8_t)(value >> 8 * byte);
	}
	carry_out(t, &access, count, true);
	return 0;
}

static int cmd_mem(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct mem *mem = &t->machine->vm.mem;
	uint8_t bytes[BYTES_MAX];
	uint64_t gpa, n;
	int r = number(argv[2], "GPA", UINT64_MAX, &gpa, err);

	if (r)
		return r;
	if (strcmp(argv[1], "read") == 0) {
		r = number(argv[3], "LEN", BYTES_MAX, &n, err);
		if (r == 0 && mem_read(mem, gpa, bytes, n))
			r = error_set(err, -EFAULT, "no memory at all of 0x%" PRIx64 " and %" PRIu64 " bytes", gpa, n);
		if (r)
			return r;
		add_bytes(t, " ", 1);
		add_hex(t, bytes, n);
		return 0;
	}
	if (strcmp(argv[1], "write") != 0)
		return error_set(err, -EINVAL, "'%.*s' is neither read nor write", WORD_SHOWN, argv[1]);
	r = hex_bytes(argv[3], bytes, err);
	if (r < 0)
		return r;
	n = (uint64_t)r;
	if (mem_write(mem, gpa, bytes, n))
		return error_set(err, -EFAULT, "no RAM at all of 0x%" PRIx64 " and %" PRIu64 " bytes", gpa, n);
	return 0;
}

/* ---- time ---- */

static int clock_step_by(struct clock *clock, const char *word, struct error *err)
{
	int64_t ns;
	int r = nanoseconds(word, STEP_MAX, &ns, err);

	if (r == 0 && ns < 0)
		r = error_set(err, -EINVAL, "NS: a machine's time does not go backward; see 'clock jump'");
	if (r == 0 && clock_now(clock) + (uint64_t)ns > CLOCK_MAX)
		r = error_set(err, -ERANGE, "NS: the clock ends at %lld", CLOCK_MAX);
	if (r == 0)
		clock_step(clock, (uint64_t)ns);
	return r;
}

static int clock_jump_by(struct clock *clock, const char *word, struct error *err)
{
	int64_t ns, to;
	int r = nanoseconds(word, CLOCK_MAX, &ns, err);

	to = r ? 0 : clock->epoch + ns;
	if (to > CLOCK_MAX || to < -CLOCK_MAX)
		r = error_set(err, -ERANGE, "NS: the time of day would begin beyond %lld", CLOCK_MAX);
	if (r == 0)
		clock_jump(clock, ns);
	return r;
}

static int cmd_clock(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct clock *clock = &t->machine->vm.clock;
	int r = 0;

	if (strcmp(argv[1], "get") == 0 ? argc != 2 : argc != 3)
		return error_set(err, -EINVAL, "clock get, clock step NS or clock jump NS");
	if (strcmp(argv[1], "step") == 0)
		r = clock_step_by(clock, argv[2], err);
	else if (strcmp(argv[1], "jump") == 0)
		r = clock_jump_by(clock, argv[2], err);
	else if (strcmp(argv[1], "get") != 0)
		r = error_set(err, -EINVAL, "'%.*s' is none of get, step, jump", WORD_SHOWN, argv[1]);
	if (r == 0)
		add(t, " %" PRIu64 " %" PRId64, clock_now(clock), clock_wall(clock));
	return r;
}

/* ---- interrupts ---- */

static void set_line(void *chip, unsigned line, bool level)
{
	struct tester *t = chip;

	t->lines[line].raised += level && !t->lines[line].level;
	t->lines[line].level = level;
}

static void send_msi(void *chip, struct irq_message message)
{
	struct tester *t = chip;

	t->msis[t->nr_msis++ % TESTER_MSIS] = (struct tester_msi){ message.addr, message.data };
}

static const struct irqchip_ops tester_chip = { .set_line = set_line, .send_msi = send_msi };

static int cmd_irq(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct irq_router *router = &t->machine->vm.irqs;
	uint64_t first = 0, last = IRQ_LINES - 1;

	if (argc > 1) {
		int r = number(argv[1], "LINE", IRQ_LINES - 1, &first, err);

		if (r)
			return r;
		last = first;
	}
	pthread_mutex_lock(&router->lock);
	for (uint64_t line = first; line <= last; line++) {
		const struct tester_line *l = &t->lines[line];

		if (argc > 1)
			add(t, " %d %" PRIu64, l->level, l->raised);
		else if (router->lines[line].sources || l->raised)
			add(t, " %" PRIu64 "=%d/%" PRIu64, line, l->level, l->raised);
	}
	pthread_mutex_unlock(&router->lock);
	return 0;
}

static int cmd_msi(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	struct irq_router *router = &t->machine->vm.irqs;

	pthread_mutex_lock(&router->lock);
	add(t, " %" PRIu64, t->nr_msis);
	for (uint64_t i = t->nr_msis > TESTER_MSIS ? t->nr_msis - TESTER_MSIS : 0; i < t->nr_msis; i++)
		add(t, " 0x%" PRIx64 "=0x%" PRIx32, t->msis[i % TESTER_MSIS].addr, t->msis[i % TESTER_MSIS].data);
	t->nr_msis = 0;
	pthread_mutex_unlock(&router->lock);
	return 0;
}

/* ---- the console's wire ---- */

/* What a port has sent since the last time. */
static void serial_get(struct tester *t, unsigned port)
{
	int fd = t->machine->config.consoles[port].fd;
	uint8_t bytes[BYTES_MAX];
	ssize_t got;

	chardev_flush(t->machine->vm.ports[port], 0);
	got = pread(fd, bytes, BYTES_MAX, t->taken[port]);
	got = got > 0 ? got : 0;
	t->taken[port] += got;
	add_bytes(t, " ", 1);
	add_hex(t, bytes, (size_t)got);
	/* All is read: the file begins anew, so that it does not grow for ever. */
	if (got < BYTES_MAX && ftruncate(fd, 0) == 0)
		t->taken[port] = lseek(fd, 0, SEEK_SET);
}

static int cmd_serial(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	uint8_t bytes[BYTES_MAX];
	uint64_t port;
	int n = number(argv[1], "PORT", VM_PORTS - 1, &port, err);

	if (n)
		return n;
	if (strcmp(argv[2], "get") == 0 && argc == 3) {
		serial_get(t, (unsigned)port);
		return 0;
	}
	if (strcmp(argv[2], "put") != 0 || argc != 4)
		return error_set(err, -EINVAL, "usage: serial PORT get, or serial PORT put HEX");
	n = hex_bytes(argv[3], bytes, err);
	if (n < 0)
		return n;
	add(t, " %zu", chardev_feed(t->machine->vm.ports[port], bytes, (size_t)n));
	return 0;
}

/* ---- what there is ---- */

static int cmd_map(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	return add_json(t, machine_bus_json(t->machine), err);
}

static int cmd_devices(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	return add_json(t, machine_devices_json(t->machine), err);
}

static int cmd_pci(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	return add_json(t, machine_pci_json(t->machine), err);
}

static int cmd_windows(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	return add_json(t, machine_windows_json(t->machine), err);
}

static void count_region(struct region *region, void *array)
{
	struct region_count count = region_counts(region);
	const struct device *dev = region->owner;

	json_array_append_new(
		array, json_pack("{s:s, s:I, s:s, s:s?, s:I, s:I}", "space", space_name(region->space), "base",
			       (json_int_t)region->base, "name", region->name, "device", dev ? dev->name : NULL,
			       "reads", (json_int_t)count.reads, "writes", (json_int_t)count.writes));
}

static int cmd_counters(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	json_t *regions = json_array(), *unclaimed = json_object();
	struct vm *vm = &t->machine->vm;

	for (unsigned i = 0; i < NR_SPACES; i++) {
		bus_for_each(vm->bus, (enum space)i, count_region, regions);
		json_object_set_new(unclaimed, space_name((enum space)i),
			json_pack("{s:I, s:I, s:I}", "reads", (json_int_t)t->from.unclaimed_reads[i], "writes",
				(json_int_t)t->from.unclaimed_writes[i], "wrong_width",
				(json_int_t)t->from.wrong_width[i]));
	}
	return add_json(t,
		json_pack("{s:o, s:o, s:I, s:I}", "regions", regions, "unclaimed", unclaimed, "guest_faults",
			(json_int_t)__atomic_load_n(&vm->guest_faults, __ATOMIC_RELAXED), "resets",
			(json_int_t)t->machine->resets),
		err);
}

/* ---- the machine's life ---- */

static int cmd_press(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	bool sleeps = strcmp(argv[1], "sleep") == 0;

	if (!sleeps && strcmp(argv[1], "power") != 0)
		return error_set(err, -EINVAL, "'%.*s' is neither power nor sleep", WORD_SHOWN, argv[1]);
	add(t, " %d", vm_press(&t->machine->vm, sleeps ? BUTTON_SLEEP : BUTTON_POWER));
	return 0;
}

static int cmd_link(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	list_for_each (node, &t->machine->vm.links) {
		struct vm_link *link = container_of(node, struct vm_link, node);

		if (strcmp(link->name, argv[1]) != 0)
			continue;
		if (argc > 2 && strcmp(argv[2], "up") != 0 && strcmp(argv[2], "down") != 0)
			return error_set(err, -EINVAL, "'%.*s' is neither up nor down", WORD_SHOWN, argv[2]);
		if (argc > 2) {
			link->wanted = strcmp(argv[2], "up") == 0;
			link->set(link, link->wanted);
		}
		add(t, " %d", link->up(link));
		return 0;
	}
	return error_set(err, -ENODEV, "no network device '%.*s'", WORD_SHOWN, argv[1]);
}

static int cmd_key(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	uint8_t codes[BYTES_MAX];
	int n = hex_bytes(argv[1], codes, err);

	if (n < 0)
		return n;
	add(t, " %d", vm_key(&t->machine->vm, codes, (size_t)n));
	return 0;
}

/* "-300": counts of movement, in either direction. */
static int counts(const char *word, const char *what, int *value, struct error *err)
{
	uint64_t size;
	int r = number(word + (*word == '-'), what, INT16_MAX, &size, err);

	*value = r ? 0 : *word == '-' ? -(int)size : (int)size;
	return r;
}

static int cmd_mouse(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	uint64_t buttons;
	int dx, dy, r = counts(argv[1], "DX", &dx, err);

	if (r == 0)
		r = counts(argv[2], "DY", &dy, err);
	if (r == 0)
		r = number(argv[3], "BUTTONS", 7, &buttons, err);
	if (r)
		return r;
	add(t, " %d", vm_mouse(&t->machine->vm, dx, dy, (uint8_t)buttons));
	return 0;
}

static int cmd_reset(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	int r = machine_reset(t->machine, err);

	t->lost = r != 0;
	return r;
}

static int cmd_pause(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	return machine_pause(t->machine, err);
}

static int cmd_resume(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	machine_resume(t->machine);
	return 0;
}

static int cmd_quit(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	t->quit = true;
	return 0;
}

static command_fn cmd_help;

static const struct tester_command commands[] = {
	{ "read", "SPACE ADDR LEN [COUNT]", "CLAIMED VALUE...: one access, or as many at one place", 3, 4, cmd_read },
	{ "write", "SPACE ADDR LEN VALUE...", "CLAIMED: one access for each value", 4, 3 + COUNT_MAX, cmd_write },
	{ "mem", "read GPA LEN | write GPA HEX", "[HEX]: guest memory, past the devices", 3, 3, cmd_mem },
	{ "clock", "get | step NS | jump NS", "NOW WALL, in ns; jump: of the time of day alone", 1, 2, cmd_clock },
	{ "irq", "[LINE]", "LINE=LEVEL/RAISED..., or LEVEL RAISED", 0, 1, cmd_irq },
	{ "msi", "", "COUNT ADDR=DATA...: the messages since the last time", 0, 0, cmd_msi },
	{ "serial", "PORT get | PORT put HEX", "HEX, or TAKEN: what a port sent, and what it is sent", 2, 3,
		cmd_serial },
	{ "map", "", "JSON: the regions of both spaces", 0, 0, cmd_map },
	{ "devices", "", "JSON: devices and their interrupts", 0, 0, cmd_devices },
	{ "pci", "", "JSON: PCI functions", 0, 0, cmd_pci },
	{ "windows", "", "JSON: where PCI's BARs may be", 0, 0, cmd_windows },
	{ "counters", "", "JSON: accesses of each region, and unclaimed ones", 0, 0, cmd_counters },
	{ "press", "power | sleep", "LISTENED: the user's button", 1, 1, cmd_press },
	{ "link", "NAME [up | down]", "UP: a network device's cable, pulled or plugged in", 1, 2, cmd_link },
	{ "key", "HEX", "TAKEN: a key's scan codes (set 2), as it is pressed or let go", 1, 1, cmd_key },
	{ "mouse", "DX DY BUTTONS", "TAKEN: movement in counts, right and up; buttons: 1 left, 2 right, 4 middle", 3, 3,
		cmd_mouse },
	{ "pause", "", "brings the machine's queues to rest", 0, 0, cmd_pause },
	{ "resume", "", "lets them go on", 0, 0, cmd_resume },
	{ "reset", "", "resets the machine in place", 0, 0, cmd_reset },
	{ "help", "[COMMAND]", "the commands, or what one takes and answers", 0, 1, cmd_help },
	{ "quit", "", "ends the program", 0, 0, cmd_quit },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct tester_command *find(const char *name, struct error *err)
{
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	error_set(err, -EINVAL, "unknown command '%.*s'; 'help' lists them", WORD_SHOWN, name);
	return NULL;
}

static int cmd_help(struct tester *t, unsigned argc, char **argv, struct error *err)
{
	const struct tester_command *command = argc > 1 ? find(argv[1], err) : NULL;

	if (argc > 1 && !command)
		return -EINVAL;
	if (command)
		add(t, " %s%s%s: %s", command->name, command->arguments[0] ? " " : "", command->arguments,
			command->summary);
	for (size_t i = 0; argc == 1 && i < NR_COMMANDS; i++)
		add(t, " %s", commands[i].name);
	return 0;
}

/* ---- lines ---- */

static void take_request(void *arg)
{
	struct tester *t = arg;
	struct run *run = &t->machine->vm.run;
	enum run_reason reason = run_take_request(run);

	if (reason == REASON_NONE)
		return;
	say(t, "event %s%s%s", run_reason_name(reason), run->why[0] ? ": " : "", run->why);
	/* The machine goes on: what comes of the request is the test's business. */
	run_resume(run);
}

static void requested(void *arg)
{
	struct tester *t = arg;

	loop_post(&t->machine->vm.loop, &t->requested);
}

/* In place, by blanks. Returns how many words; more than there is room for count as that many. */
static unsigned split(struct tester *t, char *line)
{
	unsigned n = 0;
	char *save, *word = strtok_r(line, " \t\r", &save);

	for (; word && n < TESTER_WORDS; word = strtok_r(NULL, " \t\r", &save))
		t->words[n++] = word;
	return n;
}

static int carry_out_words(struct tester *t, unsigned argc, struct error *err)
{
	const struct tester_command *command = find(t->words[0], err);

	if (!command)
		return -EINVAL;
	if (t->lost)
		return error_set(err, -EIO, "the machine could not be reset");
	if (argc - 1 < command->min || argc - 1 > command->max)
		return error_set(err, -EINVAL, "usage: %s%s%s", command->name, command->arguments[0] ? " " : "",
			command->arguments);
	return command->fn(t, argc, t->words, err);
}

void tester_line(struct tester *t, char *line, size_t length)
{
	struct error err = { 0 };
	unsigned argc;
	int r;

	line[length] = '\0';
	if (strlen(line) != length) {
		tester_refuse(t, "a NUL in the line");
		return;
	}
	argc = line[0] == '#' ? 0 : split(t, line);
	if (argc == 0)
		return;
	t->length = 0;
	t->cut = false;
	add(t, "ok");
	r = carry_out_words(t, argc, &err);
	add(t, "\n");
	take_request(t);
	if (r || t->cut)
		tester_refuse(t, r ? err.text : "no memory for the answer");
	else
		t->say(t->say_arg, t->text, t->length);
}

void tester_init(
	struct tester *t, struct machine *machine, void (*fn)(void *arg, const char *line, size_t length), void *arg)
{
	struct vm *vm = &machine->vm;

	*t = (struct tester){
		.machine = machine,
		.from = { .name = "device-test" },
		.say = fn,
		.say_arg = arg,
	};
	t->requested.fn = take_request;
	t->requested.arg = t;
	bus_attach(vm->bus, &t->from);
	irq_router_chip(&vm->irqs, &tester_chip, t);
	vm->run.requested_arg = t;
	vm->run.requested = requested;
	run_resume(&vm->run);
}

void tester_fini(struct tester *t)
{
	struct vm *vm = &t->machine->vm;

	vm->run.requested = NULL;
	run_park(&vm->run, RUN_PAUSED);
	loop_cancel(&vm->loop, &t->requested);
	irq_router_chip(&vm->irqs, NULL, NULL);
	bus_detach(&t->from);
	free(t->text);
}
