/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fwcfg.h - the firmware configuration device: by it a PC's firmware learns what the machine is made of, and
 * gets the ACPI tables.
 *
 * Items are bytes under a 16-bit key; files are items under keys from FWCFG_FILES on, named by a directory. The
 * interface is that of QEMU's docs/specs/fw_cfg, with its DMA: a selector (offset 0, 16 bits), a data register
 * (offset 1, 8 bits) that gives the selected item byte by byte, and the address of a DMA request (offset 4, 64 bits,
 * big-endian). No item can be written by the guest.
 */
#ifndef TRAPLINE_DEV_FWCFG_H
#define TRAPLINE_DEV_FWCFG_H

#include <stdint.h>

#include "core/device.h"

/* Fixed keys. */
enum {
	FWCFG_SIGNATURE = 0x0000,
	FWCFG_ID = 0x0001, /* features of the interface */
	FWCFG_RAM_SIZE = 0x0003,
	FWCFG_CPUS = 0x0005,
	FWCFG_BOOT_MENU = 0x000e,
	FWCFG_MAX_CPUS = 0x000f,
	FWCFG_DIRECTORY = 0x0019,
	FWCFG_FILES = 0x0020,
};

#define FWCFG_NAME_SIZE 56         /* of a file, with its NUL */
#define FWCFG_ITEMS     64         /* in all */
#define FWCFG_DMA_MAX   (1U << 24) /* bytes of one request; more is an error */

enum { FWCFG_DMA_ERROR = 1, FWCFG_DMA_READ = 2, FWCFG_DMA_SKIP = 4, FWCFG_DMA_SELECT = 8, FWCFG_DMA_WRITE = 16 };

/* No config. One region of 12 ports. */
extern const struct device_type fwcfg_type;

/*
 * Sets an item or a file, which replaces one of the same key or name; `bytes` are copied. While no vCPU runs. 0,
 * -ENOSPC (FWCFG_ITEMS), -ENAMETOOLONG or -ENOMEM.
 */
int fwcfg_set(struct device *dev, uint16_t key, const void *bytes, uint32_t len) __attribute__((warn_unused_result));
int fwcfg_file(struct device *dev, const char *name, const void *bytes, uint32_t len)
	__attribute__((warn_unused_result));

#endif
