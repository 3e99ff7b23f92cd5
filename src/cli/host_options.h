/* SPDX-License-Identifier: BSD-2-Clause */
/* host_options.h - options about what the host gives: what backs RAM, and which CPUs run the vCPUs. */
#ifndef TRAPLINE_CLI_HOST_OPTIONS_H
#define TRAPLINE_CLI_HOST_OPTIONS_H

#include "cli/options.h"
#include "machine/machine.h"

struct host_options {
	const char *mem_file, *hugetlbfs, *hugepages, *numa_node, *cpu_affinity;
	bool prefault;
	unsigned *cpus; /* what cpu_affinity came to */
};

/* Lines of a table of options. */
#define OPTIONS_HOST(h)                                                                                                \
	{ OPTION_GROUP, 0, "Host:", NULL, NULL, NULL },                                                                \
		{ OPTION_STRING, 0, "mem-file", "PATH", "a file that keeps RAM; made unless it is there",              \
			&(h)->mem_file },                                                                              \
		{ OPTION_STRING, 0, "hugetlbfs", "PATH", "RAM from this mount's huge pages", &(h)->hugetlbfs },        \
		{ OPTION_OPTIONAL, 0, "hugepages", "SIZE",                                                             \
			"RAM from the host's huge pages; SIZE: 2M, 1G; default: the host's", &(h)->hugepages },        \
		{ OPTION_FLAG, 0, "prefault", NULL, "give RAM its pages before the guest runs", &(h)->prefault },      \
		{ OPTION_ALIAS, 0, "vcpu-affinity", "cpu-affinity", NULL, NULL }, /* kvmtool's */                      \
		{ OPTION_STRING, 0, "numa-node", "N", "take RAM from this NUMA node", &(h)->numa_node },               \
	{                                                                                                              \
		OPTION_STRING, 0, "cpu-affinity", "LIST", "the host CPU of each vCPU: 0,1 or 0-3", &(h)->cpu_affinity  \
	}

/* Puts them into the machine's configuration. 0 or -errno with a line in `err`; host_options_free() then too. */
int host_options_apply(struct host_options *h, struct machine_config *m, struct error *err)
	__attribute__((warn_unused_result));
void host_options_free(struct host_options *h);

/*
 * "0,2-4" to 0, 2, 3, 4: host CPUs, one a vCPU, as many as there are vCPUs. 0, or -EINVAL with a line in `err`. `cpus`
 * has room for `n`. Whether the host has such CPUs is not looked at.
 */
int host_options_cpus(const char *list, unsigned *cpus, unsigned n, struct error *err)
	__attribute__((warn_unused_result));

#endif
