/* SPDX-License-Identifier: BSD-2-Clause */
/* host_options.c - their values checked, as far as no machine is needed for that. */
#include "cli/host_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CPU_LIMIT 8192 /* Linux's own for x86 */

/* A number at *at, which moves behind it. False: there is none, or it is beyond all CPUs and nodes. */
static bool number(const char **at, unsigned *value)
{
	unsigned n = 0;

	if (!isdigit((unsigned char)**at))
		return false;
	for (; isdigit((unsigned char)**at); (*at)++) {
		n = n * 10 + (unsigned)(**at - '0');
		if (n >= CPU_LIMIT)
			return false;
	}
	*value = n;
	return true;
}

int host_options_cpus(const char *list, unsigned *cpus, unsigned n, struct error *err)
{
	const char *at = list;
	unsigned found = 0;

	do {
		unsigned first, last;
		bool good = number(&at, &first);

		last = first;
		if (good && *at == '-') {
			at++;
			good = number(&at, &last) && last >= first;
		}
		if (!good || (*at && *at != ','))
			return error_set(
				err, -EINVAL, "--cpu-affinity '%s': not a list of CPUs such as 0,1 or 0-3", list);
		for (unsigned cpu = first; cpu <= last; cpu++, found++) {
			if (found < n)
				cpus[found] = cpu;
		}
	} while (*at++ == ',');
	if (found != n)
		return error_set(err, -EINVAL, "--cpu-affinity '%s': names %u host CPU%s for %u vCPU%s", list, found,
			found == 1 ? "" : "s", n, n == 1 ? "" : "s");
	return 0;
}

static int apply_cpus(struct host_options *h, struct machine_config *m, struct error *err)
{
	unsigned n = m->guest.cpus;
	int r;

	h->cpus = calloc(n ? n : 1, sizeof(*h->cpus));
	if (!h->cpus)
		return error_set(err, -ENOMEM, "no memory for --cpu-affinity");
	r = host_options_cpus(h->cpu_affinity, h->cpus, n, err);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", h->cpus[i]);
		if (access(path, F_OK))
			r = error_set(err, -EINVAL, "--cpu-affinity '%s': this host has no CPU %u", h->cpu_affinity,
				h->cpus[i]);
	}
	if (r)
		err->status = STATUS_USAGE;
	m->host_cpus = h->cpus;
	return r;
}

static int apply_huge(const struct host_options *h, struct backing_config *b, struct error *err)
{
	uint64_t size;

	b->huge = true;
	/* No size: the host's default. */
	if (!*h->hugepages)
		return 0;
	if (options_size(h->hugepages, &size, err))
		return error_prefix(err, -EINVAL, "--hugepages");
	if (!size || (size & (size - 1)))
		return error_set(err, -EINVAL, "--hugepages: '%s' is not a power of two", h->hugepages);
	b->huge_page = size;
	return 0;
}

int host_options_apply(struct host_options *h, struct machine_config *m, struct error *err)
{
	struct backing_config *b = &m->backing;
	const char *at = h->numa_node;
	int r = 0;

	b->file = h->mem_file;
	b->hugetlbfs = h->hugetlbfs;
	b->prefault = h->prefault;
	b->bind = at;
	if (at && (!number(&at, &b->node) || *at))
		r = error_set(err, -EINVAL, "--numa-node: '%s' is not a node's number", h->numa_node);
	if (r == 0 && h->hugepages)
		r = apply_huge(h, b, err);
	if (r)
		err->status = STATUS_USAGE;
	if (r == 0 && h->cpu_affinity)
		r = apply_cpus(h, m, err);
	return r;
}

void host_options_free(struct host_options *h)
{
	free(h->cpus);
	h->cpus = NULL;
}
