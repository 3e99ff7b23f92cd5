/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * firmware.c - firmware instead of a kernel: a flat image in RAM, at its begin unless the user says where, entered at
 * its first byte as a kernel is, with the device tree's address in x0. It is loaded again at each reset.
 */
#include <errno.h>

#include "arch/arm64/board.h"

int arm64_firmware_open(struct board *board, struct error *err)
{
	int r = image_open(&board->boot.firmware, "firmware", board->config.firmware, err);
	if (r)
		err->status = STATUS_IMAGE;
	return r;
}

/* Where it would have room; there is RAM behind the device tree as well, where there is more than a gigabyte. */
static void say_where(const struct board *board, uint64_t size, struct error *err)
{
	const uint64_t tree = board->places.tree, behind = tree + LAYOUT_DT_SIZE;

	if (size <= tree - LAYOUT_RAM)
		error_hint(err, "--firmware-address has room for it from 0x%llx to 0x%llx", LAYOUT_RAM,
			(unsigned long long)((tree - size) & ~0xfffULL));
	else if (size <= LAYOUT_RAM + board->config.ram - behind)
		error_hint(err, "--firmware-address 0x%llx has room for it", (unsigned long long)behind);
	else
		error_hint(err, "-m gives the guest more RAM");
}

int arm64_firmware_load(struct board *board, struct error *err)
{
	const struct image *image = &board->boot.firmware;
	const uint64_t tree = board->places.tree, end = LAYOUT_RAM + board->config.ram;
	uint64_t at;
	int r = arm64_firmware_address(&board->config, &at, err);

	if (r)
		return r;
	if (image->size > end - at)
		r = image_error(image, err, -ENOSPC,
			"too large for the guest's RAM: it needs 0x%llx-0x%llx, and RAM ends at 0x%llx",
			(unsigned long long)at, (unsigned long long)(at + image->size - 1),
			(unsigned long long)(end - 1));
	else if (at < tree + LAYOUT_DT_SIZE && at + image->size > tree)
		r = image_error(image, err, -ENOSPC,
			"in the device tree's place: it needs 0x%llx-0x%llx, and the tree has 0x%llx-0x%llx",
			(unsigned long long)at, (unsigned long long)(at + image->size - 1), (unsigned long long)tree,
			(unsigned long long)(tree + LAYOUT_DT_SIZE - 1));
	if (r) {
		say_where(board, image->size, err);
		return r;
	}
	board->places.kernel = at;
	return image_load(image, 0, image->size, &board->vm->mem, at, err);
}
