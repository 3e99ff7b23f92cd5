/* SPDX-License-Identifier: BSD-2-Clause */
/* postmortem.c - what a guest was doing when it ended; see postmortem.h. */
#include "machine/postmortem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/say.h"
#include "machine/machine.h"

/* Of the console: as much as says where a boot hangs. */
#define CONSOLE_BYTES 2048
#define CONSOLE_LINES 10
/* All of them are asked for; of many that do the same, the first tell enough. */
#define VCPUS 16

struct search {
	const struct vcpu_trap *trap;
	const char *name;
};

static void match(struct region *region, void *arg)
{
	struct search *search = arg;
	const struct device *dev = region->owner;

	if (dev && search->trap->addr - region->base < region->size)
		search->name = dev->name;
}

static void print_traps(struct machine *m, const struct vcpu *vcpu, FILE *out)
{
	uint64_t n = vcpu->nr_traps < VCPU_TRAPS ? vcpu->nr_traps : VCPU_TRAPS;

	fprintf(out, "  last traps of %" PRIu64 ", the latest last:%s\n", vcpu->nr_traps, n ? "" : " none");
	for (uint64_t i = vcpu->nr_traps - n; i < vcpu->nr_traps; i++) {
		const struct vcpu_trap *trap = &vcpu->traps[i % VCPU_TRAPS];
		struct search search = { .trap = trap, .name = "nobody" };

		bus_for_each(m->vm.bus, (enum space)trap->space, match, &search);
		fprintf(out, "    %s %s %#" PRIx64 " (%s), %u byte%s: %#" PRIx64, trap->write ? "write" : "read ",
			trap->space == SPACE_PIO ? "port" : "memory", trap->addr, search.name, trap->len,
			trap->len == 1 ? "" : "s", trap->value);
		if (trap->count > 1)
			fprintf(out, " and %u more", trap->count - 1);
		fprintf(out, "\n");
	}
}

/* Where a line begins that has at most CONSOLE_LINES - 1 after it. */
static size_t last_lines(const uint8_t *bytes, size_t n)
{
	unsigned lines = 0;
	size_t at = n && bytes[n - 1] == '\n' ? n - 1 : n;

	for (; at > 0; at--)
		if (bytes[at - 1] == '\n' && ++lines == CONSOLE_LINES)
			break;
	return at;
}

/* The guest chose these bytes, and the terminal that shows them may be another than its console. */
static void print_console(struct machine *m, FILE *out)
{
	uint8_t bytes[CONSOLE_BYTES];
	size_t n = chardev_last(m->vm.console, bytes, sizeof(bytes));
	bool begin = true;

	fprintf(out, "console: %s\n", n ? "its last lines" : "nothing");
	for (size_t i = last_lines(bytes, n); i < n; i++) {
		if (begin)
			fputs("  | ", out);
		begin = bytes[i] == '\n';
		if (begin || bytes[i] == '\t' || bytes[i] >= 0x80 || (bytes[i] >= 0x20 && bytes[i] < 0x7f))
			fputc(bytes[i], out);
		else if (bytes[i] != '\r')
			fputc('.', out);
	}
	if (!begin)
		fputc('\n', out);
}

void postmortem(struct machine *m)
{
	size_t size = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	/* No memory: the line that tells of the end is all there is. */
	if (!out)
		return;
	if (m->ended == REASON_BOOT_TIMEOUT && m->vm.console)
		print_console(m, out);
	for (unsigned i = 0; i < m->kvm.nr_vcpus; i++) {
		struct vcpu *vcpu = &m->kvm.vcpus[i];

		if (i < VCPUS || vcpu->failed)
			m->config.arch->kvm->describe(m->board, vcpu, vcpu->failed, out);
		if (vcpu->failed)
			print_traps(m, vcpu, out);
	}
	if (fclose(out) == 0)
		say_text(text, size, SAY_MS);
	free(text);
}
