/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arm64_bed.h - the real arm64 machine, built without KVM, for its unit tests; its device tree, and what is read there.
 */
#ifndef TRAPLINE_TESTS_UNIT_ARM64_BED_H
#define TRAPLINE_TESTS_UNIT_ARM64_BED_H

#include "unit.h"

#include <libfdt.h>
#include <stdlib.h>

#include "arch/arm64/board.h"

#define MIB (1ULL << 20)

struct bed {
	struct vm vm;
	struct board *board;
	uint8_t tree[LAYOUT_DT_SIZE];
};

static inline struct bed *bed_new(const struct guest_config *config)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct error err = { 0 };

	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	if (arch_arm64.check(config, &err) || arch_arm64.create(&bed->vm, config, &bed->board, &err) ||
		arch_arm64.build(bed->board, &err))
		fail_msg("%s", err.text);
	list_for_each (pos, &bed->vm.devices)
		device_power_on(container_of(pos, struct device, node));
	return bed;
}

static inline void bed_free(struct bed *bed)
{
	vm_remove_devices(&bed->vm);
	arch_arm64.destroy(bed->board);
	vm_fini(&bed->vm);
	free(bed);
}

static inline const void *take_tree(struct bed *bed, enum gic gic)
{
	struct error err = { 0 };

	bed->board->gic = gic;
	assert_int_equal(arm64_boot_place(&bed->board->boot, bed->board->config.ram, &bed->board->places, &err), 0);
	if (arm64_describe(bed->board, &err))
		fail_msg("%s", err.text);
	assert_int_equal(mem_read(&bed->vm.mem, bed->board->places.tree, bed->tree, sizeof(bed->tree)), 0);
	assert_int_equal(fdt_check_full(bed->tree, sizeof(bed->tree)), 0);
	return bed->tree;
}

static inline struct guest_config plain(unsigned cpus, uint64_t ram)
{
	return (struct guest_config){ .kernel = "none", .ram = ram, .cpus = cpus };
}

static inline uint64_t cells(const fdt32_t *at)
{
	return (uint64_t)fdt32_to_cpu(at[0]) << 32 | fdt32_to_cpu(at[1]);
}

static inline const fdt32_t *property(const void *tree, int node, const char *name, int len)
{
	int got;
	const fdt32_t *at = fdt_getprop(tree, node, name, &got);

	if (!at || got != len)
		fail_msg("property %s: %d bytes, not %d", name, got, len);
	return at;
}

#endif
