/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * firmware.c - firmware instead of a kernel: a flat image in RAM, at its begin unless the user says where, entered at its first
 * byte as a kernel is, with the device tree's address in x0. It is loaded again at each reset.
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

int arm64_firmware_load(struct board *board, struct error *err)
{
	const struct image *image = &board->boot.firmware;
	const uint64_t tree = board->places.tree;
	uint64_t at;
	int r = arm64_firmware_address(&board->config, &at, err);

	if (r)
		return r;
	/* Behind the device tree there is RAM as well, where there is more than a gigabyte. */
	if (at + image->size > LAYOUT_RAM + board->config.ram ||
		(at < tree + LAYOUT_DT_SIZE && at + image->size > tree))
		return image_error(image, err, -ENOSPC,
			"too large for the guest's RAM: it needs %#llx-%#llx, and the device tree lies at %#llx",
			(unsigned long long)at, (unsigned long long)(at + image->size - 1), (unsigned long long)tree);
	board->places.kernel = at;
	return image_load(image, 0, image->size, &board->vm->mem, at, err);
}
